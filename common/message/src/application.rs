//! A request of a node's MetaServer to the API server, as KubeEdge sends it, and its answer (docs/protocol/transport.md 1.9;
//! `pkg/metaserver/application.go`). What it asks of the Kubernetes API, and back: [`ApiCall`].

mod bytes;
mod call;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Json, JsonError, Message, MessageId, Route, Status};
pub use bytes::Bytes64;
pub use call::{ApiCall, WATCH};

/// What MetaServer and DynamicController call themselves.
const METASERVER: &str = "metaserver";
const DYNAMIC_CONTROLLER: &str = "dynamiccontroller";
/// The resource of the message that tells all watches of a node.
const WATCH_SYNC: &str = "watchapp/sync";
/// What answers either.
pub(crate) const ANSWER: &str = "applicationResponse";
/// KubeEdge writes this for a resource and an operation that say nothing.
const NOTHING: &str = "null";

/// How far an application is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    #[default]
    PreApplying,
    InApplying,
    InProcessing,
    Approved,
    Rejected,
    Failed,
    Completed,
}

/// One request with, once it is answered, its answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Application {
    /// SHA-256 in hex of what is asked ([`Application::named`]).
    #[serde(rename = "ID")]
    pub id: String,
    /// `/<group, core for none>/<version>/<plural>/<namespace or null>/<name or null>`, or a path of the API for discovery.
    pub key: String,
    /// `get`, `list`, `watch`, `create`, `update`, `updatestatus`, `patch` or `delete`.
    pub verb: String,
    /// Who asks. The cloud goes by the session, and refuses another name.
    pub nodename: String,
    /// JSON of the verb's options; of a patch, with the patch itself.
    pub option: Bytes64,
    /// JSON of the object to be written.
    pub req_body: Bytes64,
    pub subresource: String,
    /// What the API server answered.
    pub resp_body: Bytes64,
    pub status: Stage,
    /// Why, in words, where there is no `error`.
    pub reason: String,
    error: Error,
    timestamp: Time,
}

/// The time at which an edge closed it last; says nothing to the other end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Time(String);

impl Default for Time {
    /// Go's zero time.
    fn default() -> Time {
        Time("0001-01-01T00:00:00Z".to_owned())
    }
}

/// Go's `StatusError`, which is there even where there is no error.
#[derive(Clone, Debug, Default, PartialEq)]
struct Error(Option<Status>);

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(status) => BTreeMap::from([("ErrStatus", status)]).serialize(serializer),
            None => serde_json::json!({"ErrStatus": {"metadata": {}}}).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Error {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Error, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Wire {
            #[serde(rename = "ErrStatus")]
            status: Status,
        }
        let Wire { status } = Option::<Wire>::deserialize(deserializer)?.unwrap_or_default();
        let is_none = status.code == 0 && status.reason.is_empty() && status.message.is_empty();
        Ok(Error((!is_none).then_some(status)))
    }
}

impl Application {
    /// With its id, from everything it asks.
    #[must_use]
    pub fn named(mut self) -> Application {
        let texts = [self.nodename.as_bytes(), self.key.as_bytes(), self.verb.as_bytes()];
        let asked = [self.option.bytes(), self.req_body.bytes(), self.subresource.as_bytes()];
        let sum = digest(&SHA256, &[texts.concat(), asked.concat()].concat());
        self.id = sum.as_ref().iter().fold(String::with_capacity(64), |mut id, byte| {
            // Writing to a string does not fail.
            let _ = write!(id, "{byte:02x}");
            id
        });
        self
    }

    /// Carried out; `body` is what the API server answered.
    #[must_use]
    pub fn approved(mut self, body: Vec<u8>) -> Application {
        self.status = Stage::Approved;
        self.resp_body = Bytes64::new(body);
        self
    }

    /// Not carried out.
    #[must_use]
    pub fn rejected(mut self, why: Status) -> Application {
        self.status = Stage::Rejected;
        self.error = Error(Some(why));
        self
    }

    /// What came of it: the body of the API server's answer.
    ///
    /// # Errors
    /// The API server's own words, or 502 with the cloud's where it has no more than these.
    pub fn into_outcome(self) -> Result<Vec<u8>, Status> {
        match (self.status, self.error.0) {
            (Stage::Approved, _) => Ok(self.resp_body.into_bytes()),
            // Go errors without a code stand for failures inside of the cloud.
            (_, Some(status)) if status.code >= 400 => Err(status),
            (stage, _) if self.reason.is_empty() => Err(Status::new(
                502,
                "BadGateway",
                format!("the cloud answered with {stage:?} and no reason"),
            )),
            _ => Err(of_reason(self.reason)),
        }
    }

    /// What a reader needs to know which one it was.
    pub fn about(&self) -> String {
        [self.verb.as_str(), self.key.as_str()].join(" ").chars().take(256).collect()
    }
}

/// What a cloud means that wraps the API server's status in a text of its own, as KubeEdge's does with those of lists.
fn of_reason(text: String) -> Status {
    const MEANINGS: [(&str, u16, &str); 6] = [
        (" is forbidden: ", 403, "Forbidden"),
        ("is not allowed to access this resource", 403, "Forbidden"),
        ("the server has asked for the client to provide credentials", 401, "Unauthorized"),
        ("the server could not find the requested resource", 404, "NotFound"),
        ("parameter is too old", 410, "Expired"),
        ("too old resource version", 410, "Expired"),
    ];
    let meaning = MEANINGS.iter().find(|(part, ..)| text.contains(part));
    let (code, reason) = meaning.map_or((502, "BadGateway"), |(_, code, reason)| (*code, *reason));
    Status::new(code, reason, text)
}

/// All watches of a node, by id; or those that the cloud could not begin.
pub type Applications = BTreeMap<String, Application>;

/// What MetaServer of a KubeEdge edge sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    One(Box<Application>),
    /// These are watched now, and no others: begin and end accordingly.
    Watches(Applications),
}

impl Asked {
    /// True for a message that carries one.
    pub(crate) fn is_in(route: &Route) -> bool {
        route.source == METASERVER && route.group == DYNAMIC_CONTROLLER
    }

    /// Reads a message that [carries one](Asked::is_in).
    pub(crate) fn parse(message: &Message) -> Result<Asked, JsonError> {
        let content = message.content.unwrapped()?;
        match message.route.resource.ends_with(WATCH_SYNC) {
            true => content.parse().map(Asked::Watches),
            false => content.parse().map(|one| Asked::One(Box::new(one))),
        }
    }

    pub(crate) fn to_message(&self, now_ms: i64) -> Message {
        let (resource, content) = match self {
            Asked::One(application) => (NOTHING, Json::of_own(application)),
            Asked::Watches(watches) => (WATCH_SYNC, Json::of_own(watches)),
        };
        Message::new(Route::new(METASERVER, DYNAMIC_CONTROLLER, NOTHING, resource), content, now_ms)
    }

    /// The envelope that answers the message `to`: the application with its outcome, or the watches that were not begun.
    pub fn answer(&self, to: &MessageId, now_ms: i64) -> Message {
        let (resource, content) = match self {
            Asked::One(application) => ("ignore/Application/ignore", Json::of_own(application)),
            Asked::Watches(failed) => (WATCH_SYNC, Json::of_own(failed)),
        };
        Message::new(Route::new(DYNAMIC_CONTROLLER, "resource", ANSWER, resource), content, now_ms)
            .answering(to)
    }

    /// The answer where nothing of it is carried out.
    #[must_use]
    pub fn rejected(&self, why: &Status) -> Asked {
        let rejected = |one: &Application| one.clone().rejected(why.clone());
        match self {
            Asked::One(one) => Asked::One(Box::new(rejected(one))),
            Asked::Watches(all) => {
                Asked::Watches(all.iter().map(|(id, one)| (id.clone(), rejected(one))).collect())
            }
        }
    }

    /// Requests with the same key are carried out one after the other: so many at once, and no more.
    pub(crate) fn order_key(&self) -> String {
        match self {
            Asked::One(application) => {
                let place =
                    application.id.bytes().fold(0_usize, |sum, byte| sum + usize::from(byte)) % AT_ONCE;
                format!("application/{place}")
            }
            Asked::Watches(_) => "watches".to_owned(),
        }
    }
}

/// Applications of one node that are carried out at once. What else a session carries has places of its own.
const AT_ONCE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_one_kubeedge_gives() {
        // Recorded: tests/interop/golden/038.
        let asked = Application {
            key: "/core/v1/pods/default/null".into(),
            verb: "list".into(),
            nodename: "edge1".into(),
            option: Bytes64::new(b"{}".to_vec()),
            ..Application::default()
        };
        assert_eq!(asked.named().id, "0d8a7394edeaa58c7da65eb289e798ae648670250a0b16f958478c57be7ff06b");
    }

    #[test]
    fn an_outcome_survives_the_wire() {
        let read = |application: &Application| Json::of_own(application).parse::<Application>().unwrap();
        let asked = Application::default;
        let approved = read(&asked().approved(b"{}".to_vec()));
        assert_eq!(approved.into_outcome().unwrap(), b"{}");
        let status = Status::new(404, "NotFound", "gone");
        assert_eq!(read(&asked().rejected(status.clone())).into_outcome(), Err(status));
        let failed = Application { status: Stage::Failed, reason: "no time".into(), ..asked() };
        assert!(failed.into_outcome().unwrap_err().message.contains("no time"));
        assert!(asked().into_outcome().is_err());
        let forbidden = "get current list error: secrets is forbidden: User \"u\" cannot list resource";
        let listed = Application { status: Stage::Rejected, reason: forbidden.into(), ..asked() };
        assert_eq!(listed.into_outcome().unwrap_err().code, 403);
    }
}
