//! The socket plugins register at.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plugins::device::device_plugin_client::DevicePluginClient;
use plugins::device::registration_server::{Registration, RegistrationServer};
use plugins::device::{Empty, RegisterRequest};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::{Plugin, watcher};
use crate::edged::context::Context;
use crate::edged::steady::steady;

const NAME: &str = "kubelet.sock";
const VERSION: &str = "v1beta1";
/// More resources than any node has.
const RESOURCES: usize = 64;
const REGISTRATION: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("binding the socket of device plugins")]
    Bind(#[source] std::io::Error),
    #[error("serving the socket of device plugins")]
    Serve(#[source] tonic::transport::Error),
}

/// A new socket each time: plugins see that and register again.
pub async fn serve(context: Arc<Context>, stop: CancellationToken) -> Result<(), ServeError> {
    let path = context.devices.folder.join(NAME);
    let listener = bind(&path).map_err(ServeError::Bind)?;
    let service = RegistrationServer::new(Service { context });
    let server = Server::builder().timeout(REGISTRATION).add_service(service);
    let incoming = UnixListenerStream::new(listener);
    server.serve_with_incoming_shutdown(incoming, stop.cancelled()).await.map_err(ServeError::Serve)
}

fn bind(path: &Path) -> std::io::Result<UnixListener> {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

struct Service {
    context: Arc<Context>,
}

#[tonic::async_trait]
impl Registration for Service {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Status::invalid_argument)?;
        let RegisterRequest { endpoint, resource_name: resource, options, .. } = request;
        let devices = &self.context.devices;
        let channel = plugins::channel(&devices.folder.join(&endpoint));
        let client = DevicePluginClient::new(channel);
        let options = options.unwrap_or_default();
        let mut plugins = devices.plugins();
        if plugins.len() >= RESOURCES && !plugins.contains_key(&resource) {
            return Err(Status::resource_exhausted("too many resources are registered"));
        }
        tracing::info!(name = %resource, "device plugin registered");
        let (context, name, plugin) = (self.context.clone(), resource.clone(), client.clone());
        let following = steady("following a device plugin", move || {
            watcher::follow(context.clone(), name.clone(), plugin.clone())
        });
        let watcher = tokio::spawn(following).abort_handle();
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
    let is_extended = name.len() <= 253
        && name.split_once('/').is_some_and(|(domain, kind)| {
            let is_word = |text: &str| {
                !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
            };
            is_word(domain) && is_word(kind) && !domain.ends_with("kubernetes.io")
        });
    if is_extended { Ok(()) } else { Err(format!("{name:?} is not the name of an extended resource")) }
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
        ] {
            assert!(ask(version, endpoint, name).is_err(), "{version} {endpoint} {name}");
        }
    }
}
