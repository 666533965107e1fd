//! The files of one run's log: rotated ones, oldest first, then the one that is written.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use podmodel::opening;

pub(super) struct Files {
    pub path: PathBuf,
    /// At least one.
    pub all: Vec<File>,
}

impl Files {
    /// Opens what there is, through no link ([`opening`]). Compressed ones are left out, as the kubelet does. Blocks on
    /// the disk.
    pub(super) fn open(path: &Path) -> io::Result<Files> {
        let live = opening::log(path);
        let same = |file: &File, other: &File| {
            let key = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
            key(file) == key(other)
        };
        let mut all: Vec<File> = rotated(path).iter().filter_map(|path| opening::log(path).ok()).collect();
        match live {
            Ok(live) => {
                // It may have been renamed meanwhile.
                all.retain(|file| !same(file, &live));
                all.push(live);
            }
            // Between the renaming and the runtime's new file there is none.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !all.is_empty() => {}
            Err(error) => return Err(error),
        }
        Ok(Files { path: path.to_owned(), all })
    }
}

/// `<n>.log.<YYYYMMDD-hhmmss>` beside `<n>.log`, oldest first.
#[expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]
fn rotated(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let is_rotated = |entry: &str| {
        let time = entry.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
        time.is_some_and(|time| !time.is_empty() && time.chars().all(|c| c.is_ascii_digit() || c == '-'))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<PathBuf> =
        names.filter(|name| is_rotated(name)).map(|name| folder.join(name)).collect();
    found.sort();
    found
}

/// The file at `path`, if it is another one than `current`.
pub(super) async fn newer(path: &Path, current: &tokio::fs::File) -> Option<tokio::fs::File> {
    let path = path.to_owned();
    let there = daemon::blocking(move || {
        let file = opening::log(&path)?;
        Ok((file.metadata()?, file))
    });
    let (found, file) = there.await.ok()?;
    let here = current.metadata().await.ok()?;
    let is_same = (found.dev(), found.ino()) == (here.dev(), here.ino());
    (!is_same).then(|| tokio::fs::File::from_std(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn rotated_files_come_first_and_compressed_ones_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        assert!(Files::open(&path).is_err());
        let texts = [("0.log.20260101-000001", "b"), ("0.log.20260101-000000", "a")];
        let others = [("0.log.20251231-000000.gz", "x"), ("1.log", "y"), ("0.log.tmp", "z")];
        for (name, text) in texts.iter().chain(&others) {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let read = || {
            let mut text = String::new();
            for mut file in Files::open(&path).unwrap().all {
                file.read_to_string(&mut text).unwrap();
            }
            text
        };
        assert_eq!(read(), "ab");
        std::fs::write(&path, "c").unwrap();
        assert_eq!(read(), "abc");
    }

    #[test]
    fn a_link_in_the_log_folder_is_not_followed_and_a_pipe_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let (pods, host) = (folder.path().join("pods"), folder.path().join("host"));
        let logs = pods.join("d_p_u/c");
        std::fs::create_dir_all(&logs).unwrap();
        std::fs::create_dir(&host).unwrap();
        std::fs::write(host.join("0.log"), "host's").unwrap();
        let link = |to: &Path, at: &Path| std::os::unix::fs::symlink(to, at).unwrap();
        let read = |path: &Path| -> String {
            let opened = Files::open(path).map(|files| files.all).unwrap_or_default();
            opened.into_iter().map(|file| io::read_to_string(file).unwrap()).collect()
        };
        link(&host.join("0.log"), &logs.join("0.log"));
        link(&host.join("0.log"), &logs.join("0.log.20260101-000000"));
        assert_eq!(read(&logs.join("0.log")), "");
        link(&host, &pods.join("d_p_u/swapped"));
        assert_eq!(read(&pods.join("d_p_u/swapped/0.log")), "");
        rustix::fs::mkfifoat(rustix::fs::CWD, logs.join("1.log"), rustix::fs::Mode::from_raw_mode(0o600))
            .unwrap();
        assert_eq!(read(&logs.join("1.log")), "");
    }
}
