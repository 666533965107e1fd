//! Pods that a cloud as KubeEdge's own behaves (`e2e::go_cloud`) gives to EdgeCore.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::go_cloud::{Controller, Lab, is, plain_error, runtime, status};
use e2e::recorded;
use harness::containerd::Containerd;
use harness::{images, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Long enough for everything that is on its way.
const QUIET: Duration = Duration::from_millis(1500);
/// Far less than the 30 s after which an unanswered question is given up.
const SOON: Duration = Duration::from_secs(12);

const CONFIG_MAP: &str = "013-down-edgecontroller-resource-update-configmap.json";
const POD: &str = "015-down-edgecontroller-resource-insert-pod.json";
const POD_NAME: &str = "bb-77c47d587-w4d2c";

/// A private containerd with the image of the recorded pod.
struct Runtime {
    containerd: Containerd,
    _folder: TempDir,
}

impl Runtime {
    async fn start() -> Result<Runtime> {
        let folder = tempfile::tempdir()?;
        let containerd = Containerd::start(&folder.path().join("cri"), true).await?;
        containerd.import(&images::busybox("lab.local/busybox:1.35")).await?;
        Ok(Runtime { containerd, _folder: folder })
    }

    fn socket(&self) -> PathBuf {
        Path::new(self.containerd.socket().trim_start_matches("unix://")).to_owned()
    }
}

/// Whether a message reports that this pod runs.
fn is_running(message: &Value, pod: &str) -> bool {
    let patch = message["content"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    message["route"]["resource"] == format!("default/podpatch/{pod}")
        && patch.is_some_and(|patch| patch["status"]["phase"] == "Running")
}

#[test]
fn a_pod_of_a_go_cloud_runs_is_reported_and_goes() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    runtime()?.block_on(async {
        let runtime = Runtime::start().await?;
        let (lab, mut session) = Lab::start(Some(&runtime.socket()), &[]).await?;
        session.controller = Some(failing_controller()?);

        // Registration: an error without a name, then the node; then its status and its lease.
        session.wait_for("a registration", is("insert", "null/node/edge1")).await?;
        session.wait_for("another", is("insert", "null/node/edge1")).await?;
        session.wait_for("the node's status", is("patch", "null/nodepatch/edge1")).await?;
        let lease = session.wait_for("the lease", is("insert", "kube-node-lease/lease/edge1")).await?;
        let owner = &lease["content"]["metadata"]["ownerReferences"][0];
        ensure!(owner["uid"] == "aa88c1a3-6bdc-47f1-b4bc-a244f741c03d", "{lease}");

        let pod = session.fresh(POD)?;
        session.deliver_object(&pod).await?;
        session.wait_for("status Running", |message| is_running(message, POD_NAME)).await?;
        for (operation, resource) in [
            ("query", "default/configmap/app-config"),
            ("query", "default/secret/app-secret"),
            ("query", "default/configmap/kube-root-ca.crt"),
            ("query", "default/serviceaccounttoken/default"),
        ] {
            ensure!(session.received.iter().any(is(operation, resource)), "no {operation} of {resource}");
        }
        // Answers in acknowledged mode are acknowledged, refused ones are not stored.
        session.listen(QUIET).await?;
        ensure!(session.is_settled(), "an answer is not acknowledged");
        let (secret, _) = lab.stored("default/secret/app-secret")?.context("the secret")?;
        ensure!(secret["data"]["password"] == "czNjcmV0", "the stored secret is another");

        // KubeEdge echoes every status as a full pod.
        let echo = session.fresh("018-down-edgecontroller-resource-update-pod.json")?;
        session.deliver_object(&echo).await?;
        // Deletion: marked, stopped here, asked for, done.
        let gone = recorded::message("047-down-edgecontroller-resource-delete-pod.json")?;
        let mut marked = gone.clone();
        marked["header"]["msg_id"] = "marked".into();
        marked["header"]["resourceversion"] = "15940".into();
        marked["content"]["metadata"]["resourceVersion"] = "15940".into();
        marked["content"]["metadata"]["deletionGracePeriodSeconds"] = 1.into();
        marked["route"]["operation"] = "update".into();
        session.deliver_object(&marked).await?;
        let deletion =
            session.wait_for("the deletion", is("delete", "default/pod/bb-77c47d587-w4d2c")).await?;
        let uid = &deletion["content"]["preconditions"]["uid"];
        ensure!(*uid == gone["content"]["metadata"]["uid"], "{deletion}");
        session.deliver_object(&gone).await?;
        ensure!(lab.stored("default/pod/bb-77c47d587-w4d2c")?.is_none());
        session.wait_for("a renewed lease", is("update", "kube-node-lease/lease/edge1")).await?;
        ensure!(session.received.iter().all(|message| message["route"]["operation"] != "error"));
        drop(lab);
        Ok(())
    })
}

/// Its cloud keeps one answer per object: the second asker's takes the place of the first's (`go_cloud::pool`).
#[test]
fn two_pods_that_mount_the_same_objects_run_within_seconds() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    runtime()?.block_on(async {
        let runtime = Runtime::start().await?;
        let (_lab, mut session) = Lab::start(Some(&runtime.socket()), &[]).await?;
        session.controller = Some(controller()?);
        session.wait_for("the node's status", is("patch", "null/nodepatch/edge1")).await?;
        let names = ["first", "second"];
        let begin = wait::now();
        for name in names {
            let mut pod = session.fresh(POD)?;
            pod["route"]["resource"] = format!("default/pod/{name}").into();
            pod["content"]["metadata"]["name"] = name.into();
            pod["content"]["metadata"]["uid"] = format!("{name}-0000-4000-8000-000000000000").into();
            session.deliver_object(&pod).await?;
        }
        for name in names {
            let runs = |message: &Value| is_running(message, name);
            if !session.received.iter().any(runs) {
                session.wait_for("status Running", runs).await?;
            }
        }
        let taken = begin.elapsed();
        ensure!(taken < SOON, "both run after {taken:?}");
        session.listen(QUIET).await?;
        ensure!(session.is_settled(), "an answer is not acknowledged");
        Ok(())
    })
}

/// A cluster that holds what the recorded pod refers to.
fn controller() -> Result<Controller> {
    let mut controller = Controller::default();
    controller.token_end = "2099-01-01T00:00:00Z".to_owned();
    let mut hold = |file: &str, name: &str| -> Result<()> {
        let mut object = recorded::message(file)?["content"].take();
        object["metadata"]["name"] = name.into();
        let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
        controller.objects.insert(format!("default/{kind}/{name}"), object);
        Ok(())
    };
    let root = "027-down-edgecontroller-resource-response-configmap.data.json";
    hold(CONFIG_MAP, "app-config")?;
    hold("022-down-edgecontroller-resource-response-secret.data.json", "app-secret")?;
    hold(root, "kube-root-ca.crt")?;
    hold(root, "openshift-service-ca.crt")?;
    let service_ca =
        controller.objects.get_mut("default/configmap/openshift-service-ca.crt").context("held")?;
    service_ca["metadata"]["uid"] = "453e55c0-0000-4000-8000-000000000000".into();
    service_ca["data"] = json!({"service-ca.crt": "none"});
    Ok(controller)
}

/// The same, which fails at first as Go clouds fail.
fn failing_controller() -> Result<Controller> {
    let mut controller = controller()?;
    for (asked, contents) in [
        ("insert null/node/edge1", vec![json!({"Object": null, "Err": {}})]),
        ("query default/secret/app-secret", vec![plain_error(), status(404, "NotFound")]),
        ("query default/configmap/app-config", vec![status(500, "InternalError")]),
        ("query default/serviceaccounttoken/default", vec![plain_error()]),
    ] {
        controller.instead.insert(asked.to_owned(), contents.into());
    }
    Ok(controller)
}
