//! Which program speaks for each protocol. DMI says nothing of who calls; the kernel does ([`Peer`]).
//!
//! ```text
//! free --MapperRegister--> owned by the program that asked
//! owned --the same program again--> owned
//!       --another one, and the owner is gone: it has ended and its socket does not answer--> owned by the other one
//!       --another one otherwise--> refused
//! ```
//!
//! After a restart of EdgeCore the owner is whoever listens at the registered socket: mappers register once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dmi::Peer;
use dmi::v1beta1::MapperInfo;
use serde::Deserialize;
use serde_json::json;
use store::{Store, StoreError};
use tonic::Status;

use metamanager::Objects;

/// Rows of registered mappers in table `meta`, in KubeEdge's form (docs/protocol/devices.md 3.3).
const ROWS: &str = "devicemapper";
/// More protocols than any node speaks.
const MOST: usize = 128;
/// Longest text of a registration, in bytes.
const LONGEST: usize = 256;
/// Longest path a unix socket can have, in bytes.
const LONGEST_PATH: usize = 107;

struct Registration {
    /// As it is stored.
    row: String,
    address: PathBuf,
    /// `None`: not known since EdgeCore started.
    owner: Option<Peer>,
}

pub(super) struct Registrations {
    objects: Objects,
    store: Store,
    /// Values are taken from any program, as KubeEdge takes them.
    accept_any: bool,
    known: BTreeMap<String, Registration>,
}

/// A mapper that may register.
#[derive(Debug)]
pub(super) struct Registered {
    pub address: PathBuf,
    /// Protocols whose mappers were given up to make room.
    pub forgotten: Vec<String>,
}

impl Registrations {
    pub(super) fn new(objects: Objects, store: Store, accept_any: bool) -> Registrations {
        Registrations { objects, store, accept_any, known: BTreeMap::new() }
    }

    /// Reads what was stored before EdgeCore started; answers the protocols and the sockets of their mappers.
    pub(super) async fn load(&mut self) -> Result<Vec<(String, PathBuf)>, StoreError> {
        #[derive(Deserialize)]
        struct Row {
            protocol: String,
            address: PathBuf,
        }
        for text in self.objects.list_local(ROWS).await?.into_iter().take(MOST) {
            if let Ok(Row { protocol, address }) = serde_json::from_str(&text) {
                self.known.insert(protocol, Registration { row: text, address, owner: None });
            }
        }
        let known = self.known.iter();
        Ok(known.map(|(protocol, known)| (protocol.clone(), known.address.clone())).collect())
    }

    /// `peer` registers as the mapper of a protocol.
    ///
    /// # Errors
    /// What is said does not fit, the protocol is another program's, or too many are registered.
    pub(super) async fn register(&mut self, mapper: &MapperInfo, peer: Peer) -> Result<Registered, Status> {
        check(mapper)?;
        let address = PathBuf::from(String::from_utf8_lossy(&mapper.address).into_owned());
        let protocol = mapper.protocol.as_str();
        let mut forgotten = Vec::new();
        match self.known.get(protocol) {
            Some(known) => known.may_go_to(peer).await.map_err(|text| refused(protocol, &text))?,
            None => forgotten = self.make_room().await?,
        }
        let row = json!({"name": mapper.name, "version": mapper.version, "api_version": mapper.api_version,
            "protocol": protocol, "address": address, "state": mapper.state})
        .to_string();
        let is_new = self.known.get(protocol).is_none_or(|known| known.row != row);
        if is_new {
            tracing::info!(name = mapper.name, protocol, socket = %address.display(), "mapper registered");
            if let Err(error) = self.objects.put_local(path(protocol), ROWS, String::new(), row.clone()).await
            {
                tracing::error!(name = mapper.name, error = %error, "mapper was not stored; it must register again after a restart");
            }
        }
        let registration = Registration { row, address: address.clone(), owner: Some(peer) };
        self.known.insert(protocol.to_owned(), registration);
        Ok(Registered { address, forgotten })
    }

    /// Whether `peer` may report of devices of `protocol`.
    pub(super) async fn may_report(&mut self, protocol: &str, peer: Peer) -> Result<(), Status> {
        if self.accept_any {
            return Ok(());
        }
        let Some(known) = self.known.get_mut(protocol) else {
            let text =
                format!("no mapper is registered for protocol {protocol:?}: call MapperRegister first");
            return Err(Status::permission_denied(text));
        };
        if known.owner.is_none() {
            known.owner =
                Peer::listening(&known.address).await.filter(|listening| peer.belongs_to(listening));
        }
        if known.owner.is_some_and(|owner| peer.belongs_to(&owner)) {
            return Ok(());
        }
        tracing::warn!(
            protocol,
            "values of devices refused, another program than their mapper reported them"
        );
        let text =
            "devices of the protocol are another program's, the one that registered: call MapperRegister";
        Err(refused(protocol, text))
    }

    /// Room for one more: mappers that do not answer are given up if there is none.
    async fn make_room(&mut self) -> Result<Vec<String>, Status> {
        if self.known.len() < MOST {
            return Ok(Vec::new());
        }
        let mut forgotten = Vec::new();
        for (protocol, known) in &self.known {
            if known.is_gone().await {
                forgotten.push(protocol.clone());
            }
        }
        if forgotten.is_empty() {
            let text = format!("{MOST} protocols are registered, and all of their mappers are there");
            return Err(Status::resource_exhausted(text));
        }
        for protocol in &forgotten {
            self.known.remove(protocol);
            let row = path(protocol);
            let removed = self.store.write(move |tx| tx.execute("DELETE FROM meta WHERE key = ?1", [row]));
            if let Err(error) = removed.await {
                tracing::warn!(protocol, error = %error, "the row of a mapper that is gone was not removed");
            }
        }
        Ok(forgotten)
    }
}

impl Registration {
    /// Whether the registration may become `peer`'s; otherwise why not.
    async fn may_go_to(&self, peer: Peer) -> Result<(), String> {
        if self.owner.is_some_and(|owner| peer.belongs_to(&owner)) {
            return Ok(());
        }
        let Some(listening) = Peer::listening(&self.address).await else {
            return if self.has_ended() { Ok(()) } else { Err(self.taken("runs")) };
        };
        if peer.belongs_to(&listening) { Ok(()) } else { Err(self.taken("answers at its socket")) }
    }

    fn taken(&self, how: &str) -> String {
        format!("its mapper {how}, {}: stop that one first", self.address.display())
    }

    /// False for an owner of whom the kernel tells that it runs.
    fn has_ended(&self) -> bool {
        self.owner.is_none_or(|owner| owner.process.is_none() || !owner.is_alive())
    }

    async fn is_gone(&self) -> bool {
        self.has_ended() && Peer::listening(&self.address).await.is_none()
    }
}

fn refused(protocol: &str, text: &str) -> Status {
    Status::permission_denied(format!("protocol {protocol:?}: {text}"))
}

fn path(protocol: &str) -> String {
    format!("node/nodeID/namespace/{ROWS}/{protocol}")
}

fn check(mapper: &MapperInfo) -> Result<(), Status> {
    let texts = [
        ("name", &mapper.name),
        ("version", &mapper.version),
        ("apiVersion", &mapper.api_version),
        ("protocol", &mapper.protocol),
        ("state", &mapper.state),
    ];
    for (field, text) in texts {
        if text.len() > LONGEST || text.contains(char::is_control) {
            let rule = format!("mapper.{field} must be at most {LONGEST} bytes without control characters");
            return Err(Status::invalid_argument(rule));
        }
    }
    let address = Path::new(std::str::from_utf8(&mapper.address).unwrap_or_default());
    if mapper.address.len() > LONGEST_PATH || address.as_os_str().is_empty() {
        let rule = format!("mapper.address must be the path of a socket, at most {LONGEST_PATH} bytes");
        return Err(Status::invalid_argument(rule));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmi::Process;

    fn mapper(protocol: &str, address: &Path) -> MapperInfo {
        let address = address.to_string_lossy().into_owned().into_bytes();
        MapperInfo { protocol: protocol.to_owned(), address, ..MapperInfo::default() }
    }

    fn registrations(folder: &Path) -> Registrations {
        let store = metamanager::database::open(&folder.join("edgecore.db")).unwrap();
        Registrations::new(Objects::new(store.clone()), store, false)
    }

    /// This process, as the kernel names it.
    async fn me(folder: &Path) -> Peer {
        let path = folder.join("me.sock");
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        Peer::listening(&path).await.unwrap()
    }

    fn ended(peer: Peer) -> Peer {
        let process = peer.process.map(|process| Process { started: process.started - 1, ..process });
        Peer { process, ..peer }
    }

    #[tokio::test]
    async fn a_protocol_is_its_mappers_until_that_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut known = registrations(folder.path());
        let (me, socket) = (me(folder.path()).await, folder.path().join("m.sock"));
        let (former, stranger) = (ended(me), Peer { uid: me.uid + 1, ..me });
        known.register(&mapper("modbus", &socket), former).await.unwrap();
        assert!(known.may_report("modbus", former).await.is_ok());
        assert!(known.may_report("modbus", me).await.is_err(), "another process");
        assert!(known.may_report("opcua", former).await.is_err(), "another protocol");
        known.register(&mapper("modbus", &socket), me).await.expect("the former owner is gone");
        assert!(known.may_report("modbus", former).await.is_err());
        let refused = known.register(&mapper("modbus", &socket), stranger).await.unwrap_err();
        assert!(refused.message().contains("runs"), "{refused}");
        let _listening = tokio::net::UnixListener::bind(&socket).unwrap();
        let refused = known.register(&mapper("modbus", &socket), stranger).await.unwrap_err();
        assert!(refused.message().contains("answers"), "{refused}");
        known.register(&mapper("modbus", &socket), me).await.expect("its own again");
    }

    #[tokio::test]
    async fn after_a_restart_the_owner_is_who_listens() {
        let folder = tempfile::tempdir().unwrap();
        let (me, socket) = (me(folder.path()).await, folder.path().join("m.sock"));
        let mut before = registrations(folder.path());
        before.register(&mapper("modbus", &socket), me).await.unwrap();
        let mut known = Registrations::new(before.objects.clone(), before.store.clone(), false);
        assert_eq!(known.load().await.unwrap(), [("modbus".to_owned(), socket.clone())]);
        assert!(known.may_report("modbus", me).await.is_err(), "nobody listens");
        let _listening = tokio::net::UnixListener::bind(&socket).unwrap();
        assert!(known.may_report("modbus", Peer { uid: me.uid + 1, ..me }).await.is_err());
        assert!(known.may_report("modbus", me).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_registered_is_bounded_and_the_dead_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let mut known = registrations(folder.path());
        let (me, nowhere) = (me(folder.path()).await, folder.path().join("nowhere.sock"));
        for number in 0..MOST {
            known.register(&mapper(&format!("p{number}"), &nowhere), me).await.unwrap();
        }
        let full = known.register(&mapper("more", &nowhere), me).await.unwrap_err();
        assert_eq!(full.code(), tonic::Code::ResourceExhausted);
        known.known.values_mut().take(3).for_each(|known| known.owner = Some(ended(me)));
        let registered = known.register(&mapper("more", &nowhere), me).await.unwrap();
        assert_eq!(registered.forgotten.len(), 3);
        assert_eq!(known.objects.list_local(ROWS).await.unwrap().len(), MOST - 2);
    }
}
