//! EdgeCore is killed again and again while apps report values at QoS 1: what was acknowledged is in its database.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use harness::programs::Programs;
use harness::site::{NODE, Site};
use harness::wait;
use harness::wait::PATIENCE;
use rumqttc::{Connect, Packet, Publish, QoS, mqttbytes};
use rusqlite::Connection;
use serde_json::{Value, json};

const DEVICES: usize = 4;
const PROPERTIES: usize = 5;
const KILLS: usize = 10;
/// Messages an app sends before it waits for an acknowledgement.
const WINDOW: usize = 100;

/// Messages in all; `CAUSEWAY_MQTT_MESSAGES` raises them.
fn messages() -> usize {
    let given = std::env::var("CAUSEWAY_MQTT_MESSAGES").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

/// The newest acknowledged value of each device's properties.
type Acknowledged = Arc<Mutex<BTreeMap<(String, String), usize>>>;

fn acknowledged(all: &Acknowledged) -> BTreeMap<(String, String), usize> {
    all.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[test]
fn no_acknowledged_value_is_lost_when_edgecore_is_killed_ten_times() -> Result<()> {
    let site = Site::start(&Programs::find()?, false, |_| {})?;
    let devices: Vec<String> = (0..DEVICES).map(|number| format!("gauge-{number}")).collect();
    site.kubectl().apply(&manifests(&devices))?;
    let database = site.edge.database();
    wait::for_true("devices on the edge", PATIENCE, || {
        let known = "SELECT count(*) FROM device";
        Ok(Connection::open(&database)?.query_row(known, [], |row| row.get::<_, i64>(0))? == DEVICES as i64)
    })?;
    // Reports stay in the outbox, to be looked at.
    site.relay.cut();

    let each = messages() / DEVICES;
    let all = Acknowledged::default();
    let begun = wait::now();
    let apps: Vec<_> = devices
        .iter()
        .map(|device| {
            let app = App::new(site.edge.mqtt_port, device, each, all.clone());
            thread::spawn(move || app.report_all())
        })
        .collect();
    for kill in 1..=KILLS {
        let due = DEVICES * each * kill / (KILLS + 1);
        let progress = || acknowledged(&all).values().sum::<usize>() >= due * PROPERTIES;
        wait::for_true("acknowledgements", PATIENCE, || Ok(progress()))?;
        site.edge.kill9()?;
        let before = acknowledged(&all);
        let stored = stored(&Connection::open(&database)?)?;
        for (key, value) in &before {
            let found = stored.get(key).copied().unwrap_or_default();
            assert!(found >= *value, "kill {kill}: {key:?} was acknowledged with {value}, stored is {found}");
        }
        site.edge.start()?;
    }
    for app in apps {
        app.join().expect("an app panicked")?;
    }
    let rate = messages() as f64 / begun.elapsed().as_secs_f64();
    eprintln!("{} values, {KILLS} kills, {rate:.0} acknowledged per second, restarts included", messages());

    site.edge.kill9()?;
    let database = Connection::open(&database)?;
    let (stored, reported) = (stored(&database)?, reported(&database)?);
    let last = acknowledged(&all);
    assert_eq!(last.len(), DEVICES * PROPERTIES);
    assert_eq!(stored, last, "the last acknowledged value of every property");
    assert_eq!(reported, last, "and what the cloud will be told");
    Ok(())
}

fn manifests(devices: &[String]) -> String {
    let mut text = String::from(
        "apiVersion: devices.kubeedge.io/v1beta1\nkind: DeviceModel\nmetadata: {name: gauge, namespace: default}\n\
         spec:\n  protocol: virtual\n  properties:\n  - {name: p0, type: INT, accessMode: ReadOnly}\n",
    );
    for device in devices {
        text.push_str(&format!(
            "---\napiVersion: devices.kubeedge.io/v1beta1\nkind: Device\nmetadata: {{name: {device}, namespace: \
             default}}\nspec:\n  deviceModelRef: {{name: gauge}}\n  nodeName: {NODE}\n  protocol: {{protocolName: \
             virtual}}\n"
        ));
    }
    text
}

/// The values in the twin table.
fn stored(database: &Connection) -> Result<BTreeMap<(String, String), usize>> {
    let mut statement = database.prepare("SELECT deviceid, name, actual FROM device_twin")?;
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
    })?;
    rows.map(|row| {
        let (device, property, value) = row?;
        let name = device.trim_start_matches("default/").to_owned();
        Ok(((name, property), value.parse()?))
    })
    .collect()
}

/// The values in the newest waiting report of each device.
fn reported(database: &Connection) -> Result<BTreeMap<(String, String), usize>> {
    let mut statement =
        database.prepare("SELECT message FROM outbox WHERE stream IN ('report', 'newer') ORDER BY seq")?;
    let mut values = BTreeMap::new();
    for text in statement.query_map([], |row| row.get::<_, String>(0))? {
        let message = message::decode(text?.as_bytes())?;
        let report: Value = serde_json::from_str(&message.content.data())?;
        let device = message.route.resource.split('/').find(|part| part.starts_with("gauge-"));
        let device = device.context("a report without its device")?;
        for (property, twin) in report["twin"].as_object().into_iter().flatten() {
            let value = twin["actual"]["value"].as_str().unwrap_or_default().parse()?;
            values.insert((device.to_owned(), property.clone()), value);
        }
    }
    Ok(values)
}

/// Reports distinct values of one device in their order, and sends again what was not acknowledged.
struct App {
    port: u16,
    device: String,
    count: usize,
    all: Acknowledged,
    /// Sent, oldest first.
    unacknowledged: VecDeque<usize>,
    /// The next value to send for the first time.
    next: usize,
}

impl App {
    fn new(port: u16, device: &str, count: usize, all: Acknowledged) -> App {
        App { port, device: device.to_owned(), count, all, unacknowledged: VecDeque::new(), next: 1 }
    }

    fn report_all(mut self) -> Result<()> {
        let mut progressed = wait::now();
        while self.next <= self.count || !self.unacknowledged.is_empty() {
            let before = self.unacknowledged.front().copied();
            match self.converse() {
                Ok(()) => {}
                // EdgeCore is gone or not yet back.
                Err(error) if error.is::<std::io::Error>() => wait::pause(Duration::from_millis(20)),
                Err(error) => return Err(error),
            }
            if self.unacknowledged.front().copied() != before {
                progressed = wait::now();
            }
            ensure!(progressed.elapsed() < PATIENCE, "{} hears nothing", self.device);
        }
        Ok(())
    }

    /// One connection: first what was not acknowledged, then what is new.
    fn converse(&mut self) -> Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut out = BytesMut::new();
        Connect::new(&self.device).write(&mut out)?;
        for value in &self.unacknowledged {
            self.publish(*value).write(&mut out)?;
        }
        let mut buffer = BytesMut::new();
        loop {
            while self.next <= self.count && self.unacknowledged.len() < WINDOW {
                self.publish(self.next).write(&mut out)?;
                self.unacknowledged.push_back(self.next);
                self.next += 1;
            }
            stream.write_all(&out)?;
            out.clear();
            if self.unacknowledged.is_empty() {
                return Ok(());
            }
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk)? {
                0 => return Err(std::io::Error::from(ErrorKind::ConnectionReset).into()),
                read => buffer.extend_from_slice(&chunk[..read]),
            }
            self.hear(&mut buffer)?;
        }
    }

    fn hear(&mut self, buffer: &mut BytesMut) -> Result<()> {
        loop {
            match Packet::read(buffer, usize::MAX) {
                Ok(Packet::PubAck(ack)) => {
                    let value = self.unacknowledged.pop_front().context("nothing to acknowledge")?;
                    ensure!(ack.pkid == identifier(value), "acknowledged out of order");
                    let key = (self.device.clone(), property(value));
                    self.all.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value);
                }
                Ok(Packet::ConnAck(_)) => {}
                Ok(other) => bail!("{other:?}"),
                Err(mqttbytes::Error::InsufficientBytes(_)) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn publish(&self, value: usize) -> Publish {
        let twin = json!({"actual": {"value": value.to_string()}, "metadata": {"type": "int"}});
        let payload = json!({"event_id": value.to_string(), "twin": {property(value): twin}}).to_string();
        let topic = format!("$hw/events/device/default/{}/twin/update", self.device);
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
        publish.pkid = identifier(value);
        publish
    }
}

fn property(value: usize) -> String {
    format!("p{}", value % PROPERTIES)
}

fn identifier(value: usize) -> u16 {
    (value % 60_000 + 1) as u16
}
