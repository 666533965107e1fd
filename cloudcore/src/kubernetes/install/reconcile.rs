//! What to make of a definition that the cluster has already. Pure.

use kube::core::Version;
use serde_json::Value;

/// Annotation with the number of the schema that a CloudCore wrote.
pub(super) const SCHEMA: &str = "causeway.io/schema";
/// That of `manifests/crds`, whose files have it; raised with each change of them.
pub(super) const OURS: u64 = 1;

#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// It is as it should be.
    Keep,
    /// A newer CloudCore, or a newer KubeEdge, wrote it.
    Leave,
    Replace(Value),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster has it with newer versions ({found}), which do not serve {wanted}")]
pub struct Incompatible {
    found: String,
    wanted: String,
}

/// `ours` over `existing`. A version that objects may be stored in is never taken away: an older one is kept and served
/// as before, and a definition with newer ones is left alone if it still serves ours.
pub(super) fn reconcile(existing: &Value, ours: &Value) -> Result<Action, Incompatible> {
    let schema = existing["metadata"]["annotations"][SCHEMA].as_str().and_then(|text| text.parse().ok());
    let (has, wanted) = (names(existing), names(ours));
    let newest = wanted.iter().map(|name| Version::parse(name).priority()).max();
    let is_newer = |name: &str| !wanted.contains(&name) && Some(Version::parse(name).priority()) > newest;
    if schema.is_some_and(|schema: u64| schema > OURS) || has.iter().any(|name| is_newer(name)) {
        if wanted.iter().all(|name| has.contains(name)) {
            return Ok(Action::Leave);
        }
        return Err(Incompatible { found: has.join(", "), wanted: wanted.join(", ") });
    }
    let mut merged = ours.clone();
    let older = versions(existing).filter(|version| !wanted.contains(&name_of(version)));
    let older: Vec<Value> = older
        .map(|version| {
            let mut version = version.clone();
            version["storage"] = Value::Bool(false);
            version
        })
        .collect();
    if let Some(versions) = merged["spec"]["versions"].as_array_mut() {
        versions.extend(older);
    }
    Ok(if holds(existing, &merged) { Action::Keep } else { Action::Replace(merged) })
}

/// True if objects of every version of `ours` can be asked for.
pub(super) fn serves(existing: &Value, ours: &Value) -> bool {
    let is_served = |wanted: &str| {
        versions(existing).any(|version| name_of(version) == wanted && version["served"] == true)
    };
    names(ours).into_iter().all(is_served)
}

/// True if a merge with `wanted` would change nothing but what the API server fills in.
fn holds(existing: &Value, wanted: &Value) -> bool {
    match (existing, wanted) {
        (Value::Object(has), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| has.get(key).is_some_and(|has| holds(has, wanted)))
        }
        (Value::Array(has), Value::Array(wanted)) => {
            has.len() == wanted.len() && has.iter().zip(wanted).all(|(has, wanted)| holds(has, wanted))
        }
        (has, wanted) => has == wanted,
    }
}

fn versions(definition: &Value) -> impl Iterator<Item = &Value> {
    definition["spec"]["versions"].as_array().into_iter().flatten()
}

fn name_of(version: &Value) -> &str {
    version["name"].as_str().unwrap_or_default()
}

fn names(definition: &Value) -> Vec<&str> {
    versions(definition).map(name_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition(schema: Option<u64>, versions: &[(&str, bool)]) -> Value {
        let versions: Vec<Value> =
            versions.iter().map(|(name, storage)| json!({"name": name, "storage": storage})).collect();
        let mut definition = json!({"spec": {"versions": versions}});
        if let Some(schema) = schema {
            definition["metadata"]["annotations"][SCHEMA] = schema.to_string().into();
        }
        definition
    }

    #[test]
    fn the_definitions_carry_the_number_of_their_schema() {
        for (name, yaml) in api::crds::ALL {
            let definition: Value = serde_saphyr::from_str(yaml).unwrap();
            assert_eq!(definition["metadata"]["annotations"][SCHEMA], OURS.to_string(), "{name}");
        }
    }

    #[test]
    fn what_is_as_it_should_be_is_kept_and_a_field_that_is_another_is_not() {
        let ours = definition(Some(OURS), &[("v1beta1", true)]);
        let mut filled = ours.clone();
        filled["spec"]["versions"][0]["deprecated"] = false.into();
        filled["status"]["storedVersions"] = json!(["v1beta1"]);
        assert_eq!(reconcile(&filled, &ours), Ok(Action::Keep));
        filled["spec"]["versions"][0]["storage"] = false.into();
        assert_eq!(reconcile(&filled, &ours), Ok(Action::Replace(ours.clone())));
        assert!(!serves(&filled, &ours));
        filled["spec"]["versions"][0]["served"] = true.into();
        assert!(serves(&filled, &ours));
    }

    #[test]
    fn what_a_newer_program_wrote_is_left_alone() {
        let ours = definition(Some(OURS), &[("v1beta1", true)]);
        let newer_schema = definition(Some(OURS + 1), &[("v1beta1", true)]);
        assert_eq!(reconcile(&newer_schema, &ours), Ok(Action::Leave));
        let newer_version = definition(None, &[("v1beta1", false), ("v1", true)]);
        assert_eq!(reconcile(&newer_version, &ours), Ok(Action::Leave));
        assert!(reconcile(&definition(None, &[("v1", true)]), &ours).is_err());
    }

    #[test]
    fn what_an_older_program_wrote_is_replaced_and_no_version_is_taken_away() {
        let ours = definition(Some(OURS), &[("v1beta1", true)]);
        let same = definition(None, &[("v1beta1", true)]);
        assert_eq!(reconcile(&same, &ours), Ok(Action::Replace(ours.clone())));
        let older = definition(None, &[("v1alpha2", true)]);
        let merged = definition(Some(OURS), &[("v1beta1", true), ("v1alpha2", false)]);
        assert_eq!(reconcile(&older, &ours), Ok(Action::Replace(merged)));
    }
}
