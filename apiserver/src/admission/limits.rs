//! What namespaces limit: containers and claims by LimitRanges, everything by ResourceQuotas
//! (`plugin/pkg/admission/limitranger`, `apiserver/pkg/admission/plugin/resourcequota`).
//!
//! A quota is charged before the object is stored, by one writer of the namespace after the other: together they never
//! use more than there is.

use std::sync::Arc;

use apimachinery::amounts::Amounts;
use apimachinery::traits::Traits;
use apimachinery::webhooks::Operation;
use apimachinery::{Status, limits, quota};
use kubeapi::stored::Key;
use kubeapi::target::Target;
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use crate::context::Context;
use crate::limits::{Limits, QUOTAS, Quota};
use crate::storage::{Change, WriteError};
use crate::webhooks::Objects;

/// Races with those who change quotas, lost before giving up.
const ATTEMPTS: u32 = 32;

/// Gives a new pod what its namespace gives by default.
pub(super) fn default_pod(context: &Context, target: &Target, pod: &mut Value) {
    let ranges = context.limits.ranges(&target.namespace);
    if !ranges.is_empty() {
        limits::default_pod(&borrowed(&ranges), pod);
    }
}

fn borrowed(ranges: &[Arc<Value>]) -> Vec<&Value> {
    ranges.iter().map(Arc::as_ref).collect()
}

/// 403 if a pod or claim is beyond what its namespace allows.
pub(crate) fn check(
    context: &Context,
    target: &Target,
    operation: Operation,
    object: &Value,
) -> Result<(), Status> {
    let served = &target.served;
    let (is_pod, is_claim) = (served.is_core("pods"), served.is_core("persistentvolumeclaims"));
    let is_limited =
        target.subresource.is_empty() && (is_claim || (is_pod && operation == Operation::Create));
    if !is_limited {
        return Ok(());
    }
    let ranges = context.limits.ranges(&target.namespace);
    let why = match is_pod {
        true => limits::pod_refused(&borrowed(&ranges), object),
        false => limits::claim_refused(&borrowed(&ranges), object),
    };
    match why {
        Some(why) => Err(Status::refused("", &served.resource.plural, &target.name, &why)),
        None => Ok(()),
    }
}

/// A charge, and the turn of the namespace. If it is dropped before the object is known to be stored, or if the object left
/// the scope of a quota, its quotas are counted anew.
#[must_use]
pub(crate) struct Charged {
    limits: Arc<Limits>,
    namespace: String,
    is_open: bool,
    is_move: bool,
    _turn: OwnedMutexGuard<()>,
}

impl Charged {
    /// The object is stored.
    pub(crate) fn stored(mut self) {
        self.is_open = self.is_move;
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        if self.is_open {
            self.limits.doubt(&self.namespace);
        }
    }
}

/// The turn of those who use or count the quotas of a namespace.
pub(crate) async fn turn(context: &Context, namespace: &str) -> OwnedMutexGuard<()> {
    context.turns.take(Key::new(QUOTAS, namespace, "")).await
}

/// Charges the quotas of the namespace with an object; 403 if there is not enough. `None`: nothing is limited.
pub(crate) async fn charge(
    context: &Context,
    target: &Target,
    objects: Objects<'_>,
    dry_run: bool,
) -> Result<Option<Charged>, Status> {
    let resource = &target.served.resource;
    let of = quota::Of { group: &resource.group, plural: &resource.plural };
    let Some(new) = objects.new else { return Ok(None) };
    let is_counted = resource.namespaced
        && resource.plural != "events"
        && target.subresource.is_empty()
        && objects.old.is_none_or(|old| of.grows() || of.moves(old, new));
    if !is_counted || context.limits.quotas(&target.namespace).is_empty() {
        return Ok(None);
    }
    let turn = turn(context, &target.namespace).await;
    let mut charged = Charged {
        limits: context.limits.clone(),
        namespace: target.namespace.clone(),
        is_open: false,
        is_move: objects.old.is_some_and(|old| of.moves(old, new)),
        _turn: turn,
    };
    let mut done: Vec<String> = Vec::new();
    for _ in 0..ATTEMPTS {
        let mut charges: Vec<(Quota, Amounts)> = Vec::new();
        for quota in context.limits.quotas(&target.namespace) {
            if done.iter().any(|name| name == apimachinery::object::name(&quota.value)) {
                continue;
            }
            let charge = quota::charge(&quota.value, of, objects.old, new)
                .map_err(|why| Status::refused(&resource.group, &resource.plural, &target.name, &why))?;
            charges.extend(charge.map(|used| (quota, used)));
        }
        if dry_run {
            return Ok(None);
        }
        charged.is_open |= !charges.is_empty();
        let mut is_stale = false;
        for (quota, used) in charges {
            match write(context, &quota, &used).await? {
                true => done.push(apimachinery::object::name(&quota.value).to_owned()),
                false => is_stale = true,
            }
        }
        if !is_stale {
            return Ok(Some(charged));
        }
    }
    let why = "the quotas of the namespace change too often; try again";
    Err(Status::conflict(&resource.group, &resource.plural, &target.name, why))
}

/// Writes what is used of a quota; false if it has changed since it was read.
pub(crate) async fn write(context: &Context, quota: &Quota, used: &Amounts) -> Result<bool, Status> {
    let before = quota.value.as_ref();
    let mut value = before.clone();
    value["status"] = serde_json::json!({"hard": before["spec"]["hard"], "used": used.value()});
    if value == *before {
        return Ok(true);
    }
    let object = apimachinery::object::namespace(before);
    let key = Key::new(QUOTAS, object, apimachinery::object::name(before));
    let change = Change::Update { value, expected: quota.revision, previous: Traits::of(QUOTAS, before) };
    match context.storage.commit(key, change).await {
        Ok(_) => Ok(true),
        Err(WriteError::Store(status)) => Err(status),
        Err(WriteError::Stale | WriteError::Missing | WriteError::Exists) => Ok(false),
    }
}
