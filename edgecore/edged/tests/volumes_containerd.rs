//! Persistent volumes on a real containerd: a local one and those of a CSI driver are written to, survive restarts of
//! Edged and of the driver, and are given back when their pods end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]
#![allow(clippy::disallowed_methods, reason = "a test waits for nobody else")]

#[path = "containerd/lab.rs"]
mod lab;

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use harness::containerd::mounts_below;
use harness::csi_driver::{Driver, NAME};
use lab::{IMAGE, Lab, until};
use serde_json::{Value, json};

fn claim(name: &str, phase: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default", "uid": format!("claim-{name}")},
        "spec": {"volumeName": format!("pv-{name}")}, "status": {"phase": phase}})
}

fn volume(name: &str, source: Value) -> Value {
    let mut volume = json!({"metadata": {"name": format!("pv-{name}"), "uid": format!("pv-uid-{name}")},
        "spec": {"accessModes": ["ReadWriteOnce"],
            "claimRef": {"namespace": "default", "name": name, "uid": format!("claim-{name}")}}});
    volume["spec"].as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
    volume
}

fn pod(name: &str, uid: &str, script: &str, inline: bool) -> Value {
    let mut volumes = vec![
        json!({"name": "local", "persistentVolumeClaim": {"claimName": "local"}}),
        json!({"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}),
    ];
    if inline {
        volumes.push(json!({"name": "own", "csi": {"driver": NAME}}));
    }
    let mounts: Vec<Value> = volumes
        .iter()
        .map(|volume| json!({"name": volume["name"], "mountPath": format!("/{}", volume["name"].as_str().unwrap())}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": uid, "resourceVersion": "1"},
        "spec": {
            "nodeName": "edge-1", "hostNetwork": true, "restartPolicy": "Always", "terminationGracePeriodSeconds": 1,
            "securityContext": {"fsGroup": 2000, "fsGroupChangePolicy": "OnRootMismatch"},
            "containers": [{"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", format!("{script}; sleep 1000")], "volumeMounts": mounts}],
            "volumes": volumes
        }
    })
}

async fn prepare(lab: &Lab) {
    std::fs::create_dir(lab.path("disk")).unwrap();
    let local = json!({"local": {"path": lab.path("disk")}});
    lab.store("null/persistentvolume/pv-local", volume("local", local)).await;
    let secret = |name: &str| json!({"name": name, "namespace": "default"});
    let csi = json!({"csi": {"driver": NAME, "volumeHandle": "vol-1", "fsType": "ext4",
        "nodeStageSecretRef": secret("pass")}});
    lab.store("null/persistentvolume/pv-shared", volume("shared", csi)).await;
    lab.store("default/persistentvolumeclaim/local", claim("local", "Bound")).await;
    lab.store("default/persistentvolumeclaim/shared", claim("shared", "Pending")).await;
    let pass = json!({"metadata": {"name": "pass", "namespace": "default", "uid": "s"}, "data": {"key": "c2VjcmV0"}});
    lab.store("default/secret/pass", pass).await;
}

fn count(driver: &Driver, call: &str) -> usize {
    driver.calls().iter().filter(|known| known.as_str() == call).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn persistent_volumes_are_published_kept_and_given_back() {
    let Some(lab) = Lab::start(false).await else { return };
    prepare(&lab).await;
    let driver = Driver::start(&lab.path("driver"), &lab.path("kubelet")).unwrap();
    let script =
        "echo kept > /local/file; echo one > /shared/one; echo mine > /own/file; id -G > /shared/groups";
    let first = pod("first", &lab.uid(1), script, true);
    lab.store("default/pod/first", first.clone()).await;
    let edged = lab.edged().await;

    // A claim that is not bound is waited for, and that is told.
    until("an event about the claim", || async { lab.has_event("FailedMount", "is not bound").await }).await;
    lab.store("default/persistentvolumeclaim/shared", claim("shared", "Bound")).await;
    let shared = driver.data("vol-1");
    // The shell makes the file before `id` writes to it.
    let groups = || std::fs::read_to_string(shared.join("groups")).unwrap_or_default();
    until("the group in the CSI volume's file", || async { groups().contains("2000") }).await;
    assert_eq!(std::fs::read_to_string(lab.path("disk/file")).unwrap(), "kept\n");
    assert_eq!(std::fs::metadata(lab.path("disk")).unwrap().gid(), 2000);
    assert_eq!(std::fs::metadata(&shared).unwrap().gid(), 2000);
    assert_eq!(
        driver.calls(),
        ["registered true", "stage vol-1 secret", "publish vol-1", "publish inline for first"]
    );
    let folder = lab.path(&format!("kubelet/pods/{}/volumes/kubernetes.io~csi/pv-shared", lab.uid(1)));
    let record: Value =
        serde_json::from_slice(&std::fs::read(folder.join("vol_data.json")).unwrap()).unwrap();
    assert_eq!((&record["driverName"], &record["volumeHandle"]), (&json!(NAME), &json!("vol-1")));

    // A second pod has the same volume.
    let second = pod("second", &lab.uid(2), "cat /shared/one > /shared/two", false);
    edged.tell(lab.store("default/pod/second", second.clone()).await).await;
    let two = || std::fs::read_to_string(shared.join("two")).unwrap_or_default();
    until("the second pod's file", || async { two() == "one\n" }).await;

    // A restart of Edged publishes nothing anew, and finds the driver again.
    let before = driver.calls();
    edged.stop().await;
    let edged = lab.edged().await;
    until("the driver's registration", || async { count(&driver, "registered true") == 2 }).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(driver.calls().len(), before.len() + 1, "{:?}", driver.calls());

    // The first pod ends: its places go, the staging stays for the second.
    edged.delete(&lab, first).await;
    assert_eq!((count(&driver, "unpublish vol-1"), count(&driver, "unpublish inline")), (1, 1));
    assert_eq!(count(&driver, "unstage vol-1"), 0);
    assert!(!folder.exists());

    // Without its driver a pod does not end half: it is waited for, over a restart too.
    drop(driver);
    let mut ending = second.clone();
    ending["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:00:00Z");
    edged.tell(lab.store("default/pod/second", ending).await).await;
    until("the end of its container", || async { lab.get("/runningpods/").await.1.contains("\"items\":[]") })
        .await;
    edged.stop().await;
    let edged = lab.edged().await;
    let place = lab.path(&format!("kubelet/pods/{}/volumes/kubernetes.io~csi/pv-shared", lab.uid(2)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(place.join("vol_data.json").exists());
    let driver = Driver::start(&lab.path("driver"), &lab.path("kubelet")).unwrap();
    edged.delete(&lab, second).await;
    assert_eq!(driver.calls()[1..], ["unpublish vol-1", "unstage vol-1"].map(str::to_owned));
    assert_eq!(mounts_below(&lab.path("kubelet")), Vec::<PathBuf>::new());
    assert!(
        std::fs::read_dir(lab.path(&format!("kubelet/plugins/kubernetes.io/csi/{NAME}")))
            .unwrap()
            .next()
            .is_none()
    );
    assert_eq!(std::fs::read_to_string(shared.join("two")).unwrap(), "one\n");
    assert_eq!(std::fs::read_to_string(lab.path("disk/file")).unwrap(), "kept\n");
    edged.stop().await;
}
