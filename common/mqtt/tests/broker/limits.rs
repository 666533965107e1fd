//! How many clients and subscriptions are granted, and to whom.

use mqtt::QoS;
use rumqttc::Packet;

use crate::foreign::{CONNECT, Foreign, SOON, broker, raw};

#[tokio::test]
async fn too_many_clients_are_told_so_and_stopping_ends_all() {
    let broker = broker(|settings| settings.limits.clients = 1).await;
    let first = Foreign::new(&broker, "first").await;
    for _ in 0..20 {
        assert_eq!(raw(&broker, &CONNECT).await, [0x20, 2, 0, 3], "the service is not available");
    }
    let counts = broker.handle.counts();
    assert_eq!((counts.clients, counts.refused_clients), (1, 20));
    broker.stop.cancel();
    tokio::time::timeout(SOON, broker.task).await.expect("does not stop").unwrap();
    tokio::time::timeout(SOON, first.poll).await.expect("still connected").unwrap();
}

/// Codes of a SUBACK for `filters`.
async fn asked(client: &mut Foreign, filters: Vec<String>) -> Vec<rumqttc::SubscribeReasonCode> {
    let filters = filters.into_iter().map(|path| rumqttc::SubscribeFilter::new(path, QoS::AtLeastOnce));
    client.client.subscribe_many(filters).await.unwrap();
    loop {
        if let Packet::SubAck(ack) = client.packet().await {
            return ack.return_codes;
        }
    }
}

#[tokio::test]
async fn a_gateway_subscribes_a_topic_for_each_of_its_devices() {
    let broker = broker(|settings| settings.limits.filters = 501).await;
    let mut gateway = Foreign::new(&broker, "gateway").await;
    let delta = |number: usize| format!("$hw/events/device/default/d{number}/twin/update/delta");
    let granted = rumqttc::SubscribeReasonCode::Success(QoS::AtLeastOnce);
    let refused = rumqttc::SubscribeReasonCode::Failure;
    let codes = asked(&mut gateway, (0..500).map(delta).collect()).await;
    assert!(codes.iter().all(|code| *code == granted), "{codes:?}");
    assert_eq!(
        asked(&mut gateway, vec![delta(0), delta(500), delta(501)]).await,
        [granted, granted, refused]
    );
    assert_eq!(asked(&mut gateway, vec!["$share/group/a".into()]).await, [refused], "not served");
    gateway.client.publish("a", QoS::AtLeastOnce, false, "x").await.unwrap();
    while !matches!(gateway.packet().await, Packet::PubAck(_)) {}
    let counts = broker.handle.counts();
    assert_eq!((counts.clients, counts.refused_subscriptions, counts.received), (1, 2, 1));
}

#[tokio::test]
async fn a_client_of_mqtt_3_1_is_served() {
    let broker = broker(|_| {}).await;
    let mut local = broker.handle.subscribe(&["t"]);
    let connect = [&[0x10, 15, 0, 6][..], b"MQIsdp\x03\x02\0\0\0\x01a"].concat();
    let subscribe = [0x8a, 6, 0, 1, 0, 1, b'u', 0];
    let publish = [0x30, 4, 0, 1, b't', b'x'];
    let bytes = [&connect[..], &subscribe, &publish, &[0xe0, 0]].concat();
    assert!(raw(&broker, &bytes).await.starts_with(&[0x20, 2, 0, 0]));
    assert_eq!(local.recv().await.unwrap().accept().payload, "x");
}
