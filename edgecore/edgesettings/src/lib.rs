//! `edgecore.yaml` -> checked settings. All problems are gathered before failing; nothing is bound here.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait for nobody else"))]

mod bus;
mod file;
mod hub_kubelet;
mod kubelet;
mod meta_server;
mod node_api;
mod ports;
mod runtime;
mod secrets;
mod switches;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::config::edgecore::EdgeCoreConfig;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use message::NodeName;

use devices::{devicetwin, eventbus};
pub use file::{example, load};

use edgehub::{self, CertificateFiles, Enrollment, Secret};

/// Everything the program needs, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    pub database: PathBuf,
    /// The key that seals secrets in it; `None`: they are stored in plain text.
    pub secrets_key: Option<PathBuf>,
    /// Where probes and Prometheus are answered beside the Node API; `None`: nowhere.
    pub monitor: Option<SocketAddr>,
    pub hub: edgehub::Settings,
    /// `None`: the module is off.
    pub edged: Option<nodebase::Settings>,
    /// The Node API of a hub; `None`: it is edged's, or nobody's.
    pub kubelet: Option<kubeletproxy::Settings>,
    /// `None`: the module is off.
    pub streams: Option<edgestream::Settings>,
    /// `None`: the modules are off.
    pub devices: Option<DeviceSettings>,
    /// `None`: the module is off.
    pub meta_server: Option<metaserver::Settings>,
}

/// The device rooms.
#[derive(Clone, Debug)]
pub struct DeviceSettings {
    pub bus: eventbus::Settings,
    pub twin: devicetwin::Settings,
}

#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct BadSettings(pub Vec<String>);

/// Collects problems while values are read.
struct Checker {
    problems: Vec<String>,
}

impl Checker {
    fn problem(&mut self, key: &str, text: impl std::fmt::Display) {
        self.problems.push(format!("{key}: {text}"));
    }

    /// An address that may be absent.
    fn address(&mut self, key: &str, text: &str) -> Option<std::net::IpAddr> {
        if text.is_empty() {
            return None;
        }
        let parsed = text.parse();
        if parsed.is_err() {
            self.problem(key, format!("{text:?} is not an IP address"));
        }
        parsed.ok()
    }

    /// None, one address, or one of each family, separated by a comma (the kubelet's `--node-ip`).
    fn addresses(&mut self, key: &str, text: &str) -> Vec<std::net::IpAddr> {
        if text.is_empty() {
            return Vec::new();
        }
        let parsed: Result<Vec<std::net::IpAddr>, _> = text.split(',').map(|ip| ip.trim().parse()).collect();
        match parsed.as_deref() {
            Err(_) => self.problem(key, format!("{text:?} is not an IP address, or one of each family")),
            Ok([_]) => {}
            Ok([one, other]) if one.is_ipv4() != other.is_ipv4() => {}
            Ok(_) => self.problem(key, format!("{text:?}: at most one address of each family")),
        }
        parsed.unwrap_or_default()
    }

    /// A duration as Go writes it.
    fn duration(&mut self, key: &str, text: &str) -> Duration {
        match go_duration(text) {
            Some(duration) if !duration.is_zero() => duration,
            _ => {
                self.problem(key, format!("{text:?} is not a duration such as 10s or 1m30s"));
                Duration::from_secs(1)
            }
        }
    }

    /// The same, where zero turns something off.
    fn duration_or_off(&mut self, key: &str, text: &str) -> Duration {
        match text {
            "0" | "0s" => Duration::ZERO,
            text => self.duration(key, text),
        }
    }

    /// Bytes or another amount as Kubernetes writes it.
    fn amount(&mut self, key: &str, name: &str, text: &str) -> Option<i64> {
        let quantity = Quantity(text.to_owned());
        let amount = podmodel::demand::amount(name, &quantity).filter(|amount| *amount >= 0);
        if amount.is_none() {
            self.problem(key, format!("{text:?} is not an amount such as 100Mi or 250m"));
        }
        amount
    }
}

impl Settings {
    /// `config_file` is where a used join token is blanked.
    pub fn check(config: &EdgeCoreConfig, config_file: &Path) -> Result<Settings, BadSettings> {
        let mut checker = Checker { problems: Vec::new() };
        let host_name = || rustix::system::uname().nodename().to_string_lossy().to_lowercase();
        let name = match config.modules.edged.hostname_override.as_str() {
            "" => host_name(),
            name => name.to_owned(),
        };
        let node = NodeName::new(&name).map_err(|error| {
            checker.problem("modules.edged.hostnameOverride", &error);
            BadSettings(checker.problems.clone())
        })?;
        let mut hub = hub(config, &node, config_file, &mut checker);
        let mut edged = config.modules.edged.enable.then(|| {
            let mut settings = kubelet::edged(&config.modules.edged, &node, &mut checker);
            let api = node_api::settings(&config.modules.edged, &config.database.data_source, &mut checker);
            settings.kubelet_port =
                api.tls.as_ref().map_or(settings.kubelet_port, |port| port.address.port());
            hub.node_api = Some(api.socket.clone());
            settings.server = Some(api);
            settings
        });
        let kubelet = hub_kubelet::settings(config, &mut checker);
        if let Some(kubelet) = &kubelet {
            hub.node_api = Some(kubelet.socket.clone());
        }
        let streams = edge_stream(config, &node, hub.node_api.as_deref(), &mut checker);
        let devices = config.modules.device_twin.enable.then(|| DeviceSettings {
            bus: bus::settings(&config.modules.event_bus, &node, &mut checker),
            twin: devicetwin::Settings {
                node: node.clone(),
                dmi_socket: dmi_socket(&config.modules.device_twin.dmi_sock_path),
                accept_any_reporter: config.modules.device_twin.accept_any_reporter,
            },
        });
        let meta_server = meta_server::settings(config, &node, hub.node_api.clone(), &mut checker);
        switches::check(config, &mut checker);
        let secrets_key = secrets::key(&config.database.secrets_key_file, &mut checker);
        let monitor = monitor(&config.common_config.monitor_server.bind_address, &mut checker);
        if let Some(api) = edged.as_mut().and_then(|edged| edged.server.as_mut()) {
            let own = own_ports(api, monitor, devices.as_ref(), meta_server.as_ref());
            let entries = &config.modules.edged.node_api.forwarded_ports;
            api.forwarded = ports::forwarded(entries, own, &mut checker);
        }
        if !checker.problems.is_empty() {
            return Err(BadSettings(checker.problems));
        }
        let database = PathBuf::from(&config.database.data_source);
        Ok(Settings { database, secrets_key, monitor, hub, edged, kubelet, streams, devices, meta_server })
    }
}

/// Makes a hub of EdgeCore, if the configuration wants one: no pods of its own, MetaServer, and YurtHub's port for probes.
pub(crate) fn hub_form(config: &mut EdgeCoreConfig) {
    if !config.modules.meta_manager.meta_server.hub.enable {
        return;
    }
    config.modules.edged.enable = false;
    config.modules.meta_manager.meta_server.enable = true;
    let monitor = &mut config.common_config.monitor_server.bind_address;
    if monitor.is_empty() {
        HUB_MONITOR.clone_into(monitor);
    }
}

/// Where YurtHub answers probes.
const HUB_MONITOR: &str = "127.0.0.1:10267";

/// Where this program listens for TCP.
fn own_ports(
    api: &nodeapi::Settings,
    monitor: Option<SocketAddr>,
    devices: Option<&DeviceSettings>,
    meta_server: Option<&metaserver::Settings>,
) -> ports::Own {
    let tls = api.tls.as_ref().map(|port| port.address);
    let broker = devices.and_then(|devices| devices.bus.internal);
    let ports = |addresses: &[Option<SocketAddr>]| addresses.iter().flatten().map(SocketAddr::port).collect();
    let server = meta_server.map(|settings| settings.server);
    let dummy = meta_server.and_then(|settings| settings.dummy);
    let plain = meta_server.and_then(|settings| settings.hub?.plain);
    let others = ports(&[monitor, broker, server, dummy, plain]);
    ports::Own { node_api: ports(&[tls, api.loopback]), others }
}

/// Whoever reaches the port is answered, so it is for programs of this machine.
fn monitor(text: &str, checker: &mut Checker) -> Option<SocketAddr> {
    let key = "commonConfig.monitorServer.bindAddress";
    match text.parse::<SocketAddr>() {
        _ if text.is_empty() => None,
        Ok(address) if address.ip().is_loopback() => Some(address),
        Ok(_) => {
            let why = "is not of this machine alone: write 127.0.0.1:PORT or [::1]:PORT; from elsewhere the Node API's \
                       TLS port answers /healthz and /metrics";
            checker.problem(key, format!("{text:?} {why}"));
            None
        }
        Err(_) => {
            checker.problem(key, format!("{text:?} is not address:port"));
            None
        }
    }
}

/// `node_api` is the socket of the Node API.
fn edge_stream(
    config: &EdgeCoreConfig,
    node: &NodeName,
    node_api: Option<&Path>,
    checker: &mut Checker,
) -> Option<edgestream::Settings> {
    let module = &config.modules.edge_stream;
    if !module.enable {
        return None;
    }
    let Some(node_api) = node_api else {
        checker.problem(
            "modules.edgeStream.enable",
            "there is nothing to reach without modules.edged, or the kubelet of a hub",
        );
        return None;
    };
    let port =
        module.server.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    if port.is_none_or(|(host, port)| host.is_empty() || port == 0) {
        checker.problem("modules.edgeStream.server", format!("{:?} is not host:port", module.server));
    }
    if module.handshake_timeout == 0 {
        checker.problem("modules.edgeStream.handshakeTimeout", "must be greater than 0");
    }
    let address = config.modules.edged.node_ip.split(',').next().unwrap_or_default();
    Some(edgestream::Settings {
        node: node.clone(),
        address: address.trim().to_owned(),
        server: module.server.clone(),
        ca: PathBuf::from(&module.tls_tunnel_ca_file),
        certificate: PathBuf::from(&module.tls_tunnel_cert_file),
        key: PathBuf::from(&module.tls_tunnel_private_key_file),
        timeout: Duration::from_secs(module.handshake_timeout.into()),
        node_api: node_api.to_owned(),
    })
}

fn hub(
    config: &EdgeCoreConfig,
    node: &NodeName,
    config_file: &Path,
    checker: &mut Checker,
) -> edgehub::Settings {
    let hub = &config.modules.edge_hub;
    for (key, value) in [
        ("heartbeat", hub.heartbeat),
        ("websocket.handshakeTimeout", hub.websocket.handshake_timeout),
        ("caRefreshSeconds", hub.ca_refresh_seconds),
    ] {
        if value == 0 {
            checker.problem(&format!("modules.edgeHub.{key}"), "must be greater than 0");
        }
    }
    let servers = servers(hub, checker);
    if !hub.http_server.starts_with("https://") {
        checker.problem("modules.edgeHub.httpServer", format!("{:?} is not an https URL", hub.http_server));
    }
    edgehub::Settings {
        node: node.clone(),
        project_id: hub.project_id.clone(),
        servers: servers.clone(),
        handshake_timeout: Duration::from_secs(hub.websocket.handshake_timeout.into()),
        heartbeat: Duration::from_secs(hub.heartbeat.max(1).into()),
        enrollment: Enrollment {
            server: hub.http_server.clone(),
            way: servers.way.clone(),
            files: CertificateFiles {
                ca: PathBuf::from(&hub.tls_ca_file),
                certificate: PathBuf::from(&hub.tls_cert_file),
                key: PathBuf::from(&hub.tls_private_key_file),
            },
            token: (!hub.token.is_empty()).then(|| Secret(hub.token.clone())),
            token_file: PathBuf::from(&hub.token_file),
            take_over: hub.take_over,
            config_file: Some(config_file.to_owned()),
        },
        renewal: edgehub::Renewal {
            rotate: hub.rotate_certificates,
            trust_refresh: Duration::from_secs(hub.ca_refresh_seconds.max(1).into()),
        },
        node_api: None,
    }
}

fn servers(hub: &api::config::edgecore::EdgeHub, checker: &mut Checker) -> edgehub::Servers {
    if !hub.websocket.enable && !hub.quic.enable {
        checker.problem("modules.edgeHub", "enable websocket or quic: the cloud cannot be reached otherwise");
    }
    let mut server = |key: &str, enabled: bool, server: &String| {
        let (host, port) = server.rsplit_once(':').unwrap_or_default();
        if enabled && (host.is_empty() || port.parse::<u16>().is_err()) {
            checker.problem(&format!("modules.edgeHub.{key}.server"), format!("{server:?} is not host:port"));
        }
        enabled.then(|| server.clone())
    };
    let first = server("websocket", hub.websocket.enable, &hub.websocket.server);
    let others = hub.websocket.other_servers.iter();
    let others = others.filter_map(|other| server("websocket", hub.websocket.enable, other));
    let websocket = first.into_iter().chain(others.collect::<Vec<_>>()).collect();
    let quic = server("quic", hub.quic.enable, &hub.quic.server);
    let offer = match hub.dialect.as_str() {
        "auto" => link::Offer::Auto,
        "kubeedge" => link::Offer::KubeEdge,
        other => {
            let text = format!("{other:?} is not a dialect: auto or kubeedge");
            checker.problem("modules.edgeHub.dialect", text);
            link::Offer::Auto
        }
    };
    let way = link::Way::parse(&hub.proxy).unwrap_or_else(|error| {
        // Not the text: there may be a password in it.
        checker.problem("modules.edgeHub.proxy", error);
        link::Way::Straight
    });
    if !matches!(way, link::Way::Straight) && hub.quic.enable {
        checker.problem(
            "modules.edgeHub.proxy",
            "QUIC does not go through a proxy: disable modules.edgeHub.quic",
        );
    }
    let order = match hub.websocket.order.as_str() {
        "priority" => edgehub::Order::Priority,
        "roundRobin" => edgehub::Order::RoundRobin,
        other => {
            let text = format!("{other:?} is not an order: priority or roundRobin");
            checker.problem("modules.edgeHub.websocket.order", text);
            edgehub::Order::Priority
        }
    };
    edgehub::Servers { websocket, order, quic, offer, way }
}

/// KubeEdge's key names a folder; a value that ends with `.sock` is reduced to its folder.
fn dmi_socket(path: &str) -> PathBuf {
    let path = Path::new(path);
    let folder = if path.extension().is_some_and(|end| end == "sock") { path.parent() } else { Some(path) };
    folder.unwrap_or(path).join("dmi.sock")
}

/// A duration in Go's form: numbers with units h, m, s, ms.
fn go_duration(text: &str) -> Option<Duration> {
    let seconds = apimachinery::duration::go_seconds(text.trim())?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_at_most_one_address_of_each_family() {
        let check = |text: &str| {
            let mut config = EdgeCoreConfig::default();
            config.modules.edged.hostname_override = "edge-1".into();
            config.modules.edged.node_ip = text.into();
            Settings::check(&config, Path::new("x"))
        };
        let pair = check("10.0.0.5, fd00::5").unwrap().edged.unwrap().node_ips;
        assert_eq!(pair, ["10.0.0.5", "fd00::5"].map(|ip| ip.parse::<std::net::IpAddr>().unwrap()));
        for wrong in ["10.0.0.5,10.0.0.6", "10.0.0.5,", "10.0.0.5,fd00::5,fd00::6"] {
            let problems = check(wrong).unwrap_err().0;
            assert!(problems[0].contains("modules.edged.nodeIP"), "{problems:?}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let mut config = EdgeCoreConfig::default();
        config.modules.edged.hostname_override = "edge-1".into();
        assert!(Settings::check(&config, Path::new("x")).is_ok());
        config.modules.edge_hub.websocket.server = "nowhere".into();
        config.modules.edge_hub.heartbeat = 0;
        config.modules.edged.node_ip = "here".into();
        config.modules.edged.tailored_kubelet_config.cgroup_driver = "none".into();
        config.modules.event_bus.limits.clients = 0;
        let problems = Settings::check(&config, Path::new("x")).unwrap_err().0;
        assert_eq!(problems.len(), 5, "{problems:?}");
    }

    #[test]
    fn probes_and_metrics_are_for_this_machine_unless_the_node_api_tells_who_asks() {
        let mut config = EdgeCoreConfig::default();
        config.modules.edged.hostname_override = "edge-1".into();
        let mut check = |address: &str| {
            config.common_config.monitor_server.bind_address = address.into();
            Settings::check(&config, Path::new("x")).map(|settings| settings.monitor)
        };
        assert_eq!(check("").unwrap(), None);
        assert_eq!(check("[::1]:9092").unwrap().unwrap().port(), 9092);
        for wrong in ["0.0.0.0:9092", "10.0.0.5:9092", "9092"] {
            let problems = check(wrong).unwrap_err().0;
            assert!(problems[0].starts_with("commonConfig.monitorServer.bindAddress: "), "{problems:?}");
        }
    }

    #[test]
    fn a_wide_range_of_forwarded_ports_leads_to_no_port_of_edgecore() {
        let mut config = EdgeCoreConfig::default();
        config.modules.edged.hostname_override = "edge-1".into();
        config.modules.edged.node_api.forwarded_ports = vec!["1-65535".into()];
        config.modules.edged.node_api.unauthenticated_loopback = true;
        config.modules.event_bus.mqtt_mode = 0;
        config.modules.event_bus.mqtt_server_internal = "tcp://127.0.0.1:1883".into();
        config.common_config.monitor_server.bind_address = "127.0.0.1:9092".into();
        let settings = Settings::check(&config, Path::new("x")).unwrap();
        let ports = settings.edged.unwrap().server.unwrap().forwarded;
        for own in [1883, 9092, 10350] {
            assert!(ports.check(own).is_err(), "{own}");
        }
        assert!(ports.check(9100).is_ok());
        config.modules.edged.node_api.forwarded_ports = vec!["10350".into()];
        let problems = Settings::check(&config, Path::new("x")).unwrap_err().0;
        assert!(problems[0].starts_with("modules.edged.nodeAPI.forwardedPorts[0]: "), "{problems:?}");
    }

    #[test]
    fn the_broker_grants_what_the_configuration_says() {
        let mut config = EdgeCoreConfig::default();
        config.modules.edged.hostname_override = "edge-1".into();
        let granted = |config: &EdgeCoreConfig| {
            let limits = Settings::check(config, Path::new("x")).unwrap().devices.unwrap().bus.limits;
            (limits.clients, limits.filters)
        };
        assert_eq!(granted(&config), (1024, 4096));
        config.modules.event_bus.limits.clients = 2000;
        config.modules.event_bus.limits.subscriptions_per_client = 9000;
        assert_eq!(granted(&config), (2000, 9000));
    }
}
