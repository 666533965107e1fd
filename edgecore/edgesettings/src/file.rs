//! The configuration file: read and checked, or written as an example.

use std::path::Path;

use anyhow::Context;
use api::config::edgecore::EdgeCoreConfig;
use api::config::keys;

use super::switches::warnings;
use super::{BadSettings, Settings, hub_form};

/// Reads and checks `file`. What is harmless or worth knowing is logged. `as_hub`: in hub form, whatever the file says of it.
///
/// # Errors
/// The file cannot be read, is not a configuration of EdgeCore, or has problems, all of which are named.
pub fn load(file: &Path, as_hub: bool) -> anyhow::Result<Settings> {
    let (mut config, unused): (EdgeCoreConfig, _) = daemon::config::load_kind(file)?;
    let unused = unused.iter().map(|unused| (unused.key.as_str(), &unused.value));
    let review = keys::review(keys::EDGECORE, unused);
    daemon::config::tell(file, &review.warnings, &review.harmless);
    config.modules.meta_manager.meta_server.hub.enable |= as_hub;
    hub_form(&mut config);
    daemon::config::tell(file, &warnings(&config), &[]);
    let checked = Settings::check(&config, file);
    let problems = checked.as_ref().err().map(|bad| bad.0.clone()).unwrap_or_default();
    let checked = match review.problems.is_empty() {
        true => checked,
        false => Err(BadSettings([review.problems, problems].concat())),
    };
    checked.with_context(|| format!("configuration file {}", file.display()))
}

/// A configuration file: with all defaults, or with the keys most installations set.
///
/// # Errors
/// Never in practice: what cannot be written as YAML.
pub fn example(minimal: bool) -> anyhow::Result<String> {
    let config = EdgeCoreConfig::default();
    let text = if minimal {
        daemon::config::to_yaml(&serde_json::json!({
            "apiVersion": config.api_version,
            "kind": config.kind,
            "database": {"dataSource": config.database.data_source},
            "modules": {
                "edged": {"hostnameOverride": "edge-1", "tailoredKubeletConfig": {
                    "containerRuntimeEndpoint": config.modules.edged.tailored_kubelet_config.container_runtime_endpoint,
                }},
                "edgeHub": {
                    "httpServer": config.modules.edge_hub.http_server,
                    "websocket": config.modules.edge_hub.websocket,
                    "token": "",
                },
            },
        }))
    } else {
        daemon::config::to_yaml(&config)
    };
    text.map_err(anyhow::Error::msg)
}
