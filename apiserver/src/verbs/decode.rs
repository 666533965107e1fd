//! What becomes of fields that a kind does not have, that come twice or are of another type (`fieldValidation`).

use apimachinery::decode::{self, Strict};
use apimachinery::schemas::Type;
use apimachinery::{Cause, Status, schema};
use serde_json::{Value, json};

use super::Call;
use crate::registry::Served;

/// What a client wants done about fields that would be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Directive {
    Ignore,
    Warn,
    Strict,
}

impl Directive {
    /// `fieldValidation` of a request; `options` is the kind of its options, for messages.
    ///
    /// # Errors
    /// 422 for a word that is none of the three.
    pub(crate) fn of_request(call: &Call<'_>, options: &str) -> Result<Directive, Status> {
        match call.query.get("fieldValidation") {
            "" | "Warn" => Ok(Directive::Warn),
            "Ignore" => Ok(Directive::Ignore),
            "Strict" => Ok(Directive::Strict),
            other => {
                let allowed = ["", "Ignore", "Strict", "Warn"];
                let cause = Cause::unsupported("fieldValidation", &json!(other), &allowed);
                Err(Status::invalid("meta.k8s.io", options, "", vec![cause]))
            }
        }
    }

    /// Reads a whole object, as it comes with create and update.
    ///
    /// # Errors
    /// 400 for what has another type, and under `Strict` for what would be dropped.
    pub(crate) fn object(self, call: &Call<'_>, read: Strict) -> Result<Value, Status> {
        let Strict { mut value, duplicates } = read;
        let refused = |why: String| {
            let (kind, version) = (&call.target.served.resource.kind, &call.target.served.version().name);
            Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
        };
        let dropped = drop_unknown(&call.target.served, &mut value).map_err(refused)?;
        let mut told = duplicates_told(&duplicates);
        told.extend(dropped);
        self.tell(call, told, |told| refused(format!("strict decoding error: {}", told.join(", "))))?;
        Ok(value)
    }

    /// Reads what a patch made of `old`; `duplicates` are those of the patch. Both have type and kind.
    ///
    /// # Errors
    /// 422 for what has another type, and under `Strict` for what would be dropped.
    pub(crate) fn patched(
        self,
        call: &Call<'_>,
        old: &Value,
        mut value: Value,
        duplicates: &[String],
    ) -> Result<Value, Status> {
        let refused = |value: &Value, why: &str| {
            let cause = Cause::invalid("patch", &json!(value.to_string()), why);
            Status::invalid("", "", "", vec![cause])
        };
        let dropped =
            drop_new_unknown(&call.target.served, old, &mut value).map_err(|why| refused(&value, &why))?;
        let mut told = duplicates_told(duplicates);
        told.extend(dropped);
        let strictly =
            |told: &[String]| refused(&value, &format!("strict decoding error: {}", told.join(", ")));
        self.tell(call, told, strictly)?;
        Ok(value)
    }

    /// Tells of what came twice in what is applied; what does not fit the schema is refused before.
    ///
    /// # Errors
    /// 400 under `Strict`.
    pub(crate) fn applied(self, call: &Call<'_>, duplicates: &[String]) -> Result<(), Status> {
        let keys = |path: &String| path.rsplit('.').next().unwrap_or_default().to_owned();
        let lines: Vec<String> = duplicates
            .iter()
            .map(|path| format!("yaml: unmarshal errors: key {:?} already set in map", keys(path)))
            .collect();
        self.tell(call, lines, |told| {
            Status::bad_request(format!("error strict decoding patch: {}", told.join(", ")))
        })
    }

    fn tell(
        self,
        call: &Call<'_>,
        told: Vec<String>,
        refuse: impl FnOnce(&[String]) -> Status,
    ) -> Result<(), Status> {
        match self {
            Directive::Strict if !told.is_empty() => Err(refuse(&told)),
            Directive::Warn => {
                told.into_iter().for_each(|text| call.warnings.add(text));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn duplicates_told(duplicates: &[String]) -> Vec<String> {
    duplicates.iter().map(|path| format!("duplicate field {path:?}")).collect()
}

/// [`drop_unknown`] of what differs from `old`, which was read before.
fn drop_new_unknown(served: &Served, old: &Value, value: &mut Value) -> Result<Vec<String>, String> {
    let resource = &served.resource;
    match Type::of_kind(&resource.group, &served.version().name, &resource.kind) {
        Some(of) if !resource.custom => decode::changed(value, old, of).map_err(|error| error.to_string()),
        _ => drop_unknown(served, value),
    }
}

/// Drops what the kind does not have, and returns what a strict reader complains of. Custom resources get their defaults.
pub(super) fn drop_unknown(served: &Served, value: &mut Value) -> Result<Vec<String>, String> {
    let (resource, version) = (&served.resource, served.version());
    if !value.is_object() {
        return Ok(vec![]);
    }
    if !resource.custom {
        let Some(of) = Type::of_kind(&resource.group, &version.name, &resource.kind) else {
            return Ok(vec![]);
        };
        return decode::built_in(value, of).map_err(|error| error.to_string());
    }
    let mut told = decode::metadata(value).map_err(|error| error.to_string())?;
    if let Some(schema) = &version.schema {
        told.extend(schema::prune(value, schema).into_iter().map(|field| format!("unknown field {field:?}")));
        schema::defaults(value, schema);
    }
    Ok(told)
}
