//! Keys that are in no object: they say how a part of it is written.
//!
//! A value may be wrapped: `{"$then": value, "$if": condition, "$why": comment}`.

/// What is wrapped.
pub(crate) const THEN: &str = "$then";
/// Condition under which a chart has it.
pub(crate) const IF: &str = "$if";
/// Beside other keys: a map of a chart, whose keys are put there as well.
pub(crate) const MORE: &str = "$more";
/// Why it is there, for who reads the text.
pub(crate) const WHY: &str = "$why";
