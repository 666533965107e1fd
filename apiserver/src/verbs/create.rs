//! create.

pub(crate) mod namespace;

use apimachinery::webhooks::Operation;
use apimachinery::{Cause, Status, object};
use kubeapi::registry::Served;
use kubeapi::respond::Answer;
use kubeapi::stored::Stored;
use kubeapi::target::Target;
use serde_json::Value;

use super::decode::Directive;
use super::ownership::Ownership;
use super::{Call, prepare, unstored};
use crate::admission::{self, limits, node_restriction};
use crate::certificates;
use crate::context::Context;
use crate::conversion;
use crate::namespaces::State;
use crate::storage::{Change, WriteError};
use crate::webhooks::{self, Caller, Objects};

pub(crate) async fn create(call: Call<'_>, body: kubeapi::request::Incoming) -> Result<Answer, Status> {
    let directive = Directive::of_request(&call, "CreateOptions")?;
    let ownership = Ownership::of_request(&call, "CreateOptions", false)?;
    let mut value = directive.object(&call, call.object_body(body).await?)?;
    admission::sign_for(&call.target.served, &call.user, &mut value);
    let caller = super::caller(&call, "CreateOptions")?;
    call.renderer()?;
    admission::deprecated(&call.target.served, &value).into_iter().for_each(|text| call.warnings.add(text));
    let stored = insert(call.backend, &call.target, value, &ownership, Some(&caller)).await?;
    call.answer(201, &stored)
}

/// Attempts to find a free generated name.
const NAMES: u32 = 4;

/// Checks and stores a new object; `target` may lack the name. Webhooks are asked on behalf of `caller`; without one, the server
/// makes it itself.
pub(crate) async fn insert(
    context: &Context,
    target: &Target,
    mut value: Value,
    ownership: &Ownership,
    caller: Option<&Caller<'_>>,
) -> Result<Stored, Status> {
    let served = &target.served;
    if served.resource.namespaced && target.namespace.is_empty() {
        return Err(Status::bad_request("an empty namespace may not be set during creation"));
    }
    prepare::envelope(target, &mut value)?;
    let generated = object::name(&value).is_empty();
    // Only a name that was generated can be tried again.
    let attempts = if generated { NAMES } else { 1 };
    for attempt in 1..=attempts {
        let mut value = if attempt < attempts { value.clone() } else { std::mem::take(&mut value) };
        prepare::created(&mut value, admission::counts_generations(served))?;
        let target = Target { name: object::name(&value).to_owned(), ..target.clone() };
        in_live_namespace(context, &target)?;
        record(served, ownership, &mut value);
        admission::create(context, &target, &mut value).await?;
        if let Some(caller) = caller {
            let objects = Objects { new: Some(&value), old: None };
            node_restriction::check(context, caller.user(), &target, Operation::Create, objects).await?;
        }
        let change = caller.map(|caller| webhooks::Change::of(context, caller, &target, Operation::Create));
        if let Some(change) = &change
            && let Some(mut changed) =
                change.mutate(Objects { new: Some(&value), old: None }, admission::complete).await?
        {
            prepare::envelope(&target, &mut changed)?;
            prepare::keep(&value, &mut changed);
            prepare::keep_record(&value, &mut changed);
            value = changed;
            admission::create(context, &target, &mut value).await?;
        }
        // Held until the service is stored.
        let _reserved = match served.is_core("services") {
            true => Some(admission::assign(context, &target, None, &mut value)?),
            false => None,
        };
        let mut causes = prepare::problems(&target, &value);
        causes.extend(admission::problems(served, &value));
        causes.extend(context.rules.problems(served, None, &value).await?);
        admission::refuse(served, &target.name, causes)?;
        admission::custom(context, served, None, &mut value, &target.name).await?;
        if let (Some(change), Some(caller)) = (&change, caller) {
            admission::grants::check(context, caller.user(), &target, None, &value)?;
            limits::check(context, &target, Operation::Create, &value)?;
            if admission::is_signing_request(served) {
                certificates::restricted(&value, &target.name)?;
            }
            change.validate(Objects { new: Some(&value), old: None }).await?;
        }
        let dry_run = caller.is_some_and(|caller| caller.dry_run);
        let charged = match caller {
            Some(_) => {
                limits::charge(context, &target, Objects { new: Some(&value), old: None }, dry_run).await?
            }
            None => None,
        };
        if dry_run {
            if context.storage.get(&target.key()).await?.is_some() {
                return Err(WriteError::Exists.into_status(&served.resource, &target.name));
            }
            return Ok(unstored(&target, 0, &value));
        }
        let value = conversion::back(context, served, value).await?;
        match context.storage.commit(target.key(), Change::Create(value)).await {
            Err(WriteError::Exists) if attempt < attempts => {}
            Err(error) => return Err(error.into_status(&served.resource, &target.name)),
            Ok(stored) => {
                if let Some(charged) = charged {
                    charged.stored();
                }
                if served.is_core("namespaces") {
                    namespace::furnish(context, &target.name).await?;
                }
                return conversion::one(context, served, stored).await;
            }
        }
    }
    Err(Status::unavailable("no free generated name was found; try again"))
}

/// Records who makes an object: of what was sent and its defaults, not of what admission adds.
fn record(served: &Served, ownership: &Ownership, value: &mut Value) {
    let mut defaulted = value.clone();
    admission::complete(served, &mut defaulted);
    ownership.created(served, &mut defaulted);
    prepare::keep_record(&defaulted, value);
}

fn in_live_namespace(context: &Context, target: &Target) -> Result<(), Status> {
    if !target.served.resource.namespaced {
        return Ok(());
    }
    let state = context.namespaces.state(&target.namespace);
    if state == State::Missing {
        return Err(Status::not_found("", "namespaces", &target.namespace));
    }
    if state == State::Terminating {
        let resource = &target.served.resource;
        let why = format!(
            "unable to create new content in namespace {} because it is being terminated",
            target.namespace
        );
        let mut status = Status::refused(&resource.group, &resource.plural, &target.name, &why);
        status.causes.push(Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {} is being terminated", target.namespace),
            field: "metadata.namespace".to_owned(),
        });
        return Err(status);
    }
    Ok(())
}
