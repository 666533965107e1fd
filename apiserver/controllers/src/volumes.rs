//! Claims and the volumes that exist for them (`pkg/controller/volume/persistentvolume`): each claim gets the smallest volume that
//! fits, at once, whatever the binding mode of its class. Volumes are made by provisioners, which are told of claims; none is
//! deleted or emptied here.

mod fit;

use apimachinery::Status;
use apimachinery::kinds::lines;
use apimachinery::object::{self, map_in, text};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::api::{Key, Kind};
use crate::cache::{Cache, Change};
use crate::shell::{Again, Controller, Work};

const VOLUME: Kind = &lines::PersistentVolume;
const CLAIM: Kind = &lines::PersistentVolumeClaim;
const CLASS: Kind = &lines::StorageClass;
const BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Tells external provisioners that a claim is theirs.
const PROVISIONER: [&str; 2] =
    ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];
/// The name of "nobody makes volumes of this class".
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// The controller.
pub struct Binder;

impl Controller for Binder {
    fn name(&self) -> &'static str {
        "persistentvolume-binder-controller"
    }

    fn user(&self) -> &'static str {
        "system:serviceaccount:kube-system:persistent-volume-binder"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![VOLUME, CLAIM, CLASS]
    }

    /// Keys without a namespace are volumes.
    fn touched(&self, cache: &Cache, change: &Change) -> Vec<Key> {
        let mut keys = Vec::new();
        if change.kind == CLAIM {
            keys.push(change.key.clone());
            for claim in change.states().map(|claim| claim.value()) {
                let volume = text(&claim, "/spec/volumeName");
                keys.extend((!volume.is_empty()).then(|| Key::new("", volume)));
            }
        } else {
            keys.extend((change.kind == VOLUME).then(|| change.key.clone()));
            let waits = |claim: &Value| {
                text(claim, "/status/phase") != "Bound" || text(claim, "/spec/volumeName") == change.key.name
            };
            let claims = cache.store(CLAIM).entries("").into_iter();
            keys.extend(claims.filter(|(_, claim)| waits(&claim.value())).map(|(key, _)| key));
        }
        keys.dedup();
        keys
    }

    fn reconcile<'a>(&'a self, work: &'a Work, key: &'a Key) -> BoxFuture<'a, Result<Again, Status>> {
        async move {
            match key.namespace.is_empty() {
                true => volume(work, key).await?,
                false => claim(work, key).await?,
            }
            Ok(None)
        }
        .boxed()
    }
}

async fn phase(work: &Work, kind: Kind, object: &Value, phase: &str) -> Result<(), Status> {
    let mut status = object["status"].clone();
    status["phase"] = json!(phase);
    work.client.update_status(kind, object, status).await
}

/// A volume is released once its claim is gone.
async fn volume(work: &Work, key: &Key) -> Result<(), Status> {
    let Some(volume) = work.cache.store(VOLUME).get(key) else { return Ok(()) };
    let named = &volume["spec"]["claimRef"];
    if named.is_null() {
        return phase(work, VOLUME, &volume, "Available").await;
    }
    let claim = work.cache.store(CLAIM).get(&Key::new(text(named, "/namespace"), text(named, "/name")));
    let uid = text(named, "/uid");
    match claim.filter(|claim| uid.is_empty() || object::uid(claim) == uid) {
        // Kept for a claim that is to come.
        None if uid.is_empty() => phase(work, VOLUME, &volume, "Available").await,
        None => phase(work, VOLUME, &volume, "Released").await,
        Some(claim) if text(&claim, "/spec/volumeName") == key.name => {
            phase(work, VOLUME, &volume, "Bound").await
        }
        Some(_) => Ok(()),
    }
}

async fn claim(work: &Work, key: &Key) -> Result<(), Status> {
    let Some(claim) = work.cache.store(CLAIM).get(key).filter(|claim| !object::deleting(claim)) else {
        return Ok(());
    };
    let bound = text(&claim, "/spec/volumeName");
    let volumes = work.cache.store(VOLUME);
    if claim["metadata"]["annotations"][COMPLETED] == "yes" && !bound.is_empty() {
        return match volumes.get(&Key::new("", bound)) {
            None => {
                let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
                work.client.event(CLAIM, &claim, ("Warning", "ClaimLost", message)).await;
                phase(work, CLAIM, &claim, "Lost").await
            }
            Some(volume) if text(&volume, "/spec/claimRef/uid") == object::uid(&claim) => {
                finish(work, &claim, &volume).await
            }
            Some(_) => phase(work, CLAIM, &claim, "Lost").await,
        };
    }
    let found = match bound {
        "" => fit::best(&claim, &volumes.values("")),
        name => volumes.get(&Key::new("", name)).filter(|volume| fit::is_free(volume, &claim)),
    };
    match found {
        Some(volume) => bind(work, claim, volume).await,
        None if bound.is_empty() => wait(work, claim).await,
        None => Ok(()),
    }
}

/// The volume names the claim, then the claim the volume.
async fn bind(work: &Work, mut claim: Value, mut volume: Value) -> Result<(), Status> {
    let was_named = !volume["spec"]["claimRef"].is_null();
    let reference = json!({"kind": CLAIM.kind, "apiVersion": CLAIM.api_version(), "namespace": object::namespace(&claim),
        "name": object::name(&claim), "uid": object::uid(&claim), "resourceVersion": object::resource_version(&claim)});
    if text(&volume, "/spec/claimRef/uid") != object::uid(&claim) {
        volume["spec"]["claimRef"] = reference;
        if !was_named {
            map_in(object::metadata(&mut volume), "annotations")
                .insert(BY_CONTROLLER.to_owned(), json!("yes"));
        }
        volume = work.client.update(VOLUME, &volume).await?;
    }
    phase(work, VOLUME, &volume, "Bound").await?;
    let by_name = !text(&claim, "/spec/volumeName").is_empty();
    let annotations = map_in(object::metadata(&mut claim), "annotations");
    annotations.insert(COMPLETED.to_owned(), json!("yes"));
    if !by_name {
        annotations.insert(BY_CONTROLLER.to_owned(), json!("yes"));
    }
    claim["spec"]["volumeName"] = json!(object::name(&volume));
    let claim = work.client.update(CLAIM, &claim).await?;
    finish(work, &claim, &volume).await
}

async fn finish(work: &Work, claim: &Value, volume: &Value) -> Result<(), Status> {
    let mut status = claim["status"].clone();
    status["phase"] = json!("Bound");
    status["accessModes"] = volume["spec"]["accessModes"].clone();
    status["capacity"] = volume["spec"]["capacity"].clone();
    work.client.update_status(CLAIM, claim, status).await
}

/// Nothing fits: whoever makes volumes of its class is told.
async fn wait(work: &Work, mut claim: Value) -> Result<(), Status> {
    let class = fit::class(&claim).to_owned();
    let provisioner = work.cache.store(CLASS).get(&Key::new("", &class));
    let provisioner = provisioner.map(|class| text(&class, "/provisioner").to_owned()).unwrap_or_default();
    if class.is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set";
        work.client.event(CLAIM, &claim, ("Normal", "FailedBinding", message)).await;
        return Ok(());
    }
    if provisioner.is_empty() || provisioner == NO_PROVISIONER {
        let message = format!(
            "no persistent volumes of storage class {class:?} are available for this claim, and nobody makes them"
        );
        work.client.event(CLAIM, &claim, ("Warning", "ProvisioningFailed", &message)).await;
        return Ok(());
    }
    if claim["metadata"]["annotations"][PROVISIONER[0]] == provisioner.as_str() {
        return Ok(());
    }
    let annotations = map_in(object::metadata(&mut claim), "annotations");
    for name in PROVISIONER {
        annotations.insert(name.to_owned(), json!(provisioner));
    }
    let claim = work.client.update(CLAIM, &claim).await?;
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator."
    );
    work.client.event(CLAIM, &claim, ("Normal", "ExternalProvisioning", &message)).await;
    Ok(())
}
