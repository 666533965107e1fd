//! Every value the API server ever had of every device, as its watch tells it.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::ground::Ground;

const WATCH: &str = "/apis/devices.kubeedge.io/v1beta1/devicestatuses?watch=1";

pub struct History {
    _kubectl: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Values in the order they were seen; the same value again only when it was written again.
    values: HashMap<String, Vec<u64>>,
    /// (version, timestamp of the value) seen last.
    last: HashMap<String, (u64, String)>,
}

/// What the history shows.
#[derive(Debug, Default)]
pub struct Counted {
    pub lost: u64,
    pub reverted: u64,
    pub duplicates: u64,
}

impl History {
    pub fn follow(ground: &Ground) -> Result<History> {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&ground.kubeconfig).args(["get", "--raw", WATCH]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut kubectl = command.spawn().context("running kubectl")?;
        let lines = BufReader::new(kubectl.stdout.take().context("stdout")?).lines();
        Ok(History { _kubectl: kubectl, lines, values: HashMap::new(), last: HashMap::new() })
    }

    /// Takes in what the watch has told since.
    pub async fn read_more(&mut self) -> Result<()> {
        while let Ok(line) = tokio::time::timeout(Duration::from_millis(200), self.lines.next_line()).await {
            let line = line?.context("the watch of the API server ended")?;
            let event: Value = serde_json::from_str(&line)?;
            self.take_in(&event["object"])?;
        }
        Ok(())
    }

    fn take_in(&mut self, object: &Value) -> Result<()> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let version: u64 = object["metadata"]["resourceVersion"].as_str().unwrap_or("0").parse()?;
        let reported = &object["status"]["twins"][0]["reported"];
        let Some(value) = reported["value"].as_str() else { return Ok(()) };
        let seen = self.last.insert(name.clone(), (version, value.to_owned()));
        // The watch may tell the same version twice.
        if seen.is_none_or(|(before, _)| before != version) {
            self.values.entry(name).or_default().push(value.parse()?);
        }
        Ok(())
    }

    /// Values seen, over all devices.
    pub fn distinct(&self) -> u64 {
        self.values.values().map(|values| values.iter().copied().max().unwrap_or_default()).sum()
    }

    pub fn count(&self, each: u64, devices: usize) -> Counted {
        let mut counted = Counted::default();
        for values in self.values.values() {
            let mut sorted = values.clone();
            sorted.sort_unstable();
            sorted.dedup();
            counted.lost += each - sorted.len() as u64;
            counted.reverted += values.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64;
            counted.duplicates += (values.len() - sorted.len()) as u64;
        }
        counted.lost += (devices - self.values.len()) as u64 * each;
        counted
    }
}
