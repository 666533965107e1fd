//! get, list and watch.

use std::time::Duration;

use apimachinery::{Status, object};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::backend::Backend;
use crate::call::Call;
use crate::respond::{self, Answer};
use crate::stored::ListQuery;
use crate::target::Target;
use crate::watch::{Options, Start, Watch};

pub(crate) async fn get<B: Backend>(call: Call<'_, B>) -> Result<Answer, Status> {
    if call.query.flag("watch") {
        return list(call).await;
    }
    let stored = call.backend.get(call.reader(), &call.target).await?;
    let stored = stored.ok_or_else(|| call.target.not_found())?;
    call.answer(200, &stored)
}

/// True if a GET of the target's subresource reads the whole object.
pub(crate) fn is_whole(target: &Target) -> bool {
    match target.subresource.as_str() {
        "" => true,
        "status" => target.served.version().status,
        "ephemeralcontainers" | "resize" => target.served.is_core("pods"),
        "approval" => target.served.resource.plural == "certificatesigningrequests",
        _ => false,
    }
}

/// Longest a watch lives when the client does not say.
const WATCH: Duration = Duration::from_secs(3600);

pub(crate) async fn list<B: Backend>(call: Call<'_, B>) -> Result<Answer, Status> {
    let (labels, mut fields) = call.query.selectors(&call.target.served)?;
    if !call.target.name.is_empty() {
        let selector = format!("metadata.name={}", call.target.name);
        fields =
            apimachinery::FieldSelector::parse(&selector).map_err(|e| Status::bad_request(e.to_string()))?;
    }
    let mut scope = ListQuery {
        resource: call.target.served.resource.key(),
        namespace: Some(call.target.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        labels,
        fields,
        limit: 0,
        after: None,
    };
    if call.query.flag("watch") {
        return watch(call, scope).await;
    }
    let limit = call.query.number("limit")?.unwrap_or(0).max(0);
    scope.limit = usize::try_from(limit).unwrap_or(usize::MAX);
    scope.after = continuation(call.query.get("continue"))?;
    let renderer = call.renderer()?;
    let wanted = call.query.resource_version()?;
    let page = call.backend.list(call.reader(), scope).await?;
    if wanted > page.revision {
        let message = format!("Too large resource version: {wanted}, current: {}", page.revision);
        let mut status = Status::new(504, "Timeout", message);
        status.retry_after = Some(1);
        return Err(status);
    }
    let token = match page.items.last().filter(|_| page.more) {
        Some(last) => {
            let token = json!({ "rv": page.revision, "ns": last.key.namespace, "name": last.key.name });
            URL_SAFE_NO_PAD.encode(token.to_string())
        }
        None => String::new(),
    };
    Ok(respond::bytes(200, "application/json", renderer.list(&page, &token)?))
}

/// Where the next page begins. Later pages show the state at the time they are read, not that of the first page.
fn continuation(token: &str) -> Result<Option<(String, String)>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let bad = || Status::bad_request("continue key is not valid");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
    let token: serde_json::Value = serde_json::from_slice(&bytes).map_err(|_| bad())?;
    let name = object::text(&token, "/name");
    if name.is_empty() {
        return Err(bad());
    }
    Ok(Some((object::text(&token, "/ns").to_owned(), name.to_owned())))
}

async fn watch<B: Backend>(call: Call<'_, B>, scope: ListQuery) -> Result<Answer, Status> {
    let version = call.query.resource_version()?;
    let start = match (call.query.get("sendInitialEvents"), version) {
        ("true", _) => Start::Everything { mark_end: call.query.flag("allowWatchBookmarks") },
        ("", 0) => Start::Everything { mark_end: false },
        (_, 0) => Start::Now,
        (_, version) => Start::After(version),
    };
    let timeout = call.query.number("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
    let timeout = timeout.filter(|seconds| *seconds > 0).map_or(WATCH, Duration::from_secs).min(4 * WATCH);
    let options = Options { start, bookmarks: call.query.flag("allowWatchBookmarks"), timeout };
    let watch = Watch::open(&call, scope, options).await?;
    Ok(respond::stream(watch.into_body()))
}
