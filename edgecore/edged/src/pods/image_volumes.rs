//! Volumes that are images: pulled like those of containers, then mounted by the runtime itself, read-only
//! (`getImageVolumes` of the kubelet). Only newer runtimes can.

use std::collections::BTreeMap;

use cri::v1;
use k8s_openapi::api::core::v1::Container;

use super::starting::StartContext;
use super::worker::Worker;
use images::PullPolicy;
use nodebase::runtime::RuntimeFacts;
use podmodel::status::Failure;

/// Runtimes and the first versions (major, minor) that mount images. Others are believed to be able to.
const SINCE: [(&str, (u32, u32)); 2] = [("containerd", (2, 1)), ("cri-o", (1, 31))];

impl Worker {
    /// Volume -> image, for those the container mounts; pulled if need be.
    pub(super) async fn image_volumes(
        &self,
        site: &StartContext<'_>,
        container: &Container,
    ) -> Result<BTreeMap<String, v1::ImageSpec>, Failure> {
        let mut images = BTreeMap::new();
        for volume in site.spec.volumes.iter().flatten() {
            let Some(source) = &volume.image else { continue };
            if !container.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name) {
                continue;
            }
            if let Some(message) = lacks(&self.context.base.facts.borrow()) {
                return Err(Failure { reason: "CreateContainerConfigError", message });
            }
            let reference = source.reference.clone().unwrap_or_default();
            let policy = PullPolicy::of(source.pull_policy.as_deref(), &reference);
            let image = self.image(site, container, &reference, policy).await?;
            let image =
                v1::ImageSpec { image: image.id, user_specified_image: reference, ..Default::default() };
            images.insert(volume.name.clone(), image);
        }
        Ok(images)
    }
}

/// Why this runtime cannot mount images; `None` if it can.
fn lacks(facts: &RuntimeFacts) -> Option<String> {
    let (name, first) = SINCE.into_iter().find(|(name, _)| facts.name.eq_ignore_ascii_case(name))?;
    let mut numbers = facts.version.trim_start_matches('v').split('.').map_while(|part| part.parse().ok());
    let version: (u32, u32) = (numbers.next()?, numbers.next()?);
    let (major, minor) = first;
    (version < first).then(|| {
        format!(
            "volumes of images need {name} {major}.{minor} or newer, this node has {name} {}",
            facts.version
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use podmodel::cgroups::CgroupDriver;

    #[test]
    fn old_runtimes_are_known_to_mount_no_images() {
        let lacks = |name: &str, version: &str| {
            let facts = RuntimeFacts {
                name: name.into(),
                version: version.into(),
                ..RuntimeFacts::unknown(CgroupDriver::Cgroupfs)
            };
            super::lacks(&facts).is_some()
        };
        assert!(
            lacks("containerd", "1.6.20~ds1") && lacks("containerd", "v2.0.5") && lacks("cri-o", "1.30.2")
        );
        assert!(!lacks("containerd", "v2.1.0") && !lacks("containerd", "3.0.1") && !lacks("CRI-O", "1.31.0"));
        assert!(!lacks("another", "0.1") && !lacks("containerd", "unknown"));
    }
}
