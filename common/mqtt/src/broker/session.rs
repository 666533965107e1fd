//! One client's session: subscriptions, the queue towards the client, and identifiers in use. Pure.
//!
//! ```text
//! towards the client   queue -> Sent   --PUBACK--> done                        (QoS 1)
//!                               Sent   --PUBREC--> Released --PUBCOMP--> done  (QoS 2)
//! from the client      PUBLISH -> held --PUBREL--> free                        (QoS 2; a repeat of a held one is not delivered)
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::access::User;
use super::kept::{Message, Queued};
use super::subscriptions::Subscriptions;
use crate::{Outlook, QoS};

/// Messages sent and not confirmed; the rest waits in the queue.
const WINDOW: usize = 64;
/// Bytes of them; one message may be larger.
const WINDOW_BYTES: usize = 1024 * 1024;
/// Messages of QoS 2 that a client may leave without PUBREL.
const HELD: usize = 256;
/// Places a queue keeps although nothing waits.
const SPARE_PLACES: usize = 32;

/// The connection a session has now.
pub(super) struct Link {
    pub id: u64,
    /// Something is queued.
    pub wake: Arc<Notify>,
    /// Cancelled when another connection takes the session, or when the client takes too much memory by not reading.
    pub cut: CancellationToken,
    pub will: Option<Queued>,
}

/// A message of QoS 2 that came before.
pub(super) enum Held {
    /// Its receivers are not done.
    Open(Outlook),
    Completed,
}

/// Something to send to the client.
#[derive(Debug)]
pub(super) enum Out {
    Message { message: Arc<Message>, qos: QoS, retain: bool, id: u16, again: bool },
    Release(u16),
}

enum Phase {
    Sent(Queued),
    Released,
}

#[derive(Default)]
pub(super) struct Session {
    pub clean: bool,
    pub link: Option<Link>,
    /// Whose it is; `None` where nobody logs in.
    pub user: Option<User>,
    /// Order of disconnection, to find the longest disconnected.
    pub left: u64,
    /// When the session ends unless its client comes back.
    pub ends: Option<Instant>,
    /// Messages were lost because all sessions together had too many.
    pub is_incomplete: bool,
    pub subscriptions: Subscriptions,
    queue: VecDeque<Queued>,
    queue_bytes: usize,
    in_flight: VecDeque<(u16, Phase)>,
    flying_bytes: usize,
    /// Bytes given to the writer last, which may still hold them.
    writing: usize,
    last_id: u16,
    held: BTreeMap<u16, Option<Outlook>>,
}

impl Session {
    /// Whether `user` may connect to it.
    pub(super) fn is_of(&self, user: Option<&User>) -> bool {
        self.user.as_ref().map(|own| &own.name) == user.map(|user| &user.name)
    }

    pub(super) fn may_read(&self, topic: &str) -> bool {
        self.user.as_ref().is_none_or(|user| user.may_read(topic))
    }

    /// Ends the connection.
    pub(super) fn cut_off(&mut self) {
        if let Some(link) = &self.link {
            link.cut.cancel();
        }
        self.writing = 0;
    }

    /// Queues a message; answers how many older ones were lost for it. QoS 0 is not kept for an absent client.
    pub(super) fn push(&mut self, queued: Queued, max_messages: usize, max_bytes: usize) -> u64 {
        if self.link.is_none() && queued.qos == QoS::AtMostOnce {
            return 0;
        }
        self.queue_bytes += queued.size();
        self.queue.push_back(queued);
        let mut lost = 0;
        while (self.queue.len() > max_messages || self.queue_bytes > max_bytes) && self.pop().is_some() {
            lost += 1;
        }
        if let Some(link) = &self.link {
            link.wake.notify_one();
        }
        lost
    }

    fn pop(&mut self) -> Option<Queued> {
        let oldest = self.queue.pop_front()?;
        self.queue_bytes -= oldest.size();
        if self.queue.capacity() > SPARE_PLACES && self.queue.len() * 4 <= self.queue.capacity() {
            self.queue.shrink_to(self.queue.len() * 2);
        }
        Some(oldest)
    }

    /// Loses the oldest message: one that was sent and is only kept to be sent again, or the first of the queue. False
    /// if there is none.
    pub(super) fn shed(&mut self) -> bool {
        let sent = self.in_flight.iter().position(|(_, phase)| matches!(phase, Phase::Sent(_)));
        let shed = match sent.and_then(|at| self.in_flight.remove(at)) {
            Some((_, Phase::Sent(queued))) => {
                self.flying_bytes -= queued.size();
                true
            }
            _ => self.pop().is_some(),
        };
        self.is_incomplete |= shed;
        shed
    }

    /// What a new connection must send again.
    pub(super) fn resume(&self) -> Vec<Out> {
        let again = self.in_flight.iter().map(|(id, phase)| match phase {
            Phase::Sent(queued) => out(queued, *id, true),
            Phase::Released => Out::Release(*id),
        });
        again.collect()
    }

    /// What to send next, about `bytes` of it, as far as the window allows.
    pub(super) fn next(&mut self, bytes: usize) -> Vec<Out> {
        let mut next = Vec::new();
        self.writing = 0;
        while self.writing < bytes {
            let is_open = self.in_flight.len() < WINDOW && self.flying_bytes < WINDOW_BYTES;
            let may_go = |queued: &Queued| is_open || queued.qos == QoS::AtMostOnce;
            if !self.queue.front().is_some_and(may_go) {
                break;
            }
            let Some(queued) = self.pop() else { break };
            self.writing += queued.size();
            let id = if queued.qos == QoS::AtMostOnce { 0 } else { self.free_id() };
            next.push(out(&queued, id, false));
            if id != 0 {
                self.flying_bytes += queued.size();
                self.in_flight.push_back((id, Phase::Sent(queued)));
            }
        }
        next
    }

    /// Bytes that wait to be sent or confirmed.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.queue_bytes + self.flying_bytes
    }

    /// Bytes that a client holds by not reading them.
    pub(super) fn writing_bytes(&self) -> usize {
        if self.link.is_some() { self.writing } else { 0 }
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
    pub(super) fn confirmed(&mut self, id: u16) {
        if let Some(at) = self.in_flight.iter().position(|(used, _)| *used == id)
            && let Some((_, Phase::Sent(queued))) = self.in_flight.remove(at)
        {
            self.flying_bytes -= queued.size();
        }
        if let Some(link) = &self.link {
            link.wake.notify_one();
        }
    }

    /// PUBREC: the client has the message and need not get it again.
    pub(super) fn received(&mut self, id: u16) {
        if let Some((_, phase)) = self.in_flight.iter_mut().find(|(used, _)| *used == id)
            && let Phase::Sent(queued) = std::mem::replace(phase, Phase::Released)
        {
            self.flying_bytes -= queued.size();
        }
    }

    /// QoS 2 from the client: what became of the message if it came before, which then is not delivered again.
    pub(super) fn held(&self, id: u16) -> Option<Held> {
        match self.held.get(&id)? {
            None => Some(Held::Completed),
            Some(outlook) if outlook.is_lost() => None,
            Some(outlook) => Some(Held::Open(outlook.clone())),
        }
    }

    /// A message of QoS 2 is delivered. False if the client left too many without PUBREL.
    pub(super) fn hold(&mut self, id: u16, outlook: Outlook) -> bool {
        self.held.insert(id, Some(outlook));
        self.held.len() <= HELD
    }

    /// A held message is dealt with.
    pub(super) fn settle(&mut self, id: u16) {
        if let Some(held) = self.held.get_mut(&id) {
            *held = None;
        }
    }

    /// PUBREL from the client.
    pub(super) fn free(&mut self, id: u16) {
        self.held.remove(&id);
    }
}

fn out(queued: &Queued, id: u16, again: bool) -> Out {
    Out::Message { message: queued.message.clone(), qos: queued.qos, retain: queued.retain, id, again }
}

#[cfg(test)]
mod tests {
    use super::super::kept::Ledger;
    use super::*;
    use crate::Receipt;
    use bytes::Bytes;

    fn message(payload: &'static str, qos: QoS) -> Queued {
        let message = Message::new("t", &Bytes::from_static(payload.as_bytes()), &Ledger::default());
        Queued::new(&message, qos, false)
    }

    fn ids(next: &[Out]) -> Vec<u16> {
        let id = |out: &Out| match out {
            Out::Message { id, .. } | Out::Release(id) => *id,
        };
        next.iter().map(id).collect()
    }

    #[test]
    fn a_full_queue_loses_its_oldest() {
        let mut session = Session::default();
        assert_eq!(session.push(message("1", QoS::AtLeastOnce), 2, 10_000), 0);
        assert_eq!(session.push(message("2", QoS::AtLeastOnce), 2, 10_000), 0);
        assert_eq!(session.push(message("3", QoS::AtLeastOnce), 2, 10_000), 1);
        let next = session.next(1);
        let Out::Message { message: first, .. } = &next[0] else { panic!("{next:?}") };
        assert_eq!(first.payload, "2");
        session.next(10_000);
        assert_eq!(session.push(message("a long one", QoS::AtLeastOnce), 2, 5), 1);
        assert_eq!(session.queue_bytes, 0);
    }

    #[test]
    fn an_absent_client_keeps_only_confirmed_messages() {
        let mut session = Session::default();
        session.push(message("0", QoS::AtMostOnce), 9, 9999);
        session.push(message("1", QoS::ExactlyOnce), 9, 9999);
        assert_eq!(ids(&session.next(10_000)), [1]);
    }

    #[test]
    fn the_window_closes_and_opens_with_confirmations() {
        let mut session = Session::default();
        for _ in 0..WINDOW + 2 {
            session.push(message("x", QoS::AtLeastOnce), 1000, 100_000);
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
            session.push(message("x", QoS::ExactlyOnce), 9, 9999);
        }
        session.next(usize::MAX);
        session.received(1);
        session.received(2);
        session.confirmed(2);
        let again = session.resume();
        assert_eq!(ids(&again), [1, 3]);
        assert!(matches!(&again[0], Out::Release(_)));
        assert!(matches!(&again[1], Out::Message { again: true, .. }));
    }

    #[test]
    fn identifiers_in_use_and_zero_are_skipped() {
        let mut session = Session { last_id: u16::MAX - 1, ..Session::default() };
        session.in_flight.push_back((1, Phase::Released));
        for _ in 0..2 {
            session.push(message("x", QoS::AtLeastOnce), 9, 9999);
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

    #[test]
    fn the_oldest_goes_first_and_memory_follows() {
        let mut session = Session { link: None, ..Session::default() };
        for _ in 0..1000 {
            session.push(message("x", QoS::AtLeastOnce), 2000, 1 << 20);
        }
        session.next(1);
        let before = session.waiting_bytes();
        assert!(session.shed() && session.is_incomplete && session.in_flight.is_empty());
        assert_eq!(session.flying_bytes, 0);
        assert!(session.waiting_bytes() < before);
        while session.shed() {}
        assert_eq!(session.waiting_bytes(), 0);
        assert!(session.queue.capacity() <= SPARE_PLACES, "{} places", session.queue.capacity());
    }
}
