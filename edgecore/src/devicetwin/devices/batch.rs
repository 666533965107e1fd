//! What a group of inputs does: the rows and reports of one transaction, and what is told once that is on disk.

use std::collections::BTreeMap;

use message::Upstream;
use mqtt::Receipt;
use store::rusqlite::{self, Transaction};
use tokio::sync::oneshot;
use tonic::Status;

use super::super::table::{self, Kept};
use super::super::twin::Twin;

/// A row to write.
pub(super) enum Row {
    Twin { device: String, property: String, twin: Twin },
    Device { id: String, name: String, kept: Kept },
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
pub(super) enum Told {
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

/// Inputs that share a commit.
#[derive(Default)]
pub struct Batch {
    /// Devices that were changed, as they were before.
    pub(super) before: BTreeMap<String, Kept>,
    pub(super) rows: Vec<Row>,
    pub(super) reports: Vec<Upstream>,
    pub(super) told: Vec<Told>,
}

impl Batch {
    /// Keeps what the device was, should the commit fail.
    pub(super) fn changes(&mut self, id: &str, kept: &Kept) {
        if !self.before.contains_key(id) {
            self.before.insert(id.to_owned(), kept.clone());
        }
    }

    pub(super) fn publish(&mut self, topic: String, payload: String) {
        self.told.push(Told::Apps { topic, payload });
    }

    /// Its message is dealt with when all before it is on disk.
    pub fn confirm(&mut self, receipt: Receipt) {
        self.told.push(Told::Client(receipt));
    }
}
