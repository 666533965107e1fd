//! What the receiver of a message owes its sender: the broker confirms when the receipt is completed, and our client
//! acknowledges then.
#![allow(clippy::unwrap_used)] // clippy sees functions beside the tests as not tests

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use mqtt::broker::{Broker, Handle, Settings};
use mqtt::client::{self, Client};
use mqtt::{Delivery, QoS};
use rumqttc::{Packet, PubRel, Publish, mqttbytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(10);
/// Long enough for an answer that must not come: the broker answers in microseconds.
const QUIET: Duration = Duration::from_millis(150);
const CONNECT: [u8; 15] = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 0, 0, 1, b'a'];

async fn broker() -> (SocketAddr, Handle) {
    let broker = Broker::bind(Settings::at("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let (address, handle) = (broker.local_addr(), broker.handle());
    tokio::spawn(broker.run(CancellationToken::new()));
    (address, handle)
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("nothing came")
}

/// One side of a connection, packet by packet.
struct Peer {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Peer {
    fn new(stream: TcpStream) -> Peer {
        Peer { stream, buffer: BytesMut::new() }
    }

    async fn connect(address: SocketAddr) -> Peer {
        let mut peer = Peer::new(TcpStream::connect(address).await.unwrap());
        peer.stream.write_all(&CONNECT).await.unwrap();
        assert!(matches!(peer.packet().await, Some(Packet::ConnAck(_))));
        peer
    }

    async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn publish(&mut self, qos: QoS, id: u16, payload: impl Into<Vec<u8>>) {
        let mut publish = Publish::new("t", qos, payload);
        publish.pkid = id;
        self.send(Packet::Publish(publish)).await;
    }

    /// The next packet; `None` if the connection ended.
    async fn packet(&mut self) -> Option<Packet> {
        soon(async {
            loop {
                match Packet::read(&mut self.buffer, usize::MAX) {
                    Ok(packet) => return Some(packet),
                    Err(mqttbytes::Error::InsufficientBytes(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                match self.stream.read_buf(&mut self.buffer).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        })
        .await
    }

    async fn hears_nothing(&mut self) {
        let read = tokio::time::timeout(QUIET, self.stream.read_buf(&mut self.buffer)).await;
        assert!(read.is_err(), "{:?}", self.buffer);
    }
}

fn confirmed(packet: Option<Packet>) -> u16 {
    match packet {
        Some(Packet::PubAck(ack)) => ack.pkid,
        Some(Packet::PubRec(received)) => received.pkid,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_message_is_confirmed_when_its_receiver_is_done_and_not_before() {
    let (address, handle) = broker().await;
    let mut local = handle.subscribe(&["t"]);
    let mut peer = Peer::connect(address).await;
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        peer.publish(qos, 1, "one").await;
        peer.publish(qos, 2, "two").await;
        let (first, second) = (soon(local.recv()).await.unwrap(), soon(local.recv()).await.unwrap());
        second.accept();
        peer.hears_nothing().await;
        first.accept();
        assert_eq!([confirmed(peer.packet().await), confirmed(peer.packet().await)], [1, 2]);
    }
    peer.publish(QoS::AtLeastOnce, 3, "nobody else").await;
    peer.send(Packet::PingReq).await;
    assert!(matches!(peer.packet().await, Some(Packet::PingResp)), "a late receiver delays no other answer");
}

#[tokio::test]
async fn a_message_that_was_lost_is_not_confirmed_and_comes_again_in_order() {
    let (address, handle) = broker().await;
    let mut local = handle.subscribe(&["t"]);
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut peer = Peer::connect(address).await;
        peer.publish(qos, 1, "one").await;
        peer.publish(qos, 2, "two").await;
        let (first, second) = (soon(local.recv()).await.unwrap(), soon(local.recv()).await.unwrap());
        drop(first);
        assert!(peer.packet().await.is_none(), "the connection ends");
        second.accept();
        let mut peer = Peer::connect(address).await;
        peer.publish(qos, 1, "one").await;
        assert_eq!(soon(local.recv()).await.unwrap().accept().payload, "one");
        assert_eq!(confirmed(peer.packet().await), 1);
        peer.publish(qos, 2, "two").await;
        if qos == QoS::AtLeastOnce {
            assert_eq!(soon(local.recv()).await.unwrap().accept().payload, "two");
        }
        assert_eq!(confirmed(peer.packet().await), 2, "of QoS 2 what was dealt with is not delivered again");
    }
}

#[tokio::test]
async fn a_repeat_of_a_message_under_way_waits_for_the_first() {
    let (address, handle) = broker().await;
    let mut local = handle.subscribe(&["t"]);
    let mut peer = Peer::connect(address).await;
    peer.publish(QoS::ExactlyOnce, 1, "one").await;
    let first = soon(local.recv()).await.unwrap();
    drop(peer);
    let mut peer = Peer::connect(address).await;
    peer.publish(QoS::ExactlyOnce, 1, "one").await;
    peer.hears_nothing().await;
    first.accept();
    assert_eq!(confirmed(peer.packet().await), 1);
    assert!(local.try_recv().is_err());
    peer.send(Packet::PubRel(PubRel::new(1))).await;
    assert!(matches!(peer.packet().await, Some(Packet::PubComp(_))));
}

#[tokio::test]
async fn a_flood_waits_in_the_senders_hands_and_none_of_it_is_lost() {
    let (address, handle) = broker().await;
    let mut local = handle.subscribe(&["t"]);
    let mut flood = BytesMut::from(CONNECT.as_slice());
    for number in 0..2000_u16 {
        let mut publish = Publish::new("t", QoS::AtLeastOnce, number.to_be_bytes());
        publish.pkid = number + 1;
        publish.write(&mut flood).unwrap();
    }
    let mut peer = Peer::new(TcpStream::connect(address).await.unwrap());
    peer.stream.write_all(&flood).await.unwrap();
    assert!(matches!(peer.packet().await, Some(Packet::ConnAck(_))));
    let mut held: Vec<Delivery> = Vec::new();
    while let Ok(Some(delivery)) = tokio::time::timeout(QUIET, local.recv()).await {
        held.push(delivery);
    }
    assert!((1..=256).contains(&held.len()), "{} messages are under way", held.len());
    let mut number = 0;
    for delivery in held {
        assert_eq!(delivery.accept().payload.as_ref(), u16::to_be_bytes(number));
        number += 1;
    }
    while number < 2000 {
        assert_eq!(soon(local.recv()).await.unwrap().accept().payload.as_ref(), u16::to_be_bytes(number));
        number += 1;
    }
    for number in 0..2000 {
        assert_eq!(confirmed(peer.packet().await), number + 1);
    }
    assert_eq!(handle.dropped(), 0);
}

/// The broker's side of a connection of our client, subscribed; answers whether it kept its session.
async fn serve(listener: &TcpListener) -> Peer {
    let mut peer = Peer::new(soon(listener.accept()).await.unwrap().0);
    let Some(Packet::Connect(connect)) = peer.packet().await else { panic!("no CONNECT") };
    assert!(!connect.clean_session, "the broker keeps what is not acknowledged");
    peer.stream.write_all(&[0x20, 2, 1, 0]).await.unwrap();
    assert!(matches!(peer.packet().await, Some(Packet::Subscribe(_))));
    peer
}

#[tokio::test]
async fn our_client_acknowledges_when_the_receiver_is_done_and_asks_again_for_what_was_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let settings = client::Settings { address, client_id: "node".into(), login: None };
    let (_client, mut inbox) = Client::start(settings, vec!["t".into()]);
    let mut peer = serve(&listener).await;
    peer.publish(QoS::AtLeastOnce, 1, "one").await;
    let first = soon(inbox.recv()).await.unwrap();
    peer.hears_nothing().await;
    first.accept();
    assert_eq!(confirmed(peer.packet().await), 1);

    peer.publish(QoS::AtLeastOnce, 2, "two").await;
    peer.publish(QoS::AtLeastOnce, 3, "three").await;
    let (second, third) = (soon(inbox.recv()).await.unwrap(), soon(inbox.recv()).await.unwrap());
    drop(second);
    third.accept();
    assert!(matches!(peer.packet().await, Some(Packet::Disconnect)));
    drop(peer);
    let mut peer = serve(&listener).await;
    peer.publish(QoS::AtLeastOnce, 2, "two").await;
    soon(inbox.recv()).await.unwrap().accept();
    assert_eq!(confirmed(peer.packet().await), 2);
}
