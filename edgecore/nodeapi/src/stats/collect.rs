//! Gathers one summary: the runtime's numbers of containers first, then the files, on a thread that may block.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cri::{labels, v1};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::disk;
use super::network;
use super::summary::*;
use crate::ServerState;
use nodebase::host::{Host, facts};
use nodebase::usage::cgroup::{Cgroups, MemoryReading};
use nodebase::usage::folder::Taken;
use podmodel::cgroups;
use podmodel::resources;
use podmodel::spec::PodId;
use volumes::{mounts, pod_dir};

/// A pod, and its numbers as the runtime gave them.
struct PodReading {
    id: PodId,
    spec: PodSpec,
    started: Timestamp,
    cgroup: PathBuf,
    containers: Vec<v1::ContainerStats>,
    starts: HashMap<String, Timestamp>,
}

impl ServerState {
    /// With `is_short`, CPU and memory only: nothing walks the disk.
    pub(crate) async fn summary(&self, is_short: bool) -> Summary {
        let now = self.base.clock.now();
        let stats = self.base.runtime.list_container_stats().await;
        let images = match is_short {
            true => None,
            false => self.base.runtime.image_filesystems().await.ok(),
        };
        let has_failed = stats.is_err();
        let mut by_pod: HashMap<String, Vec<v1::ContainerStats>> = HashMap::new();
        for stats in stats.unwrap_or_default() {
            let uid = stats.attributes.as_ref().and_then(|known| known.labels.get(labels::POD_UID)).cloned();
            by_pod.entry(uid.unwrap_or_default()).or_default().push(stats);
        }
        let found: Vec<PodReading> =
            self.pods().into_iter().filter_map(|pod| self.found(pod, &mut by_pod)).collect();
        let mut gathered = self.gather(found, images, is_short, now).await;
        gathered.has_failed |= has_failed;
        for pod in &mut gathered.pods {
            let uid = &pod.pod_ref.uid;
            self.rate(pod.cpu.as_mut(), uid);
            for container in &mut pod.containers {
                self.rate(container.cpu.as_mut(), &format!("{uid}/{}", container.name));
            }
        }
        self.rate(gathered.node.cpu.as_mut(), "");
        self.rates.forget_old(now);
        gathered
    }

    fn rate(&self, cpu: Option<&mut Cpu>, key: &str) {
        if let Some(cpu) = cpu {
            let own = self.rates.of(key, cpu.usage_core_nano_seconds, cpu.time);
            cpu.usage_nano_cores = cpu.usage_nano_cores.or(own);
        }
    }

    /// None for pods of which nothing runs.
    fn found(&self, pod: Pod, stats: &mut HashMap<String, Vec<v1::ContainerStats>>) -> Option<PodReading> {
        let id = PodId::of(&pod);
        let containers = stats.remove(&id.uid)?;
        let spec = pod.spec?;
        let status = pod.status.unwrap_or_default();
        let started =
            status.start_time.map(|time| time.0).or(pod.metadata.creation_timestamp.map(|time| time.0));
        let statuses = status.container_statuses.into_iter().chain(status.init_container_statuses).flatten();
        let starts = statuses.filter_map(|one| Some((one.name, one.state?.running?.started_at?.0))).collect();
        let driver = self.base.facts.borrow().driver;
        let root = &self.base.settings.cgroup_root;
        let parent = resources::cgroup_parent(driver, root, resources::qos(&spec), &id.uid);
        let cgroup = cgroups::folder(&parent);
        Some(PodReading { id, spec, started: started.unwrap_or(self.started), cgroup, containers, starts })
    }

    async fn gather(
        &self,
        pods: Vec<PodReading>,
        images: Option<Vec<v1::FilesystemUsage>>,
        is_short: bool,
        now: Timestamp,
    ) -> Summary {
        let settings = &self.base.settings;
        let mut reader = Reader {
            host: self.host.clone(),
            root: settings.root_dir.clone(),
            logs: settings.pod_logs_dir.clone(),
            is_short,
            now,
        };
        let node = NodeUsage {
            node_name: settings.node.as_str().to_owned(),
            start_time: self.started,
            ..NodeUsage::default()
        };
        let read = tokio::task::spawn_blocking(move || {
            let node = reader.node(node, images.as_deref());
            let pods = pods.into_iter().map(|pod| reader.pod(pod)).collect();
            Summary { node, pods, has_failed: false }
        });
        read.await.unwrap_or_else(|_| Summary { has_failed: true, ..Summary::default() })
    }
}

/// Reads files; blocks.
struct Reader {
    host: Arc<dyn Host>,
    root: PathBuf,
    logs: PathBuf,
    is_short: bool,
    now: Timestamp,
}

impl Reader {
    fn node(&mut self, node: NodeUsage, images: Option<&[v1::FilesystemUsage]>) -> NodeUsage {
        let (host, now) = (&*self.host, self.now);
        let cgroups = Cgroups::of(host);
        let capacity = u64::try_from(facts::memory_bytes(host)).unwrap_or(0);
        let whole = |reading: MemoryReading| memory(MemoryReading { limit: Some(capacity), ..reading }, now);
        let node = NodeUsage {
            cpu: cgroups.cpu_nanos("").map(|nanos| cpu(nanos, now)),
            memory: cgroups.memory("").map(whole),
            ..node
        };
        if self.is_short {
            return node;
        }
        let (maxpid, curproc) = facts::processes(host);
        NodeUsage {
            network: network::of_node(host, now),
            fs: host.disk(&self.root).ok().map(|usage| disk::whole(usage, now)),
            runtime: images.and_then(|images| self.images(images)),
            rlimit: Some(Processes { time: now, maxpid, curproc }),
            ..node
        }
    }

    fn images(&self, images: &[v1::FilesystemUsage]) -> Option<RuntimeUsage> {
        let image = images.first()?;
        let disk = self.host.disk(Path::new(&image.fs_id.as_ref()?.mountpoint)).ok()?;
        let taken = Taken { bytes: value(&image.used_bytes), inodes: value(&image.inodes_used) };
        let image_fs = disk::part(disk, taken, self.now);
        Some(RuntimeUsage { image_fs, container_fs: disk::whole(disk, self.now) })
    }

    fn pod(&mut self, found: PodReading) -> PodUsage {
        let (host, now) = (self.host.clone(), self.now);
        let cgroups = Cgroups::of(&*host);
        let path = found.cgroup.to_string_lossy();
        let mut pod = PodUsage {
            pod_ref: PodReference {
                name: found.id.name.clone(),
                namespace: found.id.namespace.clone(),
                uid: found.id.uid.clone(),
            },
            start_time: found.started,
            cpu: cgroups.cpu_nanos(&path).map(|nanos| cpu(nanos, now)),
            memory: cgroups.memory(&path).map(|reading| memory(reading, now)),
            process_stats: cgroups.processes(&path).map(|process_count| ProcessCount { process_count }),
            containers: found.containers.iter().map(|stats| self.container(stats, &found)).collect(),
            ..PodUsage::default()
        };
        if self.is_short {
            return pod;
        }
        if found.spec.host_network != Some(true) {
            pod.network = cgroups.member(&path).and_then(|pid| network::of_process(&*host, pid, now));
        }
        pod.volumes = self.volumes(&found);
        pod.ephemeral_storage = self.ephemeral(&pod, &found);
        pod
    }

    fn container(&self, stats: &v1::ContainerStats, pod: &PodReading) -> ContainerUsage {
        let name = stats.attributes.as_ref().and_then(|known| known.metadata.as_ref());
        let name = name.map(|known| known.name.clone()).unwrap_or_default();
        let at = |nanos: i64| Timestamp::from_nanosecond(nanos.into()).unwrap_or(self.now);
        let get = |number: &Option<v1::UInt64Value>| number.as_ref().map(|number| number.value);
        let mut usage = ContainerUsage {
            start_time: pod.starts.get(&name).copied().unwrap_or(pod.started),
            cpu: stats.cpu.as_ref().map(|cpu| Cpu {
                time: at(cpu.timestamp),
                usage_nano_cores: get(&cpu.usage_nano_cores).filter(|rate| *rate > 0),
                usage_core_nano_seconds: value(&cpu.usage_core_nano_seconds),
            }),
            memory: stats.memory.as_ref().map(|memory| Memory {
                time: at(memory.timestamp),
                available_bytes: get(&memory.available_bytes).filter(|bytes| *bytes > 0),
                usage_bytes: get(&memory.usage_bytes).filter(|bytes| *bytes > 0),
                working_set_bytes: value(&memory.working_set_bytes),
                rss_bytes: get(&memory.rss_bytes),
                page_faults: get(&memory.page_faults),
                major_page_faults: get(&memory.major_page_faults),
            }),
            ..ContainerUsage::default()
        };
        if !self.is_short {
            let logs = self.logs.join(pod.id.log_folder()).join(&name);
            usage.logs = disk::folder(&*self.host, &logs, false, self.now);
            usage.rootfs = stats.writable_layer.as_ref().and_then(|layer| {
                let disk = self.host.disk(Path::new(&layer.fs_id.as_ref()?.mountpoint)).ok()?;
                let taken = Taken { bytes: value(&layer.used_bytes), inodes: value(&layer.inodes_used) };
                Some(disk::part(disk, taken, self.now))
            });
        }
        usage.name = name;
        usage
    }

    /// Volumes that lie below the pod's folder.
    #[expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]
    fn volumes(&self, pod: &PodReading) -> Vec<VolumeUsage> {
        let folder = pod_dir(&self.root, &pod.id.uid).join("volumes");
        let plugins = self.host.names(&folder.to_string_lossy()).unwrap_or_default();
        let find = |name: &str| {
            plugins.iter().map(|plugin| folder.join(plugin).join(name)).find(|path| path.is_dir())
        };
        let volumes = pod.spec.volumes.iter().flatten().filter_map(|volume| {
            let path = find(&volume.name)?;
            let mount = Some(path.join("mount")).filter(|path| path.is_dir()).unwrap_or(path);
            let is_own = mounts::is_mount_point(&mount);
            let claim = volume.persistent_volume_claim.as_ref().map(|claim| ClaimReference {
                name: claim.claim_name.clone(),
                namespace: pod.id.namespace.clone(),
            });
            let usage = disk::folder(&*self.host, &mount, is_own, self.now)?;
            Some(VolumeUsage { name: volume.name.clone(), claim, usage })
        });
        volumes.collect()
    }

    /// Writable layers, logs, and emptyDirs on the disk.
    fn ephemeral(&self, pod: &PodUsage, found: &PodReading) -> Option<Filesystem> {
        let disk = self.host.disk(&self.root).ok()?;
        let layers = pod.containers.iter().flat_map(|one| [one.rootfs, one.logs]).flatten();
        let is_on_disk = |name: &str| {
            found.spec.volumes.iter().flatten().any(|volume| {
                let medium =
                    volume.empty_dir.as_ref().map(|source| source.medium.as_deref().unwrap_or_default());
                volume.name == name && medium == Some("")
            })
        };
        let dirs = pod.volumes.iter().filter(|volume| is_on_disk(&volume.name)).map(|volume| volume.usage);
        let taken = layers.chain(dirs).fold(Taken::default(), |sum, one| {
            sum.and(Taken { bytes: one.used_bytes, inodes: one.inodes_used })
        });
        Some(disk::part(disk, taken, self.now))
    }
}

fn value(number: &Option<v1::UInt64Value>) -> u64 {
    number.as_ref().map_or(0, |number| number.value)
}

fn cpu(nanos: u64, now: Timestamp) -> Cpu {
    Cpu { time: now, usage_nano_cores: None, usage_core_nano_seconds: nanos }
}

fn memory(reading: MemoryReading, now: Timestamp) -> Memory {
    Memory {
        time: now,
        available_bytes: reading.limit.map(|limit| limit.saturating_sub(reading.working_set)),
        usage_bytes: Some(reading.usage),
        working_set_bytes: reading.working_set,
        rss_bytes: Some(reading.rss),
        page_faults: Some(reading.page_faults),
        major_page_faults: Some(reading.major_page_faults),
    }
}
