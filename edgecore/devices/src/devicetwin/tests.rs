//! The room with a database whose disk can be held up, and a bus that is doubled.

use std::sync::mpsc as blocking;
use std::time::Duration;

use daemon::health::{Health, STUCK_AFTER};
use message::{Json, ObjectKey, ResourceVersion};
use mqtt::{Outlook, Receipt};
use serde_json::json;
use tokio::sync::oneshot;

use super::*;
use metamanager::Change;

const SOON: Duration = Duration::from_secs(10);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("nothing came")
}

struct Running {
    store: Store,
    outbox: Outbox,
    changes: mpsc::Sender<ObjectChange>,
    bus: mpsc::Sender<Delivery>,
    folder: tempfile::TempDir,
    health: Health,
}

impl Running {
    async fn start() -> Running {
        Running::on(None).await
    }

    async fn on(publisher: Option<eventbus::Handle>) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let store = metamanager::database::open(&folder.path().join("edgecore.db")).unwrap();
        let outbox = Outbox::new(store.clone());
        let (changes, changed) = mpsc::channel(16);
        let (bus, incoming) = mpsc::channel(16);
        let health = Health::default();
        let settings = Settings {
            node: NodeName::new("edge-1").unwrap(),
            dmi_socket: folder.path().join("dmi.sock"),
            accept_any_reporter: false,
        };
        let deps = Deps {
            store: store.clone(),
            objects: Objects::new(store.clone()),
            outbox: outbox.clone(),
            changes: changed,
            bus: publisher,
            incoming: eventbus::Messages::new(Some(incoming), None),
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
        self.put("device", name, json!({"nodeName": "edge-1"})).await;
        soon(async {
            while self.rows("SELECT count(*) FROM device").await != 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn put(&self, kind: &str, name: &str, spec: serde_json::Value) {
        let object = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
        let change = ObjectChange {
            key: ObjectKey::parse(&format!("default/{kind}/{name}")).unwrap(),
            change: Change::Put {
                version: ResourceVersion("1".into()),
                object: Json::encode(&object).unwrap(),
            },
        };
        self.changes.send(change).await.unwrap();
    }

    /// A device with a model: property `t` is a FLOAT.
    async fn thermometer(&self, name: &str, protocol: &str) {
        let properties = json!([{"name": "t", "type": "FLOAT"}]);
        self.put("devicemodel", "m", json!({"protocol": protocol, "properties": properties})).await;
        let spec = json!({"nodeName": "edge-1", "deviceModelRef": {"name": "m"},
            "protocol": {"protocolName": protocol}, "properties": [{"name": "t"}]});
        self.put("device", name, spec).await;
        soon(async {
            while self.rows("SELECT count(*) FROM device").await != 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn manager(&self) -> dmi::Manager {
        soon(dmi::Manager::connect(&self.folder.path().join("dmi.sock"))).await.unwrap()
    }

    async fn mapper_rows(&self) -> i64 {
        self.rows("SELECT count(*) FROM meta WHERE type = 'devicemapper'").await
    }

    async fn publish(&self, topic: &str, payload: String) -> Outlook {
        let (receipt, outlook) = Receipt::watched();
        let publish = Publish::new(topic, payload, mqtt::QoS::AtLeastOnce);
        let message = Delivery { publish, receipt };
        soon(self.bus.send(message)).await.unwrap();
        outlook
    }

    async fn report(&self, device: &str, value: usize) -> Outlook {
        let payload = json!({"twin": {"x": {"actual": {"value": value.to_string()}}}}).to_string();
        self.publish(&format!("$hw/events/device/default/{device}/twin/update"), payload).await
    }

    /// Returns once the room has taken what was sent to it.
    async fn taken(&self) {
        soon(async {
            while self.bus.capacity() < self.bus.max_capacity() {
                tokio::task::yield_now().await;
            }
        })
        .await;
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
    room.taken().await;
    assert!(is_open(&mut first).await, "its commit is held up");
    let mut waiting = Vec::new();
    for value in 1..12 {
        waiting.push(room.report("d", value).await);
    }
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
    assert_eq!(room.rows("SELECT actual_version ->> 'edge' FROM device_twin").await, 12, "each value counts");
    let first = room.outbox.next(0, 100).await.unwrap();
    assert_eq!(room.rows("SELECT count(*) FROM outbox").await, 2, "the second commit is one report");
    assert!(first[0].message.content.data().contains(r#""value":"0""#), "in the order they came");
    room.outbox.done(vec![first[0].seq]).await.unwrap();
    let second = room.outbox.next(0, 100).await.unwrap();
    assert!(second[0].message.content.data().contains(r#""value":"11""#));
}

#[tokio::test]
async fn a_group_writes_each_changed_value_once_and_reports_each_device_once() {
    let room = Running::start().await;
    room.put("device", "a", json!({"nodeName": "edge-1"})).await;
    room.put("device", "b", json!({"nodeName": "edge-1"})).await;
    soon(async {
        while room.rows("SELECT count(*) FROM device").await != 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let count_writes = "CREATE TABLE writes(n);
        CREATE TRIGGER i AFTER INSERT ON device_twin BEGIN INSERT INTO writes VALUES (1); END;
        CREATE TRIGGER u AFTER UPDATE ON device_twin BEGIN INSERT INTO writes VALUES (1); END;
        CREATE TRIGGER o AFTER INSERT ON outbox BEGIN INSERT INTO writes VALUES (100); END;";
    room.store.write(move |tx| tx.execute_batch(count_writes)).await.unwrap();
    let release = room.hold_up().await;
    let mut outlooks = vec![room.report("a", 0).await];
    // It is committed alone, and waits for the disk when the others arrive.
    room.taken().await;
    for value in 1..6 {
        outlooks.push(room.report("a", value).await);
        outlooks.push(room.report("b", value).await);
    }
    drop(release);
    for outlook in &mut outlooks {
        assert!(soon(outlook.completed()).await);
    }
    assert_eq!(room.rows("SELECT sum(n) FROM writes").await, 3 * (100 + 1));
}

#[tokio::test]
async fn apps_hear_of_every_update_while_reports_are_merged() {
    let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = eventbus::Settings { internal: Some(loopback), ..Default::default() };
    let doors = runtime::Handle::current();
    let (bus, handle, _incoming) = eventbus::EventBus::build(settings, &doors).await.unwrap();
    tokio::spawn(bus.run(CancellationToken::new()));
    let room = Running::on(Some(handle.clone())).await;
    room.device("d").await;
    let settings = mqtt::client::Settings {
        address: handle.local_addr().unwrap().to_string().parse().unwrap(),
        client_id: "app".into(),
        login: None,
    };
    let filter = "$hw/events/device/default/d/twin/update/document".to_owned();
    let (_app, mut heard) = mqtt::client::Client::start(settings, vec![filter.clone()]);
    soon(async {
        while !handle.is_heard(&filter) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let release = room.hold_up().await;
    for value in 0..6 {
        room.report("d", value).await;
    }
    drop(release);
    for value in 0..6 {
        let mqtt::Delivery { publish, receipt } = soon(heard.recv()).await.unwrap();
        let document: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
        assert_eq!(document["twin"]["x"]["current"]["actual"]["value"], value.to_string());
        receipt.complete();
    }
    assert!(room.rows("SELECT count(*) FROM outbox").await <= 2);
}

#[tokio::test]
async fn all_that_is_known_of_a_twin_outlives_the_process() {
    let room = Running::start().await;
    room.device("d").await;
    let topic = "$hw/events/device/default/d/twin/update";
    let payload = json!({"twin": {"x": {"expected": {"value": "4"}, "actual": {"value": "3"}}}}).to_string();
    assert!(soon(room.publish(topic, payload).await.completed()).await);
    let kept = room.store.read(table::load).await.unwrap();
    assert_eq!(
        kept["default/d"].twins.0["x"].observed.as_deref(),
        Some("4"),
        "a later report tells it again"
    );
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

fn mapper(protocol: &str, address: &str) -> dmi::v1beta1::MapperInfo {
    dmi::v1beta1::MapperInfo {
        name: format!("{protocol}-mapper"),
        protocol: protocol.to_owned(),
        address: address.as_bytes().to_vec(),
        ..Default::default()
    }
}

fn values(value: &str) -> dmi::v1beta1::DeviceStatus {
    let side = dmi::v1beta1::TwinProperty {
        value: value.to_owned(),
        metadata: [("type".to_owned(), "float".to_owned())].into(),
    };
    let twin = dmi::v1beta1::Twin { property_name: "t".into(), reported: Some(side), ..Default::default() };
    dmi::v1beta1::DeviceStatus { twins: vec![twin], ..Default::default() }
}

#[tokio::test]
async fn who_never_registered_reports_nothing() {
    let room = Running::start().await;
    room.thermometer("d", "modbus").await;
    let manager = room.manager().await;
    assert!(soon(manager.report_twins("default", "d", values("1"))).await.is_err(), "values were taken");
    assert!(soon(manager.report_state("default", "d", "online")).await.is_err(), "a state was taken");
    soon(manager.register(mapper("opcua", "/run/opcua.sock"), false)).await.unwrap();
    assert!(soon(manager.report_twins("default", "d", values("1"))).await.is_err(), "of another protocol");
    soon(manager.register(mapper("modbus", "/run/modbus.sock"), false)).await.unwrap();
    soon(manager.report_twins("default", "d", values("1"))).await.unwrap();
    let second_connection = room.manager().await;
    soon(second_connection.report_twins("default", "", values("2"))).await.unwrap_err();
    soon(second_connection.report_twins("default", "d", values("2"))).await.unwrap();
    assert_eq!(room.value().await, "2");
}

#[tokio::test]
async fn made_up_protocols_are_bounded() {
    let room = Running::start().await;
    let manager = room.manager().await;
    for number in 0..200 {
        let _ = soon(manager.register(mapper(&format!("p{number}"), "/run/x.sock"), false)).await;
    }
    assert!(room.mapper_rows().await <= 128, "{} rows", room.mapper_rows().await);
    let long = mapper(&"p".repeat(100_000), "/run/x.sock");
    assert!(soon(manager.register(long, false)).await.is_err(), "a protocol of 100,000 letters was kept");
}

#[tokio::test]
async fn what_is_no_number_is_not_taken_for_one() {
    let room = Running::start().await;
    room.thermometer("d", "modbus").await;
    let manager = room.manager().await;
    soon(manager.register(mapper("modbus", "/run/modbus.sock"), false)).await.unwrap();
    for wrong in ["abc", "NaN", "inf", "-Infinity"] {
        assert!(soon(manager.report_twins("default", "d", values(wrong))).await.is_err(), "{wrong:?}");
    }
    let topic = "$hw/events/device/default/d/twin/update";
    for kind in ["deleted", "float", "string"] {
        for wrong in ["x", "NaN"] {
            let payload =
                json!({"twin": {"t": {"actual": {"value": wrong}, "metadata": {"type": kind}}}}).to_string();
            assert!(soon(room.publish(topic, payload).await.completed()).await);
            assert_eq!(room.rows("SELECT count(*) FROM device_twin").await, 0, "{wrong:?} of type {kind}");
        }
    }
    soon(manager.report_twins("default", "d", values("36.6"))).await.unwrap();
    assert_eq!(room.value().await, "36.6");
}
