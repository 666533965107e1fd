//! What a request is about.

use apimachinery::Status;

use crate::registry::Served;
use crate::storage::Key;

/// A resource in one version, and the object or collection of it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub served: Served,
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    pub subresource: String,
}

impl Target {
    pub(crate) fn key(&self) -> Key {
        Key::new(&self.served.resource.key(), &self.namespace, &self.name)
    }

    pub(crate) fn not_found(&self) -> Status {
        Status::not_found(&self.served.resource.group, &self.served.resource.plural, &self.name)
    }
}
