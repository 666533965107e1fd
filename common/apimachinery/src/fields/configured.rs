//! Apply configurations of MutatingAdmissionPolicies: merged as server-side apply merges, and owned by nobody
//! (`apiserver/pkg/admission/plugin/policy/mutating/patch/smd.go`).

use serde_json::Value;

use super::merge::merge;
use super::schema::Atom;
use super::validate;
use super::{Element, Schema};

/// `live` with what `wanted` says. Both have a kind.
///
/// # Errors
/// What does not fit the schema, or would put a part that is owned as a whole in the place of another one.
pub fn configured(live: &Value, wanted: &Value, schema: Schema<'_>) -> Result<Value, String> {
    let problems = validate::problems(wanted, schema);
    if let Some(first) = problems.first() {
        return Err(format!("failed to convert patch object to typed object: {first}"));
    }
    let mut found = Vec::new();
    wholes(wanted, schema, &mut String::new(), &mut found);
    match found.is_empty() {
        true => Ok(merge(live, wanted, schema)),
        false => Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            found.join(", ")
        )),
    }
}

/// The paths of parts that are owned as a whole. Below keys of maps that are data, none are looked for.
fn wholes(value: &Value, schema: Schema<'_>, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    match (schema.atom(value), value) {
        (Atom::Map { is_atomic }, Value::Object(map)) => {
            found.extend(is_atomic.then(|| path.clone()));
            for (key, value) in map.iter().filter(|(key, _)| schema.is_declared(key)) {
                path.push_str(&Element::Field(key.clone()).to_string());
                wholes(value, schema.field(key).unwrap_or(Schema::ANY), path, found);
                path.truncate(length);
            }
        }
        (atom @ (Atom::Whole | Atom::Items), Value::Array(items)) => {
            found.extend((atom == Atom::Whole).then(|| path.clone()));
            for (at, item) in items.iter().enumerate() {
                path.push_str(&format!("[{at}]"));
                wholes(item, schema.item(), path, found);
                path.truncate(length);
            }
        }
        _ => {}
    }
}
