//! Values and states of devices, from MQTT and from mappers. Memory is changed at once; a [`Batch`] gathers what is to
//! be stored and what is told after that.

use mqtt::topics;
use serde_json::json;
use tokio::sync::oneshot;
use tonic::Status;

use super::super::payloads;
use super::super::service;
use super::super::twin::{TwinRefusal, UpdateOutcome, bad_request};
use super::batch::{AfterCommit, Batch};
use super::{Devices, Member, declared, id};
use crate::eventbus;

impl Devices {
    pub(crate) fn twin_update(&mut self, batch: &mut Batch, namespace: &str, name: &str, payload: &[u8]) {
        let (event_id, request) = payloads::read_twin_request(payload);
        let applied =
            request.and_then(|request| self.apply_update(batch, namespace, name, &event_id, request));
        if let Err(refusal) = applied {
            let answer = payloads::refusal(&event_id, daemon::clock::unix_ms(), &refusal);
            batch.publish(topics::twin_update_result(namespace, name), answer);
        }
    }

    fn apply_update(
        &mut self,
        batch: &mut Batch,
        namespace: &str,
        name: &str,
        event_id: &str,
        request: payloads::TwinRequest,
    ) -> Result<(), TwinRefusal> {
        let unknown = || TwinRefusal {
            code: 404,
            reason: "update rejected due to the device is not existed".to_owned(),
        };
        let wanted = request.twin.ok_or_else(|| bad_request("Update twin error, key:twin does not exist"))?;
        let key = id(namespace, name);
        let member = self.members.get_mut(&key).ok_or_else(unknown)?;
        let declared = declared(&self.models, &member.device);
        let now = daemon::clock::unix_ms();
        let outcome = member.kept.twins.update(&wanted, declared, now)?;
        let bus = self.bus.as_ref();
        let topic = topics::twin_update_result(namespace, name);
        if is_heard(bus, &topic) {
            let payload = payloads::twins(event_id, now, outcome.result(&member.kept.twins));
            batch.told.push(AfterCommit::Result { topic, payload, event_id: event_id.to_owned() });
        }
        publish_document(batch, bus, member, event_id, now, &outcome);
        batch.twins_changed(&key, outcome.changed(&member.kept.twins));
        publish_delta(batch, bus, member);
        Ok(())
    }

    pub(crate) fn twin_get(&self, batch: &mut Batch, namespace: &str, name: &str, payload: &[u8]) {
        let now = daemon::clock::unix_ms();
        let (event_id, request) = payloads::read_twin_request(payload);
        let answer = match (request, self.members.get(&id(namespace, name))) {
            (Err(refusal), _) => payloads::refusal(&event_id, now, &refusal),
            (Ok(_), None) => {
                let reason = format!("Device {namespace}/{name} not found while getting twin");
                payloads::refusal(&event_id, now, &TwinRefusal { code: 404, reason })
            }
            (Ok(_), Some(member)) => payloads::twins(&event_id, now, member.kept.twins.documents()),
        };
        batch.publish(topics::twin_get_result(namespace, name), answer);
    }

    pub(crate) fn state_update(&mut self, batch: &mut Batch, namespace: &str, name: &str, payload: &[u8]) {
        match serde_json::from_slice::<payloads::StateRequest>(payload) {
            Ok(request) => self.set_state(batch, namespace, name, &request.state, true),
            Err(_) => tracing::debug!(%namespace, %name, "unreadable device state dropped"),
        }
    }

    /// Unknown states and devices are ignored, as KubeEdge does. `echo`: the result topic hears of it even when
    /// nothing changed.
    pub(super) fn set_state(
        &mut self,
        batch: &mut Batch,
        namespace: &str,
        name: &str,
        state: &str,
        echo: bool,
    ) {
        let key = id(namespace, name);
        let Some(member) = self.members.get_mut(&key).filter(|_| payloads::is_known_state(state)) else {
            return;
        };
        let changed = member.kept.state != state;
        let online = ["online", "ok"].iter().any(|word| word.eq_ignore_ascii_case(state));
        let time = daemon::clock::now();
        let last_online = if online { daemon::clock::rfc3339(time) } else { String::new() };
        let report = payloads::state(time.as_millisecond(), name, state, &last_online);
        batch.state_set(&key, &member.kept, changed.then_some(&report));
        (member.kept.state, member.kept.last_online) = (state.to_owned(), last_online);
        if changed || echo {
            batch.publish(topics::state_update_result(namespace, name), report.to_string());
        }
    }

    pub(crate) fn membership_get(&self, batch: &mut Batch, node: &str, payload: &[u8]) {
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
        batch.publish(topics::membership_get_result(node), answer.to_string());
    }

    /// Values a mapper reports.
    pub(super) fn device_reported(
        &mut self,
        batch: &mut Batch,
        namespace: &str,
        name: &str,
        twins: &[dmi::v1beta1::Twin],
        answer: oneshot::Sender<Result<(), Status>>,
    ) {
        let key = id(namespace, name);
        if let Some(member) = self.members.get_mut(&key) {
            let now = daemon::clock::unix_ms();
            let reports = service::wanted(twins);
            let declared = declared(&self.models, &member.device);
            let outcome = match member.kept.twins.reported(&reports, declared, now) {
                Ok(outcome) => outcome,
                Err(refusal) => return drop(answer.send(Err(Status::invalid_argument(refusal.reason)))),
            };
            if !outcome.is_empty() {
                publish_document(batch, self.bus.as_ref(), member, "", now, &outcome);
                batch.twins_changed(&key, outcome.changed(&member.kept.twins));
                publish_delta(batch, self.bus.as_ref(), member);
            }
        }
        batch.told.push(AfterCommit::Mapper(answer));
    }
}

/// Nothing is written down for topics without listeners; whoever listens from now on hears of the next update.
fn is_heard(bus: Option<&eventbus::Handle>, topic: &str) -> bool {
    bus.is_some_and(|bus| bus.is_heard(topic))
}

fn publish_document(
    batch: &mut Batch,
    bus: Option<&eventbus::Handle>,
    member: &Member,
    event_id: &str,
    now: i64,
    outcome: &UpdateOutcome,
) {
    let metadata = &member.device.metadata;
    let topic = topics::twin_update_document(&metadata.namespace, &metadata.name);
    if is_heard(bus, &topic) {
        batch.publish(topic, payloads::twins(event_id, now, outcome.document(&member.kept.twins)));
    }
}

fn publish_delta(batch: &mut Batch, bus: Option<&eventbus::Handle>, member: &Member) {
    if let Some((topic, payload)) = delta(bus, member) {
        batch.publish(topic, payload);
    }
}

/// Topic and payload that tell what a device is yet to do, if something is and somebody listens.
pub(super) fn delta(bus: Option<&eventbus::Handle>, member: &Member) -> Option<(String, String)> {
    let metadata = &member.device.metadata;
    let topic = topics::twin_update_delta(&metadata.namespace, &metadata.name);
    let (twin, delta) = member.kept.twins.delta().filter(|_| is_heard(bus, &topic))?;
    Some((topic, payloads::delta(daemon::clock::unix_ms(), twin, delta)))
}
