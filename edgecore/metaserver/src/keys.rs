//! The keys that tokens are checked with: those that the cloud delivered, kept for when it is away, and those of files.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::clock::unix_seconds;
use tokio::time::Instant;

use crate::ask;
use crate::jwt::{self, Claims, Key, KeyFileError, Rejection};
use crate::tables::Tables;
use crate::upstream::Upstream;

/// Answered by the relay.
const PATH: &str = "/.causeway/v1/keys";
const DOCUMENT: &str = "keys";
/// Keys are asked for again after this.
const DAILY: i64 = 86_400;
/// And not more often than this, whatever tokens come.
const RARELY: Duration = Duration::from_secs(60);

/// A file of `serviceAccountKeyFiles` is not usable.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("reading {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the key file {path}")]
    File { path: PathBuf, source: KeyFileError },
}

pub(crate) struct Keys {
    tables: Tables,
    upstream: Arc<dyn Upstream>,
    files: Vec<Key>,
    audiences: Vec<String>,
    delivered: Mutex<Delivered>,
    /// When the cloud was asked last; one asks at a time.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Clone, Default)]
struct Delivered {
    keys: Arc<Vec<Key>>,
    seen: i64,
}

impl Keys {
    /// Reads the files, and what is kept of the cloud's. `issuers` are those of tokens that the files' keys sign.
    pub(crate) async fn build(
        tables: Tables,
        upstream: Arc<dyn Upstream>,
        files: &[PathBuf],
        issuers: &[String],
        audiences: Vec<String>,
    ) -> Result<Keys, KeysError> {
        let mut keys = Vec::new();
        for path in files {
            let pem = tokio::fs::read(path).await;
            let pem = pem.map_err(|source| KeysError::Read { path: path.clone(), source })?;
            let read = jwt::of_pem(&pem, issuers);
            keys.extend(read.map_err(|source| KeysError::File { path: path.clone(), source })?);
        }
        let kept = tables.document(DOCUMENT).await.unwrap_or_else(|error| {
            tracing::warn!(error = %error, "the keys of service-account tokens cannot be read from the database");
            None
        });
        let delivered = kept.and_then(|(text, seen)| Some((jwt::delivered(&text)?, seen)));
        let delivered = delivered.map(|(keys, seen)| Delivered { keys: Arc::new(keys), seen });
        let delivered = Mutex::new(delivered.unwrap_or_default());
        Ok(Keys { tables, upstream, files: keys, audiences, delivered, asked: Default::default() })
    }

    fn delivered(&self) -> Delivered {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn check(&self, token: &str) -> Result<Claims, Rejection> {
        let now = unix_seconds();
        match jwt::verify(token, &self.delivered().keys, &self.audiences, now) {
            Err(rejection @ (Rejection::UnknownKey | Rejection::Signature)) if !self.files.is_empty() => {
                let by_file = jwt::verify(token, &self.files, &self.audiences, now);
                by_file.map_err(|other| if other == Rejection::Signature { rejection } else { other })
            }
            checked => checked,
        }
    }

    /// What a token says. A key that is not known yet is asked for, if that was not done just now.
    pub(crate) async fn verify(self: &Arc<Keys>, token: &str) -> Result<Claims, Rejection> {
        match self.check(token) {
            Err(Rejection::UnknownKey) if self.refresh().await => self.check(token),
            checked => {
                let is_old = unix_seconds() - self.delivered().seen >= DAILY;
                let may_ask = *self.upstream.connected().borrow() && self.asked.try_lock().is_ok();
                if checked.is_ok() && is_old && may_ask {
                    // Nobody waits for it: the keys that are known are good so far.
                    let keys = self.clone();
                    daemon::spawn(async move {
                        let _ = keys.refresh().await;
                    });
                }
                checked
            }
        }
    }

    /// Asks the cloud, unless that was done just now. True if it told its keys.
    async fn refresh(&self) -> bool {
        let mut asked = self.asked.lock().await;
        let is_early = asked.is_some_and(|at| at.elapsed() < RARELY);
        if is_early || !*self.upstream.connected().borrow() {
            return false;
        }
        let answer = ask::whole(&*self.upstream, None, PATH, "application/json").await;
        *asked = Some(Instant::now());
        let told = answer.map_err(|failure| failure.to_string()).and_then(|body| {
            let text = String::from_utf8_lossy(&body).into_owned();
            let keys = jwt::delivered(&text).ok_or("that is no set of keys with its issuer")?;
            Ok((keys, text))
        });
        let (keys, text) = match told {
            Ok(told) => told,
            Err(why) => {
                tracing::warn!(why, "the cloud did not tell the keys of service-account tokens");
                return false;
            }
        };
        let seen = unix_seconds();
        *self.delivered.lock().unwrap_or_else(PoisonError::into_inner) =
            Delivered { keys: Arc::new(keys), seen };
        if let Err(error) = self.tables.keep_document(DOCUMENT, text, seen).await {
            tracing::warn!(error = %error, "the keys of service-account tokens are not stored: they are gone with this process");
        }
        true
    }
}
