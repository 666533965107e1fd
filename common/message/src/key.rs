//! What identifies an object: its kind (group, version and plural), namespace and name.

use std::cmp::Ordering;
use std::fmt;

use apimachinery::kinds::{self, GroupVersionResource, ObjectKind};
use serde::{Deserialize, Serialize};

use crate::names::{KeyError, check_name};
use crate::path::{NO_NAMESPACE, ResourcePath, not_a_path};

/// Version of an object as the API server counts it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceVersion(pub String);

impl ResourceVersion {
    /// True if `self` may replace `other`: numerically newer, or not comparable and different (docs/protocol/transport.md 3.8).
    pub fn is_newer_than(&self, other: &ResourceVersion) -> bool {
        match (self.0.parse::<u64>(), other.0.parse::<u64>()) {
            (Ok(mine), Ok(theirs)) => mine.cmp(&theirs) == Ordering::Greater,
            _ => self.0 != other.0,
        }
    }
}

/// Identity of an object. As text it is KubeEdge's resource path, `<namespace or null>/<word>/<name>`, if the kind has a
/// word there, and else the key KubeEdge's MetaServer gives it: `/<group>/<version>/<plural>/<namespace or null>/<name>`,
/// the core group as `core` (`pkg/metaserver/util.go`). Both are read back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// `None` for objects of the cluster.
    pub namespace: Option<String>,
    pub kind: ObjectKind,
    pub name: String,
}

impl ObjectKey {
    pub fn new(namespace: Option<&str>, kind: ObjectKind, name: &str) -> ObjectKey {
        ObjectKey { namespace: namespace.map(str::to_owned), kind, name: name.to_owned() }
    }

    /// Reads either spelling.
    ///
    /// # Errors
    /// [`KeyError::NotAnObjectPath`] for another number of parts or an empty one, [`KeyError::BadName`] for a part that
    /// is no [`check_name`].
    pub fn parse(path: &str) -> Result<ObjectKey, KeyError> {
        if let Some(rest) = path.strip_prefix('/') {
            return ObjectKey::of_resource_parts(path, rest);
        }
        let ResourcePath { namespace, word, name } = ResourcePath::parse(path)?;
        Ok(ObjectKey::new(namespace, ObjectKind::of_word(word), name))
    }

    /// Reads the path of an object that came with it: what the object says of its group counts, because KubeEdge's path
    /// has only the kind.
    ///
    /// # Errors
    /// As [`ObjectKey::parse`].
    pub fn parse_with(path: &str, api_version: &str) -> Result<ObjectKey, KeyError> {
        match ResourcePath::parse(path) {
            Ok(ResourcePath { namespace, word, name }) => {
                Ok(ObjectKey::new(namespace, ObjectKind::of_object(api_version, word), name))
            }
            Err(_) => ObjectKey::parse(path),
        }
    }

    fn of_resource_parts(path: &str, rest: &str) -> Result<ObjectKey, KeyError> {
        let parts: Vec<&str> = rest.split('/').collect();
        let [group, version, resource, namespace, name] = parts.as_slice() else {
            return Err(not_a_path(path));
        };
        parts.iter().try_for_each(|part| check_name(part))?;
        let kind = ObjectKind::of_resource(GroupVersionResource::of_parts(group, version, resource));
        Ok(ObjectKey::new((*namespace != NO_NAMESPACE).then_some(*namespace), kind, name))
    }

    /// The path a KubeEdge peer has for an object of this kind: its word is the name of the kind in lower case.
    pub(crate) fn wire_path(&self, kind: &str) -> String {
        let word = self.kind.word().map_or_else(|| kind.to_ascii_lowercase(), str::to_owned);
        ResourcePath::new(self.namespace.as_deref(), &word, &self.name).to_string()
    }

    /// Path of the object in the Kubernetes API, or of the collection if the name is empty. `None` for kinds that are
    /// known by a mere word, and for names that would lead elsewhere. Kinds of the cluster have no namespace there,
    /// although edges name one for some of them (docs/protocol/transport.md 1.4).
    pub fn api_path(&self) -> Option<String> {
        let mut names = self.namespace.iter().chain((!self.name.is_empty()).then_some(&self.name));
        if !names.all(|name| check_name(name).is_ok()) {
            return None;
        }
        let GroupVersionResource { group, version, resource } = self.kind.resource()?;
        let namespace = self.namespace.as_deref().filter(|_| !self.kind.is_cluster_scoped());
        Some(kinds::api_path(&group, &version, &resource, namespace, &self.name))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.namespace.as_deref();
        match self.kind.word() {
            Some(word) => ResourcePath::new(namespace, word, &self.name).fmt(f),
            None => write!(f, "/{}/{}/{}", self.kind, namespace.unwrap_or(NO_NAMESPACE), self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers_and_never_panic() {
        let version = |text: &str| ResourceVersion(text.into());
        assert!(version("10").is_newer_than(&version("9")));
        assert!(!version("9").is_newer_than(&version("10")));
        assert!(!version("9").is_newer_than(&version("9")));
        assert!(version("x").is_newer_than(&version("9")));
    }

    #[test]
    fn a_name_that_would_lead_elsewhere_is_refused() {
        for bad in ["default%2Fsecrets%2Fs?", "a?b", "a#b", "..", ".", "a b", "a\\b", "a\nb", "\u{e4}"] {
            for path in [
                format!("{bad}/event/e"),
                format!("d/persistentvolumeclaim/{bad}"),
                format!("/x.io/v1/valves/d/{bad}"),
                format!("/x.io/v1/{bad}/d/a"),
            ] {
                assert!(matches!(ObjectKey::parse(&path), Err(KeyError::BadName { .. })), "{path}");
            }
        }
        for good in ["a.b-c", "system:node:e1", "kube-root-ca.crt", "pod.17f", "A_b"] {
            assert!(ObjectKey::parse(&format!("d/event/{good}")).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_path_with_missing_or_extra_parts_is_refused() {
        assert_eq!(ObjectKey::parse("null/node/e").unwrap().namespace, None);
        for bad in
            ["", "a/b", "a/b/c/d", "a//c", "/b/c", "/x.io/v1/valves/d", "//v1/valves/d/a", "/a/b/c/d/e/f"]
        {
            assert!(ObjectKey::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_is_written_as_kubeedge_writes_it_and_read_back() {
        for (_, info) in kinds::KINDS {
            let path = kinds::api_path(info.group, info.version, info.resource, None, "");
            let kind = ObjectKind::of_object(&info.api_version(), &info.kind.to_lowercase());
            let key = ObjectKey::new(Some("d"), kind, "a");
            assert_eq!(ObjectKey::parse(&key.to_string()).unwrap(), key, "{path}");
        }
        let valve = ObjectKey::parse_with("d/valve/a", "x.io/v1").unwrap();
        assert_eq!(valve.to_string(), "/x.io/v1/valves/d/a");
        assert_eq!(ObjectKey::parse(&valve.to_string()).unwrap(), valve);
        assert_eq!(ObjectKey::parse("/core/v1/pods/d/a").unwrap().to_string(), "d/pod/a");
        assert_eq!(ObjectKey::parse_with("d/pod/a", "").unwrap().kind, ObjectKind::Pod);
        assert_eq!(ObjectKey::parse("d/valve/a").unwrap().to_string(), "d/valve/a");
    }

    #[test]
    fn what_is_of_the_cluster_has_no_namespace_in_its_path_and_an_unknown_word_no_path() {
        let path = |path: &str| ObjectKey::parse(path).unwrap().api_path();
        let attachment = "/apis/storage.k8s.io/v1/volumeattachments/a".to_owned();
        assert_eq!(path("default/volumeattachment/a"), Some(attachment));
        assert_eq!(path("d/pod/a"), Some("/api/v1/namespaces/d/pods/a".to_owned()));
        assert_eq!(path("/x.io/v1/valves/d/a"), Some("/apis/x.io/v1/namespaces/d/valves/a".to_owned()));
        assert_eq!(path("d/valve/a"), None);
        assert_eq!(ObjectKey::new(Some("a/b"), ObjectKind::Pod, "").api_path(), None);
    }
}
