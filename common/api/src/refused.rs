//! Whose certificates no port of CloudCore takes: config map `kubeedge/refused-nodes`. Every replica watches it;
//! `keadm node` writes it, and CloudCore when a node object is deleted.
//!
//! A key is the name of a node, or `serial_` and a certificate's serial number in hexadecimal digits. The value is an
//! [`RefusedNode`] as JSON; any other text refuses whoever the key names, and is taken for the reason, so that an operator
//! can write the map by hand. Entries name nodes and times, not certificate authorities: they outlive these.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub const NAMESPACE: &str = "kubeedge";
pub const NAME: &str = "refused-nodes";

/// Annotation of a node: fingerprint of the CA that signed the certificate it has. Written by CloudCore alone.
pub const SIGNED_BY: &str = "causeway.io/certificate-signed-by";

/// No node's name has an underscore.
const SERIAL: &str = "serial_";
/// Longest reason kept, in bytes: the map has 1 MiB for all nodes.
const REASON: usize = 128;

/// Why and how far a node is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RefusedNode {
    /// Certificates that begin at this time (Unix seconds) or before are refused: a machine that joins with a token later
    /// may have the name. `None`: whoever comes by this name, with a token as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins_until: Option<i64>,
    #[serde(default)]
    pub reason: String,
    /// When it was written, RFC 3339.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub since: String,
    /// The node object that was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

impl RefusedNode {
    /// Reads one value of the map.
    pub fn read(text: &str) -> RefusedNode {
        serde_json::from_str(text)
            .unwrap_or_else(|_| RefusedNode { reason: cut(text), ..RefusedNode::default() })
    }

    /// The value written.
    pub fn text(&self) -> String {
        // Texts and numbers always have a JSON form.
        serde_json::to_string(&RefusedNode { reason: cut(&self.reason), ..self.clone() }).unwrap_or_default()
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(REASON)].to_owned()
}

/// The key of the certificate with this serial number: hexadecimal digits, with or without colons as tools print them.
/// `None`: it is none.
pub fn serial_key(serial: &str) -> Option<String> {
    let digits: String = serial.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
    let digits = digits.strip_prefix("0x").unwrap_or(&digits).trim_start_matches('0');
    let fits = (1..=40).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    fits.then(|| format!("{SERIAL}{digits}"))
}

/// A certificate as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented<'a> {
    pub node: &'a str,
    /// Its first second (Unix).
    pub begins: i64,
    /// Hexadecimal digits.
    pub serial: &'a str,
}

/// The whole list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    entries: BTreeMap<String, RefusedNode>,
}

impl Refused {
    /// Reads a config map; `None` if it is none. A value that is no text refuses whoever its key names.
    pub fn of_map(map: &Value) -> Option<Refused> {
        let data = match &map["data"] {
            Value::Null => return map.is_object().then(Refused::default),
            data => data.as_object()?,
        };
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(Refused::read(&data.iter().map(|(key, value)| (key.clone(), text(value))).collect()))
    }

    /// Reads the map's `data`.
    pub fn read(data: &BTreeMap<String, String>) -> Refused {
        Refused { entries: data.iter().map(|(key, text)| (key.clone(), RefusedNode::read(text))).collect() }
    }

    pub fn entries(&self) -> &BTreeMap<String, RefusedNode> {
        &self.entries
    }

    /// The entry that refuses a certificate.
    pub fn of_certificate(&self, presented: &Presented<'_>) -> Option<&RefusedNode> {
        let by_name = self.entries.get(presented.node);
        let by_name =
            by_name.filter(|entry| entry.begins_until.is_none_or(|until| presented.begins <= until));
        by_name.or_else(|| self.entries.get(&serial_key(presented.serial)?))
    }

    /// The entry that refuses a join token for `node`.
    pub fn of_join(&self, node: &str) -> Option<&RefusedNode> {
        self.entries.get(node).filter(|entry| entry.begins_until.is_none())
    }

    /// The first second a new certificate of `node` may have.
    pub fn begins_after(&self, node: &str) -> Option<i64> {
        Some(self.entries.get(node)?.begins_until?.saturating_add(1))
    }

    /// Keys of entries that refuse nothing any more: no certificate that old is in force. `lifetime` in seconds.
    pub fn over(&self, now: i64, lifetime: i64) -> Vec<String> {
        let over = |entry: &RefusedNode| {
            entry.begins_until.is_some_and(|until| until.saturating_add(lifetime) < now)
        };
        self.entries.iter().filter(|(_, entry)| over(entry)).map(|(key, _)| key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(&str, &str)]) -> Refused {
        Refused::read(&entries.iter().map(|(key, text)| (key.to_string(), text.to_string())).collect())
    }

    #[test]
    fn a_removed_node_is_refused_with_its_old_certificates_and_a_blocked_one_with_all() {
        let refused = list(&[
            ("gone", r#"{"beginsUntil": 100, "reason": "removed"}"#),
            ("bad", r#"{"reason": "stolen"}"#),
            ("by-hand", "because"),
            ("typo", r#"{"beginsUntli": 100}"#),
            ("serial_ab12", "{}"),
        ]);
        let by = |node: &str, begins: i64, serial: &str| {
            refused.of_certificate(&Presented { node, begins, serial }).map(|entry| entry.reason.clone())
        };
        assert_eq!(by("gone", 100, "1").as_deref(), Some("removed"));
        assert_eq!(by("gone", 101, "1"), None);
        assert_eq!(by("bad", i64::MAX, "1").as_deref(), Some("stolen"));
        assert_eq!(by("by-hand", 7, "1").as_deref(), Some("because"));
        assert!(by("typo", 7, "1").is_some(), "what cannot be read refuses");
        assert_eq!(by("other", 7, "1"), None);
        assert!(by("other", 7, "00AB12").is_some() && by("other", 7, "ab:12").is_some());
        assert!(refused.of_join("bad").is_some() && refused.of_join("gone").is_none());
        assert_eq!(refused.begins_after("gone"), Some(101));
        assert_eq!(refused.over(100 + 50, 50), Vec::<String>::new());
        assert_eq!(refused.over(101 + 50, 50), ["gone"]);
    }

    #[test]
    fn a_map_that_cannot_be_read_lets_nobody_in() {
        let map = |text: &str| Refused::of_map(&serde_json::from_str(text).unwrap());
        let refused = map(r#"{"data": {"bad": 7, "worse": null, "listed": "{}"}}"#).unwrap();
        assert!(["bad", "worse", "listed"].iter().all(|node| refused.of_join(node).is_some()));
        assert_eq!(map(r#"{"data": ["bad"]}"#), None);
        assert_eq!(map("[]"), None);
        assert_eq!(map(r#"{"data": null}"#), Some(Refused::default()));
        assert_eq!(map("{}"), Some(Refused::default()));
    }

    #[test]
    fn serial_numbers_are_taken_as_tools_print_them() {
        assert_eq!(serial_key("0x0AB1").as_deref(), Some("serial_ab1"));
        assert_eq!(serial_key("0a:b1").as_deref(), Some("serial_ab1"));
        assert_eq!(serial_key("edge-1"), None);
        assert_eq!(serial_key(""), None);
        assert_eq!(serial_key(&"a".repeat(41)), None);
    }

    #[test]
    fn an_entry_is_read_as_it_was_written_and_its_reason_is_cut() {
        let entry =
            RefusedNode { begins_until: Some(5), reason: "ä".repeat(100), since: "t".into(), uid: None };
        let read = RefusedNode::read(&entry.text());
        assert_eq!((read.begins_until, read.reason.len()), (Some(5), 128));
    }
}
