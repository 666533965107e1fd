//! Rights that the cloud confirmed a moment ago: by them, reads for which any state will do are answered here.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::tables::Right;

/// How long the cloud's word counts. Kubernetes' own webhook authorizer keeps an allowance for five minutes.
const COUNTS: Duration = Duration::from_secs(60);
/// Rights that are remembered; when there are more, all that do not count any more go, and then all.
const MOST: usize = 1000;

#[derive(Default)]
pub(crate) struct Recent(Mutex<HashMap<Right, Instant>>);

impl Recent {
    fn rights(&self) -> MutexGuard<'_, HashMap<Right, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cloud allowed it now.
    pub(crate) fn allow(&self, right: &Right) {
        let mut rights = self.rights();
        if rights.len() >= MOST && !rights.contains_key(right) {
            rights.retain(|_, since| since.elapsed() < COUNTS);
            if rights.len() >= MOST {
                rights.clear();
            }
        }
        rights.insert(right.clone(), Instant::now());
    }

    /// True if the cloud allowed this, or what is wider, a moment ago.
    pub(crate) fn may(&self, right: &Right) -> bool {
        let rights = self.rights();
        right.wider().iter().any(|wider| rights.get(wider).is_some_and(|since| since.elapsed() < COUNTS))
    }

    /// The cloud refused it: whatever else the user may do with the resource is asked again.
    pub(crate) fn deny(&self, refused: &Right) {
        self.rights().retain(|right, _| (&right.user, &right.resource) != (&refused.user, &refused.resource));
    }

    /// The cloud knows the user no longer.
    pub(crate) fn disown(&self, user: &str) {
        self.rights().retain(|right, _| right.user != user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(user: &str, verb: &'static str, name: &str) -> Right {
        let (resource, namespace, name) = ("configmaps".to_owned(), "shop".to_owned(), name.to_owned());
        Right { user: user.to_owned(), verb, resource, namespace, name }
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_counts_for_a_minute_and_for_what_is_in_it() {
        let recent = Recent::default();
        recent.allow(&right("a", "list", ""));
        assert!(recent.may(&right("a", "get", "one")) && !recent.may(&right("b", "get", "one")));
        tokio::time::advance(COUNTS).await;
        assert!(!recent.may(&right("a", "get", "one")));
    }

    #[tokio::test]
    async fn what_the_cloud_refuses_does_not_count_and_neither_does_what_is_wider_or_in_it() {
        let recent = Recent::default();
        for user in ["a", "b"] {
            recent.allow(&right(user, "watch", ""));
        }
        recent.allow(&right("a", "get", "two"));
        recent.deny(&right("a", "get", "one"));
        assert!(!recent.may(&right("a", "get", "two")));
        assert!(!recent.may(&right("a", "list", "")) && recent.may(&right("b", "list", "")));
        recent.disown("b");
        assert!(!recent.may(&right("b", "list", "")));
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let recent = Recent::default();
        for at in 0..3 * MOST {
            recent.allow(&right("a", "get", &at.to_string()));
            assert!(recent.rights().len() <= MOST);
        }
        assert!(recent.may(&right("a", "get", &(3 * MOST - 1).to_string())));
    }
}
