//! `modules.edged` -> Edged's settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use api::config::edgecore::{Edged, KubeletConfig};
use k8s_openapi::api::core::v1::Taint;
use message::NodeName;

use super::Checker;
use nodebase::settings::{Eviction, Floor, Images, Logs, Shutdown, Threshold};
use podmodel::cgroups::{CgroupDriver, Cgroups};

const SIGNALS: [&str; 7] = [
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "containerfs.available",
    "pid.available",
];

/// The name of a key in the file.
fn key(name: &str) -> String {
    format!("modules.edged.tailoredKubeletConfig.{name}")
}

pub(super) fn edged(config: &Edged, node: &NodeName, checker: &mut Checker) -> nodebase::Settings {
    let kubelet = &config.tailored_kubelet_config;
    let cgroup_driver = match kubelet.cgroup_driver.as_str() {
        "systemd" => CgroupDriver::Systemd,
        "cgroupfs" => CgroupDriver::Cgroupfs,
        other => {
            checker.problem(&key("cgroupDriver"), format!("{other:?} is neither cgroupfs nor systemd"));
            CgroupDriver::Cgroupfs
        }
    };
    let servers = kubelet.cluster_dns.clone().unwrap_or_default();
    nodebase::Settings {
        node_ips: checker.addresses("modules.edged.nodeIP", &config.node_ip),
        root_dir: PathBuf::from(&config.root_directory),
        pod_logs_dir: PathBuf::from(&kubelet.pod_logs_dir),
        runtime_endpoint: super::runtime::endpoint(config, checker),
        cgroup_driver,
        cgroup_root: kubelet.cgroup_root.clone(),
        labels: config.node_labels.clone(),
        taints: taints(config, checker),
        max_pods: max_pods(kubelet),
        register_node: config.register_node && kubelet.register_node,
        register_schedulable: config.register_schedulable,
        cluster_dns: servers
            .iter()
            .filter_map(|server| checker.address(&key("clusterDNS"), server))
            .collect(),
        cluster_domain: kubelet.cluster_domain.clone(),
        resolv_conf: PathBuf::from(&kubelet.resolv_conf),
        status_interval: checker
            .duration(&key("nodeStatusUpdateFrequency"), &kubelet.node_status_update_frequency),
        status_report_interval: checker
            .duration(&key("nodeStatusReportFrequency"), &kubelet.node_status_report_frequency),
        lease_seconds: kubelet.node_lease_duration_seconds,
        report_events: config.report_event,
        max_images_told: usize::try_from(kubelet.node_status_max_images).unwrap_or(usize::MAX),
        static_pods: PathBuf::from(&kubelet.static_pod_path),
        static_pods_check: checker.duration(&key("fileCheckFrequency"), &kubelet.file_check_frequency),
        images: images(kubelet, checker),
        eviction: eviction(kubelet, checker),
        reserved: reserved(kubelet, checker),
        cgroups: cgroups(kubelet, checker),
        logs: logs(kubelet, checker),
        allowed_sysctls: kubelet.allowed_unsafe_sysctls.clone(),
        seccomp_default: kubelet.seccomp_default || config.seccomp_default,
        shutdown: shutdown(kubelet, checker),
        longest_restart: longest_restart(kubelet, checker),
        ..nodebase::Settings::with_defaults(node.clone())
    }
}

/// `podsPerCore` counts where it allows less.
fn max_pods(kubelet: &KubeletConfig) -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let by_cores = kubelet.pods_per_core.saturating_mul(u32::try_from(cores).unwrap_or(u32::MAX));
    if kubelet.pods_per_core == 0 { kubelet.max_pods } else { kubelet.max_pods.min(by_cores) }
}

/// Those of all keys; one that several have is there once.
fn taints(config: &Edged, checker: &mut Checker) -> Vec<Taint> {
    let places = [
        ("modules.edged.taints".to_owned(), &config.taints),
        ("modules.edged.registerWithTaints".to_owned(), &config.register_with_taints),
        (key("registerWithTaints"), &config.tailored_kubelet_config.register_with_taints),
    ];
    let mut taints: Vec<Taint> = Vec::new();
    for (name, given) in places {
        for taint in given {
            if taint.key.is_empty() {
                checker.problem(&name, "a taint has no key");
            }
            if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&taint.effect.as_str()) {
                let text = format!(
                    "{:?} is not an effect of a taint: NoSchedule, PreferNoSchedule or NoExecute",
                    taint.effect
                );
                checker.problem(&name, text);
            }
            let value = Some(taint.value.clone()).filter(|value| !value.is_empty());
            let taint =
                Taint { key: taint.key.clone(), value, effect: taint.effect.clone(), time_added: None };
            if !taints.contains(&taint) {
                taints.push(taint);
            }
        }
    }
    taints
}

fn images(kubelet: &KubeletConfig, checker: &mut Checker) -> Images {
    let (high, low) = (kubelet.image_gc_high_threshold_percent, kubelet.image_gc_low_threshold_percent);
    if high > 100 || low > high {
        let text =
            format!("{low} and {high}: the low threshold is at most the high one, which is at most 100");
        checker.problem(&key("imageGCLowThresholdPercent"), text);
    }
    // Without a limit of its own, as many pulls as a node may have pods.
    let parallel = kubelet.max_parallel_image_pulls.unwrap_or(kubelet.max_pods).max(1);
    Images {
        parallel_pulls: if kubelet.serialize_image_pulls { 1 } else { parallel as usize },
        pulls_per_second: kubelet.registry_pull_qps,
        burst: kubelet.registry_burst.max(1),
        high_percent: u64::from(high),
        low_percent: u64::from(low),
        least_age: checker.duration_or_off(&key("imageMinimumGCAge"), &kubelet.image_minimum_gc_age),
        most_age: checker.duration_or_off(&key("imageMaximumGCAge"), &kubelet.image_maximum_gc_age),
    }
}

fn eviction(kubelet: &KubeletConfig, checker: &mut Checker) -> Eviction {
    let mut thresholds = Vec::new();
    for (signal, text) in &kubelet.eviction_hard {
        thresholds.extend(threshold("evictionHard", signal, text, Duration::ZERO, checker));
    }
    for (signal, text) in &kubelet.eviction_soft {
        let name = format!("evictionSoftGracePeriod.{signal}");
        let Some(grace) = kubelet.eviction_soft_grace_period.get(signal) else {
            checker.problem(&key(&name), "a soft threshold needs a grace period");
            continue;
        };
        let grace = checker.duration(&key(&name), grace);
        thresholds.extend(threshold("evictionSoft", signal, text, grace, checker));
    }
    Eviction {
        thresholds,
        transition: checker.duration_or_off(
            &key("evictionPressureTransitionPeriod"),
            &kubelet.eviction_pressure_transition_period,
        ),
        max_grace: Duration::from_secs(u64::from(kubelet.eviction_max_pod_grace_period)),
    }
}

/// None for a threshold that is off (0 % or 100 %), as the kubelet reads it.
fn threshold(
    map: &str,
    signal: &str,
    text: &str,
    grace: Duration,
    checker: &mut Checker,
) -> Option<Threshold> {
    let name = key(&format!("{map}.{signal}"));
    if !SIGNALS.contains(&signal) {
        checker.problem(&name, format!("not a signal; these are: {}", SIGNALS.join(", ")));
        return None;
    }
    let floor = match text.strip_suffix('%').map(str::parse::<f64>) {
        Some(Ok(percent)) if percent == 0.0 || percent == 100.0 => return None,
        Some(Ok(percent)) if percent > 0.0 && percent < 100.0 => Floor::Percent(percent),
        Some(_) => {
            checker.problem(&name, format!("{text:?} is not a percentage"));
            return None;
        }
        None => Floor::Amount(u64::try_from(checker.amount(&name, signal, text)?).unwrap_or(0)),
    };
    Some(Threshold { signal: signal.to_owned(), floor, grace })
}

/// What the system and the kubelet keep for themselves, together.
fn reserved(kubelet: &KubeletConfig, checker: &mut Checker) -> BTreeMap<String, i64> {
    let mut sum: BTreeMap<String, i64> = BTreeMap::new();
    for (map, amounts) in
        [("systemReserved", &kubelet.system_reserved), ("kubeReserved", &kubelet.kube_reserved)]
    {
        for (resource, text) in amounts {
            let amount = checker.amount(&key(&format!("{map}.{resource}")), resource, text).unwrap_or(0);
            *sum.entry(resource.clone()).or_default() += amount;
        }
    }
    sum
}

fn cgroups(kubelet: &KubeletConfig, checker: &mut Checker) -> Cgroups {
    Cgroups {
        per_qos: kubelet.cgroups_per_qos,
        enforce_allocatable: kubelet.enforce_node_allocatable.iter().any(|what| what == "pods"),
        cpu_quota: kubelet.cpu_cfs_quota,
        cpu_period: checker.duration(&key("cpuCFSQuotaPeriod"), &kubelet.cpu_cfs_quota_period),
        pids_limit: Some(kubelet.pod_pids_limit).filter(|limit| *limit > 0),
    }
}

fn logs(kubelet: &KubeletConfig, checker: &mut Checker) -> Logs {
    let bytes = checker.amount(&key("containerLogMaxSize"), "bytes", &kubelet.container_log_max_size);
    if kubelet.container_log_max_files < 2 {
        checker.problem(&key("containerLogMaxFiles"), "at least 2: the one being written and an older one");
    }
    let max_files = usize::try_from(kubelet.container_log_max_files).unwrap_or(usize::MAX);
    Logs { max_bytes: bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(10 << 20), max_files }
}

fn shutdown(kubelet: &KubeletConfig, checker: &mut Checker) -> Shutdown {
    let grace = checker.duration_or_off(&key("shutdownGracePeriod"), &kubelet.shutdown_grace_period);
    let critical = checker.duration_or_off(
        &key("shutdownGracePeriodCriticalPods"),
        &kubelet.shutdown_grace_period_critical_pods,
    );
    if critical > grace {
        checker.problem(
            &key("shutdownGracePeriodCriticalPods"),
            "longer than shutdownGracePeriod, which holds it",
        );
    }
    Shutdown { grace, critical }
}

fn longest_restart(kubelet: &KubeletConfig, checker: &mut Checker) -> Duration {
    let name = key("crashLoopBackOff.maxContainerRestartPeriod");
    let text = &kubelet.crash_loop_back_off.max_container_restart_period;
    let longest = checker.duration(&name, text);
    if !(Duration::from_secs(1)..=Duration::from_secs(300)).contains(&longest) {
        checker.problem(&name, format!("{text:?} is not between 1s and 300s"));
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_and_wrong_ones_named() {
        let mut checker = Checker { problems: Vec::new() };
        let mut kubelet = KubeletConfig::default();
        let defaults = eviction(&kubelet, &mut checker);
        assert_eq!(defaults.thresholds.len(), 5);
        let memory = defaults.thresholds.iter().find(|threshold| threshold.signal == "memory.available");
        assert_eq!(memory.unwrap().floor, Floor::Amount(100 << 20));
        assert!(checker.problems.is_empty());
        kubelet.eviction_hard = BTreeMap::from(
            [("nodefs.available", "0%"), ("memory.free", "1Mi"), ("pid.available", "many%")]
                .map(|(signal, text)| (signal.to_owned(), text.to_owned())),
        );
        kubelet.eviction_soft = BTreeMap::from([("memory.available".to_owned(), "1Gi".to_owned())]);
        assert!(eviction(&kubelet, &mut checker).thresholds.is_empty());
        assert_eq!(checker.problems.len(), 3, "{:?}", checker.problems);
    }

    #[test]
    fn what_is_reserved_adds_up() {
        let mut checker = Checker { problems: Vec::new() };
        let amounts = |cpu: &str, memory: &str| {
            BTreeMap::from([("cpu".to_owned(), cpu.to_owned()), ("memory".to_owned(), memory.to_owned())])
        };
        let kubelet = KubeletConfig {
            system_reserved: amounts("100m", "64Mi"),
            kube_reserved: amounts("1", "x"),
            ..KubeletConfig::default()
        };
        let sum = reserved(&kubelet, &mut checker);
        assert_eq!((sum["cpu"], sum["memory"]), (1100, 64 << 20));
        assert_eq!(checker.problems.len(), 1);
    }

    #[test]
    fn a_node_registers_with_the_taints_of_all_places() {
        let mut checker = Checker { problems: Vec::new() };
        let taint = |key: &str, effect: &str| api::config::edgecore::Taint {
            key: key.into(),
            value: String::new(),
            effect: effect.into(),
        };
        let old = vec![taint("a", "NoExecute"), taint("d", "NoSchedule")];
        let mut config =
            Edged { taints: vec![taint("a", "NoExecute")], register_with_taints: old, ..Edged::default() };
        config.register_node = false;
        assert!(!edged(&config, &NodeName::new("n").unwrap(), &mut checker).register_node);
        config.register_node = true;
        let new = vec![taint("a", "NoExecute"), taint("b", "NoSchedule"), taint("c", "Never")];
        config.tailored_kubelet_config.register_with_taints = new;
        config.tailored_kubelet_config.register_node = false;
        let settings = edged(&config, &NodeName::new("n").unwrap(), &mut checker);
        let keys: Vec<&str> = settings.taints.iter().map(|taint| taint.key.as_str()).collect();
        assert_eq!((keys, settings.register_node), (vec!["a", "d", "b", "c"], false));
        assert_eq!(checker.problems.len(), 1, "{:?}", checker.problems);
        assert!(checker.problems[0].contains("registerWithTaints"));
    }

    #[test]
    fn pods_per_core_counts_where_it_allows_less() {
        let kubelet = |pods_per_core| KubeletConfig { pods_per_core, ..KubeletConfig::default() };
        assert_eq!(max_pods(&kubelet(0)), 110);
        assert_eq!(max_pods(&kubelet(1000)), 110);
        assert!(max_pods(&kubelet(1)) < 110 || std::thread::available_parallelism().unwrap().get() >= 110);
    }
}
