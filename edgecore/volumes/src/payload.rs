//! The files of configMap, secret, downwardAPI and projected volumes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Secret, ServiceAccountTokenProjection, Volume,
};

use super::VolumeContext;
use super::atomic::{self, File, Files, PathError};
use metamanager::QueryError;
use metamanager::queries::TokenWanted;
use podmodel::fields::{self, FieldError};
use podmodel::spec::all_containers;

#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    #[error("{kind} {name:?}")]
    Read { kind: &'static str, name: String, source: Box<QueryError> },
    #[error("{kind} {name:?} cannot be read as one")]
    Unreadable { kind: &'static str, name: String, source: message::JsonError },
    #[error("references non-existent key {key} of {kind} {name}")]
    NoKey { kind: &'static str, name: String, key: String },
    #[error("a token of service account {account:?}")]
    Token { account: String, source: Box<QueryError> },
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error(transparent)]
    Path(#[from] PathError),
}

#[derive(Default)]
pub(super) struct Payload {
    pub files: Files,
    pub refresh_at: Option<Timestamp>,
}

impl Payload {
    /// A later file of the same path takes the place of an earlier one, as in Kubernetes.
    fn put(&mut self, path: &str, file: File) {
        self.files.insert(atomic::plain(path), file);
    }
}

/// Which keys of an object become which files.
struct Selection<'a> {
    items: Option<&'a Vec<KeyToPath>>,
    optional: bool,
    mode: u32,
}

const DEFAULT_MODE: u32 = 0o644;

fn mode(wanted: Option<i32>, otherwise: u32) -> u32 {
    wanted.and_then(|mode| u32::try_from(mode).ok()).map_or(otherwise, |mode| mode & 0o777)
}

pub(super) async fn gather(site: &VolumeContext<'_>, volume: &Volume) -> Result<Payload, PayloadError> {
    let mut payload = Payload::default();
    if let Some(source) = &volume.config_map {
        let select = Selection {
            items: source.items.as_ref(),
            optional: source.optional == Some(true),
            mode: mode(source.default_mode, DEFAULT_MODE),
        };
        config_map(site, &source.name, &select, &mut payload).await?;
    } else if let Some(source) = &volume.secret {
        let select = Selection {
            items: source.items.as_ref(),
            optional: source.optional == Some(true),
            mode: mode(source.default_mode, DEFAULT_MODE),
        };
        secret(site, source.secret_name.as_deref().unwrap_or_default(), &select, &mut payload).await?;
    } else if let Some(source) = &volume.downward_api {
        let default = mode(source.default_mode, DEFAULT_MODE);
        downward(site, source.items.as_deref().unwrap_or_default(), default, &mut payload)?;
    } else if let Some(projected) = &volume.projected {
        let default = mode(projected.default_mode, DEFAULT_MODE);
        for source in projected.sources.iter().flatten() {
            if let Some(map) = &source.config_map {
                let optional = map.optional == Some(true);
                let select = Selection { items: map.items.as_ref(), optional, mode: default };
                config_map(site, &map.name, &select, &mut payload).await?;
            }
            if let Some(of) = &source.secret {
                let optional = of.optional == Some(true);
                let select = Selection { items: of.items.as_ref(), optional, mode: default };
                secret(site, &of.name, &select, &mut payload).await?;
            }
            if let Some(of) = &source.downward_api {
                downward(site, of.items.as_deref().unwrap_or_default(), default, &mut payload)?;
            }
            if let Some(wanted) = &source.service_account_token {
                token(site, wanted, default, &mut payload).await?;
            }
        }
    }
    atomic::check(&payload.files)?;
    Ok(payload)
}

/// The config map of every namespace that says whom clients of the API server trust.
const ROOT_CA: &str = "kube-root-ca.crt";

/// Adds the CA of the Kubernetes API on this node, so that clients trust both.
fn trust(data: &mut BTreeMap<String, String>, ca: &str) {
    let known = data.entry("ca.crt".to_owned()).or_default();
    if !known.contains(ca.trim()) {
        if !known.is_empty() && !known.ends_with('\n') {
            known.push('\n');
        }
        known.push_str(ca);
    }
}

async fn config_map(
    site: &VolumeContext<'_>,
    name: &str,
    select: &Selection<'_>,
    payload: &mut Payload,
) -> Result<(), PayloadError> {
    let kind = "ConfigMap";
    let object = match site.queries.config_map(namespace(site), name).await {
        Ok(object) => object,
        Err(error) if select.optional && error.is_not_found() => return Ok(()),
        Err(error) => {
            let source = Box::new(error);
            return Err(PayloadError::Read { kind, name: name.to_owned(), source });
        }
    };
    let unreadable = |source| PayloadError::Unreadable { kind, name: name.to_owned(), source };
    let mut map = object.parse::<ConfigMap>().map_err(unreadable)?;
    if name == ROOT_CA
        && let Some(reach) = site.queries.reach()
    {
        trust(map.data.get_or_insert_default(), &reach.ca);
    }
    let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
    let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
    pick(kind, name, text.chain(binary).collect(), select, payload)
}

async fn secret(
    site: &VolumeContext<'_>,
    name: &str,
    select: &Selection<'_>,
    payload: &mut Payload,
) -> Result<(), PayloadError> {
    let kind = "Secret";
    let object = match site.queries.secret(namespace(site), name).await {
        Ok(object) => object,
        Err(error) if select.optional && error.is_not_found() => return Ok(()),
        Err(error) => {
            let source = Box::new(error);
            return Err(PayloadError::Read { kind, name: name.to_owned(), source });
        }
    };
    let unreadable = |source| PayloadError::Unreadable { kind, name: name.to_owned(), source };
    let data = object.parse::<Secret>().map_err(unreadable)?.data.unwrap_or_default();
    pick(kind, name, data.into_iter().map(|(key, value)| (key, value.0)).collect(), select, payload)
}

fn namespace<'a>(site: &VolumeContext<'a>) -> &'a str {
    site.pod.metadata.namespace.as_deref().unwrap_or("default")
}

fn pick(
    kind: &'static str,
    name: &str,
    mut data: BTreeMap<String, Vec<u8>>,
    select: &Selection<'_>,
    payload: &mut Payload,
) -> Result<(), PayloadError> {
    let origin = format!("{kind} {name:?}");
    let Some(items) = select.items.filter(|items| !items.is_empty()) else {
        for (key, bytes) in data {
            payload.put(&key, File { bytes, mode: select.mode, owner: None, origin: origin.clone() });
        }
        return Ok(());
    };
    for item in items {
        match data.remove(&item.key) {
            Some(bytes) => {
                let (mode, origin) = (mode(item.mode, select.mode), origin.clone());
                payload.put(&item.path, File { bytes, mode, owner: None, origin });
            }
            None if select.optional => {}
            None => return Err(PayloadError::NoKey { kind, name: name.to_owned(), key: item.key.clone() }),
        }
    }
    Ok(())
}

fn downward(
    site: &VolumeContext<'_>,
    items: &[DownwardAPIVolumeFile],
    default: u32,
    payload: &mut Payload,
) -> Result<(), PayloadError> {
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => fields::field(site.pod, site.place, &field.field_path)?,
            (None, Some(selector)) => fields::resource(site.pod, site.place, selector, "")?,
            (None, None) => continue,
        };
        let (mode, origin) = (mode(item.mode, default), "the downward API".to_owned());
        payload.put(&item.path, File { bytes: text.into_bytes(), mode, owner: None, origin });
    }
    Ok(())
}

async fn token(
    site: &VolumeContext<'_>,
    wanted: &ServiceAccountTokenProjection,
    default: u32,
    payload: &mut Payload,
) -> Result<(), PayloadError> {
    let account =
        site.spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
    let meta = &site.pod.metadata;
    let token = site
        .queries
        .token(&TokenWanted {
            namespace: namespace(site).to_owned(),
            service_account: account.to_owned(),
            pod_name: meta.name.clone().unwrap_or_default(),
            pod_uid: meta.uid.clone().unwrap_or_default(),
            audience: wanted.audience.clone().unwrap_or_default(),
            expiration_seconds: wanted.expiration_seconds.unwrap_or(3600).max(600),
        })
        .await
        .map_err(|error| PayloadError::Token { account: account.to_owned(), source: Box::new(error) })?;
    let (mode, owner) = token_access(site, default);
    let due = token.refresh_at();
    payload.refresh_at = Some(payload.refresh_at.map_or(due, |earlier| earlier.min(due)));
    let origin = format!("the token of service account {account:?}");
    payload.put(&wanted.path, File { bytes: token.token.into_bytes(), mode, owner, origin });
    Ok(())
}

/// A token is for the pod's group, or for the one user its containers share, or for everyone in the pod.
fn token_access(site: &VolumeContext<'_>, default: u32) -> (u32, Option<u32>) {
    let pod = site.spec.security_context.as_ref();
    if pod.and_then(|context| context.fs_group).is_some() {
        return (0o600, None);
    }
    let pod_user = pod.and_then(|context| context.run_as_user);
    let mut users = all_containers(site.spec).map(|container| {
        container.security_context.as_ref().and_then(|context| context.run_as_user).or(pod_user)
    });
    let first = users.next().flatten();
    match first.and_then(|user| u32::try_from(user).ok()) {
        Some(user) if users.all(|other| other == first) => (0o600, Some(user)),
        _ => (default, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_trust_the_clusters_ca_and_that_of_the_node_each_once() {
        let mut data = BTreeMap::from([("ca.crt".to_owned(), "cluster".to_owned())]);
        for _ in 0..2 {
            trust(&mut data, "node\n");
        }
        assert_eq!(data["ca.crt"], "cluster\nnode\n");
        let mut empty = BTreeMap::new();
        trust(&mut empty, "node\n");
        assert_eq!(empty["ca.crt"], "node\n");
    }
}
