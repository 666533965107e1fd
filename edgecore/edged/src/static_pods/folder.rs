//! The folder of manifests: read whole, watched by inotify where it can be.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

/// Bounds on what a folder may hold.
const MAX_FILES: usize = 512;
const MAX_BYTES: u64 = 1024 * 1024;

pub(super) struct Folder {
    path: PathBuf,
    watch: Option<AsyncFd<OwnedFd>>,
    /// File -> what was last said against it.
    complaints: BTreeMap<PathBuf, String>,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Folder {
        Folder { path, watch: None, complaints: BTreeMap::new() }
    }

    /// All manifests, by path. A folder that is not there holds none.
    pub(super) async fn read(&mut self) -> BTreeMap<PathBuf, Manifest> {
        if self.watch.is_none() {
            // Without a watch, the next scan sees what changed.
            self.watch = watch(&self.path).ok();
        }
        let path = self.path.clone();
        let found = daemon::blocking(move || Ok(manifests(&path))).await.unwrap_or_default();
        self.complaints.retain(|path, _| found.contains_key(path));
        found
    }

    /// Resolves when something in the folder may have changed.
    pub(super) async fn changed(&self) {
        let Some(watch) = &self.watch else { return std::future::pending().await };
        let Ok(mut ready) = watch.readable().await else { return std::future::pending().await };
        let mut buffer = [0u8; 4096];
        while rustix::io::read(watch.get_ref(), &mut buffer).is_ok_and(|bytes| bytes > 0) {}
        ready.clear_ready();
    }

    /// True if this was not said of the file before.
    pub(super) fn is_news(&mut self, path: &Path, error: &str) -> bool {
        let before = self.complaints.insert(path.to_owned(), error.to_owned());
        before.as_deref() != Some(error)
    }
}

fn watch(path: &Path) -> std::io::Result<AsyncFd<OwnedFd>> {
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    let events = inotify::WatchFlags::CLOSE_WRITE
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::MOVED_FROM
        | inotify::WatchFlags::DELETE;
    inotify::add_watch(&watch, path, events)?;
    // SAFETY: the descriptor is owned by the registration and nothing else closes it.
    #[allow(unsafe_code, reason = "the safe constructor is deprecated")]
    let registered = unsafe { AsyncFd::register(watch) };
    registered.map_err(std::io::Error::from)
}

/// A file, as it was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Manifest {
    pub text: String,
    /// When it was changed last.
    pub written: Timestamp,
}

/// One file, or the files of a folder in the order of their names; hidden ones are left out.
#[expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]
fn manifests(path: &Path) -> BTreeMap<PathBuf, Manifest> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let hidden = |path: &Path| path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let mut files: Vec<PathBuf> = entries.filter(|path| path.is_file() && !hidden(path)).collect();
    if path.is_file() {
        files.push(path.to_owned());
    }
    files.sort();
    files.truncate(MAX_FILES);
    files
        .into_iter()
        .map(|path| (path.clone(), Manifest { text: text(&path), written: written(&path) }))
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]
fn written(path: &Path) -> Timestamp {
    let written = std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    written.and_then(|time| Timestamp::try_from(time).ok()).unwrap_or_default()
}

/// A file that cannot be read, or is too large, is an empty text, which is no pod.
#[expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]
fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 <= MAX_BYTES => String::from_utf8(bytes).unwrap_or_default(),
        _ => String::new(),
    }
}
