//! Custom resources: `additionalPrinterColumns`, or Age alone.

use apimachinery::jsonpath::JsonPath;
use apimachinery::object::{integer, text};
use serde_json::{Value, json};

use super::{Column, own_name, since};

pub(crate) struct Columns {
    columns: Vec<Column>,
    /// Of all columns but the first, which is the name.
    paths: Vec<Option<JsonPath>>,
}

impl Columns {
    pub(super) fn of(declared: &[Value]) -> Columns {
        let age = json!([{ "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" }]);
        let default = age.as_array().map(Vec::as_slice).unwrap_or_default();
        let declared = if declared.is_empty() { default } else { declared };
        let mut columns = vec![Column::name()];
        columns.extend(declared.iter().map(|column| Column {
            name: text(column, "/name").to_owned(),
            kind: match text(column, "/type") {
                "date" => "date",
                "integer" => "integer",
                "number" => "number",
                "boolean" => "boolean",
                _ => "string",
            },
            format: "",
            description: text(column, "/description").to_owned(),
            priority: integer(column, "/priority").unwrap_or(0),
        }));
        let paths = declared.iter().map(|column| JsonPath::parse(text(column, "/jsonPath")).ok()).collect();
        Columns { columns, paths }
    }

    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub(super) fn cells(&self, object: &Value, now: i64) -> Vec<Value> {
        let cell = |(column, path): (&Column, &Option<JsonPath>)| {
            let found = path.as_ref().map(|path| path.find(object)).unwrap_or_default();
            match (column.kind, found.first()) {
                (_, None) => Value::Null,
                ("date", Some(value)) => json!(since(value.as_str().unwrap_or_default(), now)),
                ("integer" | "number" | "boolean", Some(value)) => (*value).clone(),
                (_, Some(Value::String(text))) if found.len() == 1 => json!(text),
                (_, Some(_)) => {
                    let texts = found.iter().map(|value| match value {
                        Value::String(text) => text.clone(),
                        other => other.to_string(),
                    });
                    json!(texts.collect::<Vec<_>>().join(","))
                }
            }
        };
        let mut cells = vec![own_name(object)];
        cells.extend(self.columns.iter().skip(1).zip(&self.paths).map(cell));
        cells
    }
}
