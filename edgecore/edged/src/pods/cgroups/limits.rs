//! What a cgroup of pods may take, as numbers and as the kernel's files. Pure.

use k8s_openapi::api::core::v1::PodSpec;

use nodebase::settings::Settings;
use podmodel::demand::{Amounts, Demand};
use podmodel::resources::{self, Amounts as OwnAmounts, Qos};
use podmodel::spec::all_containers;

/// None: not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub cpu_shares: Option<i64>,
    /// Microseconds of CPU time in each period.
    pub cpu_quota: Option<i64>,
    pub cpu_period: i64,
    /// Bytes.
    pub memory: Option<i64>,
    pub pids: Option<i64>,
}

impl Limits {
    /// A pod is limited in what all its containers are limited in.
    pub fn of_pod(spec: &PodSpec, settings: &Settings) -> Limits {
        let pod = k8s_openapi::api::core::v1::Pod { spec: Some(spec.clone()), ..Default::default() };
        let demand = Demand::of(&pod);
        let requested = Some(demand.request("cpu")).filter(|milli| *milli > 0);
        let amounts: Vec<OwnAmounts> =
            all_containers(spec).map(|container| OwnAmounts::of(container.resources.as_ref())).collect();
        let sum = |pick: fn(&OwnAmounts) -> Option<i64>| {
            amounts.iter().map(pick).collect::<Option<Vec<i64>>>().map(|all| all.into_iter().sum::<i64>())
        };
        let period = i64::try_from(settings.cgroups.cpu_period.as_micros()).unwrap_or(100_000);
        let quota = sum(|amount| amount.cpu_limit).filter(|_| settings.cgroups.cpu_quota);
        let best_effort = demand.qos == Qos::BestEffort;
        Limits {
            cpu_shares: Some(resources::shares(requested.filter(|_| !best_effort))),
            cpu_quota: quota.map(|milli| (milli * period / 1000).max(resources::MIN_QUOTA_US)),
            cpu_period: period,
            memory: sum(|amount| amount.memory_limit),
            pids: settings.cgroups.pids_limit,
        }
    }

    /// All pods of the node together.
    pub fn of_all(allocatable: &Amounts, enforce: bool) -> Limits {
        let amount = |name: &str| allocatable.get(name).copied().filter(|amount| *amount > 0);
        Limits {
            cpu_shares: Some(resources::shares(amount("cpu"))),
            memory: amount("memory").filter(|_| enforce),
            ..Limits::default()
        }
    }

    /// (controller, file, value) for one hierarchy per controller.
    pub fn files_v1(&self) -> Vec<(&'static str, &'static str, String)> {
        let mut files = Vec::new();
        files.extend(self.cpu_shares.map(|shares| ("cpu", "cpu.shares", shares.to_string())));
        if let Some(quota) = self.cpu_quota {
            files.push(("cpu", "cpu.cfs_period_us", self.cpu_period.to_string()));
            files.push(("cpu", "cpu.cfs_quota_us", quota.to_string()));
        }
        files.extend(self.memory.map(|bytes| ("memory", "memory.limit_in_bytes", bytes.to_string())));
        files.extend(self.pids.map(|count| ("pids", "pids.max", count.to_string())));
        files
    }

    /// (file, value) for the one hierarchy.
    pub fn files_v2(&self) -> Vec<(&'static str, String)> {
        let mut files = Vec::new();
        files.extend(self.cpu_shares.map(|shares| ("cpu.weight", weight(shares).to_string())));
        files.extend(self.cpu_quota.map(|quota| ("cpu.max", format!("{quota} {}", self.cpu_period))));
        files.extend(self.memory.map(|bytes| ("memory.max", bytes.to_string())));
        files.extend(self.pids.map(|count| ("pids.max", count.to_string())));
        files
    }

    /// Properties of a slice.
    pub fn properties(&self) -> Vec<String> {
        let mut list = Vec::new();
        list.extend(self.cpu_shares.map(|shares| format!("CPUWeight={}", weight(shares))));
        if let Some(quota) = self.cpu_quota {
            // systemd counts in percent of one CPU.
            list.push(format!("CPUQuota={}%", (quota * 100 / self.cpu_period.max(1)).max(1)));
            list.push(format!("CPUQuotaPeriodSec={}us", self.cpu_period));
        }
        list.extend(self.memory.map(|bytes| format!("MemoryMax={bytes}")));
        list.extend(self.pids.map(|count| format!("TasksMax={count}")));
        list
    }
}

/// Shares of v1 (2 to 262144) as a weight of v2 (1 to 10000), on the kubelet's line.
pub(super) fn weight(shares: i64) -> i64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(json: serde_json::Value) -> PodSpec {
        serde_json::from_value(json).unwrap()
    }

    fn limits(containers: serde_json::Value) -> Limits {
        let mut settings = Settings::with_defaults(message::NodeName::new("e").unwrap());
        settings.cgroups.pids_limit = Some(100);
        Limits::of_pod(&spec(json!({"containers": containers})), &settings)
    }

    fn container(limits: serde_json::Value) -> serde_json::Value {
        json!({"name": "a", "resources": {"limits": limits, "requests": {"cpu": "100m"}}})
    }

    #[test]
    fn a_pod_is_limited_in_what_all_its_containers_are_limited_in() {
        let both = limits(json!([
            container(json!({"cpu": "500m", "memory": "64Mi"})),
            container(json!({"memory": "64Mi"})),
        ]));
        assert_eq!((both.cpu_shares, both.cpu_quota, both.memory), (Some(204), None, Some(128 << 20)));
        let one = limits(json!([container(json!({"cpu": "500m"}))]));
        assert_eq!((one.cpu_quota, one.memory, one.pids), (Some(50_000), None, Some(100)));
        assert_eq!(limits(json!([{"name": "a"}])).cpu_shares, Some(2));
    }

    #[test]
    fn limits_have_files_in_both_versions_and_properties_of_slices() {
        let limits = limits(json!([container(json!({"cpu": "500m", "memory": "1Mi"}))]));
        let v1: Vec<String> =
            limits.files_v1().iter().map(|(_, file, value)| format!("{file}={value}")).collect();
        assert_eq!(
            v1,
            [
                "cpu.shares=102",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "memory.limit_in_bytes=1048576",
                "pids.max=100"
            ]
        );
        let v2: Vec<String> =
            limits.files_v2().iter().map(|(file, value)| format!("{file}={value}")).collect();
        assert_eq!(v2, ["cpu.weight=4", "cpu.max=50000 100000", "memory.max=1048576", "pids.max=100"]);
        let properties = limits.properties();
        assert_eq!(
            properties,
            [
                "CPUWeight=4",
                "CPUQuota=50%",
                "CPUQuotaPeriodSec=100000us",
                "MemoryMax=1048576",
                "TasksMax=100"
            ]
        );
        assert_eq!((weight(2), weight(262_144)), (1, 10_000));
    }
}
