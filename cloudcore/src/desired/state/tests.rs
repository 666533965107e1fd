use std::time::Duration;

use super::*;
use crate::desired::text::RecentTexts;

const WIDE: Window = Window { messages: 32, bytes: usize::MAX };

fn wanted(path: &str, uid: &str, version: &str) -> Wanted {
    Wanted {
        key: ObjectKey::parse(path).unwrap(),
        uid: uid.into(),
        version: ResourceVersion(version.into()),
        mark: version.parse().unwrap(),
        object: Json::string(version).into(),
    }
}

fn text(body: &Downstream) -> String {
    match body {
        Downstream::Put { key, version, first, .. } => {
            format!("{} {key}@{}", if *first { "insert" } else { "update" }, version.0)
        }
        Downstream::Remove { key, .. } => format!("delete {key}"),
        other => format!("{other:?}"),
    }
}

fn next(desired: &mut Desired) -> (Ticket, String) {
    match desired.next(WIDE, Instant::now()) {
        Some(outgoing) => (outgoing.ticket, text(&outgoing.body)),
        None => (0, "nothing".into()),
    }
}

fn version(settled: Option<Settled>) -> Option<String> {
    settled.unwrap().version.map(|version| version.0)
}

#[test]
fn only_the_newest_version_is_sent_and_configuration_goes_before_pods() {
    let mut desired = Desired::default();
    desired.put(wanted("d/pod/p", "p", "3"));
    desired.put(wanted("d/configmap/c", "c", "1"));
    desired.put(wanted("d/configmap/c", "c", "2"));
    desired.put(wanted("d/configmap/c", "c", "1"));
    assert_eq!(next(&mut desired).1, "insert d/configmap/c@2");
    assert_eq!(next(&mut desired).1, "insert d/pod/p@3");
    assert_eq!(next(&mut desired).1, "nothing");
}

#[test]
fn a_change_during_flight_follows_the_acknowledgement_and_a_late_ack_moves_nothing_back() {
    let mut desired = Desired::default();
    desired.put(wanted("d/configmap/c", "c", "1"));
    let (first, _) = next(&mut desired);
    desired.put(wanted("d/configmap/c", "c", "2"));
    assert_eq!(next(&mut desired).1, "nothing");
    assert_eq!(version(desired.acked(first)).as_deref(), Some("1"));
    let (second, what) = next(&mut desired);
    assert_eq!(what, "update d/configmap/c@2");
    assert!(desired.acked(first).is_none());
    assert_eq!(version(desired.acked(second)).as_deref(), Some("2"));
    assert_eq!(next(&mut desired).1, "nothing");
    assert!(desired.is_settled());
}

#[test]
fn a_removed_uid_stays_removed_and_a_new_uid_of_the_same_name_is_another_object() {
    let mut desired = Desired::default();
    desired.put(wanted("d/pod/p", "old", "1"));
    let (ticket, _) = next(&mut desired);
    desired.acked(ticket);
    desired.remove(&ObjectKey::parse("d/pod/p").unwrap(), "old", Json::null(), false);
    desired.put(wanted("d/pod/p", "old", "9"));
    desired.put(wanted("d/pod/p", "new", "10"));
    let (ticket, what) = next(&mut desired);
    assert_eq!(what, "delete d/pod/p");
    assert_eq!(next(&mut desired).1, "insert d/pod/p@10");
    assert_eq!(version(desired.acked(ticket)), None);
    assert!(!desired.entries.contains_key("old"));
}

#[test]
fn a_withdrawn_object_comes_back_in_the_version_it_had() {
    let mut desired = Desired::default();
    desired.put(wanted("d/secret/s", "s", "4"));
    let (ticket, _) = next(&mut desired);
    desired.acked(ticket);
    desired.remove(&ObjectKey::parse("d/secret/s").unwrap(), "s", Json::null(), true);
    let (ticket, what) = next(&mut desired);
    assert_eq!(what, "delete d/secret/s");
    desired.put(wanted("d/secret/s", "s", "4"));
    assert_eq!(version(desired.acked(ticket)), None);
    assert_eq!(next(&mut desired).1, "update d/secret/s@4");
}

#[test]
fn an_overdue_message_is_sent_again_under_its_ticket_and_a_newer_state_under_its_own() {
    let mut desired = Desired::default();
    let now = Instant::now();
    desired.put(wanted("d/configmap/c", "c", "1"));
    let ticket = desired.next(WIDE, now).unwrap().ticket;
    assert!(desired.overdue(now + Duration::from_secs(4)).is_empty());
    let again = desired.overdue(now + RESEND_AFTER);
    assert_eq!((again.len(), again[0].0), (1, ticket));
    assert_eq!(text(&again[0].1), "insert d/configmap/c@1");

    desired.put(wanted("d/configmap/c", "c", "2"));
    assert!(desired.overdue(now + RESEND_AFTER * 2).is_empty(), "not as what was sent before");
    let newer = desired.next(WIDE, now).unwrap();
    assert_eq!(text(&newer.body), "insert d/configmap/c@2");
    assert!(desired.acked(ticket).is_none(), "a late acknowledgement does not count for the newer state");
    assert_eq!(version(desired.acked(newer.ticket)).as_deref(), Some("2"));
    assert_eq!(desired.next_deadline(), None);
}

#[test]
fn what_is_recorded_as_acknowledged_is_not_sent_and_what_nobody_claims_is_unclaimed() {
    let mut desired = Desired::default();
    let record = |desired: &mut Desired, name: &str, version: &str| {
        let key = ObjectKey::new(Some("d"), ObjectKind::Pod, name);
        desired.recorded(key, name.into(), ResourceVersion(version.into()));
    };
    record(&mut desired, "gone", "3");
    record(&mut desired, "same", "7");
    record(&mut desired, "behind", "6");
    desired.put(wanted("d/pod/same", "same", "7"));
    desired.put(wanted("d/pod/behind", "behind", "7"));
    assert_eq!(next(&mut desired).1, "update d/pod/behind@7");
    assert_eq!(next(&mut desired).1, "nothing");
    assert_eq!(desired.unclaimed(), [(ObjectKey::parse("d/pod/gone").unwrap(), "gone".to_owned())]);
}

#[test]
fn the_window_bounds_messages_and_bytes_in_flight() {
    let mut desired = Desired::default();
    let now = Instant::now();
    for n in 0..10 {
        desired.put(wanted("d/configmap/c", &n.to_string(), "1"));
    }
    let narrow = Window { messages: 4, bytes: usize::MAX };
    let first = desired.next(narrow, now).unwrap().ticket;
    assert_eq!((0..10).filter(|_| desired.next(narrow, now).is_some()).count(), 3);
    desired.acked(first);
    assert!(desired.next(narrow, now).is_some());
    assert!(desired.next(Window { messages: 10, bytes: 1 }, now).is_none());
    desired.acked_through(Ticket::MAX);
    assert!(desired.next(Window { messages: 10, bytes: 1 }, now).is_some());
}

#[test]
fn an_update_that_changes_nothing_the_node_reacts_to_is_not_sent() {
    let mut desired = Desired::default();
    desired.put(wanted("d/configmap/c", "c", "1"));
    let (ticket, _) = next(&mut desired);
    desired.acked(ticket);
    desired.put(Wanted { mark: 1, ..wanted("d/configmap/c", "c", "2") });
    assert_eq!(next(&mut desired).1, "nothing");
}

#[test]
fn what_an_inventory_shows_is_settled_sent_or_left_over() {
    let mut desired = Desired::default();
    desired.keep_texts();
    for (name, version) in [("same", "4"), ("behind", "5"), ("new", "6")] {
        desired.put(wanted(&format!("d/pod/{name}"), name, version));
    }
    desired.put(wanted("d/secret/s", "s", "9"));
    let mut secrets = Digest::default();
    secrets.add("s", 9);
    let theirs = [secrets.of_kind("secret"), Digest { count: 3, sum: 1 }.of_kind("pod")];
    assert_eq!(desired.compare(&theirs), ["pod"]);
    for (name, mark) in [("same", 4), ("behind", 1), ("gone", 2)] {
        let held = Held { uid: name.into(), mark, ..Held::default() };
        desired.held(&held, ObjectKey::new(Some("d"), ObjectKind::Pod, name));
    }
    let mut sent = vec![next(&mut desired).1, next(&mut desired).1];
    sent.sort();
    assert_eq!(sent, ["insert d/pod/new@6", "update d/pod/behind@5"]);
    assert_eq!(next(&mut desired).1, "nothing");
    assert_eq!(desired.unclaimed()[0].1, "gone");
    // What was settled by comparison is the base of the next difference.
    desired.put(wanted("d/secret/s", "s", "10"));
    let outgoing = desired.next(WIDE, Instant::now()).unwrap();
    assert_eq!(outgoing.base.unwrap().text(), "\"9\"");
}

#[test]
fn a_sending_the_node_could_not_take_is_sent_again_whole() {
    let mut desired = Desired::default();
    desired.keep_texts();
    desired.put(wanted("d/configmap/c", "c", "1"));
    let (ticket, _) = next(&mut desired);
    desired.acked(ticket);
    desired.put(wanted("d/configmap/c", "c", "2"));
    let outgoing = desired.next(WIDE, Instant::now()).unwrap();
    assert!(outgoing.base.is_some());
    desired.failed(outgoing.ticket);
    let outgoing = desired.next(WIDE, Instant::now()).unwrap();
    assert!(outgoing.base.is_none());
}

#[test]
fn what_a_node_has_is_not_replaced_by_its_predecessor_while_nobody_knows_what_it_is() {
    let old = || wanted("d/pod/p", "old", "4");
    let key = old().key;
    let sent = |desired: &mut Desired| {
        let next = std::iter::from_fn(|| desired.next(Window::KUBEEDGE, Instant::now()));
        next.map(|outgoing| match outgoing.body {
            Downstream::Put { version, .. } => format!("put {}", version.0),
            Downstream::Remove { uid, .. } => format!("remove {}", uid.unwrap_or_default()),
            _ => String::new(),
        })
        .collect::<Vec<_>>()
    };
    let lagging = || {
        let mut desired = Desired::default();
        desired.recorded(key.clone(), "new".into(), ResourceVersion("9".into()));
        desired.put(old());
        desired
    };

    let mut desired = lagging();
    assert!(sent(&mut desired).is_empty(), "the node may have its successor");
    assert!(!desired.is_settled());
    // The watch tells of both.
    desired.remove(&key, "old", Json::null(), false);
    desired.put(wanted("d/pod/p", "new", "10"));
    assert_eq!(sent(&mut desired), ["remove old", "put 10"]);

    let mut desired = lagging();
    assert!(sent(&mut desired).is_empty());
    // The API server says that it is gone: this replica was right.
    desired.remove(&key, "new", Json::null(), false);
    assert_eq!(sent(&mut desired), ["put 4", "remove new"]);
}

#[test]
fn what_is_not_in_memory_is_asked_for_once_and_holds_up_nothing_else() {
    let mut recent = RecentTexts::new(0);
    let (mut desired, away) = (Desired::default(), wanted("d/secret/s", "s", "1"));
    recent.note(&away.object);
    recent.note(&wanted("d/secret/other", "o", "1").object);
    desired.put(away.clone());
    desired.put(wanted("d/pod/p", "p", "3"));
    assert_eq!(next(&mut desired).1, "insert d/pod/p@3");
    assert_eq!(next(&mut desired).1, "nothing");
    assert_eq!(desired.take_away(), std::slice::from_ref(&away.key));
    assert!(desired.take_away().is_empty() && !desired.is_settled());
    away.object.fill(&wanted("d/secret/s", "s", "1").object);
    desired.put(away.clone());
    assert_eq!(next(&mut desired).1, "insert d/secret/s@1");
    desired.put(away);
    assert_eq!(next(&mut desired).1, "nothing", "it is under way");
}

#[test]
fn a_newer_state_or_a_removal_takes_the_place_of_a_text_that_is_not_in_memory() {
    let mut recent = RecentTexts::new(0);
    let away = |recent: &mut RecentTexts| {
        let (mut desired, away) = (Desired::default(), wanted("d/secret/s", "s", "1"));
        recent.note(&away.object);
        recent.note(&wanted("d/secret/other", "o", "1").object);
        desired.put(away.clone());
        assert_eq!((next(&mut desired).1, desired.take_away().len()), ("nothing".to_owned(), 1));
        desired
    };
    let mut changed = away(&mut recent);
    changed.put(wanted("d/secret/s", "s", "2"));
    assert_eq!(next(&mut changed).1, "insert d/secret/s@2");
    let mut removed = away(&mut recent);
    removed.remove(&ObjectKey::parse("d/secret/s").unwrap(), "s", Json::null(), true);
    assert_eq!(next(&mut removed).1, "delete d/secret/s");
}

#[test]
fn what_is_overdue_and_not_in_memory_keeps_its_ticket_and_is_sent_again_once_it_is_back() {
    let (mut recent, mut desired, start) = (RecentTexts::new(0), Desired::default(), Instant::now());
    let secret = wanted("d/secret/s", "s", "1");
    desired.put(secret.clone());
    let ticket = desired.next(WIDE, start).unwrap().ticket;
    recent.note(&secret.object);
    recent.note(&wanted("d/secret/other", "o", "1").object);
    assert!(desired.overdue(start + RESEND_AFTER).is_empty() && desired.is_under_way(ticket));
    assert_eq!(desired.take_away(), std::slice::from_ref(&secret.key));
    secret.object.fill(&wanted("d/secret/s", "s", "1").object);
    desired.put(secret);
    assert_eq!(next(&mut desired).1, "nothing");
    let again = desired.overdue(start + RESEND_AFTER * 2);
    assert_eq!(
        again.iter().map(|(ticket, body)| (*ticket, text(body))).collect::<Vec<_>>(),
        [(ticket, "insert d/secret/s@1".to_owned())]
    );
}

#[test]
fn what_was_taken_away_before_the_comparison_comes_back_after_it() {
    let (mut desired, key) = (Desired::default(), ObjectKey::parse("d/secret/s").unwrap());
    desired.put(wanted("d/secret/s", "s", "4"));
    desired.put(wanted("d/secret/kept", "k", "5"));
    desired.remove(&key, "s", Json::null(), true);
    // The node has the one it should have.
    let mut secrets = Digest::default();
    secrets.add("k", 5);
    assert!(desired.compare(&[secrets.of_kind("secret")]).is_empty());
    assert_eq!(next(&mut desired).1, "nothing");
    desired.put(wanted("d/secret/s", "s", "4"));
    assert_eq!(next(&mut desired).1, "insert d/secret/s@4");
}

#[test]
fn what_may_be_wanted_again_is_taken_away_once_it_is_on_record_that_the_node_may_not_have_it() {
    let mut desired = Desired::default();
    desired.announce_removals();
    let key = ObjectKey::parse("d/configmap/c").unwrap();
    let on_record = |version: &str| (key.clone(), "c".to_owned(), ResourceVersion(version.into()));
    let known = |desired: &mut Desired, (key, uid, version)| desired.recorded(key, uid, version);
    known(&mut desired, on_record("7"));
    desired.remove(&key, "c", Json::null(), true);
    assert_eq!(next(&mut desired).1, "nothing");
    assert_eq!(desired.take_announcing(), [(key.clone(), "c".to_owned())]);
    assert!(desired.take_announcing().is_empty() && !desired.is_settled());
    desired.announced("c");
    let (ticket, what) = next(&mut desired);
    assert_eq!(what, "delete d/configmap/c");
    // The node drops it and the acknowledgement is lost: in its next session it is wanted again.
    let mut later = Desired::default();
    known(&mut later, on_record(NEVER));
    later.put(wanted("d/configmap/c", "c", "7"));
    assert_eq!(next(&mut later).1, "update d/configmap/c@7");
    // Acknowledged, and wanted and taken away again.
    assert_eq!(version(desired.acked(ticket)), None);
    desired.put(wanted("d/configmap/c", "c", "7"));
    let (ticket, _) = next(&mut desired);
    desired.acked(ticket);
    desired.remove(&key, "c", Json::null(), true);
    assert_eq!(next(&mut desired).1, "nothing");
    assert_eq!(desired.take_announcing().len(), 1);
    // Wanted once more before it is on record: nothing is taken away.
    desired.put(wanted("d/configmap/c", "c", "7"));
    desired.announced("c");
    assert_eq!(next(&mut desired).1, "update d/configmap/c@7");
}

#[test]
fn what_is_gone_for_good_is_taken_away_at_once() {
    let mut desired = Desired::default();
    desired.announce_removals();
    let key = ObjectKey::parse("d/configmap/c").unwrap();
    desired.recorded(key.clone(), "c".into(), ResourceVersion("7".into()));
    desired.remove(&key, "c", Json::null(), false);
    assert_eq!(next(&mut desired).1, "delete d/configmap/c");
}
