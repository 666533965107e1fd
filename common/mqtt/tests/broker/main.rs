//! The embedded broker, spoken to by rumqttc's client and by hand.
#![allow(clippy::unwrap_used)] // clippy sees functions beside the tests as not tests

mod foreign;
mod limits;

use std::sync::Arc;
use std::time::Duration;

use foreign::{CONNECT, Foreign, PASSWORDS, SOON, broker, raw};
use mqtt::broker::access::Users;
use mqtt::{Publish, QoS};
use rumqttc::{AsyncClient, ConnectReturnCode, ConnectionError, LastWill, MqttOptions, Packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn every_qos_arrives_once_with_the_lower_of_both_qualities() {
    let broker = broker(|_| {}).await;
    let publisher = Foreign::new(&broker, "pub").await;
    for wanted in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut subscriber = Foreign::new(&broker, &format!("sub{}", wanted as u8)).await;
        subscriber.subscribe("a/+", wanted).await;
        for sent in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            publisher.client.publish("a/b", sent, false, format!("{}", sent as u8)).await.unwrap();
            let got = subscriber.message().await;
            assert_eq!(got.payload, format!("{}", sent as u8));
            assert_eq!(got.qos as u8, (sent as u8).min(wanted as u8));
            assert!(!got.retain);
        }
        subscriber.has_nothing(&broker, "a/x").await;
        subscriber.vanish().await;
    }
    assert_eq!(broker.handle.dropped(), 0);
}

#[tokio::test]
async fn a_thousand_quick_messages_of_each_qos_keep_their_order() {
    let broker = broker(|_| {}).await;
    let mut local = broker.handle.subscribe(&["a/#"]);
    let mut subscriber = Foreign::new(&broker, "sub").await;
    subscriber.subscribe("a/#", QoS::ExactlyOnce).await;
    let publisher = Foreign::new(&broker, "pub").await;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for number in 0..1000 {
            publisher.client.publish("a/b", qos, false, number.to_string()).await.unwrap();
        }
        for number in 0..1000 {
            assert_eq!(subscriber.message().await.payload, number.to_string());
            assert_eq!(local.recv().await.unwrap().accept().payload, number.to_string());
        }
    }
    assert_eq!(broker.handle.dropped(), 0);
}

#[tokio::test]
async fn the_retained_message_waits_for_later_subscribers_until_it_is_cleared() {
    let broker = broker(|_| {}).await;
    let mut publisher = Foreign::new(&broker, "pub").await;
    for payload in ["1", "2"] {
        publisher.client.publish("r/a", QoS::AtLeastOnce, true, payload).await.unwrap();
    }
    publisher.flush().await;
    publisher.flush().await;
    publisher.flush().await;
    let mut subscriber = Foreign::new(&broker, "sub").await;
    subscriber.subscribe("r/#", QoS::AtLeastOnce).await;
    let got = subscriber.message().await;
    assert_eq!((got.payload.as_ref(), got.retain), (&b"2"[..], true));
    publisher.client.publish("r/a", QoS::AtLeastOnce, true, "").await.unwrap();
    assert!(!subscriber.message().await.retain);
    let mut late = Foreign::new(&broker, "late").await;
    late.subscribe("r/#", QoS::AtLeastOnce).await;
    late.has_nothing(&broker, "r/x").await;
}

#[tokio::test]
async fn the_will_is_published_after_a_failure_and_not_after_a_goodbye() {
    let broker = broker(|_| {}).await;
    let mut watcher = Foreign::new(&broker, "watcher").await;
    watcher.subscribe("will/#", QoS::AtLeastOnce).await;
    for (id, is_polite) in [("polite", true), ("rude", false)] {
        let will = LastWill::new(format!("will/{id}"), "gone", QoS::AtLeastOnce, false);
        let (mut mortal, _) = Foreign::connect(&broker, id, |options| {
            options.set_last_will(will);
        })
        .await;
        mortal.flush().await;
        if is_polite {
            mortal.client.disconnect().await.unwrap();
            let _ = tokio::time::timeout(SOON, mortal.poll).await.unwrap();
            watcher.has_nothing(&broker, "will/marker").await;
        } else {
            mortal.vanish().await;
            assert_eq!(watcher.message().await.topic, "will/rude");
        }
    }
}

#[tokio::test]
async fn a_persistent_session_keeps_messages_and_a_clean_one_does_not() {
    let broker = broker(|_| {}).await;
    let mut publisher = Foreign::new(&broker, "pub").await;
    let keep = |options: &mut MqttOptions| {
        options.set_clean_session(false);
    };
    let (mut subscriber, present) = Foreign::connect(&broker, "sub", keep).await;
    assert!(!present);
    subscriber.subscribe("p", QoS::ExactlyOnce).await;
    subscriber.vanish().await;
    for (payload, qos) in [("0", QoS::AtMostOnce), ("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce)] {
        publisher.client.publish("p", qos, false, payload).await.unwrap();
    }
    publisher.flush().await;
    let (mut subscriber, present) = Foreign::connect(&broker, "sub", keep).await;
    assert!(present);
    let mut got = subscriber.message().await;
    if got.payload == "0" {
        // The broker had not yet noticed that the client was gone.
        got = subscriber.message().await;
    }
    assert_eq!(got.payload, "1");
    assert_eq!(subscriber.message().await.payload, "2");
    subscriber.vanish().await;
    let (_, present) = Foreign::connect(&broker, "sub", |_| {}).await;
    assert!(!present);
}

#[tokio::test]
async fn a_second_connection_of_the_same_name_takes_over() {
    let broker = broker(|_| {}).await;
    let mut first = Foreign::new(&broker, "same").await;
    first.subscribe("a", QoS::AtMostOnce).await;
    let mut second = Foreign::new(&broker, "same").await;
    tokio::time::timeout(SOON, first.poll).await.expect("the first stays connected").unwrap();
    second.subscribe("b", QoS::AtMostOnce).await;
    broker.handle.publish(Publish::new("a", "no", QoS::AtMostOnce));
    second.has_nothing(&broker, "b").await;
}

#[tokio::test]
async fn dollar_topics_work_but_leading_wildcards_do_not_see_them() {
    let broker = broker(|_| {}).await;
    let mut local = broker.handle.subscribe(mqtt::topics::SUBSCRIPTIONS);
    let mut all = Foreign::new(&broker, "all").await;
    all.subscribe("#", QoS::AtMostOnce).await;
    let mut app = Foreign::new(&broker, "app").await;
    app.subscribe("$hw/events/device/+/+/twin/update", QoS::AtMostOnce).await;
    let topic = "$hw/events/device/device/hw/twin/update";
    app.client.publish(topic, QoS::AtMostOnce, false, "{}").await.unwrap();
    assert_eq!(app.message().await.topic, topic);
    assert_eq!(local.recv().await.unwrap().accept().topic, topic);
    all.has_nothing(&broker, "x").await;
}

#[tokio::test]
async fn nothing_comes_after_unsubscribing() {
    let broker = broker(|_| {}).await;
    let mut client = Foreign::new(&broker, "c").await;
    client.subscribe("a", QoS::AtLeastOnce).await;
    client.subscribe("b", QoS::AtLeastOnce).await;
    client.client.unsubscribe("a").await.unwrap();
    while !matches!(client.packet().await, Packet::UnsubAck(_)) {}
    broker.handle.publish(Publish::new("a", "no", QoS::AtLeastOnce));
    client.has_nothing(&broker, "b").await;
}

#[tokio::test]
async fn an_oversized_packet_ends_only_its_connection() {
    let broker = broker(|_| {}).await;
    let mut other = Foreign::new(&broker, "other").await;
    let big = Foreign::new(&broker, "big").await;
    big.client.publish("a", QoS::AtMostOnce, false, vec![0; 2 << 20]).await.unwrap();
    tokio::time::timeout(SOON, big.poll).await.expect("still connected").unwrap();
    other.subscribe("a", QoS::AtMostOnce).await;
    other.has_nothing(&broker, "a").await;
}

#[tokio::test]
async fn garbage_and_broken_protocol_end_only_their_connection() {
    let broker = broker(|_| {}).await;
    let mut other = Foreign::new(&broker, "other").await;
    assert_eq!(raw(&broker, b"GET / HTTP/1.1\r\n\r\n").await, b"");
    assert_eq!(raw(&broker, &[0xff; 64]).await, b"");
    assert_eq!(raw(&broker, &[0xc0, 0]).await, b"", "PINGREQ before CONNECT");
    let accepted = [0x20, 2, 0, 0];
    let twice = [CONNECT, CONNECT].concat();
    assert_eq!(raw(&broker, &twice).await, accepted);
    let wildcard = [&CONNECT[..], &[0x30, 3, 0, 1, b'#']].concat();
    assert_eq!(raw(&broker, &wildcard).await, accepted);
    let mut version_5 = CONNECT;
    version_5[8] = 5;
    assert_eq!(raw(&broker, &version_5).await, [0x20, 2, 0, 1]);
    let nameless = [0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 0, 0, 0];
    assert_eq!(raw(&broker, &nameless).await, [0x20, 2, 0, 2]);
    other.subscribe("a", QoS::AtMostOnce).await;
    other.has_nothing(&broker, "a").await;
}

#[tokio::test]
async fn a_repeated_qos_2_message_is_delivered_once() {
    let broker = broker(|_| {}).await;
    let mut local = broker.handle.subscribe(&["t"]);
    let publish = [0x34, 6, 0, 1, b't', 0, 9, b'x'];
    let mut repeat = publish;
    repeat[0] |= 8;
    let bytes = [&CONNECT[..], &publish, &repeat, &[0x62, 2, 0, 9], &publish, &[0xe0, 0]].concat();
    let answer = raw(&broker, &bytes).await;
    assert!(answer.starts_with(&[0x20, 2, 0, 0]));
    for _ in 0..2 {
        local.recv().await.unwrap().accept();
    }
    assert!(local.try_recv().is_err());
}

#[tokio::test]
async fn silence_ends_a_connection_before_and_after_connect() {
    let broker = broker(|settings| settings.limits.connect_within = Duration::from_millis(200)).await;
    assert_eq!(raw(&broker, &[]).await, b"");
    let mut one_second = CONNECT;
    one_second[11] = 1;
    let started = tokio::time::Instant::now();
    raw(&broker, &one_second).await;
    assert!(started.elapsed() >= Duration::from_millis(1400));
}

#[tokio::test]
async fn a_login_is_asked_for_if_configured() {
    let users = Arc::new(Users::read(PASSWORDS, None).unwrap());
    let broker = broker(|settings| settings.users = Some(users)).await;
    let (_, _) = Foreign::connect(&broker, "a", |options| {
        options.set_credentials("app", "right");
    })
    .await;
    for password in [Some("wrong"), None] {
        let mut options = MqttOptions::new("b", "127.0.0.1", broker.address.port());
        if let Some(password) = password {
            options.set_credentials("app", password);
        }
        let (_client, mut events) = AsyncClient::new(options, 1);
        let error = events.poll().await.unwrap_err();
        let refused = ConnectReturnCode::BadUserNamePassword;
        assert!(matches!(error, ConnectionError::ConnectionRefused(code) if code == refused), "{error:?}");
    }
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_stalls_nobody() {
    let broker = broker(|_| {}).await;
    let mut deaf = TcpStream::connect(broker.address).await.unwrap();
    let mut subscribe = CONNECT.to_vec();
    subscribe.extend([0x82, 6, 0, 1, 0, 1, b't', 0]);
    deaf.write_all(&subscribe).await.unwrap();
    let mut answer = [0; 9];
    deaf.read_exact(&mut answer).await.unwrap();
    for _ in 0..100 {
        broker.handle.publish(Publish::new("t", vec![0; 512 * 1024], QoS::AtMostOnce));
        tokio::task::yield_now().await;
    }
    assert!(broker.handle.dropped() > 0);
    let mut other = Foreign::new(&broker, "other").await;
    other.subscribe("o", QoS::AtMostOnce).await;
    other.has_nothing(&broker, "o").await;
}

#[tokio::test]
async fn a_flood_is_held_back_and_others_get_their_turns() {
    let broker = broker(|settings| settings.limits.bytes_per_second = 256 * 1024).await;
    let mut arrived = broker.handle.subscribe(&["flood", "calm"]);
    let mut flood = bytes::BytesMut::from(CONNECT.as_slice());
    for _ in 0..160 {
        rumqttc::Publish::new("flood", QoS::AtMostOnce, vec![0; 64 * 1024]).write(&mut flood).unwrap();
    }
    let mut flooding = TcpStream::connect(broker.address).await.unwrap();
    let flooding = tokio::spawn(async move {
        let _ = flooding.write_all(&flood).await;
        std::future::pending::<()>().await
    });
    assert_eq!(arrived.recv().await.unwrap().accept().topic, "flood");
    let calm = Foreign::new(&broker, "calm").await;
    calm.client.publish("calm", QoS::AtMostOnce, false, "now").await.unwrap();
    let mut floods = 1;
    while arrived.recv().await.unwrap().accept().topic == "flood" {
        floods += 1;
    }
    assert!(floods < 160, "all of the flood was read before the other client's message");
    flooding.abort();
}

#[tokio::test]
async fn clients_do_not_publish_what_edgecore_answers() {
    let broker = broker(|_| {}).await;
    let mut app = Foreign::new(&broker, "app").await;
    app.subscribe("$hw/events/#", QoS::AtMostOnce).await;
    let mut liar = Foreign::new(&broker, "liar").await;
    for topic in [
        "$hw/events/device/default/d/twin/update/result",
        "$hw/events/device/default/d/twin/update/delta",
        "$hw/events/device/default/d/twin/update/document",
        "$hw/events/device/default/d/twin/get/result",
        "$hw/events/device/default/d/state/update/result",
        "$hw/events/node/edge-1/membership/updated",
        "$hw/events/node/edge-1/membership/get/result",
    ] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            liar.client.publish(topic, qos, true, "a lie").await.unwrap();
        }
        let mut last = None;
        while !matches!(last, Some(Packet::PubComp(_))) {
            last = Some(liar.packet().await);
        }
    }
    app.has_nothing(&broker, "$hw/events/device/default/d/twin/update/result").await;
}

#[tokio::test]
async fn topics_are_those_of_the_acl_and_sessions_those_of_their_user() {
    let acl = "user app\ntopic write up/#\ntopic read down/#\nuser other\ntopic #\n";
    let users = Arc::new(Users::read(PASSWORDS, Some(acl)).unwrap());
    let broker = broker(|settings| settings.users = Some(users)).await;
    let as_user = |name: &'static str| {
        move |options: &mut MqttOptions| {
            options.set_credentials(name, "right");
        }
    };
    let (mut app, _) = Foreign::connect(&broker, "app-1", as_user("app")).await;
    let (mut other, _) = Foreign::connect(&broker, "other-1", as_user("other")).await;
    other.subscribe("up/#", QoS::AtMostOnce).await;
    other.subscribe("down/#", QoS::AtMostOnce).await;
    app.subscribe("#", QoS::AtMostOnce).await;
    for topic in ["down/a", "up/a"] {
        app.client.publish(topic, QoS::AtLeastOnce, false, "from app").await.unwrap();
    }
    assert_eq!(other.message().await.topic, "up/a", "what app may not write arrives nowhere");
    for topic in ["up/b", "down/b"] {
        other.client.publish(topic, QoS::AtLeastOnce, false, "from other").await.unwrap();
    }
    assert_eq!(app.message().await.topic, "down/b", "what app may not read does not come");
    assert_eq!(broker.handle.counts().refused_messages, 1);
    let mut options = MqttOptions::new("app-1", "127.0.0.1", broker.address.port());
    options.set_credentials("other", "right");
    let (_client, mut events) = AsyncClient::new(options, 1);
    let error = events.poll().await.unwrap_err();
    let refused = ConnectReturnCode::NotAuthorized;
    assert!(matches!(error, ConnectionError::ConnectionRefused(code) if code == refused), "{error:?}");
    app.has_nothing(&broker, "down/c").await;
}
