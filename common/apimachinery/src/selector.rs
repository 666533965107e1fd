//! Label selectors (equality and set based) and field selectors.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::object::{at, list, text};
use crate::{Cause, names};

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SelectorError {
    #[error("unable to parse requirement: {0}")]
    Label(String),
    #[error("invalid selector: '{0}'; can't understand '{0}'")]
    Field(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    GreaterThan(i64),
    LessThan(i64),
}

/// All requirements must hold. The default matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<(String, Test)>);

impl LabelSelector {
    /// Reads `a=b,c!=d,e in (f,g),h notin (i),j,!k,n>3`.
    ///
    /// ```
    /// use apimachinery::selector::LabelSelector;
    ///
    /// let labels = [("app".to_owned(), "web".to_owned())].into();
    /// assert!(LabelSelector::parse("app in (web,api),!debug")?.matches(&labels));
    /// assert!(!LabelSelector::parse("app!=web")?.matches(&labels));
    /// # Ok::<(), apimachinery::selector::SelectorError>(())
    /// ```
    ///
    /// # Errors
    /// [`SelectorError`] says which part of `text` cannot be read.
    pub fn parse(text: &str) -> Result<LabelSelector, SelectorError> {
        if text.trim().is_empty() {
            return Ok(LabelSelector::default());
        }
        split_outside_parentheses(text).map(requirement).collect::<Result<_, _>>().map(LabelSelector)
    }

    /// Reads a `metav1.LabelSelector`, as objects have it; null selects everything. `path` is the field's, for the causes.
    ///
    /// # Errors
    /// Everything that is wrong with it, field by field.
    pub fn of_object(selector: &Value, path: &str) -> Result<LabelSelector, Vec<Cause>> {
        let (mut requirements, mut causes) = (Vec::new(), Vec::new());
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            let wanted = value.as_str().unwrap_or_default();
            let field = format!("{path}.matchLabels");
            let key_fault =
                names::qualified(key).map(|why| Cause::invalid(&field, &key.as_str().into(), &why));
            causes.extend(key_fault);
            causes.extend(names::label_value(wanted).map(|why| Cause::invalid(field, value, &why)));
            requirements.push((key.clone(), Test::In(vec![wanted.to_owned()])));
        }
        for (at, expression) in list(selector, "/matchExpressions").iter().enumerate() {
            match expressed(expression, &format!("{path}.matchExpressions[{at}]")) {
                Ok(requirement) => requirements.push(requirement),
                Err(found) => causes.extend(found),
            }
        }
        if causes.is_empty() { Ok(LabelSelector(requirements)) } else { Err(causes) }
    }

    /// The selector of a ReplicationController or a Service: all of these labels.
    pub fn of_labels(labels: &Value) -> LabelSelector {
        let labels = labels.as_object().into_iter().flatten();
        let wanted = |value: &Value| Test::In(vec![value.as_str().unwrap_or_default().to_owned()]);
        LabelSelector(labels.map(|(key, value)| (key.clone(), wanted(value))).collect())
    }

    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// How many requirements there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// See [`LabelSelector::is_everything`].
    pub fn is_empty(&self) -> bool {
        self.is_everything()
    }

    /// A label and the one value it must have, if the selector pins one.
    pub fn pinned(&self) -> Option<(&str, &str)> {
        self.0.iter().find_map(|(key, test)| match test {
            Test::In(set) if set.len() == 1 => Some((key.as_str(), set[0].as_str())),
            _ => None,
        })
    }

    /// [`LabelSelector::matches`] of the labels of an object.
    pub fn matches_object(&self, object: &Value) -> bool {
        if self.is_everything() {
            return true;
        }
        let labels = at(object, "/metadata/labels").and_then(Value::as_object).into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.matches(&labels.map(|(key, value)| (key.clone(), text(value))).collect())
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(key, test)| {
            let value = labels.get(key);
            let number = || value.and_then(|value| value.parse::<i64>().ok());
            match test {
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
                Test::In(set) => value.is_some_and(|value| set.contains(value)),
                // As in Kubernetes, a missing label is not in the set.
                Test::NotIn(set) => value.is_none_or(|value| !set.contains(value)),
                Test::GreaterThan(limit) => number().is_some_and(|number| number > *limit),
                Test::LessThan(limit) => number().is_some_and(|number| number < *limit),
            }
        })
    }
}

/// An entry of `matchExpressions`.
fn expressed(expression: &Value, path: &str) -> Result<(String, Test), Vec<Cause>> {
    let (key, operator) = (text(expression, "/key"), text(expression, "/operator"));
    let values: Vec<String> =
        list(expression, "/values").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let mut causes = Vec::new();
    let key_fault = names::qualified(key);
    causes.extend(key_fault.map(|why| Cause::invalid(format!("{path}.key"), &key.into(), &why)));
    for value in &values {
        let fault = names::label_value(value);
        causes
            .extend(fault.map(|why| Cause::invalid(format!("{path}.values"), &value.as_str().into(), &why)));
    }
    let takes_values = matches!(operator, "In" | "NotIn");
    if takes_values && values.is_empty() {
        let detail = "must be specified when `operator` is 'In' or 'NotIn'";
        causes.push(Cause::required(format!("{path}.values"), detail));
    } else if !takes_values && !values.is_empty() {
        let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
        causes.push(Cause::forbidden(format!("{path}.values"), detail));
    }
    let test = match operator {
        "In" => Test::In(values),
        "NotIn" => Test::NotIn(values),
        "Exists" => Test::Exists,
        "DoesNotExist" => Test::Absent,
        _ => {
            let why = "not a valid selector operator";
            causes.push(Cause::invalid(format!("{path}.operator"), &operator.into(), why));
            return Err(causes);
        }
    };
    if causes.is_empty() { Ok((key.to_owned(), test)) } else { Err(causes) }
}

fn split_outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    let parts = text.split(move |c: char| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        c == ',' && depth <= 0
    });
    parts.map(str::trim)
}

fn requirement(text: &str) -> Result<(String, Test), SelectorError> {
    if text.is_empty() {
        return Err(SelectorError::Label("found '', expected: identifier after ','".to_owned()));
    }
    let (key, test) = match text.strip_prefix('!') {
        Some(key) => (key, Test::Absent),
        None => test_of(text)?,
    };
    let key = key.trim();
    match crate::names::qualified(key) {
        Some(why) => Err(SelectorError::Label(format!("key {key:?}: {why}"))),
        None => Ok((key.to_owned(), test)),
    }
}

fn test_of(text: &str) -> Result<(&str, Test), SelectorError> {
    if let Some(open) = text.find('(') {
        let inner = text[open + 1..]
            .strip_suffix(')')
            .ok_or_else(|| SelectorError::Label(format!("no ')' in {text:?}")))?;
        let set: Vec<String> = inner.split(',').map(|item| item.trim().to_owned()).collect();
        set.iter().try_for_each(|value| check_value(value))?;
        let head = text[..open].trim_end();
        return match head.rsplit_once(char::is_whitespace) {
            Some((key, "in")) => Ok((key, Test::In(set))),
            Some((key, "notin")) => Ok((key, Test::NotIn(set))),
            _ => Err(SelectorError::Label(format!("found {text:?}, expected: in, notin"))),
        };
    }
    for (operator, negated) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((key, value)) = text.split_once(operator) {
            let value = value.trim();
            check_value(value)?;
            let set = vec![value.to_owned()];
            return Ok((key, if negated { Test::NotIn(set) } else { Test::In(set) }));
        }
    }
    for (operator, greater) in [('>', true), ('<', false)] {
        if let Some((key, value)) = text.split_once(operator) {
            let limit = value
                .trim()
                .parse()
                .map_err(|_| SelectorError::Label(format!("{value:?} is not an integer")))?;
            return Ok((key, if greater { Test::GreaterThan(limit) } else { Test::LessThan(limit) }));
        }
    }
    Ok((text, Test::Exists))
}

fn check_value(value: &str) -> Result<(), SelectorError> {
    match crate::names::label_value(value) {
        Some(why) => Err(SelectorError::Label(format!("value {value:?}: {why}"))),
        None => Ok(()),
    }
}

/// As [`LabelSelector::parse`] reads it, in an order of its own: selectors that say the same in another order read the same.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |values: &[String]| {
            let mut values = values.to_vec();
            values.sort_unstable();
            values.join(",")
        };
        let one = |(key, test): &(String, Test)| match test {
            Test::Exists => key.clone(),
            Test::Absent => format!("!{key}"),
            Test::In(values) => match values.as_slice() {
                [one] => format!("{key}={one}"),
                values => format!("{key} in ({})", set(values)),
            },
            Test::NotIn(values) => match values.as_slice() {
                [one] => format!("{key}!={one}"),
                values => format!("{key} notin ({})", set(values)),
            },
            Test::GreaterThan(number) => format!("{key}>{number}"),
            Test::LessThan(number) => format!("{key}<{number}"),
        };
        let mut parts: Vec<String> = self.0.iter().map(one).collect();
        parts.sort_unstable();
        f.write_str(&parts.join(","))
    }
}

/// As [`FieldSelector::parse`] reads it, in an order of its own.
impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |(field, equal, value): &(String, bool, String)| {
            format!("{field}{}{value}", if *equal { "=" } else { "!=" })
        };
        let mut parts: Vec<String> = self.0.iter().map(one).collect();
        parts.sort_unstable();
        f.write_str(&parts.join(","))
    }
}

/// `field=value` and `field!=value`, all of which must hold. The default matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<(String, bool, String)>);

impl FieldSelector {
    /// # Errors
    /// [`SelectorError`] says which part of `text` cannot be read.
    pub fn parse(text: &str) -> Result<FieldSelector, SelectorError> {
        let mut out = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, equal, value) = match (part.split_once("!="), part.split_once("=")) {
                (Some((key, value)), _) => (key, false, value),
                (None, Some((key, value))) => (key, true, value.strip_prefix('=').unwrap_or(value)),
                (None, None) => return Err(SelectorError::Field(part.to_owned())),
            };
            out.push((key.trim().to_owned(), equal, value.trim().replace('\\', "")));
        }
        Ok(FieldSelector(out))
    }

    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields it looks at, so that the caller can refuse those it does not index.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(field, ..)| field.as_str())
    }

    /// The value that `field` must have, if the selector pins it.
    pub fn pinned(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(name, equal, _)| *equal && name == field).map(|(.., value)| value.as_str())
    }

    /// `value` answers the value of a field; fields an object lacks are empty.
    pub fn matches(&self, fields: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(field, equal, wanted)| {
            let found = fields.get(field).map(String::as_str).unwrap_or_default();
            (found == wanted) == *equal
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn label_selectors_select() {
        let object = labels(&[("app", "web"), ("tier", "1"), ("k.io/x", "")]);
        for (selector, wanted) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app!=web", false),
            ("app", true),
            ("!app", false),
            ("!gone", true),
            ("gone!=x", true),
            ("app in (api, web),tier", true),
            ("app notin (web)", false),
            ("gone notin (web)", true),
            ("tier>0", true),
            ("tier<1", false),
            ("k.io/x=", true),
            ("app = api", false),
        ] {
            assert_eq!(LabelSelector::parse(selector).unwrap().matches(&object), wanted, "{selector}");
        }
        for bad in ["a in b", "a in (b", "=x", "a=-", "a>x", "!", "a b"] {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn selectors_of_objects_select() {
        let object = serde_json::json!({"metadata": {"labels": {"app": "web", "tier": "1"}}});
        for (selector, wanted) in [
            (serde_json::json!(null), true),
            (serde_json::json!({}), true),
            (serde_json::json!({"matchLabels": {"app": "web"}}), true),
            (serde_json::json!({"matchLabels": {"app": "api"}}), false),
            (
                serde_json::json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}),
                true,
            ),
            (
                serde_json::json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
                false,
            ),
            (
                serde_json::json!({"matchExpressions": [{"key": "gone", "operator": "NotIn", "values": ["x"]}]}),
                true,
            ),
            (serde_json::json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}), true),
            (serde_json::json!({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}), false),
        ] {
            let read = LabelSelector::of_object(&selector, "s").unwrap();
            assert_eq!(read.matches_object(&object), wanted, "{selector}");
        }
        let wrong = serde_json::json!({"matchLabels": {"a b": "-"}, "matchExpressions": [
            {"key": "a", "operator": "In"}, {"key": "a", "operator": "Exists", "values": ["b"]},
            {"key": "a", "operator": "Is"}]});
        let causes = LabelSelector::of_object(&wrong, "s").unwrap_err();
        let fields: Vec<&str> = causes.iter().map(|cause| cause.field.as_str()).collect();
        let expected = [
            "s.matchLabels",
            "s.matchLabels",
            "s.matchExpressions[0].values",
            "s.matchExpressions[1].values",
            "s.matchExpressions[2].operator",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn field_selectors_select() {
        let object = labels(&[("spec.nodeName", "n1"), ("status.phase", "Running")]);
        for (selector, wanted) in [
            ("spec.nodeName=n1", true),
            ("spec.nodeName==n1,status.phase!=Failed", true),
            ("spec.nodeName=", false),
            ("metadata.name=", true),
            ("spec.nodeName!=n1", false),
        ] {
            assert_eq!(FieldSelector::parse(selector).unwrap().matches(&object), wanted, "{selector}");
        }
        assert!(FieldSelector::parse("nonsense").is_err());
        assert_eq!(FieldSelector::parse("metadata.name=x").unwrap().pinned("metadata.name"), Some("x"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z!=,()<> .\\-]{0,40}") {
            let _ = LabelSelector::parse(&text);
            let _ = FieldSelector::parse(&text);
        }

        #[test]
        fn equality_and_inequality_are_opposites(key in "[a-z]{1,5}", value in "[a-z0-9]{0,5}", other in "[a-z0-9]{0,5}") {
            let object = labels(&[(&key, &value)]);
            let equal = LabelSelector::parse(&format!("{key}={other}")).unwrap().matches(&object);
            let unequal = LabelSelector::parse(&format!("{key}!={other}")).unwrap().matches(&object);
            prop_assert_ne!(equal, unequal);
        }
    }

    #[test]
    fn a_selector_is_written_as_it_is_read_whatever_the_order() {
        for text in ["a=b,c!=d,e in (f,g),h notin (i,j),!k,n>3,m<7,x", "", "app in (,a)"] {
            let selector = LabelSelector::parse(text).unwrap();
            let written = selector.to_string();
            let again = LabelSelector::parse(&written).unwrap();
            assert_eq!(again.to_string(), written);
            assert_eq!(again.len(), selector.len());
        }
        let written = |text: &str| LabelSelector::parse(text).unwrap().to_string();
        assert_eq!(written("b=1,a in (y,x)"), written("a in (x,y),b==1"));
        let fields = |text: &str| FieldSelector::parse(text).unwrap().to_string();
        assert_eq!(fields("status.phase!=Failed,spec.nodeName=n"), "spec.nodeName=n,status.phase!=Failed");
    }
}
