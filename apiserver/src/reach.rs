//! Servers that configurations name: where one is (at its URL, or at an endpoint of its Service), and a connection to it.
//!
//! This server may stand beside a network of pods or in none. So an Endpoints object of the Service's name comes first, whose
//! addresses need nobody to translate them; then the Service's own address.

use std::sync::Arc;

use apimachinery::Status;
use apimachinery::object::{integer, list, text};
use apimachinery::webhooks::{Client, Url};
use kubeapi::stored::Key;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::storage::Storage;

/// Where to connect to, and whom to expect there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What the server's certificate must name.
    pub(crate) name: String,
    pub(crate) path: String,
}

impl Place {
    /// `Host` of requests.
    pub(crate) fn authority(&self) -> String {
        match self.name.contains(':') {
            true => format!("[{}]:{}", self.name, self.port),
            false => format!("{}:{}", self.name, self.port),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReachError {
    #[error("{0}")]
    Tls(String),
    #[error("looking for its address")]
    Place(#[source] Status),
    #[error("{0:?} is not the name of a server")]
    Name(String),
    #[error("connecting to {to}")]
    Connect { to: String, source: std::io::Error },
    #[error("TLS with {name:?}")]
    Handshake { name: String, source: std::io::Error },
}

/// A connection to a place. The caller sets the deadline.
///
/// # Errors
/// [`ReachError`]: nobody is there, or somebody else.
pub(crate) async fn connect(
    tls: Arc<ClientConfig>,
    place: &Place,
) -> Result<TlsStream<TcpStream>, ReachError> {
    let name = ServerName::try_from(place.name.clone()).map_err(|_| ReachError::Name(place.name.clone()))?;
    let to = || format!("{}:{}", place.host, place.port);
    let stream = TcpStream::connect((place.host.as_str(), place.port)).await;
    let stream = stream.map_err(|source| ReachError::Connect { to: to(), source })?;
    let stream = TlsConnector::from(tls).connect(name, stream).await;
    stream.map_err(|source| ReachError::Handshake { name: place.name.clone(), source })
}

/// Where a client's server is.
///
/// # Errors
/// [`ReachError::Place`]: its Service is not there, or has no such port or no address.
pub(crate) async fn place(storage: &Storage, client: &Client) -> Result<Place, ReachError> {
    found(storage, client).await.map_err(ReachError::Place)
}

async fn found(storage: &Storage, client: &Client) -> Result<Place, Status> {
    match client {
        Client::Url(Url { host, port, path }) => {
            Ok(Place { host: host.clone(), port: *port, name: host.clone(), path: path.clone() })
        }
        Client::Service { namespace, name, port, path } => {
            let object =
                async |resource: &str| match storage.get(&Key::new(resource, namespace, name)).await? {
                    Some(stored) => stored.value().map(Some),
                    None => Ok(None),
                };
            let service = object("services").await?;
            let service = service.ok_or_else(|| Status::not_found("", "services", name))?;
            let (host, port) = address(&service, object("endpoints").await?.as_ref(), *port)?;
            Ok(Place { host, port, name: format!("{name}.{namespace}.svc"), path: path.clone() })
        }
    }
}

/// An address of a Service's port.
fn address(service: &Value, endpoints: Option<&Value>, port: u16) -> Result<(String, u16), Status> {
    let (namespace, name) = (text(service, "/metadata/namespace"), text(service, "/metadata/name"));
    if text(service, "/spec/type") == "ExternalName" {
        return Ok((text(service, "/spec/externalName").to_owned(), port));
    }
    let mut ports = list(service, "/spec/ports").iter();
    let named = ports.find(|one| integer(one, "/port") == Some(port.into()));
    let named = named.ok_or_else(|| {
        Status::unavailable(format!("no service port {port} found for service {namespace}/{name}"))
    })?;
    let found = endpoints.and_then(|endpoints| endpoint(endpoints, text(named, "/name")));
    let own = text(service, "/spec/clusterIP");
    match (found, own) {
        (Some(found), _) => Ok(found),
        (None, "" | "None") => Err(Status::unavailable(format!(
            "service {namespace}/{name} has no address: make an Endpoints object of its name, or give the webhook \
             clientConfig.url"
        ))),
        (None, own) => Ok((own.to_owned(), port)),
    }
}

fn endpoint(endpoints: &Value, port: &str) -> Option<(String, u16)> {
    list(endpoints, "/subsets").iter().find_map(|subset| {
        let address = text(list(subset, "/addresses").first()?, "/ip");
        let mut ports = list(subset, "/ports").iter();
        let number = integer(ports.find(|one| text(one, "/name") == port)?, "/port")?;
        Some((address.to_owned(), u16::try_from(number).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_is_reached_at_an_endpoint_or_at_its_own_address() {
        let service = |ip: &str| {
            json!({"metadata": {"namespace": "n", "name": "s"},
                "spec": {"clusterIP": ip, "ports": [{"name": "a", "port": 443}, {"name": "b", "port": 8443}]}})
        };
        let endpoints = json!({"subsets": [{"notReadyAddresses": [{"ip": "10.0.0.1"}], "ports": [{"name": "b", "port": 1}]},
            {"addresses": [{"ip": "10.0.0.2"}], "ports": [{"name": "a", "port": 9443}, {"name": "b", "port": 9444}]}]});
        let at = |ip: &str, endpoints: Option<&Value>, port| address(&service(ip), endpoints, port);
        assert_eq!(at("10.96.0.9", Some(&endpoints), 8443).unwrap(), ("10.0.0.2".to_owned(), 9444));
        assert_eq!(at("10.96.0.9", None, 443).unwrap(), ("10.96.0.9".to_owned(), 443));
        assert_eq!(at("10.96.0.9", Some(&json!({})), 443).unwrap(), ("10.96.0.9".to_owned(), 443));
        for (ip, port, told) in [("None", 443, "has no address"), ("10.96.0.9", 1, "no service port 1")] {
            let status = at(ip, None, port).unwrap_err();
            assert!(status.message.contains(told), "{status}");
        }
        let external = json!({"spec": {"type": "ExternalName", "externalName": "hooks.example"}});
        assert_eq!(address(&external, None, 443).unwrap(), ("hooks.example".to_owned(), 443));
    }
}
