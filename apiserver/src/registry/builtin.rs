//! The built-in resources, from the table of kinds.

use apimachinery::kinds::{Definition, KINDS, KindInfo, Scope};

use super::Resource;

/// Resources that are only ever created, never stored: (apiVersion, plural, kind).
pub(crate) const REVIEWS: &[(&str, &str, &str)] = &[
    ("authorization.k8s.io/v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("authorization.k8s.io/v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    ("authorization.k8s.io/v1", "subjectaccessreviews", "SubjectAccessReview"),
    ("authorization.k8s.io/v1", "localsubjectaccessreviews", "LocalSubjectAccessReview"),
    ("authentication.k8s.io/v1", "tokenreviews", "TokenReview"),
    ("authentication.k8s.io/v1", "selfsubjectreviews", "SelfSubjectReview"),
];

pub(super) fn resources() -> Vec<Resource> {
    let resource = |info: &KindInfo| Resource {
        group: info.group.to_owned(),
        plural: info.resource.to_owned(),
        singular: info.kind.to_lowercase(),
        kind: info.kind.to_owned(),
        list_kind: format!("{}List", info.kind),
        short_names: info.short_names.iter().map(|name| (*name).to_owned()).collect(),
        categories: category(info.resource),
        namespaced: info.scope == Scope::Namespaced,
        subresources: info.subresources.iter().copied().filter(|name| *name != "status").collect(),
        versions: vec![super::Version {
            status: info.subresources.contains(&"status"),
            ..super::Version::named(info.version)
        }],
        custom: false,
    };
    let built_in = KINDS.iter().filter(|(_, info)| info.definition == Definition::BuiltIn);
    built_in.map(|(_, info)| resource(info)).collect()
}

fn category(plural: &str) -> Vec<String> {
    let all =
        ["pods", "services", "deployments", "daemonsets", "replicasets", "statefulsets", "jobs", "cronjobs"];
    if all.contains(&plural) { vec!["all".to_owned()] } else { vec![] }
}
