//! A gRPC server on a unix socket.

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::DuplexStream;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::transport::Server;
use tower::Service;

use crate::authority;

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("making the folder of socket {path}")]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("binding socket {path}")]
    Bind { path: PathBuf, source: std::io::Error },
    #[error("serving socket {path}")]
    Serve { path: PathBuf, source: tonic::transport::Error },
}

/// A bound socket. Dropping it leaves the file; the next bind replaces it.
pub struct Socket {
    path: PathBuf,
    listener: UnixListener,
}

/// Connections handed to the server at once.
const CONNECTIONS: usize = 16;
/// Connections open at once; mappers hold one or two each.
const OPEN: usize = 64;
/// Bytes between the filter and the server, each way.
const PIPE: usize = 64 * 1024;

impl Socket {
    /// Binds under a temporary name and renames, so that a client never sees a socket nobody listens on. The folder is
    /// made 0750 if missing, the socket 0660.
    pub fn bind(path: &Path) -> Result<Socket, ServeError> {
        let folder_error = |source| ServeError::Folder { path: path.to_owned(), source };
        let bind_error = |source| ServeError::Bind { path: path.to_owned(), source };
        let folder = path.parent().unwrap_or(Path::new("/"));
        if !folder.exists() {
            std::fs::create_dir_all(folder).map_err(folder_error)?;
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o750)).map_err(folder_error)?;
        }
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let _ = std::fs::remove_file(&temporary);
        let listener = UnixListener::bind(&temporary).map_err(bind_error)?;
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o660)).map_err(bind_error)?;
        std::fs::rename(&temporary, path).map_err(bind_error)?;
        Ok(Socket { path: path.to_owned(), listener })
    }

    /// Serves one gRPC service until `stop` resolves.
    pub async fn serve<S>(self, service: S, stop: impl Future<Output = ()>) -> Result<(), ServeError>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let (connections, incoming) = mpsc::channel::<DuplexStream>(CONNECTIONS);
        let accept = tokio::spawn(accept(self.listener, connections));
        let incoming = ReceiverStream::new(incoming).map(Ok::<_, std::io::Error>);
        let served =
            Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, stop).await;
        accept.abort();
        served.map_err(|source| ServeError::Serve { path: self.path, source })
    }
}

async fn accept(listener: UnixListener, connections: mpsc::Sender<DuplexStream>) {
    let open = Arc::new(Semaphore::new(OPEN));
    loop {
        // Who comes while all are open waits in the kernel's queue. Never closed.
        let Ok(place) = open.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, _)) => {
                let (ours, servers) = tokio::io::duplex(PIPE);
                tokio::spawn(async move {
                    bridge(client, ours).await;
                    drop(place);
                });
                if connections.send(servers).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, "could not accept a DMI connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn bridge(client: UnixStream, server: DuplexStream) {
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = tokio::io::split(server);
    let up = async {
        if let Err(error) = authority::relay(from_client, to_server).await
            && error.kind() == std::io::ErrorKind::InvalidData
        {
            tracing::warn!(error = %error, "DMI connection closed");
        }
    };
    let down = async {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
    };
    tokio::join!(up, down);
}
