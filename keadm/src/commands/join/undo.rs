//! What a join writes, so that one that fails can take it back.

use std::path::PathBuf;

use anyhow::Context;
use api::config::edgecore::EdgeCoreConfig;

use crate::layout::Layout;

/// Files as they were before. Logs stay: they say why the join failed.
pub(super) struct Undo {
    files: Vec<(PathBuf, Option<Vec<u8>>)>,
    /// Made by EdgeCore only; what was there before is not touched.
    fresh: Vec<PathBuf>,
}

impl Undo {
    pub(super) fn remember(layout: &Layout, config: &EdgeCoreConfig) -> anyhow::Result<Undo> {
        let hub = &config.modules.edge_hub;
        let written = [layout.edgecore_config(), PathBuf::from(&hub.token_file)];
        let files = written.into_iter().map(|path| {
            let before = match std::fs::read(&path) {
                Ok(bytes) => Some(bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
            };
            Ok((path, before))
        });
        let database = &config.database.data_source;
        let made = [
            hub.tls_ca_file.clone(),
            hub.tls_cert_file.clone(),
            hub.tls_private_key_file.clone(),
            database.clone(),
            format!("{database}-wal"),
            format!("{database}-shm"),
        ];
        let fresh = made.into_iter().map(PathBuf::from).filter(|path| !path.exists());
        Ok(Undo { files: files.collect::<anyhow::Result<_>>()?, fresh: fresh.collect() })
    }

    pub(super) fn restore(self) -> anyhow::Result<()> {
        for (path, before) in self.files {
            match before {
                Some(bytes) => pki::files::write_atomic(&path, &bytes, 0o600)
                    .with_context(|| format!("writing {} as it was", path.display()))?,
                None => remove(&path)?,
            }
        }
        self.fresh.iter().try_for_each(remove)
    }
}

fn remove(path: &PathBuf) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
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
        let layout = Layout::new(Some(root.path())).unwrap();
        let file = |name: &str| layout.text(name);
        std::fs::create_dir_all(layout.edgecore_config().parent().unwrap()).unwrap();
        std::fs::write(layout.edgecore_config(), "kind: EdgeCore\n").unwrap();
        let mut config = EdgeCoreConfig::default();
        config.database.data_source = file("/edge.db");
        std::fs::write(file("/ca"), "theirs").unwrap();
        let hub = &mut config.modules.edge_hub;
        (hub.tls_ca_file, hub.tls_cert_file) = (file("/ca"), file("/cert"));
        (hub.tls_private_key_file, hub.token_file) = (file("/key"), file("/token"));
        let undo = Undo::remember(&layout, &config).unwrap();
        for name in ["/edge.db", "/edge.db-wal", "/ca", "/key", "/token"] {
            std::fs::write(file(name), "new").unwrap();
        }
        std::fs::write(layout.edgecore_config(), "new").unwrap();
        undo.restore().unwrap();
        assert_eq!(std::fs::read_to_string(layout.edgecore_config()).unwrap(), "kind: EdgeCore\n");
        let left: Vec<_> =
            std::fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
