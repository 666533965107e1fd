//! `cloudcore.yaml` -> checked settings. All problems are gathered before failing; nothing is bound here.

mod switches;
mod webhooks;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use api::config::cloudcore::CloudCoreConfig;

use crate::cloudhub;
use crate::cloudhub::{material, register};
use crate::cloudstream;
use crate::edgecontroller::{KubeletHost, is_dns_name};
pub use switches::warnings;

/// Everything the program needs, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `None`: in-cluster or the user's own.
    pub kubeconfig: Option<PathBuf>,
    pub master: String,
    pub standalone: Option<Standalone>,
    pub hub: cloudhub::Settings,
    pub register: SocketAddr,
    pub material: material::MaterialSettings,
    pub terms: register::Terms,
    /// A node whose object is deleted is put out.
    pub refuse_deleted: bool,
    /// How often secrets are looked at: for a CA that is being replaced, for a server certificate that is due.
    pub certificate_check: Duration,
    pub token_refresh: Duration,
    pub health: Option<SocketAddr>,
    /// One port for everything edges need.
    pub common_port: Option<SocketAddr>,
    /// `None`: no API server but the embedded one reaches nodes.
    pub streams: Option<cloudstream::Settings>,
    /// `None`: no API server asks.
    pub webhooks: Option<crate::webhooks::Settings>,
    /// Edges may send requests of programs on their nodes.
    pub requests: bool,
    /// Nodes may ask as themselves.
    pub node_identity: bool,
    /// Where a CSI driver in the cloud asks for volumes on nodes, if it may.
    pub volume_socket: Option<PathBuf>,
}

/// The embedded API server.
#[derive(Clone, Debug)]
pub struct Standalone {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    pub admin_kubeconfig: PathBuf,
    /// Names are checked by the API server.
    pub controllers: Vec<String>,
    pub limits: apiserver::Limits,
    pub audit_log: Option<PathBuf>,
    pub service_range: apiserver::ServiceRange,
}

#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct BadSettings(pub Vec<String>);

impl Settings {
    pub fn check(config: &CloudCoreConfig) -> Result<Settings, BadSettings> {
        let mut problems = switches::problems(config);
        let hub = &config.modules.cloud_hub;
        let mut address = |key: &str, address: &str, port: u16| {
            let ip = address.parse::<IpAddr>();
            let ip =
                ip.map_err(|_| problems.push(format!("{key}.address: {address:?} is not an IP address")));
            let ip = ip.unwrap_or(IpAddr::from([0, 0, 0, 0]));
            SocketAddr::new(switches::family(ip, &hub.advertise_address), port)
        };
        let listen = address("modules.cloudHub.websocket", &hub.websocket.address, hub.websocket.port);
        let quic = address("modules.cloudHub.quic", &hub.quic.address, hub.quic.port);
        let register_at = address("modules.cloudHub.https", &hub.https.address, hub.https.port);
        if hub.advertise_address.iter().all(|name| name.is_empty()) {
            problems.push(
                "modules.cloudHub.advertiseAddress: give at least one address that edges can reach"
                    .to_owned(),
            );
        }
        for (key, value) in [
            ("keepaliveInterval", hub.keepalive_interval),
            ("nodeLimit", hub.node_limit),
            ("edgeCertSigningDuration", hub.edge_cert_signing_duration),
            ("tokenRefreshDuration", hub.token_refresh_duration),
            ("limits.sessionsPerSecond", hub.limits.sessions_per_second),
            ("limits.sessionsAtOnce", hub.limits.sessions_at_once),
            ("limits.messageBytes", hub.limits.message_bytes),
            ("limits.receiveBytes", hub.limits.receive_bytes),
            ("certificateCheckSeconds", hub.certificate_check_seconds),
        ] {
            if value == 0 {
                problems.push(format!("modules.cloudHub.{key}: must be greater than 0"));
            }
        }
        let standalone = &config.modules.standalone;
        let standalone_listen = standalone.listen.parse::<SocketAddr>();
        let audit_log = Some(&standalone.audit_log).filter(|path| !path.is_empty()).map(PathBuf::from);
        if audit_log.as_ref().is_some_and(|path| !path.is_absolute()) {
            problems.push(format!("modules.standalone.auditLog: {:?} is not absolute", standalone.audit_log));
        }
        let service_range = standalone.service_cluster_ip_range.parse();
        let service_range = service_range.unwrap_or_else(|error| {
            problems.push(format!("modules.standalone.serviceClusterIPRange: {error}"));
            apiserver::ServiceRange::default()
        });
        let standalone = standalone.enable.then(|| Standalone {
            service_range,
            data_dir: PathBuf::from(&standalone.data_dir),
            listen: standalone_listen.unwrap_or_else(|_| {
                problems
                    .push(format!("modules.standalone.listen: {:?} is not address:port", standalone.listen));
                SocketAddr::from(([127, 0, 0, 1], 0))
            }),
            admin_kubeconfig: PathBuf::from(&standalone.admin_kubeconfig),
            controllers: standalone.controllers.clone(),
            limits: apiserver::Limits {
                reads: standalone.max_requests_inflight as usize,
                changes: standalone.max_mutating_requests_inflight as usize,
            },
            audit_log,
        });
        let health = match config.common_config.monitor_server.bind_address.as_str() {
            "" => None,
            text => text
                .parse()
                .map_err(|_| {
                    problems
                        .push(format!("commonConfig.monitorServer.bindAddress: {text:?} is not address:port"))
                })
                .ok(),
        };
        let socket = &hub.unixsocket;
        let volume_socket = socket.enable.then(|| match socket.address.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => PathBuf::from(path),
            _ => {
                problems.push(format!(
                    "modules.cloudHub.unixsocket.address: {:?} is not unix:///path",
                    socket.address
                ));
                PathBuf::new()
            }
        });
        let names =
            hub.advertise_address.iter().chain(&hub.dns_names).filter(|name| !name.is_empty()).cloned();
        let names: Vec<String> = names.collect();
        let cloud_stream = &config.modules.cloud_stream;
        let everywhere = switches::family(IpAddr::from([0, 0, 0, 0]), &hub.advertise_address);
        let node_address = match cloud_stream.node_address.as_str() {
            "" => None,
            text => {
                let host = KubeletHost::parse(text);
                if host.is_none() {
                    problems.push(format!(
                        "modules.cloudStream.nodeAddress: {text:?} is neither an IP address nor a DNS name"
                    ));
                }
                host
            }
        };
        let node_domain = Some(cloud_stream.node_domain.as_str()).filter(|domain| !domain.is_empty());
        if let Some(domain) = node_domain {
            if !is_dns_name(domain) {
                problems.push(format!("modules.cloudStream.nodeDomain: {domain:?} is not a DNS name"));
            }
            if node_address.is_none() {
                let text = "modules.cloudStream.nodeDomain: takes modules.cloudStream.nodeAddress beside it";
                problems.push(text.to_owned());
            }
        }
        // API servers check the name they ask under.
        let mut stream_names = names.clone();
        if node_address.is_some() && !stream_names.contains(&cloud_stream.node_address) {
            stream_names.push(cloud_stream.node_address.clone());
        }
        stream_names.extend(node_domain.map(|domain| format!("*.{domain}")));
        let own_address = match cloud_stream.own_address.as_str() {
            "" => std::env::var("POD_IP").ok().and_then(|ip| ip.parse().ok()),
            text => text.parse::<IpAddr>().ok(),
        };
        let own_address = match own_address {
            Some(ip) => ip,
            None if cloud_stream.own_address.is_empty() => IpAddr::from([127, 0, 0, 1]),
            None => {
                problems.push(format!(
                    "modules.cloudStream.ownAddress: {:?} is not an IP address",
                    cloud_stream.own_address
                ));
                IpAddr::from([127, 0, 0, 1])
            }
        };
        let common_port = (hub.common_port > 0).then(|| SocketAddr::new(everywhere, hub.common_port));
        let streams = cloud_stream.enable.then(|| cloudstream::Settings {
            listen: SocketAddr::new(everywhere, cloud_stream.stream_port),
            tunnels: SocketAddr::new(everywhere, cloud_stream.tunnel_port),
            client_ca: PathBuf::from(&cloud_stream.tls_stream_ca_file),
            certificate: PathBuf::from(&cloud_stream.tls_stream_cert_file),
            key: PathBuf::from(&cloud_stream.tls_stream_private_key_file),
            names: stream_names,
            node_address,
            node_domain: node_domain.map(Into::into),
            own_address,
        });
        let webhooks = webhooks::check(config, &mut problems);
        if !problems.is_empty() {
            return Err(BadSettings(problems));
        }
        let kubeconfig = &config.kube_api_config.kube_config;
        Ok(Settings {
            kubeconfig: (!kubeconfig.is_empty()).then(|| PathBuf::from(kubeconfig)),
            master: config.kube_api_config.master.clone(),
            standalone,
            hub: cloudhub::Settings {
                listen,
                keepalive: Duration::from_secs(hub.keepalive_interval.into()),
                node_limit: hub.node_limit as usize,
                enforce: !hub.authorization.allow_unauthorized,
                quic: hub.quic.enable.then_some(quic),
                admission: (hub.limits.sessions_per_second, hub.limits.sessions_at_once),
                max_message: hub.limits.message_bytes as usize,
                budget: hub.limits.receive_bytes as usize,
            },
            register: register_at,
            material: material::MaterialSettings {
                names,
                ca_file: PathBuf::from(&hub.tls_ca_file),
                ca_key_file: PathBuf::from(&hub.tls_ca_key_file),
            },
            terms: register::Terms {
                lifetime_days: hub.edge_cert_signing_duration.into(),
                renew_expired_for: i64::from(hub.renew_expired_for) * 3600,
                join_existing: hub.join_existing_nodes,
            },
            refuse_deleted: hub.refuse_deleted_nodes,
            certificate_check: Duration::from_secs(hub.certificate_check_seconds.into()),
            token_refresh: Duration::from_secs(u64::from(hub.token_refresh_duration) * 3600),
            health,
            common_port,
            streams,
            webhooks,
            requests: config.modules.dynamic_controller.enable,
            node_identity: {
                let module = &config.modules.dynamic_controller;
                module.enable && module.node_identity
            },
            volume_socket,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_told_at_once() {
        let mut config = CloudCoreConfig::default();
        config.modules.cloud_hub.websocket.address = "somewhere".into();
        config.modules.cloud_hub.node_limit = 0;
        let problems = Settings::check(&config).unwrap_err().0;
        assert_eq!(problems.len(), 3, "{problems:?}");
        config = CloudCoreConfig::default();
        config.modules.cloud_hub.advertise_address = vec!["10.0.0.5".into()];
        config.modules.cloud_hub.dns_names = vec![String::new()];
        assert_eq!(Settings::check(&config).unwrap().material.names, ["10.0.0.5"]);
        config.modules.cloud_stream.enable = true;
        config.modules.cloud_stream.node_address = "cloud.example.com".into();
        let streams = Settings::check(&config).unwrap().streams.unwrap();
        assert_eq!(streams.names, ["10.0.0.5", "cloud.example.com"], "the certificate names it");
        config.modules.cloud_stream.node_domain = "edges.example".into();
        let streams = Settings::check(&config).unwrap().streams.unwrap();
        assert!(streams.names.contains(&"*.edges.example".to_owned()), "{:?}", streams.names);
        config.modules.cloud_stream.node_domain = "*.example".into();
        config.modules.cloud_stream.node_address = String::new();
        let problems = Settings::check(&config).unwrap_err().0;
        assert!(problems.len() == 2 && problems.iter().all(|one| one.contains("nodeDomain")), "{problems:?}");
        config.modules.cloud_stream.node_domain = String::new();
        config.modules.cloud_stream.node_address = "10.0.0.256".into();
        assert!(Settings::check(&config).unwrap_err().0[0].contains("nor a DNS name"));
    }

    #[test]
    fn the_embedded_server_is_told_its_limits_and_its_audit_log_which_has_a_whole_path() {
        let mut config = CloudCoreConfig::default();
        config.modules.cloud_hub.advertise_address = vec!["10.0.0.5".into()];
        config.modules.standalone.enable = true;
        let standalone = Settings::check(&config).unwrap().standalone.unwrap();
        assert_eq!((standalone.limits, standalone.audit_log), (apiserver::Limits::default(), None));
        config.modules.standalone.max_requests_inflight = 5;
        config.modules.standalone.audit_log = "/var/lib/causeway/audit.log".into();
        let standalone = Settings::check(&config).unwrap().standalone.unwrap();
        assert_eq!(standalone.limits, apiserver::Limits { reads: 5, changes: 200 });
        assert_eq!(standalone.audit_log, Some(PathBuf::from("/var/lib/causeway/audit.log")));
        config.modules.standalone.audit_log = "audit.log".into();
        assert!(Settings::check(&config).unwrap_err().0[0].contains("auditLog"));
    }
}
