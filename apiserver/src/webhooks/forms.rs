//! The forms an object can be told in: as it was requested, and in equivalent versions for webhooks whose rules name those.

use std::sync::Arc;

use apimachinery::kinds::split_api_version;
use apimachinery::object::{self, text};
use apimachinery::schemas::Type;
use apimachinery::webhooks::Named;
use apimachinery::{Status, kinds};
use kubeapi::faces;
use kubeapi::registry::{Registry, Served};
use kubeapi::render::{Include, Renderer};
use kubeapi::respond::Form as Shape;
use kubeapi::target::Target;
use serde_json::Value;

/// One form.
#[derive(Clone)]
pub(super) struct Form {
    kind: (String, String, String),
    resource: (String, String, String),
    served: Served,
    /// How stored objects become this; `None`: they are it.
    renderer: Option<Arc<Renderer>>,
}

pub(super) struct Forms {
    pub(super) requested: Form,
    pub(super) equivalents: Vec<Form>,
}

impl Forms {
    /// Of objects of the resource.
    pub(super) fn of(registry: &Registry, target: &Target) -> Forms {
        let served = &target.served;
        // Where a webhook makes one version out of another, hooks hear of the version of the request alone.
        let count = if served.resource.conversion.is_some() { 0 } else { served.resource.versions.len() };
        let versions = (0..count).filter(|version| *version != served.version);
        let versions = versions.map(|version| Served { resource: served.resource.clone(), version });
        // Events are the only built-in objects with two groups.
        let other = match (served.resource.group.as_str(), served.resource.plural.as_str()) {
            ("", "events") => registry.find(kubeapi::events::GROUP, "v1", "events"),
            (kubeapi::events::GROUP, "events") => registry.find("", "v1", "events"),
            _ => None,
        };
        let equivalents = versions.chain(other).map(|served| Form::of(&served)).collect();
        Forms { requested: Form::of(served), equivalents }
    }

    /// Of what is posted to a subresource.
    pub(super) fn posted(target: &Target, posted: &Value) -> Forms {
        let (group, version) = split_api_version(text(posted, "/apiVersion"));
        let kind = (group.to_owned(), version.to_owned(), text(posted, "/kind").to_owned());
        let requested = Form { kind, renderer: None, ..Form::of(&target.served) };
        Forms { requested, equivalents: Vec::new() }
    }
}

impl Form {
    fn of(served: &Served) -> Form {
        let resource = &served.resource;
        let of = |last: &str| (resource.group.clone(), served.version().name.clone(), last.to_owned());
        Form {
            kind: of(&resource.kind),
            resource: of(&resource.plural),
            served: served.clone(),
            renderer: Some(Arc::new(Renderer::new(served, Shape::Object, Include::None))),
        }
    }

    pub(super) fn named(&self) -> Named<'_> {
        let (group, version, resource) = &self.resource;
        Named {
            group: &self.kind.0,
            version: &self.kind.1,
            kind: &self.kind.2,
            resource: (group, version, resource),
        }
    }

    /// True for objects of the resource; what is posted to a subresource is of a kind of its own.
    pub(super) fn is_of_resource(&self) -> bool {
        self.renderer.is_some()
    }

    /// The type of objects in this form; `None` for custom ones.
    pub(super) fn built_in(&self) -> Option<Type> {
        let (group, version, kind) = &self.kind;
        let is_custom = self.served.resource.custom && self.is_of_resource();
        if is_custom { None } else { Type::of_kind(group, version, kind) }
    }

    /// The structural schema of custom objects in this form.
    pub(super) fn schema(&self) -> Option<&Value> {
        self.served.version().schema.as_ref().filter(|_| self.is_of_resource())
    }

    /// The object in this form.
    pub(super) fn out(&self, stored: &Value) -> Value {
        match &self.renderer {
            Some(renderer) => renderer.typed(stored.clone()),
            None => stored.clone(),
        }
    }

    /// The object of this form as it is stored.
    pub(super) fn back(&self, mut object: Value) -> Result<Value, Status> {
        let (group, version, kind) = &self.kind;
        let is_same = text(&object, "/kind") == kind
            && text(&object, "/apiVersion") == kinds::api_version(group, version);
        if !is_same {
            return Err(Status::bad_request("kind and apiVersion of an object cannot be changed"));
        }
        if self.renderer.is_some() {
            let fields = object::as_map(&mut object);
            fields.remove("kind");
            fields.remove("apiVersion");
            faces::to_stored(&self.served, &mut object);
        }
        Ok(object)
    }
}
