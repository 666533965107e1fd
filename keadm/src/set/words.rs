//! The text of `--set`, in Helm's form: `a.b=1,list={x,y},items[0].name=z`; a backslash takes the meaning of the
//! character after it. Pure.

use anyhow::{Context, bail};

/// One assignment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    /// As typed, for errors.
    pub name: String,
    pub path: Vec<Step>,
    pub value: SetValue,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum SetValue {
    One(String),
    List(Vec<String>),
    /// JSON, which begins with a bracket.
    Json(serde_json::Value),
}

/// Splits the text of one flag.
pub(super) fn assignments(text: &str) -> anyhow::Result<Vec<Assignment>> {
    let mut found = Vec::new();
    for part in split(text, ',') {
        let Some((name, value)) = cut(&part, '=') else {
            bail!("--set {part:?}: wanted key.path=value; a comma that belongs to a value is written \\,")
        };
        found.push(Assignment { path: path(name)?, value: given(value), name: name.to_owned() });
    }
    Ok(found)
}

/// Parts between separators that are neither escaped nor in brackets or JSON's quotes. Escapes stay.
fn split(text: &str, separator: char) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' if depth > 0 => quoted = !quoted,
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => depth = depth.saturating_sub(1),
            c if c == separator && depth == 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    parts.push(part);
    parts
}

/// Cut at the first separator that is not escaped.
fn cut(text: &str, separator: char) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == separator => return Some((&text[..at], &text[at + c.len_utf8()..])),
            _ => {}
        }
    }
    None
}

fn plain(text: &str) -> String {
    let (mut out, mut escaped) = (String::new(), false);
    for c in text.chars() {
        if c == '\\' && !escaped {
            escaped = true;
            continue;
        }
        escaped = false;
        out.push(c);
    }
    out
}

fn path(name: &str) -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();
    for part in split(name, '.') {
        let (key, mut rest) = match cut(&part, '[') {
            Some((key, rest)) => (key, Some(rest)),
            None => (part.as_str(), None),
        };
        if key.is_empty() {
            bail!("--set {name}: a key is empty");
        }
        steps.push(Step::Key(plain(key)));
        while let Some(text) = rest {
            let wanted = || format!("--set {name}: wanted an index such as [0]");
            let (index, more) = text.split_once(']').with_context(wanted)?;
            steps.push(Step::Index(index.parse().with_context(wanted)?));
            rest = match more {
                "" => None,
                more => Some(more.strip_prefix('[').with_context(wanted)?),
            };
        }
    }
    Ok(steps)
}

fn given(text: &str) -> SetValue {
    if (text.starts_with('{') || text.starts_with('['))
        && let Ok(value) = serde_json::from_str(text)
    {
        return SetValue::Json(value);
    }
    match text.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
        Some(inner) => SetValue::List(split(inner, ',').iter().map(|item| plain(item.trim())).collect()),
        None => SetValue::One(plain(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Step {
        Step::Key(name.to_owned())
    }

    fn read(text: &str) -> Vec<(Vec<Step>, SetValue)> {
        let read = assignments(text).unwrap();
        read.into_iter().map(|assignment| (assignment.path, assignment.value)).collect()
    }

    fn one(text: &str) -> SetValue {
        SetValue::One(text.to_owned())
    }

    #[test]
    fn several_assignments_are_in_one_flag() {
        assert_eq!(read("a.b=1,c=x=y"), [(vec![key("a"), key("b")], one("1")), (vec![key("c")], one("x=y"))]);
    }

    #[test]
    fn a_backslash_takes_the_meaning_of_what_follows() {
        let path = vec![key("l"), key("example.com/x")];
        assert_eq!(read(r"l.example\.com/x=a\,b"), [(path, one("a,b"))]);
        assert_eq!(read(r"a=\\"), [(vec![key("a")], one("\\"))]);
    }

    #[test]
    fn lists_are_written_as_helm_writes_them_or_as_json() {
        let list = SetValue::List(vec!["a".into(), "b,c".into()]);
        assert_eq!(read(r"x={a,b\,c},y=1"), [(vec![key("x")], list), (vec![key("y")], one("1"))]);
        let json = SetValue::Json(serde_json::json!(["a", "b,]"]));
        assert_eq!(read(r#"x=["a","b,]"]"#), [(vec![key("x")], json)]);
        assert_eq!(read("x={}"), [(vec![key("x")], SetValue::Json(serde_json::json!({})))]);
    }

    #[test]
    fn items_of_lists_have_indices() {
        let path = vec![key("t"), Step::Index(1), key("key")];
        assert_eq!(read("t[1].key=a"), [(path, one("a"))]);
        for wrong in ["t[x]=1", "t[1=1", "t[1]x=1", "a..b=1", "nonsense", "a=1,b", "=1"] {
            assert!(assignments(wrong).is_err(), "{wrong}");
        }
    }
}
