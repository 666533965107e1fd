//! The folder of manifests: read whole, watched by inotify where it can be.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

/// Bounds on what a folder may hold.
const MAX_FILES: usize = 512;
const MAX_BYTES: u64 = 1024 * 1024;

pub struct Folder {
    path: PathBuf,
    watch: Option<AsyncFd<OwnedFd>>,
    /// File -> what was last said against it.
    complaints: BTreeMap<PathBuf, String>,
}

impl Folder {
    pub fn new(path: PathBuf) -> Folder {
        Folder { path, watch: None, complaints: BTreeMap::new() }
    }

    /// The texts of all manifests, by path. A folder that is not there holds none.
    pub async fn read(&mut self) -> BTreeMap<PathBuf, String> {
        if self.watch.is_none() {
            // Without a watch, the next scan sees what changed.
            self.watch = watch(&self.path).ok();
        }
        let path = self.path.clone();
        let texts = daemon::blocking(move || Ok(texts(&path))).await.unwrap_or_default();
        self.complaints.retain(|path, _| texts.contains_key(path));
        texts
    }

    /// Resolves when something in the folder may have changed.
    pub async fn changed(&self) {
        let Some(watch) = &self.watch else { return std::future::pending().await };
        let Ok(mut ready) = watch.readable().await else { return std::future::pending().await };
        let mut buffer = [0u8; 4096];
        while rustix::io::read(watch.get_ref(), &mut buffer).is_ok_and(|bytes| bytes > 0) {}
        ready.clear_ready();
    }

    /// True if this was not said of the file before.
    pub fn is_news(&mut self, path: &Path, error: &str) -> bool {
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

/// One file, or the files of a folder in the order of their names; hidden ones are left out.
fn texts(path: &Path) -> BTreeMap<PathBuf, String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let hidden = |path: &Path| path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let mut files: Vec<PathBuf> = entries.filter(|path| path.is_file() && !hidden(path)).collect();
    if path.is_file() {
        files.push(path.to_owned());
    }
    files.sort();
    files.truncate(MAX_FILES);
    files.into_iter().map(|path| (path.clone(), text(&path))).collect()
}

/// A file that cannot be read, or is too large, is an empty text, which is no pod.
fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 <= MAX_BYTES => String::from_utf8(bytes).unwrap_or_default(),
        _ => String::new(),
    }
}
