//! `/healthz`, `/livez`, `/readyz` and `/metrics` over HTTP, on an address that operators and Prometheus reach (KubeEdge's
//! `commonConfig.monitorServer`).

use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use listener::{Client, Place, Terms};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::metrics::{self, Metrics};
use crate::rooms::Work;

/// Connections served at once: probes, a scraper and a curious person.
const CONNECTIONS: usize = 64;
/// Time for the first byte, for the head of a request, and for all of one connection.
const HEAD: Duration = Duration::from_secs(5);
const CONNECTION: Duration = Duration::from_secs(10);
/// Answers under way at the stop are given up soon: a probe asks again.
const DRAIN: Duration = Duration::from_secs(1);

/// Binds the address; serving starts with [`Monitor::run`].
pub struct Monitor {
    listener: TcpListener,
    health: Health,
    metrics: Metrics,
}

impl Monitor {
    /// # Errors
    /// The address cannot be bound.
    pub async fn build(address: SocketAddr, health: Health, metrics: Metrics) -> std::io::Result<Monitor> {
        Ok(Monitor { listener: TcpListener::bind(address).await?, health, metrics })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until stopped.
    ///
    /// # Errors
    /// Never: serving goes on until the stop.
    pub fn run(self, stop: CancellationToken) -> Work<Infallible> {
        Box::pin(self.work(stop))
    }

    async fn work(self, stop: CancellationToken) -> Result<(), Infallible> {
        let Monitor { listener, health, metrics } = self;
        let terms = Terms { what: "the monitor port", places: CONNECTIONS, first_byte: HEAD, drain: DRAIN };
        let serve = move |client: Client<TcpListener>| {
            let (health, metrics) = (health.clone(), metrics.clone());
            async move {
                let Client { stream, place, .. } = client;
                let _ = tokio::time::timeout(CONNECTION, serve(stream, place, &health, &metrics)).await;
            }
        };
        listener::serve(listener, terms, stop, serve).await;
        Ok(())
    }
}

async fn serve(tcp: TcpStream, place: Place, health: &Health, metrics: &Metrics) {
    let service = service_fn(|request| {
        place.settle();
        async move { Ok::<_, Infallible>(answer(&request, health, metrics).await) }
    });
    // A client that goes away is its own affair.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(tcp), service)
        .await;
}

async fn answer(request: &Request<Incoming>, health: &Health, metrics: &Metrics) -> Response<Full<Bytes>> {
    let uri = request.uri();
    let (status, kind, text) = match uri.path() {
        "/metrics" => {
            metrics.read().await;
            (StatusCode::OK, metrics::CONTENT_TYPE, metrics.render())
        }
        path => {
            let missing = || (StatusCode::NOT_FOUND, "no such path\n".to_owned());
            let (status, text) = probe(path, uri.query(), health).unwrap_or_else(missing);
            (status, "text/plain; charset=utf-8", text)
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// What a probe is told: its status and text; `None` for a path that is none. `?verbose` names every room.
pub fn probe(path: &str, query: Option<&str>, health: &Health) -> Option<(StatusCode, String)> {
    let verbose = query.is_some_and(|query| query.split('&').any(|part| part.starts_with("verbose")));
    Some(match path {
        // `/v1` as YurtHub has them.
        "/healthz" | "/livez" | "/v1/healthz" => verdict(&health.stuck(), "stuck", health, verbose),
        "/readyz" | "/v1/readyz" => verdict(&health.waiting(), "waiting for", health, verbose),
        _ => return None,
    })
}

/// 200 if `troubled` is empty. With `verbose` a line per room, as kube-apiserver writes them.
fn verdict(troubled: &[&str], word: &str, health: &Health, verbose: bool) -> (StatusCode, String) {
    let status = if troubled.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut text = String::new();
    if verbose {
        for (name, trouble) in health.report() {
            // Writing into a string does not fail.
            let _ = match trouble {
                None => writeln!(text, "[+]{name} ok"),
                Some(trouble) => writeln!(text, "[-]{name} {trouble}"),
            };
        }
    }
    if troubled.is_empty() {
        text.push_str("ok\n");
    } else {
        text.push_str(&format!("{word} {}\n", troubled.join(", ")));
    }
    (status, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::STUCK_AFTER;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        tcp.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn probes_name_what_is_waited_for_and_what_is_stuck() {
        let (health, stop) = (Health::default(), CancellationToken::new());
        let monitor =
            Monitor::build("127.0.0.1:0".parse().unwrap(), health.clone(), Metrics::new("x")).await.unwrap();
        let address = monitor.address().unwrap();
        let running = tokio::spawn(monitor.run(stop.clone()));
        let waiting = health.wait_for("edgecontroller");
        let ready = get(address, "/readyz?verbose").await;
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        assert!(ready.contains("[-]edgecontroller not ready yet\nwaiting for edgecontroller\n"), "{ready}");
        waiting.ready();
        assert!(get(address, "/readyz?verbose").await.contains("[+]edgecontroller ok\nok\n"));
        let beat = health.beat("edgecontroller");
        let busy = beat.begin();
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/v1/healthz").await.starts_with("HTTP/1.1 200"));
        tokio::time::pause();
        tokio::time::advance(STUCK_AFTER + Duration::from_secs(1)).await;
        tokio::time::resume();
        let health = get(address, "/healthz").await;
        assert!(health.starts_with("HTTP/1.1 503") && health.ends_with("stuck edgecontroller\n"), "{health}");
        drop(busy);
        assert!(get(address, "/healthz").await.ends_with("ok\n"));
        assert!(get(address, "/metrics").await.contains("# EOF"));
        stop.cancel();
        running.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn clients_that_say_nothing_keep_no_probe_from_its_answer() {
        let monitor = Monitor::build("127.0.0.1:0".parse().unwrap(), Health::default(), Metrics::new("x"))
            .await
            .unwrap();
        let address = monitor.address().unwrap();
        tokio::spawn(monitor.run(CancellationToken::new()));
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS - 1 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(get(address, "/healthz").await.ends_with("ok\n"));
    }

    #[tokio::test]
    async fn more_silent_clients_than_there_are_places_keep_no_probe_from_its_answer() {
        let monitor = Monitor::build("127.0.0.1:0".parse().unwrap(), Health::default(), Metrics::new("x"))
            .await
            .unwrap();
        let address = monitor.address().unwrap();
        tokio::spawn(monitor.run(CancellationToken::new()));
        let mut silent = Vec::new();
        for _ in 0..20 * CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let answer = tokio::time::timeout(Duration::from_secs(4), get(address, "/healthz")).await;
        assert!(answer.expect("the probe waits for silent clients").ends_with("ok\n"));
    }
}
