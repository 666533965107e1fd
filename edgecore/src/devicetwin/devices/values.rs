//! Values and states of devices, from MQTT and from mappers. Memory is changed at once; a [`Batch`] gathers what is to
//! be stored and what is told after that.

use message::{Json, Upstream};
use mqtt::topics;
use serde_json::json;
use tokio::sync::oneshot;
use tonic::Status;

use super::super::payloads;
use super::super::service;
use super::super::table::Kept;
use super::super::twin::{Refusal, Twins, bad_request};
use super::batch::{Batch, Row, Told};
use super::{Devices, Member, id};

impl Devices {
    pub fn twin_update(&mut self, batch: &mut Batch, namespace: &str, name: &str, payload: &[u8]) {
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
    ) -> Result<(), Refusal> {
        let unknown =
            || Refusal { code: 404, reason: "update rejected due to the device is not existed".to_owned() };
        let wanted = request.twin.ok_or_else(|| bad_request("Update twin error, key:twin does not exist"))?;
        let key = id(namespace, name);
        let declared = self.members.get(&key).map(|member| self.declared(&member.device));
        let member = self.members.get_mut(&key).ok_or_else(unknown)?;
        let now = daemon::clock::unix_ms();
        batch.changes(&key, &member.kept);
        let outcome = member.kept.twins.update(&wanted, &declared.unwrap_or_default(), now)?;
        store(batch, &key, member, &outcome.changed);
        batch.told.push(Told::Result {
            topic: topics::twin_update_result(namespace, name),
            payload: payloads::twins(event_id, now, outcome.result),
            event_id: event_id.to_owned(),
        });
        let document = payloads::twins(event_id, now, outcome.document);
        batch.publish(topics::twin_update_document(namespace, name), document);
        publish_delta(batch, member);
        Ok(())
    }

    pub fn twin_get(&self, batch: &mut Batch, namespace: &str, name: &str, payload: &[u8]) {
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
        batch.publish(topics::twin_get_result(namespace, name), answer);
    }

    pub fn state_update(&mut self, batch: &mut Batch, namespace: &str, name: &str, payload: &[u8]) {
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
        batch.changes(&key, &member.kept);
        member.kept.state = state.to_owned();
        member.kept.last_online = if online { daemon::clock::rfc3339(time) } else { String::new() };
        let report = payloads::state(time.as_millisecond(), name, state, &member.kept.last_online);
        if changed {
            batch.reports.push(Upstream::DeviceState {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                report: Json::encode(&report).unwrap_or_else(|_| Json::null()),
            });
            let (state, last_online) = (member.kept.state.clone(), member.kept.last_online.clone());
            let kept = Kept { state, last_online, twins: Twins::default() };
            batch.rows.push(Row::Device { id: key, name: name.to_owned(), kept });
        }
        if changed || echo {
            batch.publish(topics::state_update_result(namespace, name), report.to_string());
        }
    }

    pub fn membership_get(&self, batch: &mut Batch, node: &str, payload: &[u8]) {
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
        let declared = self.members.get(&key).map(|member| self.declared(&member.device));
        if let Some(member) = self.members.get_mut(&key) {
            let now = daemon::clock::unix_ms();
            batch.changes(&key, &member.kept);
            let reports = service::wanted(twins);
            let outcome = match member.kept.twins.reported(&reports, &declared.unwrap_or_default(), now) {
                Ok(outcome) => outcome,
                Err(refusal) => return drop(answer.send(Err(Status::invalid_argument(refusal.reason)))),
            };
            if !outcome.changed.is_empty() {
                store(batch, &key, member, &outcome.changed);
                let document = payloads::twins("", now, outcome.document);
                batch.publish(topics::twin_update_document(namespace, name), document);
                publish_delta(batch, member);
            }
        }
        batch.told.push(Told::Mapper(answer));
    }
}

/// Stores changed twins and, in the same transaction, the report that tells the cloud.
fn store(batch: &mut Batch, id: &str, member: &Member, changed: &[String]) {
    if changed.is_empty() {
        return;
    }
    let report = json!({
        "event_id": message::MessageId::random().0,
        "timestamp": daemon::clock::unix_ms(),
        "twin": member.kept.twins.report(),
    });
    let metadata = &member.device.metadata;
    batch.reports.push(Upstream::TwinReport {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        report: Json::encode(&report).unwrap_or_else(|_| Json::null()),
    });
    let rows = changed.iter().filter_map(|property| {
        let twin = member.kept.twins.0.get(property)?.clone();
        Some(Row::Twin { device: id.to_owned(), property: property.clone(), twin })
    });
    batch.rows.extend(rows);
}

fn publish_delta(batch: &mut Batch, member: &Member) {
    if let Some((topic, payload)) = delta(member) {
        batch.publish(topic, payload);
    }
}

/// Topic and payload that tell what a device is yet to do.
pub(super) fn delta(member: &Member) -> Option<(String, String)> {
    let (twin, delta) = member.kept.twins.delta()?;
    let metadata = &member.device.metadata;
    let topic = topics::twin_update_delta(&metadata.namespace, &metadata.name);
    Some((topic, payloads::delta(daemon::clock::unix_ms(), twin, delta)))
}
