//! What a command writes, so that one that fails can take it back.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Files as they were before. Logs stay: they say why it failed.
pub(crate) struct Undo {
    files: Vec<(PathBuf, Option<Vec<u8>>)>,
    /// Files and folders that the started program makes; what was there before is not touched.
    fresh: Vec<PathBuf>,
}

impl Undo {
    /// `written` are the command's own files, `made` those of the program it starts.
    ///
    /// # Errors
    /// A file that is there cannot be read.
    pub(crate) fn remember(written: Vec<PathBuf>, made: Vec<PathBuf>) -> anyhow::Result<Undo> {
        let files = written.into_iter().map(|path| {
            let before = match std::fs::read(&path) {
                Ok(bytes) => Some(bytes),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
            };
            Ok((path, before))
        });
        let fresh = made.into_iter().filter(|path| !path.exists()).collect();
        Ok(Undo { files: files.collect::<anyhow::Result<_>>()?, fresh })
    }

    /// # Errors
    /// A file cannot be written or removed.
    pub(crate) fn restore(self) -> anyhow::Result<()> {
        for (path, before) in self.files {
            match before {
                Some(bytes) => pki::files::write_atomic(&path, &bytes, 0o600)
                    .with_context(|| format!("writing {} as it was", path.display()))?,
                None => remove(&path)?,
            }
        }
        self.fresh.iter().try_for_each(|path| remove(path))
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_as_before_and_new_ones_gone() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str| root.path().join(name);
        std::fs::write(file("edgecore.yaml"), "kind: EdgeCore\n").unwrap();
        std::fs::write(file("ca"), "theirs").unwrap();
        let written = ["edgecore.yaml", "token"].map(file).to_vec();
        let made = ["ca", "key", "db", "data"].map(file).to_vec();
        let undo = Undo::remember(written, made).unwrap();
        for name in ["edgecore.yaml", "token", "ca", "key", "db"] {
            std::fs::write(file(name), "new").unwrap();
        }
        std::fs::create_dir_all(file("data/below")).unwrap();
        undo.restore().unwrap();
        assert_eq!(std::fs::read_to_string(file("edgecore.yaml")).unwrap(), "kind: EdgeCore\n");
        let left: Vec<_> =
            std::fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
