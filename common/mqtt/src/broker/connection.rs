//! One client's connection: CONNECT, then its reading and writing halves in one task until either ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use listener::{Client, Place};
use rumqttc::{ConnAck, Connect, ConnectReturnCode, Packet, PubAck, PubComp, PubRec, PubRel};
use tokio::io::AsyncRead;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::access::User;
use super::closed::{Closed, Identity};
use super::confirm::{self, Unconfirmed};
use super::outgoing::Answer;
use super::packets::{Packets, ReadError, WHOLE};
use super::session::{Held, Session};
use super::space::{CLIENT_MESSAGES, Share};
use super::state::{Attached, Newcomer, Origin};
use super::{Arrivals, Shared, outgoing};
use crate::{Outlook, Publish, QoS, Receipt, filter};

/// Answers that wait to be written; the reader waits when a client does not take them.
const ANSWERS: usize = 256;
/// Longest name of a client, in bytes: it is kept with its session.
const CLIENT_NAME: usize = 1024;

/// Serves one connection to its end.
pub(super) async fn serve(client: Client<Arrivals>, shared: &Shared) {
    let Client { stream, peer, place, stop } = client;
    let (reader, writer) = stream.into_split();
    let packets = Packets::new(reader, shared.settings.limits.packet_bytes, &shared.pace, &shared.large);
    let closed = tokio::select! {
        biased;
        _ = stop.cancelled() => Closed::Stopped,
        closed = converse(packets, writer, shared, (&place, &stop)) => closed,
    };
    if closed.is_fault() {
        tracing::warn!(peer = %peer, error = %closed, "MQTT connection closed");
    } else {
        tracing::debug!(peer = %peer, reason = %closed, "MQTT connection closed");
    }
}

async fn converse(
    mut packets: Packets<'_, OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
    shared: &Shared,
    (place, stop): (&Place, &CancellationToken),
) -> Closed {
    let mut buffer = BytesMut::new();
    let connected = match connect(&mut packets, shared).await {
        Ok(connected) => connected,
        Err(closed) => {
            let code = match &closed {
                Closed::Refused(code) => *code,
                Closed::Unreadable(ReadError::Version) => ConnectReturnCode::RefusedProtocolVersion,
                _ => return closed,
            };
            shared.with(|state| state.counts.refused_clients += 1);
            outgoing::encode(&Packet::ConnAck(ConnAck::new(code, false)), &mut buffer);
            let _ = outgoing::send(&mut writer, &mut buffer).await;
            return closed;
        }
    };
    place.settle();
    let Connected { identity, silence, attached } = connected;
    let ack = ConnAck::new(ConnectReturnCode::Success, attached.session_present);
    outgoing::encode(&Packet::ConnAck(ack), &mut buffer);
    let resumed = async {
        outgoing::put(&mut writer, &attached.again, &mut buffer).await?;
        outgoing::send(&mut writer, &mut buffer).await
    };
    let closed = match resumed.await {
        Err(closed) => closed,
        Ok(()) => {
            let (answers, unsent) = mpsc::channel(ANSWERS);
            let (unconfirmed, waiting) = mpsc::channel(CLIENT_MESSAGES);
            let confirmations = confirm::run(waiting, answers.clone(), &identity, shared);
            let incoming =
                Incoming { identity: &identity, shared, answers, unconfirmed, share: shared.space.share() };
            tokio::select! {
                biased;
                _ = stop.cancelled() => Closed::Stopped,
                _ = attached.cut.cancelled() => Closed::TakenOver,
                closed = incoming.read(packets, silence) => closed,
                closed = confirmations => closed,
                closed = outgoing::write(writer, unsent, &identity, shared) => closed,
            }
        }
    };
    let said_goodbye = matches!(closed, Closed::Goodbye);
    shared.with(|state| state.detach(&identity.client, identity.link, said_goodbye, Instant::now()));
    closed
}

struct Connected {
    identity: Identity,
    /// How long the client may be silent.
    silence: Option<Duration>,
    attached: Attached,
}

async fn connect<R: AsyncRead + Unpin>(
    packets: &mut Packets<'_, R>,
    shared: &Shared,
) -> Result<Connected, Closed> {
    let first = tokio::time::timeout(shared.settings.limits.connect_within, packets.next()).await;
    let connect = match first.map_err(|_| Closed::Silent)?? {
        Some(Packet::Connect(connect)) => connect,
        Some(_) => return Err(Closed::Protocol("the first packet is not CONNECT")),
        None => return Err(Closed::Ended),
    };
    if connect.client_id.len() > CLIENT_NAME {
        return Err(Closed::Refused(ConnectReturnCode::BadClientId));
    }
    let client = match connect.client_id.as_str() {
        "" if connect.clean_session => anonymous(),
        "" => return Err(Closed::Refused(ConnectReturnCode::BadClientId)),
        given => given.to_owned(),
    };
    let user = admit(&connect, &client, shared).await?;
    let will = match connect.last_will {
        None => None,
        Some(will) if !filter::is_topic(&will.topic) => {
            return Err(Closed::Protocol("bad topic of the will"));
        }
        Some(will) => Some(Publish {
            topic: will.topic,
            payload: Bytes::copy_from_slice(&will.message),
            qos: will.qos,
            retain: will.retain,
        }),
    };
    let newcomer = Newcomer { client: &client, clean: connect.clean_session, will, user: user.clone() };
    let attached = shared.with(|state| state.attach(newcomer, Instant::now())).map_err(Closed::Refused)?;
    // One and a half times what the client promised (MQTT 3.1.1 section 3.1.2.10); 0 promises nothing.
    let silence =
        (connect.keep_alive > 0).then(|| Duration::from_millis(u64::from(connect.keep_alive) * 1500));
    let identity = Identity { client, user, link: attached.link, wake: attached.wake.clone() };
    Ok(Connected { identity, silence, attached })
}

/// Whose client it is; nobody's where there are no users.
async fn admit(connect: &Connect, client: &str, shared: &Shared) -> Result<Option<User>, Closed> {
    let Some(users) = &shared.settings.users else { return Ok(None) };
    let user = match &connect.login {
        Some(login) => users.admit(&login.username, &login.password, client).await,
        None => None,
    };
    user.map(Some).ok_or(Closed::Refused(ConnectReturnCode::BadUserNamePassword))
}

/// A name for a client that gave none. The NUL keeps it apart from names that clients can give.
fn anonymous() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    format!("\0{}", LAST.fetch_add(1, Ordering::Relaxed))
}

/// A slice keeps the whole read buffer alive for as long as the message waits; that of a large packet is little more
/// than the packet.
fn own(payload: Bytes) -> Bytes {
    if payload.len() >= WHOLE { payload } else { Bytes::copy_from_slice(&payload) }
}

/// The reading half.
struct Incoming<'a> {
    identity: &'a Identity,
    shared: &'a Shared,
    answers: mpsc::Sender<Answer>,
    /// Messages whose receivers are not done, in the order they came.
    unconfirmed: mpsc::Sender<Unconfirmed>,
    share: Share,
}

impl Incoming<'_> {
    async fn read<R: AsyncRead + Unpin>(
        self,
        mut packets: Packets<'_, R>,
        silence: Option<Duration>,
    ) -> Closed {
        loop {
            let next = match silence {
                None => packets.next().await,
                Some(silence) => match tokio::time::timeout(silence, packets.next()).await {
                    Ok(next) => next,
                    Err(_) => return Closed::Silent,
                },
            };
            let packet = match next {
                Ok(Some(packet)) => packet,
                Ok(None) | Err(ReadError::Io(_)) => return Closed::Ended,
                Err(error) => return error.into(),
            };
            if let Err(closed) = self.on_packet(packet).await {
                return closed;
            }
        }
    }

    async fn on_packet(&self, packet: Packet) -> Result<(), Closed> {
        if let Packet::Publish(publish) = packet {
            return self.on_publish(publish).await;
        }
        // Room for the answer first: what follows happens at once, and the answer is written before what it queued.
        let answer = self.answers.reserve().await.map_err(|_| Closed::Ended)?;
        let reply = match packet {
            Packet::PubAck(PubAck { pkid }) | Packet::PubComp(PubComp { pkid }) => {
                self.session(|session| session.confirmed(pkid))?;
                None
            }
            Packet::PubRec(PubRec { pkid }) => {
                self.session(|session| session.received(pkid))?;
                Some(Answer::PubRel(pkid))
            }
            Packet::PubRel(PubRel { pkid }) => {
                self.session(|session| session.free(pkid))?;
                Some(Answer::PubComp(pkid))
            }
            Packet::Subscribe(subscribe) => {
                let Identity { client, link, .. } = self.identity;
                let codes = self.shared.with(|state| state.subscribe(client, *link, subscribe.filters));
                Some(Answer::SubAck(subscribe.pkid, codes.ok_or(Closed::TakenOver)?))
            }
            Packet::Unsubscribe(unsubscribe) => {
                let Identity { client, link, .. } = self.identity;
                let ended = self.shared.with(|state| state.unsubscribe(client, *link, &unsubscribe.topics));
                ended.ok_or(Closed::TakenOver)?;
                Some(Answer::UnsubAck(unsubscribe.pkid))
            }
            Packet::PingReq => Some(Answer::Pong),
            Packet::Disconnect => return Err(Closed::Goodbye),
            Packet::Connect(_) => return Err(Closed::Protocol("a second CONNECT")),
            _ => return Err(Closed::Protocol("a packet that only brokers send")),
        };
        if let Some(reply) = reply {
            answer.send(reply);
        }
        Ok(())
    }

    async fn on_publish(&self, publish: rumqttc::Publish) -> Result<(), Closed> {
        if !filter::is_topic(&publish.topic) {
            return Err(Closed::Protocol("bad topic"));
        }
        let id = publish.pkid;
        let message = Publish {
            topic: publish.topic,
            payload: own(publish.payload),
            qos: publish.qos,
            retain: publish.retain,
        };
        let refused = self
            .shared
            .with(|state| state.refuses(&self.identity.client, self.identity.user.as_ref(), &message.topic));
        if message.qos == QoS::AtMostOnce {
            if refused {
                return Ok(());
            }
            self.shared.with(|state| state.publish(message, Origin::Unconfirmed));
            return Ok(());
        }
        let place = self.unconfirmed.reserve().await.map_err(|_| Closed::Ended)?;
        let repeated = match message.qos {
            QoS::ExactlyOnce => self.session(|session| session.held(id))?,
            _ => None,
        };
        let exactly_once = message.qos == QoS::ExactlyOnce;
        let outlook = match repeated {
            Some(Held::Open(outlook)) => Some(outlook),
            Some(Held::Completed) => None,
            // MQTT 3.1.1 has no word for "not authorised": the client is told that its message arrived.
            None if refused => self.swallow(exactly_once, id)?,
            None => Some(self.deliver(message, id).await?),
        };
        place.send(Unconfirmed { id, exactly_once, outlook });
        Ok(())
    }

    /// Confirms a message that goes to nobody.
    fn swallow(&self, exactly_once: bool, id: u16) -> Result<Option<Outlook>, Closed> {
        let (receipt, outlook) = Receipt::watched();
        receipt.complete();
        if exactly_once && !self.session(|session| session.hold(id, outlook))? {
            return Err(Closed::Protocol("too many messages without PUBREL"));
        }
        Ok(None)
    }

    /// Gives a message that is confirmed later to all that want it, once there is space for it.
    async fn deliver(&self, message: Publish, id: u16) -> Result<Outlook, Closed> {
        let wanted = self.shared.with(|state| state.is_wanted_in_process(&message.topic));
        let space = if wanted { self.share.take(&message).await } else { Vec::new() };
        let receipt = Receipt::new(space);
        let outlook = receipt.watch();
        if message.qos == QoS::ExactlyOnce && !self.session(|session| session.hold(id, outlook.clone()))? {
            return Err(Closed::Protocol("too many messages without PUBREL"));
        }
        self.shared.with(|state| state.publish(message, Origin::Confirmed(receipt)));
        Ok(outlook)
    }

    fn session<T>(&self, act: impl FnOnce(&mut Session) -> T) -> Result<T, Closed> {
        let Identity { client, link, .. } = self.identity;
        self.shared.with(|state| state.session(client, *link).map(act)).ok_or(Closed::TakenOver)
    }
}
