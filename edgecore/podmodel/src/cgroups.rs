//! What the configuration says about cgroups.

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
