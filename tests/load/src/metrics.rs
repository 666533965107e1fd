//! What a program counts of itself, read from outside.

use std::time::Duration;

use anyhow::{Context, Result};

/// How long metrics may take.
const SCRAPE: Duration = Duration::from_secs(10);

/// The metrics of the program whose monitor listens on `address`, as text.
pub(crate) async fn scrape(address: &str) -> Result<String> {
    let config = kube::Config::new(format!("http://{address}").parse()?);
    let client = kube::Client::try_from(config)?;
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let answer = tokio::time::timeout(SCRAPE, client.request_text(request)).await;
    Ok(answer.with_context(|| format!("metrics of {address}: no answer"))??)
}

/// The value of a metric without labels.
pub(crate) fn metric(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line?.trim().parse().ok()
}

/// The sum of a metric over all its labels; `None` if there is no line of it.
pub(crate) fn total(text: &str, name: &str) -> Option<u64> {
    let values = text.lines().filter_map(|line| {
        let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} ")?;
        let _ = labels;
        value.trim().parse::<u64>().ok()
    });
    values.reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# HELP a_b x\na_b_total 7\na_b 3\n";
        assert_eq!(
            (metric(text, "a_b"), metric(text, "a_b_total"), metric(text, "a")),
            (Some(3), Some(7), None)
        );
    }

    #[test]
    fn a_metric_with_labels_is_summed() {
        let text = "a{verb=\"get\"} 7\na{verb=\"create\",outcome=\"ok\"} 3\nab{verb=\"get\"} 9\n";
        assert_eq!((total(text, "a"), total(text, "b")), (Some(10), None));
    }
}
