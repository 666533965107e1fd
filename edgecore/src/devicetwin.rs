//! DeviceTwin: the devices of this node, their values, and the mappers that speak to them.
//!
//! ```text
//! metamanager --device, model--> [room] --Tell--> mappers (DMI)         --expected--> eventbus (delta)
//! mappers (DMI), eventbus (MQTT) --values--> [room: merge, commit] --> outbox (report) , eventbus (document)
//! ```
//!
//! Owns the tables `device` and `device_twin`, the DMI socket, and the in-memory twins. One task drives all of it, so
//! the values of a device are merged in the order they arrive. A report to the cloud is committed together with the
//! values it tells, and kept until the cloud confirms it.

mod convert;
mod devices;
pub mod mappers;
mod payloads;
mod service;
mod table;
mod twin;

use std::path::PathBuf;

use bytes::Bytes;
use dmi::v1beta1::device_manager_service_server::DeviceManagerServiceServer;
use dmi::{ServeError, Socket};
use message::{NodeName, ObjectKind};
use mqtt::topics::Inbound;
use store::{Store, StoreError};
use tokio::runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::eventbus;
use crate::metamanager::{ObjectChange, Objects, Outbox};
use devices::Devices;
use mappers::Mappers;
use service::{MapperRequest, Service};

/// Checked configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node: NodeName,
    pub dmi_socket: PathBuf,
}

/// The rooms DeviceTwin builds on. Without an event bus nothing is published.
pub struct Deps {
    pub store: Store,
    pub objects: Objects,
    pub outbox: Outbox,
    /// Committed changes of devices and models.
    pub changes: mpsc::Receiver<ObjectChange>,
    pub bus: Option<eventbus::Handle>,
    pub incoming: mpsc::Receiver<eventbus::Incoming>,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("reading the devices")]
    Load(#[source] StoreError),
    #[error("DMI socket")]
    Socket(#[source] ServeError),
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("serving mappers")]
    Dmi(#[source] ServeError),
}

/// Reports of mappers that may wait; a mapper that sends more is told so and keeps its newest values.
const MAPPER_QUEUE: usize = 1024;

pub struct DeviceTwin {
    devices: Devices,
    changes: mpsc::Receiver<ObjectChange>,
    incoming: mpsc::Receiver<eventbus::Incoming>,
    requests: mpsc::Receiver<MapperRequest>,
    service: Service,
    socket: Socket,
    doors: runtime::Handle,
}

impl DeviceTwin {
    /// Reads the devices and binds the DMI socket.
    pub async fn build(
        settings: Settings,
        deps: Deps,
        doors: &runtime::Handle,
        stop: CancellationToken,
    ) -> Result<DeviceTwin, BuildError> {
        let (room, requests) = mpsc::channel(MAPPER_QUEUE);
        let kept = deps.store.read(table::load).await.map_err(BuildError::Load)?;
        let models = deps.objects.list(&ObjectKind::DeviceModel).await.map_err(BuildError::Load)?;
        let devices = deps.objects.list(&ObjectKind::Device).await.map_err(BuildError::Load)?;
        let mut state =
            Devices::new(settings.node, deps.store, deps.objects, deps.outbox, deps.bus, Mappers::new(stop));
        state.load(kept, models, devices).await.map_err(BuildError::Load)?;
        let socket = {
            let _bound_there = doors.enter();
            Socket::bind(&settings.dmi_socket).map_err(BuildError::Socket)?
        };
        Ok(DeviceTwin {
            devices: state,
            changes: deps.changes,
            incoming: deps.incoming,
            requests,
            service: Service { room },
            socket,
            doors: doors.clone(),
        })
    }

    pub async fn run(mut self, stop: CancellationToken) -> Result<(), RunError> {
        let service = DeviceManagerServiceServer::new(self.service.clone());
        let serve = self.socket.serve(service, stop.clone().cancelled_owned());
        let mut serving = self.doors.spawn(serve);
        loop {
            tokio::select! {
                biased;
                served = &mut serving => {
                    return match served {
                        Ok(result) => result.map_err(RunError::Dmi),
                        // Only a stop of the process aborts it.
                        Err(_) => Ok(()),
                    };
                }
                Some(change) = self.changes.recv() => self.devices.object_changed(change).await,
                Some(request) = self.requests.recv() => self.devices.mapper_asked(request).await,
                Some(incoming) = self.incoming.recv() => published(&mut self.devices, incoming).await,
            }
        }
    }
}

/// A message of the event bus. What is not about devices of this node is for rooms to come.
async fn published(devices: &mut Devices, incoming: eventbus::Incoming) {
    let payload: Bytes = incoming.payload;
    match Inbound::parse(&incoming.topic) {
        Some(Inbound::TwinUpdate { namespace, name }) => {
            devices.twin_update(&namespace, &name, &payload).await
        }
        Some(Inbound::TwinGet { namespace, name }) => devices.twin_get(&namespace, &name, &payload),
        Some(Inbound::StateUpdate { namespace, name }) => {
            devices.state_update(&namespace, &name, &payload).await
        }
        Some(Inbound::MembershipGet { node }) => devices.membership_get(&node, &payload),
        Some(Inbound::Upload { topic }) => tracing::debug!(topic, "upload without a router dropped"),
        None => {}
    }
}
