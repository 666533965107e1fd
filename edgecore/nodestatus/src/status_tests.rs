use super::*;
use podmodel::cgroups::CgroupDriver;

fn facts() -> Facts {
    Facts {
        name: "edge-1".into(),
        addresses: vec!["192.0.2.1".into()],
        runtime: RuntimeFacts {
            ready: true,
            network_ready: true,
            trouble: String::new(),
            version: "1.6.20".into(),
            ..RuntimeFacts::unknown(CgroupDriver::Cgroupfs)
        },
        relist_age: Some(Duration::from_secs(1)),
        capacity: amounts(1 << 30),
        allocatable: amounts(1 << 29),
        pressure: Pressure::default(),
        is_shutting_down: false,
        images: Vec::new(),
        identity: facts::Identity::default(),
    }
}

fn amounts(memory: i64) -> Amounts {
    let all = [("cpu", 1500), ("memory", memory), ("hugepages-2Mi", 4 << 20), ("pods", 110)];
    all.into_iter().map(|(name, amount)| (name.to_owned(), amount)).collect()
}

fn claims(facts: &Facts) -> Vec<String> {
    let status = compute(facts);
    status.conditions.iter().flatten().map(|c| format!("{}={}", c.type_, c.status)).collect()
}

#[test]
fn a_healthy_node_says_so_in_kubernetes_order() {
    let expected = ["MemoryPressure=False", "DiskPressure=False", "PIDPressure=False", "Ready=True"];
    assert_eq!(claims(&facts()), expected);
}

#[test]
fn each_trouble_has_its_condition() {
    type Spoil = fn(&mut Facts);
    let table: [(Spoil, &str); 7] = [
        (|facts| facts.pressure.memory = true, "MemoryPressure=True"),
        (|facts| facts.pressure.disk = true, "DiskPressure=True"),
        (|facts| facts.pressure.read_only = true, "DiskPressure=True"),
        (|facts| facts.pressure.pids = true, "PIDPressure=True"),
        (|facts| facts.is_shutting_down = true, "Ready=False"),
        (|facts| facts.runtime.ready = false, "Ready=False"),
        (|facts| facts.relist_age = Some(Duration::from_secs(200)), "Ready=False"),
    ];
    for (spoil, expected) in table {
        let mut facts = facts();
        spoil(&mut facts);
        assert!(claims(&facts).contains(&expected.to_owned()), "{expected}");
    }
}

#[test]
fn amounts_are_written_as_the_api_writes_them() {
    let status = compute(&facts());
    let text =
        |amounts: &Option<BTreeMap<String, Quantity>>, name: &str| amounts.as_ref().unwrap()[name].0.clone();
    assert_eq!(text(&status.capacity, "memory"), "1048576Ki");
    assert_eq!(text(&status.allocatable, "memory"), "524288Ki");
    assert_eq!(text(&status.capacity, "hugepages-2Mi"), "4096Ki");
    assert_eq!(
        (text(&status.capacity, "cpu"), text(&status.capacity, "pods")),
        ("1500m".into(), "110".into())
    );
    assert_eq!(status.node_info.unwrap().container_runtime_version, "containerd://1.6.20");
}

#[test]
fn an_unchanged_status_is_sent_only_after_the_report_interval() {
    let mut reporter = Reporter::default();
    let at = |second| Timestamp::from_second(second).unwrap();
    let every = Duration::from_secs(300);
    assert!(reporter.next(compute(&facts()), at(0), every).is_some());
    assert!(reporter.next(compute(&facts()), at(10), every).is_none());
    let late: Value =
        serde_json::from_str(&reporter.next(compute(&facts()), at(300), every).unwrap()).unwrap();
    assert_eq!(late["status"]["conditions"][3]["lastHeartbeatTime"], "1970-01-01T00:05:00Z");
    assert_eq!(late["status"]["conditions"][3]["lastTransitionTime"], "1970-01-01T00:00:00Z");
    assert_eq!(late["status"]["addresses"][0]["$patch"], "replace");
    let mut down = facts();
    down.runtime.ready = false;
    let changed: Value =
        serde_json::from_str(&reporter.next(compute(&down), at(310), every).unwrap()).unwrap();
    assert_eq!(changed["status"]["conditions"][3]["lastTransitionTime"], "1970-01-01T00:05:10Z");
    reporter.forget();
    assert!(reporter.next(compute(&down), at(311), every).is_some());
}

#[test]
fn a_restart_changes_no_condition_and_a_turn_is_told_once() {
    let mut reporter = Reporter::default();
    let fresh: Vec<_> = reporter.turns(&compute(&facts())).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(fresh, ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"]);
    let at = |second| Timestamp::from_second(second).unwrap();
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": "1970-01-01T00:00:05Z"});
    let there = json!({"status": {"conditions": [condition("Ready", "True"), condition("MemoryPressure", "True"),
        condition("DiskPressure", "False"), condition("PIDPressure", "False")]}});
    reporter.learn(&serde_json::from_value(there).unwrap());
    assert_eq!(reporter.turns(&compute(&facts())), [(Kind::Normal, "NodeHasSufficientMemory")]);
    let patch = reporter.next(compute(&facts()), at(100), Duration::from_secs(300)).unwrap();
    let patch: Value = serde_json::from_str(&patch).unwrap();
    let since = |index: usize| patch["status"]["conditions"][index]["lastTransitionTime"].clone();
    assert_eq!((since(0), since(3)), ("1970-01-01T00:01:40Z".into(), "1970-01-01T00:00:05Z".into()));
    assert_eq!(reporter.turns(&compute(&facts())), []);
    let mut down = facts();
    down.runtime.ready = false;
    assert_eq!(reporter.turns(&compute(&down)), [(Kind::Normal, "NodeNotReady")]);
}
