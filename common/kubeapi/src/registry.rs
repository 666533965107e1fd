//! What is served: the built-in table, or a part of it, and whatever CustomResourceDefinitions add.
//!
//! A backend adds and removes custom resources as it learns of their definitions; where that happens as a definition is
//! committed, it is served as soon as its creation is answered.

mod accepted;
mod builtin;
mod computed;
mod custom;
mod elsewhere;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use apimachinery::kinds::KindInfo;
use serde_json::Value;

pub use computed::{Computed, REVIEWS};
pub use custom::{problems, with_defaults};
pub use elsewhere::Elsewhere;

/// A served resource, all its versions.
#[derive(Clone, Debug)]
pub struct Resource {
    pub group: String,
    pub plural: String,
    pub singular: String,
    pub kind: String,
    pub list_kind: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    /// Beside `status`, which is a version's.
    pub subresources: Vec<&'static str>,
    /// Served versions, the preferred one first. Never empty.
    pub versions: Vec<Version>,
    /// How stored objects become those of other versions; `None`: they are as they are in all.
    pub conversion: Option<Conversion>,
    pub custom: bool,
}

/// A webhook that makes objects of one version out of those of another.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// The version in which objects are stored.
    pub storage: String,
    /// Of that version.
    pub schema: Value,
    /// `clientConfig`.
    pub client: Value,
}

/// A version of a resource.
#[derive(Clone, Debug)]
pub struct Version {
    pub name: String,
    pub status: bool,
    /// Structural schema, of custom resources only.
    pub schema: Option<Value>,
    /// `additionalPrinterColumns`.
    pub columns: Vec<Value>,
    /// Where the subresource `scale` of a custom resource has its parts.
    pub scale: Option<ScalePaths>,
    /// Fields that a custom resource can be selected by, such as `spec.color`.
    pub selectable: Vec<String>,
    /// What is told who uses this version, if it is deprecated.
    pub deprecated: Option<String>,
}

/// Parts of a scale, as JSON pointers into the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    pub wanted: String,
    pub status: String,
    /// Of a selector as text.
    pub selector: Option<String>,
}

/// A resource in the version that a request named.
#[derive(Clone, Debug)]
pub struct Served {
    pub resource: Arc<Resource>,
    pub version: usize,
}

impl Version {
    /// Nothing but its name.
    pub fn named(name: &str) -> Version {
        Version {
            name: name.to_owned(),
            status: false,
            schema: None,
            columns: vec![],
            scale: None,
            selectable: vec![],
            deprecated: None,
        }
    }
}

impl Resource {
    /// `pods` or `deployments.apps`: the key in storage and in messages.
    pub fn key(&self) -> String {
        let shared = self.group == crate::events::GROUP;
        if self.group.is_empty() || shared {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }
}

impl Served {
    /// The version that was named.
    pub fn version(&self) -> &Version {
        &self.resource.versions[self.version]
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        let version = &self.version().name;
        if self.resource.group.is_empty() {
            version.clone()
        } else {
            format!("{}/{version}", self.resource.group)
        }
    }

    /// True for the built-in resource of this plural in the core group.
    pub fn is_core(&self, plural: &str) -> bool {
        self.resource.group.is_empty() && self.resource.plural == plural
    }

    /// True for CustomResourceDefinitions.
    pub fn is_definition(&self) -> bool {
        !self.resource.custom && self.resource.plural == "customresourcedefinitions"
    }
}

type Custom = BTreeMap<String, Arc<Resource>>;

/// All that is served.
#[derive(Debug)]
pub struct Registry {
    builtin: Vec<Arc<Resource>>,
    /// By storage key, which is also the CRD's name.
    custom: RwLock<Custom>,
}

/// The storage key of CRDs.
pub const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

impl Default for Registry {
    fn default() -> Registry {
        Registry::new()
    }
}

impl Registry {
    /// Everything that is built in.
    pub fn new() -> Registry {
        Registry::serving(|_| true)
    }

    /// Everything that is built in, in all its versions: for who stores objects, and so in the first of them.
    pub fn in_all_versions() -> Registry {
        let builtin = builtin::in_all_versions().into_iter().map(Arc::new).collect();
        Registry { builtin, custom: RwLock::new(Custom::new()) }
    }

    /// What is built in and `serves` says yes to.
    pub fn serving(serves: impl Fn(&KindInfo) -> bool) -> Registry {
        let builtin = builtin::resources(serves).into_iter().map(Arc::new).collect();
        Registry { builtin, custom: RwLock::new(Custom::new()) }
    }

    /// The resource of this plural, if it is served in this version.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Served> {
        self.first(|resource| {
            let found = Some(resource).filter(|one| one.plural == plural && one.group == group)?;
            // A backend may have defined versions beside those that are built in.
            let version = found.versions.iter().position(|served| served.name == version)?;
            Some(Served { resource: found.clone(), version })
        })
    }

    /// The resource with this storage key, in its preferred version.
    pub fn by_key(&self, key: &str) -> Option<Served> {
        let (plural, group) = key.split_once('.').unwrap_or((key, ""));
        self.first(|resource| {
            let found = Some(resource).filter(|one| one.plural == plural && one.group == group)?;
            Some(Served { resource: found.clone(), version: 0 })
        })
    }

    /// The resource of this kind, in any of its versions.
    pub fn of_kind(&self, group: &str, kind: &str) -> Option<Arc<Resource>> {
        self.first(|resource| Some(resource).filter(|one| one.kind == kind && one.group == group).cloned())
    }

    /// What `find` makes of the first resource that it makes something of. Every request asks this.
    fn first<T>(&self, mut find: impl FnMut(&Arc<Resource>) -> Option<T>) -> Option<T> {
        let found = self.builtin.iter().find_map(&mut find);
        found.or_else(|| {
            let custom = self.custom.read().unwrap_or_else(PoisonError::into_inner);
            custom.values().find_map(find)
        })
    }

    /// The custom resource with this storage key, in the version of this name.
    pub fn custom(&self, key: &str, version: &str) -> Option<Served> {
        let custom = self.custom.read().unwrap_or_else(PoisonError::into_inner);
        let resource = custom.get(key)?.clone();
        let version = resource.versions.iter().position(|served| served.name == version)?;
        Some(Served { resource, version })
    }

    /// All that is served now.
    pub fn resources(&self) -> Vec<Arc<Resource>> {
        let custom = self.custom.read().unwrap_or_else(PoisonError::into_inner);
        self.builtin.iter().chain(custom.values()).cloned().collect()
    }

    /// Takes note of a CRD as it is now; a definition that does not read is not served.
    pub fn define(&self, name: &str, definition: &Value) {
        let mut custom = self.custom.write().unwrap_or_else(PoisonError::into_inner);
        match custom::read(definition) {
            Some(resource) => custom.insert(name.to_owned(), Arc::new(resource)),
            None => custom.remove(name),
        };
    }

    /// Says in the status of a CRD whether its names are accepted, as other definitions are now. `now` is RFC 3339. One that is
    /// not new and has been served goes on to be.
    pub fn accept(&self, definition: &mut Value, now: &str, is_new: bool) {
        let all = self.resources();
        accepted::accept(definition, all.iter().map(Arc::as_ref), (now, is_new));
    }

    /// Takes note of the end of a CRD.
    pub fn forget(&self, name: &str) {
        self.custom.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}
