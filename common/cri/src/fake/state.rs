//! What the fake holds.

use std::collections::BTreeMap;

use crate::v1;

use super::FakeClock;

#[derive(Clone, Debug)]
pub struct FakeSandbox {
    pub id: String,
    pub config: v1::PodSandboxConfig,
    pub ready: bool,
    pub created: i64,
    pub ip: String,
}

#[derive(Clone, Debug)]
pub struct FakeContainer {
    pub id: String,
    pub sandbox: String,
    pub config: v1::ContainerConfig,
    pub state: v1::ContainerState,
    pub created: i64,
    pub started: i64,
    pub finished: i64,
    pub exit_code: i32,
}

impl FakeContainer {
    pub fn name(&self) -> &str {
        self.config.metadata.as_ref().map_or("", |metadata| &metadata.name)
    }

    pub fn attempt(&self) -> u32 {
        self.config.metadata.as_ref().map_or(0, |metadata| metadata.attempt)
    }

    pub(super) fn exit(&mut self, code: i32, now: i64) {
        self.state = v1::ContainerState::ContainerExited;
        self.finished = now;
        self.exit_code = code;
    }
}

pub(super) struct State {
    pub sandboxes: BTreeMap<String, FakeSandbox>,
    pub containers: BTreeMap<String, FakeContainer>,
    pub images: BTreeMap<String, v1::Image>,
    pub pull_failure: Option<tonic::Status>,
    /// Lists and statuses of pods and containers fail with this.
    pub list_failure: Option<tonic::Status>,
    /// Containers cannot be removed.
    pub keeps_containers: bool,
    pub network_ready: bool,
    pub changes: Vec<String>,
    clock: FakeClock,
    made: u32,
}

impl State {
    pub(super) fn new(clock: FakeClock) -> State {
        State {
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            images: BTreeMap::new(),
            pull_failure: None,
            list_failure: None,
            keeps_containers: false,
            network_ready: true,
            changes: Vec::new(),
            clock,
            made: 0,
        }
    }

    pub(super) fn now(&self) -> i64 {
        (self.clock)()
    }

    /// Whether lists may be read.
    ///
    /// # Errors
    /// The status that a test asked for.
    pub(super) fn readable(&self) -> Result<(), tonic::Status> {
        self.list_failure.clone().map_or(Ok(()), Err)
    }

    pub(super) fn next_id(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind}-{:04}", self.made)
    }

    pub(super) fn note(&mut self, call: &str, object: &str) {
        self.changes.push(format!("{call} {object}"));
    }
}
