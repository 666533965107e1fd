//! A pod of a StatefulSet, with its name and its claims.

use apimachinery::object::{self, list, map_in, text};
use serde_json::{Value, json};

use super::KIND;
use crate::{pods, revisions};

/// The number of a pod, if its name is one of the set's.
pub(super) fn ordinal(set: &Value, pod: &Value) -> Option<i64> {
    let number = object::name(pod).strip_prefix(object::name(set))?.strip_prefix('-')?;
    number.parse().ok().filter(|ordinal: &i64| ordinal.to_string() == number)
}

fn claim_name(set: &Value, template: &Value, ordinal: i64) -> String {
    format!("{}-{}-{ordinal}", object::name(template), object::name(set))
}

/// The claims of a number.
pub(super) fn claims(set: &Value, ordinal: i64) -> Vec<Value> {
    let templates = list(set, "/spec/volumeClaimTemplates").iter();
    templates
        .map(|template| {
            let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {}, "spec": template["spec"]});
            for field in ["labels", "annotations"] {
                if template["metadata"][field].is_object() {
                    claim["metadata"][field] = template["metadata"][field].clone();
                }
            }
            let metadata = object::metadata(&mut claim);
            metadata.insert("name".to_owned(), json!(claim_name(set, template, ordinal)));
            metadata.insert("namespace".to_owned(), json!(object::namespace(set)));
            let labels = set["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
            for (name, value) in labels {
                map_in(metadata, "labels").insert(name.clone(), value.clone());
            }
            claim
        })
        .collect()
}

pub(super) fn made(set: &Value, template: &Value, ordinal: i64, revision: &str) -> Value {
    let mut pod = pods::from_template(KIND, set, template);
    let name = format!("{}-{ordinal}", object::name(set));
    let metadata = object::metadata(&mut pod);
    metadata.remove("generateName");
    metadata.insert("name".to_owned(), json!(name));
    pods::label(&mut pod, "statefulset.kubernetes.io/pod-name", &name);
    pods::label(&mut pod, "apps.kubernetes.io/pod-index", &ordinal.to_string());
    pods::label(&mut pod, revisions::HASH, revision);
    pod["spec"]["hostname"] = json!(name);
    let service = text(set, "/spec/serviceName");
    if !service.is_empty() {
        pod["spec"]["subdomain"] = json!(service);
    }
    let templates = list(set, "/spec/volumeClaimTemplates");
    let mut volumes = list(&pod, "/spec/volumes").to_vec();
    volumes
        .retain(|volume| !templates.iter().any(|template| object::name(template) == text(volume, "/name")));
    volumes.extend(templates.iter().map(|template| {
        let claim = json!({"claimName": claim_name(set, template, ordinal)});
        json!({"name": object::name(template), "persistentVolumeClaim": claim})
    }));
    if !volumes.is_empty() {
        pod["spec"]["volumes"] = Value::Array(volumes);
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_its_number_in_its_name_its_host_name_and_its_claims() {
        let set = json!({"metadata": {"name": "db", "namespace": "n", "uid": "s"}, "spec": {"serviceName": "dbs",
            "selector": {"matchLabels": {"app": "db"}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]}});
        let template = json!({"metadata": {"labels": {"app": "db"}}, "spec": {"volumes": [{"name": "data", "emptyDir": {}}]}});
        let pod = made(&set, &template, 2, "db-x");
        assert_eq!(
            (object::name(&pod), &pod["spec"]["hostname"], &pod["spec"]["subdomain"]),
            ("db-2", &json!("db-2"), &json!("dbs"))
        );
        assert_eq!(
            pod["spec"]["volumes"],
            json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-2"}}])
        );
        let claims = claims(&set, 2);
        assert_eq!(
            (object::name(&claims[0]), &claims[0]["metadata"]["labels"]["app"]),
            ("data-db-2", &json!("db"))
        );
        assert_eq!(ordinal(&set, &pod), Some(2));
        assert_eq!(ordinal(&set, &json!({"metadata": {"name": "db-02"}})), None);
    }
}
