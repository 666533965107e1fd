//! The file of the key that seals secrets and tokens: 32 random bytes in base64 on one line, or as they are.
//!
//! It is made if it is missing, with the random numbers of the operating system, and never replaced. What is read of it is
//! wiped from memory once the cipher has it.

#![expect(clippy::disallowed_methods, reason = "runs at the start, before anything waits")]

use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// Bytes of a key.
const LENGTH: usize = 32;
/// Bytes read of a file: more than a key takes.
const READ: u64 = 1024;
/// Whoever may read the key beside its owner.
const OTHERS: u32 = 0o077;

/// A key of AES-256; it does not print, and is wiped when it is dropped.
pub struct Key(Zeroizing<[u8; LENGTH]>);

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("reading {path}, the key of stored secrets; name a file that EdgeCore may read")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}, the key of stored secrets, is not a file; name one")]
    NoFile { path: PathBuf },
    #[error(
        "{path}, the key of stored secrets, has mode {mode:04o}: others than its owner may use it; chmod 600 {path}"
    )]
    Shared { path: PathBuf, mode: u32 },
    #[error(
        "{path} holds no key of stored secrets, which is 32 random bytes in base64 on one line (openssl rand -base64 32); \
         put the key back, or move the file away for EdgeCore to make a new one and ask the cloud for the secrets again"
    )]
    NoKey { path: PathBuf },
    #[error(
        "making {path}, the key of stored secrets; make its folder, let EdgeCore write there, or put a key there yourself \
         (openssl rand -base64 32, mode 0600)"
    )]
    Make { path: PathBuf, source: std::io::Error },
}

impl Key {
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// What a file holds; `None` if that is no key. Text is no key of 32 raw bytes, nor is one byte again and again: somebody
    /// typed the first, and a crash left the second.
    pub(super) fn parse(file: &[u8]) -> Option<Key> {
        let decoded = match file.len() {
            LENGTH => Zeroizing::new(file.to_vec()),
            _ => Zeroizing::new(STANDARD.decode(file.trim_ascii()).ok()?),
        };
        let key = Key(Zeroizing::new(decoded.as_slice().try_into().ok()?));
        let is_text = key.0.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
        let is_filler = key.0.iter().all(|byte| *byte == key.0[0]);
        (!is_text && !is_filler).then_some(key)
    }
}

/// The key in the file; `None` if there is no file. Writes nothing.
///
/// # Errors
/// All but [`KeyError::Make`]; each names the file and what to do.
pub fn read(path: &Path) -> Result<Option<Key>, KeyError> {
    let owned = || path.to_owned();
    let failed = |source| KeyError::Read { path: owned(), source };
    // A pipe would wait for its writer.
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.is_file() {
        return Err(KeyError::NoFile { path: owned() });
    }
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(KeyError::Shared { path: owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(READ as usize));
    file.take(READ).read_to_end(&mut bytes).map_err(failed)?;
    Key::parse(&bytes).map(Some).ok_or_else(|| KeyError::NoKey { path: owned() })
}

/// The key in the file, which is made (mode 0600) if there is none. Blocks.
///
/// # Errors
/// Each names the file and what to do.
pub fn read_or_make(path: &Path) -> Result<Key, KeyError> {
    if let Some(key) = read(path)? {
        return Ok(key);
    }
    let failed = |source| KeyError::Make { path: path.to_owned(), source };
    make(path).map_err(failed)?;
    // What is there counts, should another program have been faster.
    read(path)?.ok_or_else(|| failed(ErrorKind::NotFound.into()))
}

/// Writes a new key beside the place, then links it there: it is whole or not there, and replaces nothing.
fn make(path: &Path) -> std::io::Result<()> {
    let mut key = Zeroizing::new([0; LENGTH]);
    SystemRandom::new().fill(key.as_mut()).map_err(|_| std::io::Error::other("no random numbers"))?;
    let line = Zeroizing::new(format!("{}\n", Zeroizing::new(STANDARD.encode(key.as_slice())).as_str()));
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    // What a crash left of an earlier one.
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    // The umask of a service leaves less than was asked for.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(line.as_bytes())?;
    file.sync_all()?;
    match std::fs::hard_link(&unfinished, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    std::fs::remove_file(&unfinished)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
