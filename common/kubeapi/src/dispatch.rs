//! From an HTTP request to what answers it.

use std::sync::Arc;

use apimachinery::path::ResourcePath;
use apimachinery::{RequestPath, Status};
use http::{Method, Request};

use crate::attributes::{self, Action};
use crate::backend::Backend;
use crate::call::{Call, Question};
use crate::discovery::Offer;
use crate::inflight::{InFlight, Limits};
use crate::peer::Peer;
use crate::registry::Registry;
use crate::request::{Incoming, Query};
use crate::respond::{self, Answer};
use crate::target::Target;
use crate::user::{Asker, User};
use crate::warnings::Warnings;
use crate::{discovery, openapi, read};

/// What an API is told.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Of all doors together.
    pub limits: Limits,
}

/// The API of a backend: what its doors serve, and what the program itself may ask. Clones are the same API.
pub struct Api<B> {
    backend: Arc<B>,
    in_flight: Arc<InFlight>,
}

impl<B> Clone for Api<B> {
    fn clone(&self) -> Api<B> {
        Api { backend: self.backend.clone(), in_flight: self.in_flight.clone() }
    }
}

impl<B: Backend> Api<B> {
    pub fn new(backend: Arc<B>, settings: Settings) -> Api<B> {
        Api { backend, in_flight: Arc::new(InFlight::new(settings.limits)) }
    }

    pub fn backend(&self) -> &Arc<B> {
        &self.backend
    }

    /// Answers a request; every failure is a Status.
    pub async fn respond(&self, peer: &Peer, request: Request<Incoming>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let warnings = Warnings::default();
        let answer = self.route(peer, request, &warnings).await;
        let mut answer = answer.unwrap_or_else(|status| respond::failure(&status));
        warnings.tell(answer.headers_mut());
        tracing::debug!(operation = %method, path, code = answer.status().as_u16(), "answered");
        answer
    }

    async fn route(
        &self,
        peer: &Peer,
        request: Request<Incoming>,
        warnings: &Warnings,
    ) -> Result<Answer, Status> {
        let backend = &self.backend;
        let raw = request.uri().path().to_owned();
        let path = RequestPath::parse(&raw).ok_or_else(Status::no_such_path)?;
        let query = Query::parse(request.uri().query());
        let asker = backend.authenticate(peer, request.headers()).await?;
        if attributes::is_public(&raw) {
            let (parts, body) = request.into_parts();
            if parts.method == Method::GET
                && let Some(answer) = backend.document(None, &parts).await?
            {
                return Ok(answer);
            }
            let request = Request::from_parts(parts, body);
            return generic(backend.catalog(), &request, &raw).unwrap_or_else(|| Err(Status::no_such_path()));
        }
        let Asker { user, .. } = asker.ok_or_else(Status::unauthorized)?;
        let action = Action::of(request.method(), &path, &raw, &query);
        let _place = match peer.is_program() {
            true => None,
            false => self.in_flight.enter(&action, &user)?,
        };
        backend.authorise(&user, &action.attributes()).await?;
        if let Some(more) = action.more() {
            backend.authorise(&user, &more).await?;
        }
        let request = match path {
            RequestPath::Resource(_) => request,
            _ if request.method() != Method::GET => {
                return Err(Status::method_not_allowed(request.method().as_str()));
            }
            _ => {
                let (parts, body) = request.into_parts();
                if let Some(answer) = backend.document(Some(&user), &parts).await? {
                    return Ok(answer);
                }
                Request::from_parts(parts, body)
            }
        };
        let offer = Offer { catalog: backend.catalog(), computed: backend.computed() };
        match path {
            RequestPath::Resource(path) => resource(backend, path, query, user, request, warnings).await,
            RequestPath::CoreVersions => Ok(discovery::core(offer, request.headers())),
            RequestPath::Groups => Ok(discovery::groups(offer, request.headers())),
            RequestPath::Group(group) => discovery::group(offer, &group),
            RequestPath::GroupVersion(group, version) => discovery::resources(offer, &group, &version),
            RequestPath::Other => match generic(backend.catalog(), &request, &raw) {
                Some(answer) => answer,
                None => backend.plain(&user, &request.into_parts().0).await,
            },
        }
    }
}

/// Paths beside the API groups that every API server has; `None`: it is none of these.
fn generic(catalog: &Registry, request: &Request<Incoming>, path: &str) -> Option<Result<Answer, Status>> {
    let root = path.split('/').nth(1).unwrap_or_default();
    Some(match root {
        "healthz" | "livez" | "readyz" => Ok(respond::text(200, "ok")),
        "version" => Ok(respond::json(200, &discovery::version())),
        "openapi" => openapi::answer(catalog, path, request.uri().query(), request.headers()),
        _ => return None,
    })
}

async fn resource<B: Backend>(
    backend: &Arc<B>,
    path: ResourcePath,
    query: Query,
    user: User,
    request: Request<Incoming>,
    warnings: &Warnings,
) -> Result<Answer, Status> {
    let (parts, body) = request.into_parts();
    let warnings = warnings.clone();
    if backend.computed().iter().any(|one| one.is_at(&path)) {
        return B::compute(Question { backend, path, query, user, parts, warnings }, body).await;
    }
    let served = backend.catalog().find(&path.group, &path.version, &path.resource);
    let served = served.ok_or_else(Status::no_such_path)?;
    let misplaced = !served.resource.namespaced && !path.namespace.is_empty();
    let unplaced = served.resource.namespaced && path.namespace.is_empty() && !path.name.is_empty();
    if misplaced || unplaced {
        return Err(Status::no_such_path());
    }
    let target = Target { served, namespace: path.namespace, name: path.name, subresource: path.subresource };
    let call = Call { backend, target, rest: path.rest, query, user, parts, warnings };
    match (call.parts.method == Method::GET, call.target.name.is_empty()) {
        (true, true) => read::list(call).await,
        (true, false) if read::is_whole(&call.target) => read::get(call).await,
        _ => B::answer(call, body).await,
    }
}
