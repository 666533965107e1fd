//! RuntimeClass: which of the runtime's handlers runs a pod.

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::api::node::v1::RuntimeClass;
use message::{ObjectKey, ObjectKind};

use super::worker::Worker;
use metamanager::QueryError;

#[derive(Debug, thiserror::Error)]
pub(super) enum RuntimeClassError {
    #[error("runtime class {name:?}")]
    Read { name: String, source: QueryError },
    #[error("runtime class {name:?} cannot be read as one")]
    Unreadable { name: String, source: message::JsonError },
}

impl Worker {
    /// The handler's name; empty for the runtime's default. A cloud that does not serve runtime classes (KubeEdge's)
    /// leaves the class name itself, which is the handler's name in most clusters.
    pub(super) async fn runtime_handler(&self, spec: &PodSpec) -> Result<String, RuntimeClassError> {
        let Some(name) = spec.runtime_class_name.as_ref().filter(|name| !name.is_empty()) else {
            return Ok(String::new());
        };
        let key = ObjectKey::new(None, ObjectKind::RuntimeClass, name);
        let object = match self.context.queries.object(key).await {
            Ok(object) => object,
            Err(source) if source.is_not_found() || self.knows_other_handlers(name) => {
                return Err(RuntimeClassError::Read { name: name.clone(), source });
            }
            Err(_) => return Ok(name.clone()),
        };
        let unreadable = |source| RuntimeClassError::Unreadable { name: name.clone(), source };
        Ok(object.parse::<RuntimeClass>().map_err(unreadable)?.handler)
    }

    /// The runtime tells its handlers, and none has this name.
    fn knows_other_handlers(&self, name: &str) -> bool {
        let facts = self.context.base.facts.borrow();
        !facts.handlers.is_empty() && !facts.handlers.iter().any(|handler| handler == name)
    }
}
