//! The two ends of a session in each dialect, as the simulation drives them: bytes in, bytes out.

pub(crate) mod kubeedge;
pub(crate) mod native;

use anyhow::Result;
use cloudcore::desired::{NodeSet, Settled};
use metamanager::objects::Arrival;
use metamanager::outbox;
use store::rusqlite::Connection as Database;
use tokio::time::Instant;

use crate::api::Api;

/// What both ends speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Native,
    KubeEdge,
}

/// What a cloud's end wants of its replica.
#[derive(Default)]
pub(crate) struct Wants {
    /// Frames to send.
    pub frames: Vec<Vec<u8>>,
    /// Look for what the node holds and nobody wants.
    pub compared: bool,
    /// Remember what the node acknowledged.
    pub settled: Vec<Settled>,
    /// Fill the set anew.
    pub start_over: bool,
    /// The node has everything.
    pub has_everything: bool,
}

/// The cloud's end of a session.
pub(crate) trait CloudHalf {
    /// Takes the next frame of the edge.
    fn receive(&mut self, frame: &[u8], set: &NodeSet) -> Result<Wants>;

    /// Frames to send; `compared`: nothing is being looked for that may have to go.
    fn send(&mut self, set: &NodeSet, compared: bool, now: Instant) -> Vec<Vec<u8>>;

    /// Starts one row: the request is on its way to the API server.
    fn start_row(&mut self) -> bool;

    /// The API server takes one of the rows under way; `told`: and the answer arrives.
    fn carry_out(&mut self, which: usize, api: &mut Api, told: bool) -> Result<bool>;

    /// True if it will send again by itself.
    fn waits(&self, set: &NodeSet) -> bool;
}

/// What an edge's end wants.
pub(crate) enum Effect {
    Nothing,
    Send(Vec<Vec<u8>>),
    /// Rows of the outbox are answered.
    Finished(Vec<i64>),
    /// Everything is there.
    InStep,
    /// The cloud took the registration.
    Registered,
    /// Something waits for its commit.
    Pending,
}

/// How a commit ended.
pub(crate) enum Committed<'a> {
    /// With the places of arrivals whose base is missing.
    Stored(&'a [usize]),
    Refused,
}

/// The edge's end of a session.
pub(crate) trait EdgeHalf {
    fn receive(&mut self, frame: &[u8], db: &Database) -> Result<Effect>;

    /// What to commit next.
    fn next_commit(&mut self) -> Option<Vec<Arrival>>;

    /// Tells the cloud how the commit of [`next_commit`](EdgeHalf::next_commit) ended.
    fn committed(&mut self, how: Committed<'_>) -> Vec<Vec<u8>>;

    /// Sends rows of the outbox.
    fn send(&mut self, db: &Database, now: Instant) -> Result<Vec<Vec<u8>>>;

    /// Something is not committed yet.
    fn is_pending(&self) -> bool;

    /// True if it will send again by itself.
    fn waits(&self) -> bool;
}

/// Removes rows of the outbox.
pub(crate) fn remove(db: &Database, seqs: &[i64]) -> Result<()> {
    outbox::remove(db, seqs)?;
    Ok(())
}
