//! Resources that other servers serve, as they tell of them.

use serde_json::{Value, json};

use apimachinery::object::text;

/// A version of a group that another server serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Elsewhere {
    pub group: String,
    pub version: String,
    /// `resources` of its APIResourceList, when it was last asked.
    pub resources: Vec<Value>,
    /// It cannot be asked now.
    pub is_stale: bool,
}

impl Elsewhere {
    /// Each resource with its subresources, and the same in the form of aggregated discovery.
    pub(crate) fn listed(&self) -> Vec<(Vec<Value>, Value)> {
        let whole = self.resources.iter().filter(|one| !text(one, "/name").contains('/'));
        whole.map(|one| self.described(one)).collect()
    }

    fn described(&self, main: &Value) -> (Vec<Value>, Value) {
        let prefix = format!("{}/", text(main, "/name"));
        let subresources =
            self.resources.iter().filter_map(|one| Some((text(one, "/name").strip_prefix(&prefix)?, one)));
        let subresources: Vec<(&str, &Value)> = subresources.collect();
        let mut aggregated = json!({
            "resource": main["name"], "responseKind": self.kind(main), "singularResource": text(main, "/singularName"),
            "scope": if main["namespaced"] == true { "Namespaced" } else { "Cluster" }, "verbs": main["verbs"],
        });
        for field in ["shortNames", "categories"] {
            if main[field].is_array() {
                aggregated[field] = main[field].clone();
            }
        }
        let nested = subresources.iter().map(|(name, one)| {
            json!({ "subresource": name, "responseKind": self.kind(one), "verbs": one["verbs"] })
        });
        let nested: Vec<Value> = nested.collect();
        if !nested.is_empty() {
            aggregated["subresources"] = json!(nested);
        }
        let classic = std::iter::once(main).chain(subresources.iter().map(|(_, one)| *one));
        (classic.cloned().collect(), aggregated)
    }

    fn kind(&self, one: &Value) -> Value {
        let or = |field: &str, own: &str| match text(one, field) {
            "" => own.to_owned(),
            said => said.to_owned(),
        };
        json!({ "group": or("/group", &self.group), "version": or("/version", &self.version), "kind": text(one, "/kind") })
    }
}
