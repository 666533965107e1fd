//! What the node holds for its own work: its pods, and what they refer to.

use apimachinery::Status;
use apimachinery::kinds::{GroupVersionResource, ObjectKind, split_api_version};
use kubeapi::stored::{ListQuery, Stored};
use message::ObjectKey;
use metamanager::Objects;

use crate::object;
use crate::scope::Scope;
use crate::tables::trouble;

#[derive(Clone)]
pub(crate) struct Held {
    objects: Objects,
    /// This node.
    node: String,
}

impl Held {
    pub(crate) fn new(objects: Objects, node: String) -> Held {
        Held { objects, node }
    }

    /// An object that the node holds.
    pub(crate) async fn get(&self, scope: &Scope, name: &str) -> Result<Option<Stored>, Status> {
        let (group, version) = split_api_version(&scope.api_version);
        let kind = ObjectKind::of_resource(GroupVersionResource::of_parts(group, version, scope.plural()));
        let key = ObjectKey::new(scope.namespace.as_deref(), kind, name);
        let found = self.objects.get(&key).await.map_err(|error| trouble(&error))?;
        let read = found.map(|found| object::stored(&scope.resource, group, found.object.text()));
        Ok(read.and_then(Result::ok).filter(|stored| stored.key.name == name))
    }

    /// The pods of this node, if it is these that are asked for: they are all here.
    pub(crate) async fn pods(&self, query: &ListQuery) -> Result<Option<Vec<Stored>>, Status> {
        if query.resource != "pods" || query.fields.pinned("spec.nodeName") != Some(&self.node) {
            return Ok(None);
        }
        let pods = self.objects.list(&ObjectKind::Pod).await.map_err(|error| trouble(&error))?;
        let read = pods.iter().filter_map(|pod| object::stored("pods", "", pod.object.text()).ok());
        let mut pods: Vec<Stored> = read
            .filter(|pod| query.namespace.as_ref().is_none_or(|namespace| *namespace == pod.key.namespace))
            .filter(|pod| query.selects(pod))
            .collect();
        pods.sort_by(|a, b| (&a.key.namespace, &a.key.name).cmp(&(&b.key.namespace, &b.key.name)));
        Ok(Some(pods))
    }

    /// The uid of a pod, if it is here.
    pub(crate) async fn uid(&self, namespace: &str, pod: &str) -> Result<Option<String>, Status> {
        let key = ObjectKey::new(Some(namespace), ObjectKind::Pod, pod);
        let found = self.objects.get(&key).await.map_err(|error| trouble(&error))?;
        Ok(found.map(|found| found.uid))
    }

    pub(crate) async fn pod(&self, namespace: &str, pod: &str) -> Result<Option<serde_json::Value>, Status> {
        let key = ObjectKey::new(Some(namespace), ObjectKind::Pod, pod);
        let found = self.objects.get(&key).await.map_err(|error| trouble(&error))?;
        Ok(found.and_then(|found| found.object.parse().ok()))
    }
}
