//! `/healthz` and `/readyz` on a local address.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the process still waits for. `/readyz` answers 200 once nothing is left, else 503 with the list.
#[derive(Clone, Default)]
pub struct Readiness {
    waiting: Arc<Mutex<Vec<&'static str>>>,
}

/// One thing waited for; dropping it marks it ready.
pub struct Unready {
    name: &'static str,
    readiness: Readiness,
}

impl Readiness {
    pub fn wait_for(&self, name: &'static str) -> Unready {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        Unready { name, readiness: self.clone() }
    }

    pub fn waiting(&self) -> Vec<&'static str> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Unready {
    fn drop(&mut self) {
        let mut waiting = self.readiness.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = waiting.iter().position(|name| *name == self.name) {
            waiting.remove(at);
        }
        if waiting.is_empty() {
            tracing::info!("ready");
        }
    }
}

/// Binds the address; serving starts with [`Health::run`].
pub struct Health {
    listener: TcpListener,
    readiness: Readiness,
}

impl Health {
    pub async fn build(address: SocketAddr, readiness: Readiness) -> std::io::Result<Health> {
        Ok(Health { listener: TcpListener::bind(address).await?, readiness })
    }

    pub async fn run(self, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((tcp, _)) = accepted else { continue };
            let readiness = self.readiness.clone();
            let serve = async move {
                let service = service_fn(|request| {
                    let readiness = readiness.clone();
                    async move { Ok::<_, Infallible>(answer(&request, &readiness)) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(5))
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(tcp), service)
                    .await;
            };
            // One at a time is enough for probes, and bounds the cost.
            let _ = tokio::time::timeout(Duration::from_secs(10), serve).await;
        }
    }
}

fn answer(request: &Request<Incoming>, readiness: &Readiness) -> Response<Full<Bytes>> {
    let waiting = readiness.waiting();
    let (status, text) = match request.uri().path() {
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" if waiting.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", waiting.join(", "))),
        _ => (StatusCode::NOT_FOUND, "no such path\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
