//! What is taken: by stored services, and by those on their way.

use std::collections::HashMap;

use kubeapi::stored::Key;

#[derive(Default)]
pub(super) struct Taken {
    services: HashMap<(String, String), (Option<u32>, Vec<u16>)>,
    addresses: HashMap<u32, u32>,
    ports: HashMap<u16, u32>,
}

fn add<T: std::hash::Hash + Eq>(counts: &mut HashMap<T, u32>, what: T) {
    *counts.entry(what).or_default() += 1;
}

fn take<T: std::hash::Hash + Eq>(counts: &mut HashMap<T, u32>, what: T) {
    if let Some(count) = counts.get_mut(&what) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&what);
        }
    }
}

impl Taken {
    pub(super) fn set(&mut self, key: &Key, address: Option<u32>, mut ports: Vec<u16>) {
        ports.sort_unstable();
        ports.dedup();
        let place = (key.namespace.clone(), key.name.clone());
        let now = (address, ports);
        // Counted before what was is not any more: nothing is free in between.
        now.0.iter().for_each(|address| add(&mut self.addresses, *address));
        now.1.iter().for_each(|port| add(&mut self.ports, *port));
        let before = match now.0.is_none() && now.1.is_empty() {
            true => self.services.remove(&place),
            false => self.services.insert(place, now),
        };
        let (address, ports) = before.unwrap_or_default();
        self.release(address.as_slice(), &ports);
    }

    pub(super) fn has_address(&self, address: u32) -> bool {
        self.addresses.contains_key(&address)
    }

    pub(super) fn has_port(&self, port: u16) -> bool {
        self.ports.contains_key(&port)
    }

    pub(super) fn reserve_address(&mut self, address: u32) {
        add(&mut self.addresses, address);
    }

    pub(super) fn reserve_port(&mut self, port: u16) {
        add(&mut self.ports, port);
    }

    pub(super) fn release(&mut self, addresses: &[u32], ports: &[u16]) {
        addresses.iter().for_each(|address| take(&mut self.addresses, *address));
        ports.iter().for_each(|port| take(&mut self.ports, *port));
    }
}
