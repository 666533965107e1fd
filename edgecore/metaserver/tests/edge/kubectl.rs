//! The real kubectl, if there is one, with the token of a pod.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::cloud::Cloud;
use crate::node::Node;

/// False, with a reason, if there is no kubectl; in CI that is a failure.
async fn missing() -> bool {
    let found =
        Command::new("kubectl").args(["version", "--client"]).stdout(Stdio::null()).status().await.is_ok();
    if !found {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "kubectl must be installed in CI");
        eprintln!("skipped: kubectl is not on PATH");
    }
    !found
}

fn command(node: &Node, token: &str, line: &str) -> Command {
    let ca = node.folder.path().join("metaserver/ca.crt");
    let mut command = Command::new("kubectl");
    command.env("HOME", node.folder.path()).env_remove("KUBECONFIG");
    command.arg("--server").arg(format!("https://{}", node.address()));
    command.arg("--certificate-authority").arg(ca).args(["--token", token, "-n", "shop"]);
    command.args(line.split_whitespace());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn run(node: &Node, token: &str, line: &str, input: &str) -> (bool, String) {
    let mut child = command(node, token, line).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

#[track_caller]
fn shows(found: (bool, String), wanted: &[&str]) {
    assert!(found.0, "{}", found.1);
    for text in wanted {
        assert!(found.1.contains(text), "no {text:?} in:\n{}", found.1);
    }
}

const MAP: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: made, labels: {app: made}}\ndata: {k: v}\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_everyday_commands_work_and_offline_those_that_read() {
    if missing().await {
        return;
    }
    let cloud = Cloud::start().await;
    cloud.config_map("a", "1").await;
    let node = Node::start(&cloud).await;
    let token = &cloud.token("reader");
    shows(run(&node, token, "create -f -", MAP).await, &["configmap/made created"]);
    shows(run(&node, token, "get configmaps", "").await, &["NAME", "DATA", "AGE", "a ", "made "]);
    shows(run(&node, token, "get cm a -o yaml", "").await, &["kind: ConfigMap", "resourceVersion"]);
    shows(run(&node, token, "describe cm a", "").await, &["Name:", "Data"]);
    shows(run(&node, token, "api-resources", "").await, &["deployments", "customresourcedefinitions"]);
    shows(run(&node, token, "explain configmap.data", "").await, &["FIELD: data"]);
    shows(run(&node, token, "auth can-i get configmaps", "").await, &["yes"]);
    shows(run(&node, token, "version", "").await, &["Server Version"]);

    let mut watching = command(&node, token, "get cm --watch -o name").spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.push(lines.next_line().await.unwrap().unwrap());
    }
    assert_eq!(seen, ["configmap/a", "configmap/made"]);
    cloud.cut();
    cloud.config_map("z", "1").await;

    let stale = run(&node, token, "get configmaps", "").await;
    shows(stale, &["a ", "made ", "Warning: the cloud cannot be asked since"]);
    shows(run(&node, token, "get cm a -o jsonpath={.data.k}", "").await, &["1"]);
    shows(run(&node, token, "describe cm a", "").await, &["Name:         a", "Events:"]);
    // Nobody has asked for its events.
    shows(run(&node, token, "describe cm made --show-events=false", "").await, &["Name:         made"]);
    let refused = run(&node, token, "delete cm made", "").await;
    assert!(!refused.0 && refused.1.contains("cut off from the cloud"), "{}", refused.1);
    let refused = run(&node, token, "get secrets", "").await;
    assert!(!refused.0 && refused.1.contains("Forbidden"), "{}", refused.1);

    cloud.mend();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "configmap/z", "the watch went on over the cut");
    shows(run(&node, token, "delete cm made", "").await, &["deleted"]);
}
