//! Which devices there are, and who has them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use nodestatus::capacity::Extended;

/// Devices of one resource by id; true for healthy ones.
pub type KnownDevices = BTreeMap<String, bool>;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    resources: BTreeMap<String, KnownDevices>,
    pub given: Vec<Allocation>,
}

/// What a container was given of a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    pub uid: String,
    pub container: String,
    pub resource: String,
    pub devices: BTreeSet<String>,
    /// The plugin's answer, as it came.
    pub answer: Vec<u8>,
}

/// The devices a container may be given.
#[derive(Debug, PartialEq)]
pub struct Choice {
    /// Those an init container of the pod has already: it must be these first.
    pub must: Vec<String>,
    /// All that may be chosen, `must` included.
    pub available: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "requested number of devices unavailable for {resource}. Requested: {wanted}, Available: {available}"
)]
pub struct TooFew {
    pub resource: String,
    pub wanted: usize,
    pub available: usize,
}

impl Inventory {
    pub fn names(&self) -> Vec<String> {
        self.resources.keys().cloned().collect()
    }

    pub fn has(&self, resource: &str) -> bool {
        self.resources.contains_key(resource)
    }

    pub fn known(&self) -> &BTreeMap<String, KnownDevices> {
        &self.resources
    }

    pub fn set(&mut self, resource: &str, devices: KnownDevices) {
        self.resources.insert(resource.to_owned(), devices);
    }

    /// The plugin is away: nothing of it can be given, but what it had is not gone yet.
    pub fn mark_unhealthy(&mut self, resource: &str) {
        if let Some(known) = self.resources.get_mut(resource) {
            known.values_mut().for_each(|is_healthy| *is_healthy = false);
        }
    }

    pub fn amount(&self, resource: &str) -> Extended {
        let known = self.resources.get(resource);
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        Extended {
            capacity: known.map_or(0, |known| count(known.len())),
            allocatable: known.map_or(0, |known| count(known.values().filter(|healthy| **healthy).count())),
        }
    }

    pub fn of_container(&self, uid: &str, container: &str) -> impl Iterator<Item = &Allocation> {
        self.given.iter().filter(move |given| given.uid == uid && given.container == container)
    }

    pub fn find(&self, uid: &str, container: &str, resource: &str) -> Option<&Allocation> {
        self.of_container(uid, container).find(|given| given.resource == resource)
    }

    /// Takes back what pods had that do not live any more.
    pub fn release(&mut self, lives: impl Fn(&str) -> bool) {
        self.given.retain(|given| lives(&given.uid));
    }

    /// What may be chosen for `wanted` pieces. `reusable` are devices that init containers of the same pod had.
    pub fn choose(
        &self,
        resource: &str,
        wanted: usize,
        reusable: &BTreeSet<String>,
    ) -> Result<Choice, TooFew> {
        let taken: BTreeSet<&String> = self
            .given
            .iter()
            .filter(|given| given.resource == resource)
            .flat_map(|given| &given.devices)
            .filter(|device| !reusable.contains(*device))
            .collect();
        let known = self.resources.get(resource).into_iter().flatten();
        let healthy = known.filter(|(_, healthy)| **healthy).map(|(id, _)| id);
        let free: Vec<String> = healthy.filter(|id| !taken.contains(id)).cloned().collect();
        let must: Vec<String> =
            free.iter().filter(|id| reusable.contains(*id)).take(wanted).cloned().collect();
        if free.len() < wanted {
            return Err(TooFew { resource: resource.to_owned(), wanted, available: free.len() });
        }
        Ok(Choice { must, available: free })
    }
}

impl Choice {
    /// The devices to take: those the plugin prefers, if it said something sensible, else the first ones.
    pub fn take(&self, wanted: usize, preferred: &[String]) -> BTreeSet<String> {
        let allowed = preferred.iter().filter(|id| self.available.contains(id));
        let order = self.must.iter().chain(allowed).chain(&self.available);
        let mut taken = BTreeSet::new();
        for id in order {
            if taken.len() == wanted {
                break;
            }
            taken.insert(id.clone());
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAMERA: &str = "example.com/camera";

    fn ids(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|id| (*id).to_owned()).collect()
    }

    fn inventory() -> Inventory {
        let mut inventory = Inventory::default();
        let devices = [("a", true), ("b", true), ("c", false), ("d", true)];
        inventory.set(CAMERA, devices.map(|(id, healthy)| (id.to_owned(), healthy)).into());
        inventory.given.push(Allocation {
            uid: "other".into(),
            container: "x".into(),
            resource: CAMERA.into(),
            devices: ids(&["a"]),
            answer: Vec::new(),
        });
        inventory
    }

    #[test]
    fn only_healthy_devices_nobody_has_are_given() {
        let inventory = inventory();
        let choice = inventory.choose(CAMERA, 2, &BTreeSet::new()).unwrap();
        assert_eq!(choice.available, ["b", "d"]);
        let error = inventory.choose(CAMERA, 3, &BTreeSet::new()).unwrap_err();
        assert_eq!((error.wanted, error.available), (3, 2));
        assert_eq!(inventory.amount(CAMERA), Extended { capacity: 4, allocatable: 3 });
        assert_eq!(inventory.amount("none"), Extended::default());
    }

    #[test]
    fn what_an_init_container_had_comes_first() {
        let mut inventory = inventory();
        inventory.given[0].uid = "own".into();
        let choice = inventory.choose(CAMERA, 2, &ids(&["a"])).unwrap();
        assert_eq!(choice.must, ["a"]);
        assert_eq!(choice.take(2, &["d".to_owned(), "c".to_owned()]), ids(&["a", "d"]));
        assert_eq!(choice.take(2, &[]), ids(&["a", "b"]));
    }

    #[test]
    fn devices_of_dead_pods_and_lost_plugins() {
        let mut inventory = inventory();
        inventory.release(|uid| uid != "other");
        assert_eq!(inventory.choose(CAMERA, 3, &BTreeSet::new()).unwrap().available, ["a", "b", "d"]);
        inventory.mark_unhealthy(CAMERA);
        assert_eq!(inventory.amount(CAMERA), Extended { capacity: 4, allocatable: 0 });
        assert_eq!(inventory.choose(CAMERA, 1, &BTreeSet::new()).unwrap_err().available, 0);
    }
}
