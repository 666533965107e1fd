//! One HTTPS request, one answer, with limits. For the registration port only.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use link::Way;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

const DEADLINE: Duration = Duration::from_secs(30);
/// A certificate has less than 2 KiB.
const MAX_ANSWER: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    #[error("{url:?} is not an https URL")]
    BadUrl { url: String },
    #[error("connecting to {address}")]
    Connect { address: String, source: std::io::Error },
    #[error("request to {address}")]
    Http { address: String, source: hyper::Error },
    #[error("reading the answer of {address} (at most {MAX_ANSWER} bytes): {reason}")]
    Answer { address: String, reason: String },
    #[error("{address} did not answer within {DEADLINE:?}")]
    TimedOut { address: String },
}

impl HttpsError {
    /// True if the server's certificate is refused for the time it is valid.
    pub(super) fn is_about_the_clock(&self) -> bool {
        use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
        let HttpsError::Connect { source, .. } = self else { return false };
        let tls = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        matches!(
            tls,
            Some(rustls::Error::InvalidCertificate(
                Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }
            ))
        )
    }
}

/// Sends a GET with a body, as KubeEdge's registration expects.
pub(super) async fn get(
    tls: Arc<ClientConfig>,
    way: &Way,
    base: &str,
    path: &str,
    headers: &[(&str, String)],
    body: Vec<u8>,
) -> Result<(StatusCode, Bytes), HttpsError> {
    let bad_url = || HttpsError::BadUrl { url: base.to_owned() };
    let uri: Uri = base.parse().map_err(|_| bad_url())?;
    let host = uri.host().ok_or_else(bad_url)?.trim_start_matches('[').trim_end_matches(']').to_owned();
    if uri.scheme_str() != Some("https") {
        return Err(bad_url());
    }
    let address = format!("{}:{}", uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(443));
    let mut request = Request::get(path).header("Host", &address);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|_| bad_url())?;
    let exchange = exchange(tls, way, &host, &address, request);
    let timed_out = |_| HttpsError::TimedOut { address: address.clone() };
    tokio::time::timeout(DEADLINE, exchange).await.map_err(timed_out)?
}

async fn exchange(
    tls: Arc<ClientConfig>,
    way: &Way,
    host: &str,
    address: &str,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), HttpsError> {
    let connect_error = |source| HttpsError::Connect { address: address.to_owned(), source };
    let http_error = |source| HttpsError::Http { address: address.to_owned(), source };
    let name =
        ServerName::try_from(host.to_owned()).map_err(|_| HttpsError::BadUrl { url: address.to_owned() })?;
    let tcp = way.connect(address).await.map_err(connect_error)?;
    let stream = TlsConnector::from(link::alpn::offering(&tls, link::alpn::REGISTER))
        .connect(name, tcp)
        .await
        .map_err(connect_error)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http_error)?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(http_error)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    connection.abort();
    let body = body
        .map_err(|error| HttpsError::Answer { address: address.to_owned(), reason: error.to_string() })?
        .to_bytes();
    Ok((status, body))
}
