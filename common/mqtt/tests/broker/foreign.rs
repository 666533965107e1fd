//! A broker, and a foreign client of it.

use std::net::SocketAddr;
use std::time::Duration;

use mqtt::broker::{Broker, Handle, Settings};
use mqtt::{Publish, QoS};
use rumqttc::{AsyncClient, ConnectionError, Event, MqttOptions, Packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) struct Running {
    pub address: SocketAddr,
    pub handle: Handle,
    pub stop: CancellationToken,
    pub task: tokio::task::JoinHandle<()>,
}

pub(crate) async fn broker(adjust: impl FnOnce(&mut Settings)) -> Running {
    let mut settings = Settings::at("127.0.0.1:0".parse().unwrap());
    adjust(&mut settings);
    let broker = Broker::bind(settings).await.unwrap();
    let (address, handle, stop) = (broker.local_addr(), broker.handle(), CancellationToken::new());
    let task = tokio::spawn(broker.run(stop.clone()));
    Running { address, handle, stop, task }
}

/// A foreign client whose events come over a channel; it does not reconnect.
pub(crate) struct Foreign {
    pub client: AsyncClient,
    pub events: mpsc::Receiver<Packet>,
    pub poll: tokio::task::JoinHandle<ConnectionError>,
}

impl Foreign {
    pub(crate) async fn connect(
        broker: &Running,
        id: &str,
        adjust: impl FnOnce(&mut MqttOptions),
    ) -> (Foreign, bool) {
        let mut options = MqttOptions::new(id, broker.address.ip().to_string(), broker.address.port());
        options.set_max_packet_size(4 << 20, 4 << 20);
        adjust(&mut options);
        let (client, mut events_loop) = AsyncClient::new(options, 2000);
        let (sender, events) = mpsc::channel(5000);
        let poll = tokio::spawn(async move {
            loop {
                match events_loop.poll().await {
                    Ok(Event::Incoming(packet)) => {
                        let _ = sender.send(packet).await;
                    }
                    Ok(_) => {}
                    Err(error) => return error,
                }
            }
        });
        let mut foreign = Foreign { client, events, poll };
        let Packet::ConnAck(ack) = foreign.packet().await else { panic!("no CONNACK") };
        (foreign, ack.session_present)
    }

    pub(crate) async fn new(broker: &Running, id: &str) -> Foreign {
        Foreign::connect(broker, id, |_| {}).await.0
    }

    pub(crate) async fn packet(&mut self) -> Packet {
        tokio::time::timeout(SOON, self.events.recv()).await.expect("nothing came").expect("disconnected")
    }

    pub(crate) async fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.client.subscribe(filter, qos).await.unwrap();
        while !matches!(self.packet().await, Packet::SubAck(_)) {}
    }

    pub(crate) async fn message(&mut self) -> rumqttc::Publish {
        loop {
            if let Packet::Publish(publish) = self.packet().await {
                return publish;
            }
        }
    }

    /// Everything published before has been routed once this returns.
    pub(crate) async fn flush(&mut self) {
        self.client.publish("flush", QoS::AtLeastOnce, false, "x").await.unwrap();
        while !matches!(self.packet().await, Packet::PubAck(_)) {}
    }

    /// No message waits: a marker sent by the broker itself is the next one.
    pub(crate) async fn has_nothing(&mut self, broker: &Running, topic: &str) {
        broker.handle.publish(Publish::new(topic, "marker", QoS::AtLeastOnce));
        assert_eq!(self.message().await.payload, "marker");
    }

    /// Ends without goodbye.
    pub(crate) async fn vanish(self) {
        self.poll.abort();
        let _ = self.poll.await;
    }
}

pub(crate) async fn raw(broker: &Running, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(broker.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("still connected");
    answer
}

/// Passwords as mosquitto_passwd writes them: `app` and `other` say "right".
pub(crate) const PASSWORDS: &str = "app:$7$101$dHdlbHZlIGJ5dGVz$f8VrrwO0Ks1mpUavZk8KugXJu81tlU87PHyGGlA/ktEUwoPAyoESwoghFoH26JVARp2PUrL46OYKR0Gq8fp+4A==\nother:$7$101$dHdlbHZlIGJ5dGVz$f8VrrwO0Ks1mpUavZk8KugXJu81tlU87PHyGGlA/ktEUwoPAyoESwoghFoH26JVARp2PUrL46OYKR0Gq8fp+4A==\n";

pub(crate) const CONNECT: [u8; 15] = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1, b'a'];
