//! Writes of the node itself that are taken while it is cut off: written down, shown to who reads here, and carried out in their
//! order once the cloud is there, as the node. Pure; the database is `tables/queue`, what drives both `queueing`.
//!
//! Only kinds that the configuration declares, and only of the node itself: its own status and lease, the status of its pods, and
//! events. Everything else is refused while the node is cut off.

use apimachinery::patch::{self, PatchKind};
use apimachinery::schemas::Type;
use apimachinery::{Status, object};
use http::Method;
use kubeapi::stored::Stored;
use kubeapi::target::Target;
use serde_json::{Value, json};

/// Namespace of the leases of nodes.
const LEASES: &str = "kube-node-lease";

/// What may be declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Queued {
    /// The node's own status.
    NodeStatus,
    /// The status of pods of this node.
    PodStatus,
    /// The node's own lease.
    Lease,
    /// Events that the node makes.
    Event,
}

impl Queued {
    pub const ALL: [Queued; 4] = [Queued::NodeStatus, Queued::PodStatus, Queued::Lease, Queued::Event];

    /// As the configuration names it.
    pub fn name(self) -> &'static str {
        match self {
            Queued::NodeStatus => "nodes/status",
            Queued::PodStatus => "pods/status",
            Queued::Lease => "leases",
            Queued::Event => "events",
        }
    }

    pub fn named(name: &str) -> Option<Queued> {
        Queued::ALL.into_iter().find(|one| one.name() == name)
    }

    /// What a write of the node `node` is; `None`: it is none of these.
    pub(crate) fn of(method: &Method, target: &Target, node: &str) -> Option<Queued> {
        let resource = target.served.resource.key();
        let changes = matches!(*method, Method::PUT | Method::PATCH) && !target.name.is_empty();
        let makes = *method == Method::POST && target.name.is_empty() && target.subresource.is_empty();
        match (resource.as_str(), target.subresource.as_str()) {
            ("nodes", "status") if changes && target.name == node => Some(Queued::NodeStatus),
            ("pods", "status") if changes => Some(Queued::PodStatus),
            ("leases.coordination.k8s.io", "")
                if target.namespace == LEASES && (changes && target.name == node || makes) =>
            {
                Some(Queued::Lease)
            }
            ("events", "") if changes || makes => Some(Queued::Event),
            _ => None,
        }
    }
}

/// What is done to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Create,
    Replace,
    /// By this media type.
    Patch(String),
}

/// One write that waits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Write {
    pub kind: Queued,
    pub act: Act,
    /// As [`Stored`] names it.
    pub resource: String,
    pub api_version: String,
    /// `Pod`
    pub object_kind: String,
    pub namespace: String,
    pub name: String,
    /// Path and query.
    pub path: String,
    /// The body: an object, or a patch.
    pub body: Value,
}

impl Write {
    /// True for what is about the object in [`Stored`].
    pub(crate) fn is_of(&self, stored: &Stored) -> bool {
        let key = &stored.key;
        (&self.resource, &self.namespace, &self.name) == (&key.resource, &key.namespace, &key.name)
    }

    /// What EdgeCore says of a pod that it runs itself.
    pub(crate) fn status_of_pod(namespace: String, name: String, patch: &str) -> Write {
        Write {
            kind: Queued::PodStatus,
            act: Act::Patch("application/strategic-merge-patch+json".to_owned()),
            resource: "pods".to_owned(),
            api_version: "v1".to_owned(),
            object_kind: "Pod".to_owned(),
            path: format!("/api/v1/namespaces/{namespace}/pods/{name}/status"),
            namespace,
            name,
            body: serde_json::from_str(patch).unwrap_or_default(),
        }
    }

    fn is_of_status(&self) -> bool {
        matches!(self.kind, Queued::NodeStatus | Queued::PodStatus)
    }

    /// The object after this write.
    ///
    /// # Errors
    /// The patch does not apply.
    pub(crate) fn apply(&self, before: &Value) -> Result<Value, Status> {
        let after = match &self.act {
            Act::Create => return Ok(self.made()),
            Act::Replace => self.body.clone(),
            Act::Patch(media) => {
                let kind = PatchKind::of(media).filter(|kind| *kind != PatchKind::Apply);
                let kind = kind.ok_or_else(|| {
                    Status::unsupported_media_type(
                        "application/merge-patch+json, application/strategic-merge-patch+json",
                    )
                })?;
                let (group, version) = apimachinery::kinds::split_api_version(&self.api_version);
                patch::apply_to(
                    kind,
                    before.clone(),
                    &self.body,
                    Type::of_kind(group, version, &self.object_kind),
                )?
            }
        };
        let mut object = before.clone();
        if self.is_of_status() {
            object["status"] = after["status"].clone();
            return Ok(object);
        }
        let mut after = after;
        if let Some(map) = after.as_object_mut() {
            map.remove("kind");
            map.remove("apiVersion");
        }
        // It has the version that the cloud gave it.
        for field in ["resourceVersion", "uid", "creationTimestamp"] {
            let known = &before["metadata"][field];
            if !known.is_null() {
                after["metadata"][field] = known.clone();
            }
        }
        Ok(after)
    }

    /// The object of a creation.
    fn made(&self) -> Value {
        let mut object = self.body.clone();
        if let Some(map) = object.as_object_mut() {
            map.remove("kind");
            map.remove("apiVersion");
        }
        object["metadata"]["namespace"] = json!(self.namespace);
        object
    }
}

/// The writes that remain of `waiting` and one more, all about one object and the same part of it: those that the new one makes
/// void are gone. `base` is the object without them. Answers how many of `waiting` remain.
///
/// # Errors
/// The new write does not apply.
pub(crate) fn superseded(base: &Value, waiting: &[Write], newer: &Write) -> Result<usize, Status> {
    let after = |writes: &[Write]| {
        let before = writes.iter().try_fold(base.clone(), |object, write| write.apply(&object))?;
        newer.apply(&before)
    };
    let wanted = after(waiting)?;
    if newer.act == Act::Replace {
        // A lease or event that is made and then replaced has to be made.
        let made = waiting.iter().take_while(|write| write.act == Act::Create).count();
        return Ok(made);
    }
    let mut left = waiting.len();
    while left > 0 && waiting[left - 1].act != Act::Create {
        if after(&waiting[..left - 1]).ok().as_ref() != Some(&wanted) {
            break;
        }
        left -= 1;
    }
    Ok(left)
}

/// An object with the writes that wait for it, for who reads it here.
pub(crate) fn shown(stored: &Stored, writes: &[Write]) -> Option<Value> {
    let mut of = writes.iter().filter(|write| write.is_of(stored)).peekable();
    of.peek()?;
    let before: Value = serde_json::from_str(&stored.body).ok()?;
    // One that does not apply to what the object has become meanwhile will be refused by the cloud as well.
    Some(of.fold(before, |object, write| write.apply(&object).unwrap_or(object)))
}

/// An event's name, which its sender chooses.
pub(crate) fn name_of(body: &Value) -> Option<String> {
    Some(object::text(body, "/metadata/name").to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use kubeapi::stored::Key;

    use super::*;

    fn patch_of(status: Value) -> Write {
        Write {
            kind: Queued::PodStatus,
            act: Act::Patch("application/strategic-merge-patch+json".into()),
            resource: "pods".into(),
            api_version: "v1".into(),
            object_kind: "Pod".into(),
            namespace: "shop".into(),
            name: "a".into(),
            path: "/api/v1/namespaces/shop/pods/a/status".into(),
            body: json!({ "metadata": { "labels": { "x": "y" } }, "status": status }),
        }
    }

    fn ready(status: &str, time: u32) -> Value {
        json!({ "conditions": [{ "type": "Ready", "status": status, "lastProbeTime": time }] })
    }

    fn base() -> Value {
        let other = json!({ "type": "Other", "status": "True" });
        let own = json!({ "type": "Ready", "status": "True", "lastProbeTime": 0 });
        json!({ "metadata": { "name": "a", "resourceVersion": "7" }, "status": { "conditions": [other, own], "phase": "Running" } })
    }

    #[test]
    fn a_patch_of_a_status_changes_the_status_and_nothing_else() {
        let after = patch_of(ready("False", 1)).apply(&base()).unwrap();
        assert_eq!(after["metadata"], base()["metadata"]);
        let conditions = &after["status"]["conditions"];
        assert_eq!((&conditions[0]["type"], &conditions[1]["status"]), (&json!("Other"), &json!("False")));
        assert_eq!(after["status"]["phase"], "Running");
        let replaced = Write {
            act: Act::Replace,
            body: json!({ "status": { "phase": "Failed" } }),
            ..patch_of(json!({}))
        };
        assert_eq!(replaced.apply(&base()).unwrap()["status"], json!({ "phase": "Failed" }));
    }

    #[test]
    fn a_write_takes_the_place_of_those_that_it_makes_void_and_of_no_others() {
        let waiting = [patch_of(ready("False", 1))];
        assert_eq!(superseded(&base(), &waiting, &patch_of(ready("True", 2))), Ok(0));
        let other = patch_of(json!({ "phase": "Failed" }));
        assert_eq!(superseded(&base(), &waiting, &other), Ok(1), "the condition is still to be told");
        let both = [waiting[0].clone(), other];
        assert_eq!(superseded(&base(), &both, &patch_of(ready("True", 2))), Ok(2));
        let whole = Write { act: Act::Replace, ..patch_of(json!({})) };
        assert_eq!(superseded(&base(), &both, &whole), Ok(0));
        let broken = Write { body: json!([]), ..patch_of(json!({})) };
        assert!(superseded(&base(), &waiting, &broken).is_err(), "nothing is taken that cannot be done");
    }

    #[test]
    fn who_reads_here_sees_what_waits() {
        let stored =
            Stored { key: Key::new("pods", "shop", "a"), revision: 7, body: base().to_string().into() };
        let seen = shown(&stored, &[patch_of(ready("False", 1))]).unwrap();
        assert_eq!(seen["status"]["conditions"][1]["status"], "False");
        let other = Stored { key: Key::new("pods", "shop", "b"), ..stored };
        assert!(shown(&other, &[patch_of(ready("False", 1))]).is_none());
    }

    #[test]
    fn a_lease_is_replaced_and_keeps_the_version_that_the_cloud_gave_it() {
        let lease = |time: &str, version: &str| {
            json!({ "kind": "Lease", "metadata": { "name": "n", "resourceVersion": version },
            "spec": { "renewTime": time } })
        };
        let write =
            |body: Value| Write { kind: Queued::Lease, act: Act::Replace, body, ..patch_of(json!({})) };
        let after = write(lease("2", "")).apply(&lease("1", "5")).unwrap();
        assert_eq!(
            after,
            json!({ "metadata": { "name": "n", "resourceVersion": "5" }, "spec": { "renewTime": "2" } })
        );
        assert_eq!(superseded(&lease("1", "5"), &[write(lease("2", ""))], &write(lease("3", ""))), Ok(0));
    }
}
