//! A device plugin on a real containerd: its devices reach containers, belong to one pod at a time, and stay theirs over a
//! restart of Edged and of the plugin.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]
#![allow(clippy::disallowed_methods, reason = "a test waits for nobody else")]

#[path = "containerd/device_plugin.rs"]
mod device_plugin;
#[path = "containerd/lab.rs"]
mod lab;

use std::sync::atomic::{AtomicU32, Ordering};

use device_plugin::{CAMERA, Plugin};
use lab::{IMAGE, Lab, Running, until};
use serde_json::{Value, json};

fn container(name: &str, script: &str) -> Value {
    json!({"name": name, "image": IMAGE, "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script], "resources": {"limits": {CAMERA: "1"}, "requests": {CAMERA: "1"}}})
}

fn pod(lab: &Lab, name: &str, number: u32, containers: Value) -> Value {
    let mut spec = json!({"nodeName": "edge-1", "hostNetwork": true, "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 1});
    spec.as_object_mut().unwrap().extend(containers.as_object().unwrap().clone());
    json!({"apiVersion": "v1", "kind": "Pod", "spec": spec,
        "metadata": {"name": name, "namespace": "default", "uid": lab.uid(number), "resourceVersion": "1"}})
}

async fn start_pod(lab: &Lab, edged: &Running, pod: &Value) {
    let key = format!("default/pod/{}", pod["metadata"]["name"].as_str().unwrap());
    edged.tell(lab.store(&key, pod.clone()).await).await;
}

async fn register(plugin: &Plugin) {
    until("a registration", || async { plugin.register().await.is_ok() }).await;
}

/// Until the pod has failed, and why.
async fn failure(lab: &Lab, name: &str) -> (String, String) {
    until("a failed pod", || async { lab.status(name).await["status"]["phase"] == "Failed" }).await;
    let status = lab.status(name).await;
    let text = |key: &str| status["status"][key].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_reach_containers_and_belong_to_one_pod_over_restarts() {
    let Some(lab) = Lab::start(false).await else { return };
    std::fs::write(lab.path("camera.txt"), "lens 50mm\n").unwrap();
    let edged = lab.edged().await;
    let plugin = Plugin::start(&lab.path("kubelet"), &lab.path("camera.txt"));
    plugin.list(&["a", "b"], &["c"]);
    register(&plugin).await;

    // The main container gets what the init container had.
    let script = "echo have $CAMERAS; cat /etc/camera; ls -l /dev/camera-$CAMERAS; sleep 3";
    let first = pod(
        &lab,
        "first",
        1,
        json!({
        "initContainers": [container("prepare", "echo first $CAMERAS")], "containers": [container("main", script)]}),
    );
    until("the resource", || async { plugin.register().await.is_ok() }).await;
    start_pod(&lab, &edged, &first).await;
    let log = "/containerLogs/default/first/main";
    until("the container's words", || async { lab.get(log).await.1.contains("/dev/camera-b") }).await;
    let said = lab.get(log).await.1;
    assert!(said.starts_with("have b\nlens 50mm\nc"), "{said}");
    assert_eq!(lab.get("/containerLogs/default/first/prepare").await.1, "first b\n");
    assert_eq!(plugin.calls(), ["allocate b", "allocate b", "prepare b", "prepare b"]);

    // Edged and the plugin start again: the pod keeps its camera, another pod gets another.
    edged.stop().await;
    drop(plugin);
    let edged = lab.edged().await;
    let second =
        pod(&lab, "second", 2, json!({"containers": [container("main", "echo have $CAMERAS; sleep 1000")]}));
    start_pod(&lab, &edged, &second).await;
    until("that it waits for the plugin", || async {
        lab.has_event("FailedDevices", "not registered yet").await
    })
    .await;
    let plugin = Plugin::start(&lab.path("kubelet"), &lab.path("camera.txt"));
    plugin.list(&["a", "b"], &[]);
    register(&plugin).await;
    until("the second pod's camera", || async {
        lab.get("/containerLogs/default/second/main").await.1 == "have a\n"
    })
    .await;
    until("another run of the first pod", || async {
        plugin.calls().contains(&"prepare b".to_owned())
            && lab.get(&format!("{log}?tailLines=3")).await.1.starts_with("have b\n")
    })
    .await;
    assert!(!plugin.calls().contains(&"allocate b".to_owned()), "{:?}", plugin.calls());

    // More than there is.
    let third = pod(&lab, "third", 3, json!({"containers": [container("main", "sleep 1000")]}));
    start_pod(&lab, &edged, &third).await;
    assert_eq!(failure(&lab, "third").await.0, format!("OutOf{CAMERA}"));

    // A device that cannot be had. The new list reaches Edged in its own time: until then the node is full.
    plugin.list(&["a", "b", "stuck"], &[]);
    let number = AtomicU32::new(10);
    let refused = async |wanted: &str| {
        let number = number.fetch_add(1, Ordering::Relaxed);
        let name = format!("try-{number}");
        let next = pod(&lab, &name, number, json!({"containers": [container("main", "sleep 1000")]}));
        start_pod(&lab, &edged, &next).await;
        let (reason, message) = failure(&lab, &name).await;
        format!("{reason}: {message}").contains(wanted)
    };
    until("a refusal of the plugin", || {
        refused("UnexpectedAdmissionError: Pod was rejected: Allocate failed")
    })
    .await;
    assert!(plugin.calls().contains(&"allocate stuck".to_owned()));

    // The plugin goes: nothing can be given, and running pods go on.
    drop(plugin);
    until("that nothing is offered", || refused("capacity: 0")).await;
    let running = lab.get("/runningpods/").await.1;
    assert!(running.contains("\"second\""), "{running}");
    edged.stop().await;
}
