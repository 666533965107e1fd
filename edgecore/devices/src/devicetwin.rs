//! DeviceTwin: the devices of this node, their values, and the mappers that speak to them.
//!
//! ```text
//! metamanager --device, model--> [room] --MapperUpdate--> mappers (DMI)         --expected--> eventbus (delta)
//! mappers (DMI), eventbus (MQTT) --values--> [room: merge, commit] --> outbox (report) , eventbus (document)
//! ```
//!
//! Owns the tables `device` and `device_twin`, the DMI socket, and the in-memory twins. One task drives all of it, so
//! the values of a device are merged in the order they arrive. What arrives while the disk is busy shares the next
//! commit, with one report of each device it changes. A report to the cloud tells all values of its device; it is
//! committed together with them, and kept until the cloud confirms it or a newer one says more. Apps on the local broker
//! hear of every update. Apps and mappers are told after the commit that their values arrived, and send them again if it
//! failed.

mod convert;
mod devices;
pub mod mappers;
mod payloads;
mod registrations;
mod service;
mod table;
mod twin;

use futures_util::future::BoxFuture;
use std::path::PathBuf;

use daemon::health::Beat;
use daemon::rooms::Work;
use dmi::v1beta1::device_manager_service_server::DeviceManagerServiceServer;
use dmi::{BindError, Socket};
use message::{NodeName, ObjectKind};
use mqtt::topics::Inbound;
use mqtt::{Delivery, Publish};
use store::{Store, StoreError};
use tokio::runtime;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::eventbus;
use devices::{Batch, Devices};
use mappers::Mappers;
use metamanager::{ObjectChange, Objects, Outbox};
use registrations::Registrations;
use service::{MapperRequest, Service};

/// Checked configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node: NodeName,
    pub dmi_socket: PathBuf,
    /// Values of a device are taken from any program, not only from the mapper of its protocol.
    pub accept_any_reporter: bool,
}

/// The rooms DeviceTwin builds on. Without an event bus nothing is published.
pub struct Deps {
    pub store: Store,
    pub objects: Objects,
    pub outbox: Outbox,
    /// Committed changes of devices and models.
    pub changes: mpsc::Receiver<ObjectChange>,
    pub bus: Option<eventbus::Handle>,
    pub incoming: eventbus::Messages,
    /// Shows that the room moves.
    pub beat: Beat,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("reading the devices")]
    Load(#[source] StoreError),
    #[error("DMI socket")]
    Socket(#[source] BindError),
}

/// Reports of mappers that may wait; a mapper that sends more is told so and keeps its newest values.
const MAPPER_QUEUE: usize = 1024;
/// Largest message of a mapper, in bytes: hundreds of values at once.
const MAPPER_MESSAGE: usize = 1024 * 1024;
/// Most inputs that share a commit: the first of them waits for the last.
const GROUP: usize = 256;
/// Inputs between which other rooms get their turns.
const TURN: usize = 16;

/// What brings values.
enum Input {
    Mapper(MapperRequest),
    Message(Delivery),
}

struct Inbox {
    requests: mpsc::Receiver<MapperRequest>,
    incoming: eventbus::Messages,
}

pub struct DeviceTwin {
    devices: Devices,
    changes: mpsc::Receiver<ObjectChange>,
    inbox: Inbox,
    service: Service,
    socket: Socket,
    doors: runtime::Handle,
    beat: Beat,
}

impl DeviceTwin {
    /// Reads the devices and binds the DMI socket.
    pub fn build(
        settings: Settings,
        deps: Deps,
        doors: &runtime::Handle,
        stop: CancellationToken,
    ) -> BoxFuture<'_, Result<DeviceTwin, BuildError>> {
        Box::pin(async move {
            let (room, requests) = mpsc::channel(MAPPER_QUEUE);
            let kept = deps.store.read(table::load).await.map_err(BuildError::Load)?;
            let models = deps.objects.list(&ObjectKind::DeviceModel).await.map_err(BuildError::Load)?;
            let devices = deps.objects.list(&ObjectKind::Device).await.map_err(BuildError::Load)?;
            let registrations =
                Registrations::new(deps.objects, deps.store.clone(), settings.accept_any_reporter);
            let mappers = Mappers::new(stop);
            let mut state =
                Devices::new(settings.node, deps.store, deps.outbox, deps.bus, registrations, mappers);
            state.load(kept, models, devices).await.map_err(BuildError::Load)?;
            let socket = {
                let _bound_there = doors.enter();
                Socket::bind(&settings.dmi_socket).map_err(BuildError::Socket)?
            };
            Ok(DeviceTwin {
                devices: state,
                changes: deps.changes,
                inbox: Inbox { requests, incoming: deps.incoming },
                service: Service { room },
                socket,
                doors: doors.clone(),
                beat: deps.beat,
            })
        })
    }

    /// Runs until `stop` and the last answer to a mapper.
    pub fn run(self, stop: CancellationToken) -> Work<JoinError> {
        Box::pin(self.work(stop))
    }

    async fn work(mut self, stop: CancellationToken) -> Result<(), JoinError> {
        let service = DeviceManagerServiceServer::new(self.service.clone());
        let service = service.max_decoding_message_size(MAPPER_MESSAGE);
        let serve = self.socket.serve(service, stop);
        let mut serving = self.doors.spawn(serve);
        loop {
            tokio::select! {
                biased;
                served = &mut serving => return served,
                Some(change) = self.changes.recv() => {
                    let _busy = self.beat.begin();
                    self.devices.object_changed(change).await;
                }
                first = self.inbox.next() => {
                    let _busy = self.beat.begin();
                    group(&mut self.devices, first, &mut self.inbox).await;
                }
            }
        }
    }
}

/// Takes what waits, commits it at once, and tells those who wait for it.
async fn group(devices: &mut Devices, first: Input, inbox: &mut Inbox) {
    let mut batch = Batch::default();
    let mut next = Some(first);
    for taken in 1..=GROUP {
        match next {
            Some(Input::Mapper(request)) => devices.mapper_asked(&mut batch, request).await,
            Some(Input::Message(delivery)) => published(devices, &mut batch, delivery),
            None => break,
        }
        if taken.is_multiple_of(TURN) {
            tokio::task::yield_now().await;
        }
        next = if taken < GROUP { inbox.waiting(taken.is_multiple_of(2)) } else { None };
    }
    devices.commit(batch).await;
}

impl Inbox {
    async fn next(&mut self) -> Input {
        tokio::select! {
            Some(request) = self.requests.recv() => Input::Mapper(request),
            delivery = self.incoming.next() => Input::Message(delivery),
        }
    }

    /// An input that is there already. Mappers and apps take turns.
    fn waiting(&mut self, mapper_first: bool) -> Option<Input> {
        if mapper_first && let Ok(request) = self.requests.try_recv() {
            return Some(Input::Mapper(request));
        }
        if let Some(delivery) = self.incoming.waiting() {
            return Some(Input::Message(delivery));
        }
        self.requests.try_recv().ok().map(Input::Mapper)
    }
}

/// A message of the event bus. What is not about devices of this node is for rooms to come.
fn published(devices: &mut Devices, batch: &mut Batch, delivery: Delivery) {
    let Delivery { publish: Publish { topic, payload, .. }, receipt } = delivery;
    match Inbound::parse(&topic) {
        Some(Inbound::TwinUpdate { namespace, name }) => {
            devices.twin_update(batch, &namespace, &name, &payload)
        }
        Some(Inbound::TwinGet { namespace, name }) => devices.twin_get(batch, &namespace, &name, &payload),
        Some(Inbound::StateUpdate { namespace, name }) => {
            devices.state_update(batch, &namespace, &name, &payload)
        }
        Some(Inbound::MembershipGet { node }) => devices.membership_get(batch, &node, &payload),
        Some(Inbound::Upload { topic }) => tracing::debug!(topic, "upload without a router dropped"),
        None => {}
    }
    batch.confirm(receipt);
}

#[cfg(test)]
mod tests;
