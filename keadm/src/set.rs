//! `--set key.path=value`: strict changes to a configuration.

use anyhow::{Context, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Applies every `path=value` to `config`. The path must exist (free-form maps accept new keys); the value is read as
/// JSON, else as a string.
pub fn apply<T: Serialize + DeserializeOwned>(config: &T, assignments: &[String]) -> anyhow::Result<T> {
    let mut value = serde_json::to_value(config).context("reading the configuration")?;
    for assignment in assignments {
        let (path, text) = assignment
            .split_once('=')
            .with_context(|| format!("--set {assignment:?}: wanted key.path=value"))?;
        let new = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        *slot(&mut value, path)? = new;
    }
    serde_json::from_value(value).context("--set gives a value of the wrong type")
}

fn slot<'a>(value: &'a mut Value, path: &str) -> anyhow::Result<&'a mut Value> {
    let mut at = value;
    for part in path.split('.') {
        let Value::Object(fields) = at else {
            bail!("--set {path}: {part:?} is below a value that has no keys")
        };
        let free_form = fields.is_empty();
        if !fields.contains_key(part) && !free_form {
            let known: Vec<&str> = fields.keys().map(String::as_str).collect();
            bail!("--set {path}: there is no key {part:?}; there are {}", known.join(", "));
        }
        at = fields.entry(part).or_insert(Value::Null);
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::config::edgecore::EdgeCoreConfig;

    #[test]
    fn a_known_path_is_set_and_an_unknown_one_is_named() {
        let config = EdgeCoreConfig::default();
        let set = |text: &str| apply(&config, &[text.to_owned()]);
        assert_eq!(set("modules.edgeHub.heartbeat=5").unwrap().modules.edge_hub.heartbeat, 5);
        assert_eq!(
            set("modules.edgeHub.websocket.server=h:1").unwrap().modules.edge_hub.websocket.server,
            "h:1"
        );
        let error = set("modules.edgeHub.hartbeat=5").unwrap_err().to_string();
        assert!(error.contains("hartbeat") && error.contains("heartbeat"), "{error}");
        assert!(set("modules.edgeHub.heartbeat=often").is_err());
        assert!(set("nonsense").is_err());
    }
}
