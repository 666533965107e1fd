//! hostPath: a path of the node, checked or made as its type says.

#![expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use super::mounts;

#[derive(Debug, thiserror::Error)]
pub enum HostPathError {
    #[error("{path:?} is not absolute: write the whole path, from / on")]
    Relative { path: PathBuf },
    #[error("{path:?} must not contain '..': write the path that is meant")]
    StepsBack { path: PathBuf },
    #[error("{path} is not of type {kind}")]
    WrongType { path: PathBuf, kind: String },
    #[error("{kind:?} is not a type of host path")]
    UnknownType { kind: String },
    #[error("making {path}")]
    Make { path: PathBuf, source: io::Error },
}

/// A runtime would look for a relative path from a working folder of its own, and make it there.
pub(super) fn check(path: &Path) -> Result<(), HostPathError> {
    if !path.is_absolute() {
        return Err(HostPathError::Relative { path: path.to_owned() });
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(HostPathError::StepsBack { path: path.to_owned() });
    }
    Ok(())
}

pub fn prepare(path: &Path, kind: &str) -> Result<(), HostPathError> {
    check(path)?;
    let make = |source| HostPathError::Make { path: path.to_owned(), source };
    let meta = fs::metadata(path).ok();
    let is = |test: fn(&fs::Metadata) -> bool| meta.as_ref().is_some_and(test);
    let fits = match kind {
        "" => true,
        "DirectoryOrCreate" if meta.is_none() => {
            mounts::make_dirs(path, 0o755).map_err(make)?;
            true
        }
        "FileOrCreate" if meta.is_none() => {
            fs::write(path, "").map_err(make)?;
            mounts::set_mode(path, 0o644).map_err(make)?;
            true
        }
        "DirectoryOrCreate" | "Directory" => is(fs::Metadata::is_dir),
        "FileOrCreate" | "File" => is(fs::Metadata::is_file),
        "Socket" => is(|meta| meta.file_type().is_socket()),
        "CharDevice" => is(|meta| meta.file_type().is_char_device()),
        "BlockDevice" => is(|meta| meta.file_type().is_block_device()),
        _ => return Err(HostPathError::UnknownType { kind: kind.to_owned() }),
    };
    match fits {
        true => Ok(()),
        false => Err(HostPathError::WrongType { path: path.to_owned(), kind: kind.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_checked_and_only_the_or_create_types_make_something() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, file) = (folder.path().join("d/e"), folder.path().join("f"));
        assert!(prepare(&dir, "Directory").is_err());
        prepare(&dir, "DirectoryOrCreate").unwrap();
        prepare(&dir, "Directory").unwrap();
        assert!(prepare(&dir, "File").is_err());
        prepare(&file, "FileOrCreate").unwrap();
        prepare(&file, "File").unwrap();
        prepare(Path::new("/dev/null"), "CharDevice").unwrap();
        assert!(prepare(&file, "Socket").is_err());
        assert!(matches!(prepare(&file, "Nothing"), Err(HostPathError::UnknownType { .. })));
    }

    #[test]
    fn a_path_that_is_relative_or_steps_back_is_refused_and_nothing_is_made() {
        for bad in ["relative/path", "", "/tmp/../etc", "..", "/.."] {
            assert!(prepare(Path::new(bad), "").is_err(), "{bad}");
            assert!(prepare(Path::new(bad), "DirectoryOrCreate").is_err(), "{bad}");
        }
        assert!(!Path::new("relative").exists());
        prepare(Path::new("/etc/..data/x"), "").unwrap();
    }
}
