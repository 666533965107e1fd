//! What becomes of fields that a kind does not have, that come twice or are of another type (`fieldValidation`).

use apimachinery::decode::{self, Decoding, Strict};
use apimachinery::patch::PatchKind;
use apimachinery::schemas::Type;
use apimachinery::{Cause, Status, schema};
use kubeapi::faces;
use kubeapi::registry::Served;
use serde_json::{Value, json};

use super::Call;

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
    pub(crate) fn object(self, call: &Call<'_>, mut read: Strict) -> Result<Value, Status> {
        let refused = |why: String| {
            let (kind, version) = (&call.target.served.resource.kind, &call.target.served.version().name);
            Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
        };
        let dropped = drop_unknown(&call.target.served, &mut read.value).map_err(refused)?;
        self.tell(call, &read, dropped, |told| refused(format!("strict decoding error: {told}")))?;
        Ok(read.value)
    }

    /// Reads what a patch made of `old`; `patch` is its kind, and the patch as it was read. `old` is in stored form, `value` has type and kind. `shown` is what
    /// messages show of the attempt.
    ///
    /// # Errors
    /// 422 for what has another type, and under `Strict` for what would be dropped.
    pub(crate) fn patched(
        self,
        call: &Call<'_>,
        old: &Value,
        mut value: Value,
        (kind, patch, shown): (PatchKind, &Strict, &dyn Fn() -> String),
    ) -> Result<Value, Status> {
        let refused = |why: &str| {
            let cause = Cause::invalid("patch", &json!(shown()), why);
            Status::invalid("", "", "", vec![cause])
        };
        let mut dropped = operations_told(&patch.value);
        let decoding = if kind == PatchKind::Strategic { Decoding::Restored } else { Decoding::Json };
        let unknown = drop_new_unknown(&call.target.served, old, &mut value, decoding);
        dropped.extend(unknown.map_err(|why| refused(&why))?);
        self.tell(call, patch, dropped, |told| refused(&format!("strict decoding error: {told}")))?;
        Ok(value)
    }

    /// Tells of what came twice in what is applied; what does not fit the schema is refused before.
    ///
    /// # Errors
    /// 400 under `Strict`.
    pub(crate) fn applied(self, call: &Call<'_>, read: &Strict) -> Result<(), Status> {
        self.tell(call, read, vec![], |told| {
            let converting =
                if read.line.is_some() { "YAML: error converting YAML to JSON" } else { "patch" };
            Status::bad_request(format!("error strict decoding {converting}: {told}"))
        })
    }

    /// Warns of what `read` has twice and of what was dropped, or refuses it.
    fn tell(
        self,
        call: &Call<'_>,
        read: &Strict,
        dropped: Vec<String>,
        refuse: impl FnOnce(&str) -> Status,
    ) -> Result<(), Status> {
        let twice = read.complaints();
        if dropped.is_empty() && twice.is_empty() {
            return Ok(());
        }
        match self {
            Directive::Ignore => {}
            Directive::Warn if read.line.is_some() => {
                twice.into_iter().chain(dropped).for_each(|text| call.warnings.add(text));
            }
            Directive::Warn => dropped.into_iter().chain(twice).for_each(|text| call.warnings.add(text)),
            Directive::Strict if read.line.is_some() && !twice.is_empty() => {
                let yaml = format!("yaml: unmarshal errors:\n  {}", twice.join("\n  "));
                let told: Vec<String> = std::iter::once(yaml).chain(dropped).collect();
                return Err(refuse(&told.join(", ")));
            }
            Directive::Strict => {
                let told: Vec<String> = dropped.into_iter().chain(twice).collect();
                return Err(refuse(&told.join(", ")));
            }
        }
        Ok(())
    }
}

/// What a strict reader says of the operations of a JSON patch; other patches are no lists.
fn operations_told(patch: &Value) -> Vec<String> {
    let known = ["op", "path", "from", "value"];
    let operations = patch.as_array().into_iter().flatten().enumerate();
    let fields = operations
        .flat_map(|(at, each)| each.as_object().into_iter().flatten().map(move |field| (at, field)));
    let unknown = fields.filter(|(_, (name, _))| !known.contains(&name.as_str()));
    unknown.map(|(at, (name, _))| format!("json patch unknown field \"[{at}].{name}\"")).collect()
}

/// [`drop_unknown`] of what differs from `old`, which was read before.
fn drop_new_unknown(
    served: &Served,
    old: &Value,
    value: &mut Value,
    decoding: Decoding,
) -> Result<Vec<String>, String> {
    let resource = &served.resource;
    match Type::of_kind(&resource.group, &served.version().name, &resource.kind) {
        Some(of) if !resource.custom && !faces::differs(served) => {
            decode::changed(value, old, of, decoding).map_err(|error| error.to_string())
        }
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
