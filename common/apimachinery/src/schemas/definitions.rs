//! The definitions of Kubernetes' OpenAPI document, with descriptions, unpacked on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use serde_json::{Map, Value};

/// One JSON object; descriptions are numbers.
static DEFINITIONS: &[u8] = include_bytes!("../../schemas/definitions.deflate");
/// Texts, each ended by a zero byte.
static DESCRIPTIONS: &[u8] = include_bytes!("../../schemas/descriptions.deflate");

/// The key of descriptions in schemas.
pub const DESCRIPTION: &str = "description";
/// What references begin with.
pub const PREFIX: &str = "#/definitions/";

/// Bytes that either part may have unpacked.
const LIMIT: u64 = 16 * 1024 * 1024;

/// Which edition of the schemas is in the program: changes when they do.
pub fn edition() -> u64 {
    // FNV-1a: a mark of equality, nothing that must resist anybody.
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    DEFINITIONS.iter().chain(DESCRIPTIONS).fold(0xcbf2_9ce4_8422_2325, mix)
}

fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // What is in the program unpacks, which the tests show; a part that did not would be left out.
    let _ = flate2::read::DeflateDecoder::new(packed).take(LIMIT).read_to_end(&mut out);
    out
}

/// The definitions for which `wanted` is true, given their name, and all they refer to, in the form of OpenAPI v2: references
/// are `#/definitions/NAME`.
pub fn definitions(wanted: impl Fn(&Value) -> bool) -> BTreeMap<String, Value> {
    let all: Map<String, Value> = serde_json::from_slice(&unpack(DEFINITIONS)).unwrap_or_default();
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<String> =
        all.iter().filter(|(_, schema)| wanted(schema)).map(|(name, _)| name.clone()).collect();
    while let Some(name) = open.pop() {
        if let Some(schema) = all.get(&name)
            && names.insert(name)
        {
            references(schema, &mut |reference| open.push(reference.to_owned()));
        }
    }
    let texts = unpack(DESCRIPTIONS);
    let texts: Vec<&str> =
        texts.split(|byte| *byte == 0).map(|text| std::str::from_utf8(text).unwrap_or_default()).collect();
    let chosen = all.into_iter().filter(|(name, _)| names.contains(name));
    chosen
        .map(|(name, mut schema)| {
            describe(&mut schema, &texts);
            (name, schema)
        })
        .collect()
}

/// Calls `found` for each name that a schema refers to.
pub fn references(schema: &Value, found: &mut dyn FnMut(&str)) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str().filter(|_| key == "$ref").and_then(|text| text.strip_prefix(PREFIX)) {
                    Some(name) => found(name),
                    None => references(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// Puts texts in the place of their numbers.
fn describe(schema: &mut Value, texts: &[&str]) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_u64().filter(|_| key == DESCRIPTION) {
                    Some(number) => {
                        let text = usize::try_from(number).ok().and_then(|number| texts.get(number));
                        *value = Value::from(text.copied().unwrap_or_default());
                    }
                    None => describe(value, texts),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| describe(item, texts)),
        _ => {}
    }
}
