//! Asks other servers whether they are there, and what they serve (`kube-aggregator/pkg/controllers/status/remote`).
//!
//! One task decides who is due: a server after a change of its APIService or its Service, then every half minute, and after a failure
//! sooner. Each is asked by a task of its own, a few at once, so that one that does not answer holds up no other.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::Status;
use apimachinery::apiservice::{Availability, with_availability};
use apimachinery::object::{integer, list, text};
use apimachinery::traits::Traits;
use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, HOST, HeaderValue};
use http_body_util::{BodyExt as _, Empty, Limited};
use kubeapi::stored::{Event, Key, ListQuery};
use kubeapi::user::User;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::proxy::{connected, say_who};
use crate::apiservices::{Remote, SERVICES};
use crate::context::Context;
use crate::storage::{Change, WriteError};

/// Time for one question, the connection included.
const QUESTION: Duration = Duration::from_secs(5);
/// Between questions to a server that answers.
const AGAIN: Duration = Duration::from_secs(30);
/// After a first failure; then twice as long each time, up to [`AGAIN`].
const SOON: Duration = Duration::from_secs(1);
/// Servers asked at once.
const AT_ONCE: usize = 16;
/// Bytes that are read of an answer.
const LONGEST: usize = 4 * 1024 * 1024;
/// Where a Service has its addresses.
const ENDPOINTS: &str = "endpoints";
const SLICES: &str = "endpointslices.discovery.k8s.io";

/// Until `stop`.
pub(crate) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let storage = &context.storage;
    let [mut services, mut endpoints, mut slices] =
        ["services", ENDPOINTS, SLICES].map(|resource| storage.subscribe(Some(resource)));
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut asking = JoinSet::new();
    loop {
        let now = Instant::now();
        let mut next = now + AGAIN;
        for remote in context.services.remotes() {
            let mut probe = remote.probe();
            match (probe.is_running, probe.due <= now) {
                (true, _) => {}
                (false, false) => next = next.min(probe.due),
                (false, true) => {
                    probe.is_running = true;
                    drop(probe);
                    asking.spawn(one(context.clone(), remote, turns.clone()));
                }
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = context.services.changed.notified() => {}
            Some(_) = asking.join_next() => {}
            heard = changed(&mut services) => concern(&context, heard.as_deref(), ""),
            heard = changed(&mut endpoints) => concern(&context, heard.as_deref(), ""),
            heard = changed(&mut slices) => concern(&context, heard.as_deref(), SERVICE_LABEL),
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

/// The label of a slice that names its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// `None`: some were missed.
async fn changed(events: &mut Receiver<Arc<Event>>) -> Option<Arc<Event>> {
    match events.recv().await {
        Ok(event) => Some(event),
        Err(RecvError::Lagged(_)) => None,
        Err(RecvError::Closed) => std::future::pending().await,
    }
}

/// Those of the Service that an event is of are due; its name is that of the object, or in this label.
fn concern(context: &Context, event: Option<&Event>, label: &str) {
    let is_of = |remote: &Remote| {
        event.is_none_or(|event| {
            let key = &event.stored.key;
            let name = match label {
                "" => Some(&key.name),
                label => event.traits.labels.get(label),
            };
            key.namespace == remote.namespace && name == Some(&remote.service)
        })
    };
    for remote in context.services.remotes().iter().filter(|remote| is_of(remote)) {
        remote.probe().due = Instant::now();
    }
}

/// Asks one server, and says in its APIService how it went.
async fn one(context: Arc<Context>, remote: Arc<Remote>, turns: Arc<Semaphore>) {
    // It is never closed.
    let _turn = turns.acquire().await;
    let asked_at = Instant::now();
    let (said, resources) = match check(&context, &remote).await {
        Ok(resources) => {
            let message = "all checks passed".to_owned();
            (Availability { is_available: true, reason: "Passed", message }, Some(resources))
        }
        Err(said) => (said, None),
    };
    let told = tell(&context, &remote, &said).await;
    if let Err(status) = &told {
        tracing::warn!(name = remote.name, error = %status, "could not say whether an APIService is available");
    }
    let mut probe = remote.probe();
    probe.is_running = false;
    probe.failures = if said.is_available && told.is_ok() { 0 } else { probe.failures.saturating_add(1) };
    if let Some(resources) = resources {
        probe.resources = resources;
    }
    // Something changed while it was asked: that is looked at again.
    if probe.due <= asked_at {
        let wait = match probe.failures {
            0 => AGAIN,
            failures => AGAIN.min(SOON * 2u32.saturating_pow((failures - 1).min(8))),
        };
        probe.due = Instant::now() + wait;
    }
}

/// What the server serves, or why it is not available.
async fn check(context: &Context, remote: &Remote) -> Result<Vec<Value>, Availability> {
    let failed =
        |reason: &'static str, message: String| Availability { is_available: false, reason, message };
    let (namespace, name) = (&remote.namespace, &remote.service);
    let broken = |status: Status| {
        failed(
            "ServiceAccessError",
            format!("service/{name} in {namespace:?} cannot be checked due to: {status}"),
        )
    };
    let service = object(context, "services", namespace, name).await.map_err(broken)?;
    let service = service.ok_or_else(|| {
        failed("ServiceNotFound", format!("service/{name} in {namespace:?} is not present"))
    })?;
    if text(&service, "/spec/type") == "ClusterIP" {
        let mut ports = list(&service, "/spec/ports").iter();
        let port = ports.find(|port| integer(port, "/port") == Some(remote.port.into()));
        let port = port.ok_or_else(|| {
            let why = format!("service/{name} in {namespace:?} is not listening on port {}", remote.port);
            failed("ServicePortError", why)
        })?;
        let port = text(port, "/name");
        let has = endpoints(context, (namespace, name), port).await.map_err(broken)?;
        match has {
            None => {
                let why = format!("cannot find endpointslices for service/{name} in {namespace:?}");
                return Err(failed("EndpointsNotFound", why));
            }
            Some(false) => {
                let why = format!(
                    "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port:?}"
                );
                return Err(failed("MissingEndpoints", why));
            }
            Some(true) => {}
        }
    }
    let answer = tokio::time::timeout(QUESTION, ask(context, remote)).await;
    let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {QUESTION:?}")));
    answer.map_err(|why| {
        let place = format!("https://{name}.{namespace}.svc:{}{}", remote.port, remote.path());
        failed("FailedDiscoveryCheck", format!("failing or missing response from {place}: {why}"))
    })
}

async fn object(
    context: &Context,
    resource: &str,
    namespace: &str,
    name: &str,
) -> Result<Option<Value>, Status> {
    match context.storage.get(&Key::new(resource, namespace, name)).await? {
        Some(stored) => stored.value().map(Some),
        None => Ok(None),
    }
}

/// Whether a Service has addresses with a port of this name; `None`: nobody keeps any. They are in slices, and in an Endpoints
/// object where that is kept by hand and nothing makes slices of it.
async fn endpoints(
    context: &Context,
    (namespace, service): (&str, &str),
    port: &str,
) -> Result<Option<bool>, Status> {
    let query = ListQuery {
        resource: SLICES.to_owned(),
        namespace: Some(namespace.to_owned()),
        ..ListQuery::default()
    };
    let mut found = Vec::new();
    for stored in context.storage.list(query).await?.items {
        let slice = stored.value()?;
        if slice["metadata"]["labels"][SERVICE_LABEL] != service {
            continue;
        }
        let is_ready = list(&slice, "/endpoints").iter().any(|one| one["conditions"]["ready"] != false);
        let is_named =
            list(&slice, "/ports").iter().any(|one| text(one, "/name") == port && !one["port"].is_null());
        found.push(is_ready && is_named);
    }
    if let Some(endpoints) = object(context, ENDPOINTS, namespace, service).await? {
        found.push(list(&endpoints, "/subsets").iter().any(|subset| {
            let is_named = list(subset, "/ports").iter().any(|one| text(one, "/name") == port);
            is_named && !list(subset, "/addresses").is_empty()
        }));
    }
    Ok((!found.is_empty()).then(|| found.contains(&true)))
}

/// `resources` of what the server answers.
async fn ask(context: &Context, remote: &Remote) -> Result<Vec<Value>, String> {
    let told = |error: &dyn std::error::Error| daemon::errors::describe(error);
    let (stream, authority) = connected(context, remote).await.map_err(|error| told(&error))?;
    let host = HeaderValue::from_str(&authority).map_err(|error| told(&error))?;
    let mut request =
        Request::get(remote.path()).body(Empty::<Bytes>::new()).map_err(|error| told(&error))?;
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    // As an administrator, who may read this everywhere.
    let user = User {
        name: "system:kube-aggregator".to_owned(),
        groups: vec!["system:masters".to_owned()],
        ..User::default()
    };
    say_who(request.headers_mut(), &user);
    let answer = httpproxy::ask(stream, request, QUESTION).await.map_err(|error| told(&error))?;
    let code = answer.status();
    if !code.is_success() && !code.is_redirection() {
        return Err(format!("bad status: {}", code.as_u16()));
    }
    let body = Limited::new(answer.into_body(), LONGEST).collect().await;
    let body = body.map_err(|error| format!("reading the answer: {error}"))?.to_bytes();
    // What says that it is there but not what it serves, is there.
    let list: Value = serde_json::from_slice(&body).unwrap_or_default();
    Ok(list["resources"].as_array().cloned().unwrap_or_default())
}

/// Writes the condition, if it says something else than before.
async fn tell(context: &Context, remote: &Remote, said: &Availability) -> Result<(), Status> {
    let key = Key::new(SERVICES, "", &remote.name);
    let Some(stored) = context.storage.get(&key).await? else { return Ok(()) };
    let mut value = stored.value()?;
    // Of another server by now, which is asked itself.
    if value["spec"] != remote.spec {
        return Ok(());
    }
    let now = daemon::clock::rfc3339(daemon::clock::now());
    let status = with_availability(&value["status"], said, &now);
    if value["status"] == status {
        return Ok(());
    }
    let previous = Traits::of(SERVICES, &value);
    value["status"] = status;
    let change = Change::Update { value, expected: stored.revision, previous };
    match context.storage.commit(key, change).await {
        Ok(_) | Err(WriteError::Missing) => Ok(()),
        Err(error) => Err(Status::internal(error.to_string())),
    }
}
