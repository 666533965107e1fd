//! All sessions, retained messages and in-process subscribers. Pure: every operation is short and waits for nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use rumqttc::{ConnectReturnCode, Packet, SubscribeFilter, SubscribeReasonCode};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::refusals::Refusals;
use super::retained::Retained;
use super::session::{Link, Session};
use super::space::Space;
use super::{CLIENTS_KEY, Counts, FILTERS_KEY, Limits};
use crate::{Delivery, Publish, Receipt, filter};

/// Who published.
pub(super) enum Origin {
    /// A client that waits for the receipt.
    Confirmed(Receipt),
    /// A client that hears nothing of it, or is gone.
    Unconfirmed,
    Process,
}

struct Local {
    filters: Vec<String>,
    /// Holds every message that can have space, so that it is never full.
    sender: mpsc::Sender<Delivery>,
}

impl Local {
    fn wants(&self, topic: &str) -> bool {
        self.filters.iter().any(|wanted| filter::matches(wanted, topic)) && !self.sender.is_closed()
    }
}

pub(super) struct State {
    limits: Limits,
    /// For messages of QoS 0 to this process.
    space: Space,
    sessions: BTreeMap<String, Session>,
    /// Bytes of all their subscriptions.
    filter_bytes: usize,
    pub counts: Counts,
    refusals: Refusals,
    retained: Retained,
    locals: Vec<Local>,
    /// Last number given to a link or a departure.
    sequence: u64,
}

/// A connection's hold on its session.
#[derive(Debug)]
pub(super) struct Attached {
    pub link: u64,
    pub wake: Arc<Notify>,
    pub taken_over: CancellationToken,
    pub session_present: bool,
    /// To send before anything else.
    pub again: Vec<Packet>,
}

impl State {
    pub fn new(limits: Limits, space: Space) -> State {
        State {
            limits,
            space,
            sessions: BTreeMap::new(),
            filter_bytes: 0,
            counts: Counts::default(),
            refusals: Refusals::default(),
            retained: Retained::default(),
            locals: Vec::new(),
            sequence: 0,
        }
    }

    /// Connects `client`. An older connection of the same name is closed, and its will published.
    pub fn attach(
        &mut self,
        client: &str,
        clean: bool,
        will: Option<Publish>,
    ) -> Result<Attached, ConnectReturnCode> {
        if let Some(old) = self.sessions.get(client).and_then(|session| session.link.as_ref()) {
            old.taken_over.cancel();
            let id = old.id;
            self.detach(client, id, false);
        }
        if self.counts.clients >= self.limits.clients {
            self.refusals.tell(client, CLIENTS_KEY, "MQTT client refused, too many are connected");
            return Err(ConnectReturnCode::ServiceUnavailable);
        }
        if clean {
            self.forget(client);
        }
        let session_present = self.sessions.contains_key(client);
        if !session_present && !self.has_room() {
            return Err(ConnectReturnCode::ServiceUnavailable);
        }
        self.sequence += 1;
        self.counts.clients += 1;
        let (link, wake, taken_over) = (self.sequence, Arc::new(Notify::new()), CancellationToken::new());
        let session = self.sessions.entry(client.to_owned()).or_default();
        session.clean = clean;
        session.link = Some(Link { id: link, wake: wake.clone(), taken_over: taken_over.clone(), will });
        Ok(Attached { link, wake, taken_over, session_present, again: session.resume() })
    }

    /// True if a session may be added, after the longest disconnected one made room if needed.
    fn has_room(&mut self) -> bool {
        if self.sessions.len() < self.limits.sessions {
            return true;
        }
        let away = self.sessions.iter().filter(|(_, session)| session.link.is_none());
        let oldest = away.min_by_key(|(_, session)| session.left).map(|(client, _)| client.clone());
        let Some(oldest) = oldest else { return false };
        tracing::warn!(name = %oldest, "MQTT session forgotten to make room");
        self.forget(&oldest);
        true
    }

    fn forget(&mut self, client: &str) {
        if let Some(session) = self.sessions.remove(client) {
            self.filter_bytes -= session.subscriptions.bytes();
        }
    }

    /// Ends a connection's hold, unless another one took over. The will is published unless the client said goodbye.
    pub fn detach(&mut self, client: &str, link: u64, said_goodbye: bool) {
        let Some(session) = self.session(client, link) else { return };
        let will = session.link.take().and_then(|link| link.will);
        let clean = session.clean;
        self.counts.clients -= 1;
        if clean {
            self.forget(client);
        } else {
            self.sequence += 1;
            let left = self.sequence;
            if let Some(session) = self.sessions.get_mut(client) {
                session.left = left;
            }
        }
        if let Some(will) = will.filter(|_| !said_goodbye) {
            self.publish(will, Origin::Unconfirmed);
        }
    }

    /// The session of `client`, if `link` is still its connection.
    pub fn session(&mut self, client: &str, link: u64) -> Option<&mut Session> {
        let session = self.sessions.get_mut(client)?;
        session.link.as_ref().is_some_and(|current| current.id == link).then_some(session)
    }

    /// Delivers to all that want it, and keeps it if it is to be retained.
    pub fn publish(&mut self, publish: Publish, origin: Origin) {
        let Limits { queue_messages, queue_bytes, retained_messages, retained_bytes, .. } = self.limits;
        self.counts.received += u64::from(!matches!(origin, Origin::Process));
        if publish.retain && !self.retained.set(&publish, retained_messages, retained_bytes) {
            self.counts.dropped += 1;
        }
        let waiting: usize = self.sessions.values().map(Session::waiting_bytes).sum();
        let queue_bytes = if waiting < self.limits.all_queues_bytes { queue_bytes } else { queue_bytes / 64 };
        for session in self.sessions.values_mut() {
            let Some(wanted) = session.subscriptions.wanted(&publish.topic) else { continue };
            let qos = if (wanted as u8) < publish.qos as u8 { wanted } else { publish.qos };
            let copy = Publish { qos, retain: false, ..publish.clone() };
            self.counts.dropped += session.push(copy, queue_messages, queue_bytes);
        }
        match origin {
            Origin::Process => {}
            Origin::Confirmed(receipt) => self.deliver_in_process(&publish, receipt),
            Origin::Unconfirmed if self.is_wanted_in_process(&publish.topic) => {
                match self.space.try_take(&publish) {
                    Some(space) => self.deliver_in_process(&publish, Receipt::new(vec![space])),
                    None => self.counts.dropped += 1,
                }
            }
            Origin::Unconfirmed => {}
        }
    }

    pub fn is_wanted_in_process(&self, topic: &str) -> bool {
        self.locals.iter().any(|local| local.wants(topic))
    }

    fn deliver_in_process(&mut self, publish: &Publish, receipt: Receipt) {
        self.locals.retain(|local| {
            if local.wants(&publish.topic) {
                let delivery = Delivery { publish: publish.clone(), receipt: receipt.split() };
                // What is not taken loses its receipt, of which the client hears.
                let _ = local.sender.try_send(delivery);
            }
            !local.sender.is_closed()
        });
        receipt.complete();
    }

    pub fn subscribe_process(&mut self, filters: Vec<String>, sender: mpsc::Sender<Delivery>) {
        self.locals.push(Local { filters, sender });
    }

    /// Answers one code per filter and queues the retained messages that match. `None` if the link is gone.
    pub fn subscribe(
        &mut self,
        client: &str,
        link: u64,
        wanted: Vec<SubscribeFilter>,
    ) -> Option<Vec<SubscribeReasonCode>> {
        let Limits { filters: max, filter_bytes, .. } = self.limits;
        let mut left = filter_bytes.saturating_sub(self.filter_bytes);
        let session = self.session(client, link)?;
        let before = session.subscriptions.bytes();
        let (mut refused, mut refusals) = (None, 0);
        let mut codes = Vec::with_capacity(wanted.len());
        let mut accepted = Vec::new();
        for SubscribeFilter { path, qos } in wanted {
            let cost = session.subscriptions.bytes();
            let reason = if !filter::is_filter(&path) {
                Some(("", "MQTT subscription refused, its filter is not valid"))
            } else if filter::is_shared(&path) {
                Some(("", "MQTT subscription refused, shared subscriptions are not served"))
            } else if !session.subscriptions.add(&path, qos, max, left) {
                Some((FILTERS_KEY, "MQTT subscription refused, the client or all clients have too many"))
            } else {
                None
            };
            if reason.is_some() {
                refused = refused.or(reason);
                refusals += 1;
                codes.push(SubscribeReasonCode::Failure);
                continue;
            }
            left -= session.subscriptions.bytes() - cost;
            codes.push(SubscribeReasonCode::Success(qos));
            accepted.push((path, qos));
        }
        self.filter_bytes += self.session(client, link)?.subscriptions.bytes() - before;
        self.counts.refused_subscriptions += refusals;
        if let Some((limit, text)) = refused {
            self.refusals.tell(client, limit, text);
        }
        for (path, qos) in accepted {
            for kept in self.retained.matching(&path) {
                let qos = if (qos as u8) < kept.qos as u8 { qos } else { kept.qos };
                let (messages, bytes) = (self.limits.queue_messages, self.limits.queue_bytes);
                let session = self.session(client, link)?;
                let lost = session.push(Publish { qos, ..kept }, messages, bytes);
                self.counts.dropped += lost;
            }
        }
        Some(codes)
    }

    /// Ends subscriptions. `None` if the link is gone.
    pub fn unsubscribe(&mut self, client: &str, link: u64, filters: &[String]) -> Option<()> {
        let subscriptions = &mut self.session(client, link)?.subscriptions;
        let before = subscriptions.bytes();
        filters.iter().for_each(|filter| subscriptions.remove(filter));
        let given_back = before - subscriptions.bytes();
        self.filter_bytes -= given_back;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QoS;

    fn state(sessions: usize) -> State {
        State::new(Limits { sessions, ..Limits::default() }, Space::new())
    }

    #[test]
    fn a_full_house_forgets_the_longest_disconnected_and_never_a_connected_one() {
        let mut state = state(2);
        for client in ["a", "b"] {
            let attached = state.attach(client, false, None).unwrap();
            state.detach(client, attached.link, true);
        }
        state.attach("c", false, None).unwrap();
        assert!(state.attach("b", false, None).unwrap().session_present);
        assert_eq!(state.attach("d", true, None).unwrap_err(), ConnectReturnCode::ServiceUnavailable);
    }

    #[test]
    fn subscriptions_cost_all_clients_until_they_end() {
        let limits = Limits { filter_bytes: 3 * 70, ..Limits::default() };
        let mut state = State::new(limits, Space::new());
        let filter = |path: &str| SubscribeFilter::new(path.to_owned(), QoS::AtMostOnce);
        let granted = |codes: Option<Vec<SubscribeReasonCode>>| {
            codes.unwrap().iter().filter(|code| **code != SubscribeReasonCode::Failure).count()
        };
        let a = state.attach("a", true, None).unwrap().link;
        let b = state.attach("b", true, None).unwrap().link;
        assert_eq!(granted(state.subscribe("a", a, vec![filter("x/1"), filter("x/2"), filter("x/1")])), 3);
        assert_eq!(granted(state.subscribe("b", b, vec![filter("x/1"), filter("x/2")])), 1);
        state.unsubscribe("a", a, &["x/1".to_owned(), "never".to_owned()]).unwrap();
        assert_eq!(granted(state.subscribe("b", b, vec![filter("x/2"), filter("x/3")])), 1);
        state.detach("a", a, true);
        state.detach("b", b, true);
        assert_eq!((state.filter_bytes, state.counts.clients), (0, 0));
    }

    #[test]
    fn subscribers_that_do_not_read_share_a_limit() {
        let mut state = state(100);
        for number in 0..40 {
            let client = number.to_string();
            let link = state.attach(&client, true, None).unwrap().link;
            let own = SubscribeFilter::new(client.clone(), QoS::AtMostOnce);
            state.subscribe(&client, link, vec![own]).unwrap();
            for _ in 0..3 {
                state.publish(Publish::new(&client, vec![0; 1 << 20], QoS::AtMostOnce), Origin::Process);
            }
        }
        let waiting: usize = state.sessions.values().map(Session::waiting_bytes).sum();
        assert!(waiting <= 34 << 20, "{waiting}");
    }

    #[test]
    fn the_old_link_has_no_say_after_a_takeover() {
        let mut state = state(2);
        let old = state.attach("a", false, None).unwrap();
        let new = state.attach("a", false, None).unwrap();
        assert!(old.taken_over.is_cancelled() && new.session_present);
        state.detach("a", old.link, false);
        assert!(state.session("a", old.link).is_none());
        assert!(state.session("a", new.link).is_some());
    }

    #[test]
    fn a_process_does_not_hear_itself_and_unconfirmed_messages_without_space_are_lost() {
        let mut state = state(2);
        let (sender, mut receiver) = mpsc::channel(super::super::space::MESSAGES);
        state.subscribe_process(vec!["a/#".into()], sender);
        let message = |size: usize| Publish::new("a/b", vec![0; size], QoS::AtMostOnce);
        state.publish(message(1), Origin::Process);
        for _ in 0..5 {
            state.publish(message(1024 * 1024), Origin::Unconfirmed);
        }
        assert_eq!(state.counts.dropped, 1);
        for _ in 0..4 {
            assert_eq!(receiver.try_recv().unwrap().accept().payload.len(), 1024 * 1024);
        }
        assert!(receiver.try_recv().is_err());
        state.publish(message(2), Origin::Unconfirmed);
        assert_eq!(receiver.try_recv().unwrap().accept().payload.len(), 2, "space came back");
    }
}
