//! All sessions, retained messages and in-process subscribers. Pure: every operation is short and waits for nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use rumqttc::{ConnectReturnCode, Packet, SubscribeFilter, SubscribeReasonCode};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::retained::Retained;
use super::session::{Link, Session};
use super::space::Space;
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
    retained: Retained,
    locals: Vec<Local>,
    /// Last number given to a link or a departure.
    sequence: u64,
    pub dropped: u64,
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
            retained: Retained::default(),
            locals: Vec::new(),
            sequence: 0,
            dropped: 0,
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
        if clean {
            self.sessions.remove(client);
        }
        let session_present = self.sessions.contains_key(client);
        if !session_present && !self.has_room() {
            return Err(ConnectReturnCode::ServiceUnavailable);
        }
        self.sequence += 1;
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
        self.sessions.remove(&oldest);
        true
    }

    /// Ends a connection's hold, unless another one took over. The will is published unless the client said goodbye.
    pub fn detach(&mut self, client: &str, link: u64, said_goodbye: bool) {
        let Some(session) = self.session(client, link) else { return };
        let will = session.link.take().and_then(|link| link.will);
        if session.clean {
            self.sessions.remove(client);
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
        if publish.retain && !self.retained.set(&publish, retained_messages, retained_bytes) {
            self.dropped += 1;
        }
        for session in self.sessions.values_mut() {
            let Some(wanted) = session.subscriptions.wanted(&publish.topic) else { continue };
            let qos = if (wanted as u8) < publish.qos as u8 { wanted } else { publish.qos };
            let copy = Publish { qos, retain: false, ..publish.clone() };
            self.dropped += session.push(copy, queue_messages, queue_bytes);
        }
        match origin {
            Origin::Process => {}
            Origin::Confirmed(receipt) => self.deliver_in_process(&publish, receipt),
            Origin::Unconfirmed if self.is_wanted_in_process(&publish.topic) => {
                match self.space.try_take(&publish) {
                    Some(space) => self.deliver_in_process(&publish, Receipt::new(vec![space])),
                    None => self.dropped += 1,
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
        let max = self.limits.filters;
        let session = self.session(client, link)?;
        let mut codes = Vec::with_capacity(wanted.len());
        let mut accepted = Vec::new();
        for SubscribeFilter { path, qos } in wanted {
            if !filter::is_filter(&path) || !session.subscriptions.add(&path, qos, max) {
                codes.push(SubscribeReasonCode::Failure);
                continue;
            }
            codes.push(SubscribeReasonCode::Success(qos));
            accepted.push((path, qos));
        }
        for (path, qos) in accepted {
            for kept in self.retained.matching(&path) {
                let qos = if (qos as u8) < kept.qos as u8 { qos } else { kept.qos };
                let (messages, bytes) = (self.limits.queue_messages, self.limits.queue_bytes);
                let session = self.session(client, link)?;
                let lost = session.push(Publish { qos, ..kept }, messages, bytes);
                self.dropped += lost;
            }
        }
        Some(codes)
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
        assert_eq!(state.dropped, 1);
        for _ in 0..4 {
            assert_eq!(receiver.try_recv().unwrap().accept().payload.len(), 1024 * 1024);
        }
        assert!(receiver.try_recv().is_err());
        state.publish(message(2), Origin::Unconfirmed);
        assert_eq!(receiver.try_recv().unwrap().accept().payload.len(), 2, "space came back");
    }
}
