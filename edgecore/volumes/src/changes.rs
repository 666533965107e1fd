//! Tells when something in a folder changes, through inotify.

use std::io;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;

/// The watch is read as a pipe is: bytes come when there are events.
pub struct Changes(Receiver);

/// Several events at once say no more than one.
const EVENTS: usize = 4096;

impl Changes {
    /// None where the kernel gives no watch: who waits looks at times instead.
    pub fn of(folder: &Path) -> Option<Changes> {
        let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        let kinds = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        inotify::add_watch(&watch, folder, kinds).ok()?;
        Receiver::from_owned_fd_unchecked(watch).ok().map(Changes)
    }

    async fn wait(&self) -> io::Result<()> {
        let mut buffer = [0; EVENTS];
        let mut has_changed = false;
        loop {
            match self.0.try_read(&mut buffer) {
                Ok(1..) => has_changed = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if has_changed {
                        return Ok(());
                    }
                    self.0.readable().await?;
                }
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Resolves at the next change; never, where there is no watch.
pub async fn next(changes: Option<&Changes>) {
    match changes {
        Some(changes) if changes.wait().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_write_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let changes = Changes::of(folder.path()).unwrap();
        std::fs::write(folder.path().join("0.log"), "x").unwrap();
        next(Some(&changes)).await;
        let quiet = tokio::time::timeout(std::time::Duration::from_millis(50), next(Some(&changes))).await;
        assert!(quiet.is_err(), "what was told once is not told again");
        std::fs::write(folder.path().join("0.log"), "y").unwrap();
        next(Some(&changes)).await;
    }
}
