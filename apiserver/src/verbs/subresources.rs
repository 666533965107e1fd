//! Subresources that are posted to: binding, eviction, token.

use apimachinery::object::{self, list, text};
use apimachinery::traits::Traits;
use apimachinery::webhooks::Operation;
use apimachinery::{Status, status};
use daemon::clock;
use kubeapi::respond::{self, Answer};
use serde_json::{Value, json};

use super::{Call, budgets, delete};
use crate::admission::{self, node_restriction};
use crate::storage::Change;
use crate::tokens;
use crate::webhooks::{Change as Asked, Objects};

pub(crate) async fn post(call: Call<'_>, body: kubeapi::request::Incoming) -> Result<Answer, Status> {
    let served = &call.target.served;
    match call.target.subresource.as_str() {
        "token" if served.is_core("serviceaccounts") => token(call, body).await,
        "binding" if served.is_core("pods") => bind(call, body).await,
        "eviction" if served.is_core("pods") => evict(call, body).await,
        _ => Err(Status::no_such_path()),
    }
}

/// What is posted, after webhooks were asked about it. Typed clients leave its kind out.
async fn posted(
    call: &Call<'_>,
    body: kubeapi::request::Incoming,
    api_version: &str,
    kind: &str,
) -> Result<Value, Status> {
    let mut object = call.body(body).await?;
    let fields = object::as_map(&mut object);
    object::set_default(fields, "apiVersion", api_version);
    object::set_default(fields, "kind", kind);
    let caller = super::caller(call, "CreateOptions")?;
    let objects = Objects { new: Some(&object), old: None };
    node_restriction::check(call.backend, &call.user, &call.target, Operation::Create, objects).await?;
    let asked = Asked::posted(call.backend, &caller, &call.target, Operation::Create, &object);
    let changed = asked.mutate(Objects { new: Some(&object), old: None }, admission::complete).await?;
    asked.validate(Objects { new: Some(changed.as_ref().unwrap_or(&object)), old: None }).await?;
    Ok(changed.unwrap_or(object))
}

async fn token(call: Call<'_>, body: kubeapi::request::Incoming) -> Result<Answer, Status> {
    let request = posted(&call, body, "authentication.k8s.io/v1", "TokenRequest").await?;
    let account = call
        .backend
        .storage
        .get(&call.target.key())
        .await?
        .ok_or_else(|| call.target.not_found())?
        .value()?;
    let answer = tokens::issue(call.backend, &account, &request).await?;
    Ok(respond::json(201, &answer))
}

async fn bind(call: Call<'_>, body: kubeapi::request::Incoming) -> Result<Answer, Status> {
    let binding = posted(&call, body, "v1", "Binding").await?;
    let node = text(&binding, "/target/name");
    let stored =
        call.backend.storage.get(&call.target.key()).await?.ok_or_else(|| call.target.not_found())?;
    let mut pod = stored.value()?;
    let refuse = |why: &str| Err(Status::conflict("", "pods/binding", &call.target.name, why));
    if node.is_empty() {
        return Err(Status::new(500, "", "target.name: Required value"));
    }
    if object::deleting(&pod) {
        return refuse(&format!("pod {} is being deleted, cannot be assigned to a host", call.target.name));
    }
    let bound = text(&pod, "/spec/nodeName");
    if !bound.is_empty() {
        return refuse(&format!("pod {} is already assigned to node {bound:?}", call.target.name));
    }
    let previous = Traits::of("pods", &pod);
    pod["spec"]["nodeName"] = json!(node);
    let mut conditions: Vec<Value> = list(&pod, "/status/conditions")
        .iter()
        .filter(|old| old["type"] != "PodScheduled")
        .cloned()
        .collect();
    let now = clock::rfc3339(clock::now());
    conditions.push(
        json!({ "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now }),
    );
    pod["status"]["conditions"] = Value::Array(conditions);
    let change = Change::Update { value: pod, expected: stored.revision, previous };
    let committed = call.backend.storage.commit(call.target.key(), change).await;
    committed.map_err(|error| error.into_status(&call.target.served.resource, &call.target.name))?;
    Ok(respond::json(201, &success()))
}

async fn evict(call: Call<'_>, body: kubeapi::request::Incoming) -> Result<Answer, Status> {
    let eviction = posted(&call, body, "policy/v1", "Eviction").await?;
    if object::name(&eviction) != call.target.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let options = delete::Options {
        grace: object::integer(&eviction, "/deleteOptions/gracePeriodSeconds"),
        uid: text(&eviction, "/deleteOptions/preconditions/uid").to_owned(),
        dry_run: call.query.dry_run("DeleteOptions")?
            || eviction["deleteOptions"]["dryRun"] == json!(["All"]),
        ..delete::Options::default()
    };
    budgets::spend(call.backend, &call.target, options.dry_run).await?;
    delete::remove(call.backend, &call.target, &options, None).await?;
    Ok(respond::json(201, &success()))
}

fn success() -> Value {
    let mut answer = status::deleted("", "", "", "");
    object::as_map(&mut answer).remove("details");
    answer
}
