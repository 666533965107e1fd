//! Strategic merge patch: maps merge, and the lists of the built-in types merge by their key.
//!
//! Which lists merge, and by which key, is in the type ([`crate::schemas`]). Directives: `$patch`, `$retainKeys`, `$setElementOrder/x`, `$deleteFromPrimitiveList/x`.

use serde_json::{Map, Value};

use crate::schemas::{Shape, Type};

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum StrategicError {
    #[error("map: {field} does not contain declared merge key: {key}")]
    NoMergeKey { field: String, key: &'static str },
    #[error("unknown $patch directive {0}")]
    UnknownDirective(String),
    #[error("{0} must be a list")]
    NotAList(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListRule {
    Replace,
    ByKey(&'static str),
    Primitives,
}

/// How a list of this type merges.
fn list_rule(of: Option<Type>) -> ListRule {
    match of.filter(|of| of.patches_merge()) {
        Some(of) => of.merge_key().map_or(ListRule::Primitives, ListRule::ByKey),
        None => ListRule::Replace,
    }
}

/// The type of a field; `None` for what has no type of its own.
fn field(of: Option<Type>, name: &str) -> Option<Type> {
    match of?.shape() {
        Shape::Map(value) => Some(value),
        _ => of?.field(name).map(|field| field.of),
    }
}

/// The type of the items of a list.
fn items(of: Option<Type>) -> Option<Type> {
    match of?.shape() {
        Shape::List(item, _) => Some(item),
        _ => None,
    }
}

/// Applies a strategic merge patch to an object of a type; both must be maps.
///
/// # Errors
/// `StrategicError`: an entry of a list has no merge key, a directive is unknown, or something is no list where
/// there must be one.
pub fn strategic_merge(object: Value, patch: &Value, of: Type) -> Result<Value, StrategicError> {
    let empty = Map::new();
    merge_maps(map(Some(object)), patch.as_object().unwrap_or(&empty), Some(of)).map(Value::Object)
}

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

type Json = Map<String, Value>;

/// What is a map, or an empty one.
fn map(value: Option<Value>) -> Json {
    match value {
        Some(Value::Object(map)) => map,
        _ => Json::new(),
    }
}

fn merge_maps(object: Json, patch: &Json, of: Option<Type>) -> Result<Json, StrategicError> {
    // Lists that get an order, as they were.
    let before: Vec<(&str, Value)> = patch
        .keys()
        .filter_map(|key| key.strip_prefix(ELEMENT_ORDER))
        .filter_map(|name| Some((name, object.get(name)?.clone())))
        .collect();
    let mut out = match patch.get(PATCH).map(|directive| directive.as_str().unwrap_or("?")) {
        None | Some("merge") => object,
        Some("replace") => Json::new(),
        Some("delete") => return Ok(Json::new()),
        Some(other) => return Err(StrategicError::UnknownDirective(other.to_owned())),
    };
    if let Some(retained) = patch.get(RETAIN_KEYS).and_then(Value::as_array) {
        out.retain(|key, _| retained.iter().any(|kept| kept == key));
    }
    for (key, gone) in patch {
        if let Some(field) = key.strip_prefix(DELETE_PRIMITIVES) {
            let gone = gone.as_array().ok_or_else(|| StrategicError::NotAList(key.clone()))?;
            if let Some(list) = out.get_mut(field).and_then(Value::as_array_mut) {
                list.retain(|item| !gone.contains(item));
            }
        }
    }
    for (key, value) in patch {
        if key.starts_with('$') {
            continue;
        }
        if let Some(merged) = merge_field(out.remove(key), value, field(of, key), key)? {
            out.insert(key.clone(), merged);
        }
    }
    for (key, order) in patch {
        let Some(name) = key.strip_prefix(ELEMENT_ORDER) else { continue };
        let order = order.as_array().ok_or_else(|| StrategicError::NotAList(key.clone()))?;
        let rule = list_rule(field(of, name));
        if let Some(list) = out.get_mut(name).and_then(Value::as_array_mut) {
            let original = before.iter().find(|(field, _)| *field == name);
            reorder(list, order, rule, original.and_then(|(_, list)| list.as_array()));
        }
    }
    Ok(out)
}

/// The new value of one field, `None` if the patch removes it.
fn merge_field(
    old: Option<Value>,
    patch: &Value,
    of: Option<Type>,
    key: &str,
) -> Result<Option<Value>, StrategicError> {
    match patch {
        Value::Null => Ok(None),
        Value::Object(patch) => {
            let deletes = patch.get(PATCH).is_some_and(|directive| directive == "delete");
            if deletes {
                return Ok(None);
            }
            merge_maps(map(old), patch, of).map(|map| Some(Value::Object(map)))
        }
        Value::Array(patch) => {
            let old = match old {
                Some(Value::Array(list)) => list,
                _ => Vec::new(),
            };
            let rule = list_rule(of);
            let original = old.clone();
            let mut list = match rule {
                ListRule::Replace => return Ok(Some(Value::Array(patch.clone()))),
                ListRule::Primitives => merge_primitives(old, patch),
                ListRule::ByKey(merge_key) => merge_lists(old, patch, key, merge_key, items(of))?,
            };
            reorder(&mut list, patch, rule, Some(&original));
            Ok(Some(Value::Array(list)))
        }
        scalar => Ok(Some(scalar.clone())),
    }
}

fn merge_primitives(mut out: Vec<Value>, patch: &[Value]) -> Vec<Value> {
    for item in patch {
        if !out.contains(item) {
            out.push(item.clone());
        }
    }
    out
}

fn merge_lists(
    mut out: Vec<Value>,
    patch: &[Value],
    field: &str,
    key: &'static str,
    of: Option<Type>,
) -> Result<Vec<Value>, StrategicError> {
    let directive = |item: &Value| item.get(PATCH).and_then(Value::as_str).map(str::to_owned);
    let replaces = patch.iter().any(|item| directive(item).as_deref() == Some("replace"));
    if replaces {
        // As they are: a node has several addresses of one type (`mergeSliceWithSpecialElements` upstream).
        return Ok(patch.iter().filter(|item| item.get(PATCH).is_none()).cloned().collect());
    }
    for item in patch {
        let directive = directive(item);
        let fields = item.as_object().filter(|fields| fields.contains_key(key));
        let Some(fields) = fields else {
            match directive.as_deref() {
                Some("replace") => continue,
                _ => return Err(StrategicError::NoMergeKey { field: field.to_owned(), key }),
            }
        };
        let same = |candidate: &Value| candidate.get(key) == fields.get(key);
        match directive.as_deref() {
            Some("delete") => out.retain(|candidate| !same(candidate)),
            None | Some("merge" | "replace") => {
                let found = out.iter().position(same);
                let old = map(found.map(|at| out[at].take()));
                let merged = Value::Object(merge_maps(old, fields, of)?);
                match found {
                    Some(at) => out[at] = merged,
                    None => out.push(merged),
                }
            }
            Some(other) => return Err(StrategicError::UnknownDirective(other.to_owned())),
        }
    }
    Ok(out)
}

/// Puts the items that `order` names into that order. Others stay among each other as they are, and go in front of one that they were in front of in
/// `original`; what is new comes before them (`normalizeElementOrder` upstream).
fn reorder(list: &mut Vec<Value>, order: &[Value], rule: ListRule, original: Option<&Vec<Value>>) {
    let same = |item: &Value, wanted: &Value| match rule {
        ListRule::ByKey(key) => item.get(key).is_some() && item.get(key) == wanted.get(key),
        _ => item == wanted,
    };
    let identical = |a: &Value, b: &Value| match rule {
        ListRule::ByKey(key) => a.get(key) == b.get(key),
        _ => a == b,
    };
    let rank = |item: &Value| order.iter().position(|wanted| same(item, wanted));
    let place = |item: &Value| original.and_then(|list| list.iter().position(|old| identical(old, item)));
    let (mut named, others): (Vec<Value>, Vec<Value>) = list.drain(..).partition(|item| rank(item).is_some());
    named.sort_by_key(|item| rank(item));
    let mut named = named.into_iter().peekable();
    for other in others {
        while let Some(item) = named.next_if(|item| match (place(item), place(&other)) {
            (Some(item), Some(other)) => item < other,
            _ => true,
        }) {
            list.push(item);
        }
        list.push(other);
    }
    list.extend(named);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check_of(kind: &str, object: Value, patch: Value, want: Value) {
        assert_eq!(strategic_merge(object, &patch, of(kind)).unwrap(), want);
    }

    #[track_caller]
    fn check(object: Value, patch: Value, want: Value) {
        check_of("Pod", object, patch, want);
    }

    fn of(kind: &str) -> Type {
        let (group, kind) = kind.split_once('/').unwrap_or(("", kind));
        Type::of_kind(group, "v1", kind).unwrap()
    }

    #[test]
    fn containers_merge_by_name_and_new_members_come_first() {
        check(
            json!({"spec": {"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}]}}),
            json!({"spec": {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}, {"name": "b", "image": "2"}]}}),
            json!({"spec": {"containers": [
                {"name": "a", "image": "1", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]},
                {"name": "b", "image": "2"}]}}),
        );
    }

    #[test]
    fn an_item_is_deleted_by_directive() {
        check(
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
            json!({"spec": {"containers": [{"name": "b"}]}}),
        );
    }

    #[test]
    fn a_list_is_replaced_by_directive() {
        check(
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"containers": [{"name": "c"}, {"$patch": "replace"}]}}),
            json!({"spec": {"containers": [{"name": "c"}]}}),
        );
        let address = |ip: &str| json!({"type": "InternalIP", "address": ip});
        check_of(
            "Node",
            json!({"status": {"addresses": [address("10.0.0.1")]}}),
            json!({"status": {"addresses": [{"$patch": "replace"}, address("10.0.0.2"), address("fd00::2")]}}),
            json!({"status": {"addresses": [address("10.0.0.2"), address("fd00::2")]}}),
        );
    }

    #[test]
    fn a_map_is_replaced_or_emptied_by_directive() {
        check(json!({"d": {"a": 1}}), json!({"d": {"b": 2, "$patch": "replace"}}), json!({"d": {"b": 2}}));
        check(json!({"d": {"a": 1}, "e": 1}), json!({"d": {"$patch": "delete"}}), json!({"e": 1}));
    }

    #[test]
    fn retain_keys_drops_what_is_not_retained() {
        check(
            json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}),
            json!({"strategy": {"type": "Recreate", "$retainKeys": ["type"]}}),
            json!({"strategy": {"type": "Recreate"}}),
        );
    }

    #[test]
    fn primitives_merge_and_are_deleted_one_by_one() {
        check(
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}),
            json!({"metadata": {"finalizers": ["c", "b"]}}),
        );
    }

    #[test]
    fn lists_without_a_key_are_replaced_and_null_removes() {
        check(
            json!({"spec": {"tolerations": [{"key": "a"}], "nodeName": "n"}}),
            json!({"spec": {"tolerations": [{"key": "b"}], "nodeName": null}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
        );
    }

    #[test]
    fn conditions_addresses_and_ports_have_their_own_keys() {
        check_of(
            "Node",
            json!({"status": {"conditions": [{"type": "Ready", "status": "False"}], "addresses": [{"type": "Hostname", "address": "a"}]}}),
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}]}}),
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}, {"type": "Hostname", "address": "a"}]}}),
        );
        check_of(
            "Service",
            json!({"spec": {"ports": [{"port": 80, "targetPort": 1}]}}),
            json!({"spec": {"ports": [{"port": 80, "targetPort": 2}]}}),
            json!({"spec": {"ports": [{"port": 80, "targetPort": 2}]}}),
        );
        check(
            json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80}]}]}}),
            json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 81}]}]}}),
            json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 81}, {"containerPort": 80}]}]}}),
        );
    }

    #[test]
    fn each_kind_has_the_keys_of_its_own_lists() {
        check_of(
            "admissionregistration.k8s.io/ValidatingWebhookConfiguration",
            json!({"webhooks": [{"name": "a", "sideEffects": "None"}, {"name": "b"}]}),
            json!({"webhooks": [{"name": "a", "failurePolicy": "Fail"}]}),
            json!({"webhooks": [{"name": "a", "sideEffects": "None", "failurePolicy": "Fail"}, {"name": "b"}]}),
        );
        let port = |number: u16, to: u16| json!({"containerPort": number, "hostPort": to});
        let template = |ports: Value| json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "ports": ports}]}}}});
        check_of(
            "apps/Deployment",
            template(json!([port(80, 1)])),
            template(json!([port(80, 2)])),
            template(json!([port(80, 2)])),
        );
        check_of(
            "ServiceAccount",
            json!({"secrets": [{"name": "a"}]}),
            json!({"secrets": [{"name": "b"}]}),
            json!({"secrets": [{"name": "b"}, {"name": "a"}]}),
        );
    }

    #[test]
    fn element_order_orders_and_leaves_no_directive_behind() {
        check(
            json!({"spec": {"containers": [{"name": "a"}, {"name": "mine"}, {"name": "b"}]}}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "b", "x": 1}]}}),
            json!({"spec": {"containers": [{"name": "mine"}, {"name": "b", "x": 1}, {"name": "a"}]}}),
        );
        check(
            json!({}),
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name"]}]}}),
            json!({"spec": {"volumes": [{"name": "v"}]}}),
        );
    }

    #[test]
    fn items_without_their_key_are_refused() {
        let patch = json!({"spec": {"containers": [{"image": "x"}]}});
        assert_eq!(
            strategic_merge(json!({}), &patch, of("Pod")),
            Err(StrategicError::NoMergeKey { field: "containers".to_owned(), key: "name" })
        );
    }
}
