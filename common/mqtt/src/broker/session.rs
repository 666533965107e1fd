//! One client's session: subscriptions, the queue towards the client, and identifiers in use. Pure.
//!
//! ```text
//! towards the client   queue -> Sent   --PUBACK--> done                        (QoS 1)
//!                               Sent   --PUBREC--> Released --PUBCOMP--> done  (QoS 2)
//! from the client      PUBLISH -> held --PUBREL--> free                        (QoS 2; a repeat of a held one is not delivered)
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rumqttc::{Packet, PubRel};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::subscriptions::Subscriptions;
use crate::{Outlook, Publish, QoS};

/// Messages sent and not confirmed; the rest waits in the queue.
const WINDOW: usize = 64;
/// Bytes of them; one message may be larger.
const WINDOW_BYTES: usize = 1024 * 1024;
/// Messages of QoS 2 that a client may leave without PUBREL.
const HELD: usize = 1024;

/// The connection a session has now.
pub(super) struct Link {
    pub id: u64,
    /// Something is queued.
    pub wake: Arc<Notify>,
    /// Cancelled when another connection takes the session.
    pub taken_over: CancellationToken,
    pub will: Option<Publish>,
}

/// A message of QoS 2 that came before.
pub(super) enum Held {
    /// Its receivers are not done.
    Open(Outlook),
    Completed,
}

enum Phase {
    Sent(Publish),
    Released,
}

#[derive(Default)]
pub(super) struct Session {
    pub clean: bool,
    pub link: Option<Link>,
    /// Order of disconnection, to find the longest disconnected.
    pub left: u64,
    pub subscriptions: Subscriptions,
    queue: VecDeque<Publish>,
    queue_bytes: usize,
    in_flight: VecDeque<(u16, Phase)>,
    last_id: u16,
    held: BTreeMap<u16, Option<Outlook>>,
}

impl Session {
    /// Queues a message; answers how many older ones were lost for it. QoS 0 is not kept for an absent client.
    pub fn push(&mut self, publish: Publish, max_messages: usize, max_bytes: usize) -> u64 {
        if self.link.is_none() && publish.qos == QoS::AtMostOnce {
            return 0;
        }
        self.queue_bytes += publish.size();
        self.queue.push_back(publish);
        let mut lost = 0;
        while self.queue.len() > max_messages || self.queue_bytes > max_bytes {
            let Some(oldest) = self.queue.pop_front() else { break };
            self.queue_bytes -= oldest.size();
            lost += 1;
        }
        if let Some(link) = &self.link {
            link.wake.notify_one();
        }
        lost
    }

    /// What a new connection must send again.
    pub fn resume(&self) -> Vec<Packet> {
        let again = self.in_flight.iter().map(|(id, phase)| match phase {
            Phase::Sent(publish) => packet(publish, *id, true),
            Phase::Released => Packet::PubRel(PubRel::new(*id)),
        });
        again.collect()
    }

    /// The next packets to send, about `bytes` of them, as far as the window allows.
    pub fn next(&mut self, bytes: usize) -> Vec<Packet> {
        let mut packets = Vec::new();
        let mut taken = 0;
        while taken < bytes {
            let is_open = self.in_flight.len() < WINDOW && self.flying_bytes() < WINDOW_BYTES;
            let may_go = |publish: &Publish| is_open || publish.qos == QoS::AtMostOnce;
            if !self.queue.front().is_some_and(may_go) {
                break;
            }
            let Some(publish) = self.queue.pop_front() else { break };
            self.queue_bytes -= publish.size();
            taken += publish.size();
            let id = if publish.qos == QoS::AtMostOnce { 0 } else { self.free_id() };
            packets.push(packet(&publish, id, false));
            if id != 0 {
                self.in_flight.push_back((id, Phase::Sent(publish)));
            }
        }
        packets
    }

    fn flying_bytes(&self) -> usize {
        let sizes = self.in_flight.iter().map(|(_, phase)| match phase {
            Phase::Sent(publish) => publish.size(),
            Phase::Released => 0,
        });
        sizes.sum()
    }

    /// Bytes that wait to be sent or confirmed.
    pub fn waiting_bytes(&self) -> usize {
        self.queue_bytes + self.flying_bytes()
    }

    fn free_id(&mut self) -> u16 {
        // Ends: the window is far smaller than the identifiers.
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            let id = self.last_id;
            if id != 0 && !self.in_flight.iter().any(|(used, _)| *used == id) {
                return id;
            }
        }
    }

    /// PUBACK or PUBCOMP: the identifier is free.
    pub fn confirmed(&mut self, id: u16) {
        self.in_flight.retain(|(used, _)| *used != id);
        if let Some(link) = &self.link {
            link.wake.notify_one();
        }
    }

    /// PUBREC: the client has the message and need not get it again.
    pub fn received(&mut self, id: u16) {
        if let Some((_, phase)) = self.in_flight.iter_mut().find(|(used, _)| *used == id) {
            *phase = Phase::Released;
        }
    }

    /// QoS 2 from the client: what became of the message if it came before, which then is not delivered again.
    pub fn held(&self, id: u16) -> Option<Held> {
        match self.held.get(&id)? {
            None => Some(Held::Completed),
            Some(outlook) if outlook.is_lost() => None,
            Some(outlook) => Some(Held::Open(outlook.clone())),
        }
    }

    /// A message of QoS 2 is delivered. False if the client left too many without PUBREL.
    pub fn hold(&mut self, id: u16, outlook: Outlook) -> bool {
        self.held.insert(id, Some(outlook));
        self.held.len() <= HELD
    }

    /// A held message is dealt with.
    pub fn settle(&mut self, id: u16) {
        if let Some(held) = self.held.get_mut(&id) {
            *held = None;
        }
    }

    /// PUBREL from the client.
    pub fn free(&mut self, id: u16) {
        self.held.remove(&id);
    }
}

fn packet(publish: &Publish, id: u16, dup: bool) -> Packet {
    Packet::Publish(rumqttc::Publish {
        dup,
        qos: publish.qos,
        retain: publish.retain,
        topic: publish.topic.clone(),
        pkid: id,
        payload: publish.payload.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Receipt;

    fn message(payload: &'static str, qos: QoS) -> Publish {
        Publish::new("t", payload, qos)
    }

    fn ids(packets: &[Packet]) -> Vec<u16> {
        let id = |packet: &Packet| match packet {
            Packet::Publish(publish) => publish.pkid,
            Packet::PubRel(release) => release.pkid,
            _ => 0,
        };
        packets.iter().map(id).collect()
    }

    #[test]
    fn a_full_queue_loses_its_oldest() {
        let mut session = Session::default();
        assert_eq!(session.push(message("1", QoS::AtLeastOnce), 2, 100), 0);
        assert_eq!(session.push(message("2", QoS::AtLeastOnce), 2, 100), 0);
        assert_eq!(session.push(message("3", QoS::AtLeastOnce), 2, 100), 1);
        let packets = session.next(100);
        let Packet::Publish(first) = &packets[0] else { panic!("{packets:?}") };
        assert_eq!(first.payload, "2");
        assert_eq!(session.push(message("a long one", QoS::AtLeastOnce), 2, 5), 1);
        assert_eq!(session.queue_bytes, 0);
    }

    #[test]
    fn an_absent_client_keeps_only_confirmed_messages() {
        let mut session = Session::default();
        session.push(message("0", QoS::AtMostOnce), 9, 99);
        session.push(message("1", QoS::ExactlyOnce), 9, 99);
        assert_eq!(ids(&session.next(100)), [1]);
    }

    #[test]
    fn the_window_closes_and_opens_with_confirmations() {
        let mut session = Session::default();
        for _ in 0..WINDOW + 2 {
            session.push(message("x", QoS::AtLeastOnce), 1000, 10_000);
        }
        assert_eq!(session.next(usize::MAX).len(), WINDOW);
        assert!(session.next(usize::MAX).is_empty());
        session.confirmed(1);
        assert_eq!(ids(&session.next(usize::MAX)), [WINDOW as u16 + 1]);
    }

    #[test]
    fn a_resumed_session_repeats_what_was_not_confirmed_in_order() {
        let mut session = Session::default();
        for _ in 0..3 {
            session.push(message("x", QoS::ExactlyOnce), 9, 99);
        }
        session.next(usize::MAX);
        session.received(1);
        session.received(2);
        session.confirmed(2);
        let again = session.resume();
        assert_eq!(ids(&again), [1, 3]);
        assert!(matches!(&again[0], Packet::PubRel(_)));
        assert!(matches!(&again[1], Packet::Publish(publish) if publish.dup));
    }

    #[test]
    fn identifiers_in_use_and_zero_are_skipped() {
        let mut session = Session { last_id: u16::MAX - 1, ..Session::default() };
        session.in_flight.push_back((1, Phase::Released));
        for _ in 0..2 {
            session.push(message("x", QoS::AtLeastOnce), 9, 99);
        }
        assert_eq!(ids(&session.next(usize::MAX)), [u16::MAX, 2]);
    }

    #[test]
    fn a_repeat_of_a_held_message_is_not_the_first_unless_that_was_lost() {
        let mut session = Session::default();
        assert!(session.held(7).is_none());
        let receipt = Receipt::unwatched();
        session.hold(7, receipt.watch());
        assert!(matches!(session.held(7), Some(Held::Open(_))));
        drop(receipt);
        assert!(session.held(7).is_none());
        let receipt = Receipt::unwatched();
        session.hold(7, receipt.watch());
        receipt.complete();
        session.settle(7);
        assert!(matches!(session.held(7), Some(Held::Completed)));
        session.free(7);
        assert!(session.held(7).is_none());
    }
}
