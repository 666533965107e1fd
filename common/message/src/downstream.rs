//! What the cloud tells an edge, typed. Wire forms: docs/protocol/transport.md 1.7.

use serde::{Deserialize, Serialize};

use crate::application;
use crate::path::{ResourcePath, words};
use crate::{
    Json, KeyError, Message, MessageId, ObjectKey, ObjectKind, Reply, ResourceVersion, Route, VolumeCall,
};

/// Which cloud controller an object comes from; Go edges route by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    EdgeController,
    DeviceController,
    DynamicController,
    PolicyController,
}

const ORIGINS: &[(&str, Origin)] = &[
    ("edgecontroller", Origin::EdgeController),
    ("devicecontroller", Origin::DeviceController),
    ("dynamiccontroller", Origin::DynamicController),
    ("policycontroller", Origin::PolicyController),
];

impl Origin {
    pub fn as_str(self) -> &'static str {
        ORIGINS.iter().find(|(_, origin)| *origin == self).map_or("", |(name, _)| name)
    }
    fn parse(source: &str) -> Option<Origin> {
        ORIGINS.iter().find(|(name, _)| *name == source).map(|(_, origin)| *origin)
    }
    /// The controller that owns a kind.
    pub fn of(kind: &ObjectKind) -> Origin {
        match kind {
            ObjectKind::Device | ObjectKind::DeviceModel => Origin::DeviceController,
            _ => Origin::EdgeController,
        }
    }
}

/// One device in a membership notice. `id` is `<namespace>/<name>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipEntry {
    pub id: String,
    #[serde(default)]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// Devices that came to or left a node (docs/protocol/devices.md 2.2), or, in `devices`, all of them (3.5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    #[serde(default)]
    pub event_id: String,
    #[serde(default)]
    pub timestamp: i64,
    #[serde(default)]
    pub added_devices: Option<Vec<MembershipEntry>>,
    #[serde(default)]
    pub removed_devices: Option<Vec<MembershipEntry>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<MembershipEntry>>,
}

/// One thing the cloud tells an edge.
#[derive(Clone, Debug, PartialEq)]
pub enum Downstream {
    /// The object should now be as given. `first` when the node never had it.
    Put { key: ObjectKey, origin: Origin, version: ResourceVersion, object: Json, first: bool },
    /// The object is gone. `uid` is absent when the sender did not know it.
    Remove { key: ObjectKey, origin: Origin, uid: Option<String>, object: Json },
    /// The answer to a request of this edge.
    Reply { to: MessageId, reply: Reply },
    /// Devices that came or left.
    Membership(Membership),
    /// The complete list of this node's devices.
    MembershipList(Membership),
    /// A twin or state report was written to the API server.
    Confirmed { to: MessageId },
    /// A storage call; answered with its id.
    Volume(VolumeCall),
    /// A question of the transport itself, answered "ack" at once.
    Control,
    /// Something this build has no room for; named so that it can be logged.
    Unsupported { route: Route },
}

/// A downstream value with what its acknowledgement needs.
#[derive(Clone, Debug)]
pub struct Received {
    pub body: Downstream,
    /// The acknowledgement to send once the body is durable; `None` for kinds that are not acknowledged.
    pub message: Message,
}

#[derive(Debug, thiserror::Error)]
pub enum ParseDownstreamError {
    #[error("resource of a downstream object")]
    Key(#[source] KeyError),
    #[error("metadata of {key}")]
    Metadata { key: ObjectKey, source: crate::JsonError },
    #[error("{key} has neither name nor uid: an error, or no object at all")]
    NotAnObject { key: ObjectKey },
    #[error("membership notice")]
    Membership(#[source] crate::JsonError),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
    uid: String,
    #[serde(rename = "resourceVersion")]
    resource_version: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    metadata: Metadata,
}

impl Downstream {
    /// True for values the cloud keeps sending until the edge acknowledges them.
    pub fn wants_ack(&self) -> bool {
        matches!(self, Downstream::Put { .. } | Downstream::Remove { .. })
    }

    /// The envelope of this value. Replies take the route of the request they answer: use [`Request::answer`].
    ///
    /// [`Request::answer`]: crate::Request::answer
    pub fn to_message(&self, now_ms: i64) -> Message {
        match self {
            Downstream::Put { key, origin, version, object, first } => {
                let operation = if *first && key.kind != ObjectKind::Secret && key.kind != ObjectKind::Node {
                    "insert"
                } else {
                    "update"
                };
                let route = Route::new(origin.as_str(), "resource", operation, wire_path(key, object));
                Message::new(route, object.clone(), now_ms).with_version(&version.0)
            }
            Downstream::Remove { key, origin, object, .. } => {
                let version = object.parse::<Object>().unwrap_or_default().metadata.resource_version;
                let route = Route::new(origin.as_str(), "resource", "delete", wire_path(key, object));
                Message::new(route, object.clone(), now_ms).with_version(&version)
            }
            Downstream::Reply { to, reply } => {
                let content = match reply {
                    Reply::Done => Json::string("OK"),
                    Reply::Object(object) => object.clone(),
                    Reply::Text(text) => Json::string(text),
                    Reply::Refused(status) => Reply::refusal(status.clone()),
                };
                Message::new(Route::new("edgecontroller", "resource", "response", ""), content, now_ms)
                    .answering(to)
            }
            Downstream::Membership(update) => membership_message("membership", update, now_ms),
            Downstream::MembershipList(list) => membership_message("membership/detail", list, now_ms),
            Downstream::Confirmed { to } => Message::new(
                Route::new("devicecontroller", "twin", "response", "twin"),
                Json::string("OK"),
                now_ms,
            )
            .answering(to),
            Downstream::Volume(call) => call.to_message(now_ms),
            Downstream::Control => {
                Message::new(Route::new("cloudhub", "resource", "ping", ""), Json::null(), now_ms)
            }
            Downstream::Unsupported { route } => Message::new(route.clone(), Json::null(), now_ms),
        }
    }

    /// Reads an envelope. A parent id is looked at before content (docs/protocol/transport.md 1.6).
    ///
    /// # Errors
    /// [`ParseDownstreamError`]: the resource is no object's path, or the content is not what this kind of message
    /// carries.
    pub fn parse(message: &Message) -> Result<Downstream, ParseDownstreamError> {
        let route = &message.route;
        let unsupported = || Ok(Downstream::Unsupported { route: route.clone() });
        let parent = &message.header.parent_msg_id;
        if matches!(route.operation.as_str(), "config" | "ping" | "pong") {
            return Ok(Downstream::Control);
        }
        if parent.is_empty()
            && let id = message.header.msg_id.clone()
            && let Some(call) =
                VolumeCall::new(id, &route.operation, &route.resource, message.content.clone())
        {
            return Ok(Downstream::Volume(call));
        }
        match route.group.as_str() {
            // `{}` is no error there: no watch has failed.
            "resource" if !parent.is_empty() && route.operation == application::ANSWER => {
                let content = message.content.unwrapped().unwrap_or_else(|_| message.content.clone());
                Ok(Downstream::Reply { to: parent.clone(), reply: Reply::Object(content) })
            }
            "resource" | "func" | "user" if !parent.is_empty() => {
                Ok(Downstream::Reply { to: parent.clone(), reply: Reply::read(&message.content) })
            }
            "twin" if !parent.is_empty() => Ok(Downstream::Confirmed { to: parent.clone() }),
            "twin" if route.resource.contains("membership/detail") => {
                read_membership(message).map(Downstream::MembershipList)
            }
            "twin" if route.resource.contains("membership") => {
                read_membership(message).map(Downstream::Membership)
            }
            "resource" | "func" => match (route.operation.as_str(), Origin::parse(&route.source)) {
                ("insert" | "update" | "patch" | "delete", Some(origin)) => parse_object(message, origin),
                _ => unsupported(),
            },
            _ => unsupported(),
        }
    }
}

fn membership_message(resource: &str, membership: &Membership, now_ms: i64) -> Message {
    let content = Json::of_own(membership);
    Message::new(Route::new("devicecontroller", "twin", "update", resource), content, now_ms)
}

fn read_membership(message: &Message) -> Result<Membership, ParseDownstreamError> {
    let content = message.content.unwrapped().map_err(ParseDownstreamError::Membership)?;
    content.parse().map_err(ParseDownstreamError::Membership)
}

/// The path KubeEdge has for the object: of a kind without a word of its own, the object names its kind.
fn wire_path(key: &ObjectKey, object: &Json) -> String {
    match key.kind.word() {
        Some(_) => key.to_string(),
        None => key.wire_path(&object.parse::<Object>().unwrap_or_default().kind),
    }
}

/// Refuses to put what is no object: it would take the place of one.
fn parse_object(message: &Message, origin: Origin) -> Result<Downstream, ParseDownstreamError> {
    let path = &message.route.resource;
    let key = ObjectKey::parse(path).map_err(ParseDownstreamError::Key)?;
    let metadata_error = |source| ParseDownstreamError::Metadata { key: key.clone(), source };
    let object = message.content.unwrapped().map_err(metadata_error)?;
    let read = if object.is_null() {
        Object::default()
    } else {
        object.parse::<Object>().map_err(metadata_error)?
    };
    let key = ObjectKey::parse_with(path, &read.api_version).map_err(ParseDownstreamError::Key)?;
    if message.route.operation == "delete" {
        let uid = (!read.metadata.uid.is_empty()).then_some(read.metadata.uid);
        return Ok(Downstream::Remove { key, origin, uid, object });
    }
    // Go encodes an error as `{}` or `{"ErrStatus":..}` and marks it by nothing else (docs/protocol/transport.md 1.2).
    if read.metadata.name.is_empty() && read.metadata.uid.is_empty() {
        return Err(ParseDownstreamError::NotAnObject { key });
    }
    let version = match message.header.resourceversion.as_str() {
        "" => read.metadata.resource_version,
        version => version.to_owned(),
    };
    let first = message.route.operation == "insert";
    Ok(Downstream::Put { key, origin, version: ResourceVersion(version), object, first })
}

impl Received {
    /// # Errors
    /// [`ParseDownstreamError`]: the resource is no object's path, or the content is not what this kind of message
    /// carries.
    pub fn parse(message: Message) -> Result<Received, ParseDownstreamError> {
        Ok(Received { body: Downstream::parse(&message)?, message })
    }

    /// True if the cloud waits for an acknowledgement. Answers that carry an object are acknowledged as well
    /// (docs/protocol/transport.md 1.6); answers without one ("OK", refusals) and answers to status patches are not.
    pub fn wants_ack(&self) -> bool {
        match &self.body {
            // Applications are objects to nobody.
            Downstream::Reply { .. } if self.message.route.operation == application::ANSWER => false,
            Downstream::Reply { reply: Reply::Object(_), .. } => {
                let path = ResourcePath::parse(&self.message.route.resource);
                !path.is_ok_and(|path| [words::POD_PATCH, words::NODE_PATCH].contains(&path.word))
            }
            Downstream::Reply { .. } => false,
            other => other.wants_ack(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(content: &str) -> Result<Downstream, ParseDownstreamError> {
        let route = Route::new("edgecontroller", "resource", "update", "d/configmap/a");
        Downstream::parse(&Message::new(route, Json::from_text(content.to_owned()).unwrap(), 0))
    }

    #[test]
    fn objects_of_one_name_in_two_groups_have_two_keys_and_kubeedges_path() {
        let valve = |group: &str| {
            format!("{{\"apiVersion\":\"{group}/v1\",\"kind\":\"Valve\",\"metadata\":{{\"name\":\"a\"}}}}")
        };
        let route = Route::new("dynamiccontroller", "resource", "update", "d/valve/a");
        let read = |group: &str| {
            let content = Json::from_text(valve(group)).unwrap();
            Downstream::parse(&Message::new(route.clone(), content, 0)).unwrap()
        };
        let key = |downstream: &Downstream| match downstream {
            Downstream::Put { key, .. } => key.to_string(),
            other => panic!("{other:?}"),
        };
        let (mine, theirs) = (read("a.io"), read("b.io"));
        assert_eq!((key(&mine), key(&theirs)), ("/a.io/v1/valves/d/a".into(), "/b.io/v1/valves/d/a".into()));
        assert_eq!(mine.to_message(0).route.resource, "d/valve/a");
    }

    #[test]
    fn an_answer_that_names_no_failed_watch_is_no_error() {
        let watches = crate::Asked::Watches(crate::Applications::new());
        let message = watches.answer(&MessageId("m".to_owned()), 0);
        let Downstream::Reply { reply, .. } = Downstream::parse(&message).unwrap() else { panic!() };
        assert_eq!(reply, Reply::Object(Json::from_text("{}".to_owned()).unwrap()));
    }

    #[test]
    fn an_error_is_not_put_in_the_place_of_an_object() {
        for content in
            ["{}", "null", "[]", "7", "\"text\"", "{\"ErrStatus\":{\"code\":404}}", "{\"metadata\":{}}"]
        {
            assert!(put(content).is_err(), "{content}");
        }
        for content in ["{\"metadata\":{\"name\":\"a\"}}", "{\"metadata\":{\"uid\":\"u\"}}"] {
            assert!(matches!(put(content), Ok(Downstream::Put { .. })), "{content}");
        }
    }
}
