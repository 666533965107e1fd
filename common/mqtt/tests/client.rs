//! Our client against our broker: it starts before the broker, and comes back after it.
#![allow(clippy::unwrap_used)] // clippy sees functions beside the tests as not tests

use std::net::SocketAddr;
use std::time::Duration;

use mqtt::broker::{self, Broker, Handle};
use mqtt::client::{Address, Client, Settings};
use mqtt::{MAX_PACKET, Publish, QoS};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);

async fn broker_at(address: SocketAddr) -> (Handle, CancellationToken, tokio::task::JoinHandle<()>) {
    let broker = Broker::bind(broker::Settings::at(address)).await.unwrap();
    let (handle, stop) = (broker.handle(), CancellationToken::new());
    let task = tokio::spawn(broker.run(stop.clone()));
    (handle, stop, task)
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("nothing came")
}

/// A message given to the client's subscription, once it is made.
async fn reaches(handle: &Handle, receiver: &mut tokio::sync::mpsc::Receiver<mqtt::Delivery>) {
    soon(async {
        loop {
            handle.publish(Publish::new("in/x", "down", QoS::AtLeastOnce));
            let wait = tokio::time::timeout(Duration::from_millis(50), receiver.recv());
            if let Ok(Some(message)) = wait.await {
                let message = message.accept();
                assert_eq!((message.topic.as_str(), message.payload.as_ref()), ("in/x", &b"down"[..]));
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn messages_wait_for_a_broker_that_starts_later_and_subscriptions_survive_its_restart() {
    let reserved = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let settings = Settings {
        address: Address { host: "127.0.0.1".into(), port: address.port() },
        client_id: "c".into(),
        login: None,
    };
    let (client, mut receiver) = Client::start(settings, vec!["in/#".into()]);
    for number in 0..500 {
        client.publish(Publish::new("out", number.to_string(), QoS::AtLeastOnce));
    }
    let (handle, stop, task) = broker_at(address).await;
    let mut out = handle.subscribe(&["out"]);
    for number in 0..500 {
        assert_eq!(soon(out.recv()).await.unwrap().accept().payload, number.to_string());
    }
    reaches(&handle, &mut receiver).await;
    stop.cancel();
    task.await.unwrap();
    let (handle, stop, task) = broker_at(address).await;
    reaches(&handle, &mut receiver).await;
    client.publish(Publish::new("out", vec![0; MAX_PACKET], QoS::AtLeastOnce));
    client.publish(Publish::new("a/#", "bad topic", QoS::AtLeastOnce));
    assert_eq!(client.dropped(), 2);
    drop(client);
    while let Some(message) = soon(receiver.recv()).await {
        message.accept();
    }
    stop.cancel();
    task.await.unwrap();
}
