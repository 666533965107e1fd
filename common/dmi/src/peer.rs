//! Which program is at the other end of a unix socket, as the kernel tells (`SO_PEERCRED`, unix(7)).

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;

/// Who connected, or who listens. Names of processes are those of our own namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
    /// `None`: the kernel does not tell, as of a process in another namespace.
    pub process: Option<Process>,
}

/// A process. Numbers are used again, so its start belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub id: i32,
    /// In clock ticks since the machine started.
    pub started: u64,
}

/// How long whoever listens may take to accept: the kernel does it unless the queue is full.
const CONNECT: Duration = Duration::from_secs(1);
/// Parents that are looked at.
const PARENTS: usize = 16;

impl Peer {
    pub(crate) fn of(stream: &UnixStream) -> Peer {
        let Ok(credentials) = stream.peer_cred() else { return Peer::unknown() };
        let process = credentials.pid().filter(|id| *id > 0);
        // One that has ended already is nobody's.
        let process = process.map(|id| Process::of(id).unwrap_or(Process { id, started: 0 }));
        Peer { uid: credentials.uid(), process }
    }

    /// Somebody of whom nothing is known: no program of ours.
    pub fn unknown() -> Peer {
        Peer { uid: u32::MAX, process: None }
    }

    /// Who listens at `path`; `None` if nobody does. Who does not accept is there, and unknown.
    pub async fn listening(path: &Path) -> Option<Peer> {
        match tokio::time::timeout(CONNECT, UnixStream::connect(path)).await {
            Ok(Ok(stream)) => Some(Peer::of(&stream)),
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::WouldBlock => None,
            _ => Some(Peer::unknown()),
        }
    }

    /// Whether this is `other`'s program: the same process, or a child of it. Where the kernel does not tell the
    /// processes apart, users are.
    pub fn belongs_to(&self, other: &Peer) -> bool {
        match (self.process, other.process) {
            (Some(own), Some(others)) => self.uid == other.uid && own.is_or_comes_from(others),
            _ => self.uid == other.uid,
        }
    }

    /// Whether the process is there; true if the kernel does not tell.
    pub fn is_alive(&self) -> bool {
        self.process.is_none_or(|process| Process::of(process.id) == Some(process))
    }
}

impl Process {
    fn of(id: i32) -> Option<Process> {
        Some(Process { id, started: stat(id)?.started })
    }

    fn is_or_comes_from(self, other: Process) -> bool {
        let mut now = self;
        for _ in 0..PARENTS {
            if now == other {
                return true;
            }
            let Some(parent) = stat(now.id).and_then(|stat| Process::of(stat.parent)) else { return false };
            now = parent;
        }
        false
    }
}

struct Stat {
    parent: i32,
    started: u64,
}

/// Source: proc_pid_stat(5), fields 4 and 22. The name before them is in brackets and may hold anything.
fn stat(id: i32) -> Option<Stat> {
    let path = PathBuf::from(format!("/proc/{id}/stat"));
    let text = String::from_utf8_lossy(&std::fs::read(path).ok()?).into_owned();
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat { parent: fields.get(1)?.parse().ok()?, started: fields.get(19)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Peer {
        let id = i32::try_from(std::process::id()).unwrap();
        Peer { uid: 0, process: Process::of(id) }
    }

    #[test]
    fn a_program_and_its_children_are_one_and_strangers_are_not() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let its_child = Peer { uid: 0, process: Process::of(i32::try_from(child.id()).unwrap()) };
        assert!(its_child.process.is_some() && its_child.is_alive());
        assert!(me().belongs_to(&me()) && its_child.belongs_to(&me()));
        assert!(!me().belongs_to(&its_child), "a parent is not its child");
        assert!(!Peer { uid: 7, ..me() }.belongs_to(&me()), "another user");
        let later = me().process.map(|process| Process { started: process.started + 1, ..process });
        assert!(!Peer { uid: 0, process: later }.belongs_to(&me()), "the number was used again");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!its_child.is_alive());
        let unknown = Peer { uid: 0, process: None };
        assert!(unknown.belongs_to(&me()) && unknown.is_alive());
    }
}
