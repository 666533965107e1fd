//! The text of an object before its revision is known.

use serde_json::Value;

/// JSON with a gap where `metadata.resourceVersion` has its digits.
pub(super) struct Body {
    text: String,
    gap: usize,
}

impl Body {
    /// Of an object; a revision that it has is left out.
    pub(super) fn of(object: &Value) -> Body {
        let mut body = Body { text: String::with_capacity(512), gap: 0 };
        body.text.push('{');
        let none = serde_json::Map::new();
        let entries = object.as_object().unwrap_or(&none);
        let missing = Some(("metadata", &Value::Null)).filter(|_| !entries.contains_key("metadata"));
        for (key, value) in entries.iter().map(|(key, value)| (key.as_str(), value)).chain(missing) {
            body.key(key);
            match key {
                "metadata" => body.metadata(value),
                _ => body.text.push_str(&value.to_string()),
            }
        }
        body.text.push('}');
        body
    }

    /// The whole text.
    pub(super) fn at(&self, revision: i64) -> String {
        let (before, after) = self.text.split_at(self.gap);
        [before, &revision.to_string(), after].concat()
    }

    fn metadata(&mut self, metadata: &Value) {
        self.text.push('{');
        for (key, value) in metadata.as_object().into_iter().flatten() {
            if key != "resourceVersion" {
                self.key(key);
                self.text.push_str(&value.to_string());
            }
        }
        self.key("resourceVersion");
        self.text.push('"');
        self.gap = self.text.len();
        self.text.push_str("\"}");
    }

    fn key(&mut self, key: &str) {
        if !self.text.ends_with('{') {
            self.text.push(',');
        }
        self.text.push_str(&Value::from(key).to_string());
        self.text.push(':');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_gets_its_revision_and_is_otherwise_what_it_was() {
        let objects = [
            json!({}),
            json!({"metadata": {}}),
            json!({"metadata": {"name": "a\"b", "resourceVersion": "7", "labels": {"x": "{"}}, "spec": {"n": [1, null]}}),
            json!({"a": {}, "metadata": {"name": "\u{1F600}"}, "resourceVersion": "3"}),
        ];
        for mut object in objects {
            let text = Body::of(&object).at(12);
            object["metadata"]["resourceVersion"] = json!("12");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), object, "{text}");
        }
    }
}
