//! What selectors look at: labels and selectable fields.

use std::collections::BTreeMap;

use crate::object::{at, integer, text};
use crate::{FieldSelector, LabelSelector};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traits {
    pub labels: BTreeMap<String, String>,
    pub fields: BTreeMap<String, String>,
}

/// Fields besides `metadata.name` and `metadata.namespace` that can be selected by, per resource.
fn selectable(resource: &str) -> &'static [&'static str] {
    match resource {
        "pods" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "nodes" => &["spec.unschedulable"],
        "namespaces" => &["status.phase"],
        "secrets" => &["type"],
        "services" => &["spec.clusterIP", "spec.type"],
        "events" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "reportingController",
            "source",
            "type",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
        ],
        "jobs.batch" => &["status.successful"],
        "resourceslices.resource.k8s.io" => &["spec.nodeName", "spec.driver"],
        "certificatesigningrequests.certificates.k8s.io" => &["spec.signerName"],
        _ => &[],
    }
}

/// Why objects of `resource` cannot be selected by `field`; `None` if they can.
pub fn why_not_by(resource: &str, field: &str) -> Option<String> {
    if matches!(field, "metadata.name" | "metadata.namespace") || selectable(resource).contains(&field) {
        return None;
    }
    Some(match selectable(resource) {
        [] => {
            format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
        _ if resource == "jobs.batch" => format!("field label {field:?} not supported for Job"),
        _ => format!("field label not supported: {field}"),
    })
}

impl Traits {
    pub fn of(resource: &str, object: &Value) -> Traits {
        let labels = at(object, "/metadata/labels").and_then(Value::as_object).into_iter().flatten();
        let labels =
            labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
        let mut fields = BTreeMap::new();
        for field in ["metadata.name", "metadata.namespace"].iter().chain(selectable(resource)) {
            // The name that events.k8s.io has for it.
            let mut parts =
                field.split('.').map(|part| if part == "regarding" { "involvedObject" } else { part });
            let value = parts.try_fold(object, |value, part| value.get(part));
            let reporter = || text(object, "/reportingComponent").to_owned();
            let value = match (value, *field) {
                // An event of the newer form names who reports it only (`pkg/registry/core/event/strategy.go`).
                (_, "source") => match text(object, "/source/component") {
                    "" => reporter(),
                    component => component.to_owned(),
                },
                (_, "reportingController") => reporter(),
                (Some(Value::String(text)), _) => text.clone(),
                (Some(Value::Bool(flag)), _) => flag.to_string(),
                (None, "spec.unschedulable" | "spec.hostNetwork") => "false".to_owned(),
                (_, "status.successful") => integer(object, "/status/succeeded").unwrap_or(0).to_string(),
                _ => continue,
            };
            fields.insert((*field).to_owned(), value);
        }
        Traits { labels, fields }
    }

    /// With fields of the object that have no place in the traits of all such objects, as definitions of custom resources name them.
    #[must_use]
    pub fn with_fields<'a>(mut self, object: &Value, fields: impl Iterator<Item = &'a str>) -> Traits {
        for field in fields {
            let value = field.split('.').try_fold(object, |value, part| value.get(part));
            let text = match value {
                Some(Value::String(text)) => text.clone(),
                Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
                _ => continue,
            };
            self.fields.entry(field.to_owned()).or_insert(text);
        }
        self
    }

    /// True if objects of `resource` have their traits in `fields`, and no others are asked about.
    pub fn are_enough(resource: &str, fields: &FieldSelector) -> bool {
        fields.fields().all(|field| why_not_by(resource, field).is_none())
    }

    pub fn match_selectors(&self, labels: &LabelSelector, fields: &FieldSelector) -> bool {
        labels.matches(&self.labels) && fields.matches(&self.fields)
    }
}
