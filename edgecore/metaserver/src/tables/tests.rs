use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::scope::Scope;

fn tables(folder: &Path) -> Tables {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let name = format!("{}.db", NUMBER.fetch_add(1, Ordering::Relaxed));
    Tables::open(&folder.join(name), Seals::default()).unwrap()
}

fn scope(labels: &str) -> Scope {
    Scope {
        api_version: "v1".into(),
        resource: "configmaps".into(),
        namespace: Some("n".into()),
        labels: labels.into(),
        fields: String::new(),
    }
}

fn stored(name: &str, revision: i64) -> Stored {
    let body = format!("{{\"metadata\":{{\"name\":\"{name}\"}},\"data\":{{\"k\":\"{revision}\"}}}}");
    Stored { key: Key::new("configmaps", "n", name), revision, body: body.into() }
}

async fn names(tables: &Tables, scope: &Scope) -> Option<(i64, Vec<String>)> {
    let state = tables.state(scope).await.unwrap()?;
    Some((state.known.revision, state.items.into_iter().map(|stored| stored.key.name).collect()))
}

fn some(revision: i64, names: &[&str]) -> Option<(i64, Vec<String>)> {
    Some((revision, names.iter().map(|name| (*name).to_owned()).collect()))
}

#[tokio::test]
async fn a_list_that_is_being_read_is_seen_by_nobody_until_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (tables, scope) = (tables(folder.path()), scope(""));
    tables.replace(&scope, vec![stored("old", 1)], 1, 10).await.unwrap();
    let id = tables.begin(&scope).await.unwrap();
    tables.add(id, vec![stored("a", 2)]).await.unwrap();
    assert_eq!(names(&tables, &scope).await, some(1, &["old"]));
    tables.add(id, vec![stored("b", 3)]).await.unwrap();
    tables.finish(&scope, id, (5, 20), None).await.unwrap();
    assert_eq!(names(&tables, &scope).await, some(5, &["a", "b"]));
    let broken_off = tables.begin(&scope).await.unwrap();
    tables.add(broken_off, vec![stored("c", 6)]).await.unwrap();
    tables.tidy().await.unwrap();
    assert_eq!(names(&tables, &scope).await, some(5, &["a", "b"]));
    assert_eq!(tables.size(broken_off).await.unwrap(), (0, 0));
}

#[tokio::test]
async fn a_new_list_tells_what_differs_from_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let (tables, scope) = (tables(folder.path()), scope(""));
    let before = tables.replace(&scope, ["same", "new", "gone"].map(|name| stored(name, 1)).into(), 1, 10);
    let before = before.await.unwrap().id;
    let id = tables.begin(&scope).await.unwrap();
    tables.add(id, vec![stored("same", 1), stored("new", 2), stored("added", 3)]).await.unwrap();
    let (_, differences) = tables.finish(&scope, id, (5, 20), Some(before)).await.unwrap();
    let mut told: Vec<_> = differences
        .unwrap()
        .into_iter()
        .map(|(change, was)| {
            let kind = if matches!(change, Change::Remove(_)) { "gone" } else { "put" };
            (kind, change.stored().key.name.clone(), change.stored().revision, was.is_some())
        })
        .collect();
    told.sort();
    let expected = [("gone", "gone", 1, true), ("put", "added", 3, false), ("put", "new", 2, true)];
    assert_eq!(told, expected.map(|(kind, name, at, was)| (kind, name.to_owned(), at, was)));
    // Too many to be told, and a list that is not the one before.
    let many = tables.begin(&scope).await.unwrap();
    tables.add(many, (0..300).map(|n| stored(&n.to_string(), 6)).collect()).await.unwrap();
    assert!(tables.finish(&scope, many, (7, 20), Some(id)).await.unwrap().1.is_none());
    let other = tables.begin(&scope).await.unwrap();
    assert!(tables.finish(&scope, other, (8, 20), Some(id)).await.unwrap().1.is_none());
}

#[tokio::test]
async fn changes_tell_what_was_there_before_and_a_list_that_is_gone_takes_none() {
    let folder = tempfile::tempdir().unwrap();
    let (tables, scope) = (tables(folder.path()), scope(""));
    let known = tables.replace(&scope, vec![stored("a", 1)], 1, 10).await.unwrap();
    let changes =
        vec![Change::Put(stored("a", 2)), Change::Put(stored("b", 3)), Change::Remove(stored("a", 4))];
    let (_, before) = tables.apply(known.id, changes, 4, 11).await.unwrap().unwrap();
    let had: Vec<bool> = before.iter().map(Option::is_some).collect();
    assert_eq!(had, [true, false, true]);
    assert!(before[2].as_ref().unwrap().contains("\"2\""), "as it was just before");
    assert_eq!(names(&tables, &scope).await, some(4, &["b"]));
    let next = tables.replace(&scope, vec![], 9, 12).await.unwrap();
    assert!(tables.apply(known.id, vec![Change::Put(stored("z", 5))], 5, 13).await.unwrap().is_none());
    assert_eq!(names(&tables, &scope).await, some(9, &[]));
    assert_ne!(next.id, known.id);
}

#[tokio::test]
async fn what_was_asked_for_least_recently_goes_first_and_live_views_stay() {
    let folder = tempfile::tempdir().unwrap();
    let tables = tables(folder.path());
    let scopes = ["a", "b", "c", "d"].map(scope);
    let mut ids = Vec::new();
    for (scope, now) in scopes.iter().zip([10, 20, 30, 40]) {
        let items = vec![stored("x", 1), stored("y", 2)];
        ids.push(tables.replace(scope, items, 2, now).await.unwrap().id);
    }
    tables.asked(&scopes[1], 200).await.unwrap();
    // Room for two lists; `a` is watched.
    tables.shrink(vec![ids[0]], 0, (2, 100, 1_000_000)).await.unwrap();
    let mut left = Vec::new();
    for scope in &scopes {
        left.push(names(&tables, scope).await.is_some());
    }
    assert_eq!(left, [true, true, false, false]);
    tables.shrink(vec![], 0, (100, 3, 1_000_000)).await.unwrap();
    assert!(names(&tables, &scopes[0]).await.is_none() && names(&tables, &scopes[1]).await.is_some());
    tables.shrink(vec![], 300, (100, 100, 1_000_000)).await.unwrap();
    assert!(names(&tables, &scopes[1]).await.is_none(), "nobody has asked for it since");
}

#[tokio::test]
async fn a_right_covers_what_is_in_it_and_a_refusal_takes_what_would_cover() {
    let folder = tempfile::tempdir().unwrap();
    let tables = tables(folder.path());
    let right = |verb: &'static str, resource: &str, namespace: &str, name: &str| Right {
        user: "u".into(),
        verb,
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
    };
    tables.allow(&right("list", "pods", "n", ""), 1).await.unwrap();
    for (wanted, may) in [
        (right("list", "pods", "n", ""), true),
        (right("list", "pods", "n", "a"), true),
        (right("get", "pods", "n", "a"), true),
        (right("list", "pods", "", ""), false),
        (right("get", "pods", "m", "a"), false),
        (right("get", "pods/log", "n", "a"), false),
        (right("get", "secrets", "n", "a"), false),
        (Right { user: "v".into(), ..right("get", "pods", "n", "a") }, false),
    ] {
        assert_eq!(tables.may(&wanted).await.unwrap(), may, "{wanted:?}");
    }
    tables.allow(&right("get", "pods", "n", "one"), 1).await.unwrap();
    tables.allow(&right("get", "pods", "m", "one"), 1).await.unwrap();
    assert!(!tables.may(&right("list", "pods", "m", "one")).await.unwrap(), "a get covers no list");
    tables.deny(&right("get", "pods", "n", "a")).await.unwrap();
    assert!(!tables.may(&right("list", "pods", "n", "")).await.unwrap(), "it would have covered that");
    assert!(tables.may(&right("get", "pods", "n", "one")).await.unwrap());
    tables.disown("u").await.unwrap();
    assert!(!tables.may(&right("get", "pods", "n", "one")).await.unwrap());
}

#[tokio::test]
async fn single_objects_are_bounded_and_kept_by_version() {
    let folder = tempfile::tempdir().unwrap();
    let tables = tables(folder.path());
    for number in 0..1010_i64 {
        tables.keep("v1", &stored(&format!("m{number}"), number + 1), number).await.unwrap();
    }
    let kept = |name: &str| {
        let (tables, key) = (tables.clone(), Key::new("configmaps", "n", name));
        async move { tables.kept("v1", &key).await.unwrap().is_some() }
    };
    assert!(!kept("m0").await && !kept("m9").await && kept("m10").await && kept("m1009").await);
    let key = Key::new("configmaps", "n", "m1009");
    assert!(tables.kept("v2", &key).await.unwrap().is_none(), "another version");
    let large = Stored { body: "x".repeat(300_000).into(), ..stored("m1009", 5000) };
    tables.keep("v1", &large, 2000).await.unwrap();
    assert!(!kept("m1009").await, "the one before is old, and this one too large");
    tables.forget("v1", &Key::new("configmaps", "n", "m500")).await.unwrap();
    assert!(!kept("m500").await);
}
