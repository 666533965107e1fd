//! Flow schemas and priority levels: their defaults, their rules, and those that every cluster has (`pkg/apis/flowcontrol`,
//! `pkg/apis/flowcontrol/bootstrap`).

mod bootstrap;

use serde_json::{Map, Value, json};

use crate::object::{as_map, integer, list, map_in, set_default, text};
use crate::{Cause, names};

pub use bootstrap::{levels, schemas};

pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// The highest number that a schema may have: it is asked last.
const LAST: i64 = 10_000;
const MOST_QUEUES: i64 = 10_000_000;
/// Bits of the hash that deals a flow's hand of queues.
const HASH_BITS: f64 = 60.0;

/// Completes an object of the group.
pub fn complete(plural: &str, object: &mut Value) {
    let spec = map_in(as_map(object), "spec");
    match plural {
        "flowschemas" => set_unless_zero(spec, "matchingPrecedence", 1000),
        "prioritylevelconfigurations" => {
            for (part, shares) in [("exempt", 0), ("limited", 30)] {
                if let Some(Value::Object(part)) = spec.get_mut(part) {
                    set_default(part, "nominalConcurrencyShares", shares);
                    set_default(part, "lendablePercent", 0);
                }
            }
            let queuing =
                spec.get_mut("limited").and_then(|limited| limited.pointer_mut("/limitResponse/queuing"));
            if let Some(Value::Object(queuing)) = queuing {
                for (field, value) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
                    set_unless_zero(queuing, field, value);
                }
            }
        }
        _ => {}
    }
}

/// Zero counts as missing.
fn set_unless_zero(map: &mut Map<String, Value>, field: &str, value: i64) {
    if map.get(field).is_none_or(|found| found.is_null() || *found == 0) {
        map.insert(field.to_owned(), json!(value));
    }
}

/// What is wrong with an object of the group, its defaults filled in.
pub fn problems(plural: &str, object: &Value) -> Vec<Cause> {
    let mut causes = match plural {
        "flowschemas" => schema(object),
        "prioritylevelconfigurations" => level(object),
        _ => return vec![],
    };
    causes.extend(fixed(plural, object));
    causes
}

/// Some objects are as they are: without them requests could be left without a level.
fn fixed(plural: &str, object: &Value) -> Option<Cause> {
    let name = text(object, "/metadata/name");
    if !matches!(name, "exempt" | "catch-all") {
        return None;
    }
    let all = if plural == "flowschemas" { schemas() } else { levels() };
    let (_, mut wanted) = all.into_iter().find(|(known, _)| *known == name)?;
    let except = if plural != "flowschemas" && name == "exempt" {
        wanted["exempt"] = object["spec"]["exempt"].clone();
        " except the 'spec.exempt' field"
    } else {
        ""
    };
    let why = format!("spec of '{name}'{except} must equal the fixed value");
    (wanted != object["spec"]).then(|| Cause::invalid("spec", &object["spec"], &why))
}

fn schema(object: &Value) -> Vec<Cause> {
    let (mut causes, spec) = (Vec::new(), &object["spec"]);
    let precedence = integer(spec, "/matchingPrecedence").unwrap_or(0);
    let field = "spec.matchingPrecedence";
    if precedence <= 0 {
        causes.push(Cause::invalid(field, &json!(precedence), "must be a positive value"));
    } else if precedence > LAST {
        causes.push(Cause::invalid(field, &json!(precedence), &format!("must not be greater than {LAST}")));
    } else if precedence == 1 && text(object, "/metadata/name") != "exempt" {
        let why = "only the schema named 'exempt' may have matchingPrecedence 1";
        causes.push(Cause::invalid(field, &json!(1), why));
    }
    let method = &spec["distinguisherMethod"];
    let methods = ["ByNamespace", "ByUser"];
    if !method.is_null() && !methods.contains(&text(method, "/type")) {
        causes.push(Cause::unsupported("spec.distinguisherMethod.type", method, &methods));
    }
    let (field, level) =
        ("spec.priorityLevelConfiguration.name", text(spec, "/priorityLevelConfiguration/name"));
    if level.is_empty() {
        causes.push(Cause::required(field, "must reference a priority level"));
    } else if let Some(why) = names::subdomain(level) {
        causes.push(Cause::invalid(field, &json!(level), &why));
    }
    for (at, rule) in list(spec, "/rules").iter().enumerate() {
        rules(rule, &format!("spec.rules[{at}]"), &mut causes);
    }
    causes
}

fn rules(rule: &Value, path: &str, causes: &mut Vec<Cause>) {
    let subjects = list(rule, "/subjects");
    if subjects.is_empty() {
        causes.push(Cause::required(format!("{path}.subjects"), "subjects must contain at least one value"));
    }
    for (at, one) in subjects.iter().enumerate() {
        subject(one, &format!("{path}.subjects[{at}]"), causes);
    }
    let (resources, others) = (list(rule, "/resourceRules"), list(rule, "/nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        causes.push(Cause::required(path, why));
    }
    for (at, one) in resources.iter().enumerate() {
        let path = format!("{path}.resourceRules[{at}]");
        verbs(one, &path, causes);
        for (field, of, others) in [
            ("apiGroups", "resource rules must supply at least one api group", "api groups"),
            ("resources", "resource rules must supply at least one resource", "resources"),
        ] {
            words(one, &path, (field, Some(of), others), causes);
        }
        let needed = "resource rules that are not cluster scoped must supply at least one namespace";
        let needed = (one["clusterScope"] != true).then_some(needed);
        words(one, &path, ("namespaces", needed, "namespaces"), causes);
        for (of, namespace) in list(one, "/namespaces").iter().enumerate() {
            let word = namespace.as_str().unwrap_or_default();
            if let Some(why) = names::label(word).filter(|_| word != "*") {
                let why = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                causes.push(Cause::invalid(format!("{path}.namespaces[{of}]"), namespace, &why));
            }
        }
    }
    for (at, one) in others.iter().enumerate() {
        let path = format!("{path}.nonResourceRules[{at}]");
        verbs(one, &path, causes);
        let needed = "nonResourceURLs must contain at least one value";
        words(one, &path, ("nonResourceURLs", Some(needed), "non-resource URLs"), causes);
        for (of, url) in list(one, "/nonResourceURLs").iter().enumerate() {
            if let Some(why) = url_problem(url.as_str().unwrap_or_default()) {
                causes.push(Cause::invalid(format!("{path}.nonResourceURLs[{of}]"), url, why));
            }
        }
    }
}

/// A list has something in it, and `*` stands alone.
fn words(
    rule: &Value,
    path: &str,
    (field, needed, others): (&str, Option<&str>, &str),
    causes: &mut Vec<Cause>,
) {
    let all = list(rule, &format!("/{field}"));
    let path = format!("{path}.{field}");
    if let (true, Some(needed)) = (all.is_empty(), needed) {
        causes.push(Cause::required(path, needed));
    } else if all.len() > 1 && all.iter().any(|word| word == "*") {
        let why = format!("if '*' is present, must not specify other {others}");
        causes.push(Cause::invalid(path, &rule[field], &why));
    }
}

fn verbs(rule: &Value, path: &str, causes: &mut Vec<Cause>) {
    let known = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
    words(rule, path, ("verbs", Some("verbs must contain at least one value"), "verbs"), causes);
    let all = list(rule, "/verbs");
    let is_known = |verb: &Value| verb.as_str().is_some_and(|verb| verb == "*" || known.contains(&verb));
    if !all.iter().all(is_known) {
        causes.push(Cause::unsupported(format!("{path}.verbs"), &rule["verbs"], &known));
    }
}

fn url_problem(url: &str) -> Option<&'static str> {
    match url {
        "*" | "/" => None,
        "" => Some("must not be empty"),
        _ if !url.starts_with('/') => Some("must start with slash"),
        _ if url.contains(' ') => Some("must not contain white-space"),
        _ if url.contains("//") => Some("must not contain double slash"),
        _ => {
            let stars = url.matches('*').count();
            (stars > 1 || (stars == 1 && !url.ends_with("/*")))
                .then_some("wildcard can only do suffix matching")
        }
    }
}

fn subject(subject: &Value, path: &str, causes: &mut Vec<Cause>) {
    let kinds = [("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];
    let kind = text(subject, "/kind");
    let Some((_, own)) = kinds.iter().find(|(known, _)| *known == kind) else {
        let known = kinds.map(|(kind, _)| kind);
        causes.push(Cause::unsupported(format!("{path}.kind"), &json!(kind), &known));
        return;
    };
    let field = format!("{path}.{own}");
    match &subject[*own] {
        Value::Null => {
            causes.push(Cause::required(field, &format!("{own} is required when subject kind is '{kind}'")));
        }
        named => {
            if text(named, "/name").is_empty() {
                causes.push(Cause::required(format!("{field}.name"), ""));
            }
            if *own == "serviceAccount" && text(named, "/namespace").is_empty() {
                let why = "must specify namespace for service account";
                causes.push(Cause::required(format!("{field}.namespace"), why));
            }
        }
    }
    for (of, other) in kinds.iter().filter(|(of, other)| *of != kind && !subject[*other].is_null()) {
        let why = format!("{other} is forbidden when subject kind is not '{of}'");
        causes.push(Cause::forbidden(format!("{path}.{other}"), &why));
    }
}

fn level(object: &Value) -> Vec<Cause> {
    let (mut causes, spec) = (Vec::new(), &object["spec"]);
    let (name, kind) = (text(object, "/metadata/name"), text(spec, "/type"));
    if (name == "exempt") != (kind == "Exempt") {
        let why = "must be 'Exempt' if and only if `name` is 'exempt'";
        causes.push(Cause::invalid("spec.type", &json!(kind), why));
    }
    match kind {
        "Exempt" => {
            if !spec["limited"].is_null() {
                causes.push(Cause::forbidden("spec.limited", "must be nil if the type is not Limited"));
            }
            shares(&spec["exempt"], "spec.exempt", &mut causes);
        }
        "Limited" => {
            if !spec["exempt"].is_null() {
                causes.push(Cause::forbidden("spec.exempt", "must be nil if the type is Limited"));
            }
            if spec["limited"].is_null() {
                causes.push(Cause::required("spec.limited", "must not be empty when type is Limited"));
            } else {
                shares(&spec["limited"], "spec.limited", &mut causes);
                response(&spec["limited"]["limitResponse"], &mut causes);
            }
        }
        _ => causes.push(Cause::unsupported("spec.type", &json!(kind), &["Exempt", "Limited"])),
    }
    causes
}

fn shares(part: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (field, most, why) in [
        ("nominalConcurrencyShares", i64::MAX, "must be a non-negative integer"),
        ("lendablePercent", 100, "must be between 0 and 100, inclusive"),
        ("borrowingLimitPercent", i64::MAX, "if specified, must be a non-negative integer"),
    ] {
        if part[field].as_i64().is_some_and(|number| !(0..=most).contains(&number)) {
            causes.push(Cause::invalid(format!("{path}.{field}"), &part[field], why));
        }
    }
}

fn response(response: &Value, causes: &mut Vec<Cause>) {
    let path = "spec.limited.limitResponse";
    let queuing = &response["queuing"];
    match (text(response, "/type"), queuing.is_null()) {
        ("Reject", true) => {}
        ("Reject", false) => {
            let why = "must be nil if limited.limitResponse.type is not Limited";
            causes.push(Cause::forbidden(format!("{path}.queuing"), why));
        }
        ("Queue", true) => {
            let why = "must not be empty if limited.limitResponse.type is Limited";
            causes.push(Cause::required(format!("{path}.queuing"), why));
        }
        ("Queue", false) => queues(queuing, &format!("{path}.queuing"), causes),
        (other, _) => {
            causes.push(Cause::unsupported(format!("{path}.type"), &json!(other), &["Queue", "Reject"]));
        }
    }
}

fn queues(queuing: &Value, path: &str, causes: &mut Vec<Cause>) {
    let number = |field: &str| queuing[field].as_i64().unwrap_or(0);
    let (queues, hand) = (number("queues"), number("handSize"));
    let mut wrong = |field: &str, why: &str| {
        causes.push(Cause::invalid(format!("{path}.{field}"), &json!(number(field)), why));
    };
    if number("queueLengthLimit") <= 0 {
        wrong("queueLengthLimit", "must be positive");
    }
    if queues <= 0 {
        wrong("queues", "must be positive");
    } else if queues > MOST_QUEUES {
        wrong("queues", &format!("must not be greater than {MOST_QUEUES}"));
    }
    if hand <= 0 {
        wrong("handSize", "must be positive");
    } else if hand > queues {
        wrong("handSize", &format!("should not be greater than queues ({queues})"));
    } else if entropy(queues, hand) > HASH_BITS {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        wrong("handSize", &why);
    }
}

/// Bits that it takes to tell one hand from another (`shufflesharding.RequiredEntropyBits`).
#[allow(clippy::cast_precision_loss)] // The numbers have 32 bits.
fn entropy(queues: i64, hand: i64) -> f64 {
    ((queues as f64).log2() * hand as f64).ceil()
}

#[cfg(test)]
mod tests;
