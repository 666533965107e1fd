//! All sessions, retained messages and in-process subscribers. Pure: every operation is short and waits for nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{ConnectReturnCode, SubscribeFilter, SubscribeReasonCode};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::access::User;
use super::kept::{Ledger, Message, Queued};
use super::refusals::Refusals;
use super::retained::Retained;
use super::session::{Link, Out, Session};
use super::space::Space;
use super::{CLIENTS_KEY, Counts, FILTERS_KEY, Limits, QUEUED_KEY};
use crate::{Delivery, Publish, Receipt, filter, topics};

/// How long a session without a client is kept that lost messages because all sessions together had too many: what it
/// still has is of little use, and its memory is needed.
const INCOMPLETE: Duration = Duration::from_secs(30);
/// Of the bytes of all messages, retained ones take at most a half and wills at most a quarter.
const RETAINED_PART: usize = 2;
const WILLS_PART: usize = 4;
/// And what is being written to clients at most a half before the slowest is cut off.
const WRITING_PART: usize = 2;

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

/// A client that connects.
pub(super) struct Newcomer<'a> {
    pub client: &'a str,
    pub clean: bool,
    pub will: Option<Publish>,
    pub user: Option<User>,
}

pub(super) struct State {
    limits: Limits,
    /// Of all messages that are kept.
    ledger: Ledger,
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
    /// Messages lost since the log was last told, because all sessions together had too many.
    untold: u64,
}

/// A connection's hold on its session.
#[derive(Debug)]
pub(super) struct Attached {
    pub link: u64,
    pub wake: Arc<Notify>,
    pub cut: CancellationToken,
    pub session_present: bool,
    /// To send before anything else.
    pub again: Vec<Out>,
}

impl State {
    pub(super) fn new(limits: Limits, space: Space) -> State {
        State {
            limits,
            ledger: Ledger::default(),
            space,
            sessions: BTreeMap::new(),
            filter_bytes: 0,
            counts: Counts::default(),
            refusals: Refusals::default(),
            retained: Retained::default(),
            locals: Vec::new(),
            sequence: 0,
            untold: 0,
        }
    }

    /// What is counted, and how much there is now.
    pub(super) fn counts(&self) -> Counts {
        Counts { sessions: self.sessions.len(), queued_bytes: self.ledger.bytes(), ..self.counts }
    }

    /// Connects a client. An older connection of the same name is closed, and its will published; one of another user
    /// keeps its session.
    ///
    /// # Errors
    /// The code with which CONNACK refuses the client.
    pub(super) fn attach(
        &mut self,
        newcomer: Newcomer<'_>,
        now: Instant,
    ) -> Result<Attached, ConnectReturnCode> {
        let Newcomer { client, clean, will, user } = newcomer;
        if self.sessions.get(client).is_some_and(|session| !session.is_of(user.as_ref())) {
            self.refusals.tell(client, "", "MQTT client refused, its name is that of another user's session");
            return Err(ConnectReturnCode::NotAuthorized);
        }
        if let Some(old) = self.sessions.get(client).and_then(|session| session.link.as_ref()) {
            old.cut.cancel();
            let id = old.id;
            self.detach(client, id, false, now);
        }
        if self.counts.clients >= self.limits.clients {
            self.refusals.tell(client, CLIENTS_KEY, "MQTT client refused, too many are connected");
            return Err(ConnectReturnCode::ServiceUnavailable);
        }
        let will = self.keep_will(client, will, user.as_ref())?;
        if clean {
            self.forget(client);
        }
        let session_present = self.sessions.contains_key(client);
        if !session_present && !self.has_room() {
            return Err(ConnectReturnCode::ServiceUnavailable);
        }
        self.sequence += 1;
        self.counts.clients += 1;
        let (link, wake, cut) = (self.sequence, Arc::new(Notify::new()), CancellationToken::new());
        let session = self.sessions.entry(client.to_owned()).or_default();
        (session.clean, session.user, session.ends) = (clean, user, None);
        session.link = Some(Link { id: link, wake: wake.clone(), cut: cut.clone(), will });
        Ok(Attached { link, wake, cut, session_present, again: session.resume() })
    }

    fn keep_will(
        &mut self,
        client: &str,
        will: Option<Publish>,
        user: Option<&User>,
    ) -> Result<Option<Queued>, ConnectReturnCode> {
        let Some(will) = will else { return Ok(None) };
        if self.refuses(client, user, &will.topic) {
            return Ok(None);
        }
        let wills = self.sessions.values().filter_map(|session| session.link.as_ref()?.will.as_ref());
        let bytes: usize = wills.map(Queued::size).sum();
        let message = Message::new(&will.topic, &will.payload, &self.ledger);
        if bytes + message.size() > self.limits.all_queues_bytes / WILLS_PART {
            self.refusals.tell(
                client,
                QUEUED_KEY,
                "MQTT client refused, the wills of all clients are too large",
            );
            return Err(ConnectReturnCode::ServiceUnavailable);
        }
        Ok(Some(Queued::new(&message, will.qos, will.retain)))
    }

    /// True if a client may not publish to `topic`, of which the log is told.
    pub(super) fn refuses(&mut self, client: &str, user: Option<&User>, topic: &str) -> bool {
        let text = if topics::is_ours(topic) {
            "MQTT messages of a client dropped, they are on topics on which only EdgeCore speaks"
        } else if user.is_some_and(|user| !user.may_write(topic)) {
            "MQTT messages of a client dropped, the ACL does not let it publish on their topic"
        } else {
            return false;
        };
        self.counts.refused_messages += 1;
        self.refusals.tell(client, "", text);
        true
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
    pub(super) fn detach(&mut self, client: &str, link: u64, said_goodbye: bool, now: Instant) {
        let Some(session) = self.session(client, link) else { return };
        let will = session.link.take().and_then(|link| link.will);
        let clean = session.clean;
        self.counts.clients -= 1;
        if clean {
            self.forget(client);
        } else {
            self.sequence += 1;
            let (left, kept_for) = (self.sequence, self.limits.kept_for);
            if let Some(session) = self.sessions.get_mut(client) {
                session.left = left;
                session.ends = Some(now + kept_for);
            }
        }
        if let Some(will) = will.filter(|_| !said_goodbye) {
            self.publish(will.message.publish(will.qos, will.retain), Origin::Unconfirmed);
        }
    }

    /// Ends sessions whose clients stayed away for too long, and tells the log of what was lost since the last time.
    pub(super) fn tidy(&mut self, now: Instant) {
        for session in self.sessions.values_mut().filter(|session| session.is_incomplete) {
            session.is_incomplete = false;
            session.ends = session.ends.map(|ends| ends.min(now + INCOMPLETE));
        }
        let over = self.sessions.iter().filter(|(_, session)| session.ends.is_some_and(|ends| ends <= now));
        let over: Vec<String> = over.map(|(client, _)| client.clone()).collect();
        for client in &over {
            self.forget(client);
        }
        if !over.is_empty() {
            tracing::info!(count = over.len(), "MQTT sessions ended, their clients stayed away");
        }
        if self.untold > 0 {
            tracing::warn!(
                count = self.untold,
                limit = QUEUED_KEY,
                "MQTT messages lost, all sessions together have too many"
            );
            self.untold = 0;
        }
    }

    /// The session of `client`, if `link` is still its connection.
    pub(super) fn session(&mut self, client: &str, link: u64) -> Option<&mut Session> {
        let session = self.sessions.get_mut(client)?;
        session.link.as_ref().is_some_and(|current| current.id == link).then_some(session)
    }

    /// Delivers to all that want it, and keeps it if it is to be retained.
    pub(super) fn publish(&mut self, publish: Publish, origin: Origin) {
        let Limits { queue_messages, queue_bytes, retained_messages, all_queues_bytes, .. } = self.limits;
        self.counts.received += u64::from(!matches!(origin, Origin::Process));
        let message = Message::new(&publish.topic, &publish.payload, &self.ledger);
        let retained_bytes = all_queues_bytes / RETAINED_PART;
        if publish.retain && !self.retained.set(&message, publish.qos, retained_messages, retained_bytes) {
            self.counts.dropped += 1;
        }
        for session in self.sessions.values_mut() {
            let Some(wanted) = session.subscriptions.wanted(&publish.topic) else { continue };
            if !session.may_read(&publish.topic) {
                continue;
            }
            let qos = if (wanted as u8) < publish.qos as u8 { wanted } else { publish.qos };
            let queued = Queued::new(&message, qos, false);
            self.counts.dropped += session.push(queued, queue_messages, queue_bytes);
        }
        drop(message);
        self.shed();
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

    /// While all messages together take too much, the largest session loses its oldest. What clients hold by not
    /// reading no queue can lose: where that is much, the one with the most is cut off.
    fn shed(&mut self) {
        if self.ledger.bytes() > self.limits.all_queues_bytes {
            let writing: usize = self.sessions.values().map(Session::writing_bytes).sum();
            let slowest = self.sessions.values_mut().max_by_key(|session| session.writing_bytes());
            if let Some(slowest) = slowest.filter(|_| writing > self.limits.all_queues_bytes / WRITING_PART) {
                slowest.cut_off();
            }
        }
        while self.ledger.bytes() > self.limits.all_queues_bytes {
            let (mut largest, mut next) = (None, 0);
            let mut most = 0;
            for session in self.sessions.values_mut() {
                let bytes = session.waiting_bytes();
                if bytes > most {
                    (next, most, largest) = (most, bytes, Some(session));
                } else {
                    next = next.max(bytes);
                }
            }
            let Some(session) = largest else { return };
            // As many as make it the second largest, so that a long list is not looked through for each.
            loop {
                if !session.shed() {
                    return;
                }
                self.counts.dropped += 1;
                self.untold += 1;
                let bytes = session.waiting_bytes();
                if bytes < next || bytes == 0 || self.ledger.bytes() <= self.limits.all_queues_bytes {
                    break;
                }
            }
        }
    }

    /// True if a session wants messages on `topic` and may read them.
    pub(super) fn is_wanted(&self, topic: &str) -> bool {
        let mut sessions = self.sessions.values();
        sessions.any(|session| session.subscriptions.wanted(topic).is_some() && session.may_read(topic))
    }

    pub(super) fn is_wanted_in_process(&self, topic: &str) -> bool {
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

    pub(super) fn subscribe_process(&mut self, filters: Vec<String>, sender: mpsc::Sender<Delivery>) {
        self.locals.push(Local { filters, sender });
    }

    /// Answers one code per filter and queues the retained messages that match. `None` if the link is gone.
    pub(super) fn subscribe(
        &mut self,
        client: &str,
        link: u64,
        wanted: Vec<SubscribeFilter>,
    ) -> Option<Vec<SubscribeReasonCode>> {
        let Limits { filters: max, filter_bytes, queue_messages, queue_bytes, .. } = self.limits;
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
            for (message, kept) in self.retained.matching(&path) {
                let qos = if (qos as u8) < kept as u8 { qos } else { kept };
                let session = self.session(client, link)?;
                if session.may_read(&message.topic) {
                    let lost = session.push(Queued::new(&message, qos, true), queue_messages, queue_bytes);
                    self.counts.dropped += lost;
                }
            }
        }
        self.shed();
        Some(codes)
    }

    /// Ends subscriptions. `None` if the link is gone.
    pub(super) fn unsubscribe(&mut self, client: &str, link: u64, filters: &[String]) -> Option<()> {
        let subscriptions = &mut self.session(client, link)?.subscriptions;
        let before = subscriptions.bytes();
        filters.iter().for_each(|filter| subscriptions.remove(filter));
        let given_back = before - subscriptions.bytes();
        self.filter_bytes -= given_back;
        Some(())
    }
}

#[cfg(test)]
mod tests;
