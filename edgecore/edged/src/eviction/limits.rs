//! Limits on disk that the kernel does not keep: sizes of emptyDir volumes, ephemeral storage of pods.
//!
//! Only pods that have such a limit are walked.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::Sources;
use nodebase::usage::folder::walk;
use podmodel::board::PodEntry;
use podmodel::quantity;
use podmodel::stop_decision::StopDecision;
use volumes::pod_dir;

/// What a pod may put on disk.
#[derive(Debug, Default, PartialEq)]
struct Bounds {
    /// Volume and its size.
    volumes: Vec<(String, u64)>,
    /// All of the pod, if all its containers have a limit.
    pod: Option<u64>,
}

impl Bounds {
    fn of(spec: &PodSpec) -> Bounds {
        let volumes = spec.volumes.iter().flatten().filter_map(|volume| {
            let source = volume.empty_dir.as_ref()?;
            let on_disk = source.medium.as_deref().unwrap_or_default().is_empty();
            let size = source.size_limit.as_ref().and_then(bytes).filter(|size| on_disk && *size > 0)?;
            Some((volume.name.clone(), size))
        });
        let limit = |container: &Container| {
            let limits = container.resources.as_ref()?.limits.as_ref()?;
            limits.get("ephemeral-storage").and_then(bytes)
        };
        let all: Option<Vec<u64>> = spec.containers.iter().map(limit).collect();
        let pod = all.filter(|limits| !limits.is_empty()).map(|limits| limits.iter().sum());
        Bounds { volumes: volumes.collect(), pod }
    }
}

fn bytes(quantity: &Quantity) -> Option<u64> {
    quantity::units(quantity).and_then(|bytes| u64::try_from(bytes).ok())
}

/// Pods that put more on disk than they may, with what becomes of them.
pub(super) async fn exceeded(sources: &Sources) -> Vec<(PodEntry, StopDecision)> {
    let mut found = Vec::new();
    for entry in sources.base.board.entries().into_iter().filter(PodEntry::is_active) {
        // The text tells quickly that there is nothing to look for.
        let text = entry.object.text();
        if !text.contains("sizeLimit") && !text.contains("ephemeral-storage") {
            continue;
        }
        let Some(spec) = entry.object.parse::<Pod>().ok().and_then(|pod| pod.spec) else { continue };
        let bounds = Bounds::of(&spec);
        if bounds == Bounds::default() {
            continue;
        }
        let folder = pod_dir(&sources.base.settings.root_dir, &entry.id.uid);
        let logs = sources.base.settings.pod_logs_dir.join(entry.id.log_folder());
        let judged = daemon::blocking(move || Ok(judge(&bounds, &folder, &logs))).await;
        if let Ok(Some(text)) = judged {
            found.push((entry, StopDecision::failed("Evicted", text)));
        }
    }
    found
}

fn judge(bounds: &Bounds, folder: &Path, logs: &Path) -> Option<String> {
    for (volume, size) in &bounds.volumes {
        let path = folder.join("volumes/kubernetes.io~empty-dir").join(volume);
        if walk(&path).bytes > *size {
            return Some(format!("Usage of EmptyDir volume {volume:?} exceeds the limit \"{size}\"."));
        }
    }
    let limit = bounds.pod?;
    let used = walk(folder).bytes + walk(logs).bytes;
    (used > limit)
        .then(|| format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(json: serde_json::Value) -> PodSpec {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_volume_or_pod_beyond_its_bound_is_named() {
        let limits = json!({"limits": {"ephemeral-storage": "64Ki"}});
        let bounded = spec(json!({"containers": [{"name": "a", "resources": limits}], "volumes": [
            {"name": "v", "emptyDir": {"sizeLimit": "16Ki"}},
            {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1"}}]}));
        let bounds = Bounds::of(&bounded);
        assert_eq!(bounds, Bounds { volumes: vec![("v".to_owned(), 16_384)], pod: Some(65_536) });
        let root = tempfile::tempdir().unwrap();
        let (folder, logs) = (root.path().join("pod"), root.path().join("logs"));
        let volume = folder.join("volumes/kubernetes.io~empty-dir/v");
        std::fs::create_dir_all(&volume).unwrap();
        assert_eq!(judge(&bounds, &folder, &logs), None);
        let last_words = folder.join("containers/a/0");
        std::fs::create_dir_all(last_words.parent().unwrap()).unwrap();
        std::fs::write(&last_words, vec![1; 100_000]).unwrap();
        assert!(judge(&bounds, &folder, &logs).unwrap().contains("ephemeral local storage"));
        std::fs::remove_file(&last_words).unwrap();
        std::fs::create_dir_all(&logs).unwrap();
        std::fs::write(logs.join("0.log"), vec![1; 100_000]).unwrap();
        assert!(judge(&bounds, &folder, &logs).unwrap().contains("ephemeral local storage"));
        std::fs::write(volume.join("f"), vec![1; 20_000]).unwrap();
        assert!(judge(&bounds, &folder, &logs).unwrap().contains("\"v\""));
        assert_eq!(Bounds::of(&spec(json!({"containers": [{"name": "a"}]}))), Bounds::default());
    }
}
