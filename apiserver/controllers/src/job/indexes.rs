//! The indexes of an Indexed Job: `0,2-4` in its status.

use std::collections::BTreeSet;

use apimachinery::object::text;
use serde_json::Value;

use super::INDEX;

/// The index of a pod.
pub(super) fn of(pod: &Value) -> Option<i64> {
    pod["metadata"]["annotations"][INDEX].as_str()?.parse().ok()
}

/// Reads `0,2-4`.
pub(super) fn read(job: &Value) -> BTreeSet<i64> {
    let parts = text(job, "/status/completedIndexes").split(',');
    let ranges = parts.filter_map(|part| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.parse::<i64>().ok()?..=to.parse::<i64>().ok()?)
    });
    ranges.flatten().collect()
}

/// Writes it; two in a row are listed, three are a range.
pub(super) fn write(indexes: &BTreeSet<i64>) -> String {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for index in indexes {
        match ranges.last_mut() {
            Some((_, to)) if *to + 1 == *index => *to = *index,
            _ => ranges.push((*index, *index)),
        }
    }
    let text = |(from, to): &(i64, i64)| match to - from {
        0 => from.to_string(),
        1 => format!("{from},{to}"),
        _ => format!("{from}-{to}"),
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn indexes_are_written_as_ranges_and_read_back() {
        let indexes: BTreeSet<i64> = [0, 2, 3, 5, 6, 7].into();
        assert_eq!(write(&indexes), "0,2,3,5-7");
        assert_eq!(read(&json!({"status": {"completedIndexes": "0,2,3,5-7"}})), indexes);
        assert!(read(&json!({})).is_empty());
    }
}
