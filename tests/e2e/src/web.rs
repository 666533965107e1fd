//! An HTTP or HTTPS server that tells what it was asked, and a WebSocket client for it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Serves until it is dropped.
pub struct Web {
    pub port: u16,
    _runtime: Runtime,
}

impl Web {
    pub fn http(address: IpAddr) -> Result<Web> {
        Web::start(address, None)
    }

    /// With a certificate of its own making, for another name.
    pub fn https(address: IpAddr) -> Result<Web> {
        Web::start(address, Some(acceptor()?))
    }

    fn start(address: IpAddr, tls: Option<TlsAcceptor>) -> Result<Web> {
        let runtime = Runtime::new()?;
        let listener = runtime.block_on(TcpListener::bind((address, 0)))?;
        let port = listener.local_addr()?.port();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => talk(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                talk(stream).await;
                            }
                        }
                    }
                });
            }
        });
        Ok(Web { port, _runtime: runtime })
    }
}

fn acceptor() -> Result<TlsAcceptor> {
    pki::install_provider();
    let made = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = ServerConfig::builder().with_no_client_auth();
    Ok(TlsAcceptor::from(Arc::new(config.with_single_cert(vec![made.cert.into()], key)?)))
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
    // The client may leave at any time.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

/// `METHOD PATH BODY`; a WebSocket gets back what it says.
async fn answer(mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    if let Some(key) = request.headers().get("sec-websocket-key") {
        let accepted = derive_accept_key(key.as_bytes());
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                echo(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await)
                    .await;
            }
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers =
            [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", &accepted)];
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_str(value) {
                response.headers_mut().insert(name, value);
            }
        }
        return response;
    }
    let asked = format!("{} {}", request.method(), request.uri());
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut response = Response::new(Full::from(format!("{asked} {}", String::from_utf8_lossy(&body))));
    response.headers_mut().insert("x-own", HeaderValue::from_static("kept"));
    response
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>) {
    while let Some(Ok(message)) = socket.next().await {
        if matches!(message, Message::Text(_)) && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// What comes back over a WebSocket of this URL (`ws://`) for a text.
pub fn echoed(url: &str, headers: &HeaderMap, text: &str) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let talk = async {
        let mut request = url.into_client_request()?;
        request.headers_mut().extend(headers.clone());
        let address = request.uri().authority().context("no address")?.to_string();
        let stream = TcpStream::connect(address).await?;
        let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.context("upgrading")?;
        socket.send(Message::text(text)).await?;
        let answer = socket.next().await.context("the connection ended")??;
        socket.close(None).await?;
        Ok(answer.into_text()?.to_string())
    };
    runtime.block_on(async { tokio::time::timeout(harness::wait::PATIENCE, talk).await })?
}
