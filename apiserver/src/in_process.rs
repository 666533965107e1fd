//! The API for this program's own controllers: the same verbs, authorisation, admission and webhooks as for any client, without a
//! connection.

use apimachinery::Status;
use bytes::Bytes;
use controllers::api::{Api, Deletion, Event, Key, Kind, List, Watch, path, version};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{Method, Request};
use http_body_util::BodyExt as _;
use kubeapi::Peer;
use kubeapi::request::Incoming;
use kubeapi::respond::Body;
use kubeapi::user::{AUTHENTICATED, User, service_account_groups};
use serde_json::{Value, json};

use crate::context::Context;

/// Objects of one page of a list.
const PAGE: usize = 500;
/// Longest line of a watch: an object, and what is around it.
const LINE: usize = 4 * 1024 * 1024;

/// The API as one user.
pub(crate) struct InProcess {
    api: kubeapi::Api<Context>,
    peer: Peer,
}

/// One request, and what is in it.
struct Asked<'a> {
    method: Method,
    path: String,
    content_type: &'static str,
    body: Option<&'a Value>,
}

impl InProcess {
    /// `user` is a name such as `system:serviceaccount:NAMESPACE:NAME`.
    pub(crate) fn new(api: kubeapi::Api<Context>, user: &str) -> InProcess {
        let account = user.strip_prefix("system:serviceaccount:").and_then(|account| account.split_once(':'));
        let mut groups =
            account.map_or_else(Vec::new, |(namespace, _)| service_account_groups(namespace).to_vec());
        groups.push(AUTHENTICATED.to_owned());
        let user = User { name: user.to_owned(), groups, ..User::default() };
        InProcess { api, peer: Peer::program(user) }
    }

    async fn send(&self, asked: Asked<'_>) -> Result<Body, Status> {
        let body = asked.body.map(|value| Bytes::from(value.to_string())).unwrap_or_default();
        let request = Request::builder().method(asked.method).uri(asked.path);
        let request =
            request.header(http::header::CONTENT_TYPE, asked.content_type).body(Incoming::Program(body));
        let request = request.map_err(|error| Status::bad_request(error.to_string()))?;
        let answer = self.api.respond(&self.peer, request).await;
        if answer.status().is_success() {
            return Ok(answer.into_body());
        }
        let code = answer.status().as_u16();
        let said = read(answer.into_body()).await?;
        let status: Result<Status, _> = serde_json::from_value(said);
        Err(status.unwrap_or_else(|_| Status::new(code, "Unknown", "the answer is no Status")))
    }

    fn ask<'a>(
        &'a self,
        method: Method,
        path: String,
        content_type: &'static str,
        body: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<Value, Status>> {
        async move { read(self.send(Asked { method, path, content_type, body }).await?).await }.boxed()
    }
}

async fn read(body: Body) -> Result<Value, Status> {
    let bytes = body.collect().await.map_err(|error| Status::unavailable(error.to_string()))?.to_bytes();
    serde_json::from_slice(&bytes)
        .map_err(|error| Status::internal(format!("an answer does not read: {error}")))
}

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";

fn within(path: String, subresource: &str) -> String {
    if subresource.is_empty() { path } else { format!("{path}/{subresource}") }
}

impl Api for InProcess {
    fn get<'a>(&'a self, kind: Kind, key: &'a Key) -> BoxFuture<'a, Result<Value, Status>> {
        self.ask(Method::GET, path(kind, &key.namespace, &key.name), JSON, None)
    }

    fn list(&self, kind: Kind) -> BoxFuture<'_, Result<List, Status>> {
        async move {
            let mut list = List::default();
            let mut token = String::new();
            loop {
                let query = format!("{}?limit={PAGE}&continue={token}", path(kind, "", ""));
                let mut page = self.ask(Method::GET, query, JSON, None).await?;
                // Later pages may be newer: what came between is then heard of once more.
                if list.version == 0 {
                    list.version = version(&page);
                }
                if let Value::Array(items) = page["items"].take() {
                    list.items.extend(items);
                }
                match page["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
                    Some(next) => token = next.to_owned(),
                    None => return Ok(list),
                }
            }
        }
        .boxed()
    }

    fn watch(&self, kind: Kind, since: u64) -> BoxFuture<'_, Result<Watch, Status>> {
        async move {
            let path =
                format!("{}?watch=true&resourceVersion={since}&allowWatchBookmarks=true", path(kind, "", ""));
            let asked = Asked { method: Method::GET, path, content_type: JSON, body: None };
            let lines = Lines { body: self.send(asked).await?, buffer: Vec::new() };
            let events = stream::unfold(lines, |mut lines| async move {
                let event = lines.next().await?;
                Some((event, lines))
            });
            Ok(events.boxed())
        }
        .boxed()
    }

    fn create<'a>(&'a self, kind: Kind, value: &'a Value) -> BoxFuture<'a, Result<Value, Status>> {
        let namespace = apimachinery::object::namespace(value);
        self.ask(Method::POST, path(kind, namespace, ""), JSON, Some(value))
    }

    fn post<'a>(
        &'a self,
        kind: Kind,
        key: &'a Key,
        subresource: &'a str,
        value: &'a Value,
    ) -> BoxFuture<'a, Result<Value, Status>> {
        let path = within(path(kind, &key.namespace, &key.name), subresource);
        self.ask(Method::POST, path, JSON, Some(value))
    }

    fn update<'a>(
        &'a self,
        kind: Kind,
        value: &'a Value,
        subresource: &'a str,
    ) -> BoxFuture<'a, Result<Value, Status>> {
        let key = Key::of(value);
        let path = within(path(kind, &key.namespace, &key.name), subresource);
        self.ask(Method::PUT, path, JSON, Some(value))
    }

    fn patch<'a>(
        &'a self,
        kind: Kind,
        key: &'a Key,
        subresource: &'a str,
        patch: &'a Value,
    ) -> BoxFuture<'a, Result<Value, Status>> {
        let path = within(path(kind, &key.namespace, &key.name), subresource);
        self.ask(Method::PATCH, path, MERGE, Some(patch))
    }

    fn delete<'a>(
        &'a self,
        kind: Kind,
        key: &'a Key,
        options: &'a Deletion,
    ) -> BoxFuture<'a, Result<Value, Status>> {
        async move {
            let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
            if !options.uid.is_empty() {
                body["preconditions"] = json!({"uid": options.uid});
            }
            if let Some(seconds) = options.grace {
                body["gracePeriodSeconds"] = json!(seconds);
            }
            if !options.propagation.is_empty() {
                body["propagationPolicy"] = json!(options.propagation);
            }
            self.ask(Method::DELETE, path(kind, &key.namespace, &key.name), JSON, Some(&body)).await
        }
        .boxed()
    }
}

/// The events of a watch.
struct Lines {
    body: Body,
    buffer: Vec<u8>,
}

impl Lines {
    async fn next(&mut self) -> Option<Result<Event, Status>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(event(&line));
            }
            if self.buffer.len() > LINE {
                return Some(Err(Status::internal("a line of a watch is too long")));
            }
            match self.body.frame().await? {
                Ok(frame) => self.buffer.extend_from_slice(frame.data_ref()?),
                Err(error) => return Some(Err(Status::unavailable(error.to_string()))),
            }
        }
    }
}

fn event(line: &[u8]) -> Result<Event, Status> {
    let bad = |error: &dyn std::fmt::Display| {
        Status::internal(format!("an event of a watch does not read: {error}"))
    };
    let mut event: Value = serde_json::from_slice(line).map_err(|error| bad(&error))?;
    let object = event["object"].take();
    match event["type"].as_str().unwrap_or_default() {
        "ADDED" | "MODIFIED" => Ok(Event::Applied(object)),
        "DELETED" => Ok(Event::Deleted(object)),
        "BOOKMARK" => Ok(Event::Bookmark(version(&object))),
        _ => Err(serde_json::from_value(object).unwrap_or_else(|error| bad(&error))),
    }
}
