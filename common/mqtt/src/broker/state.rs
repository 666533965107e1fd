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
    pub fn new(limits: Limits, space: Space) -> State {
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
    pub fn counts(&self) -> Counts {
        Counts { sessions: self.sessions.len(), queued_bytes: self.ledger.bytes(), ..self.counts }
    }

    /// Connects a client. An older connection of the same name is closed, and its will published; one of another user
    /// keeps its session.
    pub fn attach(&mut self, newcomer: Newcomer<'_>, now: Instant) -> Result<Attached, ConnectReturnCode> {
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
    pub fn refuses(&mut self, client: &str, user: Option<&User>, topic: &str) -> bool {
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
    pub fn detach(&mut self, client: &str, link: u64, said_goodbye: bool, now: Instant) {
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
    pub fn tidy(&mut self, now: Instant) {
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
    pub fn session(&mut self, client: &str, link: u64) -> Option<&mut Session> {
        let session = self.sessions.get_mut(client)?;
        session.link.as_ref().is_some_and(|current| current.id == link).then_some(session)
    }

    /// Delivers to all that want it, and keeps it if it is to be retained.
    pub fn publish(&mut self, publish: Publish, origin: Origin) {
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

    impl State {
        fn join(&mut self, client: &str, clean: bool) -> Result<Attached, ConnectReturnCode> {
            self.attach(Newcomer { client, clean, will: None, user: None }, Instant::now())
        }

        fn leave(&mut self, client: &str, link: u64) {
            self.detach(client, link, true, Instant::now());
        }

        /// A session without a client, with a subscription of its own name.
        fn kept(&mut self, client: &str) {
            let link = self.join(client, false).unwrap().link;
            self.subscribe(client, link, vec![SubscribeFilter::new(client.to_owned(), QoS::AtLeastOnce)]);
            self.leave(client, link);
        }
    }

    fn state(sessions: usize) -> State {
        State::new(Limits { sessions, ..Limits::default() }, Space::new())
    }

    #[test]
    fn a_full_house_forgets_the_longest_disconnected_and_never_a_connected_one() {
        let mut state = state(2);
        for client in ["a", "b"] {
            let attached = state.join(client, false).unwrap();
            state.leave(client, attached.link);
        }
        state.join("c", false).unwrap();
        assert!(state.join("b", false).unwrap().session_present);
        assert_eq!(state.join("d", true).unwrap_err(), ConnectReturnCode::ServiceUnavailable);
    }

    #[test]
    fn subscriptions_cost_all_clients_until_they_end() {
        let limits = Limits { filter_bytes: 3 * 70, ..Limits::default() };
        let mut state = State::new(limits, Space::new());
        let filter = |path: &str| SubscribeFilter::new(path.to_owned(), QoS::AtMostOnce);
        let granted = |codes: Option<Vec<SubscribeReasonCode>>| {
            codes.unwrap().iter().filter(|code| **code != SubscribeReasonCode::Failure).count()
        };
        let a = state.join("a", true).unwrap().link;
        let b = state.join("b", true).unwrap().link;
        assert_eq!(granted(state.subscribe("a", a, vec![filter("x/1"), filter("x/2"), filter("x/1")])), 3);
        assert_eq!(granted(state.subscribe("b", b, vec![filter("x/1"), filter("x/2")])), 1);
        state.unsubscribe("a", a, &["x/1".to_owned(), "never".to_owned()]).unwrap();
        assert_eq!(granted(state.subscribe("b", b, vec![filter("x/2"), filter("x/3")])), 1);
        state.leave("a", a);
        state.leave("b", b);
        assert_eq!((state.filter_bytes, state.counts.clients), (0, 0));
    }

    #[test]
    fn subscribers_that_do_not_read_share_a_limit() {
        let mut state = state(100);
        for number in 0..40 {
            let client = number.to_string();
            let link = state.join(&client, true).unwrap().link;
            let own = SubscribeFilter::new(client.clone(), QoS::AtMostOnce);
            state.subscribe(&client, link, vec![own]).unwrap();
            for _ in 0..3 {
                state.publish(Publish::new(&client, vec![0; 1 << 20], QoS::AtMostOnce), Origin::Process);
            }
        }
        let bytes = state.counts().queued_bytes;
        assert!(bytes <= 8 << 20 && bytes > 6 << 20, "{bytes}");
    }

    #[test]
    fn the_old_link_has_no_say_after_a_takeover() {
        let mut state = state(2);
        let old = state.join("a", false).unwrap();
        let new = state.join("a", false).unwrap();
        assert!(old.cut.is_cancelled() && new.session_present);
        state.leave("a", old.link);
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
        for _ in 0..3 {
            state.publish(message(1024 * 1024), Origin::Unconfirmed);
        }
        assert_eq!(state.counts.dropped, 1);
        for _ in 0..2 {
            assert_eq!(receiver.try_recv().unwrap().accept().payload.len(), 1024 * 1024);
        }
        assert!(receiver.try_recv().is_err());
        state.publish(message(2), Origin::Unconfirmed);
        assert_eq!(receiver.try_recv().unwrap().accept().payload.len(), 2, "space came back");
    }

    #[test]
    fn small_messages_of_kept_sessions_cost_what_they_take_of_memory() {
        let mut state = state(600);
        for number in 0..200 {
            state.kept(&format!("kept-{number}"));
        }
        for _ in 0..400 {
            for number in 0..200 {
                let message = Publish::new(format!("kept-{number}"), "1", QoS::AtLeastOnce);
                state.publish(message, Origin::Unconfirmed);
            }
        }
        let counts = state.counts();
        assert!(counts.queued_bytes <= 8 << 20 && counts.dropped > 0, "{counts:?}");
        let kept = 200 * 400 - counts.dropped;
        // A message costs at least a list's place, its topic and its payload, each an allocation.
        let bytes = kept as usize * (std::mem::size_of::<Publish>() + 2 * 32);
        assert!(bytes <= 8 << 20, "{kept} messages wait, which take {bytes} bytes");
    }

    #[test]
    fn the_largest_session_pays_and_a_modest_one_loses_nothing() {
        let mut state = state(10);
        state.kept("modest");
        state.kept("large");
        state.publish(Publish::new("modest", "first", QoS::AtLeastOnce), Origin::Process);
        for _ in 0..1000 {
            state.publish(Publish::new("large", vec![0; 100_000], QoS::AtLeastOnce), Origin::Process);
        }
        assert!(state.counts().dropped >= 900);
        let modest = state.join("modest", false).unwrap().link;
        assert_eq!(state.session("modest", modest).unwrap().next(usize::MAX).len(), 1);
    }

    #[test]
    fn a_message_for_many_is_kept_once() {
        let mut state = state(200);
        for number in 0..100 {
            let client = number.to_string();
            let link = state.join(&client, false).unwrap().link;
            state.subscribe(&client, link, vec![SubscribeFilter::new("all".to_owned(), QoS::AtLeastOnce)]);
        }
        state.publish(Publish::new("all", vec![0; 1 << 20], QoS::AtLeastOnce), Origin::Process);
        assert_eq!(state.counts().dropped, 0);
        assert!(state.counts().queued_bytes < 2 << 20);
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_end_whose_clients_stay_away_and_sooner_when_they_lost_messages() {
        let mut state = state(10);
        state.limits.all_queues_bytes = 1 << 20;
        for client in ["patient", "back", "flooded"] {
            state.kept(client);
        }
        for _ in 0..200 {
            state.publish(Publish::new("flooded", vec![0; 100_000], QoS::AtLeastOnce), Origin::Process);
        }
        state.tidy(Instant::now());
        tokio::time::advance(INCOMPLETE).await;
        state.tidy(Instant::now());
        assert_eq!(state.counts().sessions, 2);
        assert_eq!(state.counts().queued_bytes, 0, "its memory came back");
        state.join("back", false).unwrap();
        tokio::time::advance(state.limits.kept_for).await;
        state.tidy(Instant::now());
        assert!(!state.sessions.contains_key("patient") && state.sessions.contains_key("back"));
    }

    #[test]
    fn wills_are_bounded_together() {
        let mut state = state(100);
        let mut join = |client: &str| {
            let will = Some(Publish::new("will", vec![0; 1_000_000], QoS::AtLeastOnce));
            state.attach(Newcomer { client, clean: true, will, user: None }, Instant::now())
        };
        assert!(join("a").is_ok() && join("b").is_ok());
        assert_eq!(join("c").unwrap_err(), ConnectReturnCode::ServiceUnavailable);
        assert!(state.join("d", true).is_ok(), "without a will");
    }

    #[test]
    fn a_session_is_its_users() {
        let mut state = state(10);
        let mut join = |client: &str, user: &str| {
            let newcomer = Newcomer { client, clean: true, will: None, user: Some(User::named(user)) };
            state.attach(newcomer, Instant::now())
        };
        let first = join("c", "ann").unwrap();
        assert_eq!(join("c", "bob").unwrap_err(), ConnectReturnCode::NotAuthorized);
        assert!(!first.cut.is_cancelled());
        assert!(join("c", "ann").is_ok() && first.cut.is_cancelled());
    }

    #[test]
    fn clients_that_do_not_read_are_cut_off_when_they_hold_too_much() {
        let mut state = state(20);
        let mut cuts = Vec::new();
        for number in 0..10 {
            let client = number.to_string();
            let attached = state.join(&client, true).unwrap();
            let own = SubscribeFilter::new(client.clone(), QoS::AtMostOnce);
            state.subscribe(&client, attached.link, vec![own]).unwrap();
            state.publish(Publish::new(&client, vec![0; 1 << 20], QoS::AtMostOnce), Origin::Process);
            // As a writer that got it and cannot go on.
            let held = state.session(&client, attached.link).unwrap().next(1);
            cuts.push((attached.cut, held));
        }
        assert!(cuts.iter().any(|(cut, _)| cut.is_cancelled()));
        assert!(cuts.iter().filter(|(cut, _)| cut.is_cancelled()).count() < 5, "the others stay");
    }
}
