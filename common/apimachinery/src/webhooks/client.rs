//! Where a webhook is reached.

use serde_json::Value;

use crate::object::{integer, text};

/// `clientConfig` of a webhook, without its CAs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    Url(Url),
    /// A Service of the cluster.
    Service {
        namespace: String,
        name: String,
        port: u16,
        /// With the leading slash.
        path: String,
    },
}

/// `https://HOST[:PORT][/PATH]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
    /// With the leading slash.
    pub path: String,
}

/// What is wrong with a URL, in the words of `ValidateWebhookURL` (apiserver/pkg/util/webhook/validation.go).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("'https' is the only allowed URL scheme; desired format: https://host[/path]")]
    Scheme,
    #[error("host must be specified; desired format: https://host[/path]")]
    Host,
    #[error("user information is not permitted in the URL")]
    User,
    #[error("fragments are not permitted in the URL")]
    Fragment,
    #[error("query parameters are not permitted in the URL")]
    Query,
    #[error("the port must be between 1 and 65535")]
    Port,
    #[error("only visible ASCII characters are permitted in the URL")]
    Characters,
}

impl Url {
    /// # Errors
    /// [`UrlError`] says what is not permitted.
    pub fn parse(url: &str) -> Result<Url, UrlError> {
        let rest = url.strip_prefix("https://").ok_or(UrlError::Scheme)?;
        for (mark, error) in [('#', UrlError::Fragment), ('?', UrlError::Query), ('@', UrlError::User)] {
            if rest.contains(mark) {
                return Err(error);
            }
        }
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(UrlError::Characters);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.strip_prefix('[') {
            Some(inner) => {
                let (host, rest) = inner.split_once(']').ok_or(UrlError::Host)?;
                (host, rest.strip_prefix(':'))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err(UrlError::Host);
        }
        let port = match port {
            None | Some("") => 443,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(UrlError::Port)?,
        };
        let path = if path.is_empty() { "/" } else { path };
        Ok(Url { host: host.to_owned(), port, path: path.to_owned() })
    }
}

impl Client {
    /// What a `clientConfig` that was checked says; `None`: it says nothing that can be used.
    pub fn read(config: &Value) -> Option<Client> {
        if let Some(url) = config["url"].as_str() {
            return Url::parse(url).ok().map(Client::Url);
        }
        let service = &config["service"];
        let path = match text(service, "/path") {
            "" => "/",
            path => path,
        };
        let port = integer(service, "/port").map_or(Some(443), |port| u16::try_from(port).ok());
        service.is_object().then_some(())?;
        Some(Client::Service {
            namespace: text(service, "/namespace").to_owned(),
            name: text(service, "/name").to_owned(),
            port: port?,
            path: path.to_owned(),
        })
    }
}
