use super::super::observed::{Instance, State};
use super::super::plan::tests::{exited, running, sandbox, spec};
use super::*;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus};
use serde_json::json;

fn status_of(spec: PodSpec, containers: Vec<Instance>, ending: bool, previous: PodStatus) -> PodStatus {
    let failures = BTreeMap::new();
    status_with(spec, containers, ending, previous, &failures)
}

fn status_with(
    spec: PodSpec,
    containers: Vec<Instance>,
    ending: bool,
    previous: PodStatus,
    failures: &BTreeMap<String, Failure>,
) -> PodStatus {
    let observed = Observed { sandboxes: vec![sandbox(true)], containers };
    compute(&View {
        pod: &Pod::default(),
        spec: &spec,
        observed: &observed,
        failures,
        previous: &previous,
        unready: &BTreeSet::new(),
        starting: &BTreeSet::new(),
        runtime_name: "containerd",
        node_ips: &["192.0.2.1".to_owned()],
        now: Timestamp::from_second(100).unwrap(),
        ending,
        is_static: false,
        decision: None,
    })
}

fn two(policy: &str) -> PodSpec {
    spec(
        json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}),
    )
}

fn with_init(policy: &str) -> PodSpec {
    spec(json!({"restartPolicy": policy, "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}))
}

#[test]
fn the_phase_follows_the_containers_and_the_restart_policy() {
    let ok = |name| exited(name, 0, 0);
    let bad = |name| exited(name, 0, 1);
    let table: Vec<(PodSpec, Vec<Instance>, bool, &str)> = vec![
        (two("Always"), vec![], false, "Pending"),
        (two("Always"), vec![running("a", 0)], false, "Pending"),
        (two("Always"), vec![running("a", 0), running("b", 0)], false, "Running"),
        (two("Always"), vec![running("a", 0), bad("b")], false, "Running"),
        (two("Always"), vec![ok("a"), ok("b")], false, "Running"),
        (two("OnFailure"), vec![ok("a"), ok("b")], false, "Succeeded"),
        (two("OnFailure"), vec![ok("a"), bad("b")], false, "Running"),
        (two("Never"), vec![ok("a"), ok("b")], false, "Succeeded"),
        (two("Never"), vec![ok("a"), bad("b")], false, "Failed"),
        (two("Always"), vec![ok("a"), bad("b")], true, "Failed"),
        (two("Always"), vec![ok("a"), ok("b")], true, "Succeeded"),
        (with_init("Always"), vec![], false, "Pending"),
        (with_init("Always"), vec![running("i", 0)], false, "Pending"),
        (with_init("Always"), vec![bad("i")], false, "Pending"),
        (with_init("Never"), vec![bad("i")], false, "Failed"),
        (with_init("Always"), vec![ok("i"), running("a", 0)], false, "Running"),
        (with_init("Always"), vec![running("a", 0)], false, "Running"),
    ];
    for (index, (spec, containers, ending, phase)) in table.into_iter().enumerate() {
        let status = status_of(spec, containers, ending, PodStatus::default());
        assert_eq!(status.phase.as_deref(), Some(phase), "row {index}");
    }
}

#[test]
fn an_ended_pod_stays_ended() {
    let previous =
        PodStatus { phase: Some("Failed".into()), reason: Some("Evicted".into()), ..Default::default() };
    let status = status_of(two("Always"), vec![running("a", 0), running("b", 0)], false, previous);
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("Evicted")));
}

fn container(status: &PodStatus, name: &str) -> serde_json::Value {
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    serde_json::to_value(all.clone().find(|status| status.name == name).unwrap()).unwrap()
}

#[test]
fn the_newest_run_is_the_state_and_the_one_before_the_last_state() {
    let status =
        status_of(two("Always"), vec![running("a", 2), exited("a", 1, 3)], false, PodStatus::default());
    let a = container(&status, "a");
    assert_eq!(a["restartCount"], 2);
    assert_eq!(a["containerID"], "containerd://a-2");
    assert_eq!(a["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(a["lastState"]["terminated"]["reason"], "Error");
    assert_eq!((&a["ready"], &a["started"]), (&json!(true), &json!(true)));
    assert_eq!(container(&status, "b")["state"]["waiting"]["reason"], "ContainerCreating");
}

#[test]
fn a_start_failure_shows_as_waiting_and_keeps_the_end_before() {
    let failures = BTreeMap::from([(
        "a".to_owned(),
        Failure { reason: "CrashLoopBackOff", message: "back-off 10s".into() },
    )]);
    let containers = vec![exited("a", 1, 3), running("b", 0)];
    let status = status_with(two("Always"), containers, false, PodStatus::default(), &failures);
    let a = container(&status, "a");
    assert_eq!(a["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(a["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(status.phase.as_deref(), Some("Running"));
}

#[test]
fn the_end_of_a_container_that_stays_down_is_shown_although_its_start_failed() {
    let failures = BTreeMap::from([(
        "a".to_owned(),
        Failure { reason: "RunContainerError", message: "no such".into() },
    )]);
    let shown = |policy, code| {
        let containers = vec![exited("a", 0, code), running("b", 0)];
        let status = status_with(two(policy), containers, false, PodStatus::default(), &failures);
        container(&status, "a")["state"].as_object().unwrap().keys().next().cloned().unwrap()
    };
    assert_eq!((shown("Never", 128), shown("OnFailure", 0)), ("terminated".into(), "terminated".into()));
    assert_eq!((shown("OnFailure", 128), shown("Always", 128)), ("waiting".into(), "waiting".into()));
}

#[test]
fn a_running_init_container_is_not_done_and_closed_gates_are_named() {
    let message = |status: &PodStatus, kind: &str| {
        let found = status.conditions.iter().flatten().find(|condition| condition.type_ == kind).unwrap();
        found.message.clone().unwrap_or_default()
    };
    let status = status_of(with_init("Always"), vec![running("i", 0)], false, PodStatus::default());
    assert_eq!(message(&status, "Initialized"), "containers with incomplete status: [i]");
    let gated = spec(json!({"readinessGates": [{"conditionType": "x"}], "containers": [{"name": "a"}]}));
    let status = status_of(gated, vec![running("a", 0)], false, PodStatus::default());
    assert_eq!(
        message(&status, "Ready"),
        "corresponding condition of pod readiness gate \"x\" does not exist."
    );
}

#[test]
fn a_forgotten_container_that_ran_is_told_as_lost_and_counts_as_a_restart() {
    let before =
        status_of(two("Always"), vec![running("a", 2), running("b", 0)], false, PodStatus::default());
    let after = status_of(two("Always"), vec![running("b", 0)], false, before.clone());
    let a = container(&after, "a");
    assert_eq!(a["restartCount"], 3);
    assert_eq!(a["lastState"]["terminated"]["reason"], "ContainerStatusUnknown");
    let ended = status_of(two("Always"), vec![], true, before);
    assert_eq!(container(&ended, "a")["state"]["terminated"]["exitCode"], 137);
    assert_eq!(container(&ended, "a")["restartCount"], 2);
}

#[test]
fn a_created_container_is_waiting_and_a_pod_with_init_containers_says_so() {
    let made = Instance { state: State::Created, ..running("a", 0) };
    let status = status_of(two("Always"), vec![made], false, PodStatus::default());
    assert!(container(&status, "a")["state"]["waiting"].is_object());
    let status = status_of(with_init("Always"), vec![running("i", 0)], false, PodStatus::default());
    assert_eq!(container(&status, "a")["state"]["waiting"]["reason"], "PodInitializing");
}

fn condition(status: &PodStatus, kind: &str) -> (String, i64) {
    let found = status.conditions.iter().flatten().find(|condition| condition.type_ == kind).unwrap();
    (found.status.clone(), found.last_transition_time.clone().unwrap().0.as_second())
}

#[test]
fn a_transition_time_moves_only_with_its_status() {
    let up = status_of(two("Always"), vec![running("a", 0), running("b", 0)], false, PodStatus::default());
    assert_eq!(condition(&up, "Ready"), ("True".into(), 100));
    let mut earlier = up.clone();
    for condition in earlier.conditions.iter_mut().flatten() {
        condition.last_transition_time = Some(whole_seconds(Timestamp::from_second(50).unwrap()));
    }
    let same = status_of(two("Always"), vec![running("a", 0), running("b", 0)], false, earlier.clone());
    assert_eq!(condition(&same, "Ready"), ("True".into(), 50));
    let down = status_of(two("Always"), vec![exited("a", 0, 1), running("b", 0)], false, earlier);
    assert_eq!(condition(&down, "Ready"), ("False".into(), 100));
    assert_eq!(condition(&down, "PodScheduled"), ("True".into(), 50));
}

/// The file with a container's last words goes with the folder of its pod.
#[test]
fn last_words_that_were_told_stay_as_they_were() {
    let ended = |message: &str| Instance { message: message.to_owned(), ..exited("a", 0, 1) };
    let told = |status: &PodStatus| {
        let state = status.container_statuses.as_ref().unwrap()[0].state.clone();
        state.unwrap().terminated.unwrap().message
    };
    let first = status_of(two("Never"), vec![ended("said"), running("b", 0)], false, PodStatus::default());
    for later in ["", "the end of its log"] {
        let again = status_of(two("Never"), vec![ended(later), exited("b", 0, 0)], false, first.clone());
        assert_eq!(told(&again).as_deref(), Some("said"));
    }
    let next = Instance { id: "another".to_owned(), attempt: 1, ..ended("other words") };
    let restarted = status_of(two("Never"), vec![next, ended(""), running("b", 0)], false, first);
    assert_eq!(told(&restarted).as_deref(), Some("other words"));
    let before = restarted.container_statuses.unwrap()[0].last_state.clone();
    assert_eq!(before.unwrap().terminated.unwrap().message.as_deref(), Some("said"));
}

#[test]
fn the_last_words_of_a_pod_are_shared_evenly_and_cut_between_characters() {
    let ended = |name: &str, message: String| {
        let terminated = serde_json::json!({"exitCode": 1, "message": message});
        let state = serde_json::json!({"terminated": terminated});
        serde_json::from_value::<ContainerStatus>(serde_json::json!({
            "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 1,
            "state": state, "lastState": state}))
        .unwrap()
    };
    let mut regular: Vec<_> = (0..8).map(|n| ended(&n.to_string(), "ä".repeat(2048))).collect();
    let mut init = vec![ended("short", "few".to_owned())];
    containers::share_last_words([&mut init, &mut regular, &mut Vec::new()]);
    let said = |state: &Option<ContainerState>| {
        state.as_ref().unwrap().terminated.as_ref().unwrap().message.clone().unwrap()
    };
    assert_eq!(said(&regular[0].state).len(), 12 * 1024 / 9 - 1);
    assert_eq!(said(&regular[7].last_state), said(&regular[0].state));
    assert_eq!(said(&init[0].state), "few");
}
