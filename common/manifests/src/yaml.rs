//! Writes objects as YAML that people read, and templates that Helm fills in.
//!
//! Text with `{{` is an expression of a chart and is written as it is: it quotes itself.

use serde_json::{Map, Value};

use crate::marks::{IF, MORE, THEN, WHY};

const STEP: usize = 2;
/// Comments are wrapped here.
const WIDTH: usize = 110;

/// The YAML of an object.
pub(crate) fn render(tree: &Value) -> String {
    let mut out = String::new();
    match tree {
        Value::Object(fields) if !fields.is_empty() => entries(&mut out, fields, 0),
        other => {
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
    out
}

/// Lines of comment, wrapped.
pub(crate) fn comment(text: &str, indent: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last().map_or(0, String::len);
        if line > 0 && indent + 3 + line + word.len() > WIDTH {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.iter().map(|line| format!("{}# {line}\n", " ".repeat(indent))).collect()
}

/// What is around a value, and the value.
fn opened(value: &Value, indent: usize) -> (String, &Value, String) {
    let Some(inner) = value.get(THEN) else { return (String::new(), value, String::new()) };
    let space = " ".repeat(indent);
    let (mut before, mut after) = (String::new(), String::new());
    if let Some(condition) = value[IF].as_str() {
        before = format!("{space}{{{{- if {condition} }}}}\n");
        after = format!("{space}{{{{- end }}}}\n");
    }
    if let Some(why) = value[WHY].as_str() {
        before.push_str(&comment(why, indent));
    }
    (before, inner, after)
}

fn entries(out: &mut String, fields: &Map<String, Value>, indent: usize) {
    for (key, value) in fields {
        let space = " ".repeat(indent);
        if let (MORE, Some(map)) = (key.as_str(), value.as_str()) {
            out.push_str(&format!(
                "{space}{{{{- with {map} }}}}\n{space}{{{{- toYaml . | nindent {indent} }}}}\n{space}{{{{- end }}}}\n"
            ));
            continue;
        }
        let (before, value, after) = opened(value, indent);
        out.push_str(&before);
        out.push_str(&space);
        out.push_str(&scalar(&Value::String(key.clone())));
        out.push(':');
        below(out, value, indent);
        out.push_str(&after);
    }
}

/// What is after a colon.
fn below(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            out.push('\n');
            entries(out, fields, indent + STEP);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            items.iter().for_each(|item| list_item(out, item, indent + STEP));
        }
        Value::String(text) if text.trim_end().contains('\n') => {
            out.push_str(if text.ends_with('\n') { " |\n" } else { " |-\n" });
            for line in text.lines() {
                let space = if line.is_empty() { 0 } else { indent + STEP };
                out.push_str(&format!("{}{line}\n", " ".repeat(space)));
            }
        }
        other => out.push_str(&format!(" {}\n", scalar(other))),
    }
}

fn list_item(out: &mut String, item: &Value, indent: usize) {
    let (before, item, after) = opened(item, indent);
    out.push_str(&before);
    let space = " ".repeat(indent);
    match item {
        Value::Object(fields) if !fields.is_empty() => {
            let mut inner = String::new();
            entries(&mut inner, fields, indent + STEP);
            out.push_str(&format!("{space}- {}", inner.get(indent + STEP..).unwrap_or_default()));
        }
        other => out.push_str(&format!("{space}- {}\n", scalar(other))),
    }
    out.push_str(&after);
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains("{{") || is_plain(text) => text.clone(),
        // JSON's strings, lists and empty maps are YAML.
        other => other.to_string(),
    }
}

/// Words that YAML 1.1 takes for something else.
const NOT_TEXT: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// True for text that is the same without quotes in every version of YAML.
fn is_plain(text: &str) -> bool {
    let begins = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/');
    let inside = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    begins && text.chars().all(inside) && !NOT_TEXT.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let tree = json!({
            "a": {"b": [1, "x", {"c": "yes", "d": []}, {"e": {"f": {}}}], "text": "one\n\n  two: {}\n", "cut": "a\nb"},
            "odd": ["0644", "1.0", "", "a: b", "# no", "*", "é", "null", "a b", " x", "-", "9091"], "key: odd": true,
            "n": Value::Null, "float": 0.5, "big": 8_388_608,
        });
        assert_eq!(apimachinery::yaml::parse(&render(&tree)).unwrap(), tree);
    }

    #[test]
    fn conditions_and_reasons_stand_around_what_they_are_about() {
        let tree = json!({
            "a": {"$then": "{{ toJson .Values.a }}", "$if": ".Values.a"},
            "list": [{"$then": {"name": "x", "z": {"$then": 1, "$if": "b"}}, "$if": "c", "$why": "because"}],
        });
        let expected = "{{- if .Values.a }}\na: {{ toJson .Values.a }}\n{{- end }}\nlist:\n  {{- if c }}\n  # because\n  - name: x\n    {{- if b }}\n    z: 1\n    {{- end }}\n  {{- end }}\n";
        assert_eq!(render(&tree), expected);
    }

    #[test]
    fn long_comments_are_several_lines() {
        let text = comment(&"word ".repeat(50), 2);
        assert!(text.lines().count() > 1 && text.lines().all(|line| line.len() <= WIDTH), "{text}");
    }
}
