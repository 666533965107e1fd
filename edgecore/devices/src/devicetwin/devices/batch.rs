//! What a group of inputs does: which devices it changes, and what is told once that is on disk.
//!
//! Rows and reports are made when the group is committed: a device that was changed often has each changed property
//! written once, and is reported once.

use std::collections::BTreeMap;

use message::{Json, Upstream};
use mqtt::Receipt;
use serde_json::{Value, json};
use store::rusqlite::{self, Transaction};
use tokio::sync::oneshot;
use tonic::Status;

use super::super::table::{self, StoredState};
use super::super::twin::{Twin, Twins};
use super::Member;

/// A row to write.
pub(super) enum Row {
    Twin { device: String, property: String, twin: Twin },
    Device { id: String, name: String, kept: StoredState },
}

impl Row {
    fn write(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        match self {
            Row::Twin { device, property, twin } => table::put_twin(tx, device, property, twin),
            Row::Device { id, name, kept } => table::put_device(tx, id, name, kept),
        }
    }
}

/// Writes them in their order.
pub(super) fn write(rows: &[Row], tx: &Transaction<'_>) -> rusqlite::Result<()> {
    rows.iter().try_for_each(|row| row.write(tx))
}

/// What waits for the commit.
pub(super) enum AfterCommit {
    /// Apps hear it; nothing is published if the commit failed.
    Apps {
        topic: String,
        payload: String,
    },
    /// The answer to a twin update; a refusal if the commit failed.
    Result {
        topic: String,
        payload: String,
        event_id: String,
    },
    /// The client is told that its message arrived, or sends it again.
    Client(Receipt),
    Mapper(oneshot::Sender<Result<(), Status>>),
}

/// What a group changed of one device.
#[derive(Default)]
pub(super) struct Changed {
    /// Properties with a row to write, as they were before.
    twins: BTreeMap<String, Option<Twin>>,
    /// State and last time online before.
    state: Option<(String, String)>,
    /// What the cloud is told of the state, if it is another one.
    state_report: Option<Value>,
}

/// Inputs that share a commit.
#[derive(Default)]
pub(crate) struct Batch {
    /// By the device's id.
    pub(super) changed: BTreeMap<String, Changed>,
    pub(super) told: Vec<AfterCommit>,
}

impl Batch {
    /// Properties of a device were changed; each with what it was before.
    pub(super) fn twins_changed(&mut self, id: &str, changed: Vec<(String, Option<Twin>)>) {
        if changed.is_empty() {
            return;
        }
        let device = self.changed.entry(id.to_owned()).or_default();
        for (property, before) in changed {
            device.twins.entry(property).or_insert(before);
        }
    }

    /// The state of a device is set; `kept` is as it was before. `report`: what the cloud is told, if it is another one.
    pub(super) fn state_set(&mut self, id: &str, kept: &StoredState, report: Option<&Value>) {
        let device = self.changed.entry(id.to_owned()).or_default();
        device.state.get_or_insert_with(|| (kept.state.clone(), kept.last_online.clone()));
        if let Some(report) = report {
            device.state_report = Some(report.clone());
        }
    }

    pub(super) fn publish(&mut self, topic: String, payload: String) {
        self.told.push(AfterCommit::Apps { topic, payload });
    }

    /// Its message is dealt with when all before it is on disk.
    pub(crate) fn confirm(&mut self, receipt: Receipt) {
        self.told.push(AfterCommit::Client(receipt));
    }
}

impl Changed {
    /// Rows to write and reports that tell the cloud, for the device as it is now.
    pub(super) fn outcome(&self, id: &str, member: &Member) -> (Vec<Row>, Vec<Upstream>) {
        let (metadata, kept) = (&member.device.metadata, &member.kept);
        let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
        let mut reports = Vec::new();
        let mut rows: Vec<Row> = self
            .twins
            .keys()
            .filter_map(|property| {
                let twin = kept.twins.0.get(property)?.clone();
                Some(Row::Twin { device: id.to_owned(), property: property.clone(), twin })
            })
            .collect();
        if let Some(report) = &self.state_report {
            let (state, last_online) = (kept.state.clone(), kept.last_online.clone());
            let kept = StoredState { state, last_online, twins: Twins::default() };
            rows.push(Row::Device { id: id.to_owned(), name: name.clone(), kept });
            let (namespace, name) = (namespace.clone(), name.clone());
            reports.push(Upstream::DeviceState { namespace, name, report: encoded(report) });
        }
        if !self.twins.is_empty() {
            let report = json!({
                "event_id": message::MessageId::random().0,
                "timestamp": daemon::clock::unix_ms(),
                "twin": kept.twins.report(),
            });
            reports.push(Upstream::TwinReport { namespace, name, report: encoded(&report) });
        }
        (rows, reports)
    }

    /// Makes the device what it was.
    pub(super) fn undo(self, kept: &mut StoredState) {
        for (property, before) in self.twins {
            kept.twins.restore(property, before);
        }
        if let Some((state, last_online)) = self.state {
            (kept.state, kept.last_online) = (state, last_online);
        }
    }
}

fn encoded(report: &Value) -> Json {
    // A tree of texts and numbers can be encoded.
    Json::encode(report).unwrap_or_else(|_| Json::null())
}
