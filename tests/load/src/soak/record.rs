//! What the API server took: every value of every device, every phase of every pod, by their versions.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

#[derive(Default)]
pub(super) struct Record {
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    /// Of each device: version, value.
    values: HashMap<String, Vec<(u64, u64)>>,
    /// Of each pod by its uid: version, how far its life is.
    phases: HashMap<String, Vec<(u64, u64)>>,
}

/// What a record shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// Values after the newest that was written.
    pub lost: u64,
    /// Values that were not written because a newer one took their place before they were sent.
    pub merged: u64,
    pub reverted: u64,
    pub duplicates: u64,
}

impl Record {
    /// An object or a list as the API server gave it.
    pub(super) fn take(&self, body: &[u8]) {
        let Ok(object) = serde_json::from_slice::<Value>(body) else { return };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match object["items"].as_array() {
            Some(items) => items.iter().for_each(|item| taken.take(item)),
            None => taken.take(&object),
        }
    }

    /// Of `devices`, each of which reported the values from 1 to its number.
    pub(super) fn show<'a>(&self, devices: impl Iterator<Item = (&'a str, u64)>) -> Shown {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shown = Shown::default();
        for (device, sent) in devices {
            let values = in_order(taken.values.get(device));
            let mut distinct = values.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let newest = distinct.last().copied().unwrap_or_default();
            shown.lost += sent.saturating_sub(newest);
            shown.merged += newest - distinct.len() as u64;
            shown.duplicates += (values.len() - distinct.len()) as u64;
            shown.reverted += went_back(&values);
        }
        shown.reverted += taken.phases.values().map(|phases| went_back(&in_order(Some(phases)))).sum::<u64>();
        shown
    }
}

/// By version, each version once.
fn in_order(seen: Option<&Vec<(u64, u64)>>) -> Vec<u64> {
    let mut seen = seen.cloned().unwrap_or_default();
    seen.sort_unstable();
    seen.dedup();
    seen.into_iter().map(|(_, value)| value).collect()
}

fn went_back(values: &[u64]) -> u64 {
    values.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64
}

impl Taken {
    fn take(&mut self, object: &Value) {
        let metadata = &object["metadata"];
        let (Some(name), Some(uid)) = (metadata["name"].as_str(), metadata["uid"].as_str()) else { return };
        let version = metadata["resourceVersion"].as_str().and_then(|text| text.parse().ok());
        let Some(version) = version else { return };
        let reported = object["status"]["twins"][0]["reported"]["value"].as_str();
        if let Some(value) = reported.and_then(|value| value.parse().ok()) {
            self.values.entry(name.to_owned()).or_default().push((version, value));
        }
        let phase = object["spec"]["containers"].is_array().then(|| object["status"]["phase"].as_str());
        let life = match phase.flatten() {
            Some("Pending") => 0,
            Some("Running") => 1,
            Some("Succeeded" | "Failed") => 2,
            _ => return,
        };
        self.phases.entry(uid.to_owned()).or_default().push((version, life));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &str, version: u64, value: u64) -> Vec<u8> {
        serde_json::json!({"metadata": {"name": name, "uid": name, "resourceVersion": version.to_string()},
            "status": {"twins": [{"reported": {"value": value.to_string()}}]}})
        .to_string()
        .into_bytes()
    }

    #[test]
    fn what_is_missing_was_merged_went_back_or_came_twice_is_counted() {
        let record = Record::default();
        // The answers to writes 5 and 6 crossed; version 7 was seen twice.
        for (version, value) in [(6, 2), (5, 1), (7, 3), (7, 3), (8, 3), (9, 5), (10, 2)] {
            record.take(&status("d", version, value));
        }
        let shown = record.show([("d", 6), ("silent", 2)].into_iter());
        assert_eq!(shown, Shown { lost: 1 + 2, merged: 1, reverted: 1, duplicates: 2 });
    }

    #[test]
    fn a_pod_that_waits_again_after_it_ran_went_back() {
        let record = Record::default();
        for (version, phase) in
            [(1, "Pending"), (2, "Running"), (3, "Pending"), (4, "Running"), (5, "Succeeded")]
        {
            let pod = serde_json::json!({"metadata": {"name": "p", "uid": "u", "resourceVersion": version.to_string()},
                "spec": {"containers": []}, "status": {"phase": phase}});
            record.take(pod.to_string().as_bytes());
        }
        assert_eq!(record.show(std::iter::empty()).reverted, 1);
    }
}
