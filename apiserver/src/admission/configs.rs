//! ConfigMaps and Secrets.

use apimachinery::object::{self, set_default, text};
use apimachinery::{Cause, names};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Moves `stringData` into `data` and sets the type.
pub(super) fn secret(value: &mut Value) {
    let map = object::as_map(value);
    set_default(map, "type", "Opaque");
    let Some(Value::Object(plain)) = map.remove("stringData") else { return };
    let data = object::map_in(map, "data");
    for (key, value) in plain {
        data.insert(key, json!(STANDARD.encode(value.as_str().unwrap_or_default())));
    }
}

/// Kubernetes' limit for the data of one ConfigMap or Secret.
const MAX_DATA: usize = 1024 * 1024;

pub(super) fn problems(value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut size = 0;
    let secret = value.get("type").is_some();
    for field in ["data", "binaryData"] {
        let pairs = match value.get(field) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(pairs)) => pairs,
            Some(other) => {
                causes.push(Cause::type_invalid(field, other, "must be a map"));
                continue;
            }
        };
        for (key, value) in pairs {
            let path = format!("{field}[{key}]");
            if let Some(why) = names::config_key(key) {
                causes.push(Cause::invalid(path.clone(), &json!(key), &why));
            }
            match value.as_str() {
                None => causes.push(Cause::type_invalid(path, value, "must be a string")),
                Some(text) if (secret || field == "binaryData") && STANDARD.decode(text).is_err() => {
                    causes.push(Cause::invalid(path, &json!("<omitted>"), "must be base64"));
                }
                Some(text) => size += text.len(),
            }
        }
    }
    for key in value["data"].as_object().into_iter().flatten().map(|(key, _)| key) {
        if value["binaryData"].get(key).is_some() {
            causes.push(Cause::invalid(
                format!("data[{key}]"),
                &json!(key),
                "duplicate of key present in binaryData",
            ));
        }
    }
    if secret {
        typed(value, &mut causes);
    }
    if size > MAX_DATA {
        causes.push(Cause::too_long("data", MAX_DATA));
    }
    causes
}

/// What secrets of known types must hold (`ValidateSecret`).
fn typed(value: &Value, causes: &mut Vec<Cause>) {
    let data = &value["data"];
    let mut needs = |keys: &[&str]| {
        if keys.iter().all(|key| data.get(*key).is_none()) {
            causes.extend(keys.iter().map(|key| Cause::required(format!("data[{key}]"), "")));
        }
    };
    match text(value, "/type") {
        "kubernetes.io/tls" => {
            needs(&["tls.crt"]);
            needs(&["tls.key"]);
        }
        "kubernetes.io/ssh-auth" => needs(&["ssh-privatekey"]),
        "kubernetes.io/basic-auth" => needs(&["username", "password"]),
        "kubernetes.io/dockerconfigjson" => {
            needs(&[".dockerconfigjson"]);
            json_in(data, ".dockerconfigjson", causes);
        }
        "kubernetes.io/dockercfg" => {
            needs(&[".dockercfg"]);
            json_in(data, ".dockercfg", causes);
        }
        "kubernetes.io/service-account-token" => {
            let account = value.pointer("/metadata/annotations/kubernetes.io~1service-account.name");
            if account.and_then(Value::as_str).unwrap_or_default().is_empty() {
                let field = "metadata.annotations[kubernetes.io/service-account.name]";
                causes.push(Cause::required(field, ""));
            }
        }
        _ => {}
    }
}

fn json_in(data: &Value, key: &str, causes: &mut Vec<Cause>) {
    let Some(bytes) = data[key].as_str().and_then(|text| STANDARD.decode(text).ok()) else { return };
    if let Err(error) = serde_json::from_slice::<Value>(&bytes) {
        let hidden = json!("<secret contents redacted>");
        causes.push(Cause::invalid(format!("data[{key}]"), &hidden, &error.to_string()));
    }
}

pub(super) fn changes(old: &Value, new: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if old["immutable"] == true {
        for field in ["data", "binaryData", "immutable"] {
            if old.get(field) != new.get(field) {
                causes.push(Cause::forbidden(field, "field is immutable when `immutable` is set"));
            }
        }
    }
    if old.get("type").is_some() && old.get("type") != new.get("type") {
        causes.push(Cause::invalid("type", &new["type"], "field is immutable"));
    }
    causes
}
