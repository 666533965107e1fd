//! From an HTTP request to what answers it.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::listing::Asked as _;
use apimachinery::path::ResourcePath;
use apimachinery::{RequestPath, Status};
use http::{Method, Request};

use crate::attributes::{self, Action};
use crate::audit::{self, Record};
use crate::backend::Backend;
use crate::call::{Call, Question};
use crate::counts::{Counting, Counts};
use crate::discovery::Offer;
use crate::inflight::{InFlight, Limits};
use crate::peer::Peer;
use crate::request::{Incoming, Query};
use crate::respond::{self, Answer, Layout};
use crate::target::Target;
use crate::user::User;
use crate::warnings::Warnings;
use crate::{discovery, gzip, openapi, read};

/// What a client may say of how long its request may take: less than that of kube-apiserver (`--request-timeout`).
const LONGEST: Duration = Duration::from_mins(1);

/// What an API is told.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Of all doors together.
    pub limits: Limits,
    /// Where requests are told of; `None`: nowhere.
    pub audit: Option<audit::Log>,
}

/// The API of a backend: what its doors serve, and what the program itself may ask. Clones are the same API.
pub struct Api<B> {
    backend: Arc<B>,
    in_flight: Arc<InFlight>,
    counts: Option<Counts>,
    audit: Option<audit::Log>,
}

impl<B> Clone for Api<B> {
    fn clone(&self) -> Api<B> {
        Api {
            backend: self.backend.clone(),
            in_flight: self.in_flight.clone(),
            counts: self.counts.clone(),
            audit: self.audit.clone(),
        }
    }
}

impl<B: Backend> Api<B> {
    pub fn new(backend: Arc<B>, settings: Settings) -> Api<B> {
        let in_flight = Arc::new(InFlight::new(settings.limits));
        Api { backend, in_flight, counts: B::METRICS.then(Counts::new), audit: settings.audit }
    }

    pub fn backend(&self) -> &Arc<B> {
        &self.backend
    }

    /// Answers a request; every failure is a Status.
    pub async fn respond(&self, peer: &Peer, request: Request<Incoming>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let warnings = Warnings::default();
        let takes_gzip = gzip::is_accepted(request.headers());
        let layout = Layout::of(request.headers(), &Query::parse(request.uri().query()));
        let mut record = Record::begin(self.audit.as_ref(), peer, &request);
        let mut counting = self.counts.as_ref().map(Counts::begin);
        let answer = self.route(peer, request, &warnings, (&mut record, &mut counting)).await;
        let said = warnings.annotations();
        if !said.is_empty() {
            record.annotated(said);
        }
        let mut answer = match answer {
            Ok(answer) => record.answered(None, answer),
            Err(status) => record.answered(Some(&status), respond::failure(&status)),
        };
        if let Some(counting) = counting {
            answer = counting.answered(answer);
        }
        warnings.tell(answer.headers_mut());
        respond::mark(answer.headers_mut());
        tracing::debug!(operation = %method, path, code = answer.status().as_u16(), "answered");
        let answer = respond::lay_out(answer, layout).await;
        if takes_gzip { gzip::compress(answer) } else { answer }
    }

    async fn route(
        &self,
        peer: &Peer,
        request: Request<Incoming>,
        warnings: &Warnings,
        (record, counting): (&mut Record, &mut Option<Counting>),
    ) -> Result<Answer, Status> {
        let backend = &self.backend;
        let raw = request.uri().path().to_owned();
        let path = RequestPath::parse(&raw).ok_or_else(Status::no_such_path)?;
        let mut query = Query::parse(request.uri().query());
        if matches!(&path, RequestPath::Resource(path) if path.watch) {
            query.set("watch", "true");
        }
        let action = Action::of(request.method(), &path, &raw, &query);
        record.asked_about(&action, request.uri().query());
        if let Some(counting) = counting {
            counting.asked_about(&action, backend.catalog());
        }
        let patience = if action.lasts() { None } else { patience(&query)? };
        let answering = self.answer(peer, request, (Asked { path, raw, query, action }, warnings, record));
        match patience {
            None => answering.await,
            Some(time) => tokio::time::timeout(time, answering).await.unwrap_or_else(|_| {
                Err(Status::new(504, "Timeout", "request did not complete within requested timeout"))
            }),
        }
    }

    async fn answer(
        &self,
        peer: &Peer,
        request: Request<Incoming>,
        (asked, warnings, record): (Asked, &Warnings, &mut Record),
    ) -> Result<Answer, Status> {
        let backend = &self.backend;
        let Asked { path, raw, query, action } = asked;
        let elsewhere = match &path {
            RequestPath::Resource(_) => vec![],
            _ => backend.elsewhere(),
        };
        let offer = Offer {
            catalog: backend.catalog(),
            computed: backend.computed(),
            elsewhere: &elsewhere,
            metrics: self.counts.is_some(),
        };
        let asker = backend.authenticate(peer, request.headers()).await?;
        if attributes::is_public(&raw) {
            let (parts, body) = request.into_parts();
            if parts.method == Method::GET
                && let Some(answer) = backend.document(None, &parts).await?
            {
                return Ok(answer);
            }
            let request = Request::from_parts(parts, body);
            return generic(offer, &request, &raw).unwrap_or_else(|| Err(Status::no_such_path()));
        }
        let asker = asker.ok_or_else(Status::unauthorized)?;
        record.asked_by(&asker);
        let user = asker.user;
        let _place = match peer.is_program() {
            true => None,
            false => self.in_flight.enter(&action, &user)?,
        };
        let mut decision = backend.authorise(&user, &action.attributes()).await;
        if let (Ok(_), Some(more)) = (&decision, action.more()) {
            decision = backend.authorise(&user, &more).await;
        }
        record.decided(&decision);
        decision?;
        let request = match path {
            RequestPath::Resource(_) => request,
            _ if request.method() != Method::GET => return Err(Status::method_not_allowed()),
            _ => {
                let (parts, body) = request.into_parts();
                if let Some(answer) = backend.document(Some(&user), &parts).await? {
                    return Ok(answer);
                }
                Request::from_parts(parts, body)
            }
        };
        let of = match &path {
            RequestPath::Resource(path) => Some((path.group.as_str(), path.version.as_str())),
            RequestPath::GroupVersion(group, version) => Some((group.as_str(), version.as_str())),
            _ => None,
        };
        if let Some(of) = of.filter(|(group, version)| backend.is_elsewhere(group, version)) {
            return B::hand_on(backend, of, &user, request).await;
        }
        match path {
            RequestPath::Resource(path) => resource(backend, path, query, user, request, warnings).await,
            RequestPath::CoreVersions => Ok(discovery::core(offer, request.headers(), request.uri())),
            RequestPath::Groups => Ok(discovery::groups(offer, request.headers())),
            RequestPath::Group(group) => discovery::group(offer, &group),
            RequestPath::GroupVersion(group, version) => discovery::resources(offer, &group, &version),
            RequestPath::Other => match (generic(offer, &request, &raw), &self.counts) {
                (Some(answer), _) => answer,
                (None, Some(counts)) if raw == "/metrics" => Ok(counts.answer()),
                (None, _) => backend.plain(&user, &request.into_parts().0).await,
            },
        }
    }
}

/// What a request is for.
struct Asked {
    path: RequestPath,
    raw: String,
    query: Query,
    action: Action,
}

/// How long a client lets its request take (`apiserver/pkg/endpoints/filters/request_deadline.go`); `None`: as long as others.
fn patience(query: &Query) -> Result<Option<Duration>, Status> {
    let given = query.get("timeout");
    if given.is_empty() {
        return Ok(None);
    }
    let seconds = apimachinery::duration::go_seconds(given).ok_or_else(|| {
        Status::bad_request(format!(
            "invalid timeout specified in the request URL - time: invalid duration {given:?}"
        ))
    })?;
    Ok((seconds > 0.0 && seconds < LONGEST.as_secs_f64()).then(|| Duration::from_secs_f64(seconds)))
}

/// Paths beside the API groups that every API server has; `None`: it is none of these.
fn generic(offer: Offer<'_>, request: &Request<Incoming>, path: &str) -> Option<Result<Answer, Status>> {
    let mut parts = path.split('/').skip(1);
    Some(match parts.next().unwrap_or_default() {
        "" => Ok(discovery::root(offer)),
        probe @ ("healthz" | "livez" | "readyz") => health(probe, parts.next(), request.uri().query()),
        "version" => Ok(respond::json(200, &discovery::version())),
        "openapi" => openapi::answer(offer.catalog, path, request.uri().query(), request.headers()),
        _ => return None,
    })
}

/// `ok`, or each check by its name: this server has what it needs before it listens, so it is well while it answers.
fn health(probe: &str, check: Option<&str>, query: Option<&str>) -> Result<Answer, Status> {
    match check.unwrap_or_default() {
        "" if Query::parse(query).flag("verbose") => {
            Ok(respond::text(200, &format!("[+]ping ok\n[+]log ok\n[+]etcd ok\n{probe} check passed\n")))
        }
        "" | "ping" | "log" | "etcd" => Ok(respond::text(200, "ok")),
        _ => Ok(respond::text(404, "404 page not found\n")),
    }
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
    let served = served.ok_or_else(|| {
        let mut status = Status::no_such_path();
        let mut served = backend.catalog().resources().into_iter();
        let is_version = |name: &str| name == path.version;
        // Of a group and version that are there.
        if served.any(|one| one.group == path.group && one.versions.iter().any(|own| is_version(&own.name))) {
            status.causes.clear();
        }
        status
    })?;
    if let Some(warning) = &served.version().deprecated {
        warnings.add(match warning.is_empty() {
            true => format!("{} {} is deprecated", served.api_version(), served.resource.kind),
            false => warning.clone(),
        });
    }
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
