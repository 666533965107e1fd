//! Writes that are taken while the node is cut off: written down, shown to who reads here, and carried out in their order once the
//! cloud is there, as who wrote. Pure; the database is `tables/queue`, what drives both `queueing`.
//!
//! Only what the configuration declares: of the node itself, its own status and lease, the status of its pods, and events; of other
//! callers, changes of objects of the resources that are named, and events. Everything else is refused while the node is cut off.

use std::collections::BTreeSet;

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
    /// Events that the node makes, and others who may.
    Event,
    /// An object of a resource that is named.
    Object,
    /// The status of one.
    Status,
}

impl Queued {
    pub const ALL: [Queued; 4] = [Queued::NodeStatus, Queued::PodStatus, Queued::Lease, Queued::Event];

    /// As the configuration names it, and the database.
    pub fn name(self) -> &'static str {
        match self {
            Queued::NodeStatus => "nodes/status",
            Queued::PodStatus => "pods/status",
            Queued::Lease => "leases",
            Queued::Event => "events",
            Queued::Object => "objects",
            Queued::Status => "objects/status",
        }
    }

    /// One that the database names.
    pub(crate) fn stored(name: &str) -> Option<Queued> {
        Queued::ALL.into_iter().chain([Queued::Object, Queued::Status]).find(|one| one.name() == name)
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

/// What of it is declared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueuedWrites {
    pub kinds: BTreeSet<Queued>,
    /// Resources whose objects every caller may change who could before: `configmaps`, `valves.x.io`, `valves.x.io/status`.
    pub resources: BTreeSet<String>,
}

impl QueuedWrites {
    /// All of the node itself.
    pub fn of_the_node() -> QueuedWrites {
        QueuedWrites { kinds: Queued::ALL.into(), resources: BTreeSet::new() }
    }

    /// Declares what the configuration names so. False if that cannot wait: it is no resource, or one by which rights, tokens or
    /// certificates are had.
    pub fn declare(&mut self, name: &str) -> bool {
        if let Some(kind) = Queued::ALL.into_iter().find(|one| one.name() == name) {
            self.kinds.insert(kind);
            return true;
        }
        let (resource, subresource) = name.split_once('/').unwrap_or((name, ""));
        let group = resource.split_once('.').map_or("", |(_, group)| group);
        let is_word = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        let can_wait = resource.split('.').all(is_word)
            && matches!(subresource, "" | "status")
            && !NEVER.contains(&resource)
            && !NEVER_OF.contains(&group);
        if can_wait {
            self.resources.insert(name.to_owned());
        }
        can_wait
    }

    /// What a write of a caller who is not the node is; `None`: it is none of these.
    pub(crate) fn of_caller(&self, method: &Method, target: &Target) -> Option<Queued> {
        let resource = target.served.resource.key();
        let changes = matches!(*method, Method::PUT | Method::PATCH) && !target.name.is_empty();
        let makes = *method == Method::POST && target.name.is_empty() && target.subresource.is_empty();
        match target.subresource.as_str() {
            "" if resource == "events" && self.kinds.contains(&Queued::Event) && (makes || changes) => {
                Some(Queued::Event)
            }
            "" if changes && self.resources.contains(&resource) => Some(Queued::Object),
            "status" if changes && self.resources.contains(&format!("{resource}/status")) => {
                Some(Queued::Status)
            }
            _ => None,
        }
    }

    /// Objects of this resource may be seen with a write that waits.
    pub(crate) fn has(&self, resource: &str) -> bool {
        self.resources.iter().any(|name| name.split('/').next() == Some(resource))
    }
}

/// Resources that nobody changes while the cloud cannot look at it.
const NEVER: [&str; 5] = ["secrets", "serviceaccounts", "namespaces", "nodes", "pods"];
const NEVER_OF: [&str; 5] = [
    "rbac.authorization.k8s.io",
    "certificates.k8s.io",
    "authentication.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
];

/// Who wrote, if not the node.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Author {
    pub user: String,
    /// What he showed in `Authorization`; `None`: it cannot be read any more.
    pub token: Option<String>,
}

impl std::fmt::Debug for Author {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Author").field("user", &self.user).finish_non_exhaustive()
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
    /// `None`: the node.
    pub author: Option<Author>,
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
    /// Empty: the node.
    pub(crate) fn author_name(&self) -> &str {
        self.author.as_ref().map_or("", |author| &author.user)
    }

    /// True for what is about the object in [`Stored`].
    pub(crate) fn is_of(&self, stored: &Stored) -> bool {
        let key = &stored.key;
        (&self.resource, &self.namespace, &self.name) == (&key.resource, &key.namespace, &key.name)
    }

    /// What EdgeCore says of a pod that it runs itself.
    pub(crate) fn status_of_pod(namespace: String, name: String, patch: &str) -> Write {
        Write {
            kind: Queued::PodStatus,
            author: None,
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
        matches!(self.kind, Queued::NodeStatus | Queued::PodStatus | Queued::Status)
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
            author: None,
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
    fn what_gives_rights_tokens_or_certificates_cannot_be_declared() {
        let mut declared = QueuedWrites::default();
        for name in ["configmaps", "valves.x.io", "valves.x.io/status", "events", "deployments.apps"] {
            assert!(declared.declare(name), "{name}");
        }
        assert_eq!((declared.kinds.len(), declared.resources.len()), (1, 4));
        assert!(declared.has("valves.x.io") && !declared.has("events"));
        for name in [
            "secrets",
            "pods",
            "roles.rbac.authorization.k8s.io",
            "deployments.apps/scale",
            "",
            "a..b",
            "A",
            "*",
        ] {
            assert!(!declared.declare(name), "{name}");
        }
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
