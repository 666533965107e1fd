//! Requests to a cluster's API, by the paths of objects.

use std::time::Duration;

use anyhow::{Context, bail};
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};

/// Whose fields they are (server-side apply).
const MANAGER: &str = "keadm";
/// Time for one request.
const DEADLINE: Duration = Duration::from_secs(30);
/// Objects of a list; what keadm lists are few.
const PAGE: usize = 500;

#[derive(Clone)]
pub(crate) struct Objects(Client);

impl Objects {
    pub(crate) fn new(client: Client) -> Objects {
        Objects(client)
    }

    /// `None`: there is none, or nothing of its kind.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Option<Value>> {
        found(self.send(Method::GET, path, None, Value::Null).await)
    }

    /// Makes or changes an object by server-side apply, whoever wrote it before.
    pub(crate) async fn apply(&self, path: &str, object: &Value) -> anyhow::Result<Value> {
        let path = format!("{path}?fieldManager={MANAGER}&force=true");
        let kind = Some("application/apply-patch+yaml");
        Ok(self.send(Method::PATCH, &path, kind, object.clone()).await?)
    }

    /// False: there was none.
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<bool> {
        let options = json!({"propagationPolicy": "Background"});
        let deleted = self.send(Method::DELETE, path, Some("application/json"), options).await;
        Ok(found(deleted)?.is_some())
    }

    /// All objects of a collection; none if nothing of the kind is served.
    pub(crate) async fn list(&self, collection: &str, selector: &str) -> anyhow::Result<Vec<Value>> {
        let selector = if selector.is_empty() { String::new() } else { format!("&labelSelector={selector}") };
        let mut list = match self.get(&format!("{collection}?limit={PAGE}{selector}")).await? {
            Some(list) => list,
            None => return Ok(Vec::new()),
        };
        if list["metadata"]["continue"].as_str().is_some_and(|more| !more.is_empty()) {
            bail!("there are more than {PAGE} objects at {collection}");
        }
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        kind: Option<&str>,
        body: Value,
    ) -> Result<Value, SendError> {
        let what = format!("{method} {path}");
        let mut request = Request::builder().method(method).uri(path);
        if let Some(kind) = kind {
            request = request.header(http::header::CONTENT_TYPE, kind);
        }
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = request.body(body).context("a request").map_err(SendError::Other)?;
        let answered = tokio::time::timeout(DEADLINE, self.0.request::<Value>(request)).await;
        match answered {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(SendError::NotFound),
            Ok(Err(error)) => Err(SendError::Other(anyhow::Error::new(error).context(what))),
            Err(late) => Err(SendError::Other(anyhow::Error::new(late).context(what))),
        }
    }
}

#[derive(Debug)]
enum SendError {
    NotFound,
    Other(anyhow::Error),
}

impl From<SendError> for anyhow::Error {
    fn from(error: SendError) -> anyhow::Error {
        match error {
            SendError::NotFound => anyhow::anyhow!("the API server knows nothing of that kind or name"),
            SendError::Other(error) => error,
        }
    }
}

fn found(sent: Result<Value, SendError>) -> anyhow::Result<Option<Value>> {
    match sent {
        Ok(value) => Ok(Some(value)),
        Err(SendError::NotFound) => Ok(None),
        Err(SendError::Other(error)) => Err(error),
    }
}
