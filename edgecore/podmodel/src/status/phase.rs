//! The phase of a pod, from the statuses of its containers (docs/protocol/edge-runtime.md 5.4).

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, PodSpec};

use super::super::plan::is_sidecar;
use super::super::spec::RestartPolicy;
use super::super::stop_decision::Disposition;
use super::View;

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

/// An ended pod stays ended, and one that was condemned has failed.
pub fn sticky(view: &View<'_>, phase: Phase) -> Phase {
    if view.decision.is_some_and(|decision| decision.disposition == Disposition::Fail) {
        return Phase::Failed;
    }
    let previous = Phase::read(view.previous.phase.as_deref());
    let stored = Phase::read(view.pod.status.as_ref().and_then(|status| status.phase.as_deref()));
    [previous, stored].into_iter().find(|phase| phase.is_terminal()).unwrap_or(phase)
}

/// Containers by how they stand.
#[derive(Default)]
struct Count {
    running: usize,
    stopped: usize,
    succeeded: usize,
    waiting: usize,
    unknown: usize,
    /// Regular init containers that have not ended, and those that ended badly.
    init_pending: usize,
    init_failed: usize,
    /// Sidecars that have not started.
    sidecars_pending: usize,
}

enum Stand {
    Running,
    /// The exit code of what ended last.
    Ended(i32),
    Waiting,
    Unknown,
}

fn stand(status: Option<&ContainerStatus>) -> Stand {
    let code = |state: &Option<ContainerState>| state.as_ref()?.terminated.as_ref().map(|end| end.exit_code);
    let Some(status) = status else { return Stand::Unknown };
    let Some(state) = &status.state else { return Stand::Waiting };
    if state.running.is_some() {
        return Stand::Running;
    }
    match code(&status.state).or_else(|| code(&status.last_state)) {
        Some(code) => Stand::Ended(code),
        None => Stand::Waiting,
    }
}

fn count(spec: &PodSpec, init: &[ContainerStatus], regular: &[ContainerStatus]) -> Count {
    let mut count = Count::default();
    for container in spec.init_containers.iter().flatten() {
        let status = init.iter().find(|status| status.name == container.name);
        let started = status.is_some_and(|status| status.started == Some(true));
        match (is_sidecar(container), stand(status)) {
            (true, Stand::Running) => {
                count.running += 1;
                count.sidecars_pending += usize::from(!started);
            }
            (true, Stand::Ended(_)) => {}
            (true, Stand::Waiting) => count.sidecars_pending += 1,
            (true, Stand::Unknown) => count.unknown += 1,
            (false, Stand::Ended(0)) => {}
            (false, Stand::Ended(_)) => count.init_failed += 1,
            (false, _) => count.init_pending += 1,
        }
    }
    for container in &spec.containers {
        match stand(regular.iter().find(|status| status.name == container.name)) {
            Stand::Running => count.running += 1,
            Stand::Ended(code) => {
                count.stopped += 1;
                count.succeeded += usize::from(code == 0);
            }
            Stand::Waiting => count.waiting += 1,
            Stand::Unknown => count.unknown += 1,
        }
    }
    count
}

/// The phase the containers make. A pod that is `ending` will not run again: when nothing runs any more it has
/// succeeded or failed.
pub fn of(view: &View<'_>, init: &[ContainerStatus], regular: &[ContainerStatus]) -> Phase {
    let spec = view.spec;
    let policy = RestartPolicy::of(spec);
    let count = count(spec, init, regular);
    let initialized = regular.iter().any(|status| status.container_id.is_some());
    let all_good = count.stopped > 0 && count.succeeded == count.stopped && count.unknown == 0;
    // Pods from files start again when their file says so, not when the API does.
    if view.ending && count.running == 0 && !view.is_static {
        let good = all_good && count.waiting == 0 && count.init_failed == 0;
        return if good { Phase::Succeeded } else { Phase::Failed };
    }
    if count.init_failed > 0 && policy == RestartPolicy::Never && !initialized {
        return Phase::Failed;
    }
    // A sidecar that starts again does not take an initialized pod back.
    let initializing = !initialized && count.init_pending + count.init_failed + count.sidecars_pending > 0;
    if initializing || count.waiting > 0 {
        return Phase::Pending;
    }
    if count.running > 0 && count.unknown == 0 {
        return Phase::Running;
    }
    if count.running == 0 && count.stopped > 0 && count.unknown == 0 {
        return match policy {
            RestartPolicy::Always => Phase::Running,
            _ if all_good => Phase::Succeeded,
            RestartPolicy::Never => Phase::Failed,
            RestartPolicy::OnFailure => Phase::Running,
        };
    }
    Phase::Pending
}
