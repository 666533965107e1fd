use std::collections::BTreeSet;

use super::*;
use crate::kinds::{Definition, KINDS};
use crate::schemas::{self, Scalar, Type};

/// Kinds of stable versions that are served or sent, with their group and version.
fn kinds() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    KINDS
        .iter()
        .filter(|(_, info)| info.definition == Definition::BuiltIn)
        .map(|(_, info)| (info.group, info.version, info.kind))
        .chain([
            ("autoscaling", "v1", "Scale"),
            ("authentication.k8s.io", "v1", "TokenRequest"),
            ("policy", "v1", "Eviction"),
            ("", "v1", "Binding"),
            ("", "v1", "Status"),
            ("", "v1", "DeleteOptions"),
            ("", "v1", "APIResourceList"),
        ])
}

fn message(group: &str, version: &str, kind: &str) -> Message {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Message::of_kind(&api_version, kind).unwrap_or_else(|| panic!("no message of {api_version} {kind}"))
}

/// The names that JSON has beside the message's: the kind's own, and what Go does not write in Protobuf.
const NOT_WRITTEN: [&str; 2] = ["apiVersion", "kind"];

fn compare(message: Message, of: Type, path: &str, seen: &mut BTreeSet<&'static str>) {
    use schemas::Shape as Json;
    match (message.kind(), of.shape()) {
        (Kind::Struct, Json::Struct) => {}
        (Kind::Struct, Json::Any) if message.fields().len() == 0 => return,
        (Kind::Time, Json::Scalar(Scalar::Time))
        | (Kind::MicroTime, Json::Scalar(Scalar::MicroTime))
        | (Kind::Quantity, Json::Scalar(Scalar::Quantity))
        | (Kind::IntOrString, Json::Scalar(Scalar::IntOrString))
        | (Kind::Raw | Kind::SchemaOrBool | Kind::SchemaOrList | Kind::SchemaOrTexts, Json::Any)
        | (Kind::List, Json::List(..)) => return,
        (kind, shape) => panic!("{path} is {kind:?} and {shape:?}"),
    }
    if !seen.insert(message.name()) {
        return;
    }
    let is_kind = NOT_WRITTEN.iter().all(|name| message.named(name).is_none());
    let theirs: Vec<&str> =
        of.fields().map(|field| field.name).filter(|name| !is_kind || !NOT_WRITTEN.contains(name)).collect();
    let mut ours: Vec<&str> = message.names().collect();
    ours.sort_unstable();
    assert_eq!(ours, theirs, "{path}");
    for name in message.names() {
        let (path, of) = (format!("{path}.{name}"), of.field(name).unwrap().of);
        let (_, field) = message.named(name).unwrap();
        assert_eq!(field.name(), name);
        let item = match (field.shape, of.shape()) {
            (Shape::Repeated, Json::List(item, _)) => item,
            (Shape::Map, Json::Map(value)) => value,
            (Shape::One, _) => of,
            (ours, theirs) => panic!("{path} is {ours:?} and {theirs:?}"),
        };
        match (field.of, item.shape()) {
            (Of::Message(inner), _) => compare(inner, item, &path, seen),
            (Of::String, Json::Scalar(Scalar::String))
            | (Of::Bool, Json::Scalar(Scalar::Boolean))
            | (Of::Int32, Json::Scalar(Scalar::Int32))
            | (Of::Int64, Json::Scalar(Scalar::Int64))
            | (Of::Double, Json::Scalar(Scalar::Number))
            | (Of::Bytes, Json::Scalar(Scalar::Bytes)) => {}
            (ours, theirs) => panic!("{path} is {ours:?} and {theirs:?}"),
        }
    }
}

#[test]
fn every_message_has_the_fields_of_its_schema_in_json() {
    let mut seen = BTreeSet::new();
    for (group, version, kind) in kinds() {
        let of = Type::of_kind(group, version, kind).unwrap_or_else(|| panic!("no schema of {kind}"));
        compare(message(group, version, kind), of, kind, &mut seen);
    }
    assert!(seen.len() > 300, "{}", seen.len());
}

#[test]
fn lists_have_their_metadata_first_and_items_second() {
    for (group, version, kind) in
        kinds().filter(|(_, _, kind)| KINDS.iter().any(|(_, info)| info.kind == *kind))
    {
        let list = message(group, version, &format!("{kind}List"));
        let fields: Vec<_> = list.fields().map(|field| (field.number, field.name(), field.shape)).collect();
        assert_eq!(fields, [(1, "metadata", Shape::One), (2, "items", Shape::Repeated)], "{kind}");
        assert_eq!(
            list.named("items").map(|(_, field)| field.of),
            Some(Of::Message(message(group, version, kind)))
        );
    }
}

#[test]
fn what_is_inlined_is_found_by_its_name_in_json() {
    let webhook = message("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy");
    let (_, spec) = webhook.named("spec").unwrap();
    let Of::Message(spec) = spec.of else { panic!("spec") };
    let Of::Message(constraints) = spec.named("matchConstraints").unwrap().1.of else {
        panic!("constraints")
    };
    let Of::Message(rule) = constraints.named("resourceRules").unwrap().1.of else { panic!("rules") };
    let (place, field) = rule.named("apiGroups").unwrap();
    assert_eq!((field.number, field.shape), (1, Shape::Repeated));
    assert_eq!([0, 1, 2].map(|depth| place.index(depth)), [Some(1), Some(1), Some(0)]);
    assert_eq!(rule.named("rule"), None);
}

#[test]
fn options_are_those_of_any_group_and_unknown_kinds_are_none() {
    let options = Message::of_kind("v1", "DeleteOptions");
    assert!(options.is_some());
    for api_version in ["policy/v1", "apps/v1", "batch/v1", "meta.k8s.io/v1"] {
        assert_eq!(Message::of_kind(api_version, "DeleteOptions"), options);
    }
    assert_eq!(
        Message::of_kind("meta.k8s.io/v1beta1", "PartialObjectMetadata"),
        Message::of_kind("meta.k8s.io/v1", "PartialObjectMetadata")
    );
    assert!(Message::of_kind("", "APIVersions").is_some());
    assert_eq!(Message::of_kind("meta.k8s.io/v1", "Table"), None);
    assert_eq!(Message::of_kind("devices.kubeedge.io/v1beta1", "Device"), None);
}
