//! The node's lease: renewed with the version read last, so that two processes of one node notice each other.

use apimachinery::kinds::NODE_LEASES;
use jiff::Timestamp;
use message::{Json, NodeName, ObjectKey, ObjectKind, Request, Verb};
use serde_json::{Value, json};

use super::{NodeError, ask};
use metamanager::Cloud;

/// What is known of the lease.
pub struct Lease {
    node: NodeName,
    seconds: u32,
    /// The lease as the cloud answered last.
    known: Option<Value>,
}

impl Lease {
    pub fn new(node: NodeName, seconds: u32) -> Lease {
        Lease { node, seconds, known: None }
    }

    /// Renews the lease; makes it when there is none, reads it again when somebody else changed it.
    pub async fn renew(
        &mut self,
        cloud: &Cloud,
        owner: Option<&str>,
        now: Timestamp,
    ) -> Result<(), NodeError> {
        if self.known.is_none() {
            self.known = self.read(cloud).await?;
        }
        let verb = if self.known.is_some() { Verb::Update } else { Verb::Create };
        match self.write(cloud, verb, owner, now).await {
            Err(error) if error.is_conflict() || error.is_not_found() => {
                self.known = self.read(cloud).await?;
                let verb = if self.known.is_some() { Verb::Update } else { Verb::Create };
                self.write(cloud, verb, owner, now).await
            }
            other => other,
        }
    }

    async fn read(&self, cloud: &Cloud) -> Result<Option<Value>, NodeError> {
        let key = ObjectKey::new(Some(NODE_LEASES), ObjectKind::Lease, self.node.as_str());
        match ask(cloud, "read the node's lease", Request::Get { key }).await {
            Ok(object) => Ok(object.and_then(|object| object.parse().ok())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write(
        &mut self,
        cloud: &Cloud,
        verb: Verb,
        owner: Option<&str>,
        now: Timestamp,
    ) -> Result<(), NodeError> {
        let what = "renew the node's lease";
        let object =
            Json::encode(&self.object(owner, now)).map_err(|source| NodeError::Encode { what, source })?;
        let request = Request::Lease { node: self.node.clone(), verb, object };
        let answer = ask(cloud, what, request).await?;
        self.known = answer.and_then(|object| object.parse().ok());
        Ok(())
    }

    /// The known lease with a new time; a fresh one when none is known.
    fn object(&self, owner: Option<&str>, now: Timestamp) -> Value {
        let mut lease = self.known.clone().unwrap_or_else(|| {
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": self.node.as_str(), "namespace": NODE_LEASES}})
        });
        lease["spec"] = json!({"holderIdentity": self.node.as_str(), "leaseDurationSeconds": self.seconds,
            "renewTime": daemon::clock::rfc3339_micro(now)});
        if let Some(uid) = owner {
            lease["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "v1", "kind": "Node", "name": self.node.as_str(), "uid": uid}]);
        }
        lease
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use message::{Reply, Status};
    use metamanager::LinkState;
    use tokio::sync::watch;

    #[tokio::test]
    async fn a_lease_is_made_then_updated_with_the_version_that_was_answered() {
        let (_up, link) = watch::channel(LinkState::Connected);
        let (cloud, mut calls) = Cloud::channel(link);
        let server = tokio::spawn(async move {
            let mut seen = Vec::new();
            for answer in [
                Reply::Refused(Status::new(404, "NotFound", "")),
                Reply::Object(Json::encode(&json!({"metadata": {"resourceVersion": "7"}})).unwrap()),
                Reply::Refused(Status::new(409, "Conflict", "")),
                Reply::Object(Json::encode(&json!({"metadata": {"resourceVersion": "9"}})).unwrap()),
                Reply::Object(Json::encode(&json!({"metadata": {"resourceVersion": "10"}})).unwrap()),
            ] {
                let call = calls.recv().await.unwrap();
                let message::Upstream::Ask(request) = &call.upstream else { unreachable!() };
                seen.push(match request {
                    Request::Get { .. } => "read".to_owned(),
                    Request::Lease { verb: Verb::Create, .. } => "create".to_owned(),
                    Request::Lease { object, .. } => {
                        let lease: Value = object.parse().unwrap();
                        format!("update {}", lease["metadata"]["resourceVersion"].as_str().unwrap())
                    }
                    _ => unreachable!(),
                });
                call.answer.send(answer).unwrap();
            }
            seen
        });
        let mut lease = Lease::new(NodeName::new("e").unwrap(), 40);
        let now = Timestamp::from_second(1).unwrap();
        lease.renew(&cloud, Some("uid"), now).await.unwrap();
        lease.renew(&cloud, Some("uid"), now).await.unwrap();
        assert_eq!(server.await.unwrap(), ["read", "create", "update 7", "read", "update 9"]);
    }
}
