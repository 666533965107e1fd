//! Names that others compute as well: Kubernetes' controllers and the kubelet before us.

use std::path::{Path, PathBuf};

/// Where a volume is staged on this node.
pub(super) fn stage(root: &Path, driver: &str, handle: &str) -> PathBuf {
    root.join("plugins/kubernetes.io/csi").join(driver).join(sha256(&[handle]))
}

/// The name of the VolumeAttachment of a volume on a node.
pub(super) fn attachment(handle: &str, driver: &str, node: &str) -> String {
    format!("csi-{}", sha256(&[handle, driver, node]))
}

/// The handle of a volume that a pod names itself.
pub(super) fn inline_handle(pod_uid: &str, volume: &str) -> String {
    format!("csi-{}", sha256(&[pod_uid, volume]))
}

fn sha256(parts: &[&str]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, parts.concat().as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_kubernetes() {
        // sha256("abc")
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(attachment("a", "b", "c"), format!("csi-{abc}"));
        assert_eq!(inline_handle("ab", "c"), format!("csi-{abc}"));
        let path = stage(Path::new("/k"), "d", "abc");
        assert_eq!(path, Path::new("/k/plugins/kubernetes.io/csi/d").join(abc));
    }
}
