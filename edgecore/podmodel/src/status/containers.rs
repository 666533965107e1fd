//! Container statuses (docs/protocol/edge-runtime.md 5.5).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus,
};

use super::super::observed::{Instance, State};
use super::super::plan::is_sidecar;
use super::super::spec::{RestartPolicy, as_container};
use super::{View, whole_seconds};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Init,
    Regular,
    Ephemeral,
}

/// Init statuses are in the order of the spec, regular ones by name.
pub fn statuses(view: &View<'_>, group: Group) -> Vec<ContainerStatus> {
    let guests: Vec<Container>;
    let containers = match group {
        Group::Init => view.spec.init_containers.as_deref().unwrap_or_default(),
        Group::Regular => &view.spec.containers,
        Group::Ephemeral => {
            guests = view.spec.ephemeral_containers.iter().flatten().map(as_container).collect();
            &guests
        }
    };
    let mut list: Vec<ContainerStatus> =
        containers.iter().map(|container| one(view, container, group)).collect();
    if group != Group::Init {
        list.sort_by(|a, b| a.name.cmp(&b.name));
    }
    list
}

fn one(view: &View<'_>, container: &Container, group: Group) -> ContainerStatus {
    let mut runs = view.observed.runs(&container.name);
    let previous = previous(view, &container.name, group);
    let newest = runs.next();
    let mut status = match newest {
        Some(run) => from_run(view, run, group == Group::Init && !is_sidecar(container)),
        None => absent(view, container, previous, group),
    };
    if newest.is_some() {
        status.last_state = match runs.next() {
            Some(run) => Some(state_of(view, run)),
            None => previous.and_then(|old| kept_last_state(old, &status)),
        };
    }
    for state in [&mut status.state, &mut status.last_state].into_iter().flatten() {
        keep_last_words(previous, state);
    }
    if status.image.is_empty() {
        status.image = container.image.clone().unwrap_or_default();
    }
    if let Some(failure) = view.failures.get(&container.name)
        && !is_running(&status)
        && !view.ending
        && !newest.is_some_and(|run| is_final(view, container, run))
    {
        overlay(&mut status, failure.reason, &failure.message);
    }
    status
}

/// Whether the run was the container's last: nothing starts it again, so nothing keeps it waiting.
fn is_final(view: &View<'_>, container: &Container, run: &Instance) -> bool {
    let policy = RestartPolicy::of(view.spec);
    let spent = policy == RestartPolicy::Never || (policy == RestartPolicy::OnFailure && run.exit_code == 0);
    run.state == State::Exited && spent && !is_sidecar(container)
}

fn previous<'a>(view: &'a View<'_>, name: &str, group: Group) -> Option<&'a ContainerStatus> {
    let list = match group {
        Group::Init => &view.previous.init_container_statuses,
        Group::Regular => &view.previous.container_statuses,
        Group::Ephemeral => &view.previous.ephemeral_container_statuses,
    };
    list.iter().flatten().find(|status| status.name == name)
}

/// The last state known before, when the runtime no longer has the run it describes: the last state of the same run,
/// or the end of the run before.
fn kept_last_state(old: &ContainerStatus, new: &ContainerStatus) -> Option<ContainerState> {
    if old.container_id == new.container_id {
        return old.last_state.clone();
    }
    old.state.clone().filter(|state| state.terminated.is_some()).or_else(|| old.last_state.clone())
}

/// What a container said last was read when it ended, and stands: its file goes with the folder of the pod.
fn keep_last_words(previous: Option<&ContainerStatus>, state: &mut ContainerState) {
    let Some(end) = &mut state.terminated else { return };
    let told = previous.into_iter().flat_map(|old| [&old.state, &old.last_state]);
    let mut told = told.flatten().filter_map(|state| state.terminated.as_ref());
    let same = told.find(|old| old.container_id.is_some() && old.container_id == end.container_id);
    if let Some(message) = same.and_then(|old| old.message.clone()) {
        end.message = Some(message);
    }
}

fn from_run(view: &View<'_>, run: &Instance, completes: bool) -> ContainerStatus {
    let running = run.state == State::Running;
    let started = running && !view.starting.contains(&run.id);
    let succeeded = run.state == State::Exited && run.exit_code == 0;
    let ready = match completes {
        true => succeeded,
        false => started && !view.unready.contains(&run.id),
    };
    ContainerStatus {
        name: run.name.clone(),
        image: run.spec_image.clone().unwrap_or_else(|| run.image.clone()),
        image_id: run.image_ref.clone(),
        container_id: Some(id(view, run)),
        restart_count: i32::try_from(run.attempt).unwrap_or(i32::MAX),
        ready,
        started: Some(started),
        state: Some(state_of(view, run)),
        ..ContainerStatus::default()
    }
}

fn id(view: &View<'_>, run: &Instance) -> String {
    format!("{}://{}", view.runtime_name, run.id)
}

fn state_of(view: &View<'_>, run: &Instance) -> ContainerState {
    match run.state {
        State::Created => waiting("ContainerCreating", ""),
        State::Running => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(time(run.started)) }),
            ..ContainerState::default()
        },
        State::Exited => terminated(ContainerStateTerminated {
            exit_code: run.exit_code,
            reason: Some(exit_reason(run)),
            message: Some(run.message.clone()).filter(|message| !message.is_empty()),
            started_at: Some(time(run.started)),
            finished_at: Some(time(run.finished)),
            container_id: Some(id(view, run)),
            signal: None,
        }),
        State::Unknown => terminated(lost("The container is in an unknown state")),
    }
}

fn exit_reason(run: &Instance) -> String {
    match run.reason.as_str() {
        "" if run.exit_code == 0 => "Completed".to_owned(),
        "" => "Error".to_owned(),
        reason => reason.to_owned(),
    }
}

/// The runtime has no run of this container.
fn absent(
    view: &View<'_>,
    container: &Container,
    previous: Option<&ContainerStatus>,
    group: Group,
) -> ContainerStatus {
    let mut status = previous.cloned().unwrap_or_default();
    status.name.clone_from(&container.name);
    status.ready = false;
    status.started = Some(false);
    let regular_exist = view.spec.containers.iter().any(|c| view.observed.newest(&c.name).is_some());
    let state = status.state.take().unwrap_or_default();
    if state.terminated.is_some() {
        status.ready =
            group == Group::Init && state.terminated.as_ref().is_some_and(|ended| ended.exit_code == 0);
        status.state = Some(state);
        return status;
    }
    if group == Group::Init && regular_exist && !is_sidecar(container) {
        let done = ContainerStateTerminated { reason: Some("Completed".to_owned()), ..Default::default() };
        status.ready = true;
        status.state = Some(terminated(done));
        return status;
    }
    if state.running.is_some() {
        let end = terminated(lost("The container could not be located when the pod was terminated"));
        if view.ending {
            status.state = Some(end);
            return status;
        }
        status.last_state = Some(end);
        status.restart_count += 1;
    }
    // What never ran and never will has no result of its own.
    if view.ending && group != Group::Ephemeral {
        let end = lost("The container could not be located when the pod was terminated");
        status.state = Some(terminated(end));
        return status;
    }
    let has_init = view.spec.init_containers.as_ref().is_some_and(|list| !list.is_empty());
    let reason = if has_init { "PodInitializing" } else { "ContainerCreating" };
    status.state = Some(waiting(reason, ""));
    status
}

/// Bytes that the last words of all containers of a pod may have together, shared evenly (docs/protocol/edge-runtime.md 5.5).
const LAST_WORDS: usize = 12 * 1024;

/// Cuts the containers' last words to their share of what a pod may say.
pub fn share_last_words(groups: [&mut Vec<ContainerStatus>; 3]) {
    let share = LAST_WORDS / groups.iter().map(|group| group.len()).sum::<usize>().max(1);
    let states = groups.into_iter().flatten().flat_map(|status| [&mut status.state, &mut status.last_state]);
    let ends = states.flatten().filter_map(|state| state.terminated.as_mut());
    for message in ends.filter_map(|end| end.message.as_mut()) {
        message.truncate(message.floor_char_boundary(share));
    }
}

fn lost(message: &str) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some(message.to_owned()),
        ..Default::default()
    }
}

/// A container that cannot start is waiting; how it ended before moves to the last state.
fn overlay(status: &mut ContainerStatus, reason: &str, message: &str) {
    let state = status.state.take().unwrap_or_default();
    if state.terminated.is_some() {
        status.last_state = Some(state);
    }
    status.state = Some(waiting(reason, message));
    status.ready = false;
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()).filter(|message| !message.is_empty()),
        }),
        ..ContainerState::default()
    }
}

fn terminated(ended: ContainerStateTerminated) -> ContainerState {
    ContainerState { terminated: Some(ended), ..ContainerState::default() }
}

fn time(nanoseconds: i64) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    whole_seconds(Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default())
}
