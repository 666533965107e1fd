//! Sandbox and container configurations in the runtime's terms (docs/protocol/edge-runtime.md 6.2 to 6.4). Pure.

use std::collections::BTreeMap;

use cri::{labels, v1};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::{env, network, security};
use deviceplugins::DeviceAllocation;
use nodebase::Settings;
use nodebase::owner;
use podmodel::cgroups::CgroupDriver;
use podmodel::expand::expand;
use podmodel::machine::Machine;
use podmodel::observed::SPEC_IMAGE;
use podmodel::spec::PodId;
use podmodel::spec::termination_path;
use podmodel::{resources, spec};

/// Facts of the node that enter configurations.
pub struct Node<'a> {
    pub settings: &'a Settings,
    pub driver: CgroupDriver,
    /// Text of the node's resolv.conf.
    pub resolv: &'a str,
    pub machine: &'a Machine,
}

pub fn sandbox(pod: &Pod, spec: &PodSpec, attempt: u32, node: &Node<'_>) -> v1::PodSandboxConfig {
    let id = PodId::of(pod);
    let host_network = spec.host_network == Some(true);
    let sysctls = spec.security_context.as_ref().and_then(|context| context.sysctls.as_ref());
    let mut labels: Labels = pod.metadata.labels.clone().unwrap_or_default().into_iter().collect();
    labels.extend(pod_labels(&id, node.settings));
    v1::PodSandboxConfig {
        hostname: match host_network {
            true => String::new(),
            false => network::kernel_hostname(pod, spec, &node.settings.cluster_domain),
        },
        log_directory: node.settings.pod_logs_dir.join(id.log_folder()).to_string_lossy().into_owned(),
        dns_config: Some(network::dns(pod, spec, node.settings, node.resolv)),
        port_mappings: network::port_mappings(spec),
        labels,
        annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: resources::cgroup_parent(
                node.driver,
                &node.settings.cgroup_root,
                resources::qos(spec),
                &id.uid,
            ),
            security_context: Some(security::sandbox(spec)),
            sysctls: sysctls
                .into_iter()
                .flatten()
                .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
                .collect(),
            ..Default::default()
        }),
        metadata: Some(v1::PodSandboxMetadata {
            name: id.name,
            uid: id.uid,
            namespace: id.namespace,
            attempt,
        }),
    }
}

type Labels = std::collections::HashMap<String, String>;

fn pod_labels(id: &PodId, settings: &Settings) -> [(String, String); 4] {
    [
        (owner::NODE_ROOT.to_owned(), owner::mark(settings)),
        (labels::POD_NAME.to_owned(), id.name.clone()),
        (labels::POD_NAMESPACE.to_owned(), id.namespace.clone()),
        (labels::POD_UID.to_owned(), id.uid.clone()),
    ]
}

/// What was gathered for one container.
pub struct Parts {
    pub attempt: u32,
    pub image: v1::Image,
    pub environment: Vec<(String, String)>,
    pub mounts: Vec<v1::Mount>,
    pub devices: Vec<v1::Device>,
    /// What device plugins add to all of these.
    pub gear: DeviceAllocation,
    pub security: v1::LinuxContainerSecurityContext,
}

pub fn container(
    pod: &Pod,
    spec: &PodSpec,
    wanted: &Container,
    parts: Parts,
    node: &Node<'_>,
) -> v1::ContainerConfig {
    let id = PodId::of(pod);
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        let known = |name: &str| env::get(&parts.environment, name);
        list.iter().flatten().map(|text| expand(text, known)).collect()
    };
    let mut labels: Labels = pod_labels(&id, node.settings).into();
    labels.insert(labels::CONTAINER_NAME.to_owned(), wanted.name.clone());
    let own = annotations(pod, wanted, parts.attempt);
    let (command, args) = (expanded(&wanted.command), expanded(&wanted.args));
    // The pod's own words come last: they count where both say something.
    let envs = parts.gear.envs.into_iter().chain(parts.environment);
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: wanted.name.clone(), attempt: parts.attempt }),
        command,
        args,
        working_dir: wanted.working_dir.clone().unwrap_or_default(),
        labels,
        annotations: parts.gear.annotations.into_iter().chain(own).collect(),
        log_path: format!("{}/{}.log", wanted.name, parts.attempt),
        stdin: wanted.stdin == Some(true),
        stdin_once: wanted.stdin_once == Some(true),
        tty: wanted.tty == Some(true),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources::linux(spec, wanted, node.machine, &node.settings.cgroups)),
            security_context: Some(parts.security),
        }),
        image: Some(v1::ImageSpec {
            image: parts.image.id,
            user_specified_image: wanted.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        envs: envs.map(|(key, value)| v1::KeyValue { key, value }).collect(),
        mounts: parts.mounts.into_iter().chain(parts.gear.mounts).collect(),
        devices: parts.devices.into_iter().chain(parts.gear.devices).collect(),
        cdi_devices: parts.gear.cdi.into_iter().map(|name| v1::CdiDevice { name }).collect(),
    }
}

fn annotations(pod: &Pod, wanted: &Container, attempt: u32) -> Labels {
    let image = wanted.image.clone().unwrap_or_default();
    let mut all = BTreeMap::from([
        (labels::CONTAINER_HASH, format!("{:x}", fnv32a(&wanted.name, &image))),
        (labels::RESTART_COUNT, attempt.to_string()),
        (labels::TERMINATION_PATH, termination_path(wanted).to_owned()),
        (
            labels::TERMINATION_POLICY,
            wanted.termination_message_policy.clone().unwrap_or_else(|| "File".to_owned()),
        ),
        (labels::TERMINATION_GRACE, spec::grace(pod).as_secs().to_string()),
        (SPEC_IMAGE, image),
    ]);
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        all.insert(labels::DELETION_GRACE, seconds.to_string());
    }
    let hook = wanted.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    if let Some(text) = hook.and_then(|hook| serde_json::to_string(hook).ok()) {
        all.insert(labels::PRE_STOP, text);
    }
    if let Some(text) = wanted.ports.as_ref().and_then(|ports| serde_json::to_string(ports).ok()) {
        all.insert(labels::PORTS, text);
    }
    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// FNV-1a over name and image: shown to other tools, never compared with a hash of Go's.
fn fnv32a(name: &str, image: &str) -> u32 {
    let bytes = name.bytes().chain([0]).chain(image.bytes());
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
