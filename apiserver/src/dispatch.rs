//! From an HTTP request to the verb that answers it.

use std::sync::Arc;

use apimachinery::path::ResourcePath;
use apimachinery::{RequestPath, Status};
use http::{Method, Request};

use crate::auth::{self, Peer};
use crate::context::Context;
use crate::request::{Incoming, Query};
use crate::respond::{self, Answer};
use crate::target::Target;
use crate::user::User;
use crate::warnings::Warnings;
use crate::{authorise, discovery, openapi, verbs};

/// Answers a request; every failure is a Status.
pub(crate) async fn respond(context: &Arc<Context>, peer: &Peer, request: Request<Incoming>) -> Answer {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let warnings = Warnings::default();
    let answer = route(context, peer, request, &warnings).await;
    let mut answer = answer.unwrap_or_else(|status| respond::failure(&status));
    warnings.tell(answer.headers_mut());
    tracing::debug!(operation = %method, path, code = answer.status().as_u16(), "answered");
    answer
}

async fn route(
    context: &Arc<Context>,
    peer: &Peer,
    request: Request<Incoming>,
    warnings: &Warnings,
) -> Result<Answer, Status> {
    let raw = request.uri().path().to_owned();
    let path = RequestPath::parse(&raw).ok_or_else(Status::no_such_path)?;
    let query = Query::parse(request.uri().query());
    let user = auth::authenticate(context, peer, request.headers()).await?;
    if authorise::is_public(&raw) {
        return plain(context, &request, &raw);
    }
    let user = user.ok_or_else(Status::unauthorized)?;
    authorise::request(context, &user, request.method(), &path, &raw, &query)?;
    match path {
        RequestPath::Resource(path) => resource(context, path, query, user, request, warnings).await,
        _ if request.method() != Method::GET => Err(Status::method_not_allowed(request.method().as_str())),
        RequestPath::CoreVersions => Ok(discovery::core(context, request.headers())),
        RequestPath::Groups => Ok(discovery::groups(context, request.headers())),
        RequestPath::Group(group) => discovery::group(context, &group),
        RequestPath::GroupVersion(group, version) => discovery::resources(context, &group, &version),
        RequestPath::Other => plain(context, &request, &raw),
    }
}

/// Paths that are not part of the API groups.
fn plain(context: &Context, request: &Request<Incoming>, path: &str) -> Result<Answer, Status> {
    let root = path.split('/').nth(1).unwrap_or_default();
    match root {
        "healthz" | "livez" | "readyz" => Ok(respond::text(200, "ok")),
        "version" => Ok(respond::json(200, &discovery::version())),
        "openapi" => openapi::answer(context, path, request.uri().query(), request.headers()),
        _ => Err(Status::no_such_path()),
    }
}

async fn resource(
    context: &Arc<Context>,
    path: ResourcePath,
    query: Query,
    user: User,
    request: Request<Incoming>,
    warnings: &Warnings,
) -> Result<Answer, Status> {
    let (parts, body) = request.into_parts();
    if let Some(kind) = verbs::review::kind(&path) {
        return verbs::review::answer(context, (kind, &path.namespace), &user, &parts, body).await;
    }
    if verbs::usage::is_one(&path) {
        return verbs::usage::answer(context, &path, &query, &parts.method).await;
    }
    let served =
        context.registry.find(&path.group, &path.version, &path.resource).ok_or_else(Status::no_such_path)?;
    let misplaced = !served.resource.namespaced && !path.namespace.is_empty();
    let unplaced = served.resource.namespaced && path.namespace.is_empty() && !path.name.is_empty();
    if misplaced || unplaced {
        return Err(Status::no_such_path());
    }
    let target = Target { served, namespace: path.namespace, name: path.name, subresource: path.subresource };
    let call = verbs::Call { context, target, query, user, parts, warnings: warnings.clone() };
    if verbs::streams::is_one(&call) {
        return verbs::streams::answer(call, &path.rest, body.of_connection()?).await;
    }
    if verbs::backends::is_one(&call) {
        return verbs::backends::answer(call, &path.rest, body.of_connection()?).await;
    }
    if verbs::scale::is_one(&call) {
        return verbs::scale::answer(call, body).await;
    }
    match (call.parts.method.clone(), call.target.name.is_empty(), call.target.subresource.is_empty()) {
        (Method::GET, true, _) => verbs::read::list(call).await,
        (Method::GET, false, true) => verbs::read::get(call).await,
        (Method::GET, false, false) => verbs::read::subresource(call).await,
        (Method::POST, true, _) => verbs::create::create(call, body).await,
        (Method::POST, false, false) => verbs::subresources::post(call, body).await,
        (Method::PUT, false, _) => verbs::update::update(call, body).await,
        (Method::PATCH, false, _) => verbs::update::patch(call, body).await,
        (Method::DELETE, true, _) => verbs::delete::collection(call, body).await,
        (Method::DELETE, false, true) => verbs::delete::one(call, body).await,
        (method, ..) => Err(Status::method_not_allowed(method.as_str())),
    }
}
