//! How one watch sees objects, where a backend shows a client something else than what is stored.
//!
//! An object that is shown no more is told as deleted, one that is shown again as added; one that looks different though it
//! has not changed is told as modified, in its version. What looks the same is not told twice.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use apimachinery::Status;

use crate::stored::{EventKind, Lens, Stored};

/// What one watch has shown.
pub(crate) struct Sight {
    lens: Box<dyn Lens>,
    /// By namespace and name: the revision, and a digest of what was shown; `None`: it is hidden.
    seen: HashMap<(String, String), (i64, Option<u64>)>,
    /// The client may know more objects than were told here.
    is_unsure: bool,
}

fn place(stored: &Stored) -> (String, String) {
    (stored.key.namespace.clone(), stored.key.name.clone())
}

fn digest(stored: &Stored) -> u64 {
    let mut hasher = DefaultHasher::new();
    stored.body.hash(&mut hasher);
    hasher.finish()
}

impl Sight {
    /// `resumes`: the watch begins at a revision.
    pub(crate) fn new(lens: Box<dyn Lens>, resumes: bool) -> Sight {
        Sight { lens, seen: HashMap::new(), is_unsure: resumes }
    }

    /// The objects of the first list, which were shown as they are here.
    pub(crate) fn listed(&mut self, shown: &[Stored]) {
        let seen = shown.iter().map(|stored| (place(stored), (stored.revision, Some(digest(stored)))));
        self.seen.extend(seen);
    }

    /// What an object's change means to the client. `before` and `now`: the selectors choose it.
    pub(crate) fn take(&mut self, stored: &Stored, before: bool, now: bool) -> Option<(EventKind, Stored)> {
        let place = place(stored);
        let known = self.seen.get(&place).copied();
        if known.is_some_and(|(revision, _)| now && stored.revision <= revision) {
            return None;
        }
        let was_shown = known.map_or(self.is_unsure && before, |(_, digest)| digest.is_some());
        let shown = self.lens.show(stored);
        match shown.as_ref().filter(|_| now) {
            Some(shown) => self.seen.insert(place, (stored.revision, Some(digest(shown)))),
            None if now => self.seen.insert(place, (stored.revision, None)),
            None => self.seen.remove(&place),
        };
        match (was_shown, shown) {
            (false, Some(shown)) if now => Some((EventKind::Added, shown)),
            (true, Some(shown)) if now => Some((EventKind::Modified, shown)),
            (true, shown) => Some((EventKind::Deleted, shown.unwrap_or_else(|| stored.clone()))),
            (false, _) => None,
        }
    }

    /// Objects may look different from now on.
    pub(crate) async fn changed(&mut self) {
        self.lens.changed().await;
    }

    /// What looks different, and after a resumption all that may do so.
    ///
    /// # Errors
    /// The state cannot be had.
    pub(crate) async fn again(&mut self) -> Result<Vec<(EventKind, Stored)>, Status> {
        let state = self.lens.state().await?;
        let mut told = Vec::new();
        for stored in state {
            let place = place(&stored);
            let known = self.seen.get(&place).copied();
            // What is not known yet comes as an event, unless the client knows more than this watch.
            if known.is_none() && !self.is_unsure || known.is_some_and(|(at, _)| stored.revision < at) {
                continue;
            }
            let shown = self.lens.show(&stored);
            let now = shown.as_ref().map(digest);
            self.seen.insert(place, (stored.revision, now));
            if known.is_none() && !self.lens.may_differ(&stored) {
                continue;
            }
            match (known.map(|(_, before)| before), shown) {
                (Some(before), _) if before == now => {}
                (Some(None), Some(shown)) => told.push((EventKind::Added, shown)),
                (_, Some(shown)) => told.push((EventKind::Modified, shown)),
                (Some(None), None) => {}
                (_, None) => told.push((EventKind::Deleted, stored)),
            }
        }
        self.is_unsure = false;
        Ok(told)
    }

    /// The client may have seen objects differently before it went on here.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.is_unsure
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::stored::Key;

    /// Hides what begins with this, and shows all else with a mark.
    #[derive(Clone, Default)]
    struct Marked(Arc<Mutex<(String, String)>>, Arc<Mutex<Vec<Stored>>>);

    impl Lens for Marked {
        fn show(&mut self, stored: &Stored) -> Option<Stored> {
            let (hidden, mark) = self.0.lock().unwrap().clone();
            let is_hidden = !hidden.is_empty() && stored.key.name.starts_with(&hidden);
            let body = format!("{}{mark}", stored.body).into();
            (!is_hidden).then(|| Stored { body, ..stored.clone() })
        }
        fn changed(&mut self) -> BoxFuture<'_, ()> {
            Box::pin(std::future::ready(()))
        }
        fn state(&mut self) -> BoxFuture<'_, Result<Vec<Stored>, Status>> {
            Box::pin(std::future::ready(Ok(self.1.lock().unwrap().clone())))
        }
        fn may_differ(&self, stored: &Stored) -> bool {
            stored.key.name != "same"
        }
    }

    fn stored(name: &str, revision: i64) -> Stored {
        Stored { key: Key::new("x", "n", name), revision, body: format!("{name}{revision}").into() }
    }

    fn brief(told: Option<(EventKind, Stored)>) -> String {
        told.map(|(kind, stored)| format!("{} {}", kind.as_str(), stored.body)).unwrap_or_default()
    }

    #[tokio::test]
    async fn what_is_hidden_is_deleted_and_what_is_shown_again_is_added() {
        let lens = Marked::default();
        let mut sight = Sight::new(Box::new(lens.clone()), false);
        assert_eq!(brief(sight.take(&stored("a", 1), false, true)), "ADDED a1");
        lens.0.lock().unwrap().0 = "a".into();
        assert_eq!(brief(sight.take(&stored("a", 2), true, true)), "DELETED a2");
        assert_eq!(brief(sight.take(&stored("a", 3), true, true)), "");
        assert_eq!(brief(sight.take(&stored("a", 4), true, false)), "", "gone, and nobody knew it");
        lens.0.lock().unwrap().0 = String::new();
        assert_eq!(brief(sight.take(&stored("a", 5), false, true)), "ADDED a5");
        assert_eq!(brief(sight.take(&stored("a", 6), true, true)), "MODIFIED a6");
        assert_eq!(brief(sight.take(&stored("a", 7), true, false)), "DELETED a7");
    }

    #[tokio::test]
    async fn what_looks_different_is_modified_once_and_nothing_goes_back() {
        let lens = Marked::default();
        let mut sight = Sight::new(Box::new(lens.clone()), false);
        sight.listed(&[stored("a", 1), stored("b", 1)]);
        // The state is ahead of the events.
        *lens.1.lock().unwrap() = vec![stored("a", 2), stored("b", 1), stored("c", 3)];
        lens.0.lock().unwrap().1 = "!".into();
        let told = sight.again().await.unwrap();
        let told: Vec<String> = told.into_iter().map(|one| brief(Some(one))).collect();
        assert_eq!(told, ["MODIFIED a2!", "MODIFIED b1!"]);
        assert!(sight.again().await.unwrap().is_empty());
        assert_eq!(brief(sight.take(&stored("a", 2), true, true)), "", "told already");
        assert_eq!(brief(sight.take(&stored("c", 3), false, true)), "ADDED c3!");
    }

    #[tokio::test]
    async fn who_goes_on_from_a_revision_is_told_how_all_looks_now() {
        let lens = Marked::default();
        let mut sight = Sight::new(Box::new(lens.clone()), true);
        lens.0.lock().unwrap().0 = "b".into();
        assert_eq!(brief(sight.take(&stored("a", 5), true, true)), "MODIFIED a5");
        *lens.1.lock().unwrap() = vec![stored("a", 5), stored("b", 1), stored("c", 1), stored("same", 1)];
        assert!(sight.is_in_doubt());
        let told = sight.again().await.unwrap();
        let told: Vec<String> = told.into_iter().map(|one| brief(Some(one))).collect();
        assert_eq!(told, ["DELETED b1", "MODIFIED c1"]);
        assert!(!sight.is_in_doubt());
    }
}
