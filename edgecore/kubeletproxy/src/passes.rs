//! The tokens that are shown to the kubelet.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::Instant;

/// The user whose tokens they are.
pub const USER: &str = "causeway:node-api";
/// What a token begins with, so that one which is over is known as ours, and asked of nobody else.
const PREFIX: &str = "causeway-node-api.";
/// How long a token is good.
const LIFE: Duration = Duration::from_secs(60);

/// The operating system gave no random numbers.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the operating system gave no random numbers for a token")]
pub struct NoRandomness;

/// The tokens that are good now; clones share them.
#[derive(Clone)]
pub struct Passes(Arc<Inner>);

struct Inner {
    /// This node's name.
    node: String,
    /// The uid of [`USER`] for as long as this program runs. It is told to whoever reviews a good token, so a user who has the name
    /// from elsewhere (a certificate, another issuer of tokens) is not taken for this one.
    uid: String,
    random: SystemRandom,
    /// When tokens end, by their SHA-256.
    good: Mutex<HashMap<String, Instant>>,
}

/// A token, good until this is dropped and for a minute at most. It does not print.
pub(crate) struct Pass {
    passes: Passes,
    text: String,
}

impl Passes {
    /// Tokens for the kubelet of `node`; none is good yet.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn new(node: &str) -> Result<Passes, NoRandomness> {
        let random = SystemRandom::new();
        let mut uid = String::new();
        for byte in bytes::<16>(&random)? {
            let _ = write!(uid, "{byte:02x}");
        }
        Ok(Passes(Arc::new(Inner { node: node.to_owned(), uid, random, good: Mutex::default() })))
    }

    pub(crate) fn node(&self) -> &str {
        &self.0.node
    }

    pub(crate) fn uid(&self) -> &str {
        &self.0.uid
    }

    pub(crate) fn issue(&self) -> Result<Pass, NoRandomness> {
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes::<32>(&self.0.random)?));
        self.good().insert(pki::fingerprint(text.as_bytes()), Instant::now() + LIFE);
        Ok(Pass { passes: self.clone(), text })
    }

    /// True for a token that is good now.
    pub(crate) fn is_good(&self, token: &str) -> bool {
        self.good().get(&pki::fingerprint(token.as_bytes())).is_some_and(|end| Instant::now() < *end)
    }

    fn good(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.0.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True for what has the form of such a token, good or not.
pub(crate) fn is_one(token: &str) -> bool {
    token.starts_with(PREFIX)
}

fn bytes<const N: usize>(random: &SystemRandom) -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    random.fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

impl Pass {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.passes.good().remove(&pki::fingerprint(self.text.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_while_its_request_begins_and_for_a_minute_at_most() {
        let passes = Passes::new("edge-1").unwrap();
        let (one, other) = (passes.issue().unwrap(), passes.issue().unwrap());
        assert_ne!(one.text(), other.text());
        // 32 bytes in base64.
        assert_eq!(one.text().len(), PREFIX.len() + 43);
        let text = one.text().to_owned();
        assert!(is_one(&text) && passes.is_good(&text) && !passes.is_good(PREFIX));
        assert!(!Passes::new("edge-1").unwrap().is_good(&text), "of another program");
        drop(one);
        assert!(!passes.is_good(&text) && passes.is_good(other.text()));
        tokio::time::advance(LIFE).await;
        assert!(!passes.is_good(other.text()));
        drop(other);
        assert!(passes.good().is_empty());
    }
}
