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

#[test]
fn a_topic_is_wanted_while_a_session_with_or_without_its_client_subscribes_to_it() {
    let mut state = state(2);
    assert!(!state.is_wanted("a"));
    state.kept("a");
    assert!(state.is_wanted("a") && !state.is_wanted("b"));
    let b = state.join("b", true).unwrap().link;
    state.subscribe("b", b, vec![SubscribeFilter::new("b/#".to_owned(), QoS::AtMostOnce)]);
    assert!(state.is_wanted("b/c"));
    state.leave("b", b);
    assert!(!state.is_wanted("b/c"));
}
