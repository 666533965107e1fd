//! What of a property is due, changed and worth reporting. Pure.

use dmi::v1beta1::{Twin, TwinProperty};
use tokio::time::Instant;

use crate::Property;

/// An unchanged value is reported each this many cycles, so that a lost one is made up for.
const REPEAT: u32 = 10;

pub(super) struct Progress {
    pub due: Instant,
    /// The desired value that the driver took.
    pub written: Option<String>,
    /// The value EdgeCore has.
    reported: Option<(String, String)>,
    /// Cycles since then.
    quiet: u32,
}

impl Progress {
    pub(crate) fn new(due: Instant) -> Progress {
        Progress { due, written: None, reported: None, quiet: 0 }
    }

    /// True if the driver must be given the desired value.
    pub(crate) fn must_write(&self, property: &Property) -> bool {
        property.is_writable
            && !property.desired.is_empty()
            && self.written.as_ref() != Some(&property.desired)
    }

    /// What EdgeCore is told as `observedDesired`: for writable properties only once the driver took it.
    fn observed<'a>(&'a self, property: &'a Property) -> &'a str {
        if property.is_writable { self.written.as_deref().unwrap_or_default() } else { &property.desired }
    }

    /// The twin to report for a value read now; `None` if it is not worth it.
    pub(crate) fn on_value(&mut self, property: &Property, value: &str, now_ms: i64) -> Option<Twin> {
        let pair = (value.to_owned(), self.observed(property).to_owned());
        self.quiet += 1;
        let is_known = self.reported.as_ref() == Some(&pair);
        if !property.is_reported || (is_known && self.quiet < REPEAT) {
            return None;
        }
        let twin = twin(property, &pair, now_ms);
        self.reported = Some(pair);
        self.quiet = 0;
        Some(twin)
    }

    /// The report was lost: the next cycle reports again.
    pub(crate) fn on_lost(&mut self) {
        self.reported = None;
    }
}

/// Both sides are always present: KubeEdge's EdgeCore crashes on absent ones (docs/protocol/devices.md 5.6).
fn twin(property: &Property, (value, observed): &(String, String), now_ms: i64) -> Twin {
    let side = |value: &str| TwinProperty {
        value: value.to_owned(),
        metadata: [("type".into(), property.kind.clone()), ("timestamp".into(), now_ms.to_string())].into(),
    };
    Twin {
        property_name: property.name.clone(),
        observed_desired: Some(side(observed)),
        reported: Some(side(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn property(desired: &str) -> Property {
        Property {
            name: "p".into(),
            kind: "int".into(),
            is_writable: true,
            desired: desired.into(),
            visitor: serde_json::Map::new(),
            collect_cycle: Duration::from_secs(1),
            is_reported: true,
        }
    }

    #[tokio::test]
    async fn a_value_is_reported_when_it_changes_and_each_tenth_cycle() {
        let mut progress = Progress::new(Instant::now());
        let property = property("");
        let is_reported = |progress: &mut Progress, value| progress.on_value(&property, value, 5).is_some();
        assert!(is_reported(&mut progress, "1"));
        for _ in 1..REPEAT {
            assert!(!is_reported(&mut progress, "1"));
        }
        assert!(is_reported(&mut progress, "1"));
        assert!(is_reported(&mut progress, "2"));
        progress.on_lost();
        assert!(is_reported(&mut progress, "2"));
    }

    #[tokio::test]
    async fn a_desired_value_is_written_once_and_observed_only_then() {
        let mut progress = Progress::new(Instant::now());
        let property = property("7");
        assert!(progress.must_write(&property));
        let observed = |twin: Option<Twin>| twin.unwrap().observed_desired.unwrap().value;
        assert_eq!(observed(progress.on_value(&property, "1", 5)), "");
        progress.written = Some("7".into());
        assert!(!progress.must_write(&property));
        assert_eq!(observed(progress.on_value(&property, "1", 5)), "7");
    }

    #[tokio::test]
    async fn twins_carry_type_and_timestamp_and_silent_properties_are_not_reported() {
        let mut progress = Progress::new(Instant::now());
        let reported = progress.on_value(&property(""), "1", 5).unwrap().reported.unwrap();
        assert_eq!(
            (reported.metadata["type"].as_str(), reported.metadata["timestamp"].as_str()),
            ("int", "5")
        );
        let silent = Property { is_reported: false, ..property("") };
        assert!(progress.on_value(&silent, "2", 5).is_none());
    }
}
