//! Where the Node API is served.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use api::config::edgecore::Edged;

use super::Checker;
use nodeapi::{Allowed, Settings, Source, TlsPort};

/// KubeEdge's port without authentication.
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 10350);

/// Groups that would be taken for users.
const KNOWN_GROUPS: [&str; 3] = ["system:masters", "kubeadm:cluster-admins", "system:nodes"];

pub(super) fn settings(config: &Edged, database: &str, checker: &mut Checker) -> Settings {
    let kubelet = &config.tailored_kubelet_config;
    let api = &config.node_api;
    let key = "modules.edged.tailoredKubeletConfig.streamingConnectionIdleTimeout";
    Settings {
        socket: socket(config, database),
        tls: tls(config, checker),
        loopback: api.unauthenticated_loopback.then_some(LOOPBACK),
        streaming_idle: checker.duration(key, &kubelet.streaming_connection_idle_timeout),
        // Known once all other ports are.
        forwarded: Default::default(),
    }
}

/// Where it is served in every form.
pub(super) fn socket(config: &Edged, database: &str) -> PathBuf {
    match config.node_api.socket.as_str() {
        "" => Path::new(database).parent().unwrap_or(Path::new("/")).join("edged.sock"),
        path => PathBuf::from(path),
    }
}

/// Open when all three files are named, none of them without the others; or when the node asks for its certificate. Files that
/// are named win.
fn tls(config: &Edged, checker: &mut Checker) -> Option<TlsPort> {
    let kubelet = &config.tailored_kubelet_config;
    let key = |name: &str| format!("modules.edged.tailoredKubeletConfig.{name}");
    let files = [
        ("tlsCertFile", &kubelet.tls_cert_file),
        ("tlsPrivateKeyFile", &kubelet.tls_private_key_file),
        ("authentication.x509.clientCAFile", &kubelet.authentication.x509.client_ca_file),
    ];
    let is_asked = kubelet.server_tls_bootstrap && files[..2].iter().all(|(_, path)| path.is_empty());
    if !is_asked && files.iter().all(|(_, path)| path.is_empty()) {
        return None;
    }
    for (name, _) in files.iter().filter(|(_, path)| path.is_empty() && !is_asked) {
        let text =
            "is missing: the Node API's TLS port needs a certificate, its key and the CA of its clients";
        checker.problem(&key(name), text);
    }
    let (clients, groups) = (&config.node_api.allowed_clients, &config.node_api.allowed_groups);
    if clients.is_empty() && groups.is_empty() {
        let text = "and allowedGroups are empty: the TLS port would serve nobody";
        checker.problem("modules.edged.nodeAPI.allowedClients", text);
    }
    for group in clients.iter().filter(|name| KNOWN_GROUPS.contains(&name.as_str())) {
        let text = format!("{group:?} is a group: write it into modules.edged.nodeAPI.allowedGroups");
        checker.problem("modules.edged.nodeAPI.allowedClients", text);
    }
    let ip = checker.address(&key("address"), &kubelet.address)?;
    let own = |name: &str| Path::new(&config.root_directory).join("pki").join(name);
    let (certificate, key, source) = match is_asked {
        true => (own("kubelet-server.crt"), own("kubelet-server.key"), Source::Asked),
        false => (
            PathBuf::from(&kubelet.tls_cert_file),
            PathBuf::from(&kubelet.tls_private_key_file),
            Source::Files,
        ),
    };
    let client_ca = &kubelet.authentication.x509.client_ca_file;
    Some(TlsPort {
        address: SocketAddr::new(ip, kubelet.port),
        certificate,
        key,
        source,
        client_ca: (!client_ca.is_empty()).then(|| PathBuf::from(client_ca)),
        allowed: Allowed { clients: clients.clone(), groups: groups.clone() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &Edged) -> (Settings, Vec<String>) {
        let mut checker = Checker { problems: Vec::new() };
        (settings(config, "/var/lib/kubeedge/edgecore.db", &mut checker), checker.problems)
    }

    #[test]
    fn only_the_socket_is_open_unless_more_is_asked_for() {
        let (settings, problems) = check(&Edged::default());
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(settings.socket, Path::new("/var/lib/kubeedge/edged.sock"));
        assert!(settings.tls.is_none() && settings.loopback.is_none());
        assert_eq!(settings.streaming_idle.as_secs(), 4 * 3600);
    }

    #[test]
    fn the_tls_port_needs_all_its_files() {
        let mut config = Edged::default();
        config.tailored_kubelet_config.tls_cert_file = "/c".into();
        config.node_api.unauthenticated_loopback = true;
        let (settings, problems) = check(&config);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert_eq!(settings.loopback.map(|address| address.to_string()).as_deref(), Some("127.0.0.1:10350"));
        config.tailored_kubelet_config.tls_private_key_file = "/k".into();
        config.tailored_kubelet_config.authentication.x509.client_ca_file = "/ca".into();
        let (settings, problems) = check(&config);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(settings.tls.unwrap().address.to_string(), "0.0.0.0:10250");
        let bootstrap = |config: &mut Edged| config.tailored_kubelet_config.server_tls_bootstrap = true;
        bootstrap(&mut config);
        assert_eq!(check(&config).0.tls.unwrap().source, Source::Files, "named files win");
        let mut asking = Edged::default();
        bootstrap(&mut asking);
        let (settings, problems) = check(&asking);
        assert_eq!(problems, Vec::<String>::new());
        let port = settings.tls.unwrap();
        assert_eq!((port.source, port.client_ca), (Source::Asked, None));
        assert_eq!(port.key, Path::new("/var/lib/kubelet/pki/kubelet-server.key"));
        config.node_api.allowed_clients.push("system:masters".into());
        assert!(check(&config).1[0].contains("allowedGroups"), "a group among the users");
    }
}
