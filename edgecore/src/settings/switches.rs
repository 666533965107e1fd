//! Switches that mean something else here than in KubeEdge, and what is said of them.

use api::config::edgecore::EdgeCoreConfig;

use super::Checker;

pub(super) fn check(config: &EdgeCoreConfig, checker: &mut Checker) {
    let modules = &config.modules;
    if !modules.edge_hub.enable {
        let text = "cannot be false: nothing else brings objects to this node; write true or leave it out";
        checker.problem("modules.edgeHub.enable", text);
    }
    let kubelet = &modules.edged.tailored_kubelet_config;
    let others = kubelet.enforce_node_allocatable.iter();
    for what in others.filter(|what| !["pods", "none", ""].contains(&what.as_str())) {
        let text =
            format!("{what:?} is not enforced, only pods are: leave it out and use systemd's own limits");
        checker.problem("modules.edged.tailoredKubeletConfig.enforceNodeAllocatable", text);
    }
}

/// Keys that are not taken as KubeEdge takes them, and what happens instead.
pub fn warnings(config: &EdgeCoreConfig) -> Vec<(String, String)> {
    let modules = &config.modules;
    if modules.event_bus.enable && !modules.device_twin.enable {
        let text =
            "MQTT is off, because modules.deviceTwin.enable is false and nobody would read what is published";
        return vec![("modules.eventBus.enable".to_owned(), text.to_owned())];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_done_is_refused_or_told() {
        let mut checker = Checker { problems: Vec::new() };
        let mut config = EdgeCoreConfig::default();
        check(&config, &mut checker);
        assert!(checker.problems.is_empty() && warnings(&config).is_empty());
        config.modules.edge_hub.enable = false;
        config.modules.device_twin.enable = false;
        let kubelet = &mut config.modules.edged.tailored_kubelet_config;
        kubelet.enforce_node_allocatable = vec!["pods".into(), "system-reserved".into()];
        check(&config, &mut checker);
        assert_eq!(checker.problems.len(), 2, "{:?}", checker.problems);
        assert_eq!(warnings(&config)[0].0, "modules.eventBus.enable");
    }
}
