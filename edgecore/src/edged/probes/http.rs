//! An HTTP GET to a container. Certificates are not verified, as with every kubelet: the address is the proof.

use std::sync::Arc;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

#[derive(Clone, Debug)]
pub struct Request {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// True for a status of 200 to 399. Redirects are not followed: they are an answer.
    pub async fn get(&self) -> bool {
        self.status().await.is_some_and(|status| (200..400).contains(&status))
    }

    async fn status(&self) -> Option<u16> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.ok()?;
        if !self.tls {
            return self.exchange(stream).await;
        }
        let name = ServerName::try_from(self.host.clone()).ok()?;
        let connector = tokio_rustls::TlsConnector::from(unverified()?);
        self.exchange(connector.connect(name, stream).await.ok()?).await
    }

    async fn exchange(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Option<u16> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        let driver = tokio::spawn(connection);
        let answer = sender.send_request(self.build()?).await;
        driver.abort();
        answer.ok().map(|answer| answer.status().as_u16())
    }

    fn build(&self) -> Option<hyper::Request<Empty<Bytes>>> {
        let path = if self.path.starts_with('/') { self.path.clone() } else { format!("/{}", self.path) };
        let mut builder = hyper::Request::get(path).header("connection", "close");
        let given = |name: &str| self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        if !given("host") {
            let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
            builder = builder.header("host", format!("{host}:{}", self.port));
        }
        for (name, value) in [("user-agent", "kube-probe/1.33"), ("accept", "*/*")] {
            if !given(name) {
                builder = builder.header(name, value);
            }
        }
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        builder.body(Empty::new()).ok()
    }
}

fn unverified() -> Option<Arc<rustls::ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(AnyCertificate(provider.clone()));
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    Some(Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
}

#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn answered(status: &'static str) -> bool {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = [0; 1024];
            let read = stream.read(&mut text).await.unwrap();
            stream
                .write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes())
                .await
                .unwrap();
            String::from_utf8_lossy(&text[..read]).to_ascii_lowercase()
        });
        let headers = vec![("Host".to_owned(), "example".to_owned())];
        let request = Request { tls: false, host: "127.0.0.1".into(), port, path: "healthz".into(), headers };
        let good = request.get().await;
        let asked = server.await.unwrap();
        assert!(asked.starts_with("get /healthz http/1.1") && asked.contains("host: example"), "{asked}");
        good
    }

    #[tokio::test]
    async fn statuses_from_200_to_399_are_good() {
        assert!(answered("204 No Content").await);
        assert!(answered("302 Found").await);
        assert!(!answered("503 Service Unavailable").await);
    }
}
