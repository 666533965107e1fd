//! Storage calls that a CSI driver in the cloud makes on a node (docs/protocol/edge-runtime.md 9.5).

use crate::{Json, Message, MessageId, NodeName, Route};

const OPERATIONS: [&str; 4] =
    ["createvolume", "deletevolume", "controllerpublishvolume", "controllerunpublishvolume"];

/// One call. The content is not looked into: a string with the CSI request as JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeCall {
    pub id: MessageId,
    pub operation: String,
    /// `<namespace>/volume/<volume>`.
    pub resource: String,
    pub content: Json,
}

impl VolumeCall {
    /// `None` unless operation and resource are those of a call.
    pub fn new(id: MessageId, operation: &str, resource: &str, content: Json) -> Option<VolumeCall> {
        let is_call = OPERATIONS.contains(&operation) && is_volume(resource);
        is_call.then(|| VolumeCall {
            id,
            operation: operation.to_owned(),
            resource: resource.to_owned(),
            content,
        })
    }

    /// The call a driver asks for, and its node: the resource begins with `node/<node>/`.
    pub fn addressed(id: MessageId, asked: &Message) -> Option<(NodeName, VolumeCall)> {
        let (node, resource) = asked.route.resource.strip_prefix("node/")?.split_once('/')?;
        let call = VolumeCall::new(id, &asked.route.operation, resource, asked.content.clone())?;
        Some((NodeName::new(node).ok()?, call))
    }

    pub(crate) fn to_message(&self, now_ms: i64) -> Message {
        let route = Route::new("cloudhub", "resource", &self.operation, self.resource.clone());
        Message::new(route, self.content.clone(), now_ms).with_id(self.id.clone())
    }
}

/// `^\w[-\w.+]*/volume/\w[-\w.+]*`, the pattern of the Go hub (docs/protocol/transport.md 1.4), anchored at its end as well.
pub(crate) fn is_volume(resource: &str) -> bool {
    let mut parts = resource.split('/');
    let (Some(namespace), Some("volume"), Some(volume), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    [namespace, volume].iter().all(|part| {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        part.starts_with(word) && part.chars().all(|c| word(c) || "-.+".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Downstream, Upstream};

    #[test]
    fn a_call_and_its_answer_keep_their_form_and_find_each_other() {
        let call =
            VolumeCall::new(MessageId("m".into()), "createvolume", "default/volume/v-1", Json::string("{}"));
        let sent = Downstream::Volume(call.unwrap()).to_message(0);
        assert_eq!((sent.route.source.as_str(), sent.route.group.as_str()), ("cloudhub", "resource"));
        assert!(matches!(Downstream::parse(&sent), Ok(Downstream::Volume(call)) if call.id.0 == "m"));

        // A Go edge copies the route and answers with the operation "response", or "error".
        for (operation, failure) in [("response", false), ("error", true)] {
            let route = Route::new("cloudhub", "resource", operation, "default/volume/v-1");
            let answer = Message::new(route, Json::string("e30="), 0).answering(&sent.header.msg_id);
            let Ok(Upstream::VolumeAnswer { of, failed, content, .. }) = Upstream::parse(&answer) else {
                panic!("{operation}")
            };
            assert_eq!((of.0.as_str(), failed, content.data().as_str()), ("m", failure, "e30="));
        }
    }

    #[test]
    fn other_operations_and_resources_are_no_calls() {
        let is_call = |operation, resource| {
            VolumeCall::new(MessageId::random(), operation, resource, Json::null()).is_some()
        };
        assert!(is_call("deletevolume", "default/volume/pvc-1_a.b+c"));
        assert!(!is_call("delete", "default/volume/v"));
        for resource in
            ["volume/v", "default/volume/", "d/volume/v/w", "d/volume/../x", "d/volumes/v", "d/volume/-v"]
        {
            assert!(!is_call("deletevolume", resource), "{resource}");
        }
    }
}
