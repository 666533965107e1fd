//! edgecore.yaml of a joining node: an existing file or the defaults, and what the flags say.

use std::path::Path;

use anyhow::{Context, bail};
use api::config::edgecore::{EdgeCoreConfig, EdgeStream};
use api::config::keys;
use message::NodeName;

use super::Flags;
use crate::layout::Layout;
use crate::{address, labels, render};

/// Where a cloud serves KubeEdge's tunnel.
const TUNNEL_PORT: u16 = 10004;

/// The file that is there already, of KubeEdge or written by hand. What it asks for and this program does not do is
/// told or refused before the file is written anew without it.
pub(super) fn base(path: &Path) -> anyhow::Result<Option<EdgeCoreConfig>> {
    if !path.exists() {
        return Ok(None);
    }
    let (config, unused): (EdgeCoreConfig, _) = daemon::config::load_kind(path)?;
    let unused = unused.iter().map(|unused| (unused.key.as_str(), &unused.value));
    let review = keys::review(keys::EDGECORE, unused);
    if !review.problems.is_empty() {
        bail!("{}:\n{}", path.display(), review.problems.join("\n"));
    }
    for (key, text) in &review.warnings {
        render::done(&format!("{key}: {text}"));
    }
    Ok(Some(config))
}

pub(super) fn with_flags(
    base: Option<EdgeCoreConfig>,
    flags: &Flags,
    layout: &Layout,
) -> anyhow::Result<EdgeCoreConfig> {
    let (host, port) = address::host_port(&flags.cloudcore_ipport).context("--cloudcore-ipport")?;
    let host = address::in_url(&host);
    let mut config = base.unwrap_or_default();
    below_root(&mut config, layout);
    let hub = &mut config.modules.edge_hub;
    hub.http_server = format!("https://{host}:{}", flags.certport);
    hub.websocket.server = flags.cloudcore_ipport.clone();
    (hub.websocket.enable, hub.quic.enable) = (true, hub.quic.enable);
    if flags.hub_protocol == "quic" {
        let port = if port == 10000 { 10001 } else { port };
        (hub.websocket.enable, hub.quic.enable) = (false, true);
        hub.quic.server = format!("{host}:{port}");
    }
    hub.take_over |= flags.take_over;
    let tunnel = &mut config.modules.edge_stream;
    if tunnel.server == EdgeStream::default().server {
        tunnel.server = format!("{host}:{TUNNEL_PORT}");
    }
    let edged = &mut config.modules.edged;
    if !flags.edgenode_name.is_empty() || edged.hostname_override.is_empty() {
        edged.hostname_override = node_name(&flags.edgenode_name)?;
    }
    edged.node_labels.extend(flags.labels.iter().cloned());
    if let Some(driver) = &flags.cgroupdriver {
        edged.tailored_kubelet_config.cgroup_driver = driver.clone();
    }
    if let Some(endpoint) = &flags.remote_runtime_endpoint {
        edged.tailored_kubelet_config.container_runtime_endpoint = endpoint.clone();
        edged.tailored_kubelet_config.image_service_endpoint = String::new();
        (edged.remote_runtime_endpoint, edged.remote_image_endpoint) = (String::new(), String::new());
    }
    Ok(config)
}

/// What is left as it is by default lies under the root.
fn below_root(config: &mut EdgeCoreConfig, layout: &Layout) {
    let default = EdgeCoreConfig::default();
    let place = |path: &mut String, usual: &str| {
        if path == usual {
            *path = layout.text(usual);
        }
    };
    place(&mut config.database.data_source, &default.database.data_source);
    let (hub, usual) = (&mut config.modules.edge_hub, &default.modules.edge_hub);
    place(&mut hub.tls_ca_file, &usual.tls_ca_file);
    place(&mut hub.tls_cert_file, &usual.tls_cert_file);
    place(&mut hub.tls_private_key_file, &usual.tls_private_key_file);
    place(&mut hub.token_file, &usual.token_file);
    let (stream, usual) = (&mut config.modules.edge_stream, &default.modules.edge_stream);
    place(&mut stream.tls_tunnel_ca_file, &usual.tls_tunnel_ca_file);
    place(&mut stream.tls_tunnel_cert_file, &usual.tls_tunnel_cert_file);
    place(&mut stream.tls_tunnel_private_key_file, &usual.tls_tunnel_private_key_file);
    let (twin, usual) = (&mut config.modules.device_twin, &default.modules.device_twin);
    place(&mut twin.dmi_sock_path, &usual.dmi_sock_path);
    let (edged, usual) = (&mut config.modules.edged, &default.modules.edged);
    place(&mut edged.root_directory, &usual.root_directory);
    let (kubelet, usual) = (&mut edged.tailored_kubelet_config, &usual.tailored_kubelet_config);
    place(&mut kubelet.pod_logs_dir, &usual.pod_logs_dir);
    place(&mut kubelet.static_pod_path, &usual.static_pod_path);
}

pub(super) fn node_name(given: &str) -> anyhow::Result<String> {
    let name = match given {
        "" => rustix::system::uname().nodename().to_string_lossy().to_lowercase(),
        name => name.to_owned(),
    };
    NodeName::new(&name).context("--edgenode-name")?;
    Ok(name)
}

/// What EdgeCore would not refuse, and the cloud would.
pub(super) fn check(config: &EdgeCoreConfig) -> anyhow::Result<()> {
    let edged = &config.modules.edged;
    NodeName::new(&edged.hostname_override).context("modules.edged.hostnameOverride")?;
    for (key, value) in &edged.node_labels {
        labels::read(&format!("{key}={value}"))
            .map_err(|error| anyhow::anyhow!("modules.edged.nodeLabels: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        flags: Flags,
    }

    fn flags(words: &str) -> Flags {
        let words = format!("join -t x -i n {words}");
        Words::try_parse_from(words.split_whitespace()).unwrap().flags
    }

    fn config(words: &str) -> EdgeCoreConfig {
        with_flags(None, &flags(words), &Layout::new(Some(Path::new("/srv/r"))).unwrap()).unwrap()
    }

    #[test]
    fn an_ipv6_address_is_in_brackets_everywhere() {
        let hub = config("-e [fd00::1]:10000").modules.edge_hub;
        assert_eq!(hub.http_server, "https://[fd00::1]:10002");
        assert_eq!(hub.websocket.server, "[fd00::1]:10000");
    }

    #[test]
    fn the_tunnel_leads_to_the_same_cloud_with_the_nodes_certificate() {
        let stream = config("-e [fd00::1]:10000").modules.edge_stream;
        assert_eq!(stream.server, "[fd00::1]:10004");
        assert!(!stream.enable);
        for file in
            [&stream.tls_tunnel_ca_file, &stream.tls_tunnel_cert_file, &stream.tls_tunnel_private_key_file]
        {
            assert!(file.starts_with("/srv/r/etc/kubeedge/"), "{file}");
        }
        let mut base = EdgeCoreConfig::default();
        base.modules.edge_stream.server = "tunnels:7".to_owned();
        let kept = with_flags(Some(base), &flags("-e cloud:10000"), &Layout::new(None).unwrap()).unwrap();
        assert_eq!(kept.modules.edge_stream.server, "tunnels:7");
    }

    #[test]
    fn quic_has_a_port_of_its_own() {
        let hub = config("-e cloud:10000 --hub-protocol quic").modules.edge_hub;
        assert_eq!((hub.websocket.enable, hub.quic.enable), (false, true));
        assert_eq!(hub.quic.server, "cloud:10001");
        assert_eq!(config("-e cloud:21001 --hub-protocol quic").modules.edge_hub.quic.server, "cloud:21001");
    }

    #[test]
    fn kubeedges_version_may_have_no_value() {
        assert_eq!(flags("-e a:1 --kubeedge-version --certport 7").certport, 7);
        assert_eq!(flags("-e a:1 --kubeedge-version=v1.20.0").certport, 10002);
    }

    #[test]
    fn an_existing_file_keeps_what_no_flag_says() {
        let mut base = EdgeCoreConfig::default();
        base.modules.edged.hostname_override = "old".into();
        base.modules.edged.node_labels.insert("a".into(), "1".into());
        base.modules.edged.remote_runtime_endpoint = "unix:///run/cri-dockerd.sock".into();
        base.database.data_source = "/srv/own.db".into();
        let layout = Layout::new(None).unwrap();
        let flags = Words::try_parse_from(["join", "-t", "x", "-e", "a:1", "-l", "b=2"]).unwrap().flags;
        let config = with_flags(Some(base), &flags, &layout).unwrap();
        let edged = config.modules.edged;
        assert_eq!((edged.hostname_override.as_str(), edged.node_labels.len()), ("old", 2));
        assert_eq!(edged.remote_runtime_endpoint, "unix:///run/cri-dockerd.sock");
        assert_eq!(config.database.data_source, "/srv/own.db");
    }
}
