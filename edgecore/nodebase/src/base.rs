//! What every room of Edged is built on: its settings, the runtime, the pods of the node, and how the node stands.

use tokio::sync::watch;

use super::Settings;
use super::clock::Clock;
use super::events::Events;
use super::runtime::RuntimeFacts;
use metamanager::{LinkState, Objects};
use podmodel::admission::Pressure;
use podmodel::board::Board;
use podmodel::machine::Machine;

/// One per Edged.
pub struct Base {
    pub settings: Settings,
    pub runtime: cri::Runtime,
    pub facts: watch::Receiver<RuntimeFacts>,
    pub objects: Objects,
    pub events: Events,
    pub clock: Clock,
    pub machine: Machine,
    /// The pods of this node.
    pub board: Board,
    /// What the node is short of.
    pub pressure: watch::Sender<Pressure>,
    /// The machine is going down: no pod is let in any more.
    pub shutdown: watch::Sender<bool>,
    /// Whether the cloud can be reached: a hint whether a registry can.
    pub link: watch::Receiver<LinkState>,
}

impl Base {
    pub fn is_shutting_down(&self) -> bool {
        *self.shutdown.borrow()
    }
}
