//! A gRPC server on a unix socket.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use listener::{Client, Place, Terms, http2};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::Service;

use crate::{Peer, authority};

/// Why a socket is not served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("making the folder of socket {path}")]
    Folder { path: PathBuf, source: io::Error },
    #[error("binding socket {path}")]
    Bind { path: PathBuf, source: io::Error },
}

/// A bound socket. Dropping it leaves the file; the next bind replaces it.
pub struct Socket {
    listener: UnixListener,
}

/// 256 connections: mappers hold one or two each, and a node takes the registrations of 128. One that says nothing leaves after 10 s, or at once when its place is
/// needed; what is under way at the stop has 3 s.
const TERMS: Terms = Terms {
    what: "a mapper's socket",
    places: 256,
    first_byte: Duration::from_secs(10),
    drain: Duration::from_secs(3),
};
/// Bytes between the filter and the server, each way.
const PIPE: usize = 64 * 1024;

impl Socket {
    /// Binds under a temporary name and renames, so that a client never sees a socket nobody listens on. The folder is
    /// made 0750 if missing, the socket 0660.
    ///
    /// # Errors
    /// [`BindError`]: the folder cannot be made, or the socket cannot be bound there.
    pub fn bind(path: &Path) -> Result<Socket, BindError> {
        let folder_error = |source| BindError::Folder { path: path.to_owned(), source };
        let bind_error = |source| BindError::Bind { path: path.to_owned(), source };
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
        Ok(Socket { listener })
    }

    /// Serves one gRPC service until `stop`, and returns within 3 s of it whatever clients do. A request carries the
    /// [`Peer`] it came from among its extensions.
    pub async fn serve<S>(self, service: S, stop: CancellationToken)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let talk = move |client: Client<UnixListener>| talk(client, service.clone());
        listener::serve(self.listener, TERMS, stop, talk).await;
    }
}

/// One client: its bytes pass the filter on their way to the server, and come back as they are.
async fn talk<S>(client: Client<UnixListener>, service: S)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let Client { stream, place, stop, .. } = client;
    let peer = Peer::of(&stream);
    let (ours, servers) = tokio::io::duplex(PIPE);
    let over = CancellationToken::new();
    let serving = async {
        // The client is gone, or broke the protocol: nobody is left to tell.
        if let Err(error) = answer(servers, place, stop, peer, service).await {
            tracing::debug!(error = %error, "connection of a mapper ended");
        }
        over.cancel();
    };
    tokio::join!(serving, relay(stream, ours, &over));
}

/// Copies both ways until either side ends, and shuts the pipe on every way out: the server must hear of it.
async fn relay(mut client: UnixStream, ours: DuplexStream, over: &CancellationToken) {
    let (from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = tokio::io::split(ours);
    let up = async {
        let relayed = tokio::select! {
            biased;
            _ = over.cancelled() => Ok(()),
            relayed = authority::relay(from_client, &mut to_server) => relayed,
        };
        if let Err(error) = relayed
            && error.kind() == io::ErrorKind::InvalidData
        {
            tracing::warn!(error = %error, "DMI connection closed");
        }
        let _ = to_server.shutdown().await;
    };
    let down = async {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::pin!(up);
    tokio::pin!(down);
    tokio::select! {
        // The client left: what the server still says is for nobody.
        _ = &mut up => {}
        _ = &mut down => return,
    }
    down.await;
}

async fn answer<S>(
    stream: DuplexStream,
    place: Place,
    stop: CancellationToken,
    peer: Peer,
    service: S,
) -> Result<(), hyper::Error>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let mut stream = stream;
    // The filter gives the preface on only when it is one.
    if http2::preface(&mut stream).await.is_err() {
        return Ok(());
    }
    let call = move |request: Request<hyper::body::Incoming>| {
        let mut service = service.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        async move {
            match poll_fn(|context| service.poll_ready(context)).await {
                Ok(()) => match service.call(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                },
                Err(never) => match never {},
            }
        }
    };
    http2::serve(stream, place, stop, call).await
}
