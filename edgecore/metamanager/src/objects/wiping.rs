//! What was a secret's is taken from the disk as well: from the database's log within seconds, from its pages within a day.
//!
//! Rows are wiped as they are deleted (`secure_delete`), but SQLite moves rows between pages as the table changes, and what
//! it leaves behind stays until the page is used again. Writing all pages anew costs as much as the database is large, so it
//! is done at the first secret that goes after a start, and at most once a day.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use store::{Store, StoreError};
use tokio::time::Instant;

/// How long what was deleted of a secret may stay in the log.
const LOG: Duration = Duration::from_secs(2);
/// How long copies of it may stay in pages.
const PAGES: Duration = Duration::from_secs(24 * 60 * 60);

/// A fact that says: pages may hold copies of secrets that are gone, should the process end before they are written anew.
const IS_OWED: &str = "SELECT count(*) FROM facts WHERE name = 'copies'";
const OWED: &str = "INSERT OR REPLACE INTO facts VALUES ('copies', 'some')";
const NOT_OWED: &str = "DELETE FROM facts WHERE name = 'copies'";

/// Cleans the files of one database; clones belong together.
#[derive(Clone)]
pub(super) struct Wiper {
    store: Store,
    /// Pages hold what is sealed only.
    seals: bool,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// The log is about to be emptied.
    soon: AtomicBool,
    /// Pages are to be written anew at the end of the day.
    owed: AtomicBool,
    /// When pages were last written anew.
    rewritten: Mutex<Option<Instant>>,
}

impl Wiper {
    pub(super) fn new(store: Store, seals: bool) -> Wiper {
        Wiper { store, seals, state: Arc::default() }
    }

    /// A secret has gone.
    pub(super) fn soon(&self) {
        if self.state.soon.swap(true, Ordering::Relaxed) {
            return;
        }
        let wiper = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LOG).await;
            wiper.state.soon.store(false, Ordering::Relaxed);
            // A statement that holds the log for long, or a full disk: the next time does it.
            if let Err(error) = wiper.wipe().await {
                tracing::debug!(error = %error, "what was deleted of secrets was not wiped from the disk");
            }
        });
    }

    /// Makes good what an earlier process owed.
    pub(super) async fn begin(&self) -> Result<(), StoreError> {
        if self.store.read(|db| db.query_row(IS_OWED, [], |row| row.get(0))).await? {
            self.soon();
        }
        Ok(())
    }

    async fn wipe(&self) -> Result<(), StoreError> {
        if self.seals {
            return self.store.wipe().await;
        }
        match self.due() {
            None => self.rewrite().await,
            Some(due) => {
                if !self.state.owed.swap(true, Ordering::Relaxed) {
                    self.store.write(|tx| tx.execute(OWED, [])).await?;
                    self.rewrite_at(due);
                }
                self.store.wipe().await
            }
        }
    }

    /// When pages may be written anew; `None`: now.
    fn due(&self) -> Option<Instant> {
        let rewritten = *self.state.rewritten.lock().unwrap_or_else(PoisonError::into_inner);
        rewritten.map(|at| at + PAGES).filter(|due| *due > Instant::now())
    }

    async fn rewrite(&self) -> Result<(), StoreError> {
        self.state.owed.store(false, Ordering::Relaxed);
        // Before the log is emptied for the last time.
        self.store.write(|tx| tx.execute(NOT_OWED, [])).await?;
        if let Err(error) = self.store.rewrite().await {
            self.store.write(|tx| tx.execute(OWED, [])).await?;
            // There may be no room for all pages, and enough for the log.
            self.store.wipe().await?;
            return Err(error);
        }
        *self.state.rewritten.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    }

    fn rewrite_at(&self, due: Instant) {
        let wiper = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(due).await;
            wiper.soon();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::Objects;
    use super::super::tests::{change_secret, secret_text};
    use super::*;

    /// Puts, changes and removes secrets of many sizes; answers the texts that are gone.
    async fn history(objects: &Objects, seed: u64) -> Vec<String> {
        let mut random = seed;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let mut held: Vec<Option<String>> = vec![None; 12];
        let mut gone = Vec::new();
        for version in 1..60 {
            let at = next(held.len() as u64) as usize;
            let text = (next(4) > 0).then(|| secret_text(at, &format!("word-{seed}-{version}-"), next(300)));
            objects.apply(vec![change_secret(at, version, text.as_deref())]).await.unwrap();
            gone.extend(std::mem::replace(&mut held[at], text.map(|_| format!("word-{seed}-{version}-"))));
        }
        gone
    }

    /// How many of the words are in the files of a folder.
    fn left(folder: &std::path::Path, words: &[String]) -> usize {
        let files =
            std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
        let files: Vec<Vec<u8>> = files.collect();
        let holds = |word: &&String| {
            files.iter().any(|bytes| bytes.windows(word.len()).any(|window| window == word.as_bytes()))
        };
        words.iter().filter(holds).count()
    }

    #[tokio::test]
    async fn no_page_keeps_a_copy_of_a_secret_that_is_gone() {
        let (mut copies, mut kept) = (0, 0);
        for seed in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let objects = Objects::new(crate::database::open(&folder.path().join("e.db")).unwrap());
            let gone = history(&objects, seed).await;
            objects.store.wipe().await.unwrap();
            copies += left(folder.path(), &gone);
            objects.wiper.wipe().await.unwrap();
            kept += left(folder.path(), &gone);
            assert!(objects.list(&message::ObjectKind::Secret).await.unwrap().len() > 1);
        }
        assert!(copies > 0, "the histories tell nothing apart");
        assert_eq!(kept, 0);
    }

    #[tokio::test]
    async fn pages_are_written_anew_once_a_day_and_what_is_owed_survives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::database::open(&folder.path().join("e.db")).unwrap();
        let owed = || store.read(|db| db.query_row(IS_OWED, [], |row| row.get::<_, bool>(0)));
        let wiper = Wiper::new(store.clone(), false);
        wiper.wipe().await.unwrap();
        assert!(wiper.due().is_some() && !owed().await.unwrap(), "the first one writes them anew");
        wiper.wipe().await.unwrap();
        assert!(owed().await.unwrap());
        let next = Wiper::new(store.clone(), false);
        next.begin().await.unwrap();
        assert!(next.state.soon.load(Ordering::Relaxed), "the next process does it");
        next.wipe().await.unwrap();
        assert!(!owed().await.unwrap());
        let sealing = Wiper::new(store.clone(), true);
        sealing.wipe().await.unwrap();
        assert!(sealing.due().is_none(), "what is sealed may be copied");
    }
}
