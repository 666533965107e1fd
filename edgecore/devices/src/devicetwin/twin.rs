//! One device's twin: expected and actual value of each property, with versions. Pure (docs/protocol/devices.md 3.4, 3.6).
//!
//! Differences from KubeEdge, all its "Better" lines: values may be any UTF-8 up to [`MAX_VALUE`]; a value that did not
//! change is not a change; an absent value never ends the worker; a type that names none is that of text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::service::Reported;

/// Longest value, in bytes.
pub(super) const MAX_VALUE: usize = 64 * 1024;
/// Longest property name, in characters.
const MAX_NAME: usize = 128;
/// Most properties of a device: a client that makes up names is stopped here.
const MAX_PROPERTIES: usize = 1024;

/// Types of properties as the device's model declares them, by name.
pub(super) type Declared = BTreeMap<String, &'static str>;

/// Type of a twin of which nobody says more.
const TEXT: &str = "string";

/// Type of a twin that was deleted: its row stays as a tombstone, so that its versions go on.
const DELETED: &str = "deleted";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Version {
    pub cloud: i64,
    pub edge: i64,
}

/// A value and when it was set (Unix ms, this node's clock).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Side {
    pub value: String,
    pub at: i64,
    pub version: Version,
}

/// One property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Twin {
    pub expected: Option<Side>,
    pub actual: Option<Side>,
    /// What the device says it was told; reported to the cloud as `observedDesired`.
    pub observed: Option<String>,
    pub optional: bool,
    /// string, int, float, boolean, or `deleted`.
    pub kind: String,
}

impl Twin {
    fn is_deleted(&self) -> bool {
        self.kind == DELETED
    }

    fn new(kind: &str) -> Twin {
        Twin { expected: None, actual: None, observed: None, optional: true, kind: kind.to_owned() }
    }

    /// The form of documents, results and get answers: no versions.
    fn document(&self) -> Value {
        self.document_of(Given { expected: true, actual: true })
    }

    /// Like [`Twin::document`], of some sides.
    fn document_of(&self, given: Given) -> Value {
        let mut out = Map::new();
        let sides = [("expected", &self.expected, given.expected), ("actual", &self.actual, given.actual)];
        for (name, side, given) in sides {
            if let Some(side) = side.as_ref().filter(|_| given) {
                out.insert(name.to_owned(), json!({"value": side.value, "metadata": {"timestamp": side.at}}));
            }
        }
        out.insert("optional".to_owned(), Value::Bool(self.optional));
        out.insert("metadata".to_owned(), json!({"type": self.kind}));
        Value::Object(out)
    }
}

/// What a client asks for one property; `None` deletes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PropertyUpdate {
    pub expected: Option<SideUpdate>,
    pub actual: Option<SideUpdate>,
    pub optional: Option<bool>,
    pub metadata: Option<TypeUpdate>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SideUpdate {
    pub value: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TypeUpdate {
    #[serde(rename = "type")]
    pub name: String,
}

/// A refusal, as published on the result topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TwinRefusal {
    pub code: u16,
    pub reason: String,
}

pub(super) fn bad_request(reason: impl Into<String>) -> TwinRefusal {
    TwinRefusal { code: 400, reason: reason.into() }
}

/// Sides a client gave.
#[derive(Clone, Copy, Debug, Default)]
struct Given {
    expected: bool,
    actual: bool,
}

/// A property of an update.
#[derive(Clone, Debug)]
struct Touched {
    name: String,
    before: Option<Twin>,
    given: Given,
}

/// What an update did. The twins its methods are given are those it was done to, before anything else is.
#[derive(Clone, Debug, Default)]
pub(super) struct UpdateOutcome {
    touched: Vec<Touched>,
}

impl UpdateOutcome {
    /// `twin` of the result topic: only the sides that were given.
    pub(super) fn result(&self, twins: &Twins) -> Map<String, Value> {
        let result = |touched: &Touched| {
            let after = twins.visible(&touched.name);
            after.map_or(Value::Null, |twin| twin.document_of(touched.given))
        };
        self.touched.iter().map(|touched| (touched.name.clone(), result(touched))).collect()
    }

    /// `twin` of the document topic.
    pub(super) fn document(&self, twins: &Twins) -> Map<String, Value> {
        let document = |touched: &Touched| {
            let last = touched.before.as_ref().filter(|twin| !twin.is_deleted()).map(Twin::document);
            json!({"last": last, "current": twins.visible(&touched.name).map(Twin::document)})
        };
        self.touched.iter().map(|touched| (touched.name.clone(), document(touched))).collect()
    }

    /// True if a mapper's report changed nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.touched.is_empty()
    }

    /// Properties whose stored row changed, and what they were before.
    pub(super) fn changed(self, twins: &Twins) -> Vec<(String, Option<Twin>)> {
        let changed = self.touched.into_iter().map(|touched| (touched.name, touched.before));
        changed.filter(|(name, before)| before.as_ref() != twins.0.get(name)).collect()
    }
}

/// All properties of one device.
#[derive(Clone, Debug, Default)]
pub(super) struct Twins(pub BTreeMap<String, Twin>);

impl Twins {
    /// A local update (MQTT or DMI). Everything is checked before anything is changed.
    pub(super) fn update(
        &mut self,
        wanted: &BTreeMap<String, Option<PropertyUpdate>>,
        declared: &Declared,
        now: i64,
    ) -> Result<UpdateOutcome, TwinRefusal> {
        for (name, wanted) in wanted {
            self.check(name, wanted.as_ref(), declared.get(name).copied())?;
        }
        let mut outcome = UpdateOutcome::default();
        for (name, wanted) in wanted {
            let before = self.0.get(name).cloned();
            let given = match wanted {
                None => self.delete(name, now),
                Some(wanted) => self.set(name, wanted, now),
            };
            outcome.touched.push(Touched { name: name.clone(), before, given });
        }
        Ok(outcome)
    }

    /// The cloud's desired value, set as expected. True if it changed.
    pub(super) fn desire(&mut self, name: &str, value: &str, kind: &str, now: i64) -> bool {
        if check_name(name).is_err() || value.len() > MAX_VALUE {
            return false;
        }
        let twin = self.0.entry(name.to_owned()).or_insert_with(|| Twin::new(kind));
        if twin.is_deleted() {
            twin.kind = kind.to_owned();
        }
        put(&mut twin.expected, value, now)
    }

    /// A mapper's report. What cannot be of the type the model declares, or of the one the mapper itself names, refuses
    /// all of it. A value that does not fit the stored type turns the twin into a string: a mapper knows its device
    /// better than an earlier report did.
    pub(super) fn reported(
        &mut self,
        reports: &BTreeMap<String, Reported>,
        declared: &Declared,
        now: i64,
    ) -> Result<UpdateOutcome, TwinRefusal> {
        for (name, report) in reports {
            if let Some(value) = &report.actual {
                check_declared(name, declared.get(name).copied().or(report.kind), value)?;
            }
        }
        let mut outcome = UpdateOutcome::default();
        for (name, report) in reports {
            if check_name(name).is_err() || (!self.0.contains_key(name) && self.0.len() >= MAX_PROPERTIES) {
                continue;
            }
            let before = self.0.get(name).cloned();
            let twin = self.0.entry(name.clone()).or_insert_with(|| Twin::new(report.kind.unwrap_or(TEXT)));
            if twin.is_deleted() {
                twin.kind = report.kind.unwrap_or(TEXT).to_owned();
            }
            if let Some(value) = report.actual.as_ref().filter(|value| value.len() <= MAX_VALUE) {
                if check_value(&twin.kind, value).is_err() {
                    twin.kind = "string".to_owned();
                }
                put(&mut twin.actual, value, now);
            }
            if let Some(observed) = report.observed.as_ref().filter(|value| !value.is_empty()) {
                twin.observed = Some(observed.clone());
                if twin.expected.is_none() {
                    put(&mut twin.expected, observed, now);
                }
            }
            if before.as_ref() != Some(twin) {
                outcome.touched.push(Touched { name: name.clone(), before, given: Given::default() });
            }
        }
        Ok(outcome)
    }

    fn check(
        &self,
        name: &str,
        wanted: Option<&PropertyUpdate>,
        declared: Option<&'static str>,
    ) -> Result<(), TwinRefusal> {
        check_name(name)?;
        let stored = self.0.get(name);
        let Some(wanted) = wanted else {
            return match stored {
                Some(twin) if !twin.optional => Err(bad_request(format!("twin {name} is not optional"))),
                _ => Ok(()),
            };
        };
        if stored.is_none() && self.0.len() >= MAX_PROPERTIES {
            return Err(bad_request(format!("the device has {MAX_PROPERTIES} twins already")));
        }
        let kind = kind_of(stored, wanted);
        for side in [&wanted.expected, &wanted.actual].into_iter().flatten() {
            if wanted.metadata.as_ref().is_some_and(|metadata| metadata.name == DELETED) {
                return Err(bad_request(format!("twin {name}: what is deleted has no value")));
            }
            match &side.value {
                Some(value) => {
                    check_value(&kind, value)?;
                    check_declared(name, declared, value)?;
                }
                None => return Err(bad_request(format!("twin {name}: value is missing"))),
            }
        }
        if stored.is_none_or(Twin::is_deleted) && wanted.expected.is_none() && wanted.actual.is_none() {
            return Err(bad_request(format!("twin {name}: a new twin needs a value")));
        }
        Ok(())
    }

    fn set(&mut self, name: &str, wanted: &PropertyUpdate, now: i64) -> Given {
        let kind = kind_of(self.0.get(name), wanted);
        let twin = self.0.entry(name.to_owned()).or_insert_with(|| Twin::new(&kind));
        twin.kind = kind;
        if wanted.optional == Some(false) {
            twin.optional = false;
        }
        if let Some(value) = wanted.expected.as_ref().and_then(|side| side.value.as_deref()) {
            put(&mut twin.expected, value, now);
            twin.observed = Some(value.to_owned());
        }
        if let Some(value) = wanted.actual.as_ref().and_then(|side| side.value.as_deref()) {
            put(&mut twin.actual, value, now);
        }
        Given { expected: wanted.expected.is_some(), actual: wanted.actual.is_some() }
    }

    fn delete(&mut self, name: &str, now: i64) -> Given {
        if let Some(twin) = self.0.get_mut(name).filter(|twin| !twin.is_deleted()) {
            for side in [&mut twin.expected, &mut twin.actual].into_iter().flatten() {
                *side = Side { value: String::new(), at: now, version: bumped(side.version) };
            }
            twin.observed = None;
            twin.kind = DELETED.to_owned();
        }
        Given::default()
    }

    /// A property that is not deleted.
    fn visible(&self, name: &str) -> Option<&Twin> {
        self.0.get(name).filter(|twin| !twin.is_deleted())
    }

    /// Makes a property what it was.
    pub(super) fn restore(&mut self, name: String, before: Option<Twin>) {
        match before {
            Some(twin) => self.0.insert(name, twin),
            None => self.0.remove(&name),
        };
    }

    /// `twin` of a get answer.
    pub(super) fn documents(&self) -> Map<String, Value> {
        let living = self.0.iter().filter(|(_, twin)| !twin.is_deleted());
        living.map(|(name, twin)| (name.clone(), twin.document())).collect()
    }

    /// (`twin`, `delta`) of the delta topic; `None` when nothing differs.
    pub(super) fn delta(&self) -> Option<(Map<String, Value>, Map<String, Value>)> {
        let expecting = || {
            self.0.iter().filter_map(|(name, twin)| {
                let expected = twin.expected.as_ref().filter(|side| !side.value.is_empty())?;
                (!twin.is_deleted()).then_some((name, twin, &expected.value))
            })
        };
        let differs = |twin: &Twin, expected: &String| {
            twin.actual.as_ref().is_none_or(|actual| actual.value != *expected)
        };
        let delta: Map<String, Value> = expecting()
            .filter(|(_, twin, expected)| differs(twin, expected))
            .map(|(name, _, expected)| (name.clone(), Value::String(expected.clone())))
            .collect();
        let twins = || expecting().map(|(name, twin, _)| (name.clone(), twin.document())).collect();
        (!delta.is_empty()).then(|| (twins(), delta))
    }

    /// `twin` of a report to the cloud: every living twin, with versions (docs/protocol/devices.md 2.4).
    pub(super) fn report(&self) -> Map<String, Value> {
        let mut out = Map::new();
        for (name, twin) in self.0.iter().filter(|(_, twin)| !twin.is_deleted()) {
            let mut fields = Map::new();
            if let (Some(observed), Some(expected)) = (&twin.observed, &twin.expected) {
                let side = json!({"value": observed, "metadata": {"timestamp": expected.at}});
                fields.insert("expected".to_owned(), side);
                fields.insert("expected_version".to_owned(), json!(expected.version));
            }
            if let Some(actual) = &twin.actual {
                let side = json!({"value": actual.value, "metadata": {"timestamp": actual.at}});
                fields.insert("actual".to_owned(), side);
                fields.insert("actual_version".to_owned(), json!(actual.version));
            }
            if fields.is_empty() {
                continue;
            }
            fields.insert("optional".to_owned(), Value::Bool(twin.optional));
            fields.insert("metadata".to_owned(), json!({"type": twin.kind}));
            out.insert(name.clone(), Value::Object(fields));
        }
        out
    }
}

fn bumped(version: Version) -> Version {
    Version { edge: version.edge + 1, ..version }
}

/// Sets a side. True if its value changed.
fn put(side: &mut Option<Side>, value: &str, now: i64) -> bool {
    match side {
        Some(current) if current.value == value => false,
        Some(current) => {
            *current = Side { value: value.to_owned(), at: now, version: bumped(current.version) };
            true
        }
        None => {
            *side = Some(Side { value: value.to_owned(), at: now, version: Version { cloud: 0, edge: 1 } });
            true
        }
    }
}

/// The stored type wins; a deleted twin takes the new one.
fn kind_of(stored: Option<&Twin>, wanted: &PropertyUpdate) -> String {
    let given =
        wanted.metadata.as_ref().map(|metadata| metadata.name.as_str()).filter(|name| !name.is_empty());
    match stored {
        Some(twin) if !twin.is_deleted() => twin.kind.clone(),
        _ => given.map(meant).unwrap_or("string").to_owned(),
    }
}

/// Apps write what they like as a type (KubeEdge's samples write `Updated`): what names no type means text.
fn meant(name: &str) -> &str {
    let known = ["string", "bytes", "int", "integer", "float", "double", "boolean", DELETED];
    if known.contains(&name) { name } else { "string" }
}

fn check_name(name: &str) -> Result<(), TwinRefusal> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.,:/@#".contains(c);
    if name.is_empty() || name.chars().count() > MAX_NAME || !name.chars().all(legal) {
        let rule = "The key of twin must only contain upper or lowercase letters, number, english, and special letter - _ . , : / @ # and the length of key should be less than 128 bytes";
        return Err(bad_request(rule));
    }
    Ok(())
}

fn check_value(kind: &str, value: &str) -> Result<(), TwinRefusal> {
    if value.len() > MAX_VALUE {
        return Err(bad_request(format!("The value of twin must have at most {MAX_VALUE} bytes")));
    }
    match kind {
        "int" | "integer" if value.parse::<i64>().is_err() => {
            Err(bad_request("the value is not int or integer"))
        }
        "float" | "double" if !is_number(value) => Err(bad_request("the value is not float")),
        "boolean" if value != "true" && value != "false" => {
            Err(bad_request("the bool value must be true or false"))
        }
        DELETED => Err(bad_request("the value type is not allowed")),
        _ => Ok(()),
    }
}

/// A number there is: neither NaN nor without end.
fn is_number(value: &str) -> bool {
    value.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Whether a value can be of the type somebody declared. Drivers write whole numbers with fractions and booleans as
/// digits; an empty text is no value.
fn check_declared(name: &str, kind: Option<&'static str>, value: &str) -> Result<(), TwinRefusal> {
    let fits = match kind {
        Some("int" | "float") => is_number(value),
        Some("boolean") => ["true", "false", "1", "0"].iter().any(|word| word.eq_ignore_ascii_case(value)),
        _ => true,
    };
    if fits || value.is_empty() {
        return Ok(());
    }
    let shown: String = value.chars().take(64).collect();
    let kind = kind.unwrap_or(TEXT);
    Err(bad_request(format!(
        "twin {name}: {shown:?} is no {kind}, which its device model or the report says it is"
    )))
}

#[cfg(test)]
mod tests;
