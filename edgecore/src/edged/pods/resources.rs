//! CPU and memory of a pod as Linux knows them (spec/edge-runtime.md 5.12).

use cri::v1::LinuxContainerResources;
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};

use super::plan::is_sidecar;
use super::spec::all_containers;
use crate::edged::quantity;
use crate::edged::settings::CgroupDriver;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub fn as_str(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

const PERIOD_US: i64 = 100_000;
const MIN_QUOTA_US: i64 = 1_000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;

/// Requests and limits of one container; a request that is not written is the limit.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Amounts {
    pub cpu_request: Option<i64>,
    pub cpu_limit: Option<i64>,
    pub memory_request: Option<i64>,
    pub memory_limit: Option<i64>,
}

impl Amounts {
    pub fn of(resources: Option<&ResourceRequirements>) -> Amounts {
        let Some(resources) = resources else { return Amounts::default() };
        let limit = |name: &str| resources.limits.as_ref().and_then(|limits| limits.get(name));
        let request = |name: &str| resources.requests.as_ref().and_then(|requests| requests.get(name));
        let nonzero = |value: &i64| *value > 0;
        let cpu_limit = limit("cpu").and_then(quantity::milli).filter(nonzero);
        let memory_limit = limit("memory").and_then(quantity::units).filter(nonzero);
        Amounts {
            cpu_request: request("cpu").and_then(quantity::milli).or(cpu_limit).filter(nonzero),
            cpu_limit,
            memory_request: request("memory").and_then(quantity::units).or(memory_limit).filter(nonzero),
            memory_limit,
        }
    }

    fn is_guaranteed(&self) -> bool {
        self.cpu_limit.is_some()
            && self.memory_limit.is_some()
            && self.cpu_request == self.cpu_limit
            && self.memory_request == self.memory_limit
    }
}

pub fn qos(spec: &PodSpec) -> Qos {
    let amounts: Vec<Amounts> =
        all_containers(spec).map(|container| Amounts::of(container.resources.as_ref())).collect();
    if amounts.iter().all(|amount| *amount == Amounts::default()) {
        return Qos::BestEffort;
    }
    match amounts.iter().all(Amounts::is_guaranteed) {
        true => Qos::Guaranteed,
        false => Qos::Burstable,
    }
}

pub fn shares(milli: Option<i64>) -> i64 {
    milli.map_or(MIN_SHARES, |milli| (milli * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES))
}

pub fn oom_score(spec: &PodSpec, container: &Container, node_memory: i64) -> i64 {
    let own = |container: &Container| {
        let request = Amounts::of(container.resources.as_ref()).memory_request.unwrap_or(0);
        (1000 - 1000 * request / node_memory.max(1)).clamp(3, 999)
    };
    let critical = spec.priority.is_some_and(|priority| priority >= 2_000_001_000);
    match qos(spec) {
        _ if critical => -997,
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable if is_sidecar(container) => {
            spec.containers.iter().map(own).chain([own(container)]).min().unwrap_or(999)
        }
        Qos::Burstable => own(container),
    }
}

/// What the runtime sets on a container's cgroup.
pub fn linux(spec: &PodSpec, container: &Container, node_memory: i64) -> LinuxContainerResources {
    let amounts = Amounts::of(container.resources.as_ref());
    let quota = amounts.cpu_limit.map(|milli| (milli * PERIOD_US / 1000).max(MIN_QUOTA_US));
    LinuxContainerResources {
        cpu_period: PERIOD_US,
        cpu_quota: quota.unwrap_or(0),
        cpu_shares: shares(amounts.cpu_request),
        memory_limit_in_bytes: amounts.memory_limit.unwrap_or(0),
        oom_score_adj: oom_score(spec, container, node_memory),
        ..Default::default()
    }
}

/// The pod's cgroup, in the form the driver wants it: a path, or the name of a slice.
pub fn cgroup_parent(driver: CgroupDriver, root: &str, qos: Qos, uid: &str) -> String {
    let class = match qos {
        Qos::Guaranteed => None,
        Qos::Burstable => Some("burstable"),
        Qos::BestEffort => Some("besteffort"),
    };
    let root = root.trim_matches('/');
    match driver {
        CgroupDriver::Cgroupfs => {
            let parts = [Some(root).filter(|root| !root.is_empty()), Some("kubepods"), class];
            let above: Vec<&str> = parts.into_iter().flatten().collect();
            format!("/{}/pod{uid}", above.join("/"))
        }
        CgroupDriver::Systemd => {
            let prefix: String =
                root.split('/').filter(|part| !part.is_empty()).map(|part| format!("{part}-")).collect();
            let class = class.map(|class| format!("-{class}")).unwrap_or_default();
            format!("{prefix}kubepods{class}-pod{}.slice", uid.replace('-', "_"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edged::pods::plan::tests::spec;
    use serde_json::json;

    fn pod(resources: serde_json::Value) -> PodSpec {
        spec(json!({"containers": [{"name": "a", "resources": resources}]}))
    }

    #[test]
    fn the_class_follows_requests_and_limits() {
        let both = json!({"cpu": "100m", "memory": "64Mi"});
        let table = [
            (json!({}), Qos::BestEffort),
            (json!({"limits": both}), Qos::Guaranteed),
            (json!({"limits": both, "requests": both}), Qos::Guaranteed),
            (json!({"requests": both}), Qos::Burstable),
            (json!({"limits": {"cpu": "1"}}), Qos::Burstable),
        ];
        for (resources, expected) in table {
            assert_eq!(qos(&pod(resources.clone())), expected, "{resources}");
        }
    }

    #[test]
    fn amounts_become_shares_quota_and_oom_score() {
        let limits = json!({"limits": {"cpu": "250m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "32Mi"}});
        let spec = pod(limits);
        let linux = linux(&spec, &spec.containers[0], 1 << 30);
        assert_eq!((linux.cpu_shares, linux.cpu_quota, linux.cpu_period), (102, 25_000, 100_000));
        assert_eq!((linux.memory_limit_in_bytes, linux.oom_score_adj), (64 << 20, 969));
        assert_eq!((shares(None), shares(Some(1)), shares(Some(i64::MAX / 2048))), (2, 2, MAX_SHARES));
    }

    #[test]
    fn cgroup_parents_have_the_kubelets_names() {
        let parent = |driver, root, qos| cgroup_parent(driver, root, qos, "a-b");
        assert_eq!(parent(CgroupDriver::Cgroupfs, "", Qos::Burstable), "/kubepods/burstable/poda-b");
        assert_eq!(parent(CgroupDriver::Cgroupfs, "/edge/", Qos::Guaranteed), "/edge/kubepods/poda-b");
        assert_eq!(parent(CgroupDriver::Systemd, "/", Qos::BestEffort), "kubepods-besteffort-poda_b.slice");
        assert_eq!(parent(CgroupDriver::Systemd, "", Qos::Guaranteed), "kubepods-poda_b.slice");
    }
}
