//! Every value the API server ever had of every device, as its watch tells it.

use std::collections::{HashMap, HashSet};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::ground::Ground;

const WATCH: &str = "/apis/devices.kubeedge.io/v1beta1/devicestatuses?watch=1";

pub(super) struct History {
    _kubectl: Child,
    seen: Arc<Mutex<Seen>>,
    /// Ends with the watch, which must outlive the scenario.
    reading: JoinHandle<Result<()>>,
}

#[derive(Default)]
struct Seen {
    /// Values in the order they were seen; the same value again only when it was written again.
    values: HashMap<String, Vec<u64>>,
    /// Version seen last.
    versions: HashMap<String, u64>,
    /// Objects seen, with values or without.
    objects: HashSet<String>,
}

/// What the history shows.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Values after the newest that arrived.
    pub lost: u64,
    /// Values that did not arrive because a newer one took their place before they were sent.
    pub merged: u64,
    pub reverted: u64,
    pub duplicates: u64,
    /// Some devices whose newest values are lost, as `device after value`.
    pub examples: Vec<String>,
}

/// Longest wait for the first word of the watch.
const BEGIN: Duration = Duration::from_secs(60);
/// Devices that are named.
const EXAMPLES: usize = 20;

impl History {
    pub(super) fn follow(ground: &Ground) -> Result<History> {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&ground.kubeconfig).args(["get", "--raw", WATCH]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut kubectl = command.spawn().context("running kubectl")?;
        let lines = BufReader::new(kubectl.stdout.take().context("stdout")?).lines();
        let seen = Arc::<Mutex<Seen>>::default();
        // All the time: a watch nobody reads is ended by the server.
        let reading = tokio::spawn(read(lines, seen.clone()));
        Ok(History { _kubectl: kubectl, seen, reading })
    }

    /// Waits until the watch has told of all devices: what is written before, it does not see.
    pub(super) async fn wait_begun(&self, devices: usize) -> Result<()> {
        let began = harness::wait::now();
        while self.seen.lock().unwrap_or_else(PoisonError::into_inner).objects.len() < devices {
            self.check()?;
            anyhow::ensure!(began.elapsed() < BEGIN, "the watch does not tell of {devices} devices");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Errors if the watch has ended: then not every value was seen.
    pub(super) fn check(&self) -> Result<()> {
        anyhow::ensure!(!self.reading.is_finished(), "the watch of the API server ended");
        Ok(())
    }

    /// Values seen, over all devices.
    pub(super) fn distinct(&self) -> u64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.values.values().map(|values| values.iter().copied().max().unwrap_or_default()).sum()
    }

    pub(super) fn count(&self, each: u64, devices: usize) -> Counted {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counted = Counted::default();
        for (device, values) in &seen.values {
            let mut sorted = values.clone();
            sorted.sort_unstable();
            sorted.dedup();
            let newest = sorted.last().copied().unwrap_or_default();
            counted.lost += each.saturating_sub(newest);
            counted.merged += newest - sorted.len() as u64;
            if newest < each && counted.examples.len() < EXAMPLES {
                counted.examples.push(format!("{device} after {newest}"));
            }
            counted.reverted += values.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64;
            counted.duplicates += (values.len() - sorted.len()) as u64;
        }
        counted.lost += (devices - seen.values.len()) as u64 * each;
        counted
    }
}

async fn read(mut lines: Lines<BufReader<ChildStdout>>, seen: Arc<Mutex<Seen>>) -> Result<()> {
    while let Some(line) = lines.next_line().await? {
        let event: Value = serde_json::from_str(&line)?;
        seen.lock().unwrap_or_else(PoisonError::into_inner).take_in(&event["object"])?;
    }
    Ok(())
}

impl Seen {
    fn take_in(&mut self, object: &Value) -> Result<()> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.objects.insert(name.clone());
        let version: u64 = object["metadata"]["resourceVersion"].as_str().unwrap_or("0").parse()?;
        let reported = &object["status"]["twins"][0]["reported"];
        let Some(value) = reported["value"].as_str() else { return Ok(()) };
        // The watch may tell the same version twice.
        if self.versions.insert(name.clone(), version) != Some(version) {
            self.values.entry(name).or_default().push(value.parse()?);
        }
        Ok(())
    }
}
