//! What is wrong with the rules of a definition, when it is made or changed
//! (`apiextensions-apiserver/pkg/apis/apiextensions/validation`).

use apimachinery::Cause;
use apimachinery::object::{list, text};
use serde_json::{Value as Json, json};

use crate::budget::Budget;
use crate::program::Program;
use crate::schema::{self, Part, RULES, Step};

/// Steps that a rule may take (`StaticEstimatedCostLimit`).
const LIMIT: u64 = 10_000_000;
/// The estimate here is rougher than kube-apiserver's: only what is beyond its limit by this factor is refused.
const FAR: u64 = 10;

/// Everything that is wrong with rules of a definition. Schemas that are as they were in `old` are not looked at. Recursive:
/// call it on a thread of a [`crate::Runner`].
pub fn problems(definition: &Json, old: Option<&Json>, budget: &Budget) -> Vec<Cause> {
    let versions = list(definition, "/spec/versions");
    let of = |version: &Json| version.pointer("/schema/openAPIV3Schema").cloned().unwrap_or_default();
    let before: Vec<Json> =
        old.map(|old| list(old, "/spec/versions").iter().map(of).collect()).unwrap_or_default();
    let schemas: Vec<Json> = versions.iter().map(of).collect();
    let is_one = schemas.windows(2).all(|pair| pair[0] == pair[1]);
    let mut causes = Vec::new();
    for (at, schema) in schemas.iter().enumerate().take(if is_one { 1 } else { schemas.len() }) {
        if before.contains(schema) {
            continue;
        }
        let field = match is_one {
            true => "spec.validation.openAPIV3Schema".to_owned(),
            false => format!("spec.versions[{at}].schema.openAPIV3Schema"),
        };
        let envelope = schema::envelope();
        schema::walk(schema, &mut |part: &Part<'_>| {
            if !budget.is_spent() {
                rules(part, &envelope, &field, budget, &mut causes);
            }
        });
    }
    causes
}

fn rules(part: &Part<'_>, envelope: &Json, root: &str, budget: &Budget, causes: &mut Vec<Cause>) {
    let written = list(part.schema, &format!("/{RULES}"));
    if written.is_empty() {
        return;
    }
    let scopes = [schema::scope(part, envelope), schema::optional_scope(part, envelope)];
    let here = format!("{root}{}", schema::path(part.steps));
    for (at, rule) in written.iter().enumerate() {
        let field = |name: &str| format!("{here}.{RULES}[{at}].{name}");
        let text = |name: &str| text(rule, &format!("/{name}"));
        let scope = &scopes[usize::from(rule["optionalOldSelf"] == true)];
        budget.begin(text("rule"));
        plain(part, rule, &field, causes);
        let expressions = [
            ("rule", "", "cel expression", "bool", "a bool"),
            ("messageExpression", "messageExpression ", "messageExpression", "string", "a string"),
        ];
        for (name, prefix, what, wanted, a) in expressions {
            if text(name).trim().is_empty() {
                if name == "rule" {
                    causes.push(Cause::required(field(name), "rule is not specified"));
                }
                continue;
            }
            match Program::compile(text(name), scope) {
                Err(error) => {
                    causes.push(invalid(field(name), rule, &format!("{prefix}compilation failed: {error}")));
                }
                Ok((_, checked)) if checked.of != wanted && checked.of != "dyn" => {
                    causes.push(invalid(field(name), rule, &format!("{what} must evaluate to {a}")));
                }
                Ok((_, checked)) => {
                    causes.extend(
                        costly(checked.cost.saturating_mul(part.times), what)
                            .map(|why| Cause::forbidden(field(name), &why)),
                    );
                }
            }
        }
        if schema::looks_back(rule) {
            if part.uncorrelatable.is_some() {
                let list = part.steps.iter().position(|step| matches!(step, Step::Items)).unwrap_or(0);
                let why = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {root}{}",
                    schema::path(&part.steps[..list])
                );
                causes.push(Cause::invalid(field("rule"), &rule["rule"], &why));
            }
        } else if !rule["optionalOldSelf"].is_null() {
            let why = "may not be set if oldSelf is not used in rule";
            causes.push(Cause::invalid(field("optionalOldSelf"), &rule["optionalOldSelf"], why));
        }
    }
}

/// What needs no compiling.
fn plain(part: &Part<'_>, rule: &Json, field: &impl Fn(&str) -> String, causes: &mut Vec<Cause>) {
    if let Some(message) = rule["message"].as_str().filter(|message| !message.is_empty()) {
        if message.trim().is_empty() {
            causes.push(Cause::invalid(field("message"), &rule["message"], "must be non-empty if specified"));
        } else if message.trim().contains('\n') {
            causes.push(Cause::invalid(field("message"), &rule["message"], "must not contain line breaks"));
        }
    }
    let reasons = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    if !rule["reason"].is_null() && !reasons.contains(&text(rule, "/reason")) {
        causes.push(Cause::unsupported(field("reason"), &rule["reason"], &reasons));
    }
    let path = text(rule, "/fieldPath");
    if !path.is_empty() && !leads(part.schema, path) {
        causes.push(Cause::invalid(field("fieldPath"), &rule["fieldPath"], "must be a valid path"));
    }
}

fn leads(schema: &Json, path: &str) -> bool {
    let Some(names) = schema::field_path(path) else { return false };
    let mut at = schema;
    names.iter().all(|name| match crate::values::inner(at, name) {
        Some(inner) => {
            at = inner;
            true
        }
        None => false,
    })
}

fn costly(cost: u64, what: &str) -> Option<String> {
    if cost <= LIMIT * FAR {
        return None;
    }
    let factor = match cost / LIMIT {
        over if over > 100 => "more than 100x".to_owned(),
        over => format!("{over}x"),
    };
    let rule = if what == "messageExpression" { "messageExpression" } else { "rule" };
    Some(format!(
        "estimated {rule} cost exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, \
         maxProperties, and maxLength where arrays, maps, and strings are declared)"
    ))
}

/// The rule as Go prints it.
fn invalid(field: String, rule: &Json, detail: &str) -> Cause {
    let text = |name: &str| json!(text(rule, &format!("/{name}"))).to_string();
    let printed = format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
        text("rule"),
        text("message"),
        text("messageExpression"),
        rule["reason"],
        text("fieldPath"),
        rule["optionalOldSelf"],
    );
    let printed = printed.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    Cause {
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: {printed}: {detail}"),
        field,
    }
}
