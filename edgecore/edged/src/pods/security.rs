//! Security contexts in the runtime's terms (docs/protocol/edge-runtime.md 5.13).

use cri::v1;
use k8s_openapi::api::core::v1::{Container, PodSpec, SeccompProfile};

use nodebase::Settings;

#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    #[error("container has runAsNonRoot and image will run as root")]
    RunsAsRoot,
    #[error("container's runAsUser breaks non-root policy")]
    BreaksPolicy,
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root"
    )]
    UnknownUser { user: String },
}

/// Paths hidden from, or read-only in, a container with the default procMount.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().is_some_and(|context| context.privileged == Some(true))
}

/// The namespaces of an ephemeral container: it joins the processes of the container with this id.
pub fn guest_namespaces(spec: &PodSpec, target: &str) -> v1::NamespaceOption {
    v1::NamespaceOption {
        pid: v1::NamespaceMode::Target.into(),
        target_id: target.to_owned(),
        ..namespaces(spec)
    }
}

pub fn namespaces(spec: &PodSpec) -> v1::NamespaceOption {
    let host_or = |host: Option<bool>, other: v1::NamespaceMode| match host {
        Some(true) => v1::NamespaceMode::Node.into(),
        _ => other.into(),
    };
    let own_pid = match spec.share_process_namespace {
        Some(true) => v1::NamespaceMode::Pod,
        _ => v1::NamespaceMode::Container,
    };
    v1::NamespaceOption {
        network: host_or(spec.host_network, v1::NamespaceMode::Pod),
        pid: host_or(spec.host_pid, own_pid),
        ipc: host_or(spec.host_ipc, v1::NamespaceMode::Pod),
        target_id: String::new(),
    }
}

/// fsGroup and supplementalGroups.
fn groups(spec: &PodSpec) -> Vec<i64> {
    let Some(context) = &spec.security_context else { return Vec::new() };
    context.fs_group.into_iter().chain(context.supplemental_groups.iter().flatten().copied()).collect()
}

fn groups_policy(spec: &PodSpec) -> i32 {
    let policy =
        spec.security_context.as_ref().and_then(|context| context.supplemental_groups_policy.as_deref());
    match policy {
        Some("Strict") => v1::SupplementalGroupsPolicy::Strict.into(),
        _ => v1::SupplementalGroupsPolicy::Merge.into(),
    }
}

fn selinux(options: Option<&k8s_openapi::api::core::v1::SELinuxOptions>) -> Option<v1::SeLinuxOption> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    options.map(|options| v1::SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    })
}

fn number(value: i64) -> Option<v1::Int64Value> {
    Some(v1::Int64Value { value })
}

pub fn sandbox(spec: &PodSpec) -> v1::LinuxSandboxSecurityContext {
    let context = spec.security_context.as_ref();
    let profile = v1::security_profile::ProfileType::RuntimeDefault;
    v1::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec)),
        selinux_options: selinux(context.and_then(|context| context.se_linux_options.as_ref())),
        run_as_user: context.and_then(|context| context.run_as_user).and_then(number),
        run_as_group: context
            .filter(|context| context.run_as_user.is_some())
            .and_then(|context| context.run_as_group)
            .and_then(number),
        supplemental_groups: groups(spec),
        supplemental_groups_policy: groups_policy(spec),
        privileged: podmodel::spec::all_containers(spec).any(is_privileged),
        seccomp: Some(v1::SecurityProfile { profile_type: profile.into(), localhost_ref: String::new() }),
        ..Default::default()
    }
}

/// `image` tells who the image runs as when the spec does not.
pub fn container(
    spec: &PodSpec,
    container: &Container,
    image: &v1::Image,
    settings: &Settings,
) -> Result<v1::LinuxContainerSecurityContext, SecurityError> {
    let own = container.security_context.as_ref();
    let pod = spec.security_context.as_ref();
    let user = own.and_then(|c| c.run_as_user).or(pod.and_then(|c| c.run_as_user));
    let group = own.and_then(|c| c.run_as_group).or(pod.and_then(|c| c.run_as_group));
    let non_root = own.and_then(|c| c.run_as_non_root).or(pod.and_then(|c| c.run_as_non_root));
    let image_user = image.uid.as_ref().map(|uid| uid.value);
    if non_root == Some(true) {
        check_not_root(user, image_user, &image.username)?;
    }
    let by_name = user.is_none() && image_user.is_none() && !image.username.is_empty();
    let user = user.or(image_user).or(if by_name { None } else { Some(0) });
    let capabilities = own.and_then(|c| c.capabilities.as_ref()).map(|wanted| v1::Capability {
        add_capabilities: wanted.add.clone().unwrap_or_default(),
        drop_capabilities: wanted.drop.clone().unwrap_or_default(),
        add_ambient_capabilities: Vec::new(),
    });
    let unmasked = own.and_then(|c| c.proc_mount.as_deref()) == Some("Unmasked");
    let paths = |list: &[&str]| match unmasked {
        true => Vec::new(),
        false => list.iter().map(|path| (*path).to_owned()).collect(),
    };
    let seccomp =
        own.and_then(|c| c.seccomp_profile.as_ref()).or(pod.and_then(|c| c.seccomp_profile.as_ref()));
    let apparmor =
        own.and_then(|c| c.app_armor_profile.as_ref()).or(pod.and_then(|c| c.app_armor_profile.as_ref()));
    let se_linux =
        own.and_then(|c| c.se_linux_options.as_ref()).or(pod.and_then(|c| c.se_linux_options.as_ref()));
    Ok(v1::LinuxContainerSecurityContext {
        capabilities,
        privileged: is_privileged(container),
        namespace_options: Some(namespaces(spec)),
        selinux_options: selinux(se_linux),
        run_as_user: user.and_then(number),
        run_as_username: if by_name { image.username.clone() } else { String::new() },
        run_as_group: group.and_then(number),
        readonly_rootfs: own.is_some_and(|c| c.read_only_root_filesystem == Some(true)),
        supplemental_groups: groups(spec),
        supplemental_groups_policy: groups_policy(spec),
        no_new_privs: own.is_some_and(|c| c.allow_privilege_escalation == Some(false)),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp_profile(seccomp, settings)),
        apparmor: apparmor
            .map(|wanted| profile(&wanted.type_, wanted.localhost_profile.clone().unwrap_or_default())),
        ..Default::default()
    })
}

/// `user` is the pod's word, `of_image` and `name` the image's.
fn check_not_root(user: Option<i64>, of_image: Option<i64>, name: &str) -> Result<(), SecurityError> {
    match user.or(of_image) {
        Some(0) if user.is_some() => Err(SecurityError::BreaksPolicy),
        Some(0) => Err(SecurityError::RunsAsRoot),
        Some(_) => Ok(()),
        None if name.is_empty() => Err(SecurityError::RunsAsRoot),
        None => Err(SecurityError::UnknownUser { user: name.to_owned() }),
    }
}

fn seccomp_profile(wanted: Option<&SeccompProfile>, settings: &Settings) -> v1::SecurityProfile {
    let otherwise = if settings.seccomp_default { "RuntimeDefault" } else { "Unconfined" };
    let Some(wanted) = wanted else { return profile(otherwise, String::new()) };
    let file = wanted.localhost_profile.as_ref();
    let path = file.map(|file| settings.root_dir.join("seccomp").join(file).to_string_lossy().into_owned());
    profile(&wanted.type_, path.unwrap_or_default())
}

fn profile(kind: &str, localhost_ref: String) -> v1::SecurityProfile {
    use v1::security_profile::ProfileType;
    let profile_type = match kind {
        "RuntimeDefault" => ProfileType::RuntimeDefault,
        "Localhost" => ProfileType::Localhost,
        _ => ProfileType::Unconfined,
    };
    v1::SecurityProfile { profile_type: profile_type.into(), localhost_ref }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(json: serde_json::Value) -> PodSpec {
        serde_json::from_value(json).unwrap()
    }

    fn context(
        pod: serde_json::Value,
        own: serde_json::Value,
        image: v1::Image,
    ) -> Result<v1::LinuxContainerSecurityContext, SecurityError> {
        let spec =
            spec(json!({"securityContext": pod, "containers": [{"name": "a", "securityContext": own}]}));
        let mut settings = Settings::with_defaults(message::NodeName::new("e").unwrap());
        settings.root_dir = "/root".into();
        container(&spec, &spec.containers[0], &image, &settings)
    }

    #[test]
    fn the_container_wins_over_the_pod_and_the_pod_over_the_image() {
        let image = || v1::Image { uid: number(7), ..Default::default() };
        let user = |pod, own| context(pod, own, image()).unwrap().run_as_user.unwrap().value;
        assert_eq!(user(json!({"runAsUser": 5}), json!({"runAsUser": 6})), 6);
        assert_eq!(user(json!({"runAsUser": 5}), json!({})), 5);
        assert_eq!(user(json!({}), json!({})), 7);
    }

    #[test]
    fn run_as_non_root_refuses_root_and_names() {
        let non_root = || json!({"runAsNonRoot": true});
        let named = v1::Image { username: "www".into(), ..Default::default() };
        assert!(matches!(
            context(non_root(), json!({}), v1::Image::default()),
            Err(SecurityError::RunsAsRoot)
        ));
        assert!(matches!(
            context(non_root(), json!({}), named.clone()),
            Err(SecurityError::UnknownUser { .. })
        ));
        assert!(context(non_root(), json!({"runAsUser": 10}), named.clone()).is_ok());
        assert!(matches!(
            context(non_root(), json!({"runAsUser": 0}), named.clone()),
            Err(SecurityError::BreaksPolicy)
        ));
        let by_name = context(json!({}), json!({}), named).unwrap();
        assert_eq!((by_name.run_as_username.as_str(), by_name.run_as_user), ("www", None));
    }

    #[test]
    fn privileges_are_passed_on_as_written() {
        let own = json!({"privileged": true, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
            "seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}});
        let made =
            context(json!({"fsGroup": 9, "supplementalGroups": [1]}), own, v1::Image::default()).unwrap();
        assert!(made.privileged && made.readonly_rootfs && made.no_new_privs);
        assert_eq!(made.supplemental_groups, [9, 1]);
        assert_eq!(made.seccomp.unwrap().localhost_ref, "/root/seccomp/p.json");
    }
}
