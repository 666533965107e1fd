//! The socket plugins register at.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use listener::{Client, Terms, http2};
use plugins::device::device_plugin_client::DevicePluginClient;
use plugins::device::registration_server::{Registration, RegistrationServer};
use plugins::device::{Empty, RegisterRequest};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::{Request, Response, Status};

use super::Deps;
use super::{Plugin, watcher};
use nodebase::steady::steady;

const NAME: &str = "kubelet.sock";
const VERSION: &str = "v1beta1";
/// More resources than any node has.
const RESOURCES: usize = 64;
/// Plugins connect once, to register.
const TERMS: Terms = Terms {
    what: "the socket of device plugins",
    places: 64,
    first_byte: Duration::from_secs(10),
    drain: Duration::from_secs(1),
};

#[derive(Debug, thiserror::Error)]
#[error("binding the socket of device plugins, {path}")]
pub(super) struct BindError {
    path: PathBuf,
    source: std::io::Error,
}

/// A new socket each time: plugins see that and register again.
pub(super) async fn serve(deps: Arc<Deps>, stop: CancellationToken) -> Result<(), BindError> {
    let path = deps.devices.folder.join(NAME);
    let listener = bind(&path).map_err(|source| BindError { path, source })?;
    let service = RegistrationServer::new(Service { deps });
    let serve = move |client: Client<UnixListener>| register(client, service.clone());
    listener::serve(listener, TERMS, stop, serve).await;
    Ok(())
}

async fn register(client: Client<UnixListener>, service: RegistrationServer<Service>) {
    let Client { mut stream, place, stop, .. } = client;
    let answered = async {
        http2::preface(&mut stream).await?;
        let call = |request: http::Request<Incoming>| {
            let mut service = service.clone();
            async move {
                let Ok(answer) = service.call(request.map(Body::new)).await;
                answer
            }
        };
        http2::serve(stream, place, stop, call).await.map_err(std::io::Error::other)
    };
    if let Err(error) = answered.await {
        tracing::debug!(error = %error, "connection of a device plugin ended");
    }
}

#[expect(clippy::disallowed_methods, reason = "runs at the start, before anything waits")]
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

struct Service {
    deps: Arc<Deps>,
}

#[tonic::async_trait]
impl Registration for Service {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Status::invalid_argument)?;
        let RegisterRequest { endpoint, resource_name: resource, options, .. } = request;
        let devices = &self.deps.devices;
        let channel = plugins::channel(&devices.folder.join(&endpoint));
        let client = DevicePluginClient::new(channel);
        let options = options.unwrap_or_default();
        let mut plugins = devices.plugins();
        if plugins.len() >= RESOURCES && !plugins.contains_key(&resource) {
            return Err(Status::resource_exhausted("too many resources are registered"));
        }
        tracing::info!(name = %resource, "device plugin registered");
        let (deps, name, plugin) = (self.deps.clone(), resource.clone(), client.clone());
        let following = steady("following a device plugin", move || {
            watcher::follow(deps.clone(), name.clone(), plugin.clone())
        });
        let watcher = daemon::spawn(following).abort_handle();
        if let Some(before) = plugins.insert(resource, Plugin { client, options, watcher }) {
            before.watcher.abort();
        }
        Ok(Response::new(Empty {}))
    }
}

/// The plugin's socket lies in our folder, and its resource is an extended one.
fn check(request: &RegisterRequest) -> Result<(), String> {
    if request.version != VERSION {
        return Err(format!("version {:?} is not {VERSION}", request.version));
    }
    let endpoint = request.endpoint.as_str();
    if endpoint.is_empty() || endpoint.contains('/') || endpoint.starts_with('.') || endpoint == NAME {
        return Err(format!("endpoint {endpoint:?} is not the name of a socket"));
    }
    let name = request.resource_name.as_str();
    if is_extended(name) {
        Ok(())
    } else {
        Err(format!("{name:?} is not the name of an extended resource such as example.com/camera"))
    }
}

/// Source: Kubernetes' `IsExtendedResourceName` and `IsQualifiedName`, which it applies to the name behind `requests.`.
fn is_extended(name: &str) -> bool {
    let Some((domain, kind)) = name.split_once('/') else { return false };
    let is_native = name.contains("kubernetes.io/") || name.starts_with("requests.");
    !is_native && is_subdomain(domain) && domain.len() + "requests.".len() <= 253 && is_name(kind)
}

/// A DNS subdomain (RFC 1123): labels of lower-case letters, digits and inner dashes.
fn is_subdomain(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.split('.').all(|label| {
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.chars().all(is_inner)
    })
}

/// The part behind the slash: at most 63 letters, digits, dashes, underscores and dots, none of them at an end.
fn is_name(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && ends(text.chars().next())
        && ends(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_sockets_and_extended_resources_are_taken() {
        let ask = |version: &str, endpoint: &str, name: &str| {
            check(&RegisterRequest {
                version: version.to_owned(),
                endpoint: endpoint.to_owned(),
                resource_name: name.to_owned(),
                options: None,
            })
        };
        assert_eq!(ask("v1beta1", "camera.sock", "example.com/camera"), Ok(()));
        for (version, endpoint, name) in [
            ("v1alpha", "camera.sock", "example.com/camera"),
            ("v1beta1", "../x.sock", "example.com/camera"),
            ("v1beta1", "", "example.com/camera"),
            ("v1beta1", "kubelet.sock", "example.com/camera"),
            ("v1beta1", "camera.sock", "cpu"),
            ("v1beta1", "camera.sock", "kubernetes.io/cpu"),
            ("v1beta1", "camera.sock", "a/b/c"),
            ("v1beta1", "camera.sock", "../x"),
            ("v1beta1", "camera.sock", "example.com/.."),
            ("v1beta1", "camera.sock", "Example.com/camera"),
            ("v1beta1", "camera.sock", "example.com/-camera"),
            ("v1beta1", "camera.sock", "requests.example.com/camera"),
            ("v1beta1", "camera.sock", &format!("example.com/{}", "c".repeat(64))),
        ] {
            assert!(ask(version, endpoint, name).is_err(), "{version} {endpoint} {name}");
        }
    }
}
