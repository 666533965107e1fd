//! An HTTP GET to a container. Certificates are not verified, as with every kubelet: the address is the proof.

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

/// Why a request did not succeed, as a text for an event.
#[derive(Debug, thiserror::Error)]
pub(super) enum GetError {
    #[error("connecting to {host}:{port}: {source}")]
    Connect { host: String, port: u16, source: std::io::Error },
    #[error("TLS with {host}: {source}")]
    Tls { host: String, source: std::io::Error },
    #[error("{what} is not usable in a request")]
    Unusable { what: String },
    #[error("no answer: {source}")]
    NoAnswer { source: hyper::Error },
    #[error("HTTP probe failed with statuscode: {status}")]
    Status { status: u16 },
    #[error("more than {REDIRECTS} redirects")]
    Redirects,
}

/// How many redirects to the same host are followed.
const REDIRECTS: usize = 10;

struct Answer {
    status: u16,
    location: Option<String>,
}

impl Request {
    /// Good for a status of 200 to 399. Redirects to the same host are followed; one to another host is an answer of
    /// the container.
    pub(super) async fn get(&self) -> Result<(), GetError> {
        let mut request = self.clone();
        for _ in 0..=REDIRECTS {
            let answer = request.answer().await?;
            let redirected = (300..400).contains(&answer.status);
            match answer.location.filter(|_| redirected).and_then(|location| request.redirected(&location)) {
                Some(next) => request = next,
                None if (200..400).contains(&answer.status) => return Ok(()),
                None => return Err(GetError::Status { status: answer.status }),
            }
        }
        Err(GetError::Redirects)
    }

    /// The request a redirect asks for, if it stays on the host.
    fn redirected(&self, location: &str) -> Option<Request> {
        let uri: http::Uri = location.parse().ok()?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let tls = uri.scheme_str().map_or(self.tls, |scheme| scheme == "https");
        let same_host = uri.host().is_none_or(|host| host.trim_matches(['[', ']']) == self.host);
        let standard = if tls { 443 } else { 80 };
        let port = match uri.host() {
            Some(_) => uri.port_u16().unwrap_or(standard),
            None => self.port,
        };
        same_host.then(|| Request { tls, port, path, ..self.clone() })
    }

    async fn answer(&self) -> Result<Answer, GetError> {
        let (host, port) = (self.host.clone(), self.port);
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|source| GetError::Connect { host: host.clone(), port, source })?;
        if !self.tls {
            return self.exchange(stream).await;
        }
        let unusable = || GetError::Unusable { what: host.clone() };
        let name = ServerName::try_from(self.host.clone()).map_err(|_| unusable())?;
        let connector =
            tokio_rustls::TlsConnector::from(pki::tls::client_of_backends().ok().ok_or_else(unusable)?);
        let stream = connector.connect(name, stream).await;
        self.exchange(stream.map_err(|source| GetError::Tls { host, source })?).await
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Answer, GetError> {
        let no_answer = |source| GetError::NoAnswer { source };
        let request = self.build().ok_or_else(|| GetError::Unusable { what: self.path.clone() })?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(no_answer)?;
        let driver = tokio::spawn(connection);
        let answer = sender.send_request(request).await;
        driver.abort();
        let answer = answer.map_err(no_answer)?;
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        Ok(Answer { status: answer.status().as_u16(), location: location.map(str::to_owned) })
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
        good.is_ok()
    }

    #[tokio::test]
    async fn statuses_from_200_to_399_are_good() {
        assert!(answered("204 No Content").await);
        assert!(answered("302 Found").await);
        assert!(!answered("503 Service Unavailable").await);
    }

    #[test]
    fn a_redirect_is_followed_on_the_same_host_only() {
        let request =
            Request { tls: false, host: "10.0.0.2".into(), port: 8080, path: "/a".into(), headers: vec![] };
        let next = |location: &str| request.redirected(location).map(|next| (next.port, next.tls, next.path));
        assert_eq!(next("/b?c=d"), Some((8080, false, "/b?c=d".into())));
        assert_eq!(next("http://10.0.0.2:81/"), Some((81, false, "/".into())));
        assert_eq!(next("https://10.0.0.2/x"), Some((443, true, "/x".into())));
        assert_eq!(next("http://elsewhere.example/"), None);
    }
}
