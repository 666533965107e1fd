//! Reading a pod: the parts needed before it is parsed whole, and the defaults the API server fills in.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, EphemeralContainer, Pod, PodSpec, Probe};
use message::{ObjectKey, ObjectKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    pub fn of(spec: &PodSpec) -> RestartPolicy {
        match spec.restart_policy.as_deref() {
            Some("OnFailure") => RestartPolicy::OnFailure,
            Some("Never") => RestartPolicy::Never,
            _ => RestartPolicy::Always,
        }
    }
}

/// Which pod a text is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodId {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl PodId {
    pub fn of(pod: &Pod) -> PodId {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        PodId {
            namespace: text(&pod.metadata.namespace),
            name: text(&pod.metadata.name),
            uid: text(&pod.metadata.uid),
        }
    }

    /// `<namespace>_<name>_<uid>`, the name of its log folder.
    pub fn log_folder(&self) -> String {
        format!("{}_{}_{}", self.namespace, self.name, self.uid)
    }
}

/// A uid that may name folders: Kubernetes' are UUIDs, or hashes for static pods.
pub fn is_safe_uid(uid: &str) -> bool {
    !uid.is_empty() && uid.len() <= 128 && uid.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

pub fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// A container of any group by its name.
pub fn container<'a>(spec: &'a PodSpec, name: &str) -> Option<Cow<'a, Container>> {
    let ephemeral = || spec.ephemeral_containers.iter().flatten().find(|ephemeral| ephemeral.name == name);
    let planned = all_containers(spec).find(|container| container.name == name).map(Cow::Borrowed);
    planned.or_else(|| ephemeral().map(|ephemeral| Cow::Owned(as_container(ephemeral))))
}

/// An ephemeral container has the fields of a container that make sense for a guest: no ports, probes, hooks or
/// resources.
pub fn as_container(guest: &EphemeralContainer) -> Container {
    Container {
        name: guest.name.clone(),
        image: guest.image.clone(),
        image_pull_policy: guest.image_pull_policy.clone(),
        command: guest.command.clone(),
        args: guest.args.clone(),
        working_dir: guest.working_dir.clone(),
        env: guest.env.clone(),
        env_from: guest.env_from.clone(),
        volume_mounts: guest.volume_mounts.clone(),
        volume_devices: guest.volume_devices.clone(),
        security_context: guest.security_context.clone(),
        stdin: guest.stdin,
        stdin_once: guest.stdin_once,
        tty: guest.tty,
        termination_message_path: guest.termination_message_path.clone(),
        termination_message_policy: guest.termination_message_policy.clone(),
        ..Container::default()
    }
}

/// The container whose processes an ephemeral container sees.
pub fn target<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a str> {
    let guest = spec.ephemeral_containers.iter().flatten().find(|guest| guest.name == name)?;
    guest.target_container_name.as_deref().filter(|target| !target.is_empty())
}

/// The grace of a kill because of a failed probe, where the probe has one of its own.
pub fn probe_grace(container: &Container) -> Option<Duration> {
    let own = |probe: &Option<Probe>| probe.as_ref()?.termination_grace_period_seconds;
    let seconds = own(&container.liveness_probe).or_else(|| own(&container.startup_probe))?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// How long the pod's containers have to end. The deletion's word counts before the spec's.
pub fn grace(pod: &Pod) -> Duration {
    let spec = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    let seconds = pod.metadata.deletion_grace_period_seconds.or(spec).unwrap_or(30);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1))
}

/// Config maps and secrets the pod reads; a change of one wakes its worker.
pub fn references(pod: &Pod) -> BTreeSet<ObjectKey> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let mut found = References { namespace, keys: BTreeSet::new() };
    if let Some(spec) = &pod.spec {
        found.volumes(spec);
        let guests: Vec<Container> = spec.ephemeral_containers.iter().flatten().map(as_container).collect();
        for container in all_containers(spec).chain(&guests) {
            found.env_from(container.env_from.as_deref().unwrap_or_default());
            found.env(container.env.as_deref().unwrap_or_default());
        }
        for secret in spec.image_pull_secrets.iter().flatten() {
            found.add(ObjectKind::Secret, Some(&secret.name));
        }
    }
    found.keys
}

struct References<'a> {
    namespace: &'a str,
    keys: BTreeSet<ObjectKey>,
}

impl References<'_> {
    fn add(&mut self, kind: ObjectKind, name: Option<&str>) {
        if let Some(name) = name {
            self.keys.insert(ObjectKey::new(Some(self.namespace), kind, name));
        }
    }

    fn volumes(&mut self, spec: &PodSpec) {
        for volume in spec.volumes.iter().flatten() {
            self.add(ObjectKind::ConfigMap, volume.config_map.as_ref().map(|source| &*source.name));
            self.add(
                ObjectKind::Secret,
                volume.secret.as_ref().and_then(|source| source.secret_name.as_deref()),
            );
            let projected = volume.projected.as_ref().and_then(|projected| projected.sources.as_ref());
            for source in projected.into_iter().flatten() {
                self.add(ObjectKind::ConfigMap, source.config_map.as_ref().map(|source| &*source.name));
                self.add(ObjectKind::Secret, source.secret.as_ref().map(|source| &*source.name));
            }
        }
    }

    fn env_from(&mut self, sources: &[EnvFromSource]) {
        for source in sources {
            self.add(ObjectKind::ConfigMap, source.config_map_ref.as_ref().map(|source| &*source.name));
            self.add(ObjectKind::Secret, source.secret_ref.as_ref().map(|source| &*source.name));
        }
    }

    fn env(&mut self, vars: &[EnvVar]) {
        for source in vars.iter().filter_map(|var| var.value_from.as_ref()) {
            self.add(ObjectKind::ConfigMap, source.config_map_key_ref.as_ref().map(|source| &*source.name));
            self.add(ObjectKind::Secret, source.secret_key_ref.as_ref().map(|source| &*source.name));
        }
    }
}

pub fn termination_path(container: &Container) -> &str {
    container
        .termination_message_path
        .as_deref()
        .filter(|path| !path.is_empty())
        .unwrap_or("/dev/termination-log")
}
