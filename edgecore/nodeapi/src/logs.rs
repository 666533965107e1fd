//! `/containerLogs`: which run's log, which part of it, and following it (docs/protocol/edge-runtime.md 6.5, 7.1).
//!
//! Better than the kubelet: the log of a run is read over its rotated files, and lines that the runtime split count as
//! one for `tailLines`.

mod files;
mod lines;
mod options;
mod tail;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ServerState;
use super::answer::{self, Answer};
use super::query::Query;
use super::router::PodName;
use super::target::HttpRefusal;
use files::Files;
use http::StatusCode;
use lines::Lines;
use options::Options;
use podmodel::observed::{Instance, Observed, State};
use podmodel::spec::{self, RestartPolicy};
use volumes::changes::{self, Changes};

/// Read at once.
const PIECE: usize = 32 * 1024;
/// Pieces that wait for the client: a client that does not read stops the reading.
const WAITING: usize = 4;
/// A follower asks this long after the last line whether the container still runs.
const QUIET: Duration = Duration::from_secs(1);

impl ServerState {
    pub(crate) async fn logs(
        &self,
        pod: &PodName,
        container: &str,
        query: &Query,
    ) -> Result<Answer, HttpRefusal> {
        let options = Options::parse(query, self.base.clock.now())
            .map_err(|text| HttpRefusal::new(StatusCode::BAD_REQUEST, text))?;
        let pod = self.pod(pod)?;
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let known = pod.spec.as_ref().is_some_and(|pod| spec::container(pod, container).is_some());
        if !known {
            return Err(HttpRefusal::not_found(format!("container {container:?} not found in pod {name:?}")));
        }
        let run = self.run_of(&pod, container, options.previous).await?;
        let path = PathBuf::from(&run.log_path);
        // Before the files are opened, so that nothing is missed in between.
        let changes = options.follow.then(|| path.parent().and_then(Changes::of)).flatten();
        let tail = options.tail;
        let opened = daemon::blocking(move || {
            let files = Files::open(&path)?;
            let start = tail::start(&files.all, tail)?;
            Ok((files, start))
        });
        let (files, start) = opened.await.map_err(|error| {
            HttpRefusal::not_found(format!("the log of container {container:?} cannot be read: {error}"))
        })?;
        let place = self.session()?;
        let (pieces, body) = mpsc::channel(WAITING);
        let (stop, runtime) = (self.stop.clone(), self.base.runtime.clone());
        let lines = Lines::new(&options);
        let alive = options.follow.then(|| Alive { runtime, id: run.id });
        let reader = Reader { pieces, lines, alive, changes, read: 0 };
        daemon::spawn(async move {
            tokio::select! {
                _ = stop.cancelled() => {}
                // What could not be read ends the answer; its beginning is out already.
                read = reader.run(files, start) => if let Err(error) = read {
                    tracing::warn!(error = %error, "container log not read to its end");
                }
            }
            drop(place);
        });
        Ok(answer::stream(body))
    }

    /// The run whose log is meant; the texts are the kubelet's.
    async fn run_of(&self, pod: &Pod, container: &str, previous: bool) -> Result<Instance, HttpRefusal> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let observed = Observed::read(&self.base.runtime, uid).await;
        let observed = observed.map_err(|error| HttpRefusal::trouble(&error))?;
        let runs: Vec<&Instance> = observed.runs(container).collect();
        let chosen = if previous { previous_run(pod, &runs) } else { newest_run(&runs) };
        let missing = || match previous {
            true => format!("previous terminated container {container:?} in pod {name:?} not found"),
            false => {
                let reason = waiting_for(pod, container);
                format!("container {container:?} in pod {name:?} is waiting to start: {reason}")
            }
        };
        chosen.cloned().ok_or_else(|| HttpRefusal::new(StatusCode::BAD_REQUEST, missing()))
    }
}

/// The newest run that was started; one that could not be started has said nothing.
fn newest_run<'a>(runs: &[&'a Instance]) -> Option<&'a Instance> {
    runs.iter().find(|run| run.state != State::Created).copied()
}

/// The run before the one that counts as current. A run that ended and will be followed by another is the previous one
/// already.
fn previous_run<'a>(pod: &Pod, runs: &[&'a Instance]) -> Option<&'a Instance> {
    let policy = pod.spec.as_ref().map(RestartPolicy::of);
    let first = runs.first().filter(|run| {
        run.state == State::Exited
            && match policy {
                Some(RestartPolicy::Always) => true,
                Some(RestartPolicy::OnFailure) => run.exit_code != 0,
                _ => false,
            }
    });
    first.or_else(|| runs.get(1)).copied()
}

/// Why there is no run yet, as far as the stored status tells.
fn waiting_for(pod: &Pod, container: &str) -> String {
    let status = pod.status.as_ref();
    let lists = [
        status.and_then(|status| status.container_statuses.as_ref()),
        status.and_then(|status| status.init_container_statuses.as_ref()),
        status.and_then(|status| status.ephemeral_container_statuses.as_ref()),
    ];
    let mut all = lists.into_iter().flatten().flatten();
    let waiting = all
        .find(|status| status.name == container)
        .and_then(|status| status.state.as_ref()?.waiting.as_ref()?.reason.clone());
    match waiting.as_deref() {
        Some("ErrImagePull") => "image can't be pulled".to_owned(),
        Some("ImagePullBackOff") => "trying and failing to pull image".to_owned(),
        Some(reason) => reason.to_owned(),
        None => "ContainerCreating".to_owned(),
    }
}

/// Tells whether a followed container still runs.
struct Alive {
    runtime: cri::Runtime,
    id: String,
}

impl Alive {
    /// A runtime that does not answer says nothing about its containers.
    async fn runs(&self) -> bool {
        match self.runtime.container_status(&self.id).await {
            Ok(status) => matches!(
                status.state(),
                cri::v1::ContainerState::ContainerRunning | cri::v1::ContainerState::ContainerCreated
            ),
            Err(error) => !error.is_not_found(),
        }
    }
}

struct Reader {
    pieces: mpsc::Sender<Bytes>,
    lines: Lines,
    /// None: the log is not followed.
    alive: Option<Alive>,
    changes: Option<Changes>,
    /// Bytes of the files so far.
    read: u64,
}

impl Reader {
    async fn run(mut self, files: Files, start: tail::Start) -> std::io::Result<()> {
        let mut current = None;
        for (index, file) in files.all.into_iter().enumerate().skip(start.file) {
            let mut file = tokio::fs::File::from_std(file);
            if index == start.file {
                file.seek(std::io::SeekFrom::Start(start.offset)).await?;
            }
            if !self.drain(&mut file).await? {
                return Ok(());
            }
            current = Some(file);
        }
        let (Some(alive), Some(mut current)) = (self.alive.take(), current) else { return Ok(()) };
        let mut has_ended = false;
        // Other runs write in the same folder, so it is the silence of this file that counts.
        let mut ask_at = Instant::now() + QUIET;
        loop {
            let before = self.read;
            if !self.drain(&mut current).await? {
                return Ok(());
            }
            if self.read != before {
                ask_at = Instant::now() + QUIET;
            }
            if let Some(newer) = files::newer(&files.path, &current).await {
                // The runtime writes to the older one no more.
                if !self.drain(&mut current).await? {
                    return Ok(());
                }
                current = newer;
                continue;
            }
            if has_ended {
                return Ok(());
            }
            tokio::select! {
                _ = self.pieces.closed() => return Ok(()),
                () = changes::next(self.changes.as_ref()) => {}
                () = tokio::time::sleep_until(ask_at) => {
                    has_ended = !alive.runs().await;
                    ask_at = Instant::now() + QUIET;
                }
            }
        }
    }

    /// Sends what there is to the end of the file. False when nobody wants more.
    async fn drain(&mut self, file: &mut tokio::fs::File) -> std::io::Result<bool> {
        let mut buffer = vec![0; PIECE];
        loop {
            let count = file.read(&mut buffer).await?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(true) };
            self.read += bytes.len() as u64;
            let text = self.lines.feed(bytes);
            if !text.is_empty() && self.pieces.send(Bytes::from(text)).await.is_err() {
                return Ok(false);
            }
            if self.lines.is_full() {
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
#[path = "logs/follow_tests.rs"]
mod follow_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(attempt: u32, state: State, exit_code: i32) -> Instance {
        Instance {
            id: attempt.to_string(),
            name: "c".into(),
            sandbox: String::new(),
            attempt,
            state,
            created: 0,
            started: 0,
            finished: 0,
            exit_code,
            reason: String::new(),
            message: String::new(),
            image: String::new(),
            image_ref: String::new(),
            spec_image: None,
            log_path: String::new(),
            pre_stop: None,
            ports: None,
        }
    }

    fn pod(policy: &str) -> Pod {
        let waiting = json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff"}}});
        serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {"restartPolicy": policy, "containers": [{"name": "c"}]},
            "status": {"containerStatuses": [waiting]}
        }))
        .unwrap()
    }

    #[test]
    fn a_crashed_run_is_the_previous_one_only_if_another_follows() {
        let (running, crashed) = (run(2, State::Running, 0), run(1, State::Exited, 1));
        let id = |chosen: Option<&Instance>| chosen.map(|run| run.attempt);
        assert_eq!(id(previous_run(&pod("Always"), &[&running, &crashed])), Some(1));
        assert_eq!(id(previous_run(&pod("Always"), &[&crashed])), Some(1));
        assert_eq!(id(previous_run(&pod("OnFailure"), &[&crashed])), Some(1));
        assert_eq!(id(previous_run(&pod("Never"), &[&crashed])), None);
        assert_eq!(id(previous_run(&pod("Always"), &[&running])), None);
        assert_eq!(id(newest_run(&[&run(3, State::Created, 0), &crashed])), Some(1));
    }

    #[test]
    fn what_a_container_waits_for_is_told() {
        assert_eq!(waiting_for(&pod("Always"), "c"), "trying and failing to pull image");
        assert_eq!(waiting_for(&pod("Always"), "other"), "ContainerCreating");
    }
}
