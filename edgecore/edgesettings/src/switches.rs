//! Switches that mean something else here than in KubeEdge, and what is said of them.

use api::config::edgecore::EdgeCoreConfig;

use super::{Checker, secrets};

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
pub(crate) fn warnings(config: &EdgeCoreConfig) -> Vec<(String, String)> {
    let modules = &config.modules;
    let mut warnings = Vec::new();
    if modules.event_bus.enable && !modules.device_twin.enable {
        let text =
            "MQTT is off, because modules.deviceTwin.enable is false and nobody would read what is published";
        warnings.push(("modules.eventBus.enable".to_owned(), text.to_owned()));
    }
    warnings.extend(secrets::warning(&config.database));
    warnings
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use api::config::keys;

    use super::*;
    use crate::Settings;

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

    /// `text` may leave out what every file begins with.
    fn read(text: &str) -> (EdgeCoreConfig, keys::Review) {
        let default = EdgeCoreConfig::default();
        let whole = match text.contains("apiVersion:") {
            true => text.to_owned(),
            false => format!("apiVersion: {}\nkind: {}\n{text}", default.api_version, default.kind),
        };
        let (config, unused) = daemon::config::parse_kind(&whole, Path::new("edgecore.yaml")).unwrap();
        let unused = unused.iter().map(|unused| (unused.key.as_str(), &unused.value));
        (config, keys::review(keys::EDGECORE, unused))
    }

    #[test]
    fn nothing_is_said_of_what_kubeedge_writes_for_everybody() {
        let (config, review) = read(include_str!("fixtures/kubeedge-1.23.yaml"));
        assert!(review.warnings.is_empty() && review.problems.is_empty(), "{review:?}");
        assert!(review.harmless.len() > 60, "{}", review.harmless.len());
        assert!(Settings::check(&config, Path::new("x")).is_ok());
        assert!(warnings(&config).is_empty());
    }

    #[test]
    fn the_runtime_of_older_files_is_used() {
        let (config, review) = read(include_str!("fixtures/kubeedge-1.13.yaml"));
        assert!(review.warnings.is_empty() && review.problems.is_empty(), "{review:?}");
        let settings = Settings::check(&config, Path::new("x")).unwrap();
        assert_eq!(settings.edged.unwrap().runtime_endpoint, "unix:///run/crio/crio.sock");
    }

    #[test]
    fn what_would_break_a_promise_is_refused_and_a_missing_module_told() {
        let (_, review) = read(
            "modules:\n  edged: {customInterfaceName: eth0, tailoredKubeletConfig: {cpuManagerPolicy: static}}\n  \
             eventBus: {eventBusTLS: {enable: true}}\n  serviceBus: {enable: true}\n  edgeHub: {hartbeat: 3}\n",
        );
        assert_eq!(review.problems.len(), 3, "{review:?}");
        let told: Vec<&str> = review.warnings.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(told, ["modules.edgeHub.hartbeat", "modules.serviceBus.enable"]);
    }
}
