//! What a node needs, looked at before anything is written: its ports, its container runtime, the runtime's network.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::bail;
use api::config::edgecore::EdgeCoreConfig;
use cri::v1::StatusResponse;

use crate::ports::{self, Needed};
use crate::{pods, render};

pub(super) async fn check(config: &EdgeCoreConfig) -> anyhow::Result<()> {
    ports::check(&needed(config))?;
    if config.modules.edged.enable {
        runtime(pods::endpoint(&config.modules.edged)).await?;
    }
    Ok(())
}

/// The way on without containers.
const WITHOUT: &str = "to join a node that runs no pods: --set modules.edged.enable=false";

async fn runtime(endpoint: &str) -> anyhow::Result<()> {
    let name = "name the runtime's socket with --remote-runtime-endpoint";
    let Some(socket) = endpoint.strip_prefix("unix://") else {
        bail!("--remote-runtime-endpoint {endpoint:?} is not unix:///path");
    };
    if !Path::new(socket).exists() {
        let install = "install one (Debian: apt-get install containerd containernetworking-plugins)";
        bail!("there is no container runtime at {endpoint}: {install}, or {name}; {WITHOUT}");
    }
    let status = match cri::Runtime::new(endpoint)?.status(true).await {
        Ok(status) => status,
        Err(error) => bail!(
            "the container runtime at {endpoint} does not answer ({error}): is it running, and is its CRI plugin on (containerd: disabled_plugins in /etc/containerd/config.toml)? {name}; {WITHOUT}"
        ),
    };
    for missing in network(&status) {
        render::done(&missing);
    }
    Ok(())
}

/// What the runtime lacks for pods with a network of their own. Told, not refused: a network is often brought by a pod
/// on the host's.
fn network(status: &StatusResponse) -> Vec<String> {
    let mut missing = Vec::new();
    let conditions = status.status.iter().flat_map(|status| &status.conditions);
    for condition in conditions.filter(|condition| condition.r#type == "NetworkReady" && !condition.status) {
        missing.push(format!(
            "warning: the runtime has no pod network ({}): put a CNI configuration into {}, or pods without hostNetwork wait",
            condition.message,
            folders(status, "confDir").first().map_or("/etc/cni/net.d", String::as_str),
        ));
    }
    let binaries = [folders(status, "binDir"), folders(status, "binDirs")].concat();
    let has_files = |folder: &String| std::fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some());
    if !binaries.is_empty() && !binaries.iter().any(has_files) {
        missing.push(format!(
            "warning: there are no CNI plugins in {}: install them (Debian: apt-get install containernetworking-plugins, which puts them into /usr/lib/cni), or pods without hostNetwork wait",
            binaries.join(", ")
        ));
    }
    missing
}

/// Folders of containerd's CNI settings, which it tells in its status.
fn folders(status: &StatusResponse, key: &str) -> Vec<String> {
    let config =
        status.info.get("config").and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    let Some(value) = config.map(|config| config["cni"][key].clone()) else { return Vec::new() };
    let texts = match value {
        serde_json::Value::Array(items) => items,
        one => vec![one],
    };
    texts.iter().filter_map(|text| text.as_str()).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

/// The ports of this configuration. An address that cannot be read is EdgeCore's to tell.
fn needed(config: &EdgeCoreConfig) -> Vec<Needed> {
    let modules = &config.modules;
    let mut needed = Vec::new();
    let broker = modules.event_bus.mqtt_server_internal.trim_start_matches("tcp://").parse();
    if let Ok(address) = broker
        && modules.event_bus.enable
        && modules.device_twin.enable
        && modules.event_bus.mqtt_mode < 2
    {
        let change = "--set modules.eventBus.mqttServerInternal=tcp://127.0.0.1:PORT".to_owned();
        needed.push(Needed { what: "the MQTT broker", address, udp: false, change });
    }
    if let Ok(address) = config.common_config.monitor_server.bind_address.parse() {
        let change = "--set commonConfig.monitorServer.bindAddress=127.0.0.1:PORT".to_owned();
        needed.push(Needed { what: "health checks", address, udp: false, change });
    }
    let kubelet = &modules.edged.tailored_kubelet_config;
    if let Ok(ip) = kubelet.address.parse()
        && modules.edged.enable
        && !kubelet.tls_cert_file.is_empty()
    {
        let address = SocketAddr::new(ip, kubelet.port);
        let change = "--set modules.edged.tailoredKubeletConfig.port=PORT".to_owned();
        needed.push(Needed { what: "the Node API", address, udp: false, change });
    }
    if modules.edged.enable && modules.edged.node_api.unauthenticated_loopback {
        let address = SocketAddr::from(([127, 0, 0, 1], 10350));
        let change = "--set modules.edged.nodeAPI.unauthenticatedLoopback=false".to_owned();
        needed.push(Needed { what: "the open Node API", address, udp: false, change });
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use cri::v1::{RuntimeCondition, RuntimeStatus};

    #[test]
    fn a_runtime_without_a_network_is_told_with_what_to_install() {
        let folder = tempfile::tempdir().unwrap();
        let config = serde_json::json!({"cni": {"binDir": folder.path(), "confDir": "/etc/own"}});
        let condition = RuntimeCondition {
            r#type: "NetworkReady".into(),
            status: false,
            message: "cni plugin not initialized".into(),
            ..RuntimeCondition::default()
        };
        let mut status = StatusResponse {
            status: Some(RuntimeStatus { conditions: vec![condition] }),
            info: [("config".to_owned(), config.to_string())].into(),
            ..StatusResponse::default()
        };
        let missing = network(&status);
        assert!(
            missing[0].contains("/etc/own") && missing[1].contains("containernetworking-plugins"),
            "{missing:?}"
        );
        std::fs::write(folder.path().join("bridge"), "").unwrap();
        status.status = None;
        assert!(network(&status).is_empty());
    }

    #[test]
    fn ports_of_what_is_off_are_not_needed() {
        let mut config = EdgeCoreConfig::default();
        assert_eq!(needed(&config).len(), 1);
        config.modules.device_twin.enable = false;
        assert!(needed(&config).is_empty());
        config.common_config.monitor_server.bind_address = "127.0.0.1:9092".into();
        assert_eq!(needed(&config).len(), 1);
        config.common_config.monitor_server.bind_address = String::new();
        config.modules.edged.tailored_kubelet_config.tls_cert_file = "/c".into();
        config.modules.edged.node_api.unauthenticated_loopback = true;
        assert_eq!(needed(&config).len(), 2);
    }
}
