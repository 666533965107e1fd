//! Which clients the log was told of that were refused something: once for each, however often they try.

use std::collections::BTreeSet;

/// Clients remembered; beyond them those told of long ago may be told of again.
const REMEMBERED: usize = 256;

#[derive(Default)]
pub(super) struct Refusals {
    told: BTreeSet<(String, &'static str)>,
}

impl Refusals {
    /// `limit` is the setting that would grant it; empty if none would.
    pub(super) fn tell(&mut self, client: &str, limit: &'static str, text: &'static str) {
        if self.is_first(client, text) {
            let name = client.trim_start_matches('\0');
            match limit {
                "" => tracing::warn!(name, "{text}"),
                limit => tracing::warn!(name, limit, "{text}"),
            }
        }
    }

    fn is_first(&mut self, client: &str, text: &'static str) -> bool {
        if self.told.len() >= REMEMBERED {
            self.told.clear();
        }
        // A long name is told apart by its beginning: what is remembered stays small.
        self.told.insert((client.chars().take(64).collect(), text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_is_told_of_once_for_each_reason() {
        let mut refusals = Refusals::default();
        assert!(refusals.is_first("a", "full") && refusals.is_first("b", "full"));
        assert!(!refusals.is_first("a", "full") && refusals.is_first("a", "shared"));
        for number in 0..2 * REMEMBERED {
            refusals.is_first(&number.to_string(), "full");
        }
        assert!(refusals.told.len() <= REMEMBERED);
    }
}
