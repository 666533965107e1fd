//! What the cloud pushes, as the events of one watch. Pure.
//!
//! A KubeEdge cloud sends the newest of each object when its turn comes, so the order is not that of the versions. What comes is
//! held back for a moment and told in order; what comes too late for that, and what cannot be told, puts the watch in doubt: whoever
//! follows has to list.

use std::collections::HashMap;
use std::fmt::Write as _;

use apimachinery::kinds::{ObjectKind, split_api_version};
use apimachinery::traits::Traits;
use apimachinery::{FieldSelector, LabelSelector, Status};
use message::Application;
use metamanager::pushes::Pushed;
use serde_json::Value;

/// Objects of which it is remembered what was told last, so that a copy is no doubt.
const REMEMBERED: usize = 4096;
/// Events that are held back at once, and their bytes.
const HELD: usize = 256;
const HELD_BYTES: usize = 1024 * 1024;

/// What is watched.
pub(super) struct Selection {
    group: String,
    version: String,
    /// As in paths.
    plural: String,
    namespace: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    /// # Errors
    /// 400 for what does not read.
    pub(super) fn of(application: &Application) -> Result<Selection, Status> {
        let bad = |error: String| Status::new(400, "BadRequest", error);
        let (resource, namespace) = application.resource()?;
        let (labels, fields) = application.selectors()?;
        Ok(Selection {
            group: resource.group,
            version: resource.version,
            plural: resource.resource,
            namespace,
            labels: LabelSelector::parse(&labels.unwrap_or_default())
                .map_err(|error| bad(error.to_string()))?,
            fields: FieldSelector::parse(&fields.unwrap_or_default())
                .map_err(|error| bad(error.to_string()))?,
        })
    }

    /// Why a KubeEdge cloud never pushes anything for it (`pkg/metaserver/util`, `UnstructuredAttr`); `None` if it does.
    pub(super) fn why_never_pushed(&self) -> Option<&'static str> {
        let is_pods = self.group.is_empty() && self.plural == "pods";
        if is_pods && self.namespace.is_some() {
            return Some("it matches pods of a namespace never");
        }
        let known = |field: &str| match field {
            "metadata.name" => true,
            "metadata.namespace" => !is_pods,
            "spec.nodeName" => is_pods,
            _ => false,
        };
        (!self.fields.fields().all(known)).then_some("it does not look at these fields")
    }

    /// As keys of stored objects name it.
    fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    fn is_of(&self, kind: &ObjectKind, api_version: &str) -> bool {
        let has_version = api_version.is_empty()
            || split_api_version(api_version) == (self.group.as_str(), self.version.as_str());
        let is_it = kind.resource().is_some_and(|of| of.group == self.group && of.resource == self.plural);
        has_version && is_it
    }
}

/// What a pushed object is to the watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// None of it, or known.
    Nothing,
    /// An event, held back.
    Held,
    /// Not to be told in order.
    Doubt,
}

/// The events of one watch.
pub(super) struct Feed {
    of: Selection,
    /// Whoever follows knows all up to here by his list.
    since: i64,
    /// Everything up to here was told, as far as it came.
    told: i64,
    /// Version of what was taken in last, by namespace and name.
    last: HashMap<(String, String), i64>,
    held: Vec<(i64, String)>,
    bytes: usize,
}

impl Feed {
    pub(super) fn new(of: Selection, since: i64) -> Feed {
        Feed { of, since, told: since, last: HashMap::new(), held: Vec::new(), bytes: 0 }
    }

    pub(super) fn take(&mut self, pushed: &Pushed) -> Heard {
        let Ok(object) = pushed.object.parse::<Value>() else { return Heard::Nothing };
        let text = |place: &str| object.pointer(place).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (text("/apiVersion"), text("/kind"));
        let named = ObjectKind::of_object(api_version, &kind.to_lowercase());
        let is_of = if kind.is_empty() {
            self.of.is_of(&pushed.key.kind, api_version)
        } else {
            self.of.is_of(&named, api_version)
        };
        let namespace = pushed.key.namespace.clone().unwrap_or_default();
        if !is_of || self.of.namespace.as_ref().is_some_and(|of| *of != namespace) {
            return Heard::Nothing;
        }
        let Ok(version) = text("/metadata/resourceVersion").parse::<i64>() else { return Heard::Doubt };
        let place = (namespace, pushed.key.name.clone());
        if version <= self.since || self.last.get(&place).is_some_and(|last| *last >= version) {
            return Heard::Nothing;
        }
        let resource = self.of.resource();
        if version <= self.told || !Traits::are_enough(&resource, &self.of.fields) {
            return Heard::Doubt;
        }
        if self.last.len() >= REMEMBERED || self.bytes > HELD_BYTES || self.held.len() >= HELD {
            return Heard::Doubt;
        }
        let is_selected = Traits::of(&resource, &object).match_selectors(&self.of.labels, &self.of.fields);
        let event = if pushed.is_gone || !is_selected { "DELETED" } else { "MODIFIED" };
        let mut line = String::with_capacity(pushed.object.text().len() + 40);
        // Writing to a string does not fail.
        let _ = writeln!(line, "{{\"type\":\"{event}\",\"object\":{}}}", one_line(pushed.object.text()));
        self.bytes += line.len();
        self.held.push((version, line));
        self.last.insert(place, version);
        Heard::Held
    }

    /// What was held back, in order.
    pub(super) fn lines(&mut self) -> String {
        self.held.sort_by_key(|(version, _)| *version);
        self.told = self.held.last().map_or(self.told, |(version, _)| *version);
        self.bytes = 0;
        self.held.drain(..).map(|(_, line)| line).collect()
    }
}

/// A line break is whitespace between the parts of a JSON text, and nothing else.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use message::{ApiCall, Json, NodeName, ObjectKey};
    use serde_json::json;

    use super::*;

    fn selection(path: &str) -> Selection {
        let (media, body) = (String::new(), Vec::new());
        let call = ApiCall { method: "GET", path: path.to_owned(), media, body };
        let application = call.application(&NodeName::new("e1").unwrap(), |_| false).unwrap();
        assert_eq!(application.verb, "watch");
        Selection::of(&application).unwrap()
    }

    fn service(name: &str, version: i64) -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "d",
            "resourceVersion": version.to_string(), "labels": {"a": "b"}}})
    }

    fn pushed(path: &str, object: &Value, is_gone: bool) -> Pushed {
        let api_version = object["apiVersion"].as_str().unwrap_or_default();
        Pushed { key: ObjectKey::parse_with(path, api_version).unwrap(), object: Json::of(object), is_gone }
    }

    fn put(name: &str, version: i64) -> Pushed {
        pushed(&format!("d/service/{name}"), &service(name, version), false)
    }

    /// `MODIFIED a 12`
    fn told(feed: &mut Feed) -> Vec<String> {
        let brief = |line: &str| {
            let event: Value = serde_json::from_str(line).unwrap();
            let of = |value: &Value| value.as_str().unwrap().to_owned();
            let metadata = &event["object"]["metadata"];
            [of(&event["type"]), of(&metadata["name"]), of(&metadata["resourceVersion"])].join(" ")
        };
        feed.lines().lines().map(brief).collect()
    }

    #[test]
    fn what_comes_out_of_order_is_told_in_order_and_what_is_late_is_a_doubt() {
        let mut feed = Feed::new(selection("/api/v1/services?watch=1"), 10);
        assert_eq!(feed.take(&put("old", 10)), Heard::Nothing, "listed");
        assert_eq!(feed.take(&put("a", 14)), Heard::Held);
        assert_eq!(feed.take(&put("b", 12)), Heard::Held);
        assert_eq!(feed.take(&put("b", 12)), Heard::Nothing, "a copy");
        assert_eq!(told(&mut feed), ["MODIFIED b 12", "MODIFIED a 14"]);
        assert_eq!(feed.take(&put("a", 14)), Heard::Nothing, "a copy of what was told");
        assert_eq!(feed.take(&put("c", 13)), Heard::Doubt);
        assert_eq!(feed.take(&pushed("d/service/a", &service("a", 15), true)), Heard::Held);
        assert_eq!(told(&mut feed), ["DELETED a 15"]);
        // SyncController says only which one it is.
        let stub = json!({"metadata": {"name": "b", "namespace": "d", "uid": "u"}});
        assert_eq!(feed.take(&pushed("d/service/b", &stub, true)), Heard::Doubt);
    }

    #[test]
    fn an_object_is_of_the_watch_by_its_resource_namespace_and_selectors() {
        let mut feed = Feed::new(selection("/api/v1/namespaces/d/services?watch=1&labelSelector=a%3Db"), 10);
        let mut other = service("x", 11);
        other["metadata"]["labels"] = json!({});
        assert_eq!(feed.take(&pushed("d/service/x", &other, false)), Heard::Held);
        assert_eq!(told(&mut feed), ["DELETED x 11"], "it left the selection");
        assert_eq!(feed.take(&pushed("e/service/x", &service("x", 12), false)), Heard::Nothing);
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "resourceVersion": "13"}});
        assert_eq!(feed.take(&pushed("d/configmap/x", &map, false)), Heard::Nothing);
        // KubeEdge's word for a kind may be no kind's name.
        let mut leases = Feed::new(selection("/apis/coordination.k8s.io/v1/leases?watch=1"), 10);
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l",
            "namespace": "d", "resourceVersion": "14"}});
        assert_eq!(leases.take(&pushed("d/leases/l", &lease, false)), Heard::Held);
        let mut custom = Feed::new(selection("/apis/x.io/v1/valves?watch=1"), 10);
        let valve = json!({"apiVersion": "x.io/v1", "kind": "Valve", "metadata": {"name": "v", "namespace": "d",
            "resourceVersion": "14"}});
        assert_eq!(custom.take(&pushed("d/valve/v", &valve, false)), Heard::Held);
    }

    #[test]
    fn what_such_a_cloud_never_pushes_is_known() {
        let why = |path: &str| selection(path).why_never_pushed().is_some();
        assert!(!why("/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3De1"));
        assert!(!why("/api/v1/namespaces/d/configmaps?watch=1&fieldSelector=metadata.name%3Dc"));
        assert!(why("/api/v1/namespaces/d/pods?watch=1"));
        assert!(why("/api/v1/pods?watch=1&fieldSelector=status.phase%3DRunning"));
        assert!(why("/api/v1/nodes?watch=1&fieldSelector=spec.unschedulable%3Dtrue"));
    }

    #[test]
    fn what_is_held_and_remembered_is_bounded() {
        let mut feed = Feed::new(selection("/api/v1/services?watch=1"), 0);
        for at in 1..=HELD as i64 {
            assert_eq!(feed.take(&put(&at.to_string(), at)), Heard::Held);
        }
        assert_eq!(feed.take(&put("more", 9000)), Heard::Doubt);
    }
}
