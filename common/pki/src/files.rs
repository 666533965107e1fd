//! Certificate and key files: written whole or not at all, private ones at mode 0600.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub use crate::pem::certificate_pem;
use crate::pem::pem;
use crate::{Bundle, BundleError, Identity, IdentityError};

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("writing {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("reading {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("reading {certificate} and {key}")]
    Identity { certificate: PathBuf, key: PathBuf, source: IdentityError },
    #[error("{path} holds no PEM certificate")]
    NoCertificate { path: PathBuf },
    #[error("reading {path}")]
    Bundle { path: PathBuf, source: BundleError },
    #[error("the key for {path} cannot be written as an EC private key")]
    KeyForm { path: PathBuf },
}

/// Of this process: each has a temporary name of its own.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// Writes `bytes` under a temporary name, syncs, then renames over `path`. Creates missing folders (0700).
///
/// # Errors
/// [`FileError`] names the path that could not be written.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let write = || -> std::io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
            .create(folder)?;
        let mut temporary = path.as_os_str().to_owned();
        let number = WRITES.fetch_add(1, Ordering::Relaxed);
        temporary.push(format!(".{}-{number}.tmp", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        // The umask of a service leaves less than was asked for.
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(|source| FileError::Write { path: path.to_owned(), source })
}

/// Writes a CA certificate (DER) as PEM, world-readable.
///
/// # Errors
/// [`FileError`] names the path that could not be written.
pub fn write_ca(path: &Path, der: &[u8]) -> Result<(), FileError> {
    write_atomic(path, pem("CERTIFICATE", der).as_bytes(), 0o644)
}

/// Writes an identity. The pair is first written whole beside the certificate, so that a crash between its two files
/// leaves something [`load_identity`] finishes.
///
/// # Errors
/// [`FileError`] names the path that could not be written, or whose key has no form there.
pub fn write_identity(certificate: &Path, key: &Path, identity: &Identity) -> Result<(), FileError> {
    let (certificate_pem, key_pem) =
        identity.to_pem().ok_or_else(|| FileError::KeyForm { path: certificate.to_owned() })?;
    let pending = pending(certificate);
    write_atomic(&pending, format!("{certificate_pem}{key_pem}").as_bytes(), 0o600)?;
    write_atomic(key, key_pem.as_bytes(), 0o600)?;
    write_atomic(certificate, certificate_pem.as_bytes(), 0o600)?;
    std::fs::remove_file(&pending).map_err(|source| FileError::Write { path: pending, source })
}

fn pending(certificate: &Path) -> PathBuf {
    let mut name = certificate.as_os_str().to_owned();
    name.push(".pending");
    PathBuf::from(name)
}

/// Times a pair is read that a writer gets in the way of.
const READS: u32 = 5;

/// Reads an identity as it was written last, also by a write that is under way or was cut short. Writes nothing.
///
/// # Errors
/// [`FileError`] names the files that could not be read or are no certificate and key.
pub fn read_identity(certificate: &Path, key: &Path) -> Result<Identity, FileError> {
    let once = || match unfinished(certificate)? {
        Some(identity) => Ok(identity),
        None => pair(certificate, key),
    };
    let mut read = once();
    for _ in 1..READS {
        // Its files are replaced one after the other: a certificate and a key that do not fit are of two writes.
        if !matches!(read, Err(FileError::Identity { .. })) {
            break;
        }
        read = once();
    }
    read
}

/// Whether an identity was ever written there, to its end or not.
pub fn is_written(certificate: &Path) -> bool {
    certificate.exists() || pending(certificate).exists()
}

/// Like [`read_identity`], for the program whose identity it is, when it starts: finishes a write that a crash cut short.
///
/// # Errors
/// [`FileError`] as [`read_identity`]'s, or of the write that could not be finished.
pub fn load_identity(certificate: &Path, key: &Path) -> Result<Identity, FileError> {
    if let Some(identity) = unfinished(certificate)? {
        write_identity(certificate, key, &identity)?;
    }
    read_identity(certificate, key)
}

/// The identity of a write that is not over.
fn unfinished(certificate: &Path) -> Result<Option<Identity>, FileError> {
    let pending = pending(certificate);
    match std::fs::read(&pending) {
        Ok(whole) => Ok(Identity::from_pem(&whole, &whole).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::Read { path: pending, source }),
    }
}

fn pair(certificate: &Path, key: &Path) -> Result<Identity, FileError> {
    let read =
        |path: &Path| std::fs::read(path).map_err(|source| FileError::Read { path: path.to_owned(), source });
    Identity::from_pem(&read(certificate)?, &read(key)?).map_err(|source| FileError::Identity {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        source,
    })
}

/// Writes the trusted CAs as PEM, world-readable.
///
/// # Errors
/// [`FileError`] names the path that could not be written.
pub fn write_bundle(path: &Path, bundle: &Bundle) -> Result<(), FileError> {
    write_atomic(path, bundle.to_pem().as_bytes(), 0o644)
}

/// Reads the trusted CAs: one or more PEM certificates.
///
/// # Errors
/// [`FileError`] names the path that could not be read or holds no certificates.
pub fn read_bundle(path: &Path) -> Result<Bundle, FileError> {
    let bytes = std::fs::read(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    Bundle::from_pem(&bytes).map_err(|source| FileError::Bundle { path: path.to_owned(), source })
}

/// Reads the first certificate of a PEM file as DER.
///
/// # Errors
/// [`FileError`] names the path that could not be read or holds no certificate.
pub fn read_ca(path: &Path) -> Result<Vec<u8>, FileError> {
    use rustls_pki_types::pem::PemObject;
    let bytes = std::fs::read(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    let der = rustls_pki_types::CertificateDer::from_pem_slice(&bytes);
    der.map(|der| der.to_vec()).map_err(|_| FileError::NoCertificate { path: path.to_owned() })
}
