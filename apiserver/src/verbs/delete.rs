//! delete and deletecollection.

use apimachinery::listing::Asked as _;
use apimachinery::object::{self, integer, text};
use apimachinery::traits::Traits;
use apimachinery::webhooks::Operation;
use apimachinery::{Cause, Status, status};
use daemon::clock;
use kubeapi::registry::Resource;
use kubeapi::render::{Include, Renderer};
use kubeapi::respond::{self, Answer, Form};
use kubeapi::stored::{ListQuery, Stored};
use kubeapi::target::Target;
use serde_json::{Value, json};

use super::Call;
use crate::admission::{self, node_restriction};
use crate::context::Context;
use crate::conversion;
use crate::storage::{Change, WriteError};
use crate::webhooks::{self, Caller, Objects};

/// What becomes of those that name an object as their owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They go after it.
    #[default]
    Background,
    /// Those that block it go before it.
    Foreground,
    /// They stay, without their owner.
    Orphan,
}

impl Propagation {
    /// What holds the object until it is done.
    pub(crate) fn finalizer(self) -> Option<&'static str> {
        match self {
            Propagation::Background => None,
            Propagation::Foreground => Some("foregroundDeletion"),
            Propagation::Orphan => Some("orphan"),
        }
    }
}

/// `DeleteOptions`, from the body or the query.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Seconds.
    pub grace: Option<i64>,
    pub uid: String,
    pub resource_version: String,
    pub propagation: Propagation,
    pub dry_run: bool,
}

/// The options, and who asks with them.
async fn options<'a>(
    call: &'a Call<'_>,
    body: kubeapi::request::Incoming,
) -> Result<(Options, Caller<'a>), Status> {
    let bytes = kubeapi::request::body(&call.parts.headers, body).await?;
    let given = match bytes.is_empty() {
        true => Value::Null,
        false => kubeapi::request::parse(kubeapi::request::content_type(&call.parts.headers), &bytes)?,
    };
    well_formed(&given)?;
    let policy = match text(&given, "/propagationPolicy") {
        "" => call.query.get("propagationPolicy"),
        policy => policy,
    };
    let orphans = given.get("orphanDependents").is_some_and(Value::is_boolean)
        || !call.query.get("orphanDependents").is_empty();
    check_policy(policy, orphans)?;
    let grace = match integer(&given, "/gracePeriodSeconds") {
        None => call.query.number("gracePeriodSeconds")?,
        given => given,
    };
    let mut caller = super::caller(call, "DeleteOptions")?;
    if let (Some(options), Some(said)) = (caller.options.as_object_mut(), given.as_object()) {
        let is_kind = |field: &str| matches!(field, "kind" | "apiVersion");
        options.extend(said.clone().into_iter().filter(|(field, _)| !is_kind(field)));
    }
    caller.dry_run |= given["dryRun"] == json!(["All"]);
    let options = Options {
        grace: grace.map(|seconds| seconds.max(0)),
        uid: text(&given, "/preconditions/uid").to_owned(),
        resource_version: text(&given, "/preconditions/resourceVersion").to_owned(),
        propagation: propagation(call, policy, &given, orphans),
        dry_run: caller.dry_run,
    };
    Ok((options, caller))
}

fn propagation(call: &Call<'_>, policy: &str, given: &Value, orphans: bool) -> Propagation {
    match policy {
        "Foreground" => Propagation::Foreground,
        "Orphan" => Propagation::Orphan,
        "" if given["orphanDependents"] == true || call.query.flag("orphanDependents") => Propagation::Orphan,
        // As clients of old expect it of this kind (`jobStrategy.DefaultGarbageCollectionPolicy`).
        "" if !orphans && is_job(&call.target) => {
            call.warnings.add(
                "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set \
                 propagationPolicy=Orphan to suppress this warning"
                    .to_owned(),
            );
            Propagation::Orphan
        }
        // The same, without a word (`rcStrategy.DefaultGarbageCollectionPolicy`).
        "" if !orphans && call.target.served.is_core("replicationcontrollers") => Propagation::Orphan,
        _ => Propagation::Background,
    }
}

fn is_job(target: &Target) -> bool {
    let resource = &target.served.resource;
    (resource.group.as_str(), resource.plural.as_str()) == ("batch", "jobs")
}

/// `DeleteOptions` of a body have the types of their fields.
fn well_formed(given: &Value) -> Result<(), Status> {
    let kind = text(given, "/kind");
    if !matches!(kind, "" | "DeleteOptions") {
        return Err(Status::bad_request(format!(
            "{kind} in version {:?} cannot be handled as DeleteOptions",
            text(given, "/apiVersion")
        )));
    }
    for (field, is, wanted) in [
        ("gracePeriodSeconds", Value::is_i64 as fn(&Value) -> bool, "int64"),
        ("propagationPolicy", Value::is_string, "string"),
        ("orphanDependents", Value::is_boolean, "bool"),
        ("preconditions", Value::is_object, "object"),
    ] {
        let value = &given[field];
        if !value.is_null() && !is(value) {
            return Err(Status::bad_request(format!(
                "json: cannot unmarshal {value} into Go struct field DeleteOptions.{field} of type {wanted}"
            )));
        }
    }
    Ok(())
}

/// `orphans`: the older field is given as well.
fn check_policy(policy: &str, orphans: bool) -> Result<(), Status> {
    let field = "propagationPolicy";
    let cause = match policy {
        "" => return Ok(()),
        "Foreground" | "Background" | "Orphan" if orphans => {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            Cause::invalid(field, &json!(policy), why)
        }
        "Foreground" | "Background" | "Orphan" => return Ok(()),
        other => Cause::unsupported(field, &json!(other), &["Foreground", "Background", "Orphan", "nil"]),
    };
    Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", vec![cause]))
}

/// Kinds whose deletion answers the object; others answer a Status (`ReturnDeletedObject` of their stores).
fn shows_what_was(resource: &Resource) -> bool {
    match resource.group.as_str() {
        "" => matches!(
            resource.plural.as_str(),
            "persistentvolumeclaims"
                | "persistentvolumes"
                | "podtemplates"
                | "replicationcontrollers"
                | "resourcequotas"
                | "serviceaccounts"
                | "services"
        ),
        "storage.k8s.io" => {
            matches!(
                resource.plural.as_str(),
                "csidrivers" | "csinodes" | "storageclasses" | "volumeattachments"
            )
        }
        _ => false,
    }
}

pub(crate) async fn one(call: Call<'_>, body: kubeapi::request::Incoming) -> Result<Answer, Status> {
    let (options, caller) = options(&call, body).await?;
    let resource = &call.target.served.resource;
    match remove(call.backend, &call.target, &options, Some(&caller)).await? {
        Removal::Pending(stored) => call.answer(200, &stored),
        // Pods show what they were.
        Removal::Gone(stored) if call.target.served.is_core("pods") => {
            let mut value = stored.value()?;
            object::metadata(&mut value).insert("deletionGracePeriodSeconds".to_owned(), json!(0));
            call.answer(200, &super::unstored(&call.target, stored.revision, &value))
        }
        Removal::Gone(stored) if shows_what_was(resource) => call.answer(200, &stored),
        Removal::Gone(stored) => {
            let uid = stored.value()?;
            let answer =
                status::deleted(&resource.group, &resource.plural, &call.target.name, object::uid(&uid));
            Ok(respond::json(200, &answer))
        }
    }
}

pub(crate) async fn collection(call: Call<'_>, body: kubeapi::request::Incoming) -> Result<Answer, Status> {
    if call.target.served.is_core("namespaces") {
        return Err(Status::method_not_allowed());
    }
    let (options, caller) = options(&call, body).await?;
    let (labels, fields) = call.query.selectors(&call.target.served)?;
    let scope = ListQuery {
        resource: call.target.served.resource.key(),
        namespace: Some(call.target.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        labels,
        fields,
        ..ListQuery::default()
    };
    let page = call.backend.storage.list(scope).await?;
    for item in &page.items {
        let target = Target {
            namespace: item.key.namespace.clone(),
            name: item.key.name.clone(),
            ..call.target.clone()
        };
        match remove(call.backend, &target, &options, Some(&caller)).await {
            Ok(_) => {}
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    let renderer = Renderer::new(&call.target.served, Form::Object, Include::None);
    renderer.list(page, "").await
}

/// How far a deletion got.
pub(crate) enum Removal {
    Gone(Stored),
    /// Waiting for finalizers, a node, or the namespace's contents.
    Pending(Stored),
}

/// What to do with one state of an object.
enum Step {
    Remove,
    Mark(Value),
    Nothing,
}

/// As for changes ([`super::update`]).
const ATTEMPTS: u32 = 256;

/// Deletes an object as far as it can be deleted now. Webhooks are asked on behalf of `caller`; without one, the server deletes it
/// itself.
pub(crate) async fn remove(
    context: &Context,
    target: &Target,
    options: &Options,
    caller: Option<&Caller<'_>>,
) -> Result<Removal, Status> {
    let resource = &target.served.resource;
    if target.served.is_core("namespaces") && matches!(target.name.as_str(), "default" | "kube-system") {
        let why = "this namespace may not be deleted";
        return Err(Status::refused("", "namespaces", &target.name, why));
    }
    let mut turn = None;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 && turn.is_none() {
            turn = Some(context.turns.take(target.key()).await);
        }
        let stored = context.storage.get(&target.key()).await?.ok_or_else(|| target.not_found())?;
        let value = stored.value()?;
        check_preconditions(target, options, &value)?;
        let step = step(target, options, &value);
        if let (Some(caller), false) = (caller, matches!(step, Step::Nothing)) {
            let shown = conversion::out(context, &target.served, value.clone()).await?;
            let objects = Objects { old: Some(&shown), new: None };
            node_restriction::check(context, caller.user(), target, Operation::Delete, objects).await?;
            let change = webhooks::Change::of(context, caller, target, Operation::Delete);
            change.mutate(objects, admission::complete).await?;
            change.validate(objects).await?;
        }
        let previous = Traits::of(&stored.key.resource, &value);
        let expected = stored.revision;
        let (change, gone) = match step {
            Step::Nothing => return pending(context, target, caller, stored).await,
            Step::Remove => (Change::Delete { value, expected, previous }, true),
            Step::Mark(value) => (Change::Update { value, expected, previous }, false),
        };
        if options.dry_run {
            return Ok(if gone { Removal::Gone(stored) } else { Removal::Pending(stored) });
        }
        match context.storage.commit(target.key(), change).await {
            Ok(stored) if gone => return Ok(Removal::Gone(stored)),
            Ok(stored) => return pending(context, target, caller, stored).await,
            Err(WriteError::Stale) => {}
            Err(error) => return Err(error.into_status(resource, &target.name)),
        }
    }
    Err(Status::stale(&resource.group, &resource.plural, &target.name))
}

/// An object that waits, in the version of who asked. The server itself needs none.
async fn pending(
    context: &Context,
    target: &Target,
    caller: Option<&Caller<'_>>,
    stored: Stored,
) -> Result<Removal, Status> {
    match caller {
        Some(_) => conversion::one(context, &target.served, stored).await.map(Removal::Pending),
        None => Ok(Removal::Pending(stored)),
    }
}

fn check_preconditions(target: &Target, options: &Options, value: &Value) -> Result<(), Status> {
    let resource = &target.served.resource;
    let pairs = [
        ("UID", &options.uid, object::uid(value), "deleted and then recreated"),
        ("ResourceVersion", &options.resource_version, object::resource_version(value), "modified"),
    ];
    for (what, wanted, found, how) in pairs {
        if !wanted.is_empty() && wanted != found {
            let why = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). \
                 The object might have been {how}"
            );
            return Err(Status::conflict(&resource.group, &resource.kind, &target.name, &why));
        }
    }
    Ok(())
}

fn step(target: &Target, options: &Options, value: &Value) -> Step {
    let wanted = options.propagation.finalizer().filter(|_| !object::deleting(value));
    let held = wanted.map(|finalizer| with_finalizer(value, finalizer));
    let value = held.as_ref().unwrap_or(value);
    let finalizers = object::has_finalizers(value);
    let deleting = object::deleting(value);
    if target.served.is_core("namespaces") {
        // The collector empties it first.
        return match deleting {
            true => Step::Nothing,
            false => {
                let mut marked = mark(value, 0);
                marked["status"]["phase"] = json!("Terminating");
                Step::Mark(marked)
            }
        };
    }
    let grace = if target.served.is_core("pods") { pod_grace(options, value) } else { 0 };
    if deleting {
        let current = integer(value, "/metadata/deletionGracePeriodSeconds").unwrap_or(0);
        return match (grace, finalizers) {
            (0, false) => Step::Remove,
            (grace, _) if grace < current => Step::Mark(mark(value, grace)),
            _ => Step::Nothing,
        };
    }
    match grace == 0 && !finalizers {
        true => Step::Remove,
        false => Step::Mark(mark(value, grace)),
    }
}

fn with_finalizer(value: &Value, finalizer: &str) -> Value {
    let mut held = value.clone();
    let finalizers = object::metadata(&mut held).entry("finalizers").or_insert_with(|| json!([]));
    match finalizers.as_array_mut() {
        Some(all) if !all.contains(&json!(finalizer)) => all.push(json!(finalizer)),
        Some(_) => {}
        None => *finalizers = json!([finalizer]),
    }
    held
}

/// Seconds a pod gets: none if no node runs it.
fn pod_grace(options: &Options, pod: &Value) -> i64 {
    let finished = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    if text(pod, "/spec/nodeName").is_empty() || finished {
        return 0;
    }
    options.grace.or_else(|| integer(pod, "/spec/terminationGracePeriodSeconds")).unwrap_or(30).max(0)
}

fn mark(value: &Value, grace: i64) -> Value {
    let mut marked = value.clone();
    let at = jiff::Timestamp::from_second(clock::unix_seconds() + grace).unwrap_or_else(|_| clock::now());
    let metadata = object::metadata(&mut marked);
    metadata.insert("deletionTimestamp".to_owned(), json!(clock::rfc3339(at)));
    metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
    // That it is to go is a change of what is wanted.
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64).filter(|count| *count > 0) {
        metadata.insert("generation".to_owned(), json!(generation + 1));
    }
    marked
}
