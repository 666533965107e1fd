//! The bus with apps on its embedded broker and on an external one.

use mqtt::client::{Client, Settings as ClientSettings};
use mqtt::{Delivery, Login, MAX_PACKET, Publish, QoS};
use tokio::sync::mpsc;

use super::*;

const SOON: Duration = Duration::from_secs(10);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("nothing came")
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn app(address: SocketAddr, filter: &str) -> (Client, mpsc::Receiver<Delivery>) {
    let settings = ClientSettings {
        address: address.to_string().parse().unwrap(),
        client_id: "app".into(),
        login: None,
    };
    let (client, receiver) = Client::start(settings, vec![filter.to_owned()]);
    soon(client.connections().changed()).await.unwrap();
    (client, receiver)
}

#[tokio::test]
async fn requests_of_apps_arrive_in_order_and_answers_reach_them() {
    let settings = Settings { internal: Some(loopback()), external: None, ..Settings::default() };
    let (bus, handle, mut incoming) = EventBus::build(settings, &runtime::Handle::current()).await.unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(bus.run(stop.clone()));
    let (app, mut answers) =
        app(handle.local_addr().unwrap(), "$hw/events/device/+/+/twin/update/result").await;
    for number in 0..300 {
        let topic = "$hw/events/device/device/hw/twin/update";
        app.publish(Publish::new(topic, number.to_string(), QoS::AtLeastOnce));
    }
    app.publish(Publish::new("not/for/us", "x", QoS::AtLeastOnce));
    app.publish(Publish::new("app/user/up", "last", QoS::AtLeastOnce));
    for number in 0..300 {
        let message = soon(incoming.next()).await;
        assert_eq!(message.payload, number.to_string());
        message.receipt.complete();
    }
    let last = soon(incoming.next()).await;
    assert_eq!((last.topic.as_str(), last.payload.as_ref()), ("app/user/up", &b"last"[..]));
    last.receipt.complete();
    let topic = topics::twin_update_result("device", "hw");
    handle.publish(topic.clone(), "{}".into());
    assert_eq!(soon(answers.recv()).await.unwrap().topic, topic);
    stop.cancel();
    soon(running).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_bus_starts_without_its_external_broker_and_publishes_to_both() {
    let reserved = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let external = client::Settings {
        address: format!("tcp://{address}").parse().unwrap(),
        client_id: "hub-client-edge-1".into(),
        login: Some(Login { username: "node".into(), password: "pass".into() }),
    };
    let settings = Settings { internal: Some(loopback()), external: Some(external), ..Settings::default() };
    let (bus, handle, mut incoming) = EventBus::build(settings, &runtime::Handle::current()).await.unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(bus.run(stop.clone()));
    handle.publish("waiting".into(), "for the broker".into());

    // "pass", as mosquitto_passwd writes it.
    let users = "node:$7$101$dHdlbHZlIGJ5dGVz$KnheQ2YliE+dUYMcHfrx2eRP6CwVv2CWPYpMdpb2UidnI2evK30Rkl3jc1Vw0IleSWiAGtimNkVDYhJSpT672Q==";
    let users = Some(Arc::new(mqtt::broker::access::Users::read(users, None).unwrap()));
    let outside = mqtt::broker::Settings { users, ..mqtt::broker::Settings::at(address) };
    let outside = Broker::bind(outside).await.unwrap();
    let external = outside.handle();
    let mut outside_app = external.subscribe(&["#"]);
    let outside = tokio::spawn(outside.run(stop.clone()));
    assert_eq!(soon(outside_app.recv()).await.unwrap().accept().topic, "waiting");
    soon(async {
        loop {
            external.publish(Publish::new("$hw/events/upload/x", "up", QoS::AtLeastOnce));
            if tokio::time::timeout(Duration::from_millis(50), incoming.next()).await.is_ok() {
                return;
            }
        }
    })
    .await;
    stop.cancel();
    soon(running).await.unwrap().unwrap();
    soon(outside).await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_told_when_the_bus_is_built() {
    let taken = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let settings = Settings { internal: taken.local_addr().ok(), external: None, ..Settings::default() };
    assert!(matches!(
        EventBus::build(settings, &runtime::Handle::current()).await,
        Err(BuildError::Broker(_))
    ));
}

#[tokio::test]
async fn a_bus_without_brokers_publishes_into_nothing_and_stops() {
    let (bus, handle, _incoming) =
        EventBus::build(Settings::default(), &runtime::Handle::current()).await.unwrap();
    handle.publish("a".into(), "x".repeat(2 * MAX_PACKET));
    assert_eq!(handle.dropped(), 0);
    let stop = CancellationToken::new();
    stop.cancel();
    soon(bus.run(stop)).await.unwrap();
}

#[test]
fn memory_is_given_back_after_a_fall_and_not_in_the_middle_of_a_flood() {
    let mut wave = Wave::default();
    let mib = |count: usize| count * Wave::FALL;
    assert!(![0, 8, 8, 8].into_iter().any(|count| wave.fell(mib(count))));
    assert!(wave.fell(mib(1)) && !wave.fell(mib(1)) && wave.fell(0));
    assert!(!wave.fell(100));
}

#[test]
fn the_end_of_a_long_fall_is_one_too() {
    let mut wave = Wave::default();
    // Sessions that end one after the other, looked at each five seconds.
    let fell = [8_388_472, 8_388_472, 931_934, 175_124, 0, 0].map(|bytes| wave.fell(bytes));
    assert_eq!(fell, [false, false, true, true, true, false]);
}
