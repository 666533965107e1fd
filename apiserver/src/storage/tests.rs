use apimachinery::traits::Traits;
use kubeapi::stored::{Key, ListQuery, Replay};
use serde_json::{Value, json};

use super::*;

async fn storage(folder: &tempfile::TempDir) -> Storage {
    Storage::open(&folder.path().join("test.db"), Followers::default()).unwrap()
}

fn object(uid: &str) -> Value {
    json!({ "metadata": { "name": uid, "uid": uid } })
}

#[tokio::test]
async fn revisions_older_than_the_log_expire() {
    let folder = tempfile::tempdir().unwrap();
    let storage = storage(&folder).await;
    let first = storage.commit(Key::new("configmaps", "n", "a"), Change::Create(object("a"))).await.unwrap();
    // As if many other objects had changed in between.
    storage
        .store
        .write(|tx| tx.execute("UPDATE revision SET current = current + ?1", [LOG_LENGTH]))
        .await
        .unwrap();
    let next = storage.commit(Key::new("configmaps", "n", "b"), Change::Create(object("b"))).await.unwrap();
    assert_eq!(next.revision, first.revision + LOG_LENGTH + 1);
    assert!(
        matches!(storage.replay("configmaps", first.revision).await.unwrap(), Replay::Expired(now) if now == next.revision)
    );
    match storage.replay("configmaps", next.revision - 1).await.unwrap() {
        Replay::Events(events, reached) => assert_eq!((events.len(), reached), (1, next.revision)),
        Replay::Expired(_) => panic!("recent revisions are kept"),
    }
}

async fn count(storage: &Storage, table: &'static str) -> i64 {
    let question = format!("SELECT count(*) FROM {table}");
    storage.store.read(move |c| c.query_row(&question, [], |row| row.get(0))).await.unwrap()
}

#[tokio::test]
async fn what_the_log_no_longer_tells_of_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let storage = storage(&folder).await;
    let key = |name: &str| Key::new("configmaps", "n", name);
    let mut revision = 0;
    for name in ["changed", "deleted"] {
        revision = storage.commit(key(name), Change::Create(object(name))).await.unwrap().revision;
    }
    let delete = Change::Delete { value: object("deleted"), expected: revision, previous: Traits::default() };
    storage.commit(key("deleted"), delete).await.unwrap();
    let mut expected = revision - 1;
    for _ in 0..3 {
        let value = object("changed");
        let update = Change::Update { value, expected, previous: Traits::default() };
        expected = storage.commit(key("changed"), update).await.unwrap().revision;
    }
    assert_eq!((count(&storage, "log").await, count(&storage, "bodies").await), (6, 6));
    // As if many other objects had changed in between.
    let skip = |tx: &store::rusqlite::Transaction<'_>| {
        tx.execute("UPDATE revision SET current = current + ?1", [LOG_LENGTH])
    };
    storage.store.write(skip).await.unwrap();
    for at in 0..64 {
        let name = format!("new{at}");
        storage.commit(key(&name), Change::Create(object(&name))).await.unwrap();
    }
    assert!(count(&storage, "log").await <= 64);
    assert_eq!((count(&storage, "objects").await, count(&storage, "bodies").await), (65, 65));
    assert_eq!(storage.get(&key("changed")).await.unwrap().unwrap().revision, expected);
    assert!(storage.get(&key("deleted")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_database_with_whole_bodies_in_its_log_is_taken_over_with_its_history() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let old = Options {
        migrations: &MIGRATIONS[..2],
        cache_kib: 64,
        log_pages: 400,
        readers: 1,
        taken_over: None,
        recovery: store::Recovery::Refuse,
    };
    let store = Store::open(&path, &old).unwrap();
    let body =
        |state: &str| json!({"metadata": {"name": "a", "uid": "a"}, "data": {"state": state}}).to_string();
    store
        .write(move |tx| {
            let log = "INSERT INTO log VALUES (?1, 'configmaps', 'n', ?2, ?3, ?4, ?5, ?6)";
            tx.execute("INSERT INTO objects VALUES ('configmaps', 'n', 'a', 'a', 3, ?1)", [body("second")])?;
            tx.execute(log, (2, "a", "ADDED", body("first"), None::<i64>, None::<String>))?;
            tx.execute(log, (3, "a", "MODIFIED", body("second"), 2, body("first")))?;
            tx.execute(log, (4, "b", "ADDED", body("other"), None::<i64>, None::<String>))?;
            tx.execute(log, (5, "b", "DELETED", body("last"), 4, body("other")))?;
            tx.execute("UPDATE revision SET current = 5, floor = 1", [])
        })
        .await
        .unwrap();
    drop(store);
    let storage = storage(&folder).await;
    let now = storage.get(&Key::new("configmaps", "n", "a")).await.unwrap().unwrap();
    assert_eq!((now.revision, now.value().unwrap()["data"]["state"].clone()), (3, json!("second")));
    let Replay::Events(events, 5) = storage.replay("configmaps", 1).await.unwrap() else {
        panic!("the whole history is there")
    };
    let told: Vec<_> = events.iter().map(|event| (event.kind.as_str(), event.stored.revision)).collect();
    assert_eq!(told, [("ADDED", 2), ("MODIFIED", 3), ("ADDED", 4), ("DELETED", 5)]);
    let then = ListQuery { resource: "configmaps".into(), at: Some(2), ..ListQuery::default() };
    let page = storage.list(then).await.unwrap();
    assert_eq!(
        (page.items.len(), page.items[0].value().unwrap()["data"]["state"].clone()),
        (1, json!("first"))
    );
    let before = storage.before(&events[3].stored).await.unwrap().unwrap();
    assert_eq!(before.value().unwrap()["data"]["state"], "other");
}

#[tokio::test]
async fn a_long_replay_comes_in_parts_without_gaps() {
    let folder = tempfile::tempdir().unwrap();
    let storage = storage(&folder).await;
    for at in 0..300 {
        let name = format!("o{at}");
        storage.commit(Key::new("configmaps", "n", &name), Change::Create(object(&name))).await.unwrap();
        storage.commit(Key::new("secrets", "n", &name), Change::Create(object(&name))).await.unwrap();
    }
    let (mut since, mut seen) = (1, 0);
    let current = storage.revision().await.unwrap();
    while since < current {
        match storage.replay("configmaps", since).await.unwrap() {
            Replay::Events(events, reached) => {
                seen += events.len();
                since = reached;
            }
            Replay::Expired(_) => panic!("nothing expired"),
        }
    }
    assert_eq!(seen, 300);
}

async fn names(storage: &Storage, query: ListQuery) -> (Vec<String>, Option<i64>) {
    let page = storage.list(query).await.unwrap();
    (page.items.into_iter().map(|item| item.key.name).collect(), page.remaining)
}

#[tokio::test]
async fn every_revision_since_the_horizon_is_read_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let storage = storage(&folder).await;
    let mut seen: Vec<(i64, Vec<(String, i64)>)> = Vec::new();
    let mut now: std::collections::BTreeMap<String, i64> = std::collections::BTreeMap::new();
    // A walk of additions, changes and removals over four names, the same in every run.
    let mut random: u32 = 7;
    for _ in 0..120 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let name = format!("o{}", (random >> 20) % 4);
        let key = Key::new("configmaps", "n", &name);
        let (value, previous) = (object(&name), Traits::default());
        let change = match (now.get(&name).copied(), (random >> 8) % 3) {
            (None, _) => Change::Create(value),
            (Some(expected), 0) => Change::Delete { value, expected, previous },
            (Some(expected), _) => Change::Update { value, expected, previous },
        };
        let removed = matches!(change, Change::Delete { .. });
        let stored = storage.commit(key, change).await.unwrap();
        match removed {
            true => now.remove(&name),
            false => now.insert(name, stored.revision),
        };
        seen.push((stored.revision, now.clone().into_iter().collect()));
    }
    for (revision, wanted) in seen {
        let query = ListQuery { resource: "configmaps".into(), at: Some(revision), ..ListQuery::default() };
        let page = storage.list(query.clone()).await.unwrap();
        let found: Vec<(String, i64)> =
            page.items.iter().map(|item| (item.key.name.clone(), item.revision)).collect();
        assert_eq!((page.revision, &found), (revision, &wanted));
        for (item, (_, of)) in page.items.iter().zip(&wanted) {
            assert_eq!(item.value().unwrap()["metadata"]["resourceVersion"], of.to_string());
        }
        if wanted.len() > 1 {
            let (first, remaining) = names(&storage, ListQuery { limit: 1, ..query }).await;
            assert_eq!((first[0].as_str(), remaining), (wanted[0].0.as_str(), Some(wanted.len() as i64 - 1)));
        }
    }
    let late = ListQuery { resource: "configmaps".into(), at: Some(i64::MAX), ..ListQuery::default() };
    assert_eq!(storage.list(late).await.unwrap_err().code, 504);
}

#[tokio::test]
async fn lists_by_label_and_by_node_are_those_of_the_whole_list_that_match() {
    let folder = tempfile::tempdir().unwrap();
    let storage = storage(&folder).await;
    let pod = |name: &str, app: &str, node: &str| {
        json!({"metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": app, "tier": "x"}},
               "spec": {"nodeName": node}})
    };
    let key = |name: &str| Key::new("pods", "n", name);
    let mut revisions = Vec::new();
    for (name, app, node) in [("a", "web", "n1"), ("b", "web", "n2"), ("c", "db", "n1"), ("d", "web", "")] {
        let made = storage.commit(key(name), Change::Create(pod(name, app, node))).await.unwrap();
        revisions.push(made.revision);
    }
    let ask = |labels: &str, fields: &str| {
        let labels = apimachinery::LabelSelector::parse(labels).unwrap();
        let fields = apimachinery::FieldSelector::parse(fields).unwrap();
        ListQuery { resource: "pods".into(), labels, fields, ..ListQuery::default() }
    };
    let some = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&storage, ask("app=web", "")).await.0, some(&["a", "b", "d"]));
    assert_eq!(names(&storage, ask("app=web,tier=x,!gone", "")).await.0, some(&["a", "b", "d"]));
    assert_eq!(names(&storage, ask("app=web", "spec.nodeName=n1")).await.0, some(&["a"]));
    assert_eq!(names(&storage, ask("", "spec.nodeName=n1")).await.0, some(&["a", "c"]));
    assert_eq!(names(&storage, ask("", "spec.nodeName=")).await.0, some(&["d"]));
    let page = ListQuery { limit: 2, ..ask("app=web", "") };
    assert_eq!(names(&storage, page.clone()).await, (some(&["a", "b"]), None));
    let after = Some(("n".to_owned(), "b".to_owned()));
    assert_eq!(names(&storage, ListQuery { after, ..page }).await.0, some(&["d"]));
    // What changes its labels or goes is not found by the old ones, except in the past.
    let previous = Traits::of("pods", &pod("a", "web", "n1"));
    let change = Change::Update { value: pod("a", "db", "n1"), expected: revisions[0], previous };
    storage.commit(key("a"), change).await.unwrap();
    let previous = Traits::of("pods", &pod("b", "web", "n2"));
    let change = Change::Delete { value: pod("b", "web", "n2"), expected: revisions[1], previous };
    storage.commit(key("b"), change).await.unwrap();
    assert_eq!(names(&storage, ask("app=web", "")).await.0, some(&["d"]));
    assert_eq!(names(&storage, ask("app=db", "")).await.0, some(&["a", "c"]));
    let past = ListQuery { at: Some(revisions[3]), ..ask("app=web", "") };
    assert_eq!(names(&storage, past).await.0, some(&["a", "b", "d"]));
    let left: i64 = storage
        .store
        .read(|c| c.query_row("SELECT count(*) FROM facets", [], |row| row.get(0)))
        .await
        .unwrap();
    assert_eq!(left, 2 + 2 + 2 + 2, "two labels of three pods, and the nodes of two");
}

#[tokio::test]
async fn a_database_of_before_is_taken_over_with_its_labels_and_history_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let old = Options {
        migrations: &MIGRATIONS[..1],
        cache_kib: 64,
        log_pages: 400,
        readers: 1,
        taken_over: None,
        recovery: store::Recovery::Refuse,
    };
    let store = Store::open(&path, &old).unwrap();
    let body = json!({"metadata": {"name": "a", "uid": "a", "resourceVersion": "9", "labels": {"app": "web"}},
                      "spec": {"nodeName": "n1"}});
    let text = body.to_string();
    store
        .write(move |tx| {
            tx.execute("INSERT INTO objects VALUES ('pods', 'n', 'a', 'a', 9, ?1)", [&text])?;
            tx.execute("INSERT INTO log VALUES (9, 'pods', 'n', 'a', 'ADDED', ?1, NULL)", [&text])?;
            tx.execute("UPDATE revision SET current = 9", [])
        })
        .await
        .unwrap();
    drop(store);
    let storage = storage(&folder).await;
    for selector in ["app=web", "app=web,!gone"] {
        let labels = apimachinery::LabelSelector::parse(selector).unwrap();
        let query = ListQuery { resource: "pods".into(), labels, ..ListQuery::default() };
        assert_eq!(names(&storage, query).await.0, ["a"]);
    }
    assert!(matches!(storage.replay("pods", 8).await.unwrap(), Replay::Expired(9)));
    let change = Change::Update { value: body.clone(), expected: 9, previous: Traits::of("pods", &body) };
    storage.commit(Key::new("pods", "n", "a"), change).await.unwrap();
    match storage.replay("pods", 9).await.unwrap() {
        Replay::Events(events, reached) => {
            assert_eq!((events.len(), reached), (1, 10));
            assert_eq!(events[0].previous.as_ref().unwrap().labels["app"], "web");
        }
        Replay::Expired(_) => panic!("history begins at the revision of the takeover"),
    }
}

#[tokio::test]
async fn changes_are_conditional() {
    let folder = tempfile::tempdir().unwrap();
    let storage = storage(&folder).await;
    let key = Key::new("configmaps", "n", "a");
    let made = storage.commit(key.clone(), Change::Create(object("a"))).await.unwrap();
    assert!(matches!(
        storage.commit(key.clone(), Change::Create(object("a"))).await,
        Err(WriteError::Exists)
    ));
    let update = |expected| Change::Update { value: object("a"), expected, previous: Traits::default() };
    let updated = storage.commit(key.clone(), update(made.revision)).await.unwrap();
    assert!(matches!(storage.commit(key.clone(), update(made.revision)).await, Err(WriteError::Stale)));
    let delete =
        Change::Delete { value: object("a"), expected: updated.revision, previous: Traits::default() };
    storage.commit(key.clone(), delete).await.unwrap();
    assert!(matches!(storage.commit(key, update(updated.revision)).await, Err(WriteError::Missing)));
}
