//! Numbers, percentiles, and how they are printed.

use serde_json::{Map, Value, json};

/// Numbers in the order they were measured.
#[derive(Default)]
pub(crate) struct Results {
    rows: Vec<(String, String, Value)>,
}

impl Results {
    /// `key` goes into the last line, `what` is for people.
    pub(crate) fn add(&mut self, key: &str, what: &str, value: impl Into<Value>) {
        self.rows.push((key.to_owned(), what.to_owned(), value.into()));
    }

    pub(crate) fn append(&mut self, more: &mut Results) {
        self.rows.append(&mut more.rows);
    }

    pub(crate) fn print(&self) {
        println!();
        for (_, what, value) in &self.rows {
            println!("  {what:<58} {:>10}", value.to_string());
        }
        let keys: Map<String, Value> =
            self.rows.iter().map(|(key, _, value)| (key.clone(), value.clone())).collect();
        println!("\nRESULT {}", Value::Object(keys));
    }
}

/// The value below which `percent` of the sorted samples lie.
pub(crate) fn percentile(samples: &mut [f64], percent: f64) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    let at = ((samples.len() as f64 - 1.0) * percent / 100.0).round() as usize;
    samples.get(at).copied().unwrap_or(f64::NAN)
}

/// Rounded to what a person reads.
pub(crate) fn rounded(value: f64) -> Value {
    json!((value * 100.0).round() / 100.0)
}
