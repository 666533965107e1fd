use super::*;
use serde_json::{Value, json};

struct Given {
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    allocatable: Amounts,
    allowed: Vec<String>,
}

fn given() -> Given {
    let amounts = [("cpu", 1000), ("memory", 1 << 30), ("pods", 3)];
    Given {
        labels: BTreeMap::from([("zone".to_owned(), "a".to_owned()), ("size".to_owned(), "5".to_owned())]),
        taints: Vec::new(),
        allocatable: amounts.into_iter().map(|(name, amount)| (name.to_owned(), amount)).collect(),
        allowed: vec!["net.core.*".to_owned()],
    }
}

impl Given {
    fn node(&self) -> Node<'_> {
        Node {
            name: "edge-1",
            labels: &self.labels,
            taints: &self.taints,
            allocatable: &self.allocatable,
            pressure: Pressure::default(),
            is_shutting_down: false,
            allowed_sysctls: &self.allowed,
            has_apparmor: false,
            has_strict_groups: false,
        }
    }
}

fn pod(spec: Value) -> (Pod, Demand) {
    let mut spec = spec;
    if spec["containers"].is_null() {
        spec["containers"] = json!([{"name": "a"}]);
    }
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
    let demand = Demand::of(&pod);
    (pod, demand)
}

fn reason(node: &Node<'_>, spec: Value, others: &[Value]) -> Option<String> {
    let (pod, demand) = pod(spec);
    let others: Vec<Arc<Demand>> = others.iter().map(|spec| Arc::new(self::pod(spec.clone()).1)).collect();
    check(&pod, &demand, node, &others).err().map(|refusal| refusal.decision().reason)
}

fn cpu(amount: &str) -> Value {
    json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": amount}}}]})
}

fn affinity(key: &str, operator: &str, values: &[&str]) -> Value {
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]}}}})
}

#[test]
fn each_check_has_its_reason() {
    let sysctl = |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
    let port = |host: i32| json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "hostPort": host}]}]});
    let table: Vec<(Value, Vec<Value>, Option<&str>)> = vec![
        (json!({}), vec![], None),
        (json!({"nodeName": "edge-2"}), vec![], Some("NodeName")),
        (json!({"nodeSelector": {"zone": "a"}}), vec![], None),
        (json!({"nodeSelector": {"zone": "b"}}), vec![], Some("NodeAffinity")),
        (affinity("zone", "In", &["a", "b"]), vec![], None),
        (affinity("zone", "NotIn", &["a"]), vec![], Some("NodeAffinity")),
        (affinity("zone", "DoesNotExist", &[]), vec![], Some("NodeAffinity")),
        (affinity("size", "Gt", &["4"]), vec![], None),
        (affinity("size", "Lt", &["4"]), vec![], Some("NodeAffinity")),
        (cpu("1"), vec![], None),
        (cpu("1"), vec![cpu("1m")], Some("OutOfcpu")),
        (json!({}), vec![json!({}), json!({}), json!({})], Some("OutOfpods")),
        (port(8080), vec![port(8081)], None),
        (port(8080), vec![port(8080)], Some("NodePorts")),
        (sysctl("net.ipv4.tcp_syncookies"), vec![], None),
        (sysctl("net/core/somaxconn"), vec![], None),
        (sysctl("kernel.msgmax"), vec![], Some("SysctlForbidden")),
        (
            json!({"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}),
            vec![],
            Some("AppArmor"),
        ),
        (json!({"os": {"name": "windows"}}), vec![], Some("PodOSNotSupported")),
        (
            json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}}),
            vec![],
            Some("SupplementalGroupsPolicyNotSupported"),
        ),
    ];
    let given = given();
    for (index, (spec, others, expected)) in table.into_iter().enumerate() {
        assert_eq!(reason(&given.node(), spec, &others).as_deref(), expected, "row {index}");
    }
}

#[test]
fn a_taint_that_drives_pods_away_refuses_those_that_do_not_tolerate_it() {
    let mut given = given();
    given.taints = vec![Taint {
        key: "k".into(),
        value: Some("v".into()),
        effect: "NoExecute".into(),
        time_added: None,
    }];
    let with = |toleration: Value| json!({"tolerations": [toleration]});
    assert_eq!(reason(&given.node(), json!({}), &[]).as_deref(), Some("TaintToleration"));
    assert_eq!(reason(&given.node(), with(json!({"operator": "Exists"})), &[]), None);
    assert_eq!(
        reason(&given.node(), with(json!({"key": "k", "value": "v", "effect": "NoExecute"})), &[]),
        None
    );
    let other = with(json!({"key": "k", "value": "w"}));
    assert_eq!(reason(&given.node(), other, &[]).as_deref(), Some("TaintToleration"));
}

#[test]
fn memory_pressure_keeps_out_pods_without_requests_and_disk_pressure_all_but_critical_ones() {
    let given = given();
    let mut node = given.node();
    node.pressure = Pressure { memory: true, ..Pressure::default() };
    assert_eq!(reason(&node, json!({}), &[]).as_deref(), Some("Evicted"));
    assert_eq!(reason(&node, cpu("100m"), &[]), None);
    node.pressure = Pressure { disk: true, ..Pressure::default() };
    assert_eq!(reason(&node, cpu("100m"), &[]).as_deref(), Some("Evicted"));
    assert_eq!(reason(&node, json!({"priority": 2_000_000_000}), &[]), None);
}

#[test]
fn a_critical_pod_finds_room_among_the_least_important() {
    let demands: Vec<Arc<Demand>> = [(cpu("600m"), 10), (cpu("300m"), 0), (cpu("100m"), 0)]
        .into_iter()
        .map(|(mut spec, priority)| {
            spec["priority"] = json!(priority);
            Arc::new(pod(spec).1)
        })
        .collect();
    let short = |milli: i64| Amounts::from([("cpu".to_owned(), milli)]);
    assert_eq!(make_room(&short(200), 2_000_000_000, &demands), Some(vec![1]));
    assert_eq!(make_room(&short(350), 2_000_000_000, &demands), Some(vec![1, 2]));
    assert_eq!(make_room(&short(1000), 2_000_000_000, &demands), Some(vec![1, 2, 0]));
    assert_eq!(make_room(&short(1001), 2_000_000_000, &demands), None);
}
