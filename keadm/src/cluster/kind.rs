//! The kinds keadm has to do with, and the paths of their objects. Pure.

use anyhow::{Context, bail};
use apimachinery::kinds::{self, KINDS};
use serde_json::Value;

/// One kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub name: &'static str,
    pub is_namespaced: bool,
}

/// Kinds that edges have nothing to do with.
const MORE: [Kind; 3] = [
    of("monitoring.coreos.com", "servicemonitors", "ServiceMonitor", true),
    of(
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        false,
    ),
    of(
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        false,
    ),
];

const fn of(group: &'static str, plural: &'static str, name: &'static str, is_namespaced: bool) -> Kind {
    Kind { group, version: "v1", plural, name, is_namespaced }
}

impl Kind {
    /// # Errors
    /// Nothing is known of it.
    pub(crate) fn find(api_version: &str, name: &str) -> anyhow::Result<Kind> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let is_it = |kind: &Kind| (kind.group, kind.version, kind.name) == (group, version, name);
        let known = KINDS.iter().map(|(_, info)| Kind {
            group: info.group,
            version: info.version,
            plural: info.resource,
            name: info.kind,
            is_namespaced: info.scope == kinds::Scope::Namespaced,
        });
        let mut all = known.chain(MORE);
        match all.find(is_it) {
            Some(kind) => Ok(kind),
            None => bail!("kind {name} of {api_version} is not known here"),
        }
    }

    /// Path of an object, or of all when `name` is empty.
    pub(crate) fn path(&self, namespace: Option<&str>, name: &str) -> String {
        let namespace = namespace.filter(|_| self.is_namespaced);
        kinds::api_path(self.group, self.version, self.plural, namespace, name)
    }

    /// Path of an object by what it says.
    ///
    /// # Errors
    /// It has no name, or nothing is known of its kind.
    pub(crate) fn path_of(object: &Value) -> anyhow::Result<String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let read = |key: &str| text(&object[key]).with_context(|| format!("an object without {key}"));
        let kind = Kind::find(&read("apiVersion")?, &read("kind")?)?;
        let name = text(&object["metadata"]["name"]).context("an object without a name")?;
        Ok(kind.path(object["metadata"]["namespace"].as_str(), &name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifests::Installation;

    #[test]
    fn every_object_of_an_installation_has_a_path() {
        let mut installation = Installation::default();
        installation.cloud_core.service_monitor.enable = true;
        for object in manifests::objects(&installation) {
            let path = Kind::path_of(&object).unwrap();
            let name = object["metadata"]["name"].as_str().unwrap();
            assert!(path.ends_with(&format!("/{name}")), "{path}");
            assert_eq!(
                path.contains("/namespaces/"),
                object["kind"] == "Namespace" || object["metadata"]["namespace"].is_string()
            );
        }
        assert!(Kind::find("v1", "Nonsense").is_err());
    }
}
