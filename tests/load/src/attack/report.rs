//! What the attacks did, as a table while they run and as numbers at the end. With several runs each number of an attack
//! is the median of its runs, and its part of the harmless neighbour's is taken within each run.

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::orders::Kind;
use crate::result::{Results, percentile, rounded};

/// One attack of one run.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// Connections the attacker made, and those that ended.
    pub opened: u64,
    pub ended: u64,
    /// An update of the edge that does no harm, in milliseconds.
    pub p50: f64,
    pub p99: f64,
    pub peak_kb: u64,
    pub died: u64,
}

#[derive(Default)]
pub(super) struct Report {
    calm: Vec<f64>,
    /// p99 of each calm.
    calms: Vec<f64>,
    /// With the run's number.
    rows: Vec<(usize, Kind, Row)>,
    more: Results,
}

impl Report {
    pub(super) fn head() {
        println!(
            "{:<16} {:>8} {:>8} {:>9} {:>9} {:>11} {:>11}",
            "", "opened", "ended", "p50 ms", "p99 ms", "peak MiB", "killed"
        );
    }

    /// Milliseconds of the updates of a calm.
    pub(super) fn calm(&mut self, mut samples: Vec<f64>) {
        self.calms.push(percentile(&mut samples, 99.0));
        self.calm.append(&mut samples);
    }

    pub(super) fn attack(&mut self, run: usize, kind: Kind, row: Row) -> Result<()> {
        let Row { opened, ended, p50, p99, peak_kb, died } = row;
        let peak = peak_kb as f64 / 1024.0;
        let name = name(kind)?;
        println!("{name:<16} {opened:>8} {ended:>8} {p50:>9.2} {p99:>9.2} {peak:>11.1} {died:>11}");
        self.rows.push((run, kind, row));
        Ok(())
    }

    /// For what is measured of one attack only.
    pub(super) fn more(&mut self) -> &mut Results {
        &mut self.more
    }

    /// p99 of `kind` over that of the neighbour in the same run, median of the runs; not a number without a neighbour.
    fn to_neighbour(&self, kind: Kind) -> f64 {
        let of = |run: usize, kind: Kind| {
            let row = self.rows.iter().find(|row| row.0 == run && row.1 == kind);
            row.map(|(_, _, row)| row.p99)
        };
        let runs = self.rows.iter().filter(|row| row.1 == kind).map(|row| row.0);
        let ratios = runs.filter_map(|run| Some(of(run, kind)? / of(run, Kind::Neighbour)?));
        percentile(&mut ratios.collect::<Vec<_>>(), 50.0)
    }

    pub(super) fn print(mut self) {
        let mut kinds: Vec<Kind> = Vec::new();
        self.rows.iter().for_each(|(_, kind, _)| {
            if !kinds.contains(kind) {
                kinds.push(*kind)
            }
        });
        let mut results = Results::default();
        let (mut worst, mut worst_to_neighbour) = (0.0_f64, f64::NAN);
        for kind in kinds {
            let Ok(name) = name(kind) else { continue };
            let rows: Vec<Row> = self.rows.iter().filter(|row| row.1 == kind).map(|row| row.2).collect();
            let p99 = percentile(&mut rows.iter().map(|row| row.p99).collect::<Vec<_>>(), 50.0);
            let opened: u64 = rows.iter().map(|row| row.opened).sum();
            let peak = rows.iter().map(|row| row.peak_kb).max();
            let mut add = |key: &str, what: &str, value: serde_json::Value| {
                results.add(&format!("{name}_{key}"), &format!("{name}: {what}"), value);
            };
            add("opened", "connections made", opened.into());
            add("p99_ms", "an update, p99 (ms)", rounded(p99));
            add("peak_kb", "most memory of the attacked (KiB)", peak.into());
            let ratio = self.to_neighbour(kind);
            if kind != Kind::Neighbour {
                worst = worst.max(p99);
                if ratio.is_finite() {
                    add("to_neighbour", "p99 : p99 beside a busy neighbour", rounded(ratio));
                    // The greater, whatever a NaN is.
                    worst_to_neighbour = ratio.max(worst_to_neighbour);
                }
            }
        }
        results.append(&mut self.more);
        let killed: u64 = self.rows.iter().map(|row| row.2.died).sum();
        let calm = percentile(&mut self.calm, 99.0);
        results.add(
            "calm_p50_ms",
            "an update in all the calm before, p50 (ms)",
            rounded(percentile(&mut self.calm, 50.0)),
        );
        results.add("calm_p99_ms", "the same, p99 (ms)", rounded(calm));
        let least = percentile(&mut self.calms, 100.0);
        results.add(
            "calmest_p99_ms",
            "p99 of the best of these calms (ms)",
            rounded(percentile(&mut self.calms, 0.0)),
        );
        results.add("least_calm_p99_ms", "p99 of the worst, with nobody attacking (ms)", rounded(least));
        results.add("killed", "programs that died", killed);
        results.add("p99_ratio", "worst p99 during an attack : p99 in the calm", rounded(worst / calm));
        if worst_to_neighbour.is_finite() {
            let what = "worst p99 : p99 beside a busy neighbour";
            results.add("worst_to_neighbour", what, rounded(worst_to_neighbour));
        }
        results.print();
    }
}

/// As it stands in the keys.
fn name(kind: Kind) -> Result<String> {
    Ok(kind.to_possible_value().context("a name")?.get_name().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attack_is_compared_with_the_neighbour_of_its_run() {
        let mut report = Report::default();
        for (run, neighbour, attack) in [(0, 10.0, 10.0), (1, 2.0, 3.0), (2, 1.0, 9.0)] {
            for (kind, p99) in [(Kind::Neighbour, neighbour), (Kind::Mqtt, attack)] {
                let row = Row { opened: 1, ended: 1, p50: p99, p99, peak_kb: 1, died: 0 };
                report.attack(run, kind, row).unwrap();
            }
        }
        assert!((report.to_neighbour(Kind::Mqtt) - 1.5).abs() < 1e-9);
        assert!(report.to_neighbour(Kind::Deep).is_nan());
    }
}
