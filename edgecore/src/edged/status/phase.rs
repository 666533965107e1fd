//! The phase of a pod, from the statuses of its containers (spec/edge-runtime.md 5.4).

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, PodSpec};

use super::View;
use crate::edged::pods::plan::is_sidecar;
use crate::edged::pods::spec::RestartPolicy;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
        }
    }

    pub fn is_terminal(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }

    pub fn read(text: Option<&str>) -> Phase {
        match text {
            Some("Running") => Phase::Running,
            Some("Succeeded") => Phase::Succeeded,
            Some("Failed") => Phase::Failed,
            _ => Phase::Pending,
        }
    }
}

/// An ended pod stays ended.
pub fn sticky(view: &View<'_>, phase: Phase) -> Phase {
    let previous = Phase::read(view.previous.phase.as_deref());
    let stored = Phase::read(view.pod.status.as_ref().and_then(|status| status.phase.as_deref()));
    [previous, stored].into_iter().find(|phase| phase.is_terminal()).unwrap_or(phase)
}

#[derive(Default)]
struct Count {
    running: usize,
    stopped: usize,
    succeeded: usize,
    waiting: usize,
    unknown: usize,
}

/// How a container stands: `None` is running, `Some` the exit code of what ended last.
fn ended(status: &ContainerStatus) -> Option<i32> {
    let code = |state: &Option<ContainerState>| {
        state.as_ref().and_then(|state| state.terminated.as_ref()).map(|ended| ended.exit_code)
    };
    let waiting = status.state.as_ref().is_some_and(|state| state.waiting.is_some());
    code(&status.state).or_else(|| code(&status.last_state).filter(|_| waiting))
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

/// `ending`: the pod is being stopped for good.
pub fn of(spec: &PodSpec, init: &[ContainerStatus], regular: &[ContainerStatus], ending: bool) -> Phase {
    let policy = RestartPolicy::of(spec);
    let (mut pending, mut failed) = (0, 0);
    for container in spec.init_containers.iter().flatten() {
        let status = init.iter().find(|status| status.name == container.name);
        if is_sidecar(container) {
            let started =
                status.is_some_and(|status| status.started == Some(true) || ended(status).is_some());
            pending += usize::from(!started);
            continue;
        }
        match status.map(|status| (ended(status), is_running(status))) {
            None | Some((None, _)) => pending += 1,
            Some((Some(0), _)) => {}
            Some((Some(_), _)) => failed += 1,
        }
    }
    let mut count = Count::default();
    for container in &spec.containers {
        match regular.iter().find(|status| status.name == container.name) {
            None => count.unknown += 1,
            Some(status) if is_running(status) => count.running += 1,
            Some(status) => match ended(status) {
                Some(code) => {
                    count.stopped += 1;
                    count.succeeded += usize::from(code == 0);
                }
                None => count.waiting += 1,
            },
        }
    }
    decide(policy, &count, pending, failed, ending)
}

fn decide(policy: RestartPolicy, count: &Count, pending: usize, failed: usize, ending: bool) -> Phase {
    let never_ran = count.running == 0 && count.stopped == 0;
    if failed > 0 && policy == RestartPolicy::Never {
        return Phase::Failed;
    }
    let initializing = (pending > 0 || failed > 0) && never_ran;
    if (initializing || count.waiting > 0) && !(ending && never_ran) {
        return Phase::Pending;
    }
    if count.running > 0 && count.unknown == 0 {
        return Phase::Running;
    }
    let all_good = count.stopped > 0 && count.succeeded == count.stopped;
    if count.running == 0 && count.stopped > 0 && count.unknown == 0 {
        return match policy {
            _ if ending && all_good => Phase::Succeeded,
            _ if ending => Phase::Failed,
            RestartPolicy::Always => Phase::Running,
            _ if all_good => Phase::Succeeded,
            RestartPolicy::Never => Phase::Failed,
            RestartPolicy::OnFailure => Phase::Running,
        };
    }
    Phase::Pending
}
