//! A stock kubelet in front of EdgeCore in hub form, on the embedded API server or on a given cluster.
//!
//! `CAUSEWAY_KUBELET=FILE cargo nextest run -p e2e --test hub_kubelet`; `CAUSEWAY_KUBECONFIG=FILE` for a cluster that is there.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::stock::{self, Hub, Kubelet};
use harness::cloud::NODE_IDENTITY;
use harness::kubectl::Kubectl;
use harness::programs::{self, Programs};
use harness::site::{IMAGE, NODE, Site};
use harness::wait::{self, PATIENCE};
use serde_json::{Value, json};

const POD: &str = "behind-the-hub";
/// Bytes of a file that is copied each way.
const FILE: usize = 4 * 1024 * 1024;
/// An account that may ask nodes.
const ASKS: &str = "causeway-asks-nodes";
const LEASE: &str = "leases.coordination.k8s.io/edge-1";

fn pod() -> String {
    let serve = "mkdir -p /www; echo served > /www/index.html; httpd -p 8080 -h /www; echo started";
    let script = format!("{serve}; trap 'exit 0' TERM; while true; do sleep 1; done");
    let command = ["sh", "-c", &script];
    let spec = json!({
        "nodeName": NODE, "terminationGracePeriodSeconds": 1, "restartPolicy": "Always",
        "containers": [{ "name": "c", "image": IMAGE, "command": command }],
    });
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": POD }, "spec": spec }).to_string()
}

/// The container's id without its scheme, and how often it was started again; once it runs.
fn running(kubectl: &Kubectl) -> Result<Option<(String, u64)>> {
    let pod: Value = kubectl.get("pod", POD)?;
    let status = &pod["status"]["containerStatuses"][0];
    let id = status["containerID"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let runs = status["ready"] == true && status["state"]["running"].is_object();
    Ok(runs.then(|| (id.to_owned(), status["restartCount"].as_u64().unwrap_or_default())))
}

fn runs_after(kubectl: &Kubectl, restarts: u64) -> Result<String> {
    let what = format!("the pod ready after {restarts} restarts");
    let found = wait::until(&what, PATIENCE, || {
        Ok(running(kubectl)?.filter(|(_, restarted)| *restarted == restarts))
    })?;
    Ok(found.0)
}

fn renewed(kubectl: &Kubectl) -> Result<String> {
    kubectl.run(&["-n", "kube-node-lease", "get", LEASE, "-o", "jsonpath={.spec.renewTime}"])
}

/// Waits until the lease says another time than `before`, and the node is ready.
fn beats(kubectl: &Kubectl, before: &str) -> Result<String> {
    let ready = ".status.conditions[?(@.type==\"Ready\")].status";
    wait::until("a heartbeat of a ready node", PATIENCE, || {
        let now = renewed(kubectl)?;
        let is_ready = kubectl.field("node", NODE, ready)? == "True";
        Ok(Some(now).filter(|now| now.as_str() > before && is_ready))
    })
}

/// A child that is ended with the test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// kubectl, and the lines that it prints.
fn following(kubectl: &Kubectl, arguments: &[&str]) -> Result<(Ending, Lines<BufReader<ChildStdout>>)> {
    let mut command = kubectl.command(arguments);
    let mut child = Ending(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
    let lines = BufReader::new(child.0.stdout.take().context("no output")?).lines();
    Ok((child, lines))
}

/// Prints a line as the pod's own program.
fn say(kubectl: &Kubectl, line: &str) -> Result<()> {
    let script = format!("echo {line} > /proc/1/fd/1");
    kubectl.run(&["exec", POD, "--", "sh", "-c", &script]).map(drop)
}

/// What the cloud asks of the pod and of the node, through the link and the kubelet.
fn streams(site: &Site) -> Result<()> {
    let cloud = site.kubectl();
    ensure!(cloud.run(&["logs", POD])? == "started\n");
    let (_followed, mut lines) = following(&cloud, &["logs", "-f", POD])?;
    ensure!(lines.next().context("a first line")?? == "started");
    say(&cloud, "followed")?;
    ensure!(lines.next().context("a second line")?? == "followed");
    let (_attached, mut lines) = following(&cloud, &["attach", POD])?;
    // It may be attached after the first of them.
    let told = std::thread::spawn(move || lines.next());
    wait::for_true("what is attached to", PATIENCE, || {
        say(&cloud, "attached")?;
        Ok(told.is_finished())
    })?;
    let told = told.join().map_err(|_| anyhow::anyhow!("the reader failed"))?;
    ensure!(told.context("a line")?? == "attached");

    let script = "cat; echo err >&2; exit 7";
    let mut command = cloud.command(&["exec", "-i", POD, "--", "sh", "-c", script]);
    let mut ran = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    ran.stdin.take().context("no input")?.write_all(b"said to it")?;
    let ran = ran.wait_with_output()?;
    let error = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.stdout == b"said to it" && error.contains("err") && ran.status.code() == Some(7), "{ran:?}");

    let (there, back) = (site.folder().join("there"), site.folder().join("back"));
    let file: Vec<u8> = (0..FILE).map(|at| (at * 31 % 251) as u8).collect();
    std::fs::write(&there, &file)?;
    let pod = format!("{POD}:/copied");
    cloud.run(&["cp", &there.to_string_lossy(), &pod])?;
    cloud.run(&["cp", &pod, &back.to_string_lossy()])?;
    ensure!(std::fs::read(back)? == file, "what came back is what went");

    let (_forwards, mut lines) = following(&cloud, &["port-forward", &format!("pod/{POD}"), ":8080"])?;
    let said = lines.next().context("a port")??;
    let port =
        said.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).context(said.clone())?;
    let mut get = Command::new("curl");
    get.args(["-sSf", "-m", "30", &format!("http://127.0.0.1:{port}/index.html")]);
    ensure!(programs::run(get)? == "served\n");

    let raw = |path: &str| cloud.run(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/{path}")]);
    // The whole of it takes a root file system that cAdvisor knows, which not every machine of a test has.
    let summary: Value = serde_json::from_str(&raw("stats/summary?only_cpu_and_memory=true")?)?;
    let pods = summary["pods"].as_array().cloned().unwrap_or_default();
    ensure!(
        summary["node"]["nodeName"] == NODE && pods.iter().any(|pod| pod["podRef"]["name"] == POD),
        "{summary}"
    );
    ensure!(raw("healthz")? == "ok" && raw("pods")?.contains(POD));
    ensure!(raw("metrics/resource")?.contains("node_cpu_usage_seconds_total"));
    let refused = raw("debug/pprof/").err().context("no path of the Node API")?;
    ensure!(format!("{refused:#}").contains("the Node API of a hub has no"), "{refused:#}");
    Ok(())
}

/// What is asked of the kubelet where API servers are led to.
fn at_the_stream_server(site: &Site) -> Result<()> {
    let cloud = site.kubectl();
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": ASKS, "namespace": "default" } });
    let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": ASKS },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:kubelet-api-admin" },
        "subjects": [{ "kind": "ServiceAccount", "name": ASKS, "namespace": "default" }] });
    cloud.apply(&account.to_string())?;
    cloud.apply(&binding.to_string())?;
    let asks = |account: &str, path: &str| {
        let token = cloud.run(&["create", "token", account])?;
        let config = std::fs::read_to_string(site.cloud.root.join("etc/kubeedge/config/cloudcore.yaml"))?;
        let port = config.lines().find_map(|line| line.trim().strip_prefix("streamPort: "));
        let url = format!("https://127.0.0.1:{}{path}", port.context("the stream server's port")?);
        let mut get = Command::new("curl");
        get.args([
            "-sSk",
            "--fail-with-body",
            "-m",
            "30",
            "-H",
            &format!("Authorization: Bearer {}", token.trim()),
            &url,
        ]);
        programs::run(get)
    };
    let path = format!("/containerLogs/default/{POD}/c");
    ensure!(asks(ASKS, &path)? == "started\n");
    ensure!(
        asks("default", &path).is_err(),
        "whoever may not ask nodes is refused before the kubelet is asked"
    );
    Ok(())
}

/// What root on the node asks of its pods.
fn from_the_node(node: &Kubectl) -> Result<()> {
    ensure!(node.run(&["logs", POD])?.contains("started\n"));
    ensure!(node.run(&["exec", POD, "--", "echo", "done"])? == "done\n");
    Ok(())
}

fn tasks(site: &Site) -> Result<BTreeSet<String>> {
    Ok(site.running_tasks()?.into_iter().collect())
}

fn story(site: &Site, kubelet: &mut Kubelet, node: &Kubectl) -> Result<()> {
    let cloud = site.kubectl();
    wait::for_true("the node registered by its kubelet", PATIENCE, || {
        kubelet.check()?;
        Ok(cloud.get("node", NODE).is_ok())
    })?;
    beats(&cloud, "")?;
    wait::for_true("the account of pods", PATIENCE, || Ok(cloud.get("serviceaccount", "default").is_ok()))?;
    cloud.apply(&pod())?;
    runs_after(&cloud, 0)?;
    wait::for_true("the log of the pod", PATIENCE, || Ok(node.run(&["logs", POD])?.contains("started")))?;
    from_the_node(node)?;
    match harness::given::kubeconfig() {
        None => streams(site)?,
        // A cluster's own API server asks the kubelet itself, unless its requests are led to CloudCore.
        Some(_) => at_the_stream_server(site)?,
    }
    let first = running(node)?.context("the pod as the node sees it")?.0;

    site.relay.cut();
    stock::wait_until_cut(node)?;
    let told = cloud.get("pod", POD)?["status"].clone();
    site.kill_container(&first)?;
    let second = runs_after(node, 1)?;
    ensure!(second != first && site.running_tasks()?.contains(&second));
    from_the_node(node)?;

    kubelet.kill9()?;
    site.edge.kill9()?;
    let before = tasks(site)?;
    site.edge.start()?;
    wait::for_true("the hub again", PATIENCE, || Ok(renewed(node).is_ok()))?;
    let kept = renewed(node)?;
    kubelet.again()?;
    let meanwhile = beats(node, &kept)?;
    // A kubelet that took the pod for gone would have ended it by then.
    wait::pause(Duration::from_secs(5));
    let after = tasks(site)?;
    ensure!(after == before, "other containers run than before: {after:?}, not {before:?}");
    ensure!(runs_after(node, 1)? == second);
    ensure!(cloud.get("pod", POD)?["status"] == told, "the cloud heard of it while the node was cut off");

    site.relay.heal();
    ensure!(runs_after(&cloud, 1)? == second);
    beats(&cloud, &meanwhile)?;
    kubelet.check()?;
    cloud.run(&["delete", "pod", POD, "--wait=false"])?;
    wait::for_true("the end of the pod", PATIENCE, || {
        Ok(cloud.get("pod", POD).is_err() && !site.running_tasks()?.contains(&second))
    })
}

#[test]
fn a_stock_kubelet_behind_the_hub_goes_on_without_the_cloud_and_restarts_without_it() -> Result<()> {
    let Some(binary) = stock::binary("CAUSEWAY_KUBELET") else { return Ok(()) };
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let hub = Hub::new(Ipv4Addr::new(127, 0, 0, 2))?;
    let settings = hub.settings();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let site = Site::start_on(&Programs::find()?, true, (&[NODE_IDENTITY], &settings), |_| {})?;
    let kubeconfig = Hub::kubeconfig(&site)?;
    let folder = site.folder().join("kubelet");
    let runtime = site.containerd()?.socket();
    let mut kubelet = Kubelet::start(&binary, &folder, (NODE, &kubeconfig), (hub.kubelet, &runtime))?;
    let told = story(&site, &mut kubelet, &Kubectl::new(&kubeconfig));
    let _ = std::fs::copy(kubelet.log(), site.kept_logs().join("kubelet.log"));
    told
}
