//! Edged against a real containerd: a pod with volumes starts, is adopted after a restart, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use edgecore::edged::{Deps, Edged, Settings};
use edgecore::metamanager::{Change, Cloud, LinkState, ObjectChange, Objects, Outbox, Queries};
use harness::containerd::{Containerd, missing, mounts_below, unmount_below};
use harness::images;
use message::{Json, NodeName, ObjectKey, ResourceVersion};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

const IMAGE: &str = "registry.invalid/busybox:test";

struct Lab {
    /// The pod's uid: cgroups are named by it, so each test has its own.
    uid: String,
    folder: tempfile::TempDir,
    containerd: Containerd,
    store: store::Store,
}

struct Running {
    changes: mpsc::Sender<ObjectChange>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// None (with the reason printed) where containerd cannot run; never none in CI.
async fn lab(cni: bool) -> Option<Lab> {
    if let Some(reason) = missing(cni) {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI must run this test: {reason}");
        eprintln!("skipped: {reason}");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let containerd = Containerd::start(&folder.path().join("containerd"), cni).await.unwrap();
    containerd.import(&images::busybox(IMAGE)).await.unwrap();
    let store = edgecore::database::open(&folder.path().join("edgecore.db")).unwrap();
    static LABS: AtomicU32 = AtomicU32::new(0);
    let number = LABS.fetch_add(1, Ordering::Relaxed);
    let uid = format!("5a1e0f0c-0000-4000-{:04}-{:012}", 8000 + number, std::process::id());
    Some(Lab { uid, folder, containerd, store })
}

impl Lab {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn runtime(&self) -> cri::Runtime {
        cri::Runtime::new(&self.containerd.socket()).unwrap()
    }

    /// Starts Edged without a link to any cloud.
    async fn edged(&self) -> Running {
        let objects = Objects::new(self.store.clone());
        let (_, link) = watch::channel(LinkState::Disconnected);
        let (cloud, _) = Cloud::channel(link);
        let (changes, inbox) = mpsc::channel(16);
        let settings = Settings {
            root_dir: self.path("kubelet"),
            pod_logs_dir: self.path("logs"),
            runtime_endpoint: self.containerd.socket(),
            report_events: true,
            ..Settings::with_defaults(NodeName::new("edge-1").unwrap())
        };
        let deps = Deps {
            queries: Queries::new(objects.clone(), cloud.clone()),
            outbox: Outbox::new(self.store.clone()),
            objects,
            cloud,
            changes: inbox,
        };
        let stop = CancellationToken::new();
        let edged = Edged::build(settings, deps).await.unwrap();
        let token = stop.clone();
        let task = tokio::spawn(async move { edged.run(token).await.unwrap() });
        Running { changes, stop, task }
    }

    /// Stores an object as the intake does.
    async fn store(&self, key: &str, object: Value, version: u64) -> ObjectChange {
        let change = ObjectChange {
            key: ObjectKey::parse(key).unwrap(),
            change: Change::Put {
                version: ResourceVersion(version.to_string()),
                object: Json::encode(&object).unwrap(),
            },
        };
        Objects::new(self.store.clone()).apply(vec![change.clone()]).await.unwrap();
        change
    }

    async fn outbox(&self) -> Vec<message::Message> {
        let waiting = Outbox::new(self.store.clone()).next(0, 1000).await.unwrap();
        waiting.into_iter().map(|waiting| waiting.message).collect()
    }

    /// The newest status in the outbox.
    async fn status(&self) -> Option<Value> {
        let messages = self.outbox().await;
        let patch = messages.iter().rev().find(|message| message.route.resource.contains("/podpatch/"))?;
        Some(serde_json::from_str(&patch.content.data()).unwrap())
    }

    async fn container_ids(&self) -> Vec<String> {
        let mut ids: Vec<String> =
            self.runtime().list_containers(None).await.unwrap().into_iter().map(|item| item.id).collect();
        ids.sort();
        ids
    }
}

impl Drop for Lab {
    /// A test that failed in the middle leaves no mounts either.
    fn drop(&mut self) {
        unmount_below(&self.path("kubelet"));
    }
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    for _ in 0..300 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not seen within 30 s: {what}");
}

fn pod(uid: &str, host_network: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "uid": uid, "resourceVersion": "1", "labels": {"app": "web"}},
        "spec": {
            "nodeName": "edge-1", "hostNetwork": host_network, "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"fsGroup": 2000},
            "initContainers": [
                {"name": "first", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                 "command": ["sh", "-c", "echo made > /shared/made"],
                 "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}],
            "containers": [
                {"name": "talker", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                 "command": ["sh", "-c", "cat /etc/app/greeting /etc/pass/word /shared/made; echo $WHO $(NODE); sleep 1000"],
                 "env": [{"name": "WHO", "valueFrom": {"configMapKeyRef": {"name": "app", "key": "who"}}},
                         {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                 "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                 "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}, {"name": "pass", "mountPath": "/etc/pass"},
                                  {"name": "shared", "mountPath": "/shared"}]},
                {"name": "sleeper", "image": IMAGE, "imagePullPolicy": "Always",
                 "securityContext": {"runAsUser": 1000, "readOnlyRootFilesystem": true},
                 "volumeMounts": [{"name": "ram", "mountPath": "/ram", "subPath": "below"},
                                  {"name": "config", "mountPath": "/one", "subPath": "greeting"}]}],
            "volumes": [
                {"name": "config", "configMap": {"name": "app"}},
                {"name": "pass", "secret": {"secretName": "pass"}},
                {"name": "shared", "emptyDir": {}},
                {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]
        }
    })
}

fn config_map(greeting: &str, version: u64) -> Value {
    json!({"metadata": {"name": "app", "namespace": "default", "uid": "cm", "resourceVersion": version.to_string()},
        "data": {"greeting": greeting, "who": "causeway"}})
}

fn log(lab: &Lab, container: &str) -> String {
    let path = lab.path(&format!("logs/default_web_{}/{container}/0.log", lab.uid));
    std::fs::read_to_string(path).unwrap_or_default()
}

async fn life_of_a_pod(cni: bool) {
    let Some(lab) = lab(cni).await else { return };
    lab.store("default/configmap/app", config_map("hello\n", 1), 1).await;
    let secret = json!({"metadata": {"name": "pass", "namespace": "default", "uid": "s"}, "data": {"word": "c2VjcmV0Cg=="}});
    lab.store("default/secret/pass", secret, 1).await;
    lab.store("default/pod/web", pod(&lab.uid, !cni), 1).await;

    // It starts from the store, offline.
    let edged = lab.edged().await;
    until("a ready status", || async {
        let status = lab.status().await.unwrap_or_default();
        status["status"]["conditions"]
            .as_array()
            .is_some_and(|list| list.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
    })
    .await;
    until("the log", || async { log(&lab, "talker").contains("causeway") }).await;
    let said: Vec<String> = log(&lab, "talker")
        .lines()
        .map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned())
        .collect();
    assert_eq!(said, ["hello", "secret", "made", "causeway edge-1"].map(str::to_owned));
    let status = lab.status().await.unwrap();
    assert_eq!(status["metadata"]["uid"], lab.uid.as_str());
    assert_eq!(status["status"]["phase"], "Running");
    assert_eq!(status["status"]["qosClass"], "Burstable");
    assert!(status["status"]["podIP"].is_string(), "{status}");
    let containers = status["status"]["containerStatuses"].as_array().unwrap();
    assert_eq!(containers.len(), 2);
    assert!(containers[0]["containerID"].as_str().unwrap().starts_with("containerd://"));

    // A changed config map reaches the file.
    let greeting =
        lab.path(&format!("kubelet/pods/{}/volumes/kubernetes.io~configmap/config/greeting", lab.uid));
    let change = lab.store("default/configmap/app", config_map("changed\n", 2), 2).await;
    edged.changes.send(change).await.unwrap();
    until("the new greeting", || async { std::fs::read_to_string(&greeting).unwrap() == "changed\n" }).await;

    // A restart of Edged adopts the same containers.
    let before = lab.container_ids().await;
    edged.stop().await;
    let edged = lab.edged().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(lab.container_ids().await, before);

    // Deletion leaves nothing.
    let mut ending = pod(&lab.uid, !cni);
    ending["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:00:00Z");
    ending["metadata"]["deletionGracePeriodSeconds"] = json!(1);
    let change = lab.store("default/pod/web", ending, 3).await;
    edged.changes.send(change).await.unwrap();
    until("the deletion in the outbox", || async {
        lab.outbox().await.iter().any(|message| message.route.operation == "delete")
    })
    .await;
    let status = lab.status().await.unwrap();
    assert!(status["status"]["containerStatuses"][0]["state"]["terminated"].is_object(), "{status}");
    assert!(lab.container_ids().await.is_empty());
    assert!(lab.runtime().list_pod_sandboxes(None).await.unwrap().is_empty());
    assert_eq!(mounts_below(&lab.path("kubelet")), Vec::<PathBuf>::new());
    assert!(!lab.path(&format!("kubelet/pods/{}", lab.uid)).exists());
    assert_eq!(cgroups_named(&format!("pod{}", lab.uid)), Vec::<PathBuf>::new());

    let gone = ObjectChange {
        key: ObjectKey::parse("default/pod/web").unwrap(),
        change: Change::Remove { uid: Some(lab.uid.clone()) },
    };
    edged.changes.send(gone).await.unwrap();
    let logs = lab.path(&format!("logs/default_web_{}", lab.uid));
    until("the removal of the logs", || async { !logs.exists() }).await;
    edged.stop().await;
}

fn cgroups_named(name: &str) -> Vec<PathBuf> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let all = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
    let classes = ["kubepods", "kubepods/burstable", "kubepods/besteffort"];
    all.flat_map(|root| classes.map(|class| root.join(class).join(name)))
        .filter(|path: &PathBuf| Path::exists(path))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_in_the_hosts_network_lives_and_leaves_nothing_behind() {
    life_of_a_pod(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_its_own_address_lives_and_leaves_nothing_behind() {
    life_of_a_pod(true).await;
}
