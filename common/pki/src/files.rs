//! Certificate and key files: written whole or not at all, private ones at mode 0600.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::identity::pem;
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

/// Writes `bytes` under a temporary name, syncs, then renames over `path`. Creates missing folders (0700).
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let write = || -> std::io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
            .create(folder)?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}.tmp", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(|source| FileError::Write { path: path.to_owned(), source })
}

/// Writes a CA certificate (DER) as PEM, world-readable.
pub fn write_ca(path: &Path, der: &[u8]) -> Result<(), FileError> {
    write_atomic(path, pem("CERTIFICATE", der).as_bytes(), 0o644)
}

/// Writes an identity. The pair is first written whole beside the certificate, so that a crash between its two files
/// leaves something [`read_identity`] finishes.
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

/// Reads an identity; finishes a write that a crash cut short.
pub fn read_identity(certificate: &Path, key: &Path) -> Result<Identity, FileError> {
    let read =
        |path: &Path| std::fs::read(path).map_err(|source| FileError::Read { path: path.to_owned(), source });
    let pending = pending(certificate);
    if pending.exists() {
        let whole = read(&pending)?;
        if let Ok(identity) = Identity::from_pem(&whole, &whole) {
            write_identity(certificate, key, &identity)?;
            return Ok(identity);
        }
    }
    Identity::from_pem(&read(certificate)?, &read(key)?).map_err(|source| FileError::Identity {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        source,
    })
}

/// Writes the trusted CAs as PEM, world-readable.
pub fn write_bundle(path: &Path, bundle: &Bundle) -> Result<(), FileError> {
    write_atomic(path, bundle.to_pem().as_bytes(), 0o644)
}

/// Reads the trusted CAs: one or more PEM certificates.
pub fn read_bundle(path: &Path) -> Result<Bundle, FileError> {
    let bytes = std::fs::read(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    Bundle::from_pem(&bytes).map_err(|source| FileError::Bundle { path: path.to_owned(), source })
}

/// Reads the first certificate of a PEM file as DER.
pub fn read_ca(path: &Path) -> Result<Vec<u8>, FileError> {
    use rustls_pki_types::pem::PemObject;
    let bytes = std::fs::read(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    let der = rustls_pki_types::CertificateDer::from_pem_slice(&bytes);
    der.map(|der| der.to_vec()).map_err(|_| FileError::NoCertificate { path: path.to_owned() })
}

/// A certificate as PEM text.
pub fn certificate_pem(der: &[u8]) -> String {
    pem("CERTIFICATE", der)
}
