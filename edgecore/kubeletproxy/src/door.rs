//! The socket, and who comes through it.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use listener::{Client, Terms};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::forward::Forward;
use crate::{Passes, Settings};

/// Connections open at once; what is under way at the stop is given up soon.
const TERMS: Terms =
    Terms { what: "the Node API", places: 128, first_byte: PATIENCE, drain: Duration::from_secs(1) };
/// A client that does not say what it wants leaves.
const PATIENCE: Duration = Duration::from_secs(15);
/// The head of a request: commands are part of it.
const HEAD: usize = 64 * 1024;
const HEADERS: usize = 64;

#[derive(Debug, thiserror::Error)]
#[error("binding the Node API's socket {path}")]
pub struct BuildError {
    path: PathBuf,
    source: io::Error,
}

/// The Node API in front of a kubelet: bound, not serving.
pub struct Door {
    listener: UnixListener,
    forward: Forward,
}

impl Door {
    /// Binds the socket; has to be called within a runtime.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(settings: Settings, passes: Passes) -> Result<Door, BuildError> {
        let socket = settings.socket.clone();
        let listener =
            listener::private(&socket).map_err(|source| BuildError { path: socket.clone(), source })?;
        tracing::debug!(path = %socket.display(), peer = %settings.kubelet, "the Node API is the kubelet's");
        Ok(Door { listener, forward: Forward::new(&settings, passes) })
    }

    /// Serves until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let forward = Arc::new(self.forward);
        let serve = move |client: Client<UnixListener>| talk(client, forward.clone());
        listener::serve(self.listener, TERMS, stop, serve).await;
    }
}

async fn talk(client: Client<UnixListener>, forward: Arc<Forward>) {
    let (place, stop) = (client.place, client.stop);
    let service = service_fn(|request| {
        place.settle();
        let (forward, stop) = (forward.clone(), stop.clone());
        async move {
            let answer = forward.answer(request, stop).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(crate::refusal::Refusal::answer))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(client.stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(error = %error, "connection to the Node API ended");
    }
}
