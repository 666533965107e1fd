//! The room with a database whose disk can be held up, and a bus that is doubled.

use std::sync::mpsc as blocking;
use std::time::Duration;

use daemon::health::{Health, STUCK_AFTER};
use message::{Json, ObjectKey, ResourceVersion};
use mqtt::{Outlook, Receipt};
use serde_json::json;
use tokio::sync::oneshot;

use super::*;
use crate::metamanager::Change;

const SOON: Duration = Duration::from_secs(10);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("nothing came")
}

struct Running {
    store: Store,
    outbox: Outbox,
    changes: mpsc::Sender<ObjectChange>,
    bus: mpsc::Sender<eventbus::Incoming>,
    folder: tempfile::TempDir,
    health: Health,
}

impl Running {
    async fn start() -> Running {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::database::open(&folder.path().join("edgecore.db")).unwrap();
        let outbox = Outbox::new(store.clone());
        let (changes, changed) = mpsc::channel(16);
        let (bus, incoming) = mpsc::channel(16);
        let health = Health::default();
        let settings =
            Settings { node: NodeName::new("edge-1").unwrap(), dmi_socket: folder.path().join("dmi.sock") };
        let deps = Deps {
            store: store.clone(),
            objects: Objects::new(store.clone()),
            outbox: outbox.clone(),
            changes: changed,
            bus: None,
            incoming,
            beat: health.beat("devicetwin"),
        };
        let doors = runtime::Handle::current();
        let stop = CancellationToken::new();
        let room = DeviceTwin::build(settings, deps, &doors, stop.clone()).await.unwrap();
        tokio::spawn(room.run(stop));
        Running { store, outbox, changes, bus, folder, health }
    }

    /// A device of this node; returns once the room has it.
    async fn device(&self, name: &str) {
        let object =
            json!({"metadata": {"namespace": "default", "name": name}, "spec": {"nodeName": "edge-1"}});
        let change = ObjectChange {
            key: ObjectKey::parse(&format!("default/device/{name}")).unwrap(),
            change: Change::Put {
                version: ResourceVersion("1".into()),
                object: Json::encode(&object).unwrap(),
            },
        };
        self.changes.send(change).await.unwrap();
        soon(async {
            while self.rows("SELECT count(*) FROM device").await != 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn publish(&self, topic: &str, payload: String) -> Outlook {
        let (receipt, outlook) = Receipt::watched();
        let message = eventbus::Incoming { topic: topic.to_owned(), payload: payload.into(), receipt };
        soon(self.bus.send(message)).await.unwrap();
        outlook
    }

    async fn report(&self, device: &str, value: usize) -> Outlook {
        let payload = json!({"twin": {"x": {"actual": {"value": value.to_string()}}}}).to_string();
        self.publish(&format!("$hw/events/device/default/{device}/twin/update"), payload).await
    }

    /// Holds the disk up until the sender is dropped.
    async fn hold_up(&self) -> blocking::Sender<()> {
        let (release, released) = blocking::channel::<()>();
        let (started, running) = oneshot::channel();
        let store = self.store.clone();
        tokio::spawn(async move {
            let write = move |_: &store::rusqlite::Transaction<'_>| {
                let _ = started.send(());
                let _ = released.recv();
                Ok(())
            };
            let _ = store.write(write).await;
        });
        soon(running).await.unwrap();
        release
    }

    async fn rows(&self, sql: &'static str) -> i64 {
        self.store.read(move |db| db.query_row(sql, [], |row| row.get(0))).await.unwrap()
    }

    async fn value(&self) -> String {
        self.store
            .read(|db| db.query_row("SELECT actual FROM device_twin", [], |row| row.get(0)))
            .await
            .unwrap()
    }
}

async fn is_open(outlook: &mut Outlook) -> bool {
    tokio::time::timeout(Duration::from_millis(50), outlook.completed()).await.is_err()
}

#[tokio::test]
async fn a_value_is_confirmed_after_its_commit_and_what_waits_shares_the_next_one() {
    let room = Running::start().await;
    room.device("d").await;
    let release = room.hold_up().await;
    let mut first = room.report("d", 0).await;
    let mut waiting = Vec::new();
    for value in 1..12 {
        waiting.push(room.report("d", value).await);
    }
    assert!(is_open(&mut first).await, "its commit is held up");
    for outlook in &mut waiting {
        assert!(is_open(outlook).await);
    }
    assert_eq!(room.rows("SELECT count(*) FROM device_twin").await, 0);
    drop(release);
    assert!(soon(first.completed()).await);
    for outlook in &mut waiting {
        assert!(soon(outlook.completed()).await);
    }
    assert_eq!(room.value().await, "11");
    let reports = room.outbox.next(0, 100).await.unwrap();
    assert_eq!(reports.len(), 12, "each value is reported");
    assert!(reports[11].message.content.data().contains(r#""value":"11""#), "in the order they came");
}

#[tokio::test]
async fn what_causes_nothing_durable_is_confirmed_once_it_was_read() {
    let room = Running::start().await;
    room.device("d").await;
    let topic = "$hw/events/device/default/d/twin/update";
    for (topic, payload) in [
        ("$hw/events/device/default/nobody/twin/update", r#"{"twin":{"x":{"actual":{"value":"1"}}}}"#),
        (topic, "not JSON"),
        (topic, r#"{"twin":{"n":{"actual":{"value":"x"},"metadata":{"type":"int"}}}}"#),
        ("$hw/events/device/default/d/twin/get", "{}"),
        ("$hw/events/device/default/d/state/update", "[]"),
        ("a/user/b", "for the cloud"),
    ] {
        let mut outlook = room.publish(topic, payload.to_owned()).await;
        assert!(soon(outlook.completed()).await, "{topic} {payload}");
    }
    assert_eq!(room.outbox.next(0, 10).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_value_that_could_not_be_stored_is_not_confirmed_and_did_not_happen() {
    let room = Running::start().await;
    room.device("d").await;
    assert!(soon(room.report("d", 1).await.completed()).await);
    let break_outbox =
        "CREATE TRIGGER full BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'disk full'); END";
    room.store.write(move |tx| tx.execute_batch(break_outbox)).await.unwrap();
    assert!(!soon(room.report("d", 2).await.completed()).await);
    assert_eq!(room.value().await, "1");
    room.store.write(|tx| tx.execute_batch("DROP TRIGGER full")).await.unwrap();
    // Were 2 still in memory, it would be no change and not be stored.
    assert!(soon(room.report("d", 2).await.completed()).await);
    assert_eq!(room.value().await, "2");
    assert!(room.folder.path().exists());
}

#[tokio::test]
async fn a_commit_that_does_not_end_makes_the_room_stuck_until_it_does() {
    let room = Running::start().await;
    room.device("d").await;
    let release = room.hold_up().await;
    let mut waiting = room.report("d", 1).await;
    assert!(is_open(&mut waiting).await);
    tokio::time::pause();
    tokio::time::advance(STUCK_AFTER + Duration::from_secs(1)).await;
    tokio::time::resume();
    assert_eq!(room.health.stuck(), ["devicetwin"]);
    drop(release);
    assert!(soon(waiting.completed()).await);
    soon(async {
        while !room.health.stuck().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
