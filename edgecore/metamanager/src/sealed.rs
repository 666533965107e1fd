//! Secrets and tokens as they lie on the disk: sealed, if there is a key, which is kept elsewhere.
//!
//! ```text
//! key file --> [key] --> Sealer --seal--> "sealed:v1:KEYID:BASE64" --> table `meta`
//! table `meta` --open--> text | none: another key, another row, damaged
//! ```
//!
//! A sealed value is a JSON string, so that other tools can read the table. KEYID names the key without telling it; BASE64
//! holds a nonce (12 bytes), the ciphertext and its tag (16 bytes), AES-256-GCM (NIST SP 800-38D). The additional data is the
//! key of the row, so a value that is put into another row does not open. Nonces are random: good for 2^32 writes with one
//! key (section 8.3), which a node does not reach in its life.
//!
//! Pure but for the random numbers; what the table does with it is in [`super::objects`], the file of the key in [`key`].

pub mod key;

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};

use key::Key;

/// Types of the rows of `meta` that are sealed: secrets, and tokens of service accounts.
pub const KINDS: [&str; 2] = ["secret", "serviceaccounttoken"];

/// What a sealed value begins with, in whatever version.
const SEALED: &str = "\"sealed:";
/// What one of ours begins with.
const V1: &str = "\"sealed:v1:";
/// Bytes of a key's hash that name the key.
const ID: usize = 8;

#[derive(Debug, thiserror::Error)]
#[error("sealing the row {row}: the random numbers of the operating system or the cipher failed")]
pub struct SealError {
    row: String,
}

/// Seals and opens values with one key.
pub struct Sealer {
    key: LessSafeKey,
    id: String,
    random: SystemRandom,
}

impl Sealer {
    pub fn new(key: &Key) -> Sealer {
        let unbound = UnboundKey::new(&AES_256_GCM, key.bytes()).expect("a key of AES-256 has 32 bytes");
        let mut named = digest::Context::new(&digest::SHA256);
        named.update(b"causeway edgecore secrets key");
        named.update(key.bytes());
        let id = named.finish().as_ref()[..ID].iter().map(|byte| format!("{byte:02x}")).collect();
        Sealer { key: LessSafeKey::new(unbound), id, random: SystemRandom::new() }
    }

    /// What is stored of `text` in the row with this key.
    ///
    /// # Errors
    /// The operating system gives no random numbers. Nothing may be stored then.
    pub fn seal(&self, row: &str, text: &str) -> Result<String, SealError> {
        let failed = |_| SealError { row: row.to_owned() };
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(failed)?;
        let mut bytes = text.as_bytes().to_vec();
        let (aad, unique) = (Aad::from(row.as_bytes()), Nonce::assume_unique_for_key(nonce));
        self.key.seal_in_place_append_tag(unique, aad, &mut bytes).map_err(failed)?;
        bytes.splice(0..0, nonce);
        Ok(format!("{V1}{}:{}\"", self.id, STANDARD.encode(bytes)))
    }

    /// The text that was sealed for the row with this key; `None` if `value` is not sealed, or with another key, for another
    /// row, or is damaged.
    pub fn open(&self, row: &str, value: &str) -> Option<String> {
        let (id, sealed) = value.strip_prefix(V1)?.strip_suffix('"')?.split_once(':')?;
        if id != self.id {
            return None;
        }
        let mut bytes = STANDARD.decode(sealed).ok()?;
        let nonce: [u8; NONCE_LEN] = bytes.get(..NONCE_LEN)?.try_into().ok()?;
        let (nonce, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from(row.as_bytes()));
        let length = self.key.open_within(nonce, aad, &mut bytes, NONCE_LEN..).ok()?.len();
        bytes.truncate(length);
        String::from_utf8(bytes).ok()
    }
}

/// True of values that cannot be read without their key.
pub fn is_sealed(value: &str) -> bool {
    value.starts_with(SEALED)
}

/// The same for who writes the table.
pub(super) fn not_stored(error: SealError) -> store::rusqlite::Error {
    store::rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

/// How the table stores and reads its rows; clones share the key. The default seals nothing and opens nothing.
#[derive(Clone, Default)]
pub struct Seals(Option<Arc<Sealer>>);

impl Seals {
    pub fn with(sealer: Sealer) -> Seals {
        Seals(Some(Arc::new(sealer)))
    }

    /// The key's, if there is one.
    pub(super) fn sealer(&self) -> Option<&Sealer> {
        self.0.as_deref()
    }

    /// What is stored of a row of this type and key.
    ///
    /// # Errors
    /// It has to be sealed and cannot be: it must not be stored.
    pub(super) fn stored<'a>(
        &self,
        kind: &str,
        row: &str,
        text: &'a str,
    ) -> store::rusqlite::Result<Cow<'a, str>> {
        let Some(sealer) = self.sealer().filter(|_| KINDS.contains(&kind)) else { return Ok(text.into()) };
        sealer.seal(row, text).map(Cow::from).map_err(not_stored)
    }

    /// What is stored of a secret in a table other than `meta`; `row` names its place there, and no row of `meta`.
    ///
    /// # Errors
    /// It cannot be sealed: it must not be stored.
    pub fn close(&self, row: &str, text: &str) -> store::rusqlite::Result<String> {
        match self.sealer() {
            Some(sealer) => sealer.seal(row, text).map_err(not_stored),
            None => Ok(text.to_owned()),
        }
    }

    /// The text of what [`Seals::close`] made for this row; `None` if it is sealed and does not open.
    pub fn open(&self, row: &str, value: String) -> Option<String> {
        self.text(row, value)
    }

    /// Whether the value is sealed and opens.
    pub(super) fn opens(&self, row: &str, value: &str) -> bool {
        self.sealer().is_some_and(|sealer| sealer.open(row, value).is_some())
    }

    /// The text of a stored value; `None` if it is sealed and does not open.
    pub(super) fn text(&self, row: &str, value: String) -> Option<String> {
        match is_sealed(&value) {
            true => self.sealer()?.open(row, &value),
            false => Some(value),
        }
    }
}

#[cfg(test)]
mod tests;
