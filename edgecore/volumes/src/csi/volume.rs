//! What a pod wants of a driver, gathered from its volume: attributes, secrets, the attachment's words.

use std::collections::HashMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{CSIPersistentVolumeSource, CSIVolumeSource, PersistentVolumeSpec, Secret};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use message::{ObjectKey, ObjectKind};

use super::{CsiError, names};
use crate::{Made, VolumeContext, VolumeError, ownership};
use metamanager::QueryError;

/// Values by name, as the protocol carries them.
pub(super) type Texts = HashMap<String, String>;

/// Never printed: it holds secrets.
pub struct CsiVolume {
    /// The pod's folder of this volume.
    pub folder: PathBuf,
    /// Of the PersistentVolume, or of the pod's volume.
    pub name: String,
    pub driver: String,
    pub handle: String,
    pub node: String,
    pub fs_type: String,
    pub mount_options: Vec<String>,
    /// `ReadWriteOnce`, ...
    pub access_mode: String,
    pub attributes: Texts,
    pub publish_context: Texts,
    pub stage_secrets: Texts,
    pub publish_secrets: Texts,
    pub is_read_only: bool,
    pub group: Option<u32>,
    /// Named in the pod itself: it lives as long as the pod.
    pub is_inline: bool,
}

impl VolumeContext<'_> {
    pub(crate) async fn csi_persistent(
        &self,
        volume: &str,
        name: &str,
        spec: &PersistentVolumeSpec,
        read_only: bool,
    ) -> Result<Made, VolumeError> {
        let Some(source) = &spec.csi else {
            return Err(VolumeError::Unsupported { volume: volume.to_owned() });
        };
        let wanted = self.of_volume(name, spec, source, read_only).await.map_err(Self::csi_error(volume))?;
        let is_single_writer = wanted.access_mode.starts_with("ReadWriteOnce");
        let gives_group = !wanted.fs_type.is_empty() && is_single_writer;
        self.publish(volume, wanted, gives_group).await
    }

    pub(crate) async fn csi_inline(
        &self,
        volume: &str,
        source: &CSIVolumeSource,
    ) -> Result<Made, VolumeError> {
        let wanted = self.of_pod(volume, source).await.map_err(Self::csi_error(volume))?;
        self.publish(volume, wanted, false).await
    }

    async fn publish(&self, volume: &str, wanted: CsiVolume, gives_group: bool) -> Result<Made, VolumeError> {
        let is_read_only = wanted.is_read_only;
        let (path, is_new) = self.csi.publish(&wanted).await.map_err(Self::csi_error(volume))?;
        if let Some(group) = wanted.group.filter(|_| is_new && gives_group && !is_read_only) {
            let (folder, policy) = (path.clone(), self.group_policy());
            let given = daemon::blocking(move || ownership::give(&folder, group, policy)).await;
            let failed =
                |source| VolumeError::Write { volume: volume.to_owned(), path: path.clone(), source };
            given.map_err(failed)?;
        }
        Ok(Made { is_read_only, ..Made::folder(path) })
    }

    async fn of_volume(
        &self,
        name: &str,
        spec: &PersistentVolumeSpec,
        source: &CSIPersistentVolumeSource,
        read_only: bool,
    ) -> Result<CsiVolume, CsiError> {
        let secret = async |reference: &Option<k8s_openapi::api::core::v1::SecretReference>| match reference {
            None => Ok(Texts::new()),
            Some(reference) => {
                let namespace = reference.namespace.as_deref().unwrap_or_default();
                self.csi_secret(namespace, reference.name.as_deref().unwrap_or_default()).await
            }
        };
        Ok(CsiVolume {
            folder: self.dir("csi", name),
            name: name.to_owned(),
            driver: source.driver.clone(),
            handle: source.volume_handle.clone(),
            node: self.place.node.clone(),
            fs_type: source.fs_type.clone().unwrap_or_default(),
            mount_options: spec.mount_options.clone().unwrap_or_default(),
            access_mode: spec.access_modes.iter().flatten().next().cloned().unwrap_or_default(),
            attributes: source.volume_attributes.clone().unwrap_or_default().into_iter().collect(),
            publish_context: self.attached(&source.volume_handle, &source.driver).await?,
            stage_secrets: secret(&source.node_stage_secret_ref).await?,
            publish_secrets: secret(&source.node_publish_secret_ref).await?,
            is_read_only: read_only || source.read_only == Some(true),
            group: self.fs_group(),
            is_inline: false,
        })
    }

    /// Drivers of inline volumes learn which pod they serve.
    async fn of_pod(&self, volume: &str, source: &CSIVolumeSource) -> Result<CsiVolume, CsiError> {
        let metadata = &self.pod.metadata;
        let mut attributes: Texts =
            source.volume_attributes.clone().unwrap_or_default().into_iter().collect();
        let pod = [
            ("pod.name", metadata.name.clone().unwrap_or_default()),
            ("pod.namespace", self.namespace().to_owned()),
            ("pod.uid", self.uid().to_owned()),
            ("serviceAccount.name", self.spec.service_account_name.clone().unwrap_or_default()),
            ("ephemeral", "true".to_owned()),
        ];
        attributes.extend(pod.map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), value)));
        let publish_secrets = match &source.node_publish_secret_ref {
            Some(reference) => self.csi_secret(self.namespace(), &reference.name).await?,
            None => Texts::new(),
        };
        Ok(CsiVolume {
            folder: self.dir("csi", volume),
            name: volume.to_owned(),
            driver: source.driver.clone(),
            handle: names::inline_handle(self.uid(), volume),
            node: self.place.node.clone(),
            fs_type: source.fs_type.clone().unwrap_or_default(),
            mount_options: Vec::new(),
            access_mode: "ReadWriteOnce".to_owned(),
            attributes,
            publish_context: Texts::new(),
            stage_secrets: Texts::new(),
            publish_secrets,
            is_read_only: source.read_only == Some(true),
            group: self.fs_group(),
            is_inline: true,
        })
    }

    async fn csi_secret(&self, namespace: &str, name: &str) -> Result<Texts, CsiError> {
        let object = self.queries.secret(namespace, name).await;
        let object =
            object.map_err(|source| CsiError::Secret { name: name.to_owned(), source: Box::new(source) })?;
        let bad = || CsiError::BadSecret { name: name.to_owned() };
        let secret = object.parse::<Secret>().map_err(|_| bad())?;
        let texts = secret.data.unwrap_or_default().into_iter();
        texts.map(|(key, value)| Ok((key, String::from_utf8(value.0).map_err(|_| bad())?))).collect()
    }

    /// What the attachment says to the driver. A driver that wants no attachment has none; whether it wants one, a node
    /// of KubeEdge cannot ask, so an attachment that exists is waited for.
    async fn attached(&self, handle: &str, driver: &str) -> Result<Texts, CsiError> {
        let name = names::attachment(handle, driver, &self.place.node);
        let key = ObjectKey::new(Some("default"), ObjectKind::VolumeAttachment, &name);
        let object = match self.queries.newest(key).await {
            Ok(object) => object,
            // Without the cloud, the driver decides whether it can do without.
            Err(error) if error.is_not_found() || matches!(error, QueryError::Unreachable { .. }) => {
                return Ok(Texts::new());
            }
            Err(source) => return Err(CsiError::Attachment { name, source: Box::new(source) }),
        };
        let status = object.parse::<VolumeAttachment>().ok().and_then(|attachment| attachment.status);
        match status {
            Some(status) if status.attached => {
                Ok(status.attachment_metadata.unwrap_or_default().into_iter().collect())
            }
            _ => Err(CsiError::NotAttached { name }),
        }
    }
}
