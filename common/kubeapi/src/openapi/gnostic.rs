//! The protobuf form of an OpenAPI v2 document (gnostic's `openapiv2/OpenAPIv2.proto`, whose field numbers these are): the only one
//! that kubectl takes.

use serde_json::{Map, Value};

/// A message being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u64, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    fn message(&mut self, field: u64, inner: &Message) {
        self.bytes(field, &inner.0);
    }

    fn flag(&mut self, field: u64, value: bool) {
        self.varint(field << 3);
        self.varint(u64::from(value));
    }

    fn integer(&mut self, field: u64, value: i64) {
        self.varint(field << 3);
        self.varint(value.cast_unsigned());
    }

    fn double(&mut self, field: u64, value: f64) {
        self.varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    /// One entry of what protobuf has in place of a map.
    fn named(&mut self, field: u64, name: &str, value: &Message) {
        let mut entry = Message::default();
        entry.text(1, name);
        entry.message(2, value);
        self.message(field, &entry);
    }

    /// What begins with `x-`, as YAML, which JSON is.
    fn extensions(&mut self, field: u64, map: &Map<String, Value>) {
        for (key, value) in map.iter().filter(|(key, _)| key.starts_with("x-")) {
            self.named(field, key, &any(value));
        }
    }
}

fn any(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(2, &value.to_string());
    out
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn entries<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.get(key).and_then(Value::as_object).into_iter().flatten()
}

/// The document that `v2::document` makes.
pub(super) fn document(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, text_of(document, "swagger"));
    let mut info = Message::default();
    info.text(1, text_of(&document["info"], "title"));
    info.text(2, text_of(&document["info"], "version"));
    out.message(2, &info);
    let mut paths = Message::default();
    for (path, item) in entries(document, "paths") {
        paths.named(2, path, &path_item(item));
    }
    out.message(8, &paths);
    let mut definitions = Message::default();
    for (name, definition) in entries(document, "definitions") {
        definitions.named(1, name, &schema(definition));
    }
    out.message(9, &definitions);
    out.0
}

fn path_item(item: &Value) -> Message {
    let mut out = Message::default();
    for (field, verb) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(found) = item.get(verb) {
            out.message(field, &operation(found));
        }
    }
    for each in parameters(item) {
        out.message(9, &each);
    }
    out
}

/// `parameters` of an operation or a path, each as a `ParametersItem`.
fn parameters(of: &Value) -> Vec<Message> {
    let all = of["parameters"].as_array().into_iter().flatten();
    all.map(|each| {
        let mut inner = Message::default();
        let place = text_of(each, "in");
        let within: &[u64] = if place == "body" {
            inner.text(2, text_of(each, "name"));
            inner.text(3, place);
            inner.flag(4, each["required"] == true);
            inner.message(5, &schema(&each["schema"]));
            // Parameter, ParametersItem
            &[1, 1]
        } else {
            let is_path = place == "path";
            if is_path {
                inner.flag(1, true);
            }
            inner.text(2, place);
            inner.text(4, text_of(each, "name"));
            inner.text(if is_path { 5 } else { 6 }, text_of(each, "type"));
            inner.flag(if is_path { 19 } else { 20 }, true);
            // NonBodyParameter, Parameter, ParametersItem
            if is_path { &[4, 2, 1] } else { &[3, 2, 1] }
        };
        within.iter().fold(inner, |inner, field| {
            let mut outer = Message::default();
            outer.message(*field, &inner);
            outer
        })
    })
    .collect()
}

fn operation(operation: &Value) -> Message {
    let mut out = Message::default();
    out.text(5, text_of(operation, "operationId"));
    for each in parameters(operation) {
        out.message(8, &each);
    }
    let mut responses = Message::default();
    for (code, response) in entries(operation, "responses") {
        let (mut inner, mut value) = (Message::default(), Message::default());
        inner.text(1, text_of(response, "description"));
        if let Some(of) = response.get("schema") {
            let mut item = Message::default();
            item.message(1, &schema(of));
            inner.message(2, &item);
        }
        value.message(1, &inner);
        responses.named(1, code, &value);
    }
    out.message(9, &responses);
    if let Some(map) = operation.as_object() {
        out.extensions(13, map);
    }
    out
}

fn schema(schema_value: &Value) -> Message {
    let mut out = Message::default();
    let Some(map) = schema_value.as_object() else { return out };
    for (key, value) in map {
        let texts = [("$ref", 1), ("format", 2), ("title", 3), ("description", 4), ("pattern", 13)];
        let numbers = [("multipleOf", 6), ("maximum", 7), ("minimum", 9)];
        let flags =
            [("exclusiveMaximum", 8), ("exclusiveMinimum", 10), ("uniqueItems", 16), ("readOnly", 27)];
        let counts = [
            ("maxLength", 11),
            ("minLength", 12),
            ("maxItems", 14),
            ("minItems", 15),
            ("maxProperties", 17),
            ("minProperties", 18),
        ];
        let field =
            |table: &[(&str, u64)]| table.iter().find(|(name, _)| name == key).map(|(_, field)| *field);
        if let (Some(field), Some(text)) = (field(&texts), value.as_str()) {
            out.text(field, text);
        } else if let (Some(field), Some(number)) = (field(&numbers), value.as_f64()) {
            out.double(field, number);
        } else if let (Some(field), Some(value)) = (field(&flags), value.as_bool()) {
            out.flag(field, value);
        } else if let (Some(field), Some(count)) = (field(&counts), value.as_i64()) {
            out.integer(field, count);
        } else {
            composed(&mut out, key, value);
        }
    }
    out.extensions(31, map);
    out
}

/// The parts of a schema that are more than a text or a number.
fn composed(out: &mut Message, key: &str, value: &Value) {
    let mut inner = Message::default();
    match key {
        "default" => out.message(5, &any(value)),
        "required" => {
            let names = value.as_array().into_iter().flatten().filter_map(Value::as_str);
            names.for_each(|name| out.text(19, name));
        }
        "enum" => value.as_array().into_iter().flatten().for_each(|value| out.message(20, &any(value))),
        "additionalProperties" => {
            match value.as_bool() {
                Some(allowed) => inner.flag(2, allowed),
                None => inner.message(1, &schema(value)),
            }
            out.message(21, &inner);
        }
        "type" => {
            inner.text(1, value.as_str().unwrap_or_default());
            out.message(22, &inner);
        }
        "items" => {
            inner.message(1, &schema(value));
            out.message(23, &inner);
        }
        "properties" => {
            for (name, value) in value.as_object().into_iter().flatten() {
                inner.named(1, name, &schema(value));
            }
            out.message(25, &inner);
        }
        _ => {}
    }
}
