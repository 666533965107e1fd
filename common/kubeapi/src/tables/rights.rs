//! Roles, their bindings, and signing requests.

use apimachinery::duration;
use apimachinery::object::{integer, list, text};
use serde_json::{Value, json};

use super::parts::created;
use super::{Column, age, own_name};

pub(super) fn role(object: &Value, _: i64) -> Vec<Value> {
    vec![own_name(object), created(object)]
}

pub(super) fn binding_columns() -> Vec<Column> {
    let mut columns = super::cluster::columns(&["Role"]);
    columns.extend(super::parts::wide(&["Users", "Groups", "ServiceAccounts"]));
    columns
}

pub(super) fn binding(object: &Value, now: i64) -> Vec<Value> {
    let role = format!("{}/{}", text(object, "/roleRef/kind"), text(object, "/roleRef/name"));
    let subjects = |kind: &str| {
        let of_kind = list(object, "/subjects").iter().filter(|subject| text(subject, "/kind") == kind);
        let names = of_kind.map(|subject| match kind {
            "ServiceAccount" => format!("{}/{}", text(subject, "/namespace"), text(subject, "/name")),
            _ => text(subject, "/name").to_owned(),
        });
        json!(names.collect::<Vec<_>>().join(", "))
    };
    let mut cells = vec![own_name(object), json!(role), age(object, now)];
    cells.extend(["User", "Group", "ServiceAccount"].map(subjects));
    cells
}

pub(super) fn signing_request_columns() -> Vec<Column> {
    let mut columns = vec![Column::name()];
    columns.extend(["Age", "SignerName", "Requestor", "RequestedDuration", "Condition"].map(Column::text));
    columns
}

pub(super) fn signing_request(object: &Value, now: i64) -> Vec<Value> {
    let has = |kind: &str| list(object, "/status/conditions").iter().any(|one| text(one, "/type") == kind);
    let decision = match (has("Approved"), has("Denied")) {
        (_, true) => "Denied",
        (true, false) => "Approved",
        (false, false) => "Pending",
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if text(object, "/status/certificate").is_empty() { "" } else { ",Issued" };
    let lasting = integer(object, "/spec/expirationSeconds").map_or("<none>".to_owned(), duration::human);
    vec![
        own_name(object),
        age(object, now),
        json!(text(object, "/spec/signerName")),
        json!(text(object, "/spec/username")),
        json!(lasting),
        json!(format!("{decision}{failed}{issued}")),
    ]
}
