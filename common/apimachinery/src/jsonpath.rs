//! The subset of JSONPath that printer columns use: `.a.b`, `['a.b']`, `[0]`, `[*]`, `[?(@.type=="Ready")]`.

use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(i64),
    Every,
    /// Elements whose field (dotted) equals the text.
    Where(Vec<String>, String),
}

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath(Vec<Step>);

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("JSONPath {path:?} uses what printer columns do not support, at byte {at}")]
pub struct PathError {
    path: String,
    at: usize,
}

impl JsonPath {
    /// # Errors
    /// [`PathError`] names the place where `text` is no path that columns may use.
    pub fn parse(path: &str) -> Result<JsonPath, PathError> {
        let text = path.trim().trim_start_matches('{').trim_end_matches('}').trim_start_matches('$');
        let mut rest = text;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let at = text.len() - rest.len();
            let step = next(rest).ok_or_else(|| PathError { path: path.to_owned(), at })?;
            if let Some(step) = step.0 {
                steps.push(step);
            }
            rest = step.1;
        }
        Ok(JsonPath(steps))
    }

    /// Everything the path leads to, in order.
    pub fn find<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![object];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| walk(step, value)).collect();
        }
        found
    }
}

fn next(rest: &str) -> Option<(Option<Step>, &str)> {
    if let Some(rest) = rest.strip_prefix('.') {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let key = rest[..end].replace('\\', "");
        return Some(((!key.is_empty()).then_some(Step::Key(key)), &rest[end..]));
    }
    if let Some(inner) = rest.strip_prefix("[?(@.") {
        let (test, rest) = inner.split_once(")]")?;
        let (field, value) = test.split_once("==")?;
        let value = value.trim().trim_matches(['"', '\'']).to_owned();
        let field = field.trim().split('.').map(str::to_owned).collect();
        return Some((Some(Step::Where(field, value)), rest));
    }
    for quote in ['\'', '"'] {
        if let Some(inner) = rest.strip_prefix('[').and_then(|inner| inner.strip_prefix(quote)) {
            let (key, rest) = inner.split_once(quote)?;
            return Some((Some(Step::Key(key.to_owned())), rest.strip_prefix(']')?));
        }
    }
    if let Some(inner) = rest.strip_prefix('[') {
        let (index, rest) = inner.split_once(']')?;
        let step = if index.trim() == "*" { Step::Every } else { Step::Index(index.trim().parse().ok()?) };
        return Some((Some(step), rest));
    }
    // A path may begin without its dot.
    let end = rest.find(['.', '[']).unwrap_or(rest.len());
    (end > 0).then(|| (Some(Step::Key(rest[..end].to_owned())), &rest[end..]))
}

fn walk<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    let list = value.as_array();
    match step {
        Step::Key(key) => value.get(key.as_str()).into_iter().collect(),
        Step::Index(index) => {
            let list = list.map(Vec::as_slice).unwrap_or_default();
            let at = if *index < 0 { *index + list.len() as i64 } else { *index };
            usize::try_from(at).ok().and_then(|at| list.get(at)).into_iter().collect()
        }
        Step::Every => match value {
            Value::Object(map) => map.values().collect(),
            _ => list.into_iter().flatten().collect(),
        },
        Step::Where(field, wanted) => {
            let holds = |item: &&Value| {
                let found = field.iter().try_fold(*item, |at, key| at.get(key.as_str()));
                match found {
                    Some(Value::String(text)) => text == wanted,
                    Some(other) => serde_json::to_string(other).is_ok_and(|text| text == *wanted),
                    None => false,
                }
            };
            list.into_iter().flatten().filter(holds).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn printer_column_paths_find_their_values() {
        let object = json!({
            "spec": {"a.b": 1, "list": [{"n": "x"}, {"n": "y"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Live", "status": "False"}]},
        });
        for (path, want) in [
            (".spec['a.b']", json!([1])),
            (".spec.a\\.b", json!([])),
            (".spec.list[1].n", json!(["y"])),
            (".spec.list[-1].n", json!(["y"])),
            (".spec.list[*].n", json!(["x", "y"])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type=='Live')].status", json!(["False"])),
            ("{.spec.gone}", json!([])),
        ] {
            let found: Vec<Value> =
                JsonPath::parse(path).unwrap().find(&object).into_iter().cloned().collect();
            assert_eq!(Value::Array(found), want, "{path}");
        }
        assert!(JsonPath::parse(".a[x").is_err());
    }
}
