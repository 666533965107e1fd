//! A unix socket for its owner alone.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Listens at `path`, whose folder is made if it is missing, with the mode 0600. Binds in a folder that only the owner may enter,
/// and renames: nobody can connect before the mode is set, and whoever sees the file is served. Waits for the disk; has to be called
/// within a runtime.
///
/// # Errors
/// The folder, the socket or its mode could not be made.
pub fn private(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut private = path.as_os_str().to_owned();
    private.push(".d");
    let private = PathBuf::from(private);
    let _ = std::fs::remove_dir_all(&private);
    std::fs::DirBuilder::new().mode(0o700).create(&private)?;
    let temporary = private.join("s");
    let listener = UnixListener::bind(&temporary)?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&temporary, path)?;
    std::fs::remove_dir(&private)?;
    Ok(listener)
}
