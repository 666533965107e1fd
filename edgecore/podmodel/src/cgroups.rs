//! What the configuration says about cgroups.

use std::path::PathBuf;
use std::time::Duration;

/// How cgroups are named and made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    Cgroupfs,
    Systemd,
}

#[derive(Clone, Debug)]
pub struct Cgroups {
    /// Cgroups of pods are made with their limits before the runtime needs them.
    pub per_qos: bool,
    /// All pods together are held to what is allocatable.
    pub enforce_allocatable: bool,
    /// CPU limits become quotas.
    pub cpu_quota: bool,
    pub cpu_period: Duration,
    pub pids_limit: Option<i64>,
}

impl Default for Cgroups {
    /// KubeEdge's defaults (docs/protocol/edge-runtime.md 5.1).
    fn default() -> Cgroups {
        Cgroups {
            per_qos: true,
            enforce_allocatable: true,
            cpu_quota: true,
            cpu_period: Duration::from_millis(100),
            pids_limit: None,
        }
    }
}

/// The folder of a path or of a slice: `a-b.slice` is `a.slice/a-b.slice`.
pub fn folder(parent: &str) -> PathBuf {
    let Some(name) = parent.strip_suffix(".slice") else {
        return PathBuf::from(parent.trim_start_matches('/'));
    };
    let mut path = PathBuf::new();
    for (at, _) in name.match_indices('-') {
        path.push(format!("{}.slice", &name[..at]));
    }
    path.join(parent)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_slice_lies_below_the_slices_its_name_names() {
        let path = folder("kubepods-burstable-poda_b.slice");
        assert_eq!(
            path,
            Path::new("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda_b.slice")
        );
        assert_eq!(folder("/kubepods/podu"), Path::new("kubepods/podu"));
    }
}
