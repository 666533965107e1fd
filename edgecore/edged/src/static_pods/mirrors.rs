//! Mirrors: objects of the API that show the static pods of this node. The API's users see them; nothing they do to a
//! mirror stops the pod behind it.
//!
//! Known mirrors come with the pods of the node; what is missing is made, what is stale or stray is deleted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use message::{Json, Request};
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use metamanager::{Cloud, LinkState};
use nodebase::base::Base;
use nodebase::events::Kind;
use nodestatus::{self, NodeError};
use podmodel::demand::{MIRROR, mirrored};
use podmodel::errors::chain;
use podmodel::spec::PodId;

/// Namespace and name.
type Name = (String, String);

/// A mirror as the API has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mirror {
    pub uid: String,
    hash: String,
    is_ending: bool,
    /// What the API says of it.
    pub status: Option<Box<PodStatus>>,
}

/// Handle of what is known of mirrors.
#[derive(Clone, Default)]
pub struct Mirrors {
    known: Arc<Mutex<BTreeMap<Name, Mirror>>>,
    changed: Arc<Notify>,
}

impl Mirrors {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Mirror>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A mirror came from the API.
    pub fn seen(&self, pod: &Pod) {
        let Some(hash) = mirrored(pod) else { return };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let mirror = Mirror {
            uid: text(&pod.metadata.uid),
            hash: hash.to_owned(),
            is_ending: pod.metadata.deletion_timestamp.is_some(),
            status: pod.status.clone().map(Box::new),
        };
        self.lock().insert((text(&pod.metadata.namespace), text(&pod.metadata.name)), mirror);
        self.changed.notify_one();
    }

    /// The API no longer has the mirror of this name, or the one with this uid.
    pub fn gone(&self, namespace: &str, name: &str, uid: Option<&str>) {
        let name = (namespace.to_owned(), name.to_owned());
        let mut known = self.lock();
        if known.get(&name).is_some_and(|mirror| uid.is_none_or(|uid| uid == mirror.uid)) {
            known.remove(&name);
        }
        drop(known);
        self.changed.notify_one();
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Mirror> {
        self.lock().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The static pods changed.
    pub fn poke(&self) {
        self.changed.notify_one();
    }

    fn all(&self) -> BTreeMap<Name, Mirror> {
        self.lock().clone()
    }
}

/// Something that has to be done about a mirror.
#[derive(Debug, PartialEq)]
enum Step {
    Make(Name),
    Delete(Name, String),
}

impl Step {
    fn name(&self) -> &Name {
        match self {
            Step::Make(name) | Step::Delete(name, _) => name,
        }
    }
}

/// What brings the mirrors nearer to the static pods (name -> hash). A stale mirror is deleted first; the next look
/// makes the new one. Pure.
fn steps(wanted: &BTreeMap<Name, String>, known: &BTreeMap<Name, Mirror>) -> Vec<Step> {
    let stale = known.iter().filter(|(name, mirror)| {
        mirror.is_ending || wanted.get(*name).is_none_or(|hash| *hash != mirror.hash)
    });
    let missing = wanted.keys().filter(|name| !known.contains_key(*name));
    let deletions = stale.map(|(name, mirror)| Step::Delete(name.clone(), mirror.uid.clone()));
    deletions.chain(missing.map(|name| Step::Make(name.clone()))).collect()
}

/// After a lost answer, and after the first refusal of a mirror.
const RETRY: Duration = Duration::from_secs(5);
/// A mirror that is refused again and again is tried at least so often: somebody may mend the API's rules.
const RAREST: Duration = Duration::from_secs(300);

/// Mirrors that failed, each on its own.
#[derive(Default)]
struct Troubles(BTreeMap<Name, Trouble>);

struct Trouble {
    failures: u32,
    again_at: Instant,
    error: String,
}

impl Troubles {
    /// Whether the mirror may be tried.
    fn is_due(&self, name: &Name, now: Instant) -> bool {
        self.0.get(name).is_none_or(|trouble| trouble.again_at <= now)
    }

    /// Notes a failure. True if it is another one than before.
    fn note(&mut self, name: &Name, error: &str, now: Instant) -> bool {
        let before = self.0.get(name);
        let failures = before.map_or(0, |trouble| trouble.failures) + 1;
        let is_news = before.is_none_or(|trouble| trouble.error != error);
        let delay = RETRY.saturating_mul(1 << (failures - 1).min(16)).min(RAREST);
        let trouble = Trouble { failures, again_at: now + delay, error: error.to_owned() };
        self.0.insert(name.clone(), trouble);
        is_news
    }

    fn over(&mut self, name: &Name) {
        self.0.remove(name);
    }

    /// When the next one is due.
    fn next(&self) -> Option<Instant> {
        self.0.values().map(|trouble| trouble.again_at).min()
    }
}

/// What mirrors are made of.
pub(crate) struct Keeper {
    pub base: Arc<Base>,
    pub mirrors: Mirrors,
    /// The uid of the node object, once the cloud has told it.
    pub node_uid: watch::Receiver<Option<String>>,
}

/// Keeps the mirrors right while there is a link, until `stop`. `ready` resolves when the static pods and the stored
/// pods are known: before that nothing is stray.
pub(crate) async fn keep(
    keeper: Keeper,
    cloud: Cloud,
    ready: impl Future<Output = ()>,
    stop: CancellationToken,
) {
    let work = async {
        ready.await;
        // A mirror belongs to its node, which may have to be made first.
        let mut node = keeper.node_uid.clone();
        if keeper.base.settings.register_node && node.wait_for(Option::is_some).await.is_err() {
            return;
        }
        let mut link = cloud.link();
        let mut troubles = Troubles::default();
        while link.wait_for(|state| *state == LinkState::Connected).await.is_ok() {
            look(&keeper, &cloud, &mut troubles).await;
            let next = troubles.next().unwrap_or_else(|| Instant::now() + FOREVER);
            tokio::select! {
                () = keeper.mirrors.changed.notified() => {}
                _ = tokio::time::sleep_until(next) => {}
                _ = link.changed() => troubles = Troubles::default(),
            }
        }
    };
    tokio::select! {
        biased;
        _ = stop.cancelled() => {}
        // Nobody is left who could connect.
        () = work => stop.cancelled().await,
    }
}

/// Longer than any timer needs.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// Takes every step that is due; one that fails leaves the others alone.
async fn look(keeper: &Keeper, cloud: &Cloud, troubles: &mut Troubles) {
    let entries: Vec<_> = keeper
        .base
        .board
        .entries()
        .into_iter()
        .filter(|entry| entry.demand.is_static && !entry.is_leaving)
        .collect();
    let name = |id: &PodId| (id.namespace.clone(), id.name.clone());
    let wanted: BTreeMap<Name, String> =
        entries.iter().map(|entry| (name(&entry.id), entry.id.uid.clone())).collect();
    let known = keeper.mirrors.all();
    troubles.0.retain(|name, _| wanted.contains_key(name) || known.contains_key(name));
    for step in steps(&wanted, &known) {
        let about = step.name().clone();
        if !troubles.is_due(&about, Instant::now()) {
            continue;
        }
        let entry = entries.iter().find(|entry| name(&entry.id) == about);
        let taken = match &step {
            Step::Delete(_, uid) => delete(keeper, cloud, &about, uid).await,
            Step::Make(_) => match entry.and_then(|entry| entry.pod()) {
                Some(pod) => make(keeper, cloud, pod).await,
                None => Ok(()),
            },
        };
        let Err(error) = taken else {
            troubles.over(&about);
            continue;
        };
        let text = chain(&error);
        if troubles.note(&about, &text, Instant::now()) {
            tracing::warn!(
                namespace = about.0,
                name = about.1,
                error = text,
                "mirror of a static pod not kept right yet"
            );
            if let Some(entry) = entry {
                keeper.base.events.record(&entry.id, None, Kind::Warning, "FailedMirror", &text);
            }
        }
    }
}

async fn delete(keeper: &Keeper, cloud: &Cloud, about: &Name, uid: &str) -> Result<(), NodeError> {
    let (what, (namespace, name)) = ("delete a mirror pod", about);
    let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}});
    let options = Json::of(&options);
    let request = Request::DeletePod { namespace: namespace.clone(), name: name.clone(), options };
    match nodestatus::ask(cloud, what, request).await {
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    keeper.mirrors.gone(namespace, name, Some(uid));
    Ok(())
}

/// Makes the mirror. One that is there already comes with the pods of this node.
async fn make(keeper: &Keeper, cloud: &Cloud, pod: Pod) -> Result<(), NodeError> {
    let what = "make a mirror pod";
    let id = PodId::of(&pod);
    let owner = keeper.node_uid.borrow().clone();
    let mirror = mirror_of(pod, keeper.base.settings.node.as_str(), owner);
    let object = Json::encode(&mirror).map_err(|source| NodeError::Encode { what, source })?;
    let request = Request::CreatePod { namespace: id.namespace.clone(), name: id.name.clone(), object };
    match nodestatus::ask(cloud, what, request).await {
        Ok(Some(object)) => {
            if let Ok(pod) = object.parse::<Pod>() {
                keeper.mirrors.seen(&pod);
                keeper.base.board.wake(&id.uid);
            }
            Ok(())
        }
        Err(error) if error.is_conflict() => Ok(()),
        other => other.map(|_| ()),
    }
}

/// The object that stands for a static pod in the API.
fn mirror_of(mut pod: Pod, node: &str, owner: Option<String>) -> Pod {
    let hash = pod.metadata.uid.take().unwrap_or_default();
    pod.metadata.annotations.get_or_insert_default().insert(MIRROR.to_owned(), hash);
    pod.metadata.resource_version = None;
    pod.metadata.owner_references = owner.map(|uid| {
        vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: node.to_owned(),
            uid,
            controller: Some(true),
            ..OwnerReference::default()
        }]
    });
    pod.status = None;
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        ("d".to_owned(), text.to_owned())
    }

    #[test]
    fn missing_mirrors_are_made_and_stale_and_stray_ones_deleted() {
        let mirror = |uid: &str, hash: &str, is_ending| Mirror {
            uid: uid.to_owned(),
            hash: hash.to_owned(),
            is_ending,
            status: None,
        };
        let wanted: BTreeMap<Name, String> =
            [("same", "1"), ("changed", "2"), ("missing", "1"), ("asked", "1")]
                .map(|(pod, hash)| (name(pod), hash.to_owned()))
                .into();
        let known = BTreeMap::from([
            (name("same"), mirror("u1", "1", false)),
            (name("changed"), mirror("u2", "1", false)),
            (name("stray"), mirror("u3", "1", false)),
            (name("asked"), mirror("u4", "1", true)),
        ]);
        let expected = [
            Step::Delete(name("asked"), "u4".into()),
            Step::Delete(name("changed"), "u2".into()),
            Step::Delete(name("stray"), "u3".into()),
            Step::Make(name("missing")),
        ];
        assert_eq!(steps(&wanted, &known), expected);
    }
}
