//! A Kubernetes object as raw JSON that kube's list and watch machinery accepts.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, DynamicResourceScope};
use message::Json;
use serde::{Deserialize, Deserializer};

/// The fields of `metadata` that rooms ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Meta {
    pub name: String,
    pub namespace: Option<String>,
    pub uid: String,
    pub resource_version: String,
    pub deletion_timestamp: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Envelope {
    kind: String,
    metadata: Meta,
}

impl Meta {
    pub fn of(object: &Json) -> Meta {
        object.parse::<Envelope>().unwrap_or_default().metadata
    }
}

/// One object. Only what the watcher and rooms need of `metadata` is parsed, and once.
#[derive(Clone, Debug)]
pub(super) struct RawObject {
    /// What the watcher asks for.
    meta: ObjectMeta,
    read: Envelope,
    json: Json,
}

impl RawObject {
    /// The object with its `apiVersion` and `kind`, which servers leave out of list items and edges need.
    pub(super) fn typed(self, resource: &ApiResource) -> (Meta, Json) {
        let Envelope { kind, metadata } = self.read;
        if !kind.is_empty() {
            return (metadata, self.json);
        }
        let body = self.json.text().trim_start_matches('{');
        let comma = if body.trim_start().starts_with('}') { "" } else { "," };
        let text = format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\"{comma}{body}",
            resource.kind, resource.api_version
        );
        (metadata, Json::from_text(text).unwrap_or(self.json))
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawObject, D::Error> {
        let json = Json::deserialize(deserializer)?;
        let read: Envelope = json.parse().map_err(serde::de::Error::custom)?;
        let meta = ObjectMeta {
            name: Some(read.metadata.name.clone()),
            namespace: read.metadata.namespace.clone(),
            uid: Some(read.metadata.uid.clone()),
            resource_version: Some(read.metadata.resource_version.clone()),
            ..ObjectMeta::default()
        };
        Ok(RawObject { meta, read, json })
    }
}

impl kube::Resource for RawObject {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;
    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }
    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }
    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }
    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_items_get_their_kind_and_keep_every_other_byte() {
        let resource = crate::kubernetes::Resource::Pods.api();
        let raw: RawObject =
            serde_json::from_str("{\"metadata\":{\"name\":\"p\",\"uid\":\"u\"},\"x\":9007199254740993}")
                .unwrap();
        let (meta, json) = raw.typed(&resource);
        assert_eq!(meta.uid, "u");
        assert_eq!(
            json.text(),
            "{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"p\",\"uid\":\"u\"},\"x\":9007199254740993}"
        );
        let empty: RawObject = serde_json::from_str("{}").unwrap();
        assert_eq!(empty.typed(&resource).1.text(), "{\"kind\":\"Pod\",\"apiVersion\":\"v1\"}");
    }
}
