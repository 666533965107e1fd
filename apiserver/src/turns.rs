//! Turns of those who write the same object: who lost a race waits for the others instead of racing on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use kubeapi::stored::Key;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<Key, Weak<Turn<()>>>>);

/// Entries at which those that nobody waits for are removed.
const TIDY: usize = 64;

impl Turns {
    /// Waits for this object's turn, which ends when the guard is dropped. First come, first served.
    pub(crate) async fn take(&self, key: Key) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if turns.len() >= TIDY {
                turns.retain(|_, turn| turn.strong_count() > 0);
            }
            let known = turns.get(&key).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::new(Turn::new(()));
                turns.insert(key, Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn writers_of_one_object_take_turns_and_others_do_not_wait() {
        let turns = Turns::default();
        let key = |name: &str| Key::new("configmaps", "n", name);
        let first = turns.take(key("a")).await;
        let other = turns.take(key("b")).await;
        let mut second = Box::pin(turns.take(key("a")));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop((first, other));
        drop(second.await);
        for at in 0..1000 {
            drop(turns.take(key(&at.to_string())).await);
        }
        assert!(turns.0.lock().unwrap().len() <= TIDY);
    }
}
