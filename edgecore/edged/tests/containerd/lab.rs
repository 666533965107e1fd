//! One Edged on a private containerd, offline, with its Node API on a socket.
#![allow(dead_code, reason = "every test uses a part of it")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use daemon::health::Health;
use daemon::metrics::Metrics;
use edged::{Deps, Edged, Settings};
use harness::containerd::{Containerd, missing, unmount_below};
use harness::images;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use message::{Json, NodeName, ObjectKey, ResourceVersion};
use metamanager::{Change, Cloud, LinkState, ObjectChange, Objects, Outbox, Queries};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub(crate) const IMAGE: &str = "registry.invalid/busybox:test";

pub(crate) struct Lab {
    folder: tempfile::TempDir,
    pub containerd: Containerd,
    store: store::Store,
    number: u32,
    version: AtomicU32,
}

pub(crate) struct Running {
    changes: mpsc::Sender<ObjectChange>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Lab {
    /// None (with the reason printed) where containerd cannot run; never none in CI.
    pub(crate) async fn start(cni: bool) -> Option<Lab> {
        if let Some(reason) = missing(cni) {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI must run this test: {reason}");
            eprintln!("skipped: {reason}");
            return None;
        }
        static LABS: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().unwrap();
        let containerd = Containerd::start(&folder.path().join("containerd"), cni).await.unwrap();
        containerd.import(&images::busybox(IMAGE)).await.unwrap();
        let store = metamanager::database::open(&folder.path().join("edgecore.db")).unwrap();
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        Some(Lab { folder, containerd, store, number, version: AtomicU32::new(0) })
    }

    /// A pod's uid: cgroups are named by it, so every test has its own.
    pub(crate) fn uid(&self, pod: u32) -> String {
        format!("5a1e0f0c-0000-4{pod:03}-{:04}-{:012}", 9000 + self.number, std::process::id())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn runtime(&self) -> cri::Runtime {
        cri::Runtime::new(&self.containerd.socket()).unwrap()
    }

    pub(crate) async fn container_ids(&self) -> Vec<String> {
        let all = self.runtime().list_containers(None).await.unwrap();
        let mut ids: Vec<String> = all.into_iter().map(|item| item.id).collect();
        ids.sort();
        ids
    }

    /// Starts Edged without a link to any cloud.
    pub(crate) async fn edged(&self) -> Running {
        self.edged_that(|_| {}).await
    }

    /// The same with other settings.
    pub(crate) async fn edged_that(&self, set: impl FnOnce(&mut Settings)) -> Running {
        let objects = Objects::new(self.store.clone());
        let (_, link) = watch::channel(LinkState::Disconnected);
        let (cloud, _) = Cloud::channel(link);
        let (changes, inbox) = mpsc::channel(16);
        let api = nodeapi::Settings {
            socket: self.path("edged.sock"),
            tls: None,
            loopback: None,
            streaming_idle: Duration::from_secs(60),
            forwarded: Default::default(),
        };
        let mut settings = Settings {
            root_dir: self.path("kubelet"),
            pod_logs_dir: self.path("logs"),
            runtime_endpoint: self.containerd.socket(),
            server: Some(api),
            static_pods: self.path("manifests"),
            report_events: true,
            ..Settings::with_defaults(NodeName::new("edge-1").unwrap())
        };
        // How full this machine's disk is says nothing about the pods of a test.
        settings.eviction.thresholds.clear();
        set(&mut settings);
        let deps = Deps {
            queries: Queries::new(objects.clone(), cloud.clone()),
            outbox: Outbox::new(self.store.clone()),
            objects,
            cloud,
            changes: inbox,
            health: Health::default(),
            metrics: Metrics::new("edgecore"),
            in_step: tokio::sync::watch::channel(true).1,
        };
        let stop = CancellationToken::new();
        let edged = Edged::build(settings, deps).await.unwrap();
        let token = stop.clone();
        let task = tokio::spawn(async move { edged.run(token).await.unwrap() });
        Running { changes, stop, task }
    }

    /// Stores an object as the intake does.
    pub(crate) async fn store(&self, key: &str, object: Value) -> ObjectChange {
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
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

    pub(crate) async fn outbox(&self) -> Vec<message::Message> {
        let waiting = Outbox::new(self.store.clone()).next(0, 1000).await.unwrap();
        waiting.into_iter().map(|waiting| waiting.message).collect()
    }

    /// True if an event of this reason has this text in its message.
    pub(crate) async fn has_event(&self, reason: &str, text: &str) -> bool {
        self.outbox().await.iter().any(|message| {
            let content = message.content.data();
            content.contains(&format!("\"{reason}\"")) && content.contains(text)
        })
    }

    /// The newest status of a pod in the outbox.
    pub(crate) async fn status(&self, pod: &str) -> Value {
        let messages = self.outbox().await;
        let suffix = format!("/podpatch/{pod}");
        let patch = messages.iter().rev().find(|message| message.route.resource.ends_with(&suffix));
        patch.map_or(Value::Null, |patch| serde_json::from_str(&patch.content.data()).unwrap())
    }

    pub(crate) async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.path("edged.sock")).await.unwrap()
    }

    /// Asks the Node API; a status and the whole text.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let io = TokioIo::new(self.connect().await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "node")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path).await
    }
}

impl Drop for Lab {
    /// A test that failed in the middle leaves no mounts either.
    fn drop(&mut self) {
        unmount_below(&self.path("kubelet"));
    }
}

impl Running {
    /// Ends a pod as the cloud does: it is marked, its deletion is waited for, and it is taken away.
    pub(crate) async fn delete(&self, lab: &Lab, mut pod: Value) {
        let (name, uid) =
            (pod["metadata"]["name"].as_str().unwrap().to_owned(), pod["metadata"]["uid"].clone());
        pod["metadata"]["deletionTimestamp"] = "2026-11-21T00:00:00Z".into();
        pod["metadata"]["deletionGracePeriodSeconds"] = 1.into();
        let key = format!("default/pod/{name}");
        self.tell(lab.store(&key, pod).await).await;
        let uid = uid.as_str().unwrap().to_owned();
        until("the end of a pod", || async {
            let messages = lab.outbox().await;
            let mut deletions = messages.iter().filter(|message| message.route.operation == "delete");
            deletions.any(|message| message.route.resource.ends_with(&format!("/{name}")))
        })
        .await;
        let change = Change::Remove { uid: Some(uid) };
        self.tell(ObjectChange { key: ObjectKey::parse(&key).unwrap(), change }).await;
    }

    pub(crate) async fn tell(&self, change: ObjectChange) {
        self.changes.send(change).await.unwrap();
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    for _ in 0..300 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not seen within 30 s: {what}");
}
