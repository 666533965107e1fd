//! What the Go types beside the messages say of their fields: the names in JSON, what JSON leaves out, and which are pointers.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result};

#[derive(Default)]
pub(super) struct Types {
    /// By type and field number.
    fields: HashMap<(String, u8), Tagged>,
    kinds: HashSet<String>,
}

/// How Go has a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tagged {
    /// In JSON; empty for what is inlined.
    pub json: String,
    pub is_inline: bool,
    pub is_pointer: bool,
    pub omits_empty: bool,
    pub omits_zero: bool,
}

impl Types {
    /// Reads a file: structs at its outermost level, one field a line.
    pub(super) fn add(&mut self, text: &str) -> Result<()> {
        let mut of: Option<&str> = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("type ") {
                of = rest.strip_suffix(" struct {");
            } else if line.starts_with('}') {
                of = None;
            } else if let Some(name) = of {
                self.line(name, line.trim()).with_context(|| format!("the line `{line}` of {name}"))?;
            }
        }
        Ok(())
    }

    fn line(&mut self, of: &str, line: &str) -> Result<()> {
        if line.starts_with("//") {
            return Ok(());
        }
        let mut parts = line.split('`');
        let (declared, tag) = (parts.next().unwrap_or_default().trim(), parts.next().unwrap_or_default());
        let json = value(tag, "json").unwrap_or_default();
        let Some(wire) = value(tag, "protobuf") else {
            if declared.ends_with("TypeMeta") && json == ",inline" {
                self.kinds.insert(of.to_owned());
            }
            return Ok(());
        };
        if wire == "-" {
            return Ok(());
        }
        let number = wire.split(',').nth(1).context("no number")?.parse().context("a number above 255")?;
        let mut words = json.split(',');
        let name = words.next().unwrap_or_default().to_owned();
        let has = |word| words.clone().any(|one| one == word);
        let is_pointer = declared.split_whitespace().nth(1).is_some_and(|declared| declared.starts_with('*'));
        let tagged = Tagged {
            is_inline: has("inline"),
            is_pointer,
            omits_empty: has("omitempty"),
            omits_zero: has("omitzero"),
            json: name,
        };
        self.fields.insert((of.to_owned(), number), tagged);
        Ok(())
    }

    pub(super) fn field(&self, message: &str, number: u8) -> Option<&Tagged> {
        self.fields.get(&(message.to_owned(), number))
    }

    /// True for what has a kind and an API version of its own.
    pub(super) fn is_kind(&self, message: &str) -> bool {
        self.kinds.contains(message)
    }
}

fn value<'a>(tag: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = tag.split_once(&format!("{key}:\""))?;
    rest.split('"').next()
}

/// The API group that a `register.go` names.
pub(super) fn group(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line.trim();
        let (name, value) = line.strip_prefix("const ").unwrap_or(line).split_once('=')?;
        (name.trim() == "GroupName").then(|| value.trim().trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_say_how_a_field_is_written() {
        let mut types = Types::default();
        let text = "type A struct {\n\tmetav1.TypeMeta `json:\",inline\"`\n\t// B `json:\"x\" protobuf:\"bytes,9\"`\n\
                    \tB *string `json:\"b,omitempty\" protobuf:\"bytes,3,opt,name=b\"`\n\
                    \tC `json:\",inline\" protobuf:\"bytes,1,req\"`\n}\n";
        types.add(text).unwrap();
        let b = Tagged { json: "b".to_owned(), is_pointer: true, omits_empty: true, ..Tagged::default() };
        assert_eq!(types.field("A", 3), Some(&b));
        assert_eq!(types.field("A", 1), Some(&Tagged { is_inline: true, ..Tagged::default() }));
        assert_eq!((types.field("A", 9), types.is_kind("A")), (None, true));
        assert_eq!(group("const GroupName = \"apps\"").as_deref(), Some("apps"));
    }
}
