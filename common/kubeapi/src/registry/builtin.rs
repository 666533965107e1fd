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

fn category(plural: &str) -> Vec<String> {
    let all =
        ["pods", "services", "deployments", "daemonsets", "replicasets", "statefulsets", "jobs", "cronjobs"];
    if all.contains(&plural) { vec!["all".to_owned()] } else { vec![] }
}
