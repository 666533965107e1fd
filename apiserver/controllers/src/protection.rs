//! Claims that pods use and volumes that are bound stay until that ends (`pkg/controller/volume/{pvcprotection,pvprotection}`).

use apimachinery::Status;
use apimachinery::kinds::lines;
use apimachinery::object::{self, as_map, list, text};
use apimachinery::pod::references::References;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::api::{Key, Kind};
use crate::cache::{Cache, Change};
use crate::shell::{Again, Controller, Work};

const CLAIM: Kind = &lines::PersistentVolumeClaim;
const VOLUME: Kind = &lines::PersistentVolume;
const POD: Kind = &lines::Pod;
/// What holds a claim.
const OF_CLAIMS: &str = "kubernetes.io/pvc-protection";
/// What holds a volume.
const OF_VOLUMES: &str = "kubernetes.io/pv-protection";

/// Keeps claims that pods on nodes use.
pub struct Claims;

/// Keeps volumes that are bound.
pub struct Volumes;

/// The object with its finalizer as it should be; `None`: it is so.
fn kept(value: &Value, finalizer: &str, is_used: impl FnOnce() -> bool) -> Option<Value> {
    let has = list(value, "/metadata/finalizers").iter().any(|one| one == finalizer);
    let mut finalizers = list(value, "/metadata/finalizers").to_vec();
    match (object::deleting(value), has) {
        (false, false) => finalizers.push(json!(finalizer)),
        (true, true) if !is_used() => finalizers.retain(|one| one != finalizer),
        _ => return None,
    }
    let mut changed = value.clone();
    as_map(&mut changed["metadata"]).insert("finalizers".to_owned(), Value::Array(finalizers));
    Some(changed)
}

/// A pod without a node has not started, and will not start with a claim that goes.
fn uses(pod: &Value, claim: &str) -> bool {
    !text(pod, "/spec/nodeName").is_empty() && References::of(pod).claims.contains(claim)
}

impl Controller for Claims {
    fn name(&self) -> &'static str {
        "persistentvolumeclaim-protection-controller"
    }

    fn user(&self) -> &'static str {
        "system:serviceaccount:kube-system:pvc-protection-controller"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![CLAIM, POD]
    }

    fn touched(&self, cache: &Cache, change: &Change) -> Vec<Key> {
        if change.kind == CLAIM {
            return vec![change.key.clone()];
        }
        // A pod's end may be that of a claim's use.
        let claims = cache.store(CLAIM).entries(&change.key.namespace).into_iter();
        claims.filter(|(_, claim)| object::deleting(&claim.value())).map(|(key, _)| key).collect()
    }

    fn reconcile<'a>(&'a self, work: &'a Work, key: &'a Key) -> BoxFuture<'a, Result<Again, Status>> {
        async move {
            let Some(claim) = work.cache.store(CLAIM).get(key) else { return Ok(None) };
            let is_used =
                || work.cache.store(POD).values(&key.namespace).iter().any(|pod| uses(pod, &key.name));
            if let Some(changed) = kept(&claim, OF_CLAIMS, is_used) {
                work.client.update(CLAIM, &changed).await?;
            }
            Ok(None)
        }
        .boxed()
    }
}

impl Controller for Volumes {
    fn name(&self) -> &'static str {
        "persistentvolume-protection-controller"
    }

    fn user(&self) -> &'static str {
        "system:serviceaccount:kube-system:pv-protection-controller"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![VOLUME]
    }

    fn touched(&self, _cache: &Cache, change: &Change) -> Vec<Key> {
        if change.kind == VOLUME { vec![change.key.clone()] } else { vec![] }
    }

    fn reconcile<'a>(&'a self, work: &'a Work, key: &'a Key) -> BoxFuture<'a, Result<Again, Status>> {
        async move {
            let Some(volume) = work.cache.store(VOLUME).get(key) else { return Ok(None) };
            let is_bound = || text(&volume, "/status/phase") == "Bound";
            if let Some(changed) = kept(&volume, OF_VOLUMES, is_bound) {
                work.client.update(VOLUME, &changed).await?;
            }
            Ok(None)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_held_and_let_go_once_it_is_not() {
        let claim = json!({"metadata": {"name": "c"}});
        let held = kept(&claim, OF_CLAIMS, || false).unwrap();
        assert_eq!(held["metadata"]["finalizers"], json!([OF_CLAIMS]));
        let mut going = held.clone();
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(kept(&going, OF_CLAIMS, || true), None);
        assert_eq!(kept(&going, OF_CLAIMS, || false).unwrap()["metadata"]["finalizers"], json!([]));
        let pod = |node: &str| {
            json!({"metadata": {"name": "p"}, "spec": {"nodeName": node,
            "volumes": [{"persistentVolumeClaim": {"claimName": "c"}}]}})
        };
        assert!(uses(&pod("n"), "c") && !uses(&pod(""), "c") && !uses(&pod("n"), "d"));
    }
}
