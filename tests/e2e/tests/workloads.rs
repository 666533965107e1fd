//! The embedded API server used alone: kubectl, its controllers and scheduler, with nodes and pods that are played by status
//! patches.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::players::Players;
use harness::cloud::Cloud;
use harness::kubectl::Kubectl;
use harness::programs::{self, Programs};
use harness::site::{IMAGE, NODE, Site};
use harness::wait;
use serde_json::{Value, json};
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(60);

/// A cloud without edges, and whoever plays its nodes.
struct Lab {
    kubectl: Kubectl,
    players: Players,
    _cloud: Cloud,
    _scratch: TempDir,
}

impl Lab {
    fn start(nodes: &[&str]) -> Result<Lab> {
        let scratch = tempfile::tempdir()?;
        let cloud = Cloud::init(&Programs::find()?, &scratch.path().join("cloud"))?;
        let kubectl = cloud.kubectl();
        let players = Players::start(kubectl.clone());
        nodes.iter().try_for_each(|node| players.add(node))?;
        Ok(Lab { kubectl, players, _cloud: cloud, _scratch: scratch })
    }

    fn run(&self, line: &str) -> Result<String> {
        self.kubectl.run(&line.split_whitespace().collect::<Vec<_>>())
    }

    fn until(&self, what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
        wait::for_true(what, LONG, is_so)
    }

    fn items(&self, line: &str) -> Result<Vec<Value>> {
        let list: Value = serde_json::from_str(&self.run(&format!("get {line} -o json"))?)?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn a_deployment_is_made_scaled_rolled_out_and_taken_back() -> Result<()> {
    let lab = Lab::start(&["n1", "n2"])?;
    lab.run("create deployment web --image=web:1 --replicas=2 --port=80")?;
    lab.run("rollout status deployment/web --timeout=60s")?;
    lab.run("scale deployment/web --replicas=3")?;
    lab.run("set image deployment/web web=web:2")?;
    ensure!(lab.run("rollout status deployment/web --timeout=60s")?.contains("successfully rolled out"));
    let history = lab.run("rollout history deployment/web")?;
    ensure!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    lab.run("rollout undo deployment/web")?;
    lab.run("rollout status deployment/web --timeout=60s")?;
    let sets = lab.items("replicasets")?;
    ensure!(sets.len() == 2, "the first set is taken up again: {sets:#?}");
    let pods = lab.items("pods -l app=web")?;
    let images: Vec<&str> = pods.iter().map(|pod| text(pod, "/spec/containers/0/image")).collect();
    lab.until("three pods of the first image", || {
        let pods = lab.items("pods -l app=web")?;
        Ok(pods.len() == 3 && pods.iter().all(|pod| text(pod, "/spec/containers/0/image") == "web:1"))
    })
    .with_context(|| format!("{images:?}"))?;
    lab.run("delete deployment web")?;
    lab.until("nothing is left", || Ok(lab.items("pods")?.is_empty() && lab.items("replicasets")?.is_empty()))
}

#[test]
fn pending_pods_say_why_and_are_bound_when_a_node_comes() -> Result<()> {
    let lab = Lab::start(&[])?;
    lab.run("create deployment web --image=web:1")?;
    lab.until("the pod says why it waits", || {
        let pods = lab.items("pods")?;
        let condition = pods.first().and_then(|pod| pod["status"]["conditions"].as_array()?.first().cloned());
        Ok(condition.is_some_and(|one| text(&one, "/message") == "no nodes available to schedule pods"))
    })?;
    lab.until("an event", || Ok(lab.run("get events")?.contains("FailedScheduling")))?;
    lab.players.add("n1")?;
    lab.run("rollout status deployment/web --timeout=60s")?;
    ensure!(text(&lab.items("pods")?[0], "/spec/nodeName") == "n1");
    lab.run("cordon n1")?;
    lab.run("scale deployment/web --replicas=2")?;
    lab.until("the second pod is kept off the cordoned node", || {
        Ok(lab.run("get events")?.contains("0/1 nodes are available: 1 node(s) were unschedulable."))
    })
}

#[test]
fn a_service_has_the_ready_pods_behind_it() -> Result<()> {
    let lab = Lab::start(&["n1"])?;
    lab.run("create deployment web --image=web:1 --replicas=2 --port=80")?;
    lab.run("expose deployment/web --port=8080 --target-port=80")?;
    lab.run("rollout status deployment/web --timeout=60s")?;
    let backends = || -> Result<usize> {
        let slices = lab.items("endpointslices -l kubernetes.io/service-name=web")?;
        let endpoints = slices.iter().filter_map(|slice| slice["endpoints"].as_array()).flatten();
        let ready = endpoints.filter(|one| one["conditions"]["ready"] == true && one["nodeName"] == "n1");
        Ok(ready.count())
    };
    lab.until("two endpoints", || Ok(backends()? == 2))?;
    let addresses = lab.run("get endpoints web -o jsonpath={.subsets[*].addresses[*].ip}")?;
    ensure!(addresses.split_whitespace().count() == 2, "{addresses}");
    ensure!(lab.run("get endpoints web -o jsonpath={.subsets[*].ports[*].port}")? == "80");
    lab.run("scale deployment/web --replicas=0")?;
    lab.until("no endpoints", || Ok(backends()? == 0))
}

#[test]
fn draining_a_node_keeps_to_the_budget_and_moves_the_pods() -> Result<()> {
    let lab = Lab::start(&["n1", "n2"])?;
    lab.run("create deployment web --image=web:1 --replicas=2")?;
    lab.run("create poddisruptionbudget web --selector=app=web --min-available=2")?;
    lab.run("rollout status deployment/web --timeout=60s")?;
    lab.until("the budget is counted", || {
        Ok(lab.run("get pdb web -o jsonpath={.status.currentHealthy}")? == "2")
    })?;
    let place = text(&lab.items("pods")?[0], "/spec/nodeName").to_owned();
    let drain = ["drain", &place, "--timeout=6s"];
    let output = programs::output(&mut lab.kubectl.command(&drain))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && told.contains("violate the pod's disruption budget"), "{told}");
    lab.run("patch pdb web --type=merge -p {\"spec\":{\"minAvailable\":1}}")?;
    lab.run(&format!("drain {place} --timeout=60s"))?;
    lab.run("rollout status deployment/web --timeout=60s")?;
    lab.until("all pods are elsewhere", || {
        let pods = lab.items("pods")?;
        Ok(pods.len() == 2 && pods.iter().all(|pod| text(pod, "/spec/nodeName") != place))
    })
}

#[test]
fn a_job_runs_to_its_end_and_a_cron_job_makes_one() -> Result<()> {
    let lab = Lab::start(&["n1"])?;
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "sum"}, "spec": {"completions": 3, "parallelism": 2,
        "completionMode": "Indexed", "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "job:1"}]}}}});
    lab.kubectl.apply(&job.to_string())?;
    lab.run("wait --for=condition=complete job/sum --timeout=60s")?;
    ensure!(lab.run("get job sum -o jsonpath={.status.succeeded}/{.status.completedIndexes}")? == "3/0-2");
    let tracked = |pod: &Value| pod["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
    lab.until("no pod waits to be counted", || Ok(!lab.items("pods")?.iter().any(tracked)))?;
    lab.run("create cronjob tick --image=job:1 --schedule=@yearly")?;
    lab.run("create job now --from=cronjob/tick")?;
    lab.run("wait --for=condition=complete job/now --timeout=60s")?;
    // As if it had been made before its time had come.
    let due = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tock"}, "spec": {"schedule": "* * * * *",
        "timeZone": "Europe/Berlin", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never",
        "containers": [{"name": "c", "image": "job:1"}]}}}}}});
    lab.kubectl.apply(&due.to_string())?;
    let earlier = r#"{"status":{"lastScheduleTime":"2026-01-01T00:00:00Z"}}"#;
    lab.run(&format!("patch cronjob tock --subresource=status --type=merge -p {earlier}"))?;
    lab.until("its last missed time is made up for", || {
        Ok(lab.items("jobs")?.iter().any(|job| text(job, "/metadata/name").starts_with("tock-")))
    })
}

#[test]
fn a_stateful_set_comes_in_order_each_pod_with_its_volume() -> Result<()> {
    let lab = Lab::start(&["n1"])?;
    for name in ["v0", "v1"] {
        let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {"capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/srv"}}});
        lab.kubectl.apply(&volume.to_string())?;
    }
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {"serviceName": "db", "replicas": 2,
        "selector": {"matchLabels": {"app": "db"}}, "volumeClaimTemplates": [claim],
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "db:1"}]}}}});
    lab.kubectl.apply(&set.to_string())?;
    lab.run("rollout status statefulset/db --timeout=60s")?;
    let pods = lab.items("pods")?;
    let version =
        |pod: &Value| text(pod, "/metadata/creationTimestamp").to_owned() + text(pod, "/metadata/name");
    ensure!(pods.len() == 2 && version(&pods[0]) < version(&pods[1]), "{pods:#?}");
    let bound = lab.run("get pvc data-db-0 data-db-1 -o jsonpath={.items[*].status.phase}")?;
    ensure!(bound == "Bound Bound", "{bound}");
    lab.run("scale statefulset/db --replicas=1")?;
    lab.until("the last one goes", || {
        let pods = lab.items("pods")?;
        Ok(pods.len() == 1 && text(&pods[0], "/metadata/name") == "db-0")
    })?;
    ensure!(lab.items("pvc")?.len() == 2, "its claim stays");
    lab.run("set image statefulset/db c=db:2")?;
    lab.run("rollout status statefulset/db --timeout=60s")?;
    ensure!(text(&lab.items("pods")?[0], "/spec/containers/0/image") == "db:2");
    Ok(())
}

#[test]
fn a_daemon_set_follows_the_nodes() -> Result<()> {
    let lab = Lab::start(&["n1"])?;
    let set = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"}, "spec": {
        "selector": {"matchLabels": {"app": "agent"}},
        "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "c", "image": "agent:1"}]}}}});
    lab.kubectl.apply(&set.to_string())?;
    lab.run("rollout status daemonset/agent --timeout=60s")?;
    lab.players.add("n2")?;
    let places = || -> Result<Vec<String>> {
        let mut places: Vec<String> =
            lab.items("pods")?.iter().map(|pod| text(pod, "/spec/nodeName").to_owned()).collect();
        places.sort();
        Ok(places)
    };
    lab.until("a pod on each node", || Ok(places()? == ["n1", "n2"]))?;
    lab.run("set image daemonset/agent c=agent:2")?;
    lab.run("rollout status daemonset/agent --timeout=60s")?;
    lab.run("rollout undo daemonset/agent")?;
    lab.until("the first image is back", || {
        let pods = lab.items("pods")?;
        Ok(pods.len() == 2 && pods.iter().all(|pod| text(pod, "/spec/containers/0/image") == "agent:1"))
    })?;
    lab.players.remove("n2")?;
    lab.until("none on the node that is gone", || Ok(places()? == ["n1"]))
}

#[test]
fn a_silent_node_is_tainted_and_its_pods_move_when_they_tolerate_it_no_longer() -> Result<()> {
    let lab = Lab::start(&["n1", "n2"])?;
    let toleration = |key: &str| json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
        "tolerations": [toleration("unreachable"), toleration("not-ready")], "containers": [{"name": "c", "image": "web:1"}]}}}});
    lab.kubectl.apply(&deployment.to_string())?;
    lab.run("rollout status deployment/web --timeout=60s")?;
    let place = text(&lab.items("pods")?[0], "/spec/nodeName").to_owned();
    lab.players.silence(&place);
    let taints = || lab.run(&format!("get node {place} -o jsonpath={{.spec.taints[*].key}}"));
    wait::for_true("the node is unreachable", 2 * LONG, || {
        Ok(taints()?.contains("node.kubernetes.io/unreachable"))
    })?;
    lab.until("a pod elsewhere", || {
        let pods = lab.items("pods")?;
        Ok(pods
            .iter()
            .any(|pod| text(pod, "/spec/nodeName") != place && text(pod, "/status/phase") == "Running"))
    })?;
    lab.players.add(&place)?;
    lab.until("the taints go", || Ok(taints()?.is_empty()))
}

#[test]
fn a_controller_that_is_turned_off_does_nothing() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let folder = scratch.path().join("cloud");
    let off = "modules.standalone.controllers=[\"*\", \"-replicaset-controller\"]";
    let cloud = Cloud::init_with(&Programs::find()?, &folder, &[off])?;
    let kubectl = cloud.kubectl();
    let names = |kind: &str| kubectl.run(&["get", kind, "-o", "name"]);
    kubectl.run(&["create", "deployment", "web", "--image=web:1"])?;
    wait::for_true("a set", LONG, || Ok(!names("replicasets")?.is_empty()))?;
    kubectl.run(&["create", "job", "sum", "--image=job:1"])?;
    wait::for_true("the job's pod", LONG, || Ok(names("pods")?.contains("pod/sum")))?;
    ensure!(!names("pods")?.contains("pod/web"));
    Ok(())
}

#[test]
fn a_deployment_and_a_job_run_on_a_real_edge() -> Result<()> {
    let site = Site::start(&Programs::find()?, true, |_| {})?;
    site.node_ready()?;
    let kubectl = site.kubectl();
    let container = |command: &[&str]| json!({"name": "c", "image": IMAGE, "command": command});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 2,
        "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
        "terminationGracePeriodSeconds": 0, "containers": [container(&["sleep", "1000000"])]}}}});
    kubectl.apply(&deployment.to_string())?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    let nodes = kubectl.run(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].spec.nodeName}"])?;
    ensure!(nodes.split_whitespace().all(|node| node == NODE) && !nodes.is_empty(), "{nodes}");
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [container(&["true"])]}}}});
    kubectl.apply(&job.to_string())?;
    kubectl.run(&["wait", "--for=condition=complete", "job/once", "--timeout=60s"])?;
    kubectl.run(&["delete", "deployment/web", "job/once"])?;
    wait::for_true("the pods go", LONG, || Ok(kubectl.run(&["get", "pods", "-o", "name"])?.is_empty()))
}
