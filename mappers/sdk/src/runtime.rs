//! A whole mapper: its socket, its registration, its devices.

use std::sync::Arc;

use dmi::v1beta1::device_mapper_service_server::DeviceMapperServiceServer;
use dmi::{BindError, Socket};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::Settings;
use crate::device::Device;
use crate::driver::{Driver, DriverError};
use crate::link::Link;
use crate::registry::Registry;
use crate::reporter::Reporter;
use crate::service::Service;

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("opening the mapper's socket")]
    Socket(#[source] BindError),
}

/// Built, not running: the socket is bound.
pub struct Mapper<F> {
    socket: Socket,
    link: Link,
    registry: Arc<Registry<F>>,
}

impl<F, D> Mapper<F>
where
    D: Driver,
    F: Fn(&Device) -> Result<D, DriverError> + Send + Sync + 'static,
{
    /// `open` makes the driver of a device; it is called again when the device changes in more than desired values.
    pub fn build(settings: Settings, open: F) -> Result<Mapper<F>, BuildError> {
        let socket = Socket::bind(&settings.socket).map_err(BuildError::Socket)?;
        let (manager, current) = watch::channel(None);
        let broken = Arc::new(Notify::new());
        let registry = Arc::new(Registry::new(open, Reporter::new(current, broken.clone())));
        Ok(Mapper { socket, link: Link { settings, manager, broken }, registry })
    }

    /// Serves until `stop`; waits for EdgeCore as long as it takes. All drivers are stopped at the end.
    pub async fn run(self, stop: CancellationToken) {
        let Mapper { socket, link, registry } = self;
        let service = DeviceMapperServiceServer::new(Service(registry.clone()));
        let answers = registry.clone();
        let linked = link.run(move |answer| answers.apply(answer), stop.clone());
        tokio::join!(socket.serve(service, stop), linked);
        registry.stop().await;
    }
}
