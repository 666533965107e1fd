//! The built-in resources, from the table of kinds.

use apimachinery::kinds::{Definition, KINDS, KindInfo, Scope};

use super::Resource;

/// Those that `serves` says yes to.
pub(super) fn resources(serves: impl Fn(&KindInfo) -> bool) -> Vec<Resource> {
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
        conversion: None,
        custom: false,
    };
    let built_in = KINDS.iter().filter(|(_, info)| info.definition == Definition::BuiltIn && serves(info));
    built_in.map(|(_, info)| resource(info)).collect()
}

/// Versions beside those of the table: (group, plural, version).
const FURTHER: [(&str, &str, &str); 1] = [("autoscaling", "horizontalpodautoscalers", "v1")];

/// All of them, with versions that are served beside the one of the table ([`crate::faces`]).
pub(super) fn in_all_versions() -> Vec<Resource> {
    let mut all = resources(|_| true);
    for resource in &mut all {
        let more = FURTHER
            .iter()
            .filter(|(group, plural, _)| resource.group == *group && resource.plural == *plural);
        let like = resource.versions.clone();
        for (version, (_, _, name)) in like.into_iter().cycle().zip(more) {
            resource.versions.push(super::Version { name: (*name).to_owned(), ..version });
        }
    }
    all
}

fn category(plural: &str) -> Vec<String> {
    let all = [
        "cronjobs",
        "daemonsets",
        "deployments",
        "horizontalpodautoscalers",
        "jobs",
        "pods",
        "replicasets",
        "replicationcontrollers",
        "services",
        "statefulsets",
    ];
    let extensions = [
        "apiservices",
        "customresourcedefinitions",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "validatingwebhookconfigurations",
    ];
    let categories = [("all", all.contains(&plural)), ("api-extensions", extensions.contains(&plural))];
    categories.iter().filter(|(_, is_of)| *is_of).map(|(name, _)| (*name).to_owned()).collect()
}
