//! What came of cases.

use std::fmt::{self, Display, Formatter};

use serde_json::json;

use crate::known::Known;

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// The step, what was expected and what came.
    Failed(String),
    /// The server is older than what the case tells of.
    Skipped,
}

/// A case and how it ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub group: String,
    pub case: String,
    pub source: String,
    pub verdict: Verdict,
    /// Why it could not be cleaned up, if so.
    pub left: Option<String>,
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.group, self.case)?;
        match &self.verdict {
            Verdict::Passed => write!(f, "passed"),
            Verdict::Skipped => write!(f, "skipped"),
            Verdict::Failed(why) => write!(f, "{why} (see {})", self.source),
        }
    }
}

/// Numbers of cases.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
    /// Failed, and listed as such.
    pub known: usize,
    /// Passed, but listed as failing.
    pub mended: usize,
}

impl Summary {
    /// Counts; what `known` lists does not count as failed.
    pub fn of(outcomes: &[Outcome], known: &Known) -> Summary {
        let mut summary = Summary::default();
        for outcome in outcomes {
            let listed = known.reason(&outcome.group, &outcome.case).is_some();
            match outcome.verdict {
                Verdict::Passed => {
                    summary.passed += 1;
                    summary.mended += usize::from(listed);
                }
                Verdict::Failed(_) if listed => summary.known += 1,
                Verdict::Failed(_) => summary.failed += 1,
                Verdict::Skipped => summary.skipped += 1,
            }
        }
        summary
    }

    /// One line of JSON.
    pub fn json(&self) -> String {
        json!({
            "cases": self.passed + self.failed + self.skipped + self.known,
            "passed": self.passed, "failed": self.failed, "skipped": self.skipped, "known": self.known,
        })
        .to_string()
    }
}
