use std::path::{Path, PathBuf};

use message::{Json, ObjectKey, Reply, ResourceVersion};
use native::frames::KindDigest;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::super::{Arrival, Body};
use super::*;
use crate::database;
use crate::queries::TokenWanted;
use crate::sealed::key;
use crate::{Cloud, LinkState, Queries};

const SECRET: &str = "default/secret/s";
const TOKEN: &str = "default/serviceaccounttoken/a/u/3607/";

/// A folder for a database, and one for keys.
struct Place {
    database: tempfile::TempDir,
    keys: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { database: tempfile::tempdir().unwrap(), keys: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.database.path().join("e.db")
    }

    fn seals(&self, key: &str) -> Seals {
        Seals::with(Sealer::new(&key::read_or_make(&self.keys.path().join(key)).unwrap()))
    }

    fn holds(&self, text: &str) -> bool {
        let files = std::fs::read_dir(self.database.path()).unwrap();
        let mut files = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        files.any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    }

    /// Neither the text of `word` nor its base64 is on the disk.
    fn hides(&self, word: &str) -> bool {
        !self.holds(word) && !self.holds(&base64(word))
    }
}

fn base64(word: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(word)
}

/// A text in which a word is, in plain and in base64.
fn text(word: &str) -> String {
    let filler: Vec<String> = (0..100).map(|n| format!("\"key-{n}\":\"{}\"", n * 7919)).collect();
    let filler = filler.join(",");
    format!(
        "{{\"metadata\":{{\"uid\":\"s\"}},\"data\":{{{filler},\"k\":\"{}\",\"w\":\"{word}\"}}}}",
        base64(word)
    )
}

fn arrival(path: &str, version: &str, body: Body) -> Arrival {
    Arrival { key: ObjectKey::parse(path).unwrap(), mark: version.parse().unwrap(), body }
}

fn put(path: &str, version: &str, word: &str) -> Arrival {
    let object = Json::from_text(text(word)).unwrap();
    arrival(path, version, Body::Put { version: ResourceVersion(version.into()), object })
}

async fn stored(objects: &Objects, path: &str) -> Option<String> {
    let stored = objects.get(&ObjectKey::parse(path).unwrap()).await.unwrap();
    stored.map(|stored| stored.object.text().to_owned())
}

async fn keep(objects: &Objects, word: &str) {
    objects.put_local(TOKEN.into(), KINDS[1], "u".into(), format!("\"{word}\"")).await.unwrap();
}

#[tokio::test]
async fn what_is_put_changed_and_kept_with_a_key_is_never_on_the_disk_in_plain_text() {
    let place = Place::new();
    let objects = Objects::sealing(database::open(&place.path()).unwrap(), place.seals("key"));
    objects.commit(vec![put(SECRET, "1", "first-word-of-the-secret")]).await.unwrap();
    keep(&objects, "word-of-the-token").await;
    let delta =
        native::difference(&text("first-word-of-the-secret"), &text("other-word-of-the-secret")).unwrap();
    let differ = Body::Differ { version: ResourceVersion("2".into()), delta };
    assert!(objects.commit(vec![arrival(SECRET, "2", differ)]).await.unwrap().base_missing.is_empty());
    objects.commit(vec![put("default/configmap/c", "1", "word-of-a-config-map")]).await.unwrap();
    assert!(place.holds("word-of-a-config-map"), "the files are not those that are written");
    for word in ["first-word-of-the-secret", "other-word-of-the-secret", "word-of-the-token"] {
        assert!(place.hides(word), "{word}");
    }
    assert_eq!(stored(&objects, SECRET).await, Some(text("other-word-of-the-secret")));
    assert_eq!(objects.list(&message::ObjectKind::Secret).await.unwrap().len(), 1);
    assert_eq!(objects.get_local(TOKEN.into()).await.unwrap().unwrap(), "\"word-of-the-token\"");
    assert_eq!(objects.list_local(KINDS[1]).await.unwrap(), ["\"word-of-the-token\""]);
}

#[tokio::test]
async fn a_start_with_a_key_seals_what_is_there_and_wipes_its_text_from_the_disk() {
    let place = Place::new();
    let store = database::open(&place.path()).unwrap();
    let plain = Objects::new(store.clone());
    plain.commit(vec![put(SECRET, "1", "word-of-the-secret")]).await.unwrap();
    plain.commit(vec![put("default/configmap/c", "1", "word-of-a-config-map")]).await.unwrap();
    keep(&plain, "word-of-the-token").await;
    let table = "CREATE TABLE meta_v2(key TEXT, group_version_resource TEXT, value TEXT);
        INSERT INTO meta_v2 VALUES ('s', '/v1, Resource=secrets', 'word-of-metaserver'), ('p', '/v1, Resource=pods', 'rest')";
    store.write(move |tx| tx.execute_batch(table)).await.unwrap();
    let words = ["word-of-the-secret", "word-of-the-token", "word-of-metaserver"];
    assert!(words.iter().all(|word| place.holds(word)));
    let digests = plain.digests().await.unwrap();
    let objects = Objects::sealing(store, place.seals("key"));
    assert!(!crate::reseal::begin(&objects, None).await);
    for word in words {
        assert!(place.hides(word), "{word}");
    }
    assert!(place.holds("rest") && place.holds("word-of-a-config-map"));
    assert_eq!(stored(&objects, SECRET).await, Some(text("word-of-the-secret")));
    assert_eq!(objects.get_local(TOKEN.into()).await.unwrap().unwrap(), "\"word-of-the-token\"");
    assert_eq!(objects.digests().await.unwrap(), digests);
    assert_eq!(objects.seal_stored().await.unwrap(), 0, "they are sealed once");
}

#[tokio::test]
async fn a_start_that_ended_before_the_disk_was_wiped_is_made_good_by_the_next() {
    let place = Place::new();
    written_before(&place);
    let store = database::open(&place.path()).unwrap();
    let seals = place.seals("key");
    store.write(move |tx| seal_all(tx, seals.sealer().unwrap())).await.unwrap();
    store.wipe().await.unwrap();
    assert!(place.holds("word-of-the-secret"), "nothing is left to wipe");
    let objects = Objects::sealing(store, place.seals("key"));
    assert_eq!(objects.seal_stored().await.unwrap(), 0);
    assert!(place.hides("word-of-the-secret"));
}

#[tokio::test]
async fn what_was_deleted_before_there_was_a_key_is_wiped_by_the_first_start_with_it() {
    let place = Place::new();
    written_before(&place);
    let theirs = store::rusqlite::Connection::open(place.path()).unwrap();
    theirs.execute("DELETE FROM meta", []).unwrap();
    drop(theirs);
    let store = database::open(&place.path()).unwrap();
    store.wipe().await.unwrap();
    assert!(place.holds("word-of-the-secret"), "nothing is left to wipe");
    let with_key = Objects::sealing(store.clone(), place.seals("key"));
    assert_eq!(with_key.seal_stored().await.unwrap(), 0);
    assert!(place.hides("word-of-the-secret") && with_key.is_clean().await.unwrap());
    // In between all is in plain text again.
    assert_eq!(Objects::new(store).seal_stored().await.unwrap(), 0);
    assert!(!with_key.is_clean().await.unwrap());
}

#[tokio::test]
async fn a_damaged_text_is_not_sealed_but_goes_and_comes_again() {
    let place = Place::new();
    let store = database::open(&place.path()).unwrap();
    Objects::new(store.clone()).commit(vec![put(SECRET, "1", "word")]).await.unwrap();
    store
        .write(|tx| tx.execute("UPDATE meta SET value = substr(value, 1, 900)", []).map(drop))
        .await
        .unwrap();
    let objects = Objects::sealing(store, place.seals("key"));
    assert_eq!(objects.seal_stored().await.unwrap(), 1);
    assert!(objects.digests().await.unwrap().is_empty() && !place.holds("key-1"));
    assert_eq!(objects.commit(vec![put(SECRET, "1", "word")]).await.unwrap().changed.len(), 1);
}

/// One secret with a word, stored with the first key, and what the cloud is told of it.
async fn with_a_secret(place: &Place) -> (store::Store, Vec<KindDigest>) {
    let store = database::open(&place.path()).unwrap();
    let objects = Objects::sealing(store.clone(), place.seals("first"));
    objects.commit(vec![put(SECRET, "1", "word-of-the-secret")]).await.unwrap();
    keep(&objects, "word-of-the-token").await;
    let digests = objects.digests().await.unwrap();
    assert_eq!(digests.len(), 1);
    (store, digests)
}

/// It is as good as none until the cloud sends it again, in the version that was stored.
async fn is_sent_again(objects: &Objects, digests: &[KindDigest]) {
    assert!(crate::reseal::begin(objects, Some(Path::new("/key"))).await);
    assert_eq!(objects.shut().await.unwrap(), 2);
    assert_eq!(stored(objects, SECRET).await, None);
    assert_eq!(objects.get_local(TOKEN.into()).await.unwrap(), None);
    assert!(objects.list_local(KINDS[1]).await.unwrap().is_empty());
    assert!(objects.digests().await.unwrap().is_empty());
    assert!(objects.held(vec!["secret".into()]).await.unwrap().is_empty());
    assert_eq!(objects.unreadable(&message::ObjectKind::Secret).await.unwrap(), ["s"]);
    let delta = native::difference(&text("word-of-the-secret"), &text("new-word-of-the-secret")).unwrap();
    let differ = Body::Differ { version: ResourceVersion("2".into()), delta };
    assert_eq!(objects.commit(vec![arrival(SECRET, "2", differ)]).await.unwrap().base_missing, [0]);
    assert_eq!(objects.commit(vec![put(SECRET, "1", "word-of-the-secret")]).await.unwrap().changed.len(), 1);
    assert_eq!(objects.digests().await.unwrap(), digests);
    assert_eq!(stored(objects, SECRET).await, Some(text("word-of-the-secret")));
    assert_eq!(objects.shut().await.unwrap(), 1, "the token is left");
}

#[tokio::test]
async fn what_was_sealed_with_another_key_is_as_good_as_none_and_sent_again() {
    let place = Place::new();
    let (store, digests) = with_a_secret(&place).await;
    let objects = Objects::sealing(store.clone(), place.seals("second"));
    is_sent_again(&objects, &digests).await;
    assert!(place.hides("word-of-the-secret"));
    let first = Objects::sealing(store, place.seals("first"));
    assert_eq!(stored(&first, SECRET).await, None);
    assert!(
        first.get_local(TOKEN.into()).await.unwrap().is_some(),
        "the key came back before the cloud was heard"
    );
}

#[tokio::test]
async fn without_the_key_all_is_sent_again_in_plain_text_and_with_it_sealed_once_more() {
    let place = Place::new();
    let (store, digests) = with_a_secret(&place).await;
    is_sent_again(&Objects::new(store.clone()), &digests).await;
    assert!(place.holds("word-of-the-secret"));
    let objects = Objects::sealing(store, place.seals("first"));
    assert!(!crate::reseal::begin(&objects, None).await);
    assert!(place.hides("word-of-the-secret"));
    assert_eq!(objects.digests().await.unwrap(), digests);
    assert!(objects.get_local(TOKEN.into()).await.unwrap().is_some());
}

/// Puts the values of two secrets in each other's place.
async fn swap(store: &store::Store) {
    let script = "CREATE TEMP TABLE other AS SELECT key, value FROM meta WHERE type = 'secret';
        UPDATE meta SET value = (SELECT value FROM other WHERE other.key != meta.key) WHERE type = 'secret';
        DROP TABLE other";
    store.write(move |tx| tx.execute_batch(script)).await.unwrap();
}

#[tokio::test]
async fn rows_in_each_others_place_and_damaged_ones_do_not_open() {
    let place = Place::new();
    let (store, _) = with_a_secret(&place).await;
    let objects = Objects::sealing(store.clone(), place.seals("first"));
    objects.commit(vec![put("default/secret/t", "1", "word")]).await.unwrap();
    swap(&store).await;
    assert_eq!((stored(&objects, SECRET).await, stored(&objects, "default/secret/t").await), (None, None));
    assert!(objects.digests().await.unwrap().is_empty());
    swap(&store).await;
    assert_eq!(stored(&objects, "default/secret/t").await, Some(text("word")));
    // In the middle, and in the middle of a letter.
    for damage in [
        "CAST(substr(value, 1, 99) || '!' || substr(value, 101) AS TEXT)",
        "CAST(CAST(value AS BLOB) || X'C3' AS TEXT)",
    ] {
        let damage = format!("UPDATE meta SET value = {damage} WHERE key = '{SECRET}'");
        store.write(move |tx| tx.execute(&damage, []).map(drop)).await.unwrap();
        let held = objects.held(vec!["secret".into()]).await.unwrap();
        assert_eq!(held.iter().map(|held| held.resource.as_str()).collect::<Vec<_>>(), ["default/secret/t"]);
    }
}

#[tokio::test]
async fn what_does_not_open_goes_when_it_is_removed_or_the_cloud_has_told_everything() {
    let place = Place::new();
    let (store, _) = with_a_secret(&place).await;
    let objects = Objects::sealing(store, place.seals("second"));
    let remove = |uid: &str| arrival(SECRET, "1", Body::Remove { uid: Some(uid.into()) });
    objects.commit(vec![remove("another")]).await.unwrap();
    assert_eq!(objects.shut().await.unwrap(), 2);
    objects.commit(vec![remove("s")]).await.unwrap();
    assert_eq!(objects.shut().await.unwrap(), 1);
    objects.commit(vec![put(SECRET, "2", "word")]).await.unwrap();
    let (told, in_step) = watch::channel(false);
    let stop = CancellationToken::new();
    let forget = tokio::spawn(crate::reseal::forget(objects.clone(), in_step, stop.clone()));
    tokio::task::yield_now().await;
    assert_eq!(objects.shut().await.unwrap(), 1);
    told.send_replace(true);
    while objects.shut().await.unwrap() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(!forget.is_finished(), "a room that ends before the program is an error");
    stop.cancel();
    forget.await.unwrap();
    assert_eq!(stored(&objects, SECRET).await, Some(text("word")));
}

#[tokio::test]
async fn a_token_that_does_not_open_is_fetched_again() {
    let place = Place::new();
    let store = database::open(&place.path()).unwrap();
    let (link, state) = watch::channel(LinkState::Connected);
    let (cloud, mut calls) = Cloud::channel(state);
    let served = tokio::spawn(async move {
        let mut asked = 0;
        while let Some(call) = calls.recv().await {
            asked += 1;
            let status =
                json!({"token": format!("token-{asked}"), "expirationTimestamp": "2199-01-01T00:00:00Z"});
            let _ = call.answer.send(Reply::Object(Json::encode(&json!({"status": status})).unwrap()));
        }
        asked
    });
    let wanted = TokenWanted {
        namespace: "default".into(),
        service_account: "a".into(),
        pod_name: "p".into(),
        pod_uid: "u".into(),
        audience: String::new(),
        expiration_seconds: 3607,
    };
    for (key, expected) in
        [("first", "token-1"), ("first", "token-1"), ("second", "token-2"), ("second", "token-2")]
    {
        let objects = Objects::sealing(store.clone(), place.seals(key));
        let queries = Queries::new(objects, cloud.clone());
        assert_eq!(queries.token(&wanted).await.unwrap().token, expected);
    }
    drop(cloud);
    assert_eq!(served.await.unwrap(), 2);
    assert!(place.hides("token-1") && place.hides("token-2"));
    assert_eq!(
        Queries::new(Objects::new(store), Cloud::channel(link.subscribe()).0).token_holders().await.unwrap(),
        ["u"]
    );
}

/// A database with two secrets: one in plain text, with copies in pages it was moved from, and one sealed. Made by hand: a
/// store's threads close its files a moment after it is dropped, and it wipes rows.
fn written_before(place: &Place) {
    let db = store::rusqlite::Connection::open(place.path()).unwrap();
    db.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(())).unwrap();
    database::schema().iter().for_each(|script| db.execute_batch(script).unwrap());
    db.pragma_update(None, "user_version", database::schema().len() as u32).unwrap();
    db.execute(
        "INSERT INTO meta(key, type, value) VALUES ('gone', 'secret', ?1)",
        [text("word-of-the-secret")],
    )
    .unwrap();
    super::super::commit(&db, vec![put(SECRET, "1", "word-of-the-secret")], &Seals::default()).unwrap();
    db.execute("DELETE FROM meta WHERE key = 'gone'", []).unwrap();
    super::super::commit(&db, vec![put("default/secret/t", "1", "sealed-word")], &place.seals("key"))
        .unwrap();
}

#[tokio::test]
async fn on_a_disk_that_takes_no_writes_secrets_are_read_and_the_next_start_seals_them() {
    let place = Place::new();
    written_before(&place);
    // SQLite looks there for a file before anything else, and cannot read it.
    let obstacle = place.database.path().join("e.db-journal");
    std::fs::create_dir(&obstacle).unwrap();
    let frozen = database::open(&place.path()).unwrap();
    assert!(frozen.is_frozen());
    let objects = Objects::sealing(frozen, place.seals("key"));
    assert!(matches!(objects.seal_stored().await, Err(StoreError::Frozen)));
    assert!(!crate::reseal::begin(&objects, None).await);
    assert_eq!(stored(&objects, SECRET).await, Some(text("word-of-the-secret")));
    assert_eq!(stored(&objects, "default/secret/t").await, Some(text("sealed-word")));
    drop(objects);
    std::fs::remove_dir(&obstacle).unwrap();
    assert!(place.holds("word-of-the-secret"));
    let objects = Objects::sealing(database::open(&place.path()).unwrap(), place.seals("key"));
    assert!(!crate::reseal::begin(&objects, None).await);
    assert!(place.hides("word-of-the-secret") && place.hides("sealed-word"));
    assert_eq!(stored(&objects, SECRET).await, Some(text("word-of-the-secret")));
}

#[tokio::test]
async fn a_disk_that_takes_no_writes_and_holds_nothing_in_plain_text_is_no_trouble() {
    let place = Place::new();
    written_before(&place);
    let db = store::rusqlite::Connection::open(place.path()).unwrap();
    db.execute("DELETE FROM meta WHERE key = ?1", [SECRET]).unwrap();
    db.execute(CLEAN, []).unwrap();
    drop(db);
    std::fs::create_dir(place.database.path().join("e.db-journal")).unwrap();
    let frozen = database::open(&place.path()).unwrap();
    assert!(frozen.is_frozen());
    assert_eq!(Objects::sealing(frozen, place.seals("key")).seal_stored().await.unwrap(), 0);
}
