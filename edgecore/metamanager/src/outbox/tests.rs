use super::*;
use message::{Json, Request, Verb};

fn status(patch: &str) -> Upstream {
    Upstream::Ask(Request::PatchPodStatus { namespace: "d".into(), name: "p".into(), patch: patch.into() })
}

fn outbox() -> (tempfile::TempDir, Outbox) {
    let folder = tempfile::tempdir().unwrap();
    let store = crate::database::open(&folder.path().join("e.db")).unwrap();
    (folder, Outbox::new(store))
}

#[tokio::test]
async fn a_newer_state_replaces_the_waiting_one_and_an_answer_to_the_old_leaves_it() {
    let (_folder, outbox) = outbox();
    outbox.submit(status("1")).await.unwrap();
    let sent = outbox.next(0, 10).await.unwrap();
    outbox.submit(status("2")).await.unwrap();
    outbox.done(vec![sent[0].seq]).await.unwrap();
    let left = outbox.next(0, 10).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].message.content.data(), "2");
    assert!(left[0].seq > sent[0].seq);
}

fn event(n: usize) -> Upstream {
    Upstream::Event {
        namespace: "d".into(),
        name: n.to_string(),
        verb: Verb::Create,
        object: Json::string(&"x".repeat(1000)),
    }
}

#[tokio::test]
async fn events_past_the_limit_push_out_the_oldest_and_are_counted() {
    let (_folder, mut outbox) = outbox();
    outbox.limits.events.bytes = 12_000;
    for n in 0..12 {
        outbox.submit(event(n)).await.unwrap();
    }
    let left = outbox.next(0, 100).await.unwrap();
    assert_eq!(outbox.dropped() as usize, 12 - left.len());
    assert!((8..12).contains(&left.len()), "{}", left.len());
    assert_eq!(left.last().unwrap().message.route.resource, "d/event/11");
}

#[tokio::test]
async fn a_full_stream_of_states_makes_its_writers_wait_for_room() {
    let (_folder, mut outbox) = outbox();
    outbox.limits.states.bytes = 1;
    outbox.submit(status("1")).await.unwrap();
    let second = Upstream::Ask(Request::PatchPodStatus {
        namespace: "d".into(),
        name: "other".into(),
        patch: "{}".into(),
    });
    let waiting = tokio::spawn({
        let outbox = outbox.clone();
        async move { outbox.submit(second).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    let first = outbox.next(0, 1).await.unwrap()[0].seq;
    outbox.done(vec![first]).await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(outbox.next(0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn states_go_before_reports_and_events_that_came_earlier() {
    let (_folder, outbox) = outbox();
    outbox.submit(event(1)).await.unwrap();
    outbox.submit(event(2)).await.unwrap();
    outbox.submit(status("1")).await.unwrap();
    let seqs = |waiting: Vec<Waiting>| waiting.iter().map(|row| row.seq).collect::<Vec<_>>();
    let room = |states, others| Room { states, others };
    let all = outbox.next_of_both(Cursors::default(), room(2, 2)).await.unwrap();
    assert!(all[0].state && !all[1].state);
    assert_eq!(seqs(all), [3, 1]);
    let rest = outbox.next_of_both(Cursors { states: 3, others: 1 }, room(10, 10)).await.unwrap();
    assert_eq!(seqs(rest), [2]);
    let only_states = outbox.next_of_both(Cursors::default(), room(2, 0)).await.unwrap();
    assert_eq!(seqs(only_states), [3]);
}

fn report(device: &str, value: &str) -> Upstream {
    Upstream::TwinReport { namespace: "d".into(), name: device.into(), report: Json::string(value) }
}

async fn waiting(outbox: &Outbox) -> Vec<(i64, String)> {
    let rows = outbox.next(0, 100).await.unwrap();
    rows.into_iter().map(|row| (row.seq, row.message.content.data())).collect()
}

#[tokio::test]
async fn reports_behind_one_that_waits_are_merged_and_the_first_keeps_its_place() {
    let (_folder, outbox) = outbox();
    outbox.submit(report("a", "1")).await.unwrap();
    outbox.submit(report("b", "1")).await.unwrap();
    for value in ["2", "3", "4"] {
        outbox.submit(report("a", value)).await.unwrap();
    }
    let first = waiting(&outbox).await;
    assert_eq!(first.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["1", "1"]);
    assert_eq!(outbox.store.read(count).await.unwrap(), 3, "the newest of a, and no other");
    outbox.done(vec![first[0].0]).await.unwrap();
    outbox.submit(report("a", "5")).await.unwrap();
    let second = waiting(&outbox).await;
    assert_eq!(second[1].1, "4");
    assert!(second[1].0 > first[1].0, "under a sequence of its own");
    outbox.done(second.iter().map(|(seq, _)| *seq).collect()).await.unwrap();
    assert_eq!(waiting(&outbox).await[0].1, "5");
}

fn count(db: &Connection) -> store::rusqlite::Result<i64> {
    db.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))
}

#[tokio::test]
async fn a_report_whose_turn_came_wakes_who_sends() {
    let (_folder, outbox) = outbox();
    outbox.submit(report("a", "1")).await.unwrap();
    outbox.submit(report("a", "2")).await.unwrap();
    let first = waiting(&outbox).await;
    outbox.added().await;
    outbox.done(vec![first[0].0]).await.unwrap();
    let woken = tokio::time::timeout(std::time::Duration::from_secs(10), outbox.added()).await;
    assert!(woken.is_ok() && waiting(&outbox).await[0].1 == "2");
}

#[tokio::test]
async fn a_report_without_an_answer_is_given_up_for_a_newer_one_and_only_for_that() {
    let (_folder, outbox) = outbox();
    outbox.submit(status("1")).await.unwrap();
    for (device, value) in [("a", "1"), ("b", "1"), ("a", "2")] {
        outbox.submit(report(device, value)).await.unwrap();
    }
    let sent = waiting(&outbox).await;
    let seqs: Vec<i64> = sent.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(outbox.overtake(seqs.clone()).await.unwrap(), [seqs[1]]);
    let left: Vec<String> = waiting(&outbox).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(left, ["1", "1", "2"]);
}

#[tokio::test]
async fn reports_past_the_limit_are_counted_unless_a_newer_one_takes_their_place() {
    let (_folder, mut outbox) = outbox();
    let long = "x".repeat(1000);
    outbox.submit(report("a", &long)).await.unwrap();
    let row = outbox.store.read(|db| bytes(db, REPORT)).await.unwrap();
    outbox.limits.reports.bytes = 3 * row;
    outbox.submit(report("a", &long)).await.unwrap();
    outbox.submit(report("b", &long)).await.unwrap();
    assert_eq!(outbox.store.read(|db| bytes(db, REPORT)).await.unwrap(), 3 * row);
    outbox.submit(report("c", &long)).await.unwrap();
    assert_eq!(outbox.dropped(), 0, "a's older report says nothing that its newer one does not");
    let devices = |rows: Vec<Waiting>| -> Vec<String> {
        rows.into_iter().map(|row| row.message.route.resource).collect()
    };
    let left = devices(outbox.next(0, 10).await.unwrap());
    assert_eq!(left.len(), 3, "{left:?}");
    outbox.submit(report("d", &long)).await.unwrap();
    assert_eq!(outbox.dropped(), 1);
    assert_eq!(outbox.next(0, 10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn what_the_cloud_does_not_know_of_pods_is_told_with_every_change() {
    let (_folder, outbox) = outbox();
    let mut changes = outbox.changes();
    changes.mark_unchanged();
    outbox.submit(event(1)).await.unwrap();
    outbox.submit(status("1")).await.unwrap();
    outbox.submit(status("2")).await.unwrap();
    assert!(changes.has_changed().unwrap());
    let waiting = outbox.pod_statuses().await.unwrap();
    assert_eq!(waiting, [("d".to_owned(), "p".to_owned(), "2".to_owned())]);
    changes.mark_unchanged();
    let seqs = outbox.next(0, 10).await.unwrap().iter().map(|one| one.seq).collect();
    outbox.done(seqs).await.unwrap();
    assert!(changes.has_changed().unwrap() && outbox.pod_statuses().await.unwrap().is_empty());
}
