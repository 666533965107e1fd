//! The way from CloudCore to an API server that fails: every request passes here, and some are refused, broken off,
//! answered by halves or never.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use harness::wait;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use rand::RngExt;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::record::Record;

/// Requests that get no answer at all, and those that fail in other ways.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    /// Of all requests, 0 to 1.
    pub fail: f64,
    pub hang: f64,
}

/// After each start an API server forbids everything for as long as its roles are not loaded.
const FORBIDS: Duration = Duration::from_secs(2);
/// Largest body of a request.
const LARGEST: usize = 4 * 1024 * 1024;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Refused(u16, &'static str),
    /// The connection ends without an answer; the request was carried out or not.
    Closed {
        done: bool,
    },
    /// No answer, on a connection that stays; the request was carried out or not.
    Hangs {
        done: bool,
    },
    /// The answer ends in its middle.
    Halved,
}

const FAILURES: [Fault; 9] = [
    Fault::Refused(500, "InternalError"),
    Fault::Refused(503, "ServiceUnavailable"),
    Fault::Refused(504, "Timeout"),
    Fault::Refused(429, "TooManyRequests"),
    Fault::Refused(401, "Unauthorized"),
    Fault::Refused(403, "Forbidden"),
    Fault::Closed { done: false },
    Fault::Closed { done: true },
    Fault::Halved,
];

type Answer = Response<UnsyncBoxBody<Bytes, kube::Error>>;

pub(super) struct Faults {
    state: Arc<State>,
    /// Leads CloudCore through here.
    pub kubeconfig: PathBuf,
}

struct State {
    upstream: kube::Client,
    rates: watch::Sender<Rates>,
    /// The API server does not run.
    away: watch::Sender<bool>,
    started: Mutex<Instant>,
    /// Start of the API server that each watched path was last told of: its versions are forgotten with each.
    told: Mutex<HashMap<String, Instant>>,
    record: Arc<Record>,
    requests: AtomicU64,
    failed: AtomicU64,
    hung: AtomicU64,
}

/// How many requests there were, and how many of them failed or hung.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub requests: u64,
    pub failed: u64,
    pub hung: u64,
}

impl Faults {
    /// In front of the API server of `kubeconfig`; the new one is written into `folder`. No faults yet.
    pub(super) async fn before(kubeconfig: &Path, folder: &Path, record: Arc<Record>) -> Result<Faults> {
        let file = kube::config::Kubeconfig::read_from(kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await?;
        let upstream = kube::Client::try_from(config)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let server = format!("http://{}", listener.local_addr()?);
        let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "faults",
            "clusters": [{"name": "faults", "cluster": {"server": server}}],
            "users": [{"name": "faults", "user": {}}],
            "contexts": [{"name": "faults", "context": {"cluster": "faults", "user": "faults"}}]});
        let path = folder.join("faults.kubeconfig");
        std::fs::write(&path, text.to_string())?;
        let state = Arc::new(State {
            upstream,
            rates: watch::channel(Rates::default()).0,
            away: watch::channel(false).0,
            // Nothing is forgotten or forbidden before the first restart.
            started: Mutex::new(wait::now() - FORBIDS),
            told: Mutex::default(),
            record,
            requests: AtomicU64::default(),
            failed: AtomicU64::default(),
            hung: AtomicU64::default(),
        });
        tokio::spawn(serve(listener, state.clone()));
        Ok(Faults { state, kubeconfig: path })
    }

    pub(super) fn set(&self, rates: Rates) {
        self.state.rates.send_replace(rates);
    }

    /// The API server is taken away: all connections end.
    pub(super) fn take_away(&self) {
        self.state.away.send_replace(true);
    }

    /// It has started again.
    pub(super) fn give_back(&self) {
        *self.state.started.lock().unwrap_or_else(PoisonError::into_inner) = wait::now();
        self.state.away.send_replace(false);
    }

    pub(super) fn counts(&self) -> Counts {
        let state = &self.state;
        Counts {
            requests: state.requests.load(Relaxed),
            failed: state.failed.load(Relaxed),
            hung: state.hung.load(Relaxed),
        }
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        tokio::spawn(async move {
            let mut away = state.away.subscribe();
            if *away.borrow_and_update() {
                return;
            }
            let answering = state.clone();
            let service = hyper::service::service_fn(move |request| {
                let state = answering.clone();
                async move { state.answer(request).await }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A connection that fails is what this is for.
            tokio::select! {
                _ = connection => {}
                _ = away.changed() => {}
            }
        });
    }
}

impl State {
    async fn answer(&self, request: Request<Incoming>) -> io::Result<Answer> {
        self.requests.fetch_add(1, Relaxed);
        let started = *self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if started.elapsed() < FORBIDS && self.is_faulty() {
            return Ok(refusal(403, "Forbidden"));
        }
        if is_watch(&request) && self.forgets(request.uri().path(), started) {
            let event = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","message":"too old resource version","reason":"Expired","code":410}}"#;
            return Ok(Response::new(whole(format!("{event}\n"))));
        }
        match self.draw() {
            Fault::None => self.forward(request).await,
            Fault::Refused(code, reason) => Ok(refusal(code, reason)),
            Fault::Closed { done } => {
                if done {
                    self.forward(request).await?;
                }
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Fault::Hangs { done } => {
                if done {
                    self.forward(request).await?;
                }
                // Until who asked gives up.
                std::future::pending().await
            }
            Fault::Halved => {
                let (head, body) = self.forward(request).await?.into_parts();
                Ok(Response::from_parts(head, halved(body)))
            }
        }
    }

    fn is_faulty(&self) -> bool {
        *self.rates.borrow() != Rates::default()
    }

    fn draw(&self) -> Fault {
        let rates = *self.rates.borrow();
        let mut random = rand::rng();
        let drawn: f64 = random.random();
        if drawn < rates.hang {
            self.hung.fetch_add(1, Relaxed);
            return Fault::Hangs { done: random.random() };
        }
        if drawn < rates.hang + rates.fail {
            self.failed.fetch_add(1, Relaxed);
            return FAILURES[random.random_range(0..FAILURES.len())];
        }
        Fault::None
    }

    /// The first watch of `path` after each restart goes on from a version that is forgotten.
    fn forgets(&self, path: &str, started: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(path.to_owned(), started).is_some_and(|before| before != started)
    }

    async fn forward(&self, request: Request<Incoming>) -> io::Result<Answer> {
        let (mut head, body) = request.into_parts();
        head.headers.remove(header::HOST);
        let writes = head.method != Method::GET;
        let body = Limited::new(body, LARGEST).collect().await.map_err(io::Error::other)?.to_bytes();
        let request = Request::from_parts(head, Body::from(body.to_vec()));
        let answer = self.upstream.send(request).await.map_err(io::Error::other)?;
        let (head, body) = answer.into_parts();
        if !writes {
            return Ok(Response::from_parts(head, body.boxed_unsync()));
        }
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        if head.status.is_success() {
            self.record.take(&body);
        }
        Ok(Response::from_parts(head, whole(body)))
    }
}

fn is_watch(request: &Request<Incoming>) -> bool {
    request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"))
}

fn whole(body: impl Into<Bytes>) -> UnsyncBoxBody<Bytes, kube::Error> {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}

fn refusal(code: u16, reason: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": "refused by the scenario"});
    let mut answer = Response::new(whole(status.to_string()));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

/// The first half of the first piece of `body`, then a failure.
fn halved(body: UnsyncBoxBody<Bytes, kube::Error>) -> UnsyncBoxBody<Bytes, kube::Error> {
    let pieces = futures_util::stream::unfold(Some(body), |body| async move {
        let mut body = body?;
        match body.frame().await {
            Some(Ok(frame)) if frame.is_data() => {
                let data = frame.into_data().unwrap_or_default();
                Some((Ok(Frame::data(data.slice(..data.len() / 2))), None))
            }
            other => other.map(|frame| (frame, Some(body))),
        }
    });
    let broken = futures_util::stream::once(async {
        Err(kube::Error::Service(Box::new(io::Error::from(io::ErrorKind::ConnectionReset))))
    });
    StreamBody::new(futures_util::StreamExt::chain(pieces, broken)).boxed_unsync()
}
