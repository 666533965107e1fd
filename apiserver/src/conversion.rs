//! Custom resources in another version than they are stored in, where a webhook makes one out of the other
//! (`apiextensions-apiserver/pkg/apiserver/conversion`).
//!
//! Such an object says in storage of which version it is; who reads it gets the version that was asked for, and what is written is
//! made into the storage version first. The webhook changes neither name nor any other metadata but labels and annotations.

use std::time::Duration;

use apimachinery::object::{self, as_map, text};
use apimachinery::webhooks::Client;
use apimachinery::{Status, fields, kinds, schema};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kubeapi::registry::{Conversion, Served};
use kubeapi::stored::{ListQuery, Stored};
use serde_json::{Value, json};

use crate::context::Context;
use crate::reach::{self, ReachError};
use crate::registered;
use crate::webhooks::exchange::{AskError, exchange};

/// The field of a stored object that says of which version it is. Nobody sees it.
const MARK: &str = "$version";
/// Time for one question (`defaultWebhookRetryBackoff` aside, that of kube-apiserver).
const TIME: Duration = Duration::from_secs(30);

/// What a list or watch is of, if its objects may have to be converted.
pub(crate) fn served(context: &Context, query: &ListQuery) -> Option<Served> {
    context.registry.custom(&query.resource, kinds::split_api_version(&query.api_version).1)
}

/// A stored object in the version of `served`.
pub(crate) async fn one(context: &Context, served: &Served, stored: Stored) -> Result<Stored, Status> {
    if is_plain(served, &stored) {
        return Ok(stored);
    }
    let value = out(context, served, stored.value()?).await?;
    Ok(Stored { body: value.to_string().into(), ..stored })
}

/// [`one`] of many, asked about at once.
pub(crate) async fn all(
    context: &Context,
    served: &Served,
    items: Vec<Stored>,
) -> Result<Vec<Stored>, Status> {
    if items.iter().all(|item| is_plain(served, item)) {
        return Ok(items);
    }
    let values = items.iter().map(Stored::value).collect::<Result<Vec<_>, _>>()?;
    let values = all_out(context, served, values).await?;
    let shown = items.into_iter().zip(values);
    Ok(shown.map(|(item, value)| Stored { body: value.to_string().into(), ..item }).collect())
}

/// True if it is stored as it is shown.
fn is_plain(served: &Served, stored: &Stored) -> bool {
    !served.resource.custom || (served.resource.conversion.is_none() && !stored.body.contains(MARK))
}

/// [`one`] of a parsed object.
pub(crate) async fn out(context: &Context, served: &Served, value: Value) -> Result<Value, Status> {
    if !served.resource.custom {
        return Ok(value);
    }
    let mut values = all_out(context, served, vec![value]).await?;
    Ok(values.pop().unwrap_or_default())
}

async fn all_out(context: &Context, served: &Served, mut values: Vec<Value>) -> Result<Vec<Value>, Status> {
    let Some(conversion) = &served.resource.conversion else {
        values.iter_mut().for_each(|value| drop(as_map(value).remove(MARK)));
        return Ok(values);
    };
    let wanted = &served.version().name;
    let mut others = Vec::new();
    for (at, value) in values.iter_mut().enumerate() {
        let mark = as_map(value).remove(MARK);
        let version = mark.as_ref().and_then(Value::as_str).unwrap_or(&conversion.storage).to_owned();
        if version != *wanted {
            others.push((at, version));
        }
    }
    if others.is_empty() {
        return Ok(values);
    }
    let asked = others.iter().map(|(at, version)| typed(served, version, &values[*at])).collect();
    let made = ask(context, served, conversion, wanted, asked).await?;
    let none = Value::Null;
    let schema = served.version().schema.as_ref().unwrap_or(&none);
    for ((at, _), made) in others.into_iter().zip(made) {
        values[at] = taken(&values[at], made, schema);
    }
    Ok(values)
}

/// An object of the version of `served` as it is to be stored.
pub(crate) async fn back(context: &Context, served: &Served, value: Value) -> Result<Value, Status> {
    let Some(conversion) = &served.resource.conversion else { return Ok(value) };
    let mut stored = value;
    if served.version().name != conversion.storage {
        let asked = vec![typed(served, &served.version().name, &stored)];
        let mut made = ask(context, served, conversion, &conversion.storage, asked).await?;
        stored = taken(&stored, made.pop().unwrap_or_default(), &conversion.schema);
    }
    as_map(&mut stored).insert(MARK.to_owned(), json!(conversion.storage));
    Ok(stored)
}

/// A change of an object, in the version of `served`, in the other versions in which its managers wrote. One that the webhook does not
/// make is left out, as kube-apiserver keeps no change from being made because of the record.
pub(crate) async fn views<'a>(
    context: &Context,
    served: &'a Served,
    old: &Value,
    new: &Value,
) -> Vec<fields::View<'a>> {
    let Some(conversion) = &served.resource.conversion else { return vec![] };
    let own = served.api_version();
    let mut views = Vec::new();
    for api_version in fields::versions(old).into_iter().filter(|version| *version != own) {
        let (_, wanted) = kinds::split_api_version(api_version);
        let version = served.resource.versions.iter().find(|version| version.name == wanted);
        let Some(schema) = version.and_then(|version| version.schema.as_ref()) else { continue };
        let asked = [old, new].map(|value| typed(served, &served.version().name, value)).to_vec();
        let Ok(made) = ask(context, served, conversion, wanted, asked).await else { continue };
        let mut made = [old, new].into_iter().zip(made).map(|(before, made)| taken(before, made, schema));
        views.push(fields::View {
            api_version: api_version.to_owned(),
            schema: fields::Schema::custom(Some(schema)),
            old: made.next().unwrap_or_default(),
            new: made.next().unwrap_or_default(),
        });
    }
    views
}

fn typed(served: &Served, version: &str, value: &Value) -> Value {
    let mut typed = value.clone();
    typed["kind"] = json!(served.resource.kind);
    typed["apiVersion"] = json!(kinds::api_version(&served.resource.group, version));
    typed
}

/// What a webhook made of `before`, with the metadata that it may not change.
fn taken(before: &Value, mut made: Value, schema: &Value) -> Value {
    let metadata = std::mem::take(object::metadata(&mut made));
    let mut kept = before["metadata"].clone();
    for field in ["labels", "annotations"] {
        match metadata.get(field).filter(|value| value.is_object()) {
            Some(value) => kept[field] = value.clone(),
            None => drop(as_map(&mut kept).remove(field)),
        }
    }
    made["metadata"] = kept;
    let fields = as_map(&mut made);
    fields.remove("kind");
    fields.remove("apiVersion");
    schema::prune(&mut made, schema);
    schema::defaults(&mut made, schema);
    made
}

/// Asks the webhook for objects in the version `wanted`.
async fn ask(
    context: &Context,
    served: &Served,
    conversion: &Conversion,
    wanted: &str,
    objects: Vec<Value>,
) -> Result<Vec<Value>, Status> {
    let resource = &served.resource;
    let from = text(objects.first().unwrap_or(&Value::Null), "/apiVersion").to_owned();
    let failed = |why: String| {
        let message = format!("conversion webhook for {from}, Kind={} {why}", resource.kind);
        tracing::warn!(error = message, "objects could not be converted");
        Status::internal(message)
    };
    let (uid, count) = (uuid::Uuid::new_v4().to_string(), objects.len());
    let desired = kinds::api_version(&resource.group, wanted);
    let question = json!({
        "kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
        "request": {"uid": uid, "desiredAPIVersion": desired, "objects": objects},
    });
    let asked = async {
        let ca = STANDARD.decode(text(&conversion.client, "/caBundle")).unwrap_or_default();
        let tls = registered::tls(&ca).map_err(ReachError::Tls)?;
        let client = Client::read(&conversion.client);
        let client = client.ok_or_else(|| ReachError::Tls("clientConfig names no place".to_owned()))?;
        let place = reach::place(&context.storage, &client).await?;
        exchange(tls, &place, (question.to_string(), TIME)).await
    };
    let answer = tokio::time::timeout(TIME, asked).await.unwrap_or(Err(AskError::Timeout(TIME)));
    let mut answer =
        answer.map_err(|error| failed(format!("failed: {}", daemon::errors::describe(&error))))?;
    if text(&answer, "/response/uid") != uid {
        return Err(failed(format!("failed: expected response.uid={uid:?}")));
    }
    if text(&answer, "/response/result/status") != "Success" {
        let said = text(&answer, "/response/result/message");
        let said = if said.is_empty() { "no message" } else { said };
        return Err(failed(format!("failed: {said}")));
    }
    let made = answer["response"]["convertedObjects"].take();
    let Value::Array(made) = made else { return Err(failed("failed: it answered no objects".to_owned())) };
    if made.len() != count {
        return Err(failed(format!("returned {} objects, expected {count}", made.len())));
    }
    for (at, (one, asked)) in made.iter().zip(question_objects(&question)).enumerate() {
        let is_right = text(one, "/apiVersion") == desired && text(one, "/kind") == resource.kind;
        if !is_right {
            let (version, kind) = (text(one, "/apiVersion"), text(one, "/kind"));
            return Err(failed(format!(
                "returned invalid converted object at index {at}: invalid groupVersion or kind (got {version:?}, {kind:?})"
            )));
        }
        for field in ["name", "namespace", "uid"] {
            let pointer = format!("/metadata/{field}");
            if text(one, &pointer) != text(asked, &pointer) {
                return Err(failed(format!(
                    "returned invalid converted object at index {at}: metadata.{field} must not be changed"
                )));
            }
        }
    }
    Ok(made)
}

fn question_objects(question: &Value) -> &[Value] {
    object::list(question, "/request/objects")
}
