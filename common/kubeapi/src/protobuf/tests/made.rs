//! Values of every message, made from the table.

use apimachinery::messages::{self, Field, Kind, Message, Of, Shape};
use serde_json::{Map, Value, json};

use crate::protobuf::{decode, encode};

/// A value of every field, some levels deep; below these, what a message without fields is in JSON.
fn made(message: Message, depth: usize, seed: &mut u32) -> Value {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    let turn = *seed >> 16;
    let text = || json!(format!("text {turn} é"));
    match message.kind() {
        Kind::Time => json!("2026-01-02T03:04:05Z"),
        Kind::MicroTime => json!("1969-12-31T23:59:59.000123Z"),
        Kind::Duration => json!("1h2m3.5s"),
        Kind::Quantity => json!(["1500m", "0", "3Gi", "-2k"][turn as usize % 4]),
        Kind::IntOrString => [json!(-5), text()][turn as usize % 2].clone(),
        Kind::Raw => json!({ "f:a": { ".": {} }, "list": [1, 2.5, null, "x"] }),
        Kind::List => json!(["a", ""]),
        Kind::SchemaOrBool if turn.is_multiple_of(3) => json!(turn.is_multiple_of(2)),
        Kind::SchemaOrList if turn.is_multiple_of(2) => json!([schema(message, 0, depth, seed)]),
        Kind::SchemaOrTexts if turn.is_multiple_of(2) => json!(["a", "b"]),
        Kind::SchemaOrBool => schema(message, 1, depth, seed),
        Kind::SchemaOrList | Kind::SchemaOrTexts => schema(message, 0, depth, seed),
        Kind::Struct if depth == 0 => Value::Object(decode::object(message, &[]).unwrap()),
        Kind::Struct => {
            let fields = message.names().map(|name| {
                let (_, field) = message.named(name).unwrap();
                (name.to_owned(), field_of(&field, depth - 1, seed))
            });
            Value::Object(fields.collect())
        }
    }
}

fn schema(message: Message, index: usize, depth: usize, seed: &mut u32) -> Value {
    match message.field(index).map(|field| field.of) {
        Some(Of::Message(schema)) => made(schema, depth.saturating_sub(1), seed),
        other => panic!("{} has {other:?}", message.name()),
    }
}

fn field_of(field: &Field, depth: usize, seed: &mut u32) -> Value {
    let mut one = || match field.of {
        Of::String => json!("a\u{0}\"é"),
        Of::Bool => json!(true),
        Of::Int32 => json!(i32::MIN),
        Of::Int64 => json!(i64::MAX),
        Of::Double => json!(-2.5),
        Of::Bytes => json!("AP8="),
        Of::Message(message) => made(message, depth, seed),
    };
    match field.shape {
        Shape::One => one(),
        Shape::Repeated => json!([one(), one()]),
        Shape::Map => Value::Object(Map::from_iter([("".to_owned(), one()), ("b".to_owned(), one())])),
    }
}

fn encoded(message: Message, json: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    encode::object(message, json, &mut out).unwrap();
    out
}

fn structs() -> impl Iterator<Item = Message> {
    messages::all().filter(|message| message.kind() == Kind::Struct)
}

#[test]
fn every_field_of_every_message_survives_the_way_there_and_back() {
    let mut count = 0;
    for (message, turn) in structs().flat_map(|message| [(message, 1), (message, 2), (message, 3)]) {
        let value = made(message, 3, &mut { turn });
        let bytes = encoded(message, &value);
        assert_eq!(Value::Object(decode::object(message, &bytes).unwrap()), value, "{}", message.name());
        // Text and tree are written the same.
        let mut from_text = Vec::new();
        let text = value.to_string();
        encode::object(message, &mut serde_json::Deserializer::from_str(&text), &mut from_text).unwrap();
        assert!(from_text == bytes, "{}", message.name());
        count += 1;
    }
    assert!(count > 1_500, "{count}");
}

#[test]
fn what_is_not_set_is_written_as_its_zero_and_read_as_not_set() {
    for message in structs() {
        let empty = Value::Object(decode::object(message, &[]).unwrap());
        let bytes = encoded(message, &json!({}));
        assert_eq!(encoded(message, &empty), bytes, "{}", message.name());
        assert_eq!(Value::Object(decode::object(message, &bytes).unwrap()), empty, "{}", message.name());
    }
}
