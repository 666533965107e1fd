//! Files that people have from KubeEdge 1.13 to 1.23: every key of each is obeyed, refused, warned of or in the line of
//! harmless ones. A key without a verdict would be called misspelt.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeMap;
use std::path::Path;

use api::config::cloudcore::CloudCoreConfig;
use api::config::edgecore::EdgeCoreConfig;
use api::config::keys::{self, CLOUDCORE, EDGECORE, KeyUse, Rule};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a version writes otherwise than the one before it.
#[derive(Deserialize)]
struct Later {
    #[serde(default)]
    set: BTreeMap<String, Value>,
    #[serde(default)]
    gone: Vec<String>,
}

/// The file of each version: KubeEdge 1.13's, and what became of it.
fn versions(first: &str, later: &str) -> Vec<(String, Value)> {
    let mut file: Value = serde_saphyr::from_str(first).unwrap();
    let mut all = vec![("1.13".to_owned(), file.clone())];
    let later: BTreeMap<String, Later> = serde_saphyr::from_str(later).unwrap();
    for (version, changes) in later {
        for key in &changes.gone {
            let (above, name) = key.rsplit_once('.').unwrap();
            assert!(map(&mut file, above).remove(name).is_some(), "{version}: {key} was not there");
        }
        for (key, value) in changes.set {
            match key.rsplit_once('.') {
                Some((above, name)) => map(&mut file, above).insert(name.to_owned(), value),
                None => file.as_object_mut().unwrap().insert(key, value),
            };
        }
        all.push((version, file.clone()));
    }
    all
}

fn map<'a>(file: &'a mut Value, path: &str) -> &'a mut Map<String, Value> {
    let place = path.split('.').fold(file, |at, name| {
        let fields = at.as_object_mut().unwrap();
        fields.entry(name).or_insert_with(|| Value::Object(Map::new()))
    });
    place.as_object_mut().unwrap()
}

/// Keys that are written without a value: a reader passes over them before they are judged.
fn without_value(value: &Value, at: &str, found: &mut Vec<String>) {
    for (key, inner) in value.as_object().into_iter().flatten() {
        let name = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        match inner {
            Value::Null => found.push(name),
            inner => without_value(inner, &name, found),
        }
    }
}

/// Keys without a verdict, and what else is said of the file.
fn judged<T>(rules: &'static [Rule], file: &Value) -> (T, Vec<String>, keys::Review)
where
    T: DeserializeOwned + Serialize + Default,
{
    let text = serde_json::to_string(file).unwrap();
    let (config, unused) = daemon::config::parse_kind::<T>(&text, Path::new("file.yaml")).unwrap();
    let of = |key: &str, value: &Value| keys::judge(rules, key, value) == KeyUse::Unknown;
    let mut unknown: Vec<String> = unused
        .iter()
        .filter(|unused| of(&unused.key, &unused.value))
        .map(|unused| unused.key.clone())
        .collect();
    let fields = serde_json::to_value(T::default()).unwrap();
    let mut empty = Vec::new();
    without_value(file, "", &mut empty);
    let is_field = |key: &str| key.split('.').try_fold(&fields, |at, name| at.get(name)).is_some();
    unknown.extend(empty.into_iter().filter(|key| !is_field(key) && of(key, &Value::Null)));
    let review = keys::review(rules, unused.iter().map(|unused| (unused.key.as_str(), &unused.value)));
    (config, unknown, review)
}

#[test]
fn every_key_of_every_edgecore_has_a_verdict_and_the_defaults_pass_without_a_word() {
    let all =
        versions(include_str!("kubeedge/edgecore-1.13.yaml"), include_str!("kubeedge/edgecore-later.yaml"));
    assert_eq!(all.len(), 11);
    for (version, file) in all {
        let (config, unknown, review) = judged::<EdgeCoreConfig>(EDGECORE, &file);
        assert_eq!(unknown, Vec::<String>::new(), "EdgeCore {version}");
        assert!(review.warnings.is_empty() && review.problems.is_empty(), "EdgeCore {version}: {review:?}");
        assert_eq!(config.modules.edged.hostname_override, "edge-1");
    }
}

#[test]
fn every_key_of_every_cloudcore_has_a_verdict_and_the_defaults_pass_without_a_word() {
    let all =
        versions(include_str!("kubeedge/cloudcore-1.13.yaml"), include_str!("kubeedge/cloudcore-later.yaml"));
    assert_eq!(all.len(), 7);
    for (version, file) in all {
        let (_, unknown, review) = judged::<CloudCoreConfig>(CLOUDCORE, &file);
        assert_eq!(unknown, Vec::<String>::new(), "CloudCore {version}");
        assert!(review.problems.is_empty(), "CloudCore {version}: {review:?}");
        assert!(review.warnings.is_empty(), "CloudCore {version}: {review:?}");
    }
}

#[test]
fn what_edgecores_before_1_18_say_beside_the_kubelets_settings_is_obeyed() {
    let text = "apiVersion: edgecore.config.kubeedge.io/v1alpha2\nkind: EdgeCore\nmodules:\n  edged:\n    registerNode: false\n    \
                registerWithTaints: [{key: a, effect: NoSchedule}]\n    seccompProfileRoot: /elsewhere\n";
    let file: Value = serde_saphyr::from_str(text).unwrap();
    let (config, unknown, review) = judged::<EdgeCoreConfig>(EDGECORE, &file);
    assert!(unknown.is_empty() && review.problems.is_empty(), "{unknown:?} {review:?}");
    assert!(!config.modules.edged.register_node);
    assert_eq!(config.modules.edged.register_with_taints[0].key, "a");
    assert_eq!(review.warnings[0].0, "modules.edged.seccompProfileRoot");
}
