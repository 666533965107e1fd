//! `modules.metaManager.metaServer` -> the settings of MetaServer.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use api::config::edgecore::{EdgeCoreConfig, MetaServer, MetaServerFilters};
use message::NodeName;
use metaserver::serving::Files;
use metaserver::{Bounds, Filter, Filters, Hub, Queued, QueuedWrites, Settings};

use super::Checker;

const KEY: &str = "modules.metaManager.metaServer";

/// `None`: it is off. `node_api` is the socket of the Node API.
pub(super) fn settings(
    config: &EdgeCoreConfig,
    node: &NodeName,
    node_api: Option<PathBuf>,
    checker: &mut Checker,
) -> Option<Settings> {
    let (module, hub) = (&config.modules.meta_manager.meta_server, &config.modules.edge_hub);
    if !module.enable {
        return None;
    }
    let server = address("server", &module.server, checker);
    let dummy = match module.dummy_server.as_str() {
        "" => None,
        text => address("dummyServer", text, checker),
    };
    let pair = (&module.tls_cert_file, &module.tls_private_key_file);
    let given = match (pair.0.as_str(), pair.1.as_str()) {
        ("", "") => None,
        // KubeEdge writes the certificate that the node shows to the cloud here: it is none of a server.
        (certificate, _) if certificate == hub.tls_cert_file => None,
        ("", _) | (_, "") => {
            let text = "and tlsPrivateKeyFile belong together: name both, or none of them";
            checker.problem(&format!("{KEY}.tlsCertFile"), text);
            None
        }
        (certificate, key) => Some((PathBuf::from(certificate), PathBuf::from(key))),
    };
    let folder = Path::new(&config.database.data_source).parent().unwrap_or(Path::new("/"));
    let given_ca = (!module.tls_ca_file.is_empty()).then(|| PathBuf::from(&module.tls_ca_file));
    let issuers = module.service_account_issuers.clone();
    let audiences = match module.api_audiences.as_slice() {
        [] => issuers.clone(),
        given => given.to_vec(),
    };
    if !module.service_account_key_files.is_empty() && issuers.is_empty() {
        let text = "is empty: no token of serviceAccountKeyFiles would be taken";
        checker.problem(&format!("{KEY}.serviceAccountIssuers"), text);
    }
    Some(Settings {
        node: node.as_str().to_owned(),
        server: server?,
        dummy: dummy.filter(|dummy| Some(*dummy) != server),
        database: folder.join("metaserver.db"),
        files: Files {
            folder: folder.join("metaserver"),
            given_ca: given_ca.filter(|_| given.is_some()),
            given,
            client_ca: PathBuf::from(&hub.tls_ca_file),
            node: (PathBuf::from(&hub.tls_cert_file), PathBuf::from(&hub.tls_private_key_file)),
        },
        issuers,
        audiences,
        key_files: module.service_account_key_files.iter().map(PathBuf::from).collect(),
        node_api,
        bounds: if module.hub.enable { hub_bounds() } else { Bounds::default() },
        queued_writes: queued(module, checker),
        hub: module.hub.enable.then(|| Hub { plain: plain(&module.hub.plain_server, checker) }),
        filters: filters(&module.filters, checker),
        watch_services: module.watch_services,
    })
}

/// A kubelet watches each config map and secret of its pods by its name.
fn hub_bounds() -> Bounds {
    Bounds { views: 1000, lists: 2000, ..Bounds::default() }
}

fn queued(module: &MetaServer, checker: &mut Checker) -> QueuedWrites {
    if module.hub.enable && module.queued_writes.is_empty() {
        return QueuedWrites::of_the_node();
    }
    let mut queued = QueuedWrites::default();
    for name in &module.queued_writes {
        if !queued.declare(name) {
            let all = Queued::ALL.map(Queued::name).join(", ");
            let text = format!(
                "{name:?} cannot wait; these can: {all}, and resources such as configmaps, deployments.apps or \
                 valves.example.com/status, but for those by which rights, tokens or certificates are had"
            );
            checker.problem(&format!("{KEY}.queuedWrites"), text);
        }
    }
    queued
}

/// Whoever reaches it is the node.
fn plain(text: &str, checker: &mut Checker) -> Option<SocketAddr> {
    if text.is_empty() {
        return None;
    }
    let address = address("hub.plainServer", text, checker)?;
    if !address.ip().is_loopback() {
        let why = format!("{text:?} is not of this machine alone: write 127.0.0.1:10261");
        checker.problem(&format!("{KEY}.hub.plainServer"), why);
    }
    Some(address)
}

fn filters(given: &MetaServerFilters, checker: &mut Checker) -> Filters {
    let mut named = |key: &str, name: &str| {
        let filter = Filter::named(name);
        if filter.is_none() {
            let all = Filter::ALL.map(Filter::name).join(", ");
            checker
                .problem(&format!("{KEY}.filters.{key}"), format!("{name:?} is no filter; there are {all}"));
        }
        filter
    };
    let off = given.disabled.iter().filter_map(|name| named("disabled", name)).collect();
    let more = given.components.iter();
    let more = more.filter_map(|(name, all)| Some((named("components", name)?, all.clone()))).collect();
    Filters { off, more }
}

fn address(name: &str, text: &str, checker: &mut Checker) -> Option<SocketAddr> {
    let parsed = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    if parsed.is_none() {
        checker.problem(&format!("{KEY}.{name}"), format!("{text:?} is not address:port"));
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &EdgeCoreConfig) -> (Option<Settings>, Vec<String>) {
        let mut checker = Checker { problems: Vec::new() };
        let node = NodeName::new("edge-1").unwrap();
        let settings = settings(config, &node, None, &mut checker);
        (settings, checker.problems)
    }

    #[test]
    fn it_is_off_unless_asked_for_and_then_makes_its_own_certificate() {
        let mut config = EdgeCoreConfig::default();
        assert!(check(&config).0.is_none());
        let module = &mut config.modules.meta_manager.meta_server;
        module.enable = true;
        // As KubeEdge writes them.
        module.tls_cert_file = "/etc/kubeedge/certs/server.crt".into();
        module.tls_private_key_file = "/etc/kubeedge/certs/server.key".into();
        module.tls_ca_file = "/etc/kubeedge/ca/rootCA.crt".into();
        let (settings, problems) = check(&config);
        let settings = settings.unwrap();
        assert_eq!(problems, Vec::<String>::new());
        assert!(settings.files.given.is_none() && settings.files.given_ca.is_none());
        assert_eq!(settings.server.to_string(), "127.0.0.1:10550");
        assert_eq!(settings.dummy.unwrap().to_string(), "169.254.30.10:10550");
        assert_eq!(settings.audiences, settings.issuers);
        assert_eq!(settings.database, Path::new("/var/lib/kubeedge/metaserver.db"));
    }

    #[test]
    fn filters_are_turned_off_and_given_to_components_by_name() {
        let mut config = EdgeCoreConfig::default();
        let module = &mut config.modules.meta_manager.meta_server;
        module.enable = true;
        module.filters.disabled = vec!["servicetopology".into()];
        module.filters.components.insert("masterservice".into(), vec!["k3s".into()]);
        let filters = check(&config).0.unwrap().filters;
        assert!(filters.off.contains(&Filter::ServiceTopology));
        assert_eq!(filters.more[&Filter::MasterService], ["k3s"]);
        let module = &mut config.modules.meta_manager.meta_server;
        module.filters.disabled.push("all".into());
        module.filters.components.insert("x".into(), vec![]);
        let problems = check(&config).1;
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("masterservice"), "{problems:?}");
    }

    #[test]
    fn a_hub_runs_no_pods_and_takes_what_a_kubelet_writes() {
        let mut config = EdgeCoreConfig::default();
        config.modules.edged.hostname_override = "edge-1".into();
        config.modules.meta_manager.meta_server.hub.enable = true;
        crate::hub_form(&mut config);
        let settings = crate::Settings::check(&config, Path::new("x")).unwrap();
        assert!(settings.edged.is_none());
        assert_eq!(settings.monitor.unwrap().port(), 10267);
        let server = settings.meta_server.unwrap();
        assert_eq!((server.queued_writes.kinds.len(), server.hub), (4, Some(Hub { plain: None })));
        let module = &mut config.modules.meta_manager.meta_server;
        module.queued_writes = vec!["leases".into()];
        module.hub.plain_server = "127.0.0.1:10261".into();
        let server = check(&config).0.unwrap();
        assert_eq!((server.queued_writes.kinds.len(), server.hub.unwrap().plain.unwrap().port()), (1, 10261));
        let module = &mut config.modules.meta_manager.meta_server;
        module.queued_writes.push("secrets".into());
        module.hub.plain_server = "0.0.0.0:10261".into();
        assert_eq!(check(&config).1.len(), 2);
    }

    #[test]
    fn what_cannot_be_is_refused_and_named() {
        let mut config = EdgeCoreConfig::default();
        let module = &mut config.modules.meta_manager.meta_server;
        module.enable = true;
        module.server = "localhost".into();
        module.dummy_server = "169.254.30.10".into();
        module.tls_cert_file = "/x".into();
        module.service_account_issuers.clear();
        module.service_account_key_files.push("/k".into());
        let problems = check(&config).1;
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems.iter().all(|problem| problem.starts_with(KEY)), "{problems:?}");
        let module = &mut config.modules.meta_manager.meta_server;
        *module = Default::default();
        module.enable = true;
        module.dummy_server = String::new();
        module.tls_cert_file = "/x".into();
        module.tls_private_key_file = "/y".into();
        module.api_audiences.push("a".into());
        let (settings, problems) = check(&config);
        let settings = settings.unwrap();
        assert_eq!((problems, settings.dummy), (Vec::new(), None));
        assert_eq!(settings.files.given, Some(("/x".into(), "/y".into())));
        assert_eq!(settings.audiences, ["a"]);
    }
}
