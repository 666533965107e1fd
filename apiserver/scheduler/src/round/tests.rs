use std::time::Duration;

use apimachinery::object::integer;
use controllers::fake::Fake;
use controllers::shell;
use tokio_util::sync::CancellationToken;

use super::*;

fn node(name: &str, zone: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"zone": zone, "kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"}}})
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name, "namespace": "n", "labels": {"app": "a"}}, "spec": spec,
        "status": {"phase": "Pending"}});
    if pod["spec"].get("containers").is_none() {
        pod["spec"]["containers"] = json!([{"name": "c"}]);
    }
    pod
}

fn on(mut pod: Value, node: &str) -> Value {
    pod["spec"]["nodeName"] = json!(node);
    pod
}

fn asking(cpu: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
}

/// The node that a pod gets, or why none.
fn place(pod: &Value, nodes: &[Value], placed: &[Value]) -> Result<String, String> {
    let cache = Cache::of([&lines::PersistentVolumeClaim as Kind, &lines::PersistentVolume]);
    let placed = placed.iter().map(|pod| Arc::new(Facts::of(pod))).collect();
    let nodes = with_pods(nodes.to_vec(), placed);
    let candidate = candidate(pod, &nodes, &Namespaces::new(), &cache);
    choose(&candidate, &nodes).map(|at| nodes[at].name().to_owned())
}

#[test]
fn the_reasons_of_all_nodes_are_counted_in_the_message() {
    let (mut tainted, mut cordoned) = (node("b", "y"), node("c", "y"));
    tainted["spec"] = json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]});
    cordoned["spec"] = json!({"unschedulable": true});
    let message = place(&pod("p", asking("3")), &[node("a", "x"), tainted, cordoned], &[]).unwrap_err();
    assert_eq!(
        message,
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {k: v}, 1 node(s) were unschedulable."
    );
    assert_eq!(place(&pod("p", json!({})), &[], &[]).unwrap_err(), "no nodes available to schedule pods");
}

#[test]
fn what_is_taken_on_a_node_is_not_given_twice() {
    let nodes = [node("a", "x"), node("b", "x")];
    let placed = [on(pod("o", asking("1500m")), "a")];
    for _ in 0..20 {
        assert_eq!(place(&pod("p", asking("1")), &nodes, &placed), Ok("b".to_owned()));
    }
}

#[test]
fn the_emptier_node_is_better_and_brothers_go_apart() {
    let nodes = [node("a", "x"), node("b", "x")];
    assert_eq!(
        place(&pod("p", asking("100m")), &nodes, &[on(pod("o", asking("1")), "a")]),
        Ok("b".to_owned())
    );
    let mut brother = pod("o", json!({}));
    brother["metadata"]["ownerReferences"] = json!([{"uid": "r", "controller": true}]);
    let mut next = brother.clone();
    next["metadata"]["name"] = json!("p");
    assert_eq!(place(&next, &nodes, &[on(brother, "b")]), Ok("a".to_owned()));
}

#[test]
fn a_preferred_label_decides_between_nodes_that_fit() {
    let preferred = json!([{"weight": 50, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["y"]}]}}]);
    let wish =
        json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}});
    for _ in 0..20 {
        assert_eq!(
            place(&pod("p", wish.clone()), &[node("a", "x"), node("b", "y")], &[]),
            Ok("b".to_owned())
        );
    }
}

#[test]
fn a_host_port_is_free_once_on_each_node() {
    let with_port = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
    let placed = [on(pod("o", with_port.clone()), "a")];
    assert_eq!(
        place(&pod("p", with_port.clone()), &[node("a", "x"), node("b", "x")], &placed),
        Ok("b".to_owned())
    );
    let message = place(&pod("p", with_port), &[node("a", "x")], &placed).unwrap_err();
    assert_eq!(
        message,
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
    );
}

fn affinity(kind: &str, key: &str) -> Value {
    let term = json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": "a"}}});
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
}

#[test]
fn pods_come_together_and_keep_apart_by_domain() {
    let nodes = [node("a", "x"), node("b", "x"), node("c", "y")];
    let near = pod("p", affinity("podAffinity", "zone"));
    assert!(place(&near, &nodes, &[]).is_ok(), "the first of a group goes anywhere");
    assert_eq!(place(&near, &nodes, &[on(pod("o", json!({})), "c")]), Ok("c".to_owned()));
    let apart = pod("p", affinity("podAntiAffinity", "zone"));
    assert_eq!(place(&apart, &nodes, &[on(pod("o", json!({})), "b")]), Ok("c".to_owned()));
    let keeps_off = on(pod("o", affinity("podAntiAffinity", "zone")), "a");
    assert_eq!(place(&pod("p", json!({})), &nodes, std::slice::from_ref(&keeps_off)), Ok("c".to_owned()));
    let message = place(&pod("p", json!({})), &nodes[..1], &[keeps_off]).unwrap_err();
    assert_eq!(
        message,
        "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules."
    );
}

#[test]
fn pods_spread_over_zones_within_the_allowed_skew() {
    let nodes = [node("a", "x"), node("b", "x"), node("c", "y")];
    let constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "a"}}});
    let spread = pod("p", json!({"topologySpreadConstraints": [constraint]}));
    assert_eq!(place(&spread, &nodes, &[on(pod("o", json!({})), "a")]), Ok("c".to_owned()));
    let mut bare = node("d", "x");
    bare["metadata"]["labels"] = json!({});
    let message = place(&spread, &[bare], &[]).unwrap_err();
    assert!(message.contains("(missing required label)"), "{message}");
}

#[test]
fn a_pod_waits_for_its_claims() {
    let with_claim = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]});
    let message = place(&pod("p", with_claim), &[node("a", "x")], &[]).unwrap_err();
    assert_eq!(message, "0/1 nodes are available: 1 persistentvolumeclaim \"data\" not found.");
}

async fn until(fake: &Fake, is_so: impl Fn(&Fake) -> bool) {
    tokio::time::timeout(Duration::from_secs(30), fake.until(is_so)).await.unwrap();
}

#[tokio::test]
async fn a_pod_that_waits_says_why_and_is_bound_when_a_node_comes() {
    let (fake, stop) = (Arc::new(Fake::default()), CancellationToken::new());
    let all: Vec<Box<dyn Controller>> = vec![Box::new(Scheduler::default())];
    let running = tokio::spawn(shell::run(all, Arc::new(fake.clone()), stop.clone()));
    fake.put(POD, pod("p", asking("1")));
    let mut other = pod("other", json!({"schedulerName": "another"}));
    other["metadata"]["labels"] = Value::Null;
    fake.put(POD, other);
    let says = |fake: &Fake, text: &str| {
        let pod = fake.find(POD, "n", "p").unwrap();
        conditions::find(&pod, "PodScheduled")
            .is_some_and(|one| one["status"] == "False" && one["message"] == text)
    };
    until(&fake, |fake| says(fake, "no nodes available to schedule pods")).await;
    let told =
        |fake: &Fake| fake.all(&lines::Event).iter().any(|event| event["reason"] == "FailedScheduling");
    until(&fake, told).await;
    fake.put(&lines::Node, node("a", "x"));
    until(&fake, |fake| pods::node(&fake.find(POD, "n", "p").unwrap()) == "a").await;
    assert_eq!(pods::node(&fake.find(POD, "n", "other").unwrap()), "");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn higher_priorities_come_first() {
    let (fake, stop) = (Arc::new(Fake::default()), CancellationToken::new());
    for (name, priority) in [("low", 0), ("high", 9)] {
        let mut pod = pod(name, asking("2"));
        pod["spec"]["priority"] = json!(priority);
        assert!(integer(&fake.put(POD, pod), "/spec/priority").is_some());
    }
    fake.put(&lines::Node, node("a", "x"));
    let all: Vec<Box<dyn Controller>> = vec![Box::new(Scheduler::default())];
    let running = tokio::spawn(shell::run(all, Arc::new(fake.clone()), stop.clone()));
    until(&fake, |fake| pods::node(&fake.find(POD, "n", "high").unwrap()) == "a").await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!(pods::node(&fake.find(POD, "n", "low").unwrap()), "");
}

fn important(mut pod: Value, priority: i64) -> Value {
    pod["spec"]["priority"] = json!(priority);
    pod
}

#[test]
fn the_least_important_pods_go_and_no_more_than_have_to() {
    let cache = Cache::of([
        &lines::PersistentVolumeClaim as Kind,
        &lines::PersistentVolume,
        &lines::PodDisruptionBudget,
    ]);
    let nodes = [node("a", "x"), node("b", "x"), node("c", "x")];
    let placed = [
        on(important(pod("a1", asking("1")), 5), "a"),
        on(important(pod("a2", asking("1")), 1), "a"),
        on(important(pod("b1", asking("2")), 3), "b"),
        on(important(pod("c1", asking("2")), 100), "c"),
    ];
    let placed = placed.iter().map(|pod| Arc::new(Facts::of(pod))).collect();
    let nodes = with_pods(nodes.to_vec(), placed);
    let choice = |pod: &Value| {
        let candidate = candidate(pod, &nodes, &Namespaces::new(), &cache);
        choose(&candidate, &nodes).unwrap_err();
        let victims = preempt::choose(&candidate, &nodes, &preempt::budgets(&cache))?;
        Some(victims.pods.iter().map(|pod| pod.name.clone()).collect::<Vec<_>>())
    };
    assert_eq!(choice(&important(pod("p", asking("1")), 10)), Some(vec!["a2".to_owned()]));
    assert_eq!(choice(&important(pod("p", asking("2")), 10)), Some(vec!["b1".to_owned()]));
    assert_eq!(choice(&important(pod("p", asking("3")), 10)), None);
    assert_eq!(choice(&important(pod("p", asking("1")), 1)), None);
}

#[tokio::test]
async fn an_important_pod_gets_the_place_of_one_that_is_less_so() {
    let api = Arc::new(Fake::default());
    api.put(&lines::Node, node("a", "x"));
    let stop = CancellationToken::new();
    let controllers: Vec<Box<dyn Controller>> = vec![Box::<Scheduler>::default()];
    let running = tokio::spawn(shell::run(controllers, Arc::new(api.clone()), stop.clone()));
    api.put(POD, important(pod("low", asking("2")), 1));
    let on_node =
        |api: &Fake, name: &str| api.find(POD, "n", name).is_some_and(|pod| pods::node(&pod) == "a");
    tokio::time::timeout(Duration::from_secs(10), api.until(|api| on_node(api, "low"))).await.unwrap();
    let mut never = important(pod("never", asking("2")), 9);
    never["spec"]["preemptionPolicy"] = json!("Never");
    api.put(POD, never);
    api.put(POD, important(pod("high", asking("2")), 5));
    let nominated = |api: &Fake| {
        api.find(POD, "n", "high").is_some_and(|pod| pod["status"]["nominatedNodeName"] == "a")
            && api.find(POD, "n", "low").is_none_or(|pod| object::deleting(&pod))
    };
    tokio::time::timeout(Duration::from_secs(10), api.until(nominated)).await.unwrap();
    stop.cancel();
    running.await.unwrap();
}
