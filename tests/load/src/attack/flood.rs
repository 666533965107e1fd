//! A flood of the edge's broker with sessions that are kept, and what EdgeCore holds of it: at the top, a minute later
//! with the messages that the sessions were promised, and a minute after the sessions' end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::mqtt;
use crate::result::{Results, rounded};

/// Messages of one connection.
const MESSAGES: usize = 2000;

/// A session with a subscription whose client leaves, then messages for it, of QoS 1, which are acknowledged.
pub(super) async fn attack(target: &str, number: usize) -> Result<()> {
    let topic = format!("flood/{number}");
    let mut kept = TcpStream::connect(target).await?;
    kept.write_all(&mqtt::connect(&kept_name(number), false)).await?;
    kept.write_all(&mqtt::subscribe(1, &topic, 1)).await?;
    // CONNACK and SUBACK.
    kept.read_exact(&mut [0; 9]).await?;
    drop(kept);
    let (mut answers, mut publisher) = TcpStream::connect(target).await?.into_split();
    publisher.write_all(&mqtt::connect(&format!("flood-{number}"), true)).await?;
    let payload = vec![b'x'; [1, 1000, 100_000][number % 3]];
    let publish = async {
        for id in 0..MESSAGES {
            publisher.write_all(&mqtt::publish_confirmed(&topic, id as u16 + 1, &payload)).await?;
        }
        anyhow::Ok(())
    };
    let mut forgotten = tokio::io::sink();
    tokio::select! {
        done = publish => done,
        _ = tokio::io::copy(&mut answers, &mut forgotten) => Ok(()),
    }
}

fn kept_name(number: usize) -> String {
    format!("kept-{number}")
}

/// Ends the sessions that `connections` attackers left.
async fn end_sessions(target: &str, connections: usize) -> Result<()> {
    for number in 0..connections {
        let mut clean = TcpStream::connect(target).await?;
        clean.write_all(&mqtt::connect(&kept_name(number), true)).await?;
        let mut answer = [0; 4];
        clean.read_exact(&mut answer).await.context("waiting for CONNACK")?;
        ensure!(answer[3] == 0, "the broker refused to end session {number} with code {}", answer[3]);
        clean.write_all(&mqtt::DISCONNECT).await?;
    }
    Ok(())
}

/// Memory of a process that is attacked.
pub(super) struct Resident {
    pid: i32,
    before_kb: u64,
}

impl Resident {
    /// Forgets the top so far.
    pub(super) fn watch(pid: i32) -> Result<Resident> {
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5")
            .context("forgetting the most memory so far")?;
        Ok(Resident { pid, before_kb: status_kb(pid, "VmRSS:")? })
    }

    /// Waits until the flood is over for so long, and its sessions as well, and notes what was held.
    pub(super) async fn note(
        &self,
        name: &str,
        (target, connections): (&str, usize),
        later: Duration,
        results: &mut Results,
    ) -> Result<()> {
        let top = status_kb(self.pid, "VmHWM:")?;
        tokio::time::sleep(later).await;
        let kept = status_kb(self.pid, "VmRSS:")?;
        end_sessions(target, connections).await.context("ending the sessions")?;
        tokio::time::sleep(later).await;
        let ended = status_kb(self.pid, "VmRSS:")?;
        let ratio = |kb: u64| rounded(kb as f64 / self.before_kb as f64);
        println!(
            "{name:<16} {} KiB before, {top} at the top, {kept} later, {ended} after its sessions ended",
            self.before_kb
        );
        let mut add = |key: &str, what: &str, value: serde_json::Value| {
            results.add(&format!("{name}_{key}"), &format!("{name}: {what}"), value);
        };
        add("before_kb", "EdgeCore resident before (KiB)", self.before_kb.into());
        add("top_kb", "EdgeCore resident at the top (KiB)", top.into());
        add("kept_kb", "later, with the sessions' messages (KiB)", kept.into());
        add("kept_ratio", "later : before", ratio(kept));
        add("ended_kb", "later again, its sessions ended (KiB)", ended.into());
        add("ended_ratio", "its sessions ended : before", ratio(ended));
        Ok(())
    }
}

fn status_kb(pid: i32, key: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).context("reading memory")?;
    let value =
        text.lines().find_map(|line| line.strip_prefix(key)).context("no such line in /proc/PID/status")?;
    Ok(value.trim().trim_end_matches("kB").trim().parse()?)
}
