//! An API in memory that keeps to the same rules: versions that grow, conflicts, preconditions, graceful deletion of pods,
//! dependents that go with their owner. For tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use apimachinery::Status;
use apimachinery::object::{self, list, text};
use apimachinery::patch::{self, PatchKind};
use futures_util::future::{BoxFuture, ready};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::api::{Api, Deletion, Event, Key, Kind, List, Watch};
use crate::shell::Users;

type Place = (&'static str, Key);

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<Place, Value>,
    log: Vec<(&'static str, u64, Event)>,
    /// Versions up to this one are forgotten.
    compacted: u64,
}

/// See the module.
pub struct Fake {
    state: Mutex<State>,
    events: broadcast::Sender<(&'static str, Event)>,
    /// Answers for the next creations of a kind.
    refusals: Mutex<Vec<(&'static str, Status)>>,
}

impl Default for Fake {
    fn default() -> Fake {
        Fake { state: Mutex::default(), events: broadcast::Sender::new(4096), refusals: Mutex::default() }
    }
}

/// Everybody may do everything.
impl Users for Arc<Fake> {
    fn api(&self, _user: &str) -> Arc<dyn Api> {
        self.clone()
    }
}

impl Fake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an object as a user does.
    pub fn put(&self, kind: Kind, value: Value) -> Value {
        self.insert(kind, value).unwrap_or_else(|status| json!({"refused": status.to_string()}))
    }

    /// The objects of a kind, in order of their keys.
    pub fn all(&self, kind: Kind) -> Vec<Value> {
        let state = self.state();
        state
            .objects
            .iter()
            .filter(|((resource, _), _)| *resource == kind.resource)
            .map(|(_, value)| value.clone())
            .collect()
    }

    pub fn find(&self, kind: Kind, namespace: &str, name: &str) -> Option<Value> {
        self.state().objects.get(&(kind.resource, Key::new(namespace, name))).cloned()
    }

    /// Changes an object as it is now; true if there is one.
    pub fn edit(&self, kind: Kind, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) -> bool {
        let Some(mut value) = self.find(kind, namespace, name) else { return false };
        change(&mut value);
        object::metadata(&mut value).remove("resourceVersion");
        self.replace(kind, &value, "").is_ok()
    }

    /// Waits until what is stored is so.
    pub async fn until(&self, is_so: impl Fn(&Fake) -> bool) {
        let mut events = self.events.subscribe();
        while !is_so(self) {
            // An event, or that some were missed: a reason to look again.
            let _ = events.recv().await;
        }
    }

    /// Refuses the next creation of a kind.
    pub fn refuse_next(&self, kind: Kind, status: Status) {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).push((kind.resource, status));
    }

    /// Forgets the past: watches from before it are answered with 410.
    pub fn compact(&self) {
        let mut state = self.state();
        state.compacted = state.version;
        state.log.clear();
    }

    fn commit(&self, state: &mut State, kind: Kind, key: Key, mut value: Value, gone: bool) -> Value {
        state.version += 1;
        object::metadata(&mut value).insert("resourceVersion".to_owned(), json!(state.version.to_string()));
        let place = (kind.resource, key);
        let event = match gone {
            false => {
                state.objects.insert(place, value.clone());
                Event::Applied(value.clone())
            }
            true => {
                state.objects.remove(&place);
                Event::Deleted(value.clone())
            }
        };
        state.log.push((kind.resource, state.version, event.clone()));
        let _ = self.events.send((kind.resource, event));
        if gone {
            self.collect(state, object::uid(&value));
        }
        value
    }

    /// Dependents go with their owner.
    fn collect(&self, state: &mut State, owner: &str) {
        let owned = |value: &Value| {
            list(value, "/metadata/ownerReferences").iter().any(|one| text(one, "/uid") == owner)
        };
        let all: Vec<Place> =
            state.objects.iter().filter(|(_, value)| owned(value)).map(|(place, _)| place.clone()).collect();
        for (resource, key) in all {
            let line = apimachinery::kinds::KINDS.iter().find(|(_, line)| line.resource == resource);
            if let (Some((_, kind)), Some(value)) =
                (line, state.objects.get(&(resource, key.clone())).cloned())
            {
                self.commit(state, kind, key, value, true);
            }
        }
    }

    fn insert(&self, kind: Kind, mut value: Value) -> Result<Value, Status> {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = refusals.iter().position(|(resource, _)| *resource == kind.resource) {
            return Err(refusals.remove(at).1);
        }
        drop(refusals);
        let mut state = self.state();
        let next = state.version + 1;
        let metadata = object::metadata(&mut value);
        let stem =
            metadata.get("generateName").and_then(Value::as_str).map(|stem| format!("{stem}{next:05}"));
        object::set_default(metadata, "name", stem.unwrap_or_default());
        metadata.insert("uid".to_owned(), json!(format!("uid-{next}")));
        metadata.insert("generation".to_owned(), json!(1));
        object::set_default(metadata, "creationTimestamp", daemon::clock::rfc3339(daemon::clock::now()));
        if kind.resource == "pods" && value.get("status").is_none() {
            value["status"] = json!({"phase": "Pending"});
        }
        let key = Key::of(&value);
        if state.objects.contains_key(&(kind.resource, key.clone())) {
            return Err(Status::already_exists(kind.group, kind.resource, &key.name));
        }
        Ok(self.commit(&mut state, kind, key, value, false))
    }

    fn current(&self, state: &State, kind: Kind, key: &Key) -> Result<Value, Status> {
        let found = state.objects.get(&(kind.resource, key.clone())).cloned();
        found.ok_or_else(|| Status::not_found(kind.group, kind.resource, &key.name))
    }

    fn replace(&self, kind: Kind, value: &Value, subresource: &str) -> Result<Value, Status> {
        let mut state = self.state();
        let key = Key::of(value);
        let old = self.current(&state, kind, &key)?;
        let (named, uid) = (object::resource_version(value), object::uid(value));
        let is_stale = !named.is_empty() && named != object::resource_version(&old);
        if is_stale || (!uid.is_empty() && uid != object::uid(&old)) {
            return Err(Status::stale(kind.group, kind.resource, &key.name));
        }
        let mut new = match subresource {
            "" => value.clone(),
            part => {
                let mut new = old.clone();
                new[part] = value[part].clone();
                new
            }
        };
        let generation = object::integer(&old, "/metadata/generation").unwrap_or(1);
        let changed = i64::from(old["spec"] != new["spec"]);
        new["metadata"]["generation"] = json!(generation + changed);
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        if new == old {
            return Ok(old);
        }
        let gone = object::deleting(&new)
            && !object::has_finalizers(&new)
            && new["metadata"].get("deletionGracePeriodSeconds").is_none();
        Ok(self.commit(&mut state, kind, key, new, gone))
    }

    fn merge(&self, kind: Kind, key: &Key, subresource: &str, with: &Value) -> Result<Value, Status> {
        let old = self.current(&self.state(), kind, key)?;
        let named = object::resource_version(with);
        if !named.is_empty() && named != object::resource_version(&old) {
            return Err(Status::stale(kind.group, kind.resource, &key.name));
        }
        let new = patch::apply(PatchKind::Merge, &old, with, None)?;
        self.replace(kind, &new, subresource)
    }

    fn take(&self, kind: Kind, key: &Key, options: &Deletion) -> Result<Value, Status> {
        let mut state = self.state();
        let old = self.current(&state, kind, key)?;
        if !options.uid.is_empty() && options.uid != object::uid(&old) {
            return Err(Status::conflict(kind.group, kind.resource, &key.name, "another uid"));
        }
        let waits =
            kind.resource == "pods" && !text(&old, "/spec/nodeName").is_empty() && options.grace != Some(0);
        if waits || object::has_finalizers(&old) {
            if object::deleting(&old) {
                return Ok(old);
            }
            let mut marked = old;
            marked["metadata"]["deletionTimestamp"] = json!(daemon::clock::rfc3339(daemon::clock::now()));
            if waits {
                marked["metadata"]["deletionGracePeriodSeconds"] = json!(30);
            }
            return Ok(self.commit(&mut state, kind, key.clone(), marked, false));
        }
        self.commit(&mut state, kind, key.clone(), old, true);
        Ok(json!({"kind": "Status", "status": "Success"}))
    }

    fn posted(&self, kind: Kind, key: &Key, subresource: &str, value: &Value) -> Result<Value, Status> {
        if subresource != "binding" {
            return Err(Status::no_such_path());
        }
        let mut pod = self.current(&self.state(), kind, key)?;
        if !text(&pod, "/spec/nodeName").is_empty() {
            return Err(Status::conflict("", "pods/binding", &key.name, "it is assigned already"));
        }
        pod["spec"]["nodeName"] = value["target"]["name"].clone();
        self.replace(kind, &pod, "")
    }
}

impl Api for Fake {
    fn get<'a>(&'a self, kind: Kind, key: &'a Key) -> BoxFuture<'a, Result<Value, Status>> {
        let found = self.current(&self.state(), kind, key);
        ready(found).boxed()
    }

    fn list(&self, kind: Kind) -> BoxFuture<'_, Result<List, Status>> {
        let items = self.all(kind);
        let version = self.state().version;
        ready(Ok(List { items, version })).boxed()
    }

    fn watch(&self, kind: Kind, since: u64) -> BoxFuture<'_, Result<Watch, Status>> {
        let state = self.state();
        if since < state.compacted {
            return ready(Err(Status::expired("too old resource version"))).boxed();
        }
        let past = state.log.iter().filter(|(resource, at, _)| *resource == kind.resource && *at > since);
        let past: Vec<Result<Event, Status>> = past.map(|(_, _, event)| Ok(event.clone())).collect();
        let receiver = self.events.subscribe();
        drop(state);
        let live = stream::unfold(receiver, move |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok((resource, event)) if resource == kind.resource => return Some((Ok(event), receiver)),
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
        });
        ready(Ok(stream::iter(past).chain(live).boxed())).boxed()
    }

    fn create<'a>(&'a self, kind: Kind, value: &'a Value) -> BoxFuture<'a, Result<Value, Status>> {
        ready(self.insert(kind, value.clone())).boxed()
    }

    fn post<'a>(
        &'a self,
        kind: Kind,
        key: &'a Key,
        subresource: &'a str,
        value: &'a Value,
    ) -> BoxFuture<'a, Result<Value, Status>> {
        ready(self.posted(kind, key, subresource, value)).boxed()
    }

    fn update<'a>(
        &'a self,
        kind: Kind,
        value: &'a Value,
        part: &'a str,
    ) -> BoxFuture<'a, Result<Value, Status>> {
        ready(self.replace(kind, value, part)).boxed()
    }

    fn patch<'a>(
        &'a self,
        kind: Kind,
        key: &'a Key,
        part: &'a str,
        with: &'a Value,
    ) -> BoxFuture<'a, Result<Value, Status>> {
        ready(self.merge(kind, key, part, with)).boxed()
    }

    fn delete<'a>(
        &'a self,
        kind: Kind,
        key: &'a Key,
        options: &'a Deletion,
    ) -> BoxFuture<'a, Result<Value, Status>> {
        ready(self.take(kind, key, options)).boxed()
    }
}
