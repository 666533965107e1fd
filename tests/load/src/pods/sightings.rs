//! What was seen in a container runtime, one look after the other, and what must never be seen. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// A container as one look shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Container {
    pub id: String,
    /// uid of the pod, name in the pod
    pub place: (String, String),
    pub attempt: u32,
    pub is_running: bool,
    /// It runs in this look or ran in one before.
    pub has_run: bool,
}

#[derive(Default)]
pub(crate) struct Sightings {
    known: BTreeMap<String, Container>,
    twice: BTreeSet<(String, String)>,
}

impl Sightings {
    /// Takes a look; gives the containers that are new and not the first of their name in their pod.
    pub(crate) fn look(&mut self, now: &[Container]) -> Vec<Container> {
        let mut running: BTreeMap<&(String, String), &str> = BTreeMap::new();
        for container in now.iter().filter(|container| container.is_running) {
            if let Some(other) = running.insert(&container.place, &container.id) {
                let pair = [other, container.id.as_str()];
                self.twice.insert((pair[0].min(pair[1]).to_owned(), pair[0].max(pair[1]).to_owned()));
            }
        }
        let mut again = Vec::new();
        for container in now {
            let mut container = container.clone();
            let before = self.known.get(&container.id);
            let is_new = before.is_none();
            container.has_run = container.is_running || before.is_some_and(|before| before.has_run);
            self.known.insert(container.id.clone(), container.clone());
            if is_new && container.attempt > 0 {
                again.push(container);
            }
        }
        again
    }

    /// The runs of the same name in the same pod before this one.
    pub(crate) fn before(&self, container: &Container) -> Vec<Container> {
        let same = |other: &&Container| {
            other.place == container.place && other.id != container.id && other.attempt < container.attempt
        };
        self.known.values().filter(same).cloned().collect()
    }

    /// Pairs of containers of one name in one pod that ran at the same time.
    pub(crate) fn twice(&self) -> usize {
        self.twice.len()
    }

    /// Containers ever seen.
    pub(crate) fn count(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, pod: &str, attempt: u32, is_running: bool) -> Container {
        Container { id: id.into(), place: (pod.into(), "c".into()), attempt, is_running, has_run: is_running }
    }

    #[test]
    fn two_running_of_one_name_are_counted_once_and_only_side_by_side() {
        let mut seen = Sightings::default();
        seen.look(&[container("a", "p", 0, true), container("b", "q", 0, true)]);
        seen.look(&[container("a", "p", 0, false), container("c", "p", 1, true)]);
        assert_eq!(seen.twice(), 0);
        for _ in 0..2 {
            seen.look(&[container("c", "p", 1, true), container("d", "p", 2, true)]);
            seen.look(&[container("d", "p", 2, true), container("c", "p", 1, true)]);
        }
        assert_eq!((seen.twice(), seen.count()), (1, 4));
    }

    #[test]
    fn a_second_run_is_told_once_with_the_runs_before_it() {
        let mut seen = Sightings::default();
        assert_eq!(seen.look(&[container("a", "p", 0, true)]), []);
        let second = container("b", "p", 1, true);
        let told = seen.look(&[container("a", "p", 0, false), second.clone()]);
        assert_eq!(told, std::slice::from_ref(&second));
        assert_eq!(seen.look(std::slice::from_ref(&second)), []);
        assert_eq!(seen.before(&second), [Container { has_run: true, ..container("a", "p", 0, false) }]);
    }
}
