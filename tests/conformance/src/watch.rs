//! A watch that goes on beside the steps.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;

/// Longest event.
const LIMIT: usize = 8 * 1024 * 1024;

pub(crate) struct Watch {
    body: Incoming,
    read: Vec<u8>,
}

impl Watch {
    pub(crate) fn new(body: Incoming) -> Watch {
        Watch { body, read: Vec::new() }
    }

    /// The next event, `None` at the end.
    pub(crate) async fn next(&mut self, within: Duration) -> Result<Option<Value>> {
        let event = tokio::time::timeout(within, self.line()).await;
        let event = event.with_context(|| format!("no event within {} s", within.as_secs()))??;
        event.map(|line| serde_json::from_slice(&line).context("an event is no JSON")).transpose()
    }

    async fn line(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.read.drain(..=end).collect()));
            }
            match self.body.frame().await {
                None if self.read.is_empty() => return Ok(None),
                None => bail!("the watch ended within an event"),
                Some(frame) => {
                    self.read.extend(frame.context("reading the watch")?.data_ref().into_iter().flatten())
                }
            }
            ensure!(self.read.len() < LIMIT, "an event is longer than {LIMIT} bytes");
        }
    }
}
