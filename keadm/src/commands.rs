//! One file per command.

pub mod gettoken;
pub mod init;
pub mod join;
pub mod reset;
pub mod version;

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

/// Writes a configuration file, 0600: it may hold a token.
fn write_config<T: Serialize>(path: &Path, config: &T) -> anyhow::Result<()> {
    let text = daemon::config::to_yaml(config).map_err(anyhow::Error::msg)?;
    pki::files::write_atomic(path, text.as_bytes(), 0o600)
        .with_context(|| format!("writing {}", path.display()))
}
