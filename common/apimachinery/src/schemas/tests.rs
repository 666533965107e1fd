use super::definitions::definitions;
use super::*;
use crate::kinds::{Definition, KINDS};

/// The type at a path of fields; `[]` is an item, `{}` a value of a map.
fn at(kind: (&str, &str, &str), path: &str) -> Type {
    let mut found = Type::of_kind(kind.0, kind.1, kind.2).unwrap();
    for part in path.split('.').filter(|part| !part.is_empty()) {
        found = match (part, found.shape()) {
            ("[]", Shape::List(item, _)) => item,
            ("{}", Shape::Map(value)) => value,
            (name, Shape::Struct) => found.field(name).unwrap_or_else(|| panic!("no {name} in {path}")).of,
            (part, shape) => panic!("{part} of {shape:?} in {path}"),
        };
    }
    found
}

const POD: (&str, &str, &str) = ("", "v1", "Pod");

#[test]
fn every_built_in_kind_has_a_type_with_metadata() {
    for (_, info) in KINDS.iter().filter(|(_, info)| info.definition == Definition::BuiltIn) {
        let found = Type::of_kind(info.group, info.version, info.kind);
        let metadata = found.and_then(|found| found.field("metadata")).map(|field| field.of);
        assert_eq!(metadata, Type::metadata(), "{}", info.kind);
    }
    assert_eq!(Type::of_kind("devices.kubeedge.io", "v1beta1", "Device"), None);
}

#[test]
fn types_are_those_of_the_published_document() {
    use Scalar::{Bytes, Int32, IntOrString, MicroTime, Quantity, String, Time};
    for (kind, path, wanted) in [
        (POD, "spec.containers.[].resources.limits.{}", Quantity),
        (POD, "spec.containers.[].livenessProbe.httpGet.port", IntOrString),
        (POD, "spec.volumes.[].configMap.defaultMode", Int32),
        (POD, "metadata.creationTimestamp", Time),
        (POD, "metadata.labels.{}", String),
        (("", "v1", "Secret"), "data.{}", Bytes),
        (("coordination.k8s.io", "v1", "Lease"), "spec.renewTime", MicroTime),
    ] {
        assert_eq!(at(kind, path).shape(), Shape::Scalar(wanted), "{path}");
    }
    assert_eq!(at(POD, "spec.containers.[]").name(), Some("v1.Container"));
    assert_eq!(at(POD, "metadata.managedFields.[].fieldsV1").shape(), Shape::Any);
    assert!(at(POD, "").fields().all(|field| at(POD, "").field(field.name) == Some(field)));
}

#[test]
fn lists_and_maps_say_how_they_are_owned_and_patched() {
    let ports = at(POD, "spec.containers.[].ports");
    assert!(matches!(ports.shape(), Shape::List(_, Lists::Keyed)));
    assert_eq!(ports.keys().collect::<Vec<_>>(), ["containerPort", "protocol"]);
    assert_eq!((ports.patches_merge(), ports.merge_key()), (true, Some("containerPort")));
    let protocol = at(POD, "spec.containers.[].ports.[]").field("protocol").unwrap();
    assert_eq!(protocol.default, Some("TCP"));
    assert!(matches!(at(POD, "metadata.finalizers").shape(), Shape::List(_, Lists::Set)));
    assert!(matches!(at(POD, "spec.tolerations").shape(), Shape::List(_, Lists::Atomic)));
    assert!(matches!(at(POD, "metadata.ownerReferences").shape(), Shape::List(_, Lists::Keyed)));
    assert!(at(("apps", "v1", "Deployment"), "spec.selector").is_atomic());
    assert!(!at(POD, "metadata.labels").is_atomic());
}

#[test]
fn definitions_bring_what_they_refer_to_and_their_descriptions() {
    let found = definitions(|schema| schema["x-kubernetes-group-version-kind"][0]["kind"] == "Deployment");
    assert!(found.contains_key("io.k8s.api.apps.v1.Deployment"));
    assert!(found.contains_key("io.k8s.api.core.v1.Container"));
    assert!(!found.contains_key("io.k8s.api.core.v1.Node"));
    let replicas = &found["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["replicas"];
    assert!(replicas["description"].as_str().unwrap().starts_with("Number of desired pods."), "{replicas}");
    for schema in found.values() {
        definitions::references(schema, &mut |name| assert!(found.contains_key(name), "{name} is missing"));
    }
}
