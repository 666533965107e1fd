//! The record of who owns which fields (`apimachinery::fields`), kept with every write.

use apimachinery::fields::{self, Schema, Writer};
use apimachinery::kinds::split_api_version;
use apimachinery::schemas::Type;
use apimachinery::{Cause, Status, object};
use kubeapi::registry::Served;
use kubeapi::target::Target;
use kubeapi::{events, faces};
use serde_json::Value;

use super::Call;
use crate::context::Context;
use crate::conversion;

/// Longest name of a manager.
const LENGTH: usize = 128;

/// Who writes what, for the record.
pub(crate) struct Ownership {
    manager: String,
    subresource: String,
    api_version: String,
    now: String,
    /// Parts that the request cannot change.
    reset: &'static [&'static str],
    /// The record is in the object already.
    is_applied: bool,
}

impl Ownership {
    /// Of a request, by its `fieldManager`, else by the name of the client's program.
    ///
    /// # Errors
    /// 422 for a name that is no name, and none of who applies.
    pub(crate) fn of_request(call: &Call<'_>, options: &str, applies: bool) -> Result<Ownership, Status> {
        let given = call.query.get("fieldManager");
        let mut causes = Vec::new();
        if applies && given.is_empty() {
            causes.push(Cause::required("fieldManager", "is required for apply patch"));
        }
        if !applies && options == "PatchOptions" && !call.query.get("force").is_empty() {
            causes.push(Cause::forbidden("force", "may not be specified for non-apply patch"));
        }
        if given.len() > LENGTH {
            causes.push(Cause::too_long("fieldManager", LENGTH));
        } else if given.chars().any(char::is_control) {
            let value = Value::from(given);
            causes.push(Cause::invalid("fieldManager", &value, "should only contain printable characters"));
        }
        if !causes.is_empty() {
            return Err(Status::invalid("meta.k8s.io", options, "", causes));
        }
        let manager = if given.is_empty() { program(&call.parts.headers) } else { given.to_owned() };
        Ok(Ownership::of(&call.target, manager))
    }

    /// Of what the server makes itself.
    pub(crate) fn of_server(target: &Target) -> Ownership {
        Ownership::of(target, "kube-apiserver".to_owned())
    }

    fn of(target: &Target, manager: String) -> Ownership {
        let served = &target.served;
        let reset: &[&str] = match target.subresource.as_str() {
            "" if served.version().status => &["status"],
            "status" => &["spec"],
            _ => &[],
        };
        Ownership {
            manager,
            subresource: target.subresource.clone(),
            api_version: recorded(served),
            now: daemon::clock::rfc3339(daemon::clock::now()),
            reset,
            is_applied: false,
        }
    }

    fn writer(&self) -> Writer<'_> {
        Writer {
            manager: &self.manager,
            subresource: &self.subresource,
            api_version: &self.api_version,
            now: &self.now,
            reset: self.reset,
        }
    }

    /// Of an object that [`Ownership::apply`] made.
    pub(crate) fn applied(self) -> Ownership {
        Ownership { is_applied: true, ..self }
    }

    /// Records who made a new object.
    pub(crate) fn created(&self, served: &Served, value: &mut Value) {
        if !self.is_applied {
            fields::update(None, value, schema(served), &self.writer());
        }
    }

    /// Records who changed an object.
    pub(crate) async fn updated(&self, context: &Context, served: &Served, old: &Value, new: &mut Value) {
        if !self.is_applied {
            let views = conversion::views(context, served, old, new).await;
            fields::update_viewed(Some(old), new, schema(served), &self.writer(), &views);
        }
    }

    /// What `live`, in stored form, becomes by an apply; an empty map stands for an object that is not there.
    ///
    /// # Errors
    /// As Kubernetes answers: 400 for another version, 500 for what does not fit the schema, 409 for what others own.
    pub(crate) fn apply(
        &self,
        target: &Target,
        live: &Value,
        config: &Value,
        force: bool,
    ) -> Result<Value, Status> {
        let served = &target.served;
        let (version, kind) = (object::text(config, "/apiVersion"), object::text(config, "/kind"));
        if version != served.api_version() || kind != served.resource.kind {
            return Err(Status::bad_request(format!("invalid object type: {}", identity(version, kind))));
        }
        let mut config = config.clone();
        faces::to_stored(served, &mut config);
        let about =
            format!("{}/{}; {}", object::namespace(&config), object::name(&config), identity(version, kind));
        fields::apply(live, &config, schema(served), &self.writer(), force)
            .map_err(|error| error.into_status(&about))
    }
}

/// `apps/v1, Kind=Deployment`, as Go prints it; the core group is empty.
fn identity(api_version: &str, kind: &str) -> String {
    let (group, version) = split_api_version(api_version);
    format!("{group}/{version}, Kind={kind}")
}

/// The version whose fields are owned: of built-in kinds that which is stored.
fn recorded(served: &Served) -> String {
    match served.resource.custom {
        true => served.api_version(),
        false => Served { version: 0, ..served.clone() }.api_version(),
    }
}

/// The types of a resource as it is stored.
fn schema(served: &Served) -> Schema<'_> {
    let resource = &served.resource;
    if resource.custom {
        return Schema::custom(served.version().schema.as_ref());
    }
    let group = if resource.group == events::GROUP { "" } else { &resource.group };
    Type::of_kind(group, &resource.versions[0].name, &resource.kind)
        .map_or(Schema::custom(None), Schema::built_in)
}

/// The program of a `User-Agent` such as `kubectl/v1.36.0 (linux/amd64)`.
fn program(headers: &http::HeaderMap) -> String {
    let agent =
        headers.get(http::header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let name = agent.split('/').next().unwrap_or_default();
    let name: String = name.chars().filter(|letter| !letter.is_control()).take(LENGTH).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}
