//! The state of the room: devices, models, twins; and what each input does to them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use api::devices::{Device, DeviceModel};
use dmi::v1beta1::{MapperInfo, MapperRegisterResponse};
use message::{Json, NodeName, ObjectKind, Upstream};
use mqtt::topics;
use serde_json::json;
use store::{Store, StoreError};
use tonic::Status;

use super::mappers::{Mappers, Tell};
use super::service::{self, MapperRequest};
use super::table::{self, Kept};
use super::twin::{Outcome, Refusal};
use super::{convert, payloads};
use crate::eventbus;
use crate::metamanager::{Change, ObjectChange, Objects, Outbox, StoredObject, SubmitError};

/// Rows of registered mappers in table `meta`, in KubeEdge's form (spec/devices.md 3.3).
const MAPPER_ROWS: &str = "devicemapper";

/// A device of this node.
struct Member {
    device: Device,
    kept: Kept,
}

pub(super) struct Devices {
    node: NodeName,
    store: Store,
    objects: Objects,
    outbox: Outbox,
    bus: Option<eventbus::Handle>,
    mappers: Mappers,
    members: BTreeMap<String, Member>,
    models: HashMap<String, DeviceModel>,
}

fn id(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

impl Devices {
    pub fn new(
        node: NodeName,
        store: Store,
        objects: Objects,
        outbox: Outbox,
        bus: Option<eventbus::Handle>,
        mappers: Mappers,
    ) -> Devices {
        Devices {
            node,
            store,
            objects,
            outbox,
            bus,
            mappers,
            members: BTreeMap::new(),
            models: HashMap::new(),
        }
    }

    /// What was there before the process started: objects, twins, mappers.
    pub async fn load(
        &mut self,
        mut kept: BTreeMap<String, Kept>,
        models: Vec<StoredObject>,
        devices: Vec<StoredObject>,
    ) -> Result<(), StoreError> {
        for stored in models {
            if let Ok(model) = stored.object.parse::<DeviceModel>() {
                self.models.insert(id(&model.metadata.namespace, &model.metadata.name), model);
            }
        }
        for stored in devices {
            if let Ok(device) = stored.object.parse::<Device>() {
                let kept = kept.remove(&device.id()).unwrap_or_default();
                self.members.insert(device.id(), Member { device, kept });
            }
        }
        for row in self.objects.kept_of(MAPPER_ROWS).await? {
            #[derive(serde::Deserialize)]
            struct Row {
                protocol: String,
                address: PathBuf,
            }
            if let Ok(row) = serde_json::from_str::<Row>(&row) {
                self.mappers.registered(&row.protocol, row.address);
            }
        }
        Ok(())
    }

    fn publish(&self, topic: String, payload: String) {
        if let Some(bus) = &self.bus {
            bus.publish(topic, payload);
        }
    }

    // ---- objects from the cloud

    pub async fn object_changed(&mut self, change: ObjectChange) {
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
                    self.mappers.tell(&model.spec.protocol, Tell::NoModel { namespace, name });
                }
            }
            _ => {}
        }
    }

    async fn device_put(&mut self, device: Device) {
        let id = device.id();
        let previous = self.members.remove(&id);
        let joined = previous.is_none();
        let mut kept = Kept::default();
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
        if !changed.is_empty() {
            self.publish_delta(&member);
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
        self.models.insert(key.clone(), model);
        // Devices that waited for their model, and those that inherit from it.
        let users: Vec<Device> = self
            .members
            .values()
            .filter(|member| self.model_key(&member.device).as_deref() == Some(&key))
            .map(|member| member.device.clone())
            .collect();
        for device in users {
            self.tell_device(&device, false);
        }
    }

    fn model_key(&self, device: &Device) -> Option<String> {
        Some(id(&device.metadata.namespace, &device.spec.device_model_ref.as_ref()?.name))
    }

    fn model_of(&self, device: &Device) -> Option<&DeviceModel> {
        self.models.get(&self.model_key(device)?)
    }

    /// Tells the mapper of the device's own protocol, the model first.
    fn tell_device(&self, device: &Device, new: bool) {
        let Some(model) = self.model_of(device) else { return };
        let protocol = &device.spec.protocol.protocol_name;
        self.mappers.tell(protocol, Tell::Model(convert::model(model)));
        self.mappers.tell(protocol, Tell::Device { device: convert::device(device, model), new });
    }

    fn forget_at_mapper(&self, device: &Device) {
        let (namespace, name) = (device.metadata.namespace.clone(), device.metadata.name.clone());
        self.mappers.tell(&device.spec.protocol.protocol_name, Tell::NoDevice { namespace, name });
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

    // ---- values from MQTT

    pub async fn twin_update(&mut self, namespace: &str, name: &str, payload: &[u8]) {
        let (event_id, request) = payloads::read_twin_request(payload);
        let result = match request {
            Ok(request) => self.apply_update(namespace, name, request).await,
            Err(refusal) => Err(refusal),
        };
        let now = daemon::clock::unix_ms();
        let topic = topics::twin_update_result(namespace, name);
        match result {
            Err(refusal) => self.publish(topic, payloads::refusal(&event_id, now, &refusal)),
            Ok((outcome, at)) => {
                self.publish(topic, payloads::twins(&event_id, at, outcome.result));
                let document = payloads::twins(&event_id, at, outcome.document);
                self.publish(topics::twin_update_document(namespace, name), document);
                if let Some(member) = self.members.get(&id(namespace, name)) {
                    self.publish_delta(member);
                }
            }
        }
    }

    async fn apply_update(
        &mut self,
        namespace: &str,
        name: &str,
        request: payloads::TwinRequest,
    ) -> Result<(Outcome, i64), Refusal> {
        let unknown =
            Refusal { code: 404, reason: "update rejected due to the device is not existed".to_owned() };
        let wanted = request
            .twin
            .ok_or_else(|| super::twin::bad_request("Update twin error, key:twin does not exist"))?;
        let key = id(namespace, name);
        let mut member = self.members.remove(&key).ok_or(unknown)?;
        let now = daemon::clock::unix_ms();
        let before = member.kept.twins.clone();
        let updated = member.kept.twins.update(&wanted, now);
        let result = match updated {
            Ok(outcome) => match self.commit(&key, &member, &outcome.changed).await {
                Ok(()) => Ok((outcome, now)),
                Err(error) => {
                    member.kept.twins = before;
                    Err(Refusal { code: 500, reason: error.to_string() })
                }
            },
            Err(refusal) => Err(refusal),
        };
        self.members.insert(key, member);
        result
    }

    /// Stores changed twins and, in the same transaction, the report that tells the cloud.
    async fn commit(&self, id: &str, member: &Member, changed: &[String]) -> Result<(), SubmitError> {
        if changed.is_empty() {
            return Ok(());
        }
        let metadata = &member.device.metadata;
        let now = daemon::clock::unix_ms();
        let report = json!({
            "event_id": message::MessageId::random().0,
            "timestamp": now,
            "twin": member.kept.twins.report(),
        });
        let report = Upstream::TwinReport {
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            report: Json::encode(&report).unwrap_or_else(|_| Json::null()),
        };
        let row = id.to_owned();
        let twins: Vec<_> = changed
            .iter()
            .filter_map(|property| Some((property.clone(), member.kept.twins.0.get(property)?.clone())))
            .collect();
        let also = move |tx: &store::rusqlite::Transaction<'_>| {
            twins.iter().try_for_each(|(property, twin)| table::put_twin(tx, &row, property, twin))
        };
        self.outbox.submit_with(report, also).await
    }

    fn publish_delta(&self, member: &Member) {
        if let Some((twin, delta)) = member.kept.twins.delta() {
            let metadata = &member.device.metadata;
            let topic = topics::twin_update_delta(&metadata.namespace, &metadata.name);
            self.publish(topic, payloads::delta(daemon::clock::unix_ms(), twin, delta));
        }
    }

    pub fn twin_get(&self, namespace: &str, name: &str, payload: &[u8]) {
        let now = daemon::clock::unix_ms();
        let (event_id, request) = payloads::read_twin_request(payload);
        let answer = match (request, self.members.get(&id(namespace, name))) {
            (Err(refusal), _) => payloads::refusal(&event_id, now, &refusal),
            (Ok(_), None) => {
                let reason = format!("Device {namespace}/{name} not found while getting twin");
                payloads::refusal(&event_id, now, &Refusal { code: 404, reason })
            }
            (Ok(_), Some(member)) => payloads::twins(&event_id, now, member.kept.twins.documents()),
        };
        self.publish(topics::twin_get_result(namespace, name), answer);
    }

    pub async fn state_update(&mut self, namespace: &str, name: &str, payload: &[u8]) {
        let Ok(request) = serde_json::from_slice::<payloads::StateRequest>(payload) else {
            tracing::debug!(%namespace, %name, "unreadable device state dropped");
            return;
        };
        if let Err(error) = self.set_state(namespace, name, &request.state, true).await {
            tracing::error!(%namespace, %name, error = %error, "device state was not stored");
        }
    }

    /// Unknown states and devices are ignored, as KubeEdge does. `echo`: the result topic hears of it even when
    /// nothing changed.
    async fn set_state(
        &mut self,
        namespace: &str,
        name: &str,
        state: &str,
        echo: bool,
    ) -> Result<(), SubmitError> {
        let key = id(namespace, name);
        let Some(member) = self.members.get_mut(&key).filter(|_| payloads::is_known_state(state)) else {
            return Ok(());
        };
        let changed = member.kept.state != state;
        let online = ["online", "ok"].iter().any(|word| word.eq_ignore_ascii_case(state));
        let time = daemon::clock::now();
        member.kept.state = state.to_owned();
        member.kept.last_online = if online { daemon::clock::rfc3339(time) } else { String::new() };
        let report = payloads::state(time.as_millisecond(), name, state, &member.kept.last_online);
        let (row, device, kept) = (key, name.to_owned(), member.kept.clone());
        if changed {
            let upstream = Upstream::DeviceState {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                report: Json::encode(&report).unwrap_or_else(|_| Json::null()),
            };
            self.outbox.submit_with(upstream, move |tx| table::put_device(tx, &row, &device, &kept)).await?;
        }
        if changed || echo {
            self.publish(topics::state_update_result(namespace, name), report.to_string());
        }
        Ok(())
    }

    pub fn membership_get(&self, node: &str, payload: &[u8]) {
        if node != self.node.as_str() {
            return;
        }
        let (event_id, _) = payloads::read_twin_request(payload);
        let devices: Vec<_> = self
            .members
            .iter()
            .map(|(id, member)| {
                json!({
                    "id": id, "name": member.device.metadata.name,
                    "state": member.kept.state, "last_online": member.kept.last_online,
                })
            })
            .collect();
        let answer = json!({"event_id": event_id, "timestamp": daemon::clock::unix_ms(), "devices": devices});
        self.publish(topics::membership_get_result(node), answer.to_string());
    }

    // ---- mappers

    pub async fn mapper_asked(&mut self, request: MapperRequest) {
        // A mapper that gave up has closed its end of `answer`.
        match request {
            MapperRequest::Register { mapper, with_data, answer } => {
                let reply = self.register(&mapper, with_data).await;
                let _ = answer.send(reply);
            }
            MapperRequest::Twins { namespace, name, twins, answer } => {
                let result = self.device_reported(&namespace, &name, &twins).await;
                let _ = answer.send(result);
            }
            MapperRequest::State { namespace, name, state, answer } => {
                let result = match self.find(&namespace, &name) {
                    Some((namespace, name)) => {
                        let stored = self.set_state(&namespace, &name, &state, false).await;
                        stored.map_err(|error| Status::unavailable(error.to_string()))
                    }
                    None => Err(unknown(&namespace, &name)),
                };
                let _ = answer.send(result);
            }
        }
    }

    async fn register(&mut self, mapper: &MapperInfo, with_data: bool) -> MapperRegisterResponse {
        let address = PathBuf::from(String::from_utf8_lossy(&mapper.address).into_owned());
        tracing::info!(name = mapper.name, protocol = mapper.protocol, socket = %address.display(), "mapper registered");
        let row = json!({"name": mapper.name, "version": mapper.version, "api_version": mapper.api_version,
            "protocol": mapper.protocol, "address": address, "state": mapper.state});
        let path = format!("node/nodeID/namespace/{MAPPER_ROWS}/{}", mapper.protocol);
        if let Err(error) = self.objects.keep(path, MAPPER_ROWS, String::new(), row.to_string()).await {
            tracing::error!(name = mapper.name, error = %error, "mapper was not stored; it must register again after a restart");
        }
        self.mappers.registered(&mapper.protocol, address);
        let mut reply = MapperRegisterResponse::default();
        for member in self.members.values().filter(|member| with_data && serves(mapper, &member.device)) {
            if let Some(model) = self.model_of(&member.device) {
                reply.model_list.push(convert::model(model));
                reply.device_list.push(convert::device(&member.device, model));
            }
        }
        reply
    }

    async fn device_reported(
        &mut self,
        namespace: &str,
        name: &str,
        twins: &[dmi::v1beta1::Twin],
    ) -> Result<(), Status> {
        let (namespace, name) = self.find(namespace, name).ok_or_else(|| unknown(namespace, name))?;
        let key = id(&namespace, &name);
        let Some(mut member) = self.members.remove(&key) else { return Err(unknown(&namespace, &name)) };
        let before = member.kept.twins.clone();
        let outcome = member.kept.twins.reported(&service::wanted(twins), daemon::clock::unix_ms());
        let result = self.commit(&key, &member, &outcome.changed).await;
        if result.is_ok() && !outcome.changed.is_empty() {
            let document = payloads::twins("", daemon::clock::unix_ms(), outcome.document);
            self.publish(topics::twin_update_document(&namespace, &name), document);
            self.publish_delta(&member);
        }
        if result.is_err() {
            member.kept.twins = before;
        }
        self.members.insert(key, member);
        result.map_err(|error| Status::unavailable(error.to_string()))
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

fn serves(mapper: &MapperInfo, device: &Device) -> bool {
    device.spec.protocol.protocol_name == mapper.protocol
}

fn unknown(namespace: &str, name: &str) -> Status {
    Status::not_found(format!("device {namespace}/{name} is not on this node"))
}
