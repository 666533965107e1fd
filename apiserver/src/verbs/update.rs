//! update and patch, of objects and of their status.

mod apply;

use apimachinery::decode;
use apimachinery::fields;
use apimachinery::object::{self, integer, text};
use apimachinery::patch::{self, PatchKind};
use apimachinery::schemas::Type;
use apimachinery::traits::Traits;
use apimachinery::webhooks::Operation;
use apimachinery::{Cause, Status, rbac};
use kubeapi::request;
use kubeapi::respond::Answer;
use kubeapi::stored::Stored;
use kubeapi::target::Target;
use serde_json::{Value, json};

use super::decode::Directive;
use super::ownership::Ownership;
use super::{Call, create, prepare, unstored};
use crate::admission::{self, limits, node_restriction};
use crate::certificates;
use crate::context::Context;
use crate::conversion;
use crate::storage::{Change, WriteError};
use crate::webhooks::{self, Objects};

/// Which part of the object a request may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Main,
    Status,
    Approval,
}

fn part(target: &Target) -> Result<Part, Status> {
    let resource = &target.served.resource;
    match target.subresource.as_str() {
        "" => Ok(Part::Main),
        "status" if target.served.version().status => Ok(Part::Status),
        "ephemeralcontainers" | "resize" if target.served.is_core("pods") => Ok(Part::Main),
        "finalize" if target.served.is_core("namespaces") => Ok(Part::Main),
        "approval" if resource.plural == "certificatesigningrequests" => Ok(Part::Approval),
        _ => Err(Status::no_such_path()),
    }
}

pub(crate) async fn update(call: Call<'_>, body: kubeapi::request::Incoming) -> Result<Answer, Status> {
    let directive = Directive::of_request(&call, "UpdateOptions")?;
    let ownership = Ownership::of_request(&call, "UpdateOptions", false)?;
    let value = directive.object(&call, call.object_body(body).await?)?;
    if object::name(&value).is_empty() {
        return Err(Status::bad_request("name must be provided"));
    }
    if object::name(&value) != call.target.name {
        let message = format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            object::name(&value),
            call.target.name
        );
        return Err(Status::bad_request(message));
    }
    if made_by_updates(&call.target) && call.backend.storage.get(&call.target.key()).await?.is_none() {
        return make(&call, value).await;
    }
    let stored = modify(&call, &ownership, |_| {
        if call.target.served.resource.custom && object::resource_version(&value).is_empty() {
            let cause =
                Cause::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
            admission::refuse(&call.target.served, &call.target.name, vec![cause])?;
        }
        Ok(value.clone())
    })
    .await?;
    call.answer(200, &stored)
}

/// Kinds whose objects an update makes if they are not there (`AllowCreateOnUpdate` of their strategies).
fn made_by_updates(target: &Target) -> bool {
    let resource = &target.served.resource;
    target.subresource.is_empty()
        && matches!(
            (resource.group.as_str(), resource.plural.as_str()),
            ("", "endpoints" | "events" | "limitranges" | "services")
                | ("coordination.k8s.io", "leases")
                | ("events.k8s.io", "events")
                | ("node.k8s.io", "runtimeclasses")
                | (rbac::GROUP, "roles" | "rolebindings" | "clusterroles" | "clusterrolebindings")
        )
}

/// Makes an object by an update, which takes the right to create it.
async fn make(call: &Call<'_>, mut value: Value) -> Result<Answer, Status> {
    if !matches!(object::resource_version(&value), "" | "0") || !object::uid(&value).is_empty() {
        return Err(call.target.not_found());
    }
    apply::may_create(call)?;
    object::metadata(&mut value).remove("resourceVersion");
    let ownership = Ownership::of_request(call, "UpdateOptions", false)?;
    let caller = super::caller(call, "CreateOptions")?;
    call.renderer()?;
    let stored = create::insert(call.backend, &call.target, value, &ownership, Some(&caller)).await?;
    call.answer(201, &stored)
}

pub(crate) async fn patch(call: Call<'_>, body: kubeapi::request::Incoming) -> Result<Answer, Status> {
    let content_type = request::content_type(&call.parts.headers);
    let unsupported = || Status::new(415, "UnsupportedMediaType", "415: Unsupported Media Type");
    let kind = PatchKind::of(content_type).ok_or_else(unsupported)?;
    let directive = Directive::of_request(&call, "PatchOptions")?;
    let ownership = Ownership::of_request(&call, "PatchOptions", kind == PatchKind::Apply)?;
    let read = call.strict_body(body).await?;
    if kind == PatchKind::Apply {
        return apply::apply(call, directive, ownership, read).await;
    }
    let resource = &call.target.served.resource;
    let of = Type::of_kind(&resource.group, &call.target.served.version().name, &resource.kind)
        .filter(|_| !resource.custom);
    let renderer = kubeapi::render::Renderer::new(
        &call.target.served,
        kubeapi::respond::Form::Object,
        kubeapi::render::Include::None,
    );
    let stored = modify(&call, &ownership, |current| {
        // The current resourceVersion stays in: a patch that brings its own is pinned to it.
        let make = || patch::apply_to(kind, renderer.typed(current.clone()), &read.value, of);
        let shown = || match kind {
            PatchKind::Strategic => decode::in_go(&read.value),
            _ => make().unwrap_or_default().to_string(),
        };
        let made = make()?;
        stays(&call.target, current, &made)?;
        directive.patched(&call, current, made, (kind, &read, &shown))
    })
    .await?;
    call.answer(200, &stored)
}

/// A patch changes neither name nor uid.
fn stays(target: &Target, old: &Value, new: &Value) -> Result<(), Status> {
    let name = object::name(new);
    if name != target.name {
        let message =
            format!("the name of the object ({name}) does not match the name on the URL ({})", target.name);
        return Err(Status::bad_request(message));
    }
    let uid = object::uid(new);
    if uid.is_empty() || uid == object::uid(old) {
        return Ok(());
    }
    let cause = Cause::invalid("metadata.uid", &json!(uid), "field is immutable");
    admission::refuse(&target.served, &target.name, vec![cause])
}

/// Races lost to other writers before giving up. From the second on, writers of one object take turns, so that only those lose that
/// have one just begun.
const ATTEMPTS: u32 = 256;

/// Reads, changes, checks and writes; starts over if somebody else was faster.
pub(super) async fn modify(
    call: &Call<'_>,
    ownership: &Ownership,
    change: impl Fn(&Value) -> Result<Value, Status>,
) -> Result<Stored, Status> {
    let (context, target) = (call.backend, &call.target);
    let part = part(target)?;
    let caller = super::caller(call, "UpdateOptions")?;
    call.renderer()?;
    let resource = &target.served.resource;
    let stale = || Status::stale(&resource.group, &resource.plural, &target.name);
    let mut turn = None;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 && turn.is_none() {
            turn = Some(context.turns.take(target.key()).await);
        }
        let Some(stored) = context.storage.get_to_change(&target.key()).await? else {
            context.storage.settle().await;
            return Err(target.not_found());
        };
        let old = stored.value()?;
        let previous = Traits::of(&stored.key.resource, &old);
        let old = conversion::out(context, &target.served, old).await?;
        let mut new = change(&old)?;
        let pinned = object::resource_version(&new).to_owned();
        if !matches!(pinned.as_str(), "" | "0") && pinned != stored.revision.to_string() {
            return Err(stale());
        }
        let wanted_uid = object::uid(&new);
        if !wanted_uid.is_empty() && wanted_uid != object::uid(&old) {
            let why = format!(
                "Precondition failed: UID in precondition: {wanted_uid}, UID in object meta: {}",
                object::uid(&old)
            );
            return Err(Status::conflict(&resource.group, &resource.plural, &target.name, &why));
        }
        take_part(context, target, part, &old, &mut new)?;
        ownership.updated(context, &target.served, &old, &mut new).await;
        let objects = Objects { new: Some(&new), old: Some(&old) };
        node_restriction::check(context, &call.user, target, Operation::Update, objects).await?;
        let change = webhooks::Change::of(context, &caller, target, Operation::Update);
        if let Some(mut changed) =
            change.mutate(Objects { new: Some(&new), old: Some(&old) }, admission::complete).await?
        {
            take_part(context, target, part, &old, &mut changed)?;
            prepare::keep_record(&new, &mut changed);
            new = changed;
        }
        let _reserved = match target.served.is_core("services") && part == Part::Main {
            true => Some(admission::assign(context, target, Some(&old), &mut new)?),
            false => None,
        };
        for kept in check(context, target, part, &old, &mut new).await? {
            call.warnings.add(kept);
        }
        admission::grants::check(context, &call.user, target, Some(&old), &new)?;
        may_sign(call, part, &old, &new)?;
        limits::check(context, target, Operation::Update, &new)?;
        change.validate(Objects { new: Some(&new), old: Some(&old) }).await?;
        if new == old || fields::differ_in_times_alone(&old, &new) {
            context.storage.settle().await;
            return conversion::one(context, &target.served, stored).await;
        }
        let objects = Objects { new: Some(&new), old: Some(&old) };
        let charged = limits::charge(context, target, objects, caller.dry_run).await?;
        if caller.dry_run {
            context.storage.settle().await;
            return Ok(unstored(target, stored.revision, &new));
        }
        let gone = finished(&new);
        let new = conversion::back(context, &target.served, new).await?;
        let change = match gone {
            true => Change::Delete { value: new, expected: stored.revision, previous },
            false => Change::Update { value: new, expected: stored.revision, previous },
        };
        match context.storage.commit(target.key(), change).await {
            Ok(stored) => {
                if let Some(charged) = charged {
                    charged.stored();
                }
                return conversion::one(context, &target.served, stored).await;
            }
            // A change pinned to a version finds another one next time, and fails then.
            Err(WriteError::Stale) => {}
            Err(error) => return Err(error.into_status(resource, &target.name)),
        }
    }
    Err(stale())
}

/// Approving a signing request and giving it its certificate take rights about its signer.
fn may_sign(call: &Call<'_>, part: Part, old: &Value, new: &Value) -> Result<(), Status> {
    let is_request = admission::is_signing_request(&call.target.served);
    match part {
        Part::Approval => admission::grants::signer(call.backend, &call.user, "approve", old),
        Part::Status if is_request && old["status"]["certificate"] != new["status"]["certificate"] => {
            admission::grants::signer(call.backend, &call.user, "sign", old)
        }
        _ => Ok(()),
    }
}

/// True for an object that was waiting for its last finalizer.
pub(crate) fn finished(object: &Value) -> bool {
    object::deleting(object)
        && !object::has_finalizers(object)
        && object::list(object, "/spec/finalizers").is_empty()
        && integer(object, "/metadata/deletionGracePeriodSeconds").unwrap_or(0) == 0
}

/// Takes from `new` the part that the request may change, the rest from `old`, and completes the whole.
fn take_part(
    context: &Context,
    target: &Target,
    part: Part,
    old: &Value,
    new: &mut Value,
) -> Result<(), Status> {
    let served = &target.served;
    prepare::envelope(target, new)?;
    prepare::keep(old, new);
    match part {
        Part::Main if served.version().status => copy(old, new, "status"),
        Part::Main => {}
        Part::Status | Part::Approval => {
            let status = new.get("status").cloned();
            let sent = std::mem::replace(new, old.clone());
            prepare::keep_record(&sent, new);
            if !served.resource.custom {
                new["metadata"] = sent["metadata"].clone();
                copy_metadata(old, new, &["ownerReferences", "finalizers"]);
            }
            match (part, status) {
                (Part::Approval, status) => {
                    let conditions = status.as_ref().and_then(|status| status.get("conditions"));
                    new["status"]["conditions"] = conditions.cloned().unwrap_or(json!([]));
                    certificates::stamp(old, new);
                    certificates::sign(&context.authority, new, daemon::clock::unix_seconds());
                }
                (_, Some(status)) => {
                    new["status"] = status;
                    if served.is_core("nodes") {
                        admission::allocatable(new);
                    }
                }
                (_, None) => {
                    object::as_map(new).remove("status");
                }
            }
        }
    }
    if part == Part::Main {
        admission::update(context, target, old, new)?;
    }
    let version = object::resource_version(old).to_owned();
    object::metadata(new).insert("resourceVersion".to_owned(), json!(version));
    Ok(())
}

/// Counts and checks what is to be stored. The result is what is wrong and may stay so.
async fn check(
    context: &Context,
    target: &Target,
    part: Part,
    old: &Value,
    new: &mut Value,
) -> Result<Vec<String>, Status> {
    let served = &target.served;
    if counted(target, old, new) {
        let generation = integer(old, "/metadata/generation").unwrap_or(0) + 1;
        object::metadata(new).insert("generation".to_owned(), json!(generation));
    }
    let mut causes = prepare::problems(target, new);
    causes.extend(new_finalizers(old, new));
    if part == Part::Main {
        let mut wrong = admission::problems(served, new);
        if !wrong.is_empty() {
            // What was stored under other rules can still be changed, and deleted.
            let before = admission::problems(served, old);
            wrong.retain(|cause| !before.contains(cause));
        }
        causes.extend(wrong);
        causes.extend(admission::changes(target, old, new));
        causes.extend(context.rules.problems(served, Some(old), new).await?);
    }
    if admission::is_signing_request(served) {
        causes.extend(certificates::changes(old, new, part == Part::Approval, part == Part::Status));
    }
    admission::refuse(served, &target.name, causes)?;
    admission::custom(context, served, Some(old), new, &target.name).await
}

fn copy(from: &Value, to: &mut Value, field: &str) {
    match from.get(field) {
        Some(value) => to[field] = value.clone(),
        None => {
            object::as_map(to).remove(field);
        }
    }
}

fn copy_metadata(from: &Value, to: &mut Value, fields: &[&str]) {
    for field in fields {
        match from.get("metadata").and_then(|metadata| metadata.get(*field)) {
            Some(value) => object::metadata(to).insert((*field).to_owned(), value.clone()),
            None => object::metadata(to).remove(*field),
        };
    }
}

/// True if the change counts as a new generation: anything but metadata and, where it is separate, status.
fn counted(target: &Target, old: &Value, new: &Value) -> bool {
    let served = &target.served;
    if !admission::counts_generations(served) {
        return false;
    }
    let fields = |value: &Value| -> Vec<(String, Value)> {
        let all = value.as_object().into_iter().flatten();
        all.filter(|(key, _)| *key != "metadata" && !(*key == "status" && served.version().status))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    fields(old) != fields(new)
}

fn new_finalizers(old: &Value, new: &Value) -> Vec<Cause> {
    let before = object::list(old, "/metadata/finalizers");
    let now = object::list(new, "/metadata/finalizers").iter();
    let added: Vec<&str> =
        now.filter(|finalizer| !before.contains(finalizer)).filter_map(Value::as_str).collect();
    if added.is_empty() || text(old, "/metadata/deletionTimestamp").is_empty() {
        return vec![];
    }
    let added: Vec<String> = added.iter().map(|finalizer| format!("{finalizer:?}")).collect();
    let why = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        added.join(", ")
    );
    vec![Cause::forbidden("metadata.finalizers", &why)]
}
