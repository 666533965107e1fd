//! From a claim to the volume it is bound to. Both are read from the store first, so that a pod starts again without
//! the cloud; a claim that is stored unbound is asked for anew.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec};
use message::{ObjectKey, ObjectKind};

use metamanager::{Queries, QueryError};

#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("{kind} {name:?}")]
    Read { kind: &'static str, name: String, source: Box<QueryError> },
    #[error("{kind} {name:?} cannot be read as one")]
    Unreadable { kind: &'static str, name: String, source: message::JsonError },
    #[error("PersistentVolumeClaim {claim:?} is not bound")]
    NotBound { claim: String },
    #[error("PersistentVolumeClaim {claim:?} was not made for this pod")]
    NotOwned { claim: String },
    #[error("PersistentVolumeClaim {claim:?} names the volume {volume:?}, which is not a name")]
    BadName { claim: String, volume: String },
    #[error("PersistentVolume {volume:?} is bound to another claim than {claim:?}")]
    OtherClaim { claim: String, volume: String },
}

/// A volume and the claim it is bound to.
#[derive(Debug)]
pub(super) struct Bound {
    /// Name of the PersistentVolume.
    pub volume: String,
    pub spec: PersistentVolumeSpec,
}

/// Which claim a pod names.
pub(super) struct ClaimRef<'a> {
    pub namespace: &'a str,
    pub claim: &'a str,
    /// The uid of the pod the claim has to belong to.
    pub owner: Option<&'a str>,
}

const CLAIM: &str = "PersistentVolumeClaim";
const VOLUME: &str = "PersistentVolume";

/// The bound volume. What is stored and does not fit together is asked for once more.
pub(super) async fn bound(queries: &Queries, wanted: &ClaimRef<'_>) -> Result<Bound, ClaimError> {
    match look(queries, wanted, false).await {
        Err(ClaimError::NotBound { .. } | ClaimError::NotOwned { .. } | ClaimError::OtherClaim { .. }) => {
            look(queries, wanted, true).await
        }
        other => other,
    }
}

async fn look(queries: &Queries, wanted: &ClaimRef<'_>, anew: bool) -> Result<Bound, ClaimError> {
    let claim: PersistentVolumeClaim = {
        let key = ObjectKey::new(Some(wanted.namespace), ObjectKind::PersistentVolumeClaim, wanted.claim);
        read(queries, CLAIM, key, anew).await?
    };
    let volume = volume_of(&claim, wanted)?;
    let key = ObjectKey::new(None, ObjectKind::PersistentVolume, &volume);
    let object: PersistentVolume = read(queries, VOLUME, key, anew).await?;
    let spec = object.spec.unwrap_or_default();
    let uid = spec.claim_ref.as_ref().and_then(|reference| reference.uid.as_deref());
    if uid.is_none() || uid != claim.metadata.uid.as_deref() {
        return Err(ClaimError::OtherClaim { claim: wanted.claim.to_owned(), volume });
    }
    Ok(Bound { volume, spec })
}

/// The name of the volume the claim is bound to.
fn volume_of(claim: &PersistentVolumeClaim, wanted: &ClaimRef<'_>) -> Result<String, ClaimError> {
    let owners = claim.metadata.owner_references.iter().flatten();
    let is_owned = wanted
        .owner
        .is_none_or(|pod| owners.into_iter().any(|owner| owner.controller == Some(true) && owner.uid == pod));
    if !is_owned {
        return Err(ClaimError::NotOwned { claim: wanted.claim.to_owned() });
    }
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
    let claim = || wanted.claim.to_owned();
    let volume = name
        .filter(|name| !name.is_empty() && phase == Some("Bound"))
        .ok_or_else(|| ClaimError::NotBound { claim: claim() })?;
    // It names a folder.
    match apimachinery::names::subdomain(&volume) {
        Some(_) => Err(ClaimError::BadName { claim: claim(), volume }),
        None => Ok(volume),
    }
}

async fn read<T: serde::de::DeserializeOwned>(
    queries: &Queries,
    kind: &'static str,
    key: ObjectKey,
    anew: bool,
) -> Result<T, ClaimError> {
    let name = key.name.clone();
    let object = if anew { queries.newest(key).await } else { queries.object(key).await };
    let object =
        object.map_err(|source| ClaimError::Read { kind, name: name.clone(), source: Box::new(source) })?;
    object.parse().map_err(|source| ClaimError::Unreadable { kind, name, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(phase: &str, owner: Option<&str>) -> Result<String, ClaimError> {
        let claim = serde_json::from_value(json!({
            "metadata": {"name": "c", "uid": "u",
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "pod", "controller": true}]},
            "spec": {"volumeName": "v"}, "status": {"phase": phase}
        }))
        .unwrap();
        volume_of(&claim, &ClaimRef { namespace: "d", claim: "c", owner })
    }

    #[test]
    fn only_bound_claims_of_the_right_owner_lead_to_a_volume() {
        assert_eq!(check("Bound", None).unwrap(), "v");
        assert_eq!(check("Bound", Some("pod")).unwrap(), "v");
        assert!(matches!(check("Bound", Some("other")), Err(ClaimError::NotOwned { .. })));
        assert!(matches!(check("Pending", None), Err(ClaimError::NotBound { .. })));
    }
}
