//! One Edged, its neighbours doubled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cri::fake::Fake;
use daemon::health::Health;
use daemon::metrics::Metrics;
use edged::{Deps, Edged, Settings};
use jiff::Timestamp;
use message::{Json, NodeName, ObjectKey, ObjectKind, Reply, Request, ResourceVersion, Status};
use metamanager::cloud::Call;
use metamanager::{Change, Cloud, LinkState, ObjectChange, Objects, Outbox, Queries};
use nodebase::clock::Clock;
use nodebase::settings::logind::Programs;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::machine::Machine;

pub(crate) const IMAGE: &str = "busybox:1";

pub(crate) struct Room {
    /// How long pods may take when the machine shuts down, and what stands in for logind.
    pub shutdown: Option<(Duration, Programs)>,
    pub machine: Machine,
    /// Events are told.
    pub events: bool,
    /// Images that nobody uses for so long go.
    pub image_age: Duration,
    pub folder: tempfile::TempDir,
    pub fake: Fake,
    pub store: store::Store,
    pub clock: Clock,
    /// Who asks for the time next panics.
    pub fault: Arc<AtomicBool>,
    pub version: u64,
    pub running: Option<Running>,
    pub link: watch::Sender<LinkState>,
    pub health: Health,
    pub answers: Answers,
    /// The cloud has told every pod.
    pub in_step: watch::Sender<bool>,
    _clock: HeldClock,
}

/// Answers the live requests of Edged as a cloud does, and remembers them.
#[derive(Clone, Default)]
pub(crate) struct Answers {
    seen: Arc<Mutex<Vec<String>>>,
    mirrors: Arc<AtomicU32>,
    /// The last status of the node.
    told: Arc<Mutex<Value>>,
    /// The API behind the cloud is away.
    is_away: Arc<AtomicBool>,
    /// The node as the API has it, for who asks; none: it is not there.
    node: Arc<Mutex<Option<Value>>>,
    /// Config maps and secrets by resource.
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    /// Questions for objects that are under way. A KubeEdge cloud keeps one answer per object and node: the next one
    /// takes its place, and who asked first hears nothing.
    under_way: Arc<Mutex<BTreeMap<String, Call>>>,
    overtaken: Arc<Mutex<Vec<Call>>>,
}

/// How long a KubeEdge cloud takes for an answer.
const ANSWER: Duration = Duration::from_millis(500);

impl Answers {
    pub(crate) async fn serve(self, mut calls: mpsc::Receiver<Call>) {
        while let Some(call) = calls.recv().await {
            if self.is_away.load(Ordering::Relaxed) {
                let _ = call.answer.send(Reply::Refused(Status::new(503, "ServiceUnavailable", "")));
                continue;
            }
            let message::Upstream::Ask(request) = call.upstream.clone() else { panic!("{call:?}") };
            if let Request::Get { key } = &request
                && let Some(object) = self.object(&key.to_string())
            {
                self.seen.lock().unwrap().push(format!("ask {}", key.name));
                self.answer_slowly(key.to_string(), call, object);
                continue;
            }
            let (what, answer) = match &request {
                Request::Get { key } if key.kind == ObjectKind::Node && self.node().is_some() => {
                    ("read node".to_owned(), self.node().unwrap_or_default())
                }
                Request::CreateNode { object, .. } => {
                    let node: Value = object.parse().unwrap();
                    let role = node["metadata"]["labels"]["node-role.kubernetes.io/edge"].is_string();
                    (format!("create {role}"), json!({"metadata": {"uid": "node-uid"}}))
                }
                Request::PatchNodeStatus { patch, .. } => {
                    let patch: Value = serde_json::from_str(patch).unwrap();
                    *self.told.lock().unwrap() = patch["status"].clone();
                    let ready = &patch["status"]["conditions"][3];
                    let short = patch["status"]["conditions"][0]["status"] == "True";
                    let memory = if short { " memory" } else { "" };
                    (format!("status {}{memory}", ready["status"].as_str().unwrap()), json!({}))
                }
                Request::Lease { object, .. } => {
                    let mut lease: Value = object.parse().unwrap();
                    let owner =
                        lease["metadata"]["ownerReferences"][0]["uid"].as_str().unwrap_or("none").to_owned();
                    lease["metadata"]["resourceVersion"] = json!("1");
                    (format!("lease {owner}"), lease)
                }
                Request::CreatePod { name, .. } if name.starts_with("unwanted") => {
                    self.seen.lock().unwrap().push(format!("refuse {name}"));
                    let _ = call.answer.send(Reply::Refused(Status::new(422, "Invalid", "spec is invalid")));
                    continue;
                }
                Request::CreatePod { name, object, .. } => {
                    let mut pod: Value = object.parse().unwrap();
                    assert!(pod["metadata"]["uid"].is_null(), "the API gives uids");
                    let made = self.mirrors.fetch_add(1, Ordering::Relaxed);
                    pod["metadata"]["uid"] = json!(format!("mirror-{made}"));
                    (format!("make {name} {}", pod["metadata"]["ownerReferences"][0]["uid"]), pod)
                }
                Request::DeletePod { options, .. } => {
                    let options: Value = options.parse().unwrap();
                    (format!("delete {}", options["preconditions"]["uid"].as_str().unwrap()), json!({}))
                }
                _ => {
                    let refused = Reply::Refused(Status::new(404, "NotFound", ""));
                    let _ = call.answer.send(refused);
                    continue;
                }
            };
            self.seen.lock().unwrap().push(what);
            let _ = call.answer.send(Reply::Object(Json::encode(&answer).unwrap()));
        }
    }

    /// Whether the API behind the cloud answers.
    pub(crate) fn set_away(&self, away: bool) {
        self.is_away.store(away, Ordering::Relaxed);
    }

    pub(crate) fn set_node(&self, node: Value) {
        *self.node.lock().unwrap() = Some(node);
    }

    /// The status of the node that was told last.
    pub(crate) fn told(&self) -> Value {
        self.told.lock().unwrap().clone()
    }

    /// An object of the API that is not pushed; `null` for one whose question is never answered.
    pub(crate) fn set_object(&self, path: &str, object: Value) {
        self.objects.lock().unwrap().insert(path.to_owned(), object);
    }

    fn object(&self, path: &str) -> Option<Value> {
        self.objects.lock().unwrap().get(path).cloned()
    }

    fn answer_slowly(&self, path: String, call: Call, object: Value) {
        let before = self.under_way.lock().unwrap().insert(path.clone(), call);
        self.overtaken.lock().unwrap().extend(before);
        let under_way = self.under_way.clone();
        tokio::spawn(async move {
            tokio::time::sleep(ANSWER).await;
            if !object.is_null()
                && let Some(call) = under_way.lock().unwrap().remove(&path)
            {
                let _ = call.answer.send(Reply::Object(Json::encode(&object).unwrap()));
            }
        });
    }

    fn node(&self) -> Option<Value> {
        self.node.lock().unwrap().clone()
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

pub(crate) struct Running {
    objects: Objects,
    changes: mpsc::Sender<ObjectChange>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Room {
    pub(crate) fn new() -> Room {
        let folder = tempfile::tempdir().unwrap();
        let sound = Clock::tokio(Timestamp::from_second(1_795_000_000).unwrap());
        let (fake_clock, fault) = (sound.clone(), Arc::new(AtomicBool::new(false)));
        let armed = fault.clone();
        let clock = Clock::by(move || {
            assert!(!armed.swap(false, Ordering::Relaxed), "a fault of a test");
            sound.now()
        });
        let nanoseconds = move || i64::try_from(fake_clock.now().as_nanosecond()).unwrap();
        let fake = Fake::start(folder.path(), Arc::new(nanoseconds)).unwrap();
        fake.add_image(IMAGE);
        let store = metamanager::database::open(&folder.path().join("e.db")).unwrap();
        let (link, _) = watch::channel(LinkState::Disconnected);
        Room {
            shutdown: None,
            machine: Machine::default(),
            events: false,
            image_age: Duration::ZERO,
            folder,
            fake,
            store,
            clock,
            fault,
            version: 0,
            running: None,
            link,
            health: Health::default(),
            answers: Answers::default(),
            in_step: watch::channel(true).0,
            _clock: HeldClock::hold(),
        }
    }

    pub(crate) async fn start(&mut self) {
        let objects = Objects::new(self.store.clone());
        let (cloud, calls) = Cloud::channel(self.link.subscribe());
        tokio::spawn(self.answers.clone().serve(calls));
        let (changes, inbox) = mpsc::channel(16);
        let mut settings = Settings {
            root_dir: self.folder.path().join("kubelet"),
            pod_logs_dir: self.folder.path().join("logs"),
            static_pods: self.folder.path().join("manifests"),
            runtime_endpoint: self.fake.endpoint(),
            report_events: self.events,
            ..Settings::with_defaults(NodeName::new("edge-1").unwrap())
        };
        // The pods of a runtime that runs nothing have no cgroups.
        settings.cgroups.per_qos = false;
        settings.images.most_age = self.image_age;
        if let Some((grace, programs)) = &self.shutdown {
            settings.shutdown.grace = *grace;
            settings.shutdown_programs = programs.clone();
        }
        let deps = Deps {
            queries: Queries::new(objects.clone(), cloud.clone()),
            outbox: Outbox::new(self.store.clone()),
            objects: objects.clone(),
            cloud,
            changes: inbox,
            health: self.health.clone(),
            metrics: Metrics::new("edgecore"),
            in_step: self.in_step.subscribe(),
        };
        let host = self.machine.clone();
        let edged = Edged::build_on(settings, deps, Arc::new(host), self.clock.clone()).await.unwrap();
        let stop = CancellationToken::new();
        let token = stop.clone();
        let task = tokio::spawn(async move { edged.run(token).await.unwrap() });
        self.running = Some(Running { objects, changes, stop, task });
    }

    pub(crate) async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.stop.cancel();
        // Where the end waits for time to pass, it passes.
        while !running.task.is_finished() {
            step(STEP, REST).await;
        }
        running.task.await.unwrap();
    }

    /// Commits an object and hands it on, as the intake does.
    pub(crate) async fn put(&mut self, key: &str, object: Value) {
        self.version += 1;
        let version = ResourceVersion(self.version.to_string());
        self.apply(key, Change::Put { version, object: Json::encode(&object).unwrap() }).await;
    }

    pub(crate) async fn apply(&mut self, key: &str, change: Change) {
        let change = ObjectChange { key: ObjectKey::parse(key).unwrap(), change };
        match &self.running {
            Some(running) => {
                running.objects.apply(vec![change.clone()]).await.unwrap();
                running.changes.send(change).await.unwrap();
            }
            None => {
                Objects::new(self.store.clone()).apply(vec![change]).await.unwrap();
            }
        }
    }

    pub(crate) async fn sent(&self, part: &str) -> Vec<message::Message> {
        let waiting = Outbox::new(self.store.clone()).next(0, 100).await.unwrap();
        let messages = waiting.into_iter().map(|waiting| waiting.message);
        messages.filter(|message| message.route.resource.contains(part)).collect()
    }

    /// The last status told of the pod of this name.
    pub(crate) async fn status_of(&self, name: &str) -> Value {
        let patches = self.sent(&format!("/podpatch/{name}")).await;
        patches.last().map_or(Value::Null, |message| serde_json::from_str(&message.content.data()).unwrap())
    }

    pub(crate) async fn status(&self) -> Value {
        let patches = self.sent("/podpatch/").await;
        patches.last().map_or(Value::Null, |message| serde_json::from_str(&message.content.data()).unwrap())
    }

    /// Events with this reason that were told.
    pub(crate) async fn events_of(&self, reason: &str) -> usize {
        let events = self.sent("/event/").await;
        let is_meant = |message: &&message::Message| {
            let event: Value = serde_json::from_str(&message.content.data()).unwrap();
            event["reason"] == reason
        };
        events.iter().filter(is_meant).count()
    }

    /// The last event with this reason.
    pub(crate) async fn last_event(&self, reason: &str) -> Value {
        let events = self.sent("/event/").await;
        let mut events = events.iter().map(|message| serde_json::from_str(&message.content.data()).unwrap());
        events.rfind(|event: &Value| event["reason"] == reason).unwrap_or_default()
    }

    pub(crate) async fn deletions(&self) -> usize {
        self.sent("default/pod/").await.iter().filter(|message| message.route.operation == "delete").count()
    }

    pub(crate) fn ids(&self) -> BTreeSet<String> {
        self.fake.containers().into_iter().map(|container| container.id).collect()
    }
}

/// Keeps the paused clock from moving on by itself, which it does whenever the tasks wait, also for disk and sockets: what a
/// test sees would depend on how fast they are. It moves by [`pass`] and [`until`] alone.
pub(crate) struct HeldClock {
    _release: std::sync::mpsc::Sender<()>,
}

impl HeldClock {
    fn hold() -> HeldClock {
        let (release, released) = std::sync::mpsc::channel::<()>();
        // While blocking work runs, the clock waits for it.
        tokio::task::spawn_blocking(move || released.recv());
        HeldClock { _release: release }
    }
}

/// Gives disk, sockets and the tasks that wait for them real time, then moves the clock.
async fn step(by: Duration, rest: Duration) {
    tokio::task::spawn_blocking(move || std::thread::sleep(rest)).await.unwrap();
    tokio::time::advance(by).await;
}

const STEP: Duration = Duration::from_millis(100);
const REST: Duration = Duration::from_millis(2);

/// So much time passes.
pub(crate) async fn pass(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        let left = end - Instant::now();
        step(left.min(if time > 50 * STEP { 10 * STEP } else { STEP }), REST).await;
    }
}

pub(crate) async fn until<F: AsyncFnMut() -> bool>(what: &str, check: F) {
    assert!(is_seen(Duration::from_secs(900), REST, check).await, "never seen: {what}");
}

/// Sooner than `limit`: however slow the machine is, most of a step is spent on the disk and the sockets.
pub(crate) async fn until_within<F: AsyncFnMut() -> bool>(limit: Duration, what: &str, check: F) {
    assert!(is_seen(limit, 10 * REST, check).await, "not seen within {limit:?}: {what}");
}

async fn is_seen<F: AsyncFnMut() -> bool>(limit: Duration, rest: Duration, mut check: F) -> bool {
    let began = Instant::now();
    while began.elapsed() < limit {
        if check().await {
            return true;
        }
        // What takes minutes is not looked at that closely.
        step(if began.elapsed() > 600 * STEP { 10 * STEP } else { STEP }, rest).await;
    }
    false
}

/// Waits for something that other processes do, which takes real time.
pub(crate) async fn until_real(what: &str, check: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if check() {
            return;
        }
        step(Duration::from_millis(1), 5 * REST).await;
    }
    panic!("never seen: {what}");
}

pub(crate) fn pod(extra: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": "p", "namespace": "default", "uid": "u-1"},
        "spec": {"nodeName": "edge-1", "containers": [{"name": "a", "image": IMAGE}]}});
    if let Value::Object(fields) = extra {
        fields.into_iter().for_each(|(key, value)| pod["spec"][key] = value);
    }
    pod
}

pub(crate) fn named(name: &str, uid: &str, mut pod: Value) -> Value {
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["uid"] = json!(uid);
    pod
}

pub(crate) fn ending(mut pod: Value) -> Value {
    pod["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:00:00Z");
    pod["metadata"]["deletionGracePeriodSeconds"] = json!(5);
    pod
}
