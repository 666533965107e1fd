//! The real kubectl, if there is one.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::client::Server;

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

fn command(server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command.env("KUBECONFIG", server.kubeconfig()).env("HOME", server.folder.path()).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn run(server: &Server, line: &str, input: &str) -> (bool, String) {
    let arguments: Vec<&str> = line.split_whitespace().collect();
    let mut child = command(server, &arguments).spawn().unwrap();
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

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: demo, labels: {app: web}}
spec:
  nodeName: edge-1
  containers:
  - {name: main, image: "nginx:1.27", ports: [{containerPort: 80}]}
"#;

#[tokio::test]
async fn the_everyday_commands_work() {
    if missing().await {
        return;
    }
    let server = Server::start().await;
    shows(run(&server, "version", "").await, &["Server Version: v1.36"]);
    shows(run(&server, "create namespace demo", "").await, &["created"]);
    shows(run(&server, "-n demo create configmap settings --from-literal=a=b", "").await, &["created"]);
    shows(run(&server, "-n demo create secret generic keys --from-literal=a=b", "").await, &["created"]);
    shows(run(&server, "-n demo create token default", "").await, &["ey"]);
    shows(run(&server, "auth can-i create pods", "").await, &["yes"]);
    shows(run(&server, "apply -f -", POD).await, &["pod/web created"]);
    shows(run(&server, "apply -f -", POD).await, &["pod/web unchanged"]);
    let newer = POD.replace("1.27", "1.28");
    shows(run(&server, "apply -f -", &newer).await, &["pod/web configured"]);
    shows(
        run(&server, "-n demo get pods -o wide", "").await,
        &["NOMINATED NODE", "web", "0/1", "Pending", "edge-1"],
    );
    shows(
        run(&server, "-n demo get pod web -o yaml", "").await,
        &["nginx:1.28", "kube-root-ca.crt", "qosClass: BestEffort"],
    );
    shows(run(&server, "-n demo describe pod web", "").await, &["edge-1/", "nginx:1.28", "QoS Class"]);
    shows(run(&server, "-n demo describe configmap settings", "").await, &["settings"]);
    shows(run(&server, "-n demo label pod web tier=front", "").await, &["labeled"]);
    shows(run(&server, "-n demo annotate pod web note=1", "").await, &["annotated"]);
    shows(run(&server, "-n demo get pods -l tier=front -o name", "").await, &["pod/web"]);
    let ready = r#"{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}"#;
    shows(
        run(&server, &format!("-n demo patch pod web --subresource=status -p {ready}"), "").await,
        &["patched"],
    );
    shows(
        run(&server, "-n demo wait --for=condition=Ready pod/web --timeout=30s", "").await,
        &["condition met"],
    );
    shows(run(&server, "-n demo delete pod web --wait=false", "").await, &["deleted"]);
    shows(run(&server, "-n demo get pods", "").await, &["Terminating"]);
    shows(run(&server, "-n demo delete pod web --grace-period=0 --force", "").await, &["deleted"]);
    shows(run(&server, "get all -A", "").await, &["service/kubernetes"]);
    shows(run(&server, "delete namespace demo --timeout=30s", "").await, &["deleted"]);
    server.stop().await;
}

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: main, image: "nginx:1.27", resources: {limits: {cpu: "1", memory: 512Mi}}}
      volumes: [{name: v, configMap: {name: m, defaultMode: 0644}}]
"#;

#[tokio::test]
async fn explain_knows_the_fields_of_built_in_kinds() {
    if missing().await {
        return;
    }
    let server = Server::start().await;
    let containers = ["List of containers belonging to the pod.", "image", "imagePullPolicy"];
    shows(run(&server, "explain pods.spec.containers", "").await, &containers);
    shows(run(&server, "explain deployment.spec.replicas", "").await, &["FIELD: replicas <integer>"]);
    shows(run(&server, "explain lease --recursive", "").await, &["renewTime", "holderIdentity"]);
    let (ok, text) = run(&server, "explain pods.spec.nope", "").await;
    assert!(!ok && text.contains("nope"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn manifests_with_unknown_fields_are_refused_unless_validation_is_off() {
    if missing().await {
        return;
    }
    let server = Server::start().await;
    let odd = DEPLOYMENT.replace("replicas:", "replica:").replace("\"1\", memory: 512Mi", "1, memory: 0.5Gi");
    let (ok, text) = run(&server, "create -f -", &odd).await;
    assert!(!ok && text.contains("unknown field \"spec.replica\""), "{text}");
    shows(run(&server, "create --validate=warn -f -", &odd).await, &["Warning: unknown field", "created"]);
    let (ok, text) = run(&server, "apply -f -", &odd.replace("nginx", "apache")).await;
    assert!(!ok && text.contains("unknown field \"spec.replica\""), "{text}");
    shows(run(&server, "get deployment web -o jsonpath={.spec}", "").await, &["\"cpu\":\"1\"", "512Mi"]);
    server.stop().await;
}

#[tokio::test]
async fn apply_moves_from_the_client_to_the_server_and_back() {
    if missing().await {
        return;
    }
    let server = Server::start().await;
    shows(run(&server, "apply -f -", DEPLOYMENT).await, &["created"]);
    let newer = DEPLOYMENT.replace("1.27", "1.28");
    shows(run(&server, "apply --server-side -f -", &newer).await, &["serverside-applied"]);
    shows(run(&server, "get deployment web -o jsonpath={..image}", "").await, &["nginx:1.28"]);
    let shown = run(&server, "get deployment web --show-managed-fields -o yaml", "").await;
    shows(shown, &["manager: kubectl", "operation: Apply", "k:{\"name\":\"main\"}"]);
    let (ok, text) = run(&server, "diff --server-side -f -", &newer).await;
    assert!(ok, "{text}");
    let (ok, text) = run(&server, "diff -f -", DEPLOYMENT).await;
    assert!(!ok && text.contains("- image: nginx:1.28") && text.contains("- image: nginx:1.27"), "{text}");
    let patch = "patch deployment web --field-manager=other -p {\"spec\":{\"replicas\":5}}";
    shows(run(&server, patch, "").await, &["patched"]);
    let (ok, text) = run(&server, "apply --server-side -f -", &newer).await;
    assert!(!ok && text.contains("conflict with \"other\"") && text.contains(".spec.replicas"), "{text}");
    let forced = run(&server, "apply --server-side --force-conflicts -f -", &newer).await;
    shows(forced, &["serverside-applied"]);
    shows(run(&server, "get deployment web -o jsonpath={.spec.replicas}", "").await, &["1"]);
    shows(run(&server, "apply -f -", &DEPLOYMENT.replace("1.27", "1.29")).await, &["configured"]);
    shows(run(&server, "get deployment web -o jsonpath={..image}", "").await, &["nginx:1.29"]);
    server.stop().await;
}

#[tokio::test]
async fn edit_changes_what_is_edited_and_is_recorded() {
    if missing().await {
        return;
    }
    let server = Server::start().await;
    shows(run(&server, "apply --server-side -f -", DEPLOYMENT).await, &["serverside-applied"]);
    let mut editing = command(&server, &["edit", "deployment", "web"]);
    let output = editing.env("KUBE_EDITOR", "sed -i s/nginx/apache/").output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = run(&server, "get deployment web --show-managed-fields -o yaml", "").await;
    shows(shown, &["image: apache:1.27", "manager: kubectl-edit"]);
    server.stop().await;
}

#[tokio::test]
async fn a_watch_prints_changes_as_they_come() {
    if missing().await {
        return;
    }
    let server = Server::start().await;
    let mut child = command(&server, &["get", "configmaps", "-w"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || lines.next_line().await.unwrap().unwrap();
    assert!(next().await.starts_with("NAME"));
    assert!(next().await.starts_with("kube-root-ca.crt"));
    shows(run(&server, "create configmap fresh", "").await, &["created"]);
    assert!(next().await.starts_with("fresh"));
    child.kill().await.unwrap();
    server.stop().await;
}

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: devices.demo.io}
spec:
  group: demo.io
  scope: Namespaced
  names: {plural: devices, kind: Device, shortNames: [dv]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns:
    - {name: Mode, type: string, jsonPath: .spec.mode}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [count]
            properties:
              mode: {type: string, default: slow}
              count: {type: integer, format: int64}
              visitors: {type: array, items: {type: object, x-kubernetes-preserve-unknown-fields: true}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"#;

const DEVICE: &str = r#"
apiVersion: demo.io/v1
kind: Device
metadata: {name: lamp}
spec: {count: 1, visitors: [{any: {thing: [1]}}]}
"#;

#[tokio::test]
async fn custom_resources_feel_built_in() {
    if missing().await {
        return;
    }
    let server = Server::start().await;
    shows(run(&server, "apply -f -", DEFINITION).await, &["created"]);
    shows(run(&server, "apply -f -", DEFINITION).await, &["unchanged"]);
    shows(
        run(&server, "wait --for=condition=Established crd/devices.demo.io --timeout=30s", "").await,
        &["condition met"],
    );
    shows(run(&server, "apply -f -", DEVICE).await, &["device.demo.io/lamp created"]);
    shows(run(&server, "apply -f -", &DEVICE.replace("count: 1", "count: 2")).await, &["configured"]);
    shows(run(&server, "get dv", "").await, &["MODE", "AGE", "lamp", "slow"]);
    shows(run(&server, "describe device lamp", "").await, &["Count:  2", "Thing:"]);
    shows(run(&server, "explain device.spec", "").await, &["count", "<integer> -required-"]);
    let (ok, text) = run(&server, "apply -f -", &DEVICE.replace("count: 1", "count: many")).await;
    assert!(!ok && text.contains("spec.count"), "{text}");
    let (ok, text) = run(&server, "apply -f -", &DEVICE.replace("count: 1", "count: 1, odd: 1")).await;
    assert!(!ok && text.contains("spec.odd"), "{text}");
    shows(run(&server, "delete -f -", DEVICE).await, &["deleted"]);
    shows(run(&server, "delete crd devices.demo.io", "").await, &["deleted"]);
    server.stop().await;
}
