//! A container runtime that runs nothing: sandboxes, containers and images in memory, behind the real protocol on a
//! unix socket. Tests say when a container exits and what fails.

mod images;
mod service;
mod state;
mod stats;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::v1;
use crate::v1::image_service_server::ImageServiceServer;
use crate::v1::runtime_service_server::RuntimeServiceServer;
use state::State;
pub use state::{FakeContainer, FakeSandbox};

/// A running fake. It stops answering when it is dropped.
pub struct Fake {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
    server: tokio::task::JoinHandle<()>,
}

/// Gives the time in nanoseconds of Unix time.
pub type FakeClock = Arc<dyn Fn() -> i64 + Send + Sync>;

impl Fake {
    /// Serves `<dir>/cri.sock`. Needs a tokio runtime.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub fn start(dir: &Path, clock: FakeClock) -> std::io::Result<Fake> {
        let socket = dir.join("cri.sock");
        let listener = UnixListener::bind(&socket)?;
        let state = Arc::new(Mutex::new(State::new(clock)));
        let service = service::Service(state.clone());
        let server = tokio::spawn(async move {
            let incoming = UnixListenerStream::new(listener);
            let services = Server::builder()
                .add_service(RuntimeServiceServer::new(service.clone()))
                .add_service(ImageServiceServer::new(service));
            // It ends with the task.
            let _ = services.serve_with_incoming(incoming).await;
        });
        Ok(Fake { socket, state, server })
    }

    /// The endpoint for a client.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an image present.
    pub fn add_image(&self, name: &str) {
        self.state().images.insert(name.to_owned(), images::made(name));
    }

    /// Pulls of any image fail with this, until told otherwise.
    pub fn fail_pulls(&self, status: Option<tonic::Status>) {
        self.state().pull_failure = status;
    }

    /// Pods and containers cannot be listed, until told otherwise.
    pub fn fail_lists(&self, status: Option<tonic::Status>) {
        self.state().list_failure = status;
    }

    /// Containers cannot be removed, as when their processes live on unnoticed, until told otherwise.
    pub fn keep_containers(&self, keep: bool) {
        self.state().keeps_containers = keep;
    }

    pub fn set_network_ready(&self, ready: bool) {
        self.state().network_ready = ready;
    }

    /// Ends the running container of this name.
    pub fn exit(&self, name: &str, code: i32) -> bool {
        let mut state = self.state();
        let now = state.now();
        let running = state.containers.values_mut().find(|container| {
            container.name() == name && container.state == v1::ContainerState::ContainerRunning
        });
        running.map(|container| container.exit(code, now)).is_some()
    }

    /// Ends all sandboxes and containers, as a reboot of the machine does.
    pub fn reboot(&self) {
        let mut state = self.state();
        let now = state.now();
        state.sandboxes.values_mut().for_each(|sandbox| sandbox.ready = false);
        let running =
            |container: &&mut FakeContainer| container.state == v1::ContainerState::ContainerRunning;
        state.containers.values_mut().filter(running).for_each(|container| container.exit(255, now));
    }

    /// The calls that changed something, in order: `RunPodSandbox web`, `StartContainer c`, ...
    pub fn changes(&self) -> Vec<String> {
        self.state().changes.clone()
    }

    pub fn sandboxes(&self) -> Vec<FakeSandbox> {
        self.state().sandboxes.values().cloned().collect()
    }

    pub fn containers(&self) -> Vec<FakeContainer> {
        self.state().containers.values().cloned().collect()
    }

    /// The running container of this name.
    pub fn running(&self, name: &str) -> Option<FakeContainer> {
        let is_running = |container: &FakeContainer| container.state == v1::ContainerState::ContainerRunning;
        self.containers().into_iter().find(|container| container.name() == name && is_running(container))
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}
