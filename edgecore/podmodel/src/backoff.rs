//! Crash-loop back-off, derived from what the runtime remembers, so that a restart of EdgeCore does not reset it.

use std::time::Duration;

use daemon::backoff::doubled;

use super::observed::Instance;

const FIRST: Duration = Duration::from_secs(10);
/// The longest delay, unless the configuration says a shorter one.
pub const LONGEST: Duration = Duration::from_secs(300);
/// A run this long counts as healthy: the next crash starts the series anew.
const HEALTHY_RUN_NS: i64 = 600 * 1_000_000_000;

/// The delay for the `n`th failure in a row: none, then 10 s doubling to 300 s.
pub fn delay(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        n => doubled(FIRST, LONGEST, n - 2),
    }
}

/// The delay after the `n`th failure in a row to make a pod's volumes: 0.5 s, doubling to 2 min 2 s (the kubelet's
/// `exponentialbackoff`).
pub fn mount_delay(failures: u32) -> Duration {
    doubled(Duration::from_millis(500), Duration::from_secs(122), failures.saturating_sub(1))
}

/// How long after the end of its newest run a container stays down. `runs` are newest first and not empty.
pub fn restart_delay(runs: &[&Instance], longest: Duration) -> Duration {
    let healthy = |run: &Instance| run.started > 0 && run.finished - run.started >= HEALTHY_RUN_NS;
    let failures = match runs {
        [] => 0,
        [newest, ..] if healthy(newest) => 1,
        [_, before, ..] if healthy(before) => 2,
        [newest, ..] => newest.attempt + 1,
    };
    delay(failures).min(longest)
}

/// A delay as the kubelet writes it: `500ms`, `10s`, `1m20s`, `5m0s`.
pub fn written(delay: Duration) -> String {
    if delay < Duration::from_secs(1) {
        return format!("{}ms", delay.as_millis());
    }
    match (delay.as_secs() / 60, delay.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::exited;
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_later_ones_double_to_five_minutes() {
        let delays: Vec<u64> = (0..9).map(|n| delay(n).as_secs()).collect();
        assert_eq!(delays, [0, 0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(delay(u32::MAX), LONGEST);
        let texts = [2, 5, 9].map(|n| written(delay(n)));
        assert_eq!(texts, ["10s", "1m20s", "5m0s"]);
        let texts = [1, 2, 8, 9, u32::MAX].map(|n| written(mount_delay(n)));
        assert_eq!(texts, ["500ms", "1s", "1m4s", "2m2s", "2m2s"]);
    }

    #[test]
    fn a_long_run_starts_the_series_anew() {
        let mut newest = exited("a", 40, 1);
        assert_eq!(restart_delay(&[&newest], LONGEST), LONGEST);
        newest.started = 1;
        newest.finished = 1 + HEALTHY_RUN_NS;
        assert_eq!(restart_delay(&[&newest], LONGEST), Duration::ZERO);
        let crashed = exited("a", 41, 1);
        assert_eq!(restart_delay(&[&crashed, &newest], LONGEST), FIRST);
    }
}
