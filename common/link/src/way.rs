//! The way to the cloud: straight, or through a proxy.

use std::fmt;
use std::io;

use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use tokio::net::TcpStream;
use tower_service::Service;

/// How a TCP connection is made.
#[derive(Clone, Default)]
pub enum Way {
    #[default]
    Straight,
    /// HTTP CONNECT.
    Http(Proxy),
    /// The proxy looks names up.
    Socks5(Proxy),
}

/// A proxy and what it is told of who asks.
#[derive(Clone)]
pub struct Proxy {
    /// `http://host:port`
    at: Uri,
    login: Option<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a proxy: write http://host:port or socks5://host:port, with user:password@ before the host if it asks for them"
)]
pub struct NotAProxy;

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Straight => f.write_str("Straight"),
            Way::Http(proxy) => write!(f, "Http({})", proxy.at),
            Way::Socks5(proxy) => write!(f, "Socks5({})", proxy.at),
        }
    }
}

impl Way {
    /// Reads a proxy's URL; an empty text is no proxy. User and password are percent-encoded.
    ///
    /// # Errors
    /// [`NotAProxy`]: the text is something else.
    pub fn parse(text: &str) -> Result<Way, NotAProxy> {
        if text.is_empty() {
            return Ok(Way::Straight);
        }
        let (scheme, rest) = text.split_once("://").ok_or(NotAProxy)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, host) = match rest.rsplit_once('@') {
            Some((login, host)) => {
                let (user, password) = login.split_once(':').ok_or(NotAProxy)?;
                let decode = |text: &str| {
                    percent_encoding::percent_decode_str(text)
                        .decode_utf8()
                        .map(String::from)
                        .map_err(|_| NotAProxy)
                };
                (Some((decode(user)?, decode(password)?)), host)
            }
            None => (None, rest),
        };
        let at: Uri = format!("http://{host}").parse().map_err(|_| NotAProxy)?;
        let is_named = at.host().is_some_and(|host| !host.is_empty());
        if !is_named || at.port_u16().is_none_or(|port| port == 0) || at.path() != "/" {
            return Err(NotAProxy);
        }
        let proxy = Proxy { at, login };
        match scheme {
            "http" => Ok(Way::Http(proxy)),
            "socks5" | "socks5h" => Ok(Way::Socks5(proxy)),
            _ => Err(NotAProxy),
        }
    }

    /// A connection to `address` (`host:port`). Deadlines are the caller's.
    ///
    /// # Errors
    /// The address or the proxy cannot be reached, or the proxy refuses; the text says which.
    pub async fn connect(&self, address: &str) -> io::Result<TcpStream> {
        let through =
            |proxy: &Proxy| format!("the proxy {}", proxy.at.authority().map_or("", |at| at.as_str()));
        let failed = |proxy: &Proxy, error: &dyn std::error::Error| {
            io::Error::other(format!("{}: {}", through(proxy), daemon::errors::describe(error)))
        };
        let target = || {
            let uri = Uri::builder().scheme("https").authority(address).path_and_query("/").build();
            uri.map_err(io::Error::other)
        };
        let stream = match self {
            Way::Straight => return TcpStream::connect(address).await,
            Way::Http(proxy) => {
                let mut tunnel = Tunnel::new(proxy.at.clone(), connector());
                if let Some((user, password)) = &proxy.login {
                    tunnel = tunnel.with_auth(basic(user, password)?);
                }
                tunnel.call(target()?).await.map_err(|error| failed(proxy, &error))?
            }
            Way::Socks5(proxy) => {
                let mut socks = SocksV5::new(proxy.at.clone(), connector());
                if let Some((user, password)) = proxy.login.clone() {
                    socks = socks.with_auth(user, password);
                }
                socks.call(target()?).await.map_err(|error| failed(proxy, &error))?
            }
        };
        Ok(stream.into_inner())
    }
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector
}

fn basic(user: &str, password: &str) -> io::Result<HeaderValue> {
    use base64::Engine as _;
    let login = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    HeaderValue::from_str(&format!("Basic {login}")).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn proxies_are_read_and_passwords_never_printed() {
        let way = Way::parse("http://me:p%40ss@10.0.0.1:3128").unwrap();
        assert_eq!(format!("{way:?}"), "Http(http://10.0.0.1:3128/)");
        let Way::Http(proxy) = way else { panic!("another way") };
        assert_eq!(proxy.login, Some(("me".to_owned(), "p@ss".to_owned())));
        assert!(matches!(Way::parse("socks5://[fd00::1]:1080/"), Ok(Way::Socks5(_))));
        assert!(matches!(Way::parse(""), Ok(Way::Straight)));
        for text in
            ["10.0.0.1:3128", "http://10.0.0.1", "ftp://a:1", "http://a:1/path", "http://me@a:1", "http://:1"]
        {
            assert!(Way::parse(text).is_err(), "{text}");
        }
    }

    /// A client of TLS speaks first: what comes before that may be taken for the proxy's.
    async fn greet(stream: &mut TcpStream) {
        stream.write_all(b"hello").await.unwrap();
        let mut back = [0; 5];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"hello");
    }

    async fn echo(client: &mut TcpStream) {
        let mut read = [0; 5];
        client.read_exact(&mut read).await.unwrap();
        client.write_all(&read).await.unwrap();
    }

    #[tokio::test]
    async fn an_http_proxy_is_asked_to_connect_and_its_refusal_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let proxy = tokio::spawn(async move {
            for answer in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 403 Forbidden\r\n\r\n"] {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut asked = Vec::new();
                while !asked.ends_with(b"\r\n\r\n") {
                    asked.push(client.read_u8().await.unwrap());
                }
                let asked = String::from_utf8(asked).unwrap();
                assert!(asked.starts_with("CONNECT cloud.example:10000 HTTP/1.1\r\n"), "{asked}");
                assert!(asked.to_lowercase().contains("proxy-authorization: basic bwu6ca==\r\n"), "{asked}");
                client.write_all(answer.as_bytes()).await.unwrap();
                if answer.contains("200") {
                    echo(&mut client).await;
                }
            }
        });
        let way = Way::parse(&format!("http://me:p@{at}")).unwrap();
        let mut stream = way.connect("cloud.example:10000").await.unwrap();
        greet(&mut stream).await;
        let refused = way.connect("cloud.example:10000").await.unwrap_err().to_string();
        assert!(refused.contains(&format!("the proxy {at}")), "{refused}");
        proxy.await.unwrap();
    }

    #[tokio::test]
    async fn a_socks_proxy_is_given_the_name() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let proxy = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut greeting = [0; 3];
            client.read_exact(&mut greeting).await.unwrap();
            assert_eq!(greeting, [5, 1, 0]);
            client.write_all(&[5, 0]).await.unwrap();
            let mut head = [0; 5];
            client.read_exact(&mut head).await.unwrap();
            assert_eq!(head, [5, 1, 0, 3, 13]);
            let mut rest = [0; 15];
            client.read_exact(&mut rest).await.unwrap();
            assert_eq!(&rest, b"cloud.example\x27\x10");
            client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
            echo(&mut client).await;
        });
        let mut stream =
            Way::parse(&format!("socks5://{at}")).unwrap().connect("cloud.example:10000").await.unwrap();
        greet(&mut stream).await;
        proxy.await.unwrap();
    }
}
