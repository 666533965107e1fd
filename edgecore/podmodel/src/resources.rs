//! CPU and memory of a pod as Linux knows them (docs/protocol/edge-runtime.md 5.12).

use cri::v1::{HugepageLimit, LinuxContainerResources};
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};

use super::plan::is_sidecar;
use super::quantity;
use super::spec::all_containers;
use crate::cgroups::{CgroupDriver, Cgroups};
use crate::machine::Machine;

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

pub const MIN_QUOTA_US: i64 = 1_000;
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

/// What all containers together may use, if every one has a limit.
pub fn memory_limit(spec: &PodSpec) -> Option<i64> {
    let limit = |container: &Container| Amounts::of(container.resources.as_ref()).memory_limit;
    let (mut beside, mut alone) = (0, 0);
    for init in spec.init_containers.iter().flatten() {
        match is_sidecar(init) {
            true => beside += limit(init)?,
            false => alone = alone.max(beside + limit(init)?),
        }
    }
    let regular: Option<Vec<i64>> = spec.containers.iter().map(limit).collect();
    Some(alone.max(beside + regular?.iter().sum::<i64>()))
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
pub fn linux(
    spec: &PodSpec,
    container: &Container,
    machine: &Machine,
    cgroups: &Cgroups,
) -> LinuxContainerResources {
    let amounts = Amounts::of(container.resources.as_ref());
    let node_memory = machine.memory;
    let period = i64::try_from(cgroups.cpu_period.as_micros()).unwrap_or(100_000);
    let quota = amounts.cpu_limit.map(|milli| (milli * period / 1000).max(MIN_QUOTA_US));
    // The whole container goes when one of its processes runs out of memory.
    let group = (machine.has_cgroup2).then(|| ("memory.oom.group".to_owned(), "1".to_owned()));
    LinuxContainerResources {
        cpu_period: period,
        cpu_quota: if cgroups.cpu_quota { quota.unwrap_or(0) } else { -1 },
        // No swap beyond the memory.
        memory_swap_limit_in_bytes: amounts.memory_limit.unwrap_or(0),
        hugepage_limits: huge_pages(container, machine),
        unified: group.into_iter().collect(),
        cpu_shares: shares(amounts.cpu_request),
        memory_limit_in_bytes: amounts.memory_limit.unwrap_or(0),
        oom_score_adj: oom_score(spec, container, node_memory),
        ..Default::default()
    }
}

/// One limit for every page size of the machine; zero where the container asks for none.
fn huge_pages(container: &Container, machine: &Machine) -> Vec<HugepageLimit> {
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let sizes = machine.huge_pages.iter().filter_map(|(name, _)| {
        let size = name.strip_prefix("hugepages-")?;
        let bytes = limits.and_then(|limits| limits.get(name)).and_then(quantity::units).unwrap_or(0);
        // `2Mi` is the kernel's 2MB.
        Some(HugepageLimit { page_size: size.replace('i', "B"), limit: u64::try_from(bytes).unwrap_or(0) })
    });
    sizes.collect()
}

/// The cgroup of a class, or of all pods.
pub fn class_parent(driver: CgroupDriver, root: &str, class: Option<Qos>) -> String {
    let pod = cgroup_parent(driver, root, class.unwrap_or(Qos::Guaranteed), "");
    match driver {
        CgroupDriver::Cgroupfs => pod.trim_end_matches("/pod").to_owned(),
        CgroupDriver::Systemd => pod.replace("-pod.slice", ".slice"),
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
    use super::super::plan::tests::spec;
    use super::*;
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
    fn a_pod_has_a_memory_limit_if_every_container_has() {
        let with = |memory: &str| json!({"limits": {"memory": memory}});
        let limits = |sidecar: serde_json::Value, init: &str| {
            memory_limit(&spec(json!({
                "initContainers": [
                    {"name": "s", "restartPolicy": "Always", "resources": sidecar},
                    {"name": "i", "resources": with(init)}],
                "containers": [{"name": "a", "resources": with("20")}, {"name": "b", "resources": with("30")}]})))
        };
        assert_eq!((limits(with("1"), "10"), limits(with("1"), "60")), (Some(51), Some(61)));
        assert_eq!(limits(json!({}), "10"), None);
    }

    #[test]
    fn amounts_become_shares_quota_and_oom_score() {
        let limits = json!({"limits": {"cpu": "250m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "32Mi"}});
        let spec = pod(limits);
        let machine = Machine {
            memory: 1 << 30,
            has_cgroup2: true,
            huge_pages: vec![("hugepages-2Mi".to_owned(), 0)],
            ..Machine::default()
        };
        let linux = linux(&spec, &spec.containers[0], &machine, &Cgroups::default());
        assert_eq!(linux.hugepage_limits, [HugepageLimit { page_size: "2MB".into(), limit: 0 }]);
        assert_eq!(linux.unified["memory.oom.group"], "1");
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
        let class = |driver, class| class_parent(driver, "/edge", class);
        assert_eq!(class(CgroupDriver::Cgroupfs, None), "/edge/kubepods");
        assert_eq!(class(CgroupDriver::Cgroupfs, Some(Qos::Burstable)), "/edge/kubepods/burstable");
        assert_eq!(class(CgroupDriver::Systemd, None), "edge-kubepods.slice");
        assert_eq!(class(CgroupDriver::Systemd, Some(Qos::BestEffort)), "edge-kubepods-besteffort.slice");
    }
}
