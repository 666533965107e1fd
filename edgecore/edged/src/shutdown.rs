//! Graceful shutdown of the machine: a lock of systemd-logind delays it while pods end (docs/protocol/edge-runtime.md 5.25). Off
//! unless `shutdownGracePeriod` says how long they may take, and only where systemd is.
//!
//! ```text
//! systemd-inhibit (holds the lock while it runs)      busctl (prints PrepareForShutdown)
//!        ^ ended when the pods have                        | true
//!        +------- pods held: ordinary ones, then critical ones <---+      false: all may go on
//! ```
//!
//! Better than the kubelet: the pods are held, not failed. With no cloud at the next start they start again.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::Instant;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::sync::CancellationToken;

use nodebase::base::Base;
use nodebase::settings::logind::Programs;
use podmodel::board::PodEntry;
use podmodel::errors::chain;
use podmodel::stop_decision::{Disposition, StopDecision};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ShutdownError {
    #[error("starting {program}")]
    Start { program: PathBuf, source: std::io::Error },
    #[error("{program} ended, so shutdowns are not noticed")]
    Ended { program: PathBuf },
}

/// How often it is looked whether the pods have ended.
const LOOK: Duration = Duration::from_millis(200);
/// Bytes of a line of the monitor.
const LONGEST_LINE: usize = 64 << 10;
/// Before the programs are started again.
const AGAIN: Duration = Duration::from_secs(30);

/// Waits for shutdowns until `stop`.
pub(crate) async fn run(base: Arc<Base>, programs: Programs, stop: CancellationToken) {
    if base.settings.shutdown.grace.is_zero() {
        return stop.cancelled().await;
    }
    let work = async {
        loop {
            if let Err(error) = follow(&base, &programs).await {
                tracing::warn!(error = %chain(&error), "the machine may shut down without waiting for its pods");
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::select! {
        biased;
        _ = stop.cancelled() => {}
        () = work => {}
    }
}

/// Holds the lock and follows what logind says.
async fn follow(base: &Base, programs: &Programs) -> Result<(), ShutdownError> {
    let mut lock = Some(hold(programs)?);
    let (_monitor, mut lines) = watch(programs)?;
    while let Some(Ok(line)) = lines.next().await {
        match line.trim() {
            "BOOLEAN true;" => {
                tracing::warn!("the machine shuts down, pods are ended");
                base.shutdown.send_replace(true);
                end_pods(base).await;
                // The lock goes with the program that holds it.
                if let Some(mut lock) = lock.take() {
                    let _ = lock.kill().await;
                }
            }
            "BOOLEAN false;" => {
                base.shutdown.send_replace(false);
                release(base);
                lock = Some(hold(programs)?);
            }
            _ => {}
        }
    }
    Err(ShutdownError::Ended { program: programs.monitor.clone() })
}

/// `cat` reads a pipe nobody writes to: it lives until it is killed, or until EdgeCore is.
fn hold(programs: &Programs) -> Result<Child, ShutdownError> {
    let mut command = Command::new(&programs.inhibit);
    command
        .args(["--what=shutdown", "--mode=delay", "--who=edgecore", "--why=pods are being ended", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command.spawn().map_err(|source| ShutdownError::Start { program: programs.inhibit.clone(), source })
}

fn watch(programs: &Programs) -> Result<(Child, FramedRead<ChildStdout, LinesCodec>), ShutdownError> {
    let mut command = Command::new(&programs.monitor);
    command
        .args(["--system", "monitor", "--match"])
        .arg("type='signal',interface='org.freedesktop.login1.Manager',member='PrepareForShutdown'")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let failed = |source| ShutdownError::Start { program: programs.monitor.clone(), source };
    let mut child = command.spawn().map_err(failed)?;
    let output = child.stdout.take().ok_or_else(|| failed(std::io::ErrorKind::BrokenPipe.into()))?;
    Ok((child, FramedRead::new(output, LinesCodec::new_with_max_length(LONGEST_LINE))))
}

/// Ordinary pods first, critical ones in the time that is kept for them.
async fn end_pods(base: &Base) {
    let times = base.settings.shutdown;
    let groups = [(false, times.grace.saturating_sub(times.critical)), (true, times.critical)];
    for (critical, grace) in groups {
        let is_of_group = |entry: &PodEntry| entry.demand.is_critical() == critical && entry.is_active();
        let group: Vec<PodEntry> = base.board.entries().into_iter().filter(is_of_group).collect();
        for entry in &group {
            entry.decision.send_replace(Some(held(grace)));
        }
        let deadline = Instant::now() + grace;
        while Instant::now() < deadline && runs(base, &group).await {
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn held(grace: Duration) -> StopDecision {
    StopDecision {
        disposition: Disposition::Hold,
        reason: REASON.to_owned(),
        message: "Pod was terminated in response to imminent node shutdown.".to_owned(),
        grace: Some(grace),
        disrupted: true,
    }
}

const REASON: &str = "Terminated";

/// Whether something of these pods runs. A runtime that does not answer is going down itself.
async fn runs(base: &Base, group: &[PodEntry]) -> bool {
    let Ok(sandboxes) = base.runtime.list_pod_sandboxes(None).await else { return false };
    let ready = |sandbox: &&cri::v1::PodSandbox| sandbox.state() == cri::v1::PodSandboxState::SandboxReady;
    let of_group = |sandbox: &cri::v1::PodSandbox| {
        let uid = sandbox.labels.get(cri::labels::POD_UID);
        uid.is_some_and(|uid| group.iter().any(|entry| entry.id.uid == *uid))
    };
    sandboxes.iter().filter(ready).any(of_group)
}

/// The shutdown was called off.
fn release(base: &Base) {
    for entry in base.board.entries() {
        entry.decision.send_if_modified(|decision| {
            let ours = decision.as_ref().is_some_and(|decision| decision.reason == REASON);
            if ours {
                *decision = None;
            }
            ours
        });
    }
}
