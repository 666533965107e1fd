//! NFS 4 shares, mounted by the kernel: no mount helper is run.

use std::ffi::CString;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rustix::mount::MountFlags;

use super::mounts;

/// What is mounted.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub server: String,
    pub path: String,
    /// `mountOptions` of the volume.
    pub options: Vec<String>,
    pub is_read_only: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum NfsError {
    #[error("looking up the server {server:?}")]
    Lookup { server: String, source: io::Error },
    #[error("the server {server} does not answer on port 2049 within {} s", PATIENCE.as_secs())]
    Silent { server: String },
    #[error("connecting to {server} on port 2049")]
    Connect { server: String, source: io::Error },
    #[error("this kernel has no NFS 4 client (module nfsv4)")]
    NoClient,
    #[error("mounting {share}")]
    Mount { share: String, source: io::Error },
}

const PORT: u16 = 2049;
/// The kernel would wait for minutes for a server that is away: it is asked first.
const PATIENCE: Duration = Duration::from_secs(10);

/// Mounts the share; done if it is mounted.
pub(super) async fn mount(share: &Share, at: &Path) -> Result<(), NfsError> {
    let (path, text) = (at.to_owned(), format!("{}:{}", share.server, share.path));
    let failed = |source| NfsError::Mount { share: text.clone(), source };
    if daemon::blocking(move || mounts::is_mounted(&path)).await.map_err(failed)? {
        return Ok(());
    }
    let address = reach(&share.server).await?;
    let (flags, data) = options(share, address);
    let (path, source) = (at.to_owned(), text.clone());
    let done = daemon::blocking(move || {
        mounts::make_dir(&path, 0o750)?;
        let data = CString::new(data).map_err(io::Error::other)?;
        rustix::mount::mount(&source, &path, "nfs4", flags, Some(data.as_c_str())).map_err(io::Error::from)
    });
    done.await.map_err(|source| match source.raw_os_error() {
        Some(code) if code == rustix::io::Errno::NODEV.raw_os_error() => NfsError::NoClient,
        _ => failed(source),
    })
}

/// The server's address, if it answers.
async fn reach(server: &str) -> Result<IpAddr, NfsError> {
    let silent = |_| NfsError::Silent { server: server.to_owned() };
    let bare = server.trim_start_matches('[').trim_end_matches(']');
    let found =
        tokio::time::timeout(PATIENCE, tokio::net::lookup_host((bare, PORT))).await.map_err(silent)?;
    let lookup = |source| NfsError::Lookup { server: server.to_owned(), source };
    let mut found = found.map_err(lookup)?;
    let address = found.next().ok_or_else(|| lookup(io::ErrorKind::NotFound.into()))?;
    let connected = tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect(address)).await;
    connected.map_err(silent)?.map_err(|source| NfsError::Connect { server: server.to_owned(), source })?;
    Ok(address.ip())
}

/// Flags of the mount, and what the NFS client itself reads.
fn options(share: &Share, address: IpAddr) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for option in share.options.iter().flat_map(|text| text.split(',')) {
        match option.trim() {
            "ro" => flags |= MountFlags::RDONLY,
            "noexec" => flags |= MountFlags::NOEXEC,
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noatime" => flags |= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            // For the mount helper, or given below.
            "" | "rw" | "_netdev" | "defaults" | "nfsvers=4" | "vers=4" => {}
            other if other.starts_with("addr=") => {}
            other => data.push(other.to_owned()),
        }
    }
    if share.is_read_only {
        flags |= MountFlags::RDONLY;
    }
    let client = if address.is_ipv4() { "0.0.0.0" } else { "::" };
    data.push(format!("addr={address},clientaddr={client}"));
    (flags, data.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(server: &str) -> Share {
        Share {
            server: server.to_owned(),
            path: "/export".to_owned(),
            options: vec!["nfsvers=4.1".to_owned(), "ro,noatime,timeo=50,_netdev".to_owned()],
            is_read_only: false,
        }
    }

    #[test]
    fn options_are_told_apart_from_flags() {
        let (flags, data) = options(&share("nas"), IpAddr::from([10, 0, 0, 5]));
        assert_eq!(flags, MountFlags::RDONLY | MountFlags::NOATIME);
        assert_eq!(data, "nfsvers=4.1,timeo=50,addr=10.0.0.5,clientaddr=0.0.0.0");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named_before_the_kernel_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let error = mount(&share("127.0.0.1"), &folder.path().join("at")).await.unwrap_err();
        assert!(matches!(error, NfsError::Connect { .. }), "{error}");
        assert!(!folder.path().join("at").exists());
    }
}
