use super::*;
use crate::edged::settings::CgroupDriver;

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
        max_pods: 110,
        cpus: 2,
        memory: 1 << 30,
        memory_available: 1 << 29,
        disk: Disk { bytes: 100 << 30, available: 50 << 30, inodes: 1000, inodes_free: 900 },
        huge_pages: vec![("hugepages-2Mi".into(), 4 << 20)],
        processes: (32768, 200),
        identity: facts::Identity::default(),
    }
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
    let table: [(Spoil, &str); 6] = [
        (|facts| facts.memory_available = 1 << 20, "MemoryPressure=True"),
        (|facts| facts.disk.available = 1 << 30, "DiskPressure=True"),
        (|facts| facts.disk.inodes_free = 1, "DiskPressure=True"),
        (|facts| facts.processes = (1000, 995), "PIDPressure=True"),
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
fn what_is_kept_back_is_not_allocatable() {
    let status = compute(&facts());
    let amount = |amounts: &Option<Amounts>, name: &str| amounts.as_ref().unwrap()[name].0.clone();
    assert_eq!(amount(&status.capacity, "memory"), "1048576Ki");
    assert_eq!(amount(&status.allocatable, "memory"), format!("{}Ki", 1048576 - 102400 - 4096));
    assert_eq!(amount(&status.capacity, "hugepages-2Mi"), "4096Ki");
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
