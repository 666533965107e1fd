//! The state of the room: devices, models, twins; and what each input does to them.

mod batch;
mod values;

use std::collections::{BTreeMap, HashMap};

use api::devices::{Device, DeviceModel};
use dmi::Peer;
use dmi::v1beta1::{MapperInfo, MapperRegisterResponse};
use message::{NodeName, ObjectKind};
use mqtt::topics;
use store::{Store, StoreError};
use tonic::Status;

use super::mappers::{MapperUpdate, Mappers};
use super::registrations::{Registered, Registrations};
use super::service::{self, MapperRequest};
use super::table::{self, StoredState};
use super::twin::{Declared, TwinRefusal};
use super::{convert, payloads};
use crate::eventbus;
use batch::AfterCommit;
pub(super) use batch::Batch;
use metamanager::{Change, ObjectChange, Outbox, StoredObject};

/// A device of this node.
struct Member {
    device: Device,
    kept: StoredState,
}

pub(super) struct Devices {
    node: NodeName,
    store: Store,
    outbox: Outbox,
    bus: Option<eventbus::Handle>,
    registrations: Registrations,
    mappers: Mappers,
    members: BTreeMap<String, Member>,
    models: HashMap<String, Model>,
}

/// A model, and what it says the properties of its devices are.
struct Model {
    object: DeviceModel,
    declared: Declared,
}

impl Model {
    fn new(object: DeviceModel) -> Model {
        let named = object.spec.properties.iter().filter(|property| !property.kind.is_empty());
        let declared =
            named.map(|property| (property.name.clone(), service::kind_name(&property.kind))).collect();
        Model { object, declared }
    }
}

fn id(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

impl Devices {
    pub(super) fn new(
        node: NodeName,
        store: Store,
        outbox: Outbox,
        bus: Option<eventbus::Handle>,
        registrations: Registrations,
        mappers: Mappers,
    ) -> Devices {
        Devices {
            node,
            store,
            outbox,
            bus,
            registrations,
            mappers,
            members: BTreeMap::new(),
            models: HashMap::new(),
        }
    }

    /// What was there before the process started: objects, twins, mappers.
    pub(super) async fn load(
        &mut self,
        mut kept: BTreeMap<String, StoredState>,
        models: Vec<StoredObject>,
        devices: Vec<StoredObject>,
    ) -> Result<(), StoreError> {
        for stored in models {
            if let Ok(model) = stored.object.parse::<DeviceModel>() {
                self.models.insert(id(&model.metadata.namespace, &model.metadata.name), Model::new(model));
            }
        }
        for stored in devices {
            if let Ok(device) = stored.object.parse::<Device>() {
                let kept = kept.remove(&device.id()).unwrap_or_default();
                self.members.insert(device.id(), Member { device, kept });
            }
        }
        for (protocol, address) in self.registrations.load().await? {
            self.mappers.registered(&protocol, address);
        }
        Ok(())
    }

    fn publish(&self, topic: String, payload: String) {
        if let Some(bus) = &self.bus {
            bus.publish(topic, payload);
        }
    }

    // ---- objects from the cloud

    pub(super) async fn object_changed(&mut self, change: ObjectChange) {
        let namespace = change.key.namespace.clone().unwrap_or_default();
        let name = change.key.name.clone();
        match (&change.key.kind, change.change) {
            (ObjectKind::Device, Change::Put { object, .. }) => match object.parse::<Device>() {
                Ok(device) => self.device_put(device).await,
                Err(error) => tracing::warn!(%namespace, %name, error = %error, "device is not readable"),
            },
            (ObjectKind::Device, Change::Remove { .. }) => self.device_removed(&namespace, &name).await,
            (ObjectKind::DeviceModel, Change::Put { object, .. }) => match object.parse::<DeviceModel>() {
                Ok(model) => self.model_put(model),
                Err(error) => {
                    tracing::warn!(%namespace, %name, error = %error, "device model is not readable")
                }
            },
            (ObjectKind::DeviceModel, Change::Remove { .. }) => {
                if let Some(model) = self.models.remove(&id(&namespace, &name)) {
                    self.mappers.tell(&model.object.spec.protocol, MapperUpdate::NoModel { namespace, name });
                }
            }
            _ => {}
        }
    }

    async fn device_put(&mut self, device: Device) {
        let id = device.id();
        let previous = self.members.remove(&id);
        let joined = previous.is_none();
        let mut kept = StoredState::default();
        if let Some(previous) = previous {
            kept = previous.kept;
            if previous.device.spec.protocol.protocol_name != device.spec.protocol.protocol_name {
                self.forget_at_mapper(&previous.device);
            }
        }
        self.tell_device(&device, joined);
        let now = daemon::clock::unix_ms();
        let mut changed = Vec::new();
        for property in device.spec.properties.iter().filter(|property| !property.desired.value.is_empty()) {
            let kind = property.desired.metadata.get("type").map(String::as_str).unwrap_or("string");
            if kept.twins.desire(&property.name, &property.desired.value, kind, now) {
                changed.push(property.name.clone());
            }
        }
        let member = Member { device, kept };
        self.save(&id, &member, changed.clone()).await;
        if joined {
            let notice = payloads::membership_change(now, &id, &member.device.metadata.name, true);
            self.publish(topics::membership_updated(self.node.as_str()), notice);
        }
        if !changed.is_empty()
            && let Some((topic, payload)) = values::delta(self.bus.as_ref(), &member)
        {
            self.publish(topic, payload);
        }
        self.members.insert(id, member);
    }

    async fn device_removed(&mut self, namespace: &str, name: &str) {
        let id = id(namespace, name);
        let Some(member) = self.members.remove(&id) else { return };
        self.forget_at_mapper(&member.device);
        let row = id.clone();
        if let Err(error) = self.store.write(move |tx| table::remove(tx, &row)).await {
            tracing::error!(%namespace, %name, error = %error, "values of a removed device were not removed");
        }
        let notice = payloads::membership_change(daemon::clock::unix_ms(), &id, name, false);
        self.publish(topics::membership_updated(self.node.as_str()), notice);
    }

    fn model_put(&mut self, model: DeviceModel) {
        let key = id(&model.metadata.namespace, &model.metadata.name);
        self.models.insert(key.clone(), Model::new(model));
        // Devices that waited for their model, and those that inherit from it.
        let users: Vec<Device> = self
            .members
            .values()
            .filter(|member| model_key(&member.device).as_deref() == Some(&key))
            .map(|member| member.device.clone())
            .collect();
        for device in users {
            self.tell_device(&device, false);
        }
    }

    fn model_of(&self, device: &Device) -> Option<&DeviceModel> {
        self.models.get(&model_key(device)?).map(|model| &model.object)
    }

    /// Tells the mapper of the device's own protocol, the model first.
    fn tell_device(&self, device: &Device, new: bool) {
        let Some(model) = self.model_of(device) else { return };
        let protocol = &device.spec.protocol.protocol_name;
        self.mappers.tell(protocol, MapperUpdate::Model(convert::model(model)));
        self.mappers.tell(protocol, MapperUpdate::Device { device: convert::device(device, model), new });
    }

    fn forget_at_mapper(&self, device: &Device) {
        let (namespace, name) = (device.metadata.namespace.clone(), device.metadata.name.clone());
        self.mappers.tell(&device.spec.protocol.protocol_name, MapperUpdate::NoDevice { namespace, name });
    }

    async fn save(&self, id: &str, member: &Member, changed: Vec<String>) {
        let (row, name, kept) = (id.to_owned(), member.device.metadata.name.clone(), member.kept.clone());
        let written = self.store.write(move |tx| {
            table::put_device(tx, &row, &name, &kept)?;
            changed.iter().try_for_each(|property| match kept.twins.0.get(property) {
                Some(twin) => table::put_twin(tx, &row, property, twin),
                None => Ok(()),
            })
        });
        if let Err(error) = written.await {
            tracing::error!(device = id, error = %error, "device was not stored");
        }
    }

    /// Stores what a group of inputs did, then tells everybody. If it cannot be stored it did not happen: the devices
    /// are what they were, and clients are not told that their messages arrived.
    pub(super) async fn commit(&mut self, batch: Batch) {
        let Batch { changed, told } = batch;
        let (mut rows, mut reports) = (Vec::new(), Vec::new());
        for (id, changed) in &changed {
            if let Some(member) = self.members.get(id) {
                let (more_rows, more_reports) = changed.outcome(id, member);
                rows.extend(more_rows);
                reports.extend(more_reports);
            }
        }
        let mut failure = None;
        if !rows.is_empty() || !reports.is_empty() {
            let stored = self.outbox.submit_all_with(reports, move |tx| batch::write(&rows, tx));
            failure = stored.await.err().map(|error| error.to_string());
        }
        if let Some(error) = &failure {
            tracing::error!(error, "values of devices were not stored");
            for (id, changed) in changed {
                if let Some(member) = self.members.get_mut(&id) {
                    changed.undo(&mut member.kept);
                }
            }
        }
        for told in told {
            self.tell(told, failure.as_deref());
        }
    }

    fn tell(&self, told: AfterCommit, failure: Option<&str>) {
        match (told, failure) {
            (AfterCommit::Apps { topic, payload } | AfterCommit::Result { topic, payload, .. }, None) => {
                self.publish(topic, payload)
            }
            (AfterCommit::Result { topic, event_id, .. }, Some(error)) => {
                let refusal = TwinRefusal { code: 500, reason: error.to_owned() };
                self.publish(topic, payloads::refusal(&event_id, daemon::clock::unix_ms(), &refusal));
            }
            (AfterCommit::Client(receipt), None) => receipt.complete(),
            // A mapper that gave up has closed its end.
            (AfterCommit::Mapper(answer), None) => drop(answer.send(Ok(()))),
            (AfterCommit::Mapper(answer), Some(error)) => drop(answer.send(Err(Status::unavailable(error)))),
            (AfterCommit::Apps { .. } | AfterCommit::Client(_), Some(_)) => {}
        }
    }

    // ---- mappers

    pub(super) async fn mapper_asked(&mut self, batch: &mut Batch, request: MapperRequest) {
        match request {
            MapperRequest::Register { mapper, with_data, peer, answer } => {
                let reply = self.register(&mapper, with_data, peer).await;
                // A mapper that gave up has closed its end.
                let _ = answer.send(reply);
            }
            MapperRequest::Twins { namespace, name, twins, peer, answer } => {
                match self.reporter_of(&namespace, &name, peer).await {
                    Ok((namespace, name)) => self.device_reported(batch, &namespace, &name, &twins, answer),
                    Err(refused) => drop(answer.send(Err(refused))),
                }
            }
            MapperRequest::State { namespace, name, state, peer, answer } => {
                match self.reporter_of(&namespace, &name, peer).await {
                    Ok((namespace, name)) => {
                        self.set_state(batch, &namespace, &name, &state, false);
                        batch.told.push(AfterCommit::Mapper(answer));
                    }
                    Err(refused) => drop(answer.send(Err(refused))),
                }
            }
        }
    }

    /// The device `peer` reports of, if it is here and `peer` is its mapper.
    async fn reporter_of(
        &mut self,
        namespace: &str,
        name: &str,
        peer: Peer,
    ) -> Result<(String, String), Status> {
        let found = self.find(namespace, name).ok_or_else(|| unknown(namespace, name))?;
        if let Some(member) = self.members.get(&id(&found.0, &found.1)) {
            let protocol = &member.device.spec.protocol.protocol_name;
            self.registrations.may_report(protocol, peer).await?;
        }
        Ok(found)
    }

    async fn register(
        &mut self,
        mapper: &MapperInfo,
        with_data: bool,
        peer: Peer,
    ) -> Result<MapperRegisterResponse, Status> {
        let Registered { address, forgotten } = self.registrations.register(mapper, peer).await?;
        forgotten.iter().for_each(|protocol| self.mappers.forget(protocol));
        self.mappers.registered(&mapper.protocol, address);
        let mut reply = MapperRegisterResponse::default();
        for member in self.members.values().filter(|member| with_data && serves(mapper, &member.device)) {
            if let Some(model) = self.model_of(&member.device) {
                reply.model_list.push(convert::model(model));
                reply.device_list.push(convert::device(&member.device, model));
            }
        }
        Ok(reply)
    }

    /// Mappers older than 1.16 leave the namespace empty: the name is resolved when only one device has it.
    fn find(&self, namespace: &str, name: &str) -> Option<(String, String)> {
        if !namespace.is_empty() {
            return self
                .members
                .contains_key(&id(namespace, name))
                .then(|| (namespace.to_owned(), name.to_owned()));
        }
        let mut named = self.members.values().filter(|member| member.device.metadata.name == name);
        let only = named.next()?;
        named.next().is_none().then(|| (only.device.metadata.namespace.clone(), name.to_owned()))
    }
}

fn model_key(device: &Device) -> Option<String> {
    Some(id(&device.metadata.namespace, &device.spec.device_model_ref.as_ref()?.name))
}

/// What the model of a device says its properties are, by name.
fn declared<'a>(models: &'a HashMap<String, Model>, device: &Device) -> &'a Declared {
    static NOTHING: Declared = Declared::new();
    model_key(device).and_then(|key| models.get(&key)).map_or(&NOTHING, |model| &model.declared)
}

fn serves(mapper: &MapperInfo, device: &Device) -> bool {
    device.spec.protocol.protocol_name == mapper.protocol
}

fn unknown(namespace: &str, name: &str) -> Status {
    Status::not_found(format!("device {namespace}/{name} is not on this node"))
}
