//! What a request is about.

use apimachinery::Status;

use crate::registry::Served;
use crate::stored::Key;

/// A resource in one version, and the object or collection of it.
#[derive(Clone, Debug)]
pub struct Target {
    pub served: Served,
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    pub subresource: String,
}

impl Target {
    /// Where it is stored.
    pub fn key(&self) -> Key {
        Key::new(&self.served.resource.key(), &self.namespace, &self.name)
    }

    /// 404, about this object.
    pub fn not_found(&self) -> Status {
        Status::not_found(&self.served.resource.group, &self.served.resource.plural, &self.name)
    }
}
