//! Servers rows talk to, in the test's own process: HTTP and HTTPS, gRPC health checks, an image registry.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use harness::images::{self, Blobs};

/// Who may pull what is below `closed/`.
const LOGIN: &str = "robot:sesame";
/// What the health service is asked for and does not serve.
const SICK: &[u8] = b"sick";

/// They serve until they are dropped.
pub struct Peers {
    pub plain: u16,
    pub tls: u16,
    _runtime: tokio::runtime::Runtime,
}

impl Peers {
    /// Listens on all addresses of the machine: pods in its network are reached by them.
    pub fn start() -> Result<Peers> {
        pki::install_provider();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let registry = Arc::new(Registry::make()?);
        let acceptor = acceptor()?;
        let (plain, tls) = runtime.block_on(async {
            let (plain, tls) = (TcpListener::bind("0.0.0.0:0").await?, TcpListener::bind("0.0.0.0:0").await?);
            let ports = (plain.local_addr()?.port(), tls.local_addr()?.port());
            tokio::spawn(accept(plain, None, registry.clone()));
            tokio::spawn(accept(tls, Some(acceptor), registry));
            anyhow::Ok(ports)
        })?;
        Ok(Peers { plain, tls, _runtime: runtime })
    }
}

fn acceptor() -> Result<TlsAcceptor> {
    let made = rcgen::generate_simple_self_signed(["nobody.example".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, registry: Arc<Registry>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, registry) = (tls.clone(), registry.clone());
        tokio::spawn(async move {
            match tls {
                None => serve(stream, registry).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, registry).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, registry: Arc<Registry>) {
    let service = service_fn(move |request| {
        let registry = registry.clone();
        async move { Ok::<_, Infallible>(answer(request, &registry).await) }
    });
    // A peer that goes away in the middle is its own affair.
    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

type Body = BoxBody<Bytes, Infallible>;

async fn answer(request: Request<Incoming>, registry: &Registry) -> Response<Body> {
    match request.uri().path() {
        "/grpc.health.v1.Health/Check" => health(request).await,
        "/healthz" => text(StatusCode::OK, "fine"),
        "/broken" => text(StatusCode::INTERNAL_SERVER_ERROR, "broken"),
        path if path.starts_with("/v2/") => registry.answer(&request),
        _ => text(StatusCode::NOT_FOUND, "not here"),
    }
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Full::from(text.to_owned()).boxed());
    *response.status_mut() = status;
    response
}

/// A `HealthCheckResponse` in one message: SERVING (1), or NOT_SERVING (2) for the service that is sick.
async fn health(request: Request<Incoming>) -> Response<Body> {
    let asked = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let status = if asked.windows(SICK.len()).any(|part| part == SICK) { 2 } else { 1 };
    let message = Bytes::from(vec![0, 0, 0, 0, 2, 8, status]);
    let trailers = HeaderMap::from_iter(
        [("grpc-status".parse().ok(), HeaderValue::from_static("0"))]
            .into_iter()
            .filter_map(|(name, value)| Some((name?, value))),
    );
    let body = Full::new(message).with_trailers(std::future::ready(Some(Ok(trailers)))).boxed();
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// One image, under any name; names below `closed/` want a login.
struct Registry {
    blobs: Blobs,
    manifest: Vec<u8>,
}

impl Registry {
    fn make() -> Result<Registry> {
        let blobs = images::busybox("pulled").blobs()?;
        let described = |kind: &str, bytes: &[u8]| {
            let digest = format!("sha256:{}", images::sha256(bytes));
            json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": bytes.len()})
        };
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": described("config.v1+json", &blobs.config),
            "layers": [described("layer.v1.tar", &blobs.layer)]});
        Ok(Registry { manifest: serde_json::to_vec(&manifest)?, blobs })
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let login = format!("Basic {}", STANDARD.encode(LOGIN));
        let known = request.headers().get("authorization").is_some_and(|given| *given == *login);
        if path.starts_with("/v2/closed/") && !known {
            let mut refusal = text(StatusCode::UNAUTHORIZED, "{}");
            let realm = HeaderValue::from_static("Basic realm=\"closed\"");
            refusal.headers_mut().insert("www-authenticate", realm);
            return refusal;
        }
        let found = match path.rsplit('/').nth(1) {
            Some("manifests") => Some((MANIFEST, &self.manifest)),
            _ => [&self.blobs.config, &self.blobs.layer]
                .into_iter()
                .find(|blob| path.ends_with(&images::sha256(blob)))
                .map(|blob| ("application/octet-stream", blob)),
        };
        let Some((kind, bytes)) = found else { return text(StatusCode::NOT_FOUND, "{}") };
        self.send(request.method(), kind, bytes).unwrap_or_else(|_| text(StatusCode::BAD_GATEWAY, "{}"))
    }

    fn send(&self, method: &Method, kind: &str, bytes: &[u8]) -> Result<Response<Body>> {
        let body = if *method == Method::HEAD { Bytes::new() } else { Bytes::copy_from_slice(bytes) };
        Response::builder()
            .header("content-type", kind)
            .header("content-length", bytes.len())
            .header("docker-content-digest", format!("sha256:{}", images::sha256(bytes)))
            .body(Full::new(body).boxed())
            .context("an answer of the registry")
    }
}
