//! What to do next for a pod that should run (docs/protocol/edge-runtime.md 5.6). Pure: looks at the spec and the runtime's
//! state, names actions in the order they are to be done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::backoff;
use super::observed::{Instance, Observed, Sandbox, State};
use super::spec::RestartPolicy;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Stop all containers and the sandbox.
    StopPod,
    CreateSandbox {
        attempt: u32,
    },
    /// Stop one container, with the pod's grace.
    Kill {
        id: String,
        name: String,
        why: Why,
    },
    /// Remove a container that was made and never started.
    Remove {
        id: String,
    },
    /// Make and start a container.
    Start {
        name: String,
        attempt: u32,
        init: bool,
    },
    /// Crash-loop back-off: not before this time.
    Hold {
        name: String,
        until: Timestamp,
        delay: Duration,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    ImageChanged,
    Unhealthy,
    StateUnknown,
}

impl Why {
    pub fn text(self) -> &'static str {
        match self {
            Why::ImageChanged => "Container definition changed, will be restarted",
            Why::Unhealthy => "Container failed its liveness or startup probe, will be restarted",
            Why::StateUnknown => "Container is in an unknown state, try killing it before restart",
        }
    }
}

/// Everything the decision depends on.
pub struct Situation<'a> {
    pub spec: &'a PodSpec,
    pub observed: &'a Observed,
    pub now: Timestamp,
    /// The longest pause before a container that crashes starts again.
    pub longest_restart: Duration,
    /// Restart counts known from elsewhere (last status, log files) for containers the runtime has forgotten.
    pub counted: &'a BTreeMap<String, u32>,
    /// Containers the runtime has forgotten whose last status says that they ended and are not begun again.
    pub done: &'a BTreeSet<String>,
    /// Ids of running containers whose liveness or startup probe failed.
    pub unhealthy: &'a BTreeSet<String>,
    /// Ids of running containers whose startup probe has not succeeded yet.
    pub starting: &'a BTreeSet<String>,
}

/// The steps that bring the pod nearer to its spec; empty when there is nothing to do.
pub fn plan(situation: &Situation<'_>) -> Vec<Action> {
    let mut planner =
        Planner { at: situation, policy: RestartPolicy::of(situation.spec), actions: Vec::new() };
    match usable_sandbox(situation) {
        Some(sandbox) => planner.in_sandbox(&sandbox.id),
        None => planner.new_sandbox(),
    }
    planner.actions
}

/// The newest sandbox, if containers can go on in it.
fn usable_sandbox<'a>(at: &Situation<'a>) -> Option<&'a Sandbox> {
    let wants_host = at.spec.host_network == Some(true);
    let one_ready = at.observed.sandboxes.iter().filter(|sandbox| sandbox.ready).count() == 1;
    at.observed.sandboxes.first().filter(|newest| {
        one_ready
            && newest.ready
            && newest.host_network == wants_host
            && (wants_host || !newest.ips.is_empty())
    })
}

pub fn is_sidecar(init: &Container) -> bool {
    init.restart_policy.as_deref() == Some("Always")
}

struct Planner<'a> {
    at: &'a Situation<'a>,
    policy: RestartPolicy,
    actions: Vec<Action>,
}

/// Whether the init containers let the regular ones start.
#[derive(PartialEq)]
enum Initialization {
    Done,
    Underway,
    Failed,
}

impl<'a> Planner<'a> {
    fn new_sandbox(&mut self) {
        if self.at.observed.is_running() {
            self.actions.push(Action::StopPod);
        }
        let regular_existed =
            self.at.spec.containers.iter().any(|c| self.at.observed.newest(&c.name).is_some());
        let existed = regular_existed || !self.at.observed.containers.is_empty();
        let given_up = self.policy == RestartPolicy::Never && existed;
        let remains = self.at.spec.containers.iter().any(|container| self.wants_start(container));
        if given_up || !remains {
            return;
        }
        let attempt = self.at.observed.sandboxes.first().map_or(0, |newest| newest.attempt + 1);
        self.actions.push(Action::CreateSandbox { attempt });
        self.in_sandbox("");
    }

    fn in_sandbox(&mut self, sandbox: &str) {
        self.guests(sandbox);
        match self.initialize(sandbox) {
            Initialization::Underway => return,
            Initialization::Failed => return self.stop_if_up(sandbox),
            Initialization::Done => {}
        }
        let mut alive = false;
        for container in &self.at.spec.containers {
            alive |= self.regular(container, sandbox);
        }
        if !alive {
            self.stop_if_up(sandbox);
        }
    }

    fn stop_if_up(&mut self, sandbox: &str) {
        if !sandbox.is_empty() {
            self.actions.clear();
            self.actions.push(Action::StopPod);
        }
    }

    /// Ephemeral containers start once there is a sandbox, and once only.
    fn guests(&mut self, sandbox: &str) {
        let names = self.at.spec.ephemeral_containers.iter().flatten().map(|guest| guest.name.clone());
        for name in names.filter(|_| !sandbox.is_empty()) {
            if self.at.observed.newest(&name).is_none() {
                self.start(&name, false);
            }
        }
    }

    /// The newest run of a container in this sandbox.
    fn here(&self, name: &str, sandbox: &str) -> Option<&'a Instance> {
        self.at.observed.runs(name).find(|run| run.sandbox == sandbox)
    }

    fn initialize(&mut self, sandbox: &str) -> Initialization {
        let regular_started = self
            .at
            .spec
            .containers
            .iter()
            .any(|c| self.here(&c.name, sandbox).is_some_and(|run| run.state != State::Created));
        for init in self.at.spec.init_containers.iter().flatten() {
            let progress = match is_sidecar(init) {
                true => self.sidecar(init, sandbox),
                false if regular_started => Initialization::Done,
                false => self.init(init, sandbox),
            };
            if progress != Initialization::Done && !regular_started {
                return progress;
            }
        }
        Initialization::Done
    }

    fn init(&mut self, init: &Container, sandbox: &str) -> Initialization {
        let Some(run) = self.here(&init.name, sandbox) else {
            self.start(&init.name, true);
            return Initialization::Underway;
        };
        match run.state {
            State::Running => self.kill_if_changed(init, run),
            State::Created => self.replace(run, true),
            State::Unknown => self.kill(run, Why::StateUnknown),
            State::Exited if run.exit_code == 0 => return Initialization::Done,
            State::Exited if self.policy == RestartPolicy::Never => return Initialization::Failed,
            State::Exited => {
                self.start_after_backoff(&init.name, true);
            }
        }
        Initialization::Underway
    }

    fn sidecar(&mut self, init: &Container, sandbox: &str) -> Initialization {
        match self.here(&init.name, sandbox) {
            None => self.start(&init.name, true),
            Some(run) => match run.state {
                State::Running if self.at.unhealthy.contains(&run.id) => self.kill(run, Why::Unhealthy),
                State::Running if self.at.starting.contains(&run.id) => {}
                State::Running => {
                    self.kill_if_changed(init, run);
                    return Initialization::Done;
                }
                State::Created => self.replace(run, true),
                State::Unknown => self.kill(run, Why::StateUnknown),
                State::Exited => {
                    self.start_after_backoff(&init.name, true);
                }
            },
        }
        Initialization::Underway
    }

    /// True if the container runs or is going to.
    fn regular(&mut self, container: &Container, sandbox: &str) -> bool {
        let Some(run) = self.at.observed.newest(&container.name) else {
            let wanted = self.wants_start(container);
            if wanted {
                self.start(&container.name, false);
            }
            return wanted;
        };
        match run.state {
            State::Running if run.sandbox != sandbox => self.start(&container.name, false),
            State::Running if self.at.unhealthy.contains(&run.id) => self.kill(run, Why::Unhealthy),
            State::Running => self.kill_if_changed(container, run),
            State::Created => self.replace(run, false),
            State::Unknown => self.kill(run, Why::StateUnknown),
            State::Exited if !self.wants_start(container) => return false,
            State::Exited if is_changed(container, run) => self.start(&container.name, false),
            State::Exited => self.start_after_backoff(&container.name, false),
        }
        true
    }

    /// Whether a container that does not run should (docs/protocol/edge-runtime.md 5.6, rule 5).
    fn wants_start(&self, container: &Container) -> bool {
        match self.at.observed.newest(&container.name) {
            None => !self.at.done.contains(&container.name),
            Some(run) if is_changed(container, run) => true,
            Some(run) => match (self.policy, run.state) {
                (_, State::Created) => true,
                (RestartPolicy::Always, _) => true,
                (RestartPolicy::OnFailure, State::Exited) => run.exit_code != 0,
                (RestartPolicy::OnFailure, _) => true,
                (RestartPolicy::Never, _) => false,
            },
        }
    }

    fn start(&mut self, name: &str, init: bool) {
        let seen = self.at.observed.newest(name).map(|run| run.attempt + 1);
        let counted = self.at.counted.get(name).map(|count| count + 1);
        let attempt = seen.or(counted).unwrap_or(0);
        self.actions.push(Action::Start { name: name.to_owned(), attempt, init });
    }

    /// A container that was made and never started gives its place to a new one of the same number.
    fn replace(&mut self, run: &Instance, init: bool) {
        self.actions.push(Action::Remove { id: run.id.clone() });
        self.actions.push(Action::Start { name: run.name.clone(), attempt: run.attempt, init });
    }

    fn start_after_backoff(&mut self, name: &str, init: bool) {
        let runs: Vec<&Instance> = self.at.observed.runs(name).collect();
        let finished = runs.first().map_or(0, |run| run.finished.max(run.created));
        let delay = backoff::restart_delay(&runs, self.at.longest_restart);
        let until = Timestamp::from_nanosecond(i128::from(finished)).unwrap_or(self.at.now) + delay;
        // A clock that was set back must not hold a container longer than its delay.
        let until = until.min(self.at.now + delay);
        match until > self.at.now {
            true => self.actions.push(Action::Hold { name: name.to_owned(), until, delay }),
            false => self.start(name, init),
        }
    }

    fn kill(&mut self, run: &Instance, why: Why) {
        self.actions.push(Action::Kill { id: run.id.clone(), name: run.name.clone(), why });
    }

    fn kill_if_changed(&mut self, container: &Container, run: &Instance) {
        if is_changed(container, run) {
            self.kill(run, Why::ImageChanged);
        }
    }
}

/// Whether the spec names another image than the run was made from.
fn is_changed(container: &Container, run: &Instance) -> bool {
    matches!((&run.spec_image, &container.image), (Some(made), Some(wanted)) if made != wanted)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub mod tests;
