use super::*;

const NOW: i64 = 10_000_000_000_000;

pub fn exited(name: &str, attempt: u32, exit_code: i32) -> Instance {
    Instance {
        id: format!("{name}-{attempt}"),
        name: name.to_owned(),
        sandbox: "s".to_owned(),
        attempt,
        state: State::Exited,
        created: NOW - 3,
        started: NOW - 2,
        finished: NOW - 1,
        exit_code,
        reason: String::new(),
        message: String::new(),
        image: "busybox".to_owned(),
        image_ref: "sha256:1".to_owned(),
        spec_image: Some("busybox".to_owned()),
        log_path: String::new(),
        pre_stop: None,
        ports: None,
    }
}

pub fn running(name: &str, attempt: u32) -> Instance {
    Instance { state: State::Running, finished: 0, exit_code: 0, ..exited(name, attempt, 0) }
}

pub fn sandbox(ready: bool) -> Sandbox {
    Sandbox {
        id: "s".into(),
        attempt: 0,
        ready,
        created: 1,
        ips: vec!["10.0.0.2".into()],
        host_network: false,
    }
}

pub fn spec(json: serde_json::Value) -> PodSpec {
    serde_json::from_value(json).unwrap()
}

fn two(policy: &str) -> PodSpec {
    spec(serde_json::json!({"restartPolicy": policy, "containers": [
        {"name": "a", "image": "busybox"}, {"name": "b", "image": "busybox"}]}))
}

fn with_init(policy: &str, init: serde_json::Value) -> PodSpec {
    spec(serde_json::json!({"restartPolicy": policy, "initContainers": init,
        "containers": [{"name": "a", "image": "busybox"}]}))
}

fn actions(spec: &PodSpec, sandboxes: Vec<Sandbox>, containers: Vec<Instance>) -> Vec<Action> {
    let observed = Observed { sandboxes, containers };
    let now = Timestamp::from_nanosecond(i128::from(NOW)).unwrap();
    plan(&Situation {
        spec,
        observed: &observed,
        now,
        longest_restart: backoff::LONGEST,
        counted: &BTreeMap::new(),
        done: &BTreeSet::new(),
        unhealthy: &BTreeSet::new(),
        starting: &BTreeSet::new(),
    })
}

fn start(name: &str, attempt: u32, init: bool) -> Action {
    Action::Start { name: name.into(), attempt, init }
}

#[test]
fn a_new_pod_gets_a_sandbox_and_all_its_containers() {
    let expected = vec![Action::CreateSandbox { attempt: 0 }, start("a", 0, false), start("b", 0, false)];
    assert_eq!(actions(&two("Always"), vec![], vec![]), expected);
}

#[test]
fn a_running_pod_is_left_alone() {
    let containers = vec![running("a", 0), running("b", 3)];
    assert_eq!(actions(&two("Always"), vec![sandbox(true)], containers), vec![]);
}

#[test]
fn a_crash_restarts_at_once_the_first_time_and_waits_afterwards() {
    let first = vec![running("b", 0), exited("a", 0, 1)];
    assert_eq!(actions(&two("Always"), vec![sandbox(true)], first), vec![start("a", 1, false)]);
    let second = vec![running("b", 0), exited("a", 1, 1)];
    let delay = std::time::Duration::from_secs(10);
    let until = Timestamp::from_nanosecond(i128::from(NOW - 1)).unwrap() + delay;
    assert_eq!(
        actions(&two("Always"), vec![sandbox(true)], second),
        vec![Action::Hold { name: "a".into(), until, delay }]
    );
}

#[test]
fn the_restart_policy_decides_what_happens_after_an_exit() {
    for (policy, code, restarts) in
        [("Always", 0, true), ("OnFailure", 0, false), ("OnFailure", 1, true), ("Never", 1, false)]
    {
        let containers = vec![running("b", 0), exited("a", 0, code)];
        let expected = if restarts { vec![start("a", 1, false)] } else { vec![] };
        assert_eq!(actions(&two(policy), vec![sandbox(true)], containers), expected, "{policy} {code}");
    }
}

#[test]
fn when_all_are_done_the_sandbox_is_stopped_once() {
    let done = || vec![exited("a", 0, 0), exited("b", 0, 0)];
    assert_eq!(actions(&two("OnFailure"), vec![sandbox(true)], done()), vec![Action::StopPod]);
    assert_eq!(actions(&two("OnFailure"), vec![sandbox(false)], done()), vec![]);
    assert_eq!(actions(&two("Never"), vec![sandbox(false)], done()), vec![]);
}

#[test]
fn a_dead_sandbox_is_replaced_with_the_next_attempt() {
    let containers = vec![exited("a", 0, 137), exited("b", 0, 137)];
    let expected = vec![Action::CreateSandbox { attempt: 1 }, start("a", 1, false), start("b", 1, false)];
    assert_eq!(actions(&two("Always"), vec![sandbox(false)], containers), expected);
}

#[test]
fn a_sandbox_without_an_address_is_replaced_unless_it_is_the_hosts() {
    let bare = Sandbox { ips: vec![], ..sandbox(true) };
    let replaced = actions(&two("Always"), vec![bare.clone()], vec![]);
    assert_eq!(replaced[..2], [Action::StopPod, Action::CreateSandbox { attempt: 1 }]);
    let mut host = two("Always");
    host.host_network = Some(true);
    let sandbox = Sandbox { host_network: true, ..bare };
    assert_eq!(actions(&host, vec![sandbox], vec![running("a", 0), running("b", 0)]), vec![]);
}

#[test]
fn init_containers_run_one_after_the_other() {
    let spec = with_init("Always", serde_json::json!([{"name": "i"}, {"name": "j"}]));
    let up = || vec![sandbox(true)];
    assert_eq!(actions(&spec, up(), vec![]), vec![start("i", 0, true)]);
    assert_eq!(actions(&spec, up(), vec![running("i", 0)]), vec![]);
    assert_eq!(actions(&spec, up(), vec![exited("i", 0, 0)]), vec![start("j", 0, true)]);
    let both = vec![exited("i", 0, 0), exited("j", 0, 0)];
    assert_eq!(actions(&spec, up(), both), vec![start("a", 0, false)]);
    assert_eq!(
        actions(&spec, up(), vec![running("a", 0)]),
        vec![],
        "forgotten init containers do not run again"
    );
}

#[test]
fn a_failed_init_container_ends_a_never_pod_and_is_retried_otherwise() {
    let init = || serde_json::json!([{"name": "i"}]);
    let failed = || vec![exited("i", 0, 1)];
    assert_eq!(actions(&with_init("Never", init()), vec![sandbox(true)], failed()), vec![Action::StopPod]);
    assert_eq!(
        actions(&with_init("Always", init()), vec![sandbox(true)], failed()),
        vec![start("i", 1, true)]
    );
}

#[test]
fn a_sidecar_starts_first_and_comes_back_while_the_pod_runs() {
    let spec = with_init("Always", serde_json::json!([{"name": "s", "restartPolicy": "Always"}]));
    let up = || vec![sandbox(true)];
    assert_eq!(actions(&spec, up(), vec![]), vec![start("s", 0, true)]);
    assert_eq!(actions(&spec, up(), vec![running("s", 0)]), vec![start("a", 0, false)]);
    assert_eq!(actions(&spec, up(), vec![exited("s", 0, 0), running("a", 0)]), vec![start("s", 1, true)]);
}

#[test]
fn init_containers_run_again_in_a_new_sandbox() {
    let spec = with_init("Always", serde_json::json!([{"name": "i"}]));
    let old = vec![exited("i", 0, 0), exited("a", 0, 0)];
    let expected = vec![Action::CreateSandbox { attempt: 1 }, start("i", 1, true)];
    assert_eq!(actions(&spec, vec![sandbox(false)], old), expected);
}

#[test]
fn a_container_that_was_made_and_never_started_is_made_again() {
    let made = Instance { state: State::Created, ..running("a", 2) };
    let expected = vec![Action::Remove { id: "a-2".into() }, start("a", 2, false)];
    assert_eq!(actions(&two("Never"), vec![sandbox(true)], vec![made, running("b", 0)]), expected);
}

#[test]
fn a_changed_image_restarts_whatever_the_policy() {
    let mut spec = two("Never");
    spec.containers[0].image = Some("busybox:2".into());
    let up = vec![running("a", 0), running("b", 0)];
    let kill = Action::Kill { id: "a-0".into(), name: "a".into(), why: Why::ImageChanged };
    assert_eq!(actions(&spec, vec![sandbox(true)], up), vec![kill]);
    let down = vec![exited("a", 0, 137), running("b", 0)];
    assert_eq!(actions(&spec, vec![sandbox(true)], down), vec![start("a", 1, false)]);
}
