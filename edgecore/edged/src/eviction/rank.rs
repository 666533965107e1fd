//! Which pod goes first: one that uses more than it asked for, then the less important, then the one that is furthest
//! beyond its request. Choosing is pure.

use super::Sources;
use super::readings::{Readings, floor_of};
use nodebase::host::Host;
use nodebase::settings::Threshold;
use nodebase::usage::cgroup::Cgroups;
use nodebase::usage::folder::walk;
use podmodel::board::PodEntry;
use podmodel::cgroups;
use podmodel::resources;
use volumes::pod_dir;

/// What a signal is about. In the order in which they are acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Resource {
    Memory,
    Disk,
    Processes,
}

impl Resource {
    pub(super) fn of(signal: &str) -> Resource {
        match signal.split('.').next() {
            Some("memory") => Resource::Memory,
            Some("pid") => Resource::Processes,
            _ => Resource::Disk,
        }
    }

    /// As requests of pods name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Resource::Memory => "memory",
            Resource::Disk => "ephemeral-storage",
            Resource::Processes => "pids",
        }
    }
}

/// A pod that may be evicted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    /// Its place in the list of pods.
    pub index: usize,
    pub priority: i32,
    pub usage: u64,
    pub request: u64,
}

/// Pods that are not critical, with what they use.
pub(super) async fn candidates(
    sources: &Sources,
    host: &dyn Host,
    entries: &[PodEntry],
    resource: Resource,
) -> Vec<Candidate> {
    let mut list = Vec::new();
    for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.demand.is_critical()) {
        let usage = match resource {
            Resource::Disk => on_disk(sources, entry).await,
            other => of_cgroup(sources, host, entry, other),
        };
        let request = u64::try_from(entry.demand.request(resource.name())).unwrap_or(0);
        list.push(Candidate { index, priority: entry.demand.priority, usage, request });
    }
    list
}

fn of_cgroup(sources: &Sources, host: &dyn Host, entry: &PodEntry, resource: Resource) -> u64 {
    let driver = sources.base.facts.borrow().driver;
    let root = &sources.base.settings.cgroup_root;
    let parent = resources::cgroup_parent(driver, root, entry.demand.qos, &entry.id.uid);
    let path = cgroups::folder(&parent).to_string_lossy().into_owned();
    let cgroups = Cgroups::of(host);
    let read = match resource {
        Resource::Processes => cgroups.processes(&path),
        _ => cgroups.memory(&path).map(|reading| reading.working_set),
    };
    read.unwrap_or(0)
}

/// Volumes and logs of the pod.
async fn on_disk(sources: &Sources, entry: &PodEntry) -> u64 {
    let folders = [
        pod_dir(&sources.base.settings.root_dir, &entry.id.uid),
        sources.base.settings.pod_logs_dir.join(entry.id.log_folder()),
    ];
    let walked = daemon::blocking(move || Ok(folders.iter().map(|folder| walk(folder).bytes).sum()));
    walked.await.unwrap_or(0)
}

/// The place in the list of the one to go.
pub(super) fn first(candidates: &[Candidate], resource: Resource) -> Option<usize> {
    let order = |candidate: &Candidate| {
        let beyond = i128::from(candidate.usage) - i128::from(candidate.request);
        match resource {
            // Requests say nothing about processes.
            Resource::Processes => (false, candidate.priority, -i128::from(candidate.usage)),
            _ => (beyond <= 0, candidate.priority, -beyond),
        }
    };
    (0..candidates.len()).min_by_key(|index| order(&candidates[*index]))
}

/// What the pod's status says.
pub(super) fn message(
    resource: Resource,
    threshold: &Threshold,
    readings: &Readings,
    usage: u64,
    request: i64,
) -> String {
    let name = resource.name();
    let mut text = format!("The node was low on resource: {name}. ");
    if let Some((left, all)) = readings.0.get(&threshold.signal) {
        let floor = floor_of(threshold, *all);
        text.push_str(&format!("Threshold quantity: {floor}, available: {left}. "));
    }
    if resource != Resource::Processes {
        text.push_str(&format!("Pod was using {usage} of {name}, request is {request}. "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(index: usize, priority: i32, usage: u64, request: u64) -> Candidate {
        Candidate { index, priority, usage, request }
    }

    #[test]
    fn those_beyond_their_request_go_first_then_the_less_important_then_the_greediest() {
        let within = candidate(0, 0, 100, 200);
        let important = candidate(1, 10, 900, 100);
        let greedy = candidate(2, 0, 500, 100);
        let modest = candidate(3, 0, 150, 100);
        assert_eq!(first(&[within, important, greedy, modest], Resource::Memory), Some(2));
        assert_eq!(first(&[within, important, modest], Resource::Memory), Some(2));
        assert_eq!(first(&[within, important], Resource::Memory), Some(1));
        assert_eq!(first(&[within], Resource::Memory), Some(0));
        assert_eq!(first(&[], Resource::Memory), None);
        assert_eq!(first(&[important, greedy, within], Resource::Processes), Some(1));
    }
}
