//! `modules.metaManager.metaServer.hub.kubelet` -> whom the Node API of a hub asks.

use std::net::SocketAddr;

use api::config::edgecore::EdgeCoreConfig;
use kubeletproxy::Settings;

use super::{Checker, node_api};

const KEY: &str = "modules.metaManager.metaServer.hub.kubelet";

/// `None`: EdgeCore is no hub, runs pods itself, or no kubelet is named.
pub(super) fn settings(config: &EdgeCoreConfig, checker: &mut Checker) -> Option<Settings> {
    let (modules, hub) = (&config.modules, &config.modules.meta_manager.meta_server.hub);
    if !hub.enable || modules.edged.enable || hub.kubelet.is_empty() {
        return None;
    }
    let kubelet = hub.kubelet.parse::<SocketAddr>().ok().filter(|kubelet| kubelet.port() != 0);
    match kubelet {
        None => checker.problem(KEY, format!("{:?} is not address:port", hub.kubelet)),
        // Whether another address is this machine's is seen when it is connected.
        Some(kubelet) if kubelet.ip().is_unspecified() || kubelet.ip().is_multicast() => {
            let why = "is no address of this machine: write 127.0.0.1:10250, or the one that the kubelet's `address` says";
            checker.problem(KEY, format!("{:?} {why}", hub.kubelet));
        }
        Some(_) => {}
    }
    Some(Settings {
        socket: node_api::socket(&modules.edged, &config.database.data_source),
        kubelet: kubelet?,
        owner: rustix::process::geteuid().as_raw(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kubelet: Option<&str>, hub: bool) -> (Option<Settings>, Vec<String>) {
        let mut config = EdgeCoreConfig::default();
        let module = &mut config.modules.meta_manager.meta_server;
        module.hub.enable = hub;
        if let Some(kubelet) = kubelet {
            module.hub.kubelet = kubelet.into();
        }
        crate::hub_form(&mut config);
        let mut checker = Checker { problems: Vec::new() };
        (settings(&config, &mut checker), checker.problems)
    }

    #[test]
    fn a_hub_asks_the_kubelet_of_its_machine_at_the_usual_port() {
        let (settings, problems) = check(None, true);
        let settings = settings.unwrap();
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(settings.kubelet.to_string(), "127.0.0.1:10250");
        assert_eq!(settings.socket.to_string_lossy(), "/var/lib/kubeedge/edged.sock");
        assert_eq!(check(Some("[::1]:10003"), true).0.unwrap().kubelet.port(), 10003);
        assert_eq!(check(Some(""), true), (None, vec![]));
        assert_eq!(check(None, false), (None, vec![]));
    }

    #[test]
    fn what_is_no_address_of_a_machine_is_refused_and_named() {
        for wrong in ["0.0.0.0:10250", "[::]:10250", "localhost:10250", "127.0.0.1:0", "127.0.0.1"] {
            let problems = check(Some(wrong), true).1;
            assert!(problems[0].starts_with(KEY), "{wrong}: {problems:?}");
        }
    }

    #[test]
    fn the_link_and_metaserver_reach_it_at_its_socket() {
        let mut config = EdgeCoreConfig::default();
        config.modules.edged.hostname_override = "edge-1".into();
        config.modules.edged.node_api.socket = "/run/node.sock".into();
        config.modules.meta_manager.meta_server.hub.enable = true;
        config.modules.edge_stream.enable = true;
        crate::hub_form(&mut config);
        let settings = crate::Settings::check(&config, std::path::Path::new("x")).unwrap();
        let socket = settings.kubelet.unwrap().socket;
        assert_eq!(socket.to_string_lossy(), "/run/node.sock");
        assert_eq!(settings.hub.node_api.as_ref(), Some(&socket));
        assert_eq!(settings.meta_server.unwrap().node_api.as_ref(), Some(&socket));
        assert_eq!(settings.streams.unwrap().node_api, socket);
    }
}
