//! One event, from the request to the end of its answer.

use std::collections::BTreeMap;

use apimachinery::Status;
use apimachinery::rbac::What;
use daemon::clock;
use http::header::{HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Log;
use crate::attributes::{Action, is_public};
use crate::held::Held;
use crate::peer::Peer;
use crate::respond::Answer;
use crate::stored::Key;
use crate::user::{Asker, User};

/// Characters of a text that a client chooses.
const LONGEST: usize = 4096;
const AGENT: usize = 1024;
/// The event's id, in the answer.
const ID: HeaderName = HeaderName::from_static("audit-id");

/// What is noted of one request; it is written when this is dropped, which is when its answer has been sent.
pub(crate) struct Record(Option<Box<Open>>);

struct Open {
    log: Log,
    id: String,
    event: Map<String, Value>,
}

impl Record {
    /// Of what is not to be told of, and without a log, nothing is noted.
    pub(crate) fn begin<B>(log: Option<&Log>, peer: &Peer, request: &Request<B>) -> Record {
        let Some(log) = log.filter(|_| !is_public(request.uri().path())) else { return Record(None) };
        let id = Uuid::new_v4().to_string();
        let event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata",
            "stage": "ResponseComplete", "auditID": id, "requestURI": cut(request.uri().path(), LONGEST), "user": {},
            "verb": request.method().as_str().to_lowercase(),
            "requestReceivedTimestamp": clock::rfc3339_micro(clock::now()),
        });
        let Value::Object(mut event) = event else { return Record(None) };
        if let Some(address) = peer.address {
            event.insert("sourceIPs".to_owned(), json!([address]));
        }
        if let Some(agent) = agent(request.headers()) {
            event.insert("userAgent".to_owned(), json!(agent));
        }
        Record(Some(Box::new(Open { log: log.clone(), id, event })))
    }

    fn note(&mut self, field: &str, value: impl FnOnce() -> Value) {
        if let Some(open) = &mut self.0 {
            open.event.insert(field.to_owned(), value());
        }
    }

    /// What is asked for. `query` is the request's, as it is.
    pub(crate) fn asked_about(&mut self, action: &Action, query: Option<&str>) {
        let attributes = action.attributes();
        let is_proxied = matches!(attributes.what, What::Resource { subresource: "proxy", .. });
        if let (Some(open), Some(query), false) = (&mut self.0, query, is_proxied)
            && let Some(Value::String(uri)) = open.event.get_mut("requestURI")
        {
            uri.push('?');
            uri.push_str(&cut(query, LONGEST));
        }
        self.note("verb", || json!(attributes.verb));
        let What::Resource { group, resource, subresource, namespace, name } = attributes.what else {
            return;
        };
        let fields = [
            ("apiGroup", group),
            ("apiVersion", action.version()),
            ("resource", resource),
            ("subresource", subresource),
            ("namespace", namespace),
            ("name", name),
        ];
        let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
        self.note("objectRef", || fields.map(|(key, value)| (key.to_owned(), json!(value))).collect());
    }

    /// Who asks.
    pub(crate) fn asked_by(&mut self, asker: &Asker) {
        match &asker.impersonator {
            None => self.note("user", || user(&asker.user)),
            Some(impersonator) => {
                self.note("user", || user(impersonator));
                self.note("impersonatedUser", || user(&asker.user));
            }
        }
    }

    /// May he, and why.
    pub(crate) fn decided(&mut self, decision: &Result<String, Status>) {
        let (word, why) = match decision {
            Ok(reason) => ("allow", reason.as_str()),
            Err(status) if status.code == 403 => ("forbid", ""),
            Err(_) => return,
        };
        let annotations =
            || json!({ "authorization.k8s.io/decision": word, "authorization.k8s.io/reason": why });
        self.note("annotations", annotations);
    }

    /// What admission has to say.
    pub(crate) fn annotated(&mut self, said: BTreeMap<String, String>) {
        let Some(open) = &mut self.0 else { return };
        let annotations = open.event.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.extend(said.into_iter().map(|(key, value)| (key, json!(value))));
        }
    }

    /// The answer, which takes this with it.
    pub(crate) fn answered(mut self, failure: Option<&Status>, answer: Answer) -> Answer {
        let code = answer.status().as_u16();
        self.note("responseStatus", || match failure {
            None => json!({ "metadata": {}, "code": code }),
            Some(status) => {
                json!({ "metadata": {}, "status": "Failure", "reason": status.reason, "code": code })
            }
        });
        let Some(open) = &mut self.0 else { return answer };
        let (mut parts, body) = answer.into_parts();
        if let Some(key) = parts.extensions.get::<Key>()
            && let Some(object) = open.event.get_mut("objectRef").and_then(Value::as_object_mut)
        {
            // Names that the server drew.
            object.entry("name").or_insert_with(|| json!(key.name));
        }
        if let Ok(id) = HeaderValue::from_str(&open.id) {
            parts.headers.insert(ID, id);
        }
        Answer::from_parts(parts, Held::new(body, self).boxed_unsync())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Some(open) = self.0.take() else { return };
        let Open { log, mut event, .. } = *open;
        event.insert("stageTimestamp".to_owned(), json!(clock::rfc3339_micro(clock::now())));
        log.write(Value::Object(event).to_string());
    }
}

fn agent(headers: &HeaderMap) -> Option<String> {
    Some(cut(headers.get(USER_AGENT)?.to_str().ok()?, AGENT))
}

fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}...TRUNCATED", &text[..end]),
        None => text.to_owned(),
    }
}

fn user(user: &User) -> Value {
    let mut told = json!({ "username": user.name });
    if !user.uid.is_empty() {
        told["uid"] = json!(user.uid);
    }
    if !user.groups.is_empty() {
        told["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        told["extra"] = json!(user.extra);
    }
    told
}
