use super::*;

fn put(uid: &str, version: &str) -> ObjectChange {
    let object = Json::from_text(format!("{{\"metadata\":{{\"uid\":\"{uid}\"}}}}")).unwrap();
    let key = ObjectKey::parse("default/configmap/a").unwrap();
    ObjectChange { key, change: Change::Put { version: ResourceVersion(version.into()), object } }
}

fn remove(uid: &str) -> ObjectChange {
    ObjectChange { key: put("", "").key, change: Change::Remove { uid: Some(uid.into()) } }
}

/// A secret named after a number, with a word in it and so many bytes of filler.
pub(super) fn secret_text(at: usize, word: &str, filler: u64) -> String {
    let filler = "x".repeat(filler as usize * 10);
    format!("{{\"metadata\":{{\"uid\":\"s{at}\"}},\"data\":{{\"w\":\"{word}\",\"f\":\"{filler}\"}}}}")
}

/// The secret becomes this text, or goes.
pub(super) fn change_secret(at: usize, version: u64, text: Option<&str>) -> ObjectChange {
    let key = ObjectKey::parse(&format!("default/secret/s{at}")).unwrap();
    let change = match text {
        Some(text) => Change::Put {
            version: ResourceVersion(version.to_string()),
            object: Json::from_text(text.to_owned()).unwrap(),
        },
        None => Change::Remove { uid: None },
    };
    ObjectChange { key, change }
}

async fn version(objects: &Objects) -> Option<String> {
    objects.get(&put("", "").key).await.unwrap().map(|stored| stored.version.0)
}

#[tokio::test]
async fn a_stored_version_never_goes_back_and_a_new_uid_starts_over() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Objects::new(crate::database::open(&folder.path().join("e.db")).unwrap());
    let applied =
        objects.apply(vec![put("u", "5"), put("u", "4"), put("u", "5"), put("u", "6")]).await.unwrap();
    assert_eq!(applied.len(), 2);
    assert_eq!(version(&objects).await.as_deref(), Some("6"));
    objects.apply(vec![put("other", "2")]).await.unwrap();
    assert_eq!(version(&objects).await.as_deref(), Some("2"));
    assert!(objects.apply(vec![remove("u")]).await.unwrap().is_empty());
    assert_eq!(objects.apply(vec![remove("other")]).await.unwrap().len(), 1);
    assert_eq!(version(&objects).await, None);
}

#[tokio::test]
async fn what_was_removed_does_not_come_back_older() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Objects::new(crate::database::open(&folder.path().join("e.db")).unwrap());
    objects.apply(vec![put("u", "39"), remove("u"), put("u", "28")]).await.unwrap();
    assert_eq!(version(&objects).await, None);
    objects.apply(vec![put("u", "39")]).await.unwrap();
    assert_eq!(version(&objects).await.as_deref(), Some("39"));
    // Another object of the same name took its place, and a replica that lags has not seen it.
    objects.apply(vec![put("other", "40"), put("u", "38")]).await.unwrap();
    assert_eq!(version(&objects).await.as_deref(), Some("40"));
}

fn text(version: u32) -> String {
    let filler: Vec<String> = (0..100).map(|n| format!("\"key-{n}\":\"{}\"", n * 7919)).collect();
    format!("{{\"metadata\":{{\"uid\":\"u\"}},\"version\":{version},\"data\":{{{}}}}}", filler.join(","))
}

fn arrival(version: u32, body: Body) -> Arrival {
    Arrival { key: ObjectKey::parse("default/configmap/a").unwrap(), mark: u64::from(version), body }
}

#[tokio::test]
async fn a_difference_is_applied_to_the_stored_text_and_refused_on_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Objects::new(crate::database::open(&folder.path().join("e.db")).unwrap());
    let version = |n: u32| ResourceVersion(n.to_string());
    let whole = Body::Put { version: version(1), object: Json::from_text(text(1)).unwrap() };
    objects.commit(vec![arrival(1, whole)]).await.unwrap();
    let differ = |from: u32, to: u32| {
        let delta = native::difference(&text(from), &text(to)).unwrap();
        arrival(to, Body::Differ { version: version(to), delta })
    };
    let done = objects.commit(vec![differ(1, 2), differ(1, 3), differ(2, 4)]).await.unwrap();
    assert_eq!((done.changed.len(), done.base_missing), (2, vec![1]));
    let stored = objects.get(&ObjectKey::parse("default/configmap/a").unwrap()).await.unwrap().unwrap();
    assert_eq!(stored.object.text(), text(4));
}

#[tokio::test]
async fn the_inventory_names_synced_objects_and_nothing_the_node_keeps_for_itself() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Objects::new(crate::database::open(&folder.path().join("e.db")).unwrap());
    objects.put_local("d/configmap/own".into(), "configmap", "x".into(), "{}".into()).await.unwrap();
    assert!(objects.digests().await.unwrap().is_empty());
    objects.apply(vec![put("u", "5")]).await.unwrap();
    let before = objects.digests().await.unwrap();
    let object = Json::from_text("{\"metadata\":{\"uid\":\"u\"}}".into()).unwrap();
    let marked = Body::Put { version: ResourceVersion("5".into()), object };
    assert!(objects.commit(vec![arrival(9, marked)]).await.unwrap().changed.is_empty());
    assert_ne!(objects.digests().await.unwrap(), before);
    let held = objects.held(vec!["configmap".into(), "outbox".into()]).await.unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].mark, held[0].version.as_str()), (9, "5"));
    assert_eq!(objects.store_id().await.unwrap().len(), 24);
}

#[tokio::test]
async fn rows_of_kubeedge_have_no_uid_and_those_that_name_no_pod_of_the_node_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = crate::database::open(&folder.path().join("e.db")).unwrap();
    let objects = Objects::new(store.clone());
    let kind = "serviceaccounttoken";
    let row = |uid: &str| format!("\"s\"/\"d\"/[]string(nil)/3607/v1.BoundObjectReference{{UID:\"{uid}\"}}");
    let rows = [(row("here"), kind), (row("gone"), kind), ("default/configmap/a".to_owned(), "configmap")];
    store
        .write(move |tx| {
            rows.iter().try_for_each(|(key, kind)| {
                let text = "{\"metadata\":{\"uid\":\"u\",\"resourceVersion\":\"4\"}}";
                tx.execute("INSERT INTO meta(key, type, value) VALUES (?1, ?2, ?3)", params![key, kind, text])
                    .map(|_| ())
            })
        })
        .await
        .unwrap();
    objects.put_local("own".into(), kind, "mine".into(), "{}".into()).await.unwrap();
    assert_eq!(objects.local_owners(kind).await.unwrap(), ["mine"]);
    objects.drop_foreign(kind, vec!["here".into()]).await.unwrap();
    assert_eq!(objects.list_local(kind).await.unwrap().len(), 2);
    assert_eq!(objects.get(&put("u", "4").key).await.unwrap().unwrap().uid, "u");
    objects.apply(vec![put("u", "5")]).await.unwrap();
    assert_eq!(version(&objects).await.as_deref(), Some("5"));
}

#[tokio::test]
async fn a_row_whose_text_is_damaged_is_as_good_as_none() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Objects::new(crate::database::open(&folder.path().join("e.db")).unwrap());
    let arrival = || Arrival { mark: 7, ..put("u", "5").into() };
    objects.commit(vec![arrival()]).await.unwrap();
    let whole = objects.digests().await.unwrap();
    objects
        .store
        .write(|tx| tx.execute("UPDATE meta SET value = substr(value, 1, 9)", []).map(drop))
        .await
        .unwrap();
    assert_eq!(objects.unreadable(&ObjectKind::ConfigMap).await.unwrap(), ["u"]);
    assert!(objects.digests().await.unwrap().is_empty() && !whole.is_empty());
    assert!(objects.held(vec!["configmap".into()]).await.unwrap().is_empty());
    // The cloud sends it again, in the version that was stored.
    assert_eq!(objects.commit(vec![arrival()]).await.unwrap().changed.len(), 1);
    assert_eq!(objects.digests().await.unwrap(), whole);
}

#[tokio::test]
async fn a_secret_that_is_gone_is_not_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Objects::new(crate::database::open(&folder.path().join("e.db")).unwrap());
    let key = ObjectKey::parse("default/secret/s").unwrap();
    let text =
        format!("{{\"metadata\":{{\"uid\":\"s\"}},\"data\":{{\"k\":\"{}\"}}}}", "c2VjcmV0".repeat(2000));
    let object = Json::from_text(text).unwrap();
    let change = Change::Put { version: ResourceVersion("1".into()), object };
    objects.apply(vec![ObjectChange { key: key.clone(), change }]).await.unwrap();
    objects.apply(vec![ObjectChange { key, change: Change::Remove { uid: None } }]).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(24).any(|window| window == b"c2VjcmV0c2VjcmV0c2VjcmV0"));
    }
}
