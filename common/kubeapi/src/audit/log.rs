//! The queue of lines, and the thread that writes them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use daemon::clock;
use serde_json::json;
use tokio::sync::mpsc;

use super::file::{Rotating, Settings};

/// Lines that wait to be written,
const LINES: usize = 4096;
/// and their bytes.
const BYTES: usize = 4 * 1024 * 1024;
/// Bytes written at once, at least, while more lines wait.
const BATCH: usize = 64 * 1024;
/// How long the last lines may take at the end.
const END: Duration = Duration::from_secs(3);

/// The log cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("opening the audit log {path}; its folder has to exist")]
pub struct OpenError {
    path: PathBuf,
    source: std::io::Error,
}

enum Line {
    Event(String),
    /// Nothing follows that has to be written.
    End,
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes in the queue.
    waiting: AtomicUsize,
    /// Lines that were not written, and not told of yet.
    lost: AtomicU64,
}

/// Takes lines. Clones lead to the same file.
#[derive(Clone, Debug)]
pub struct Log {
    lines: mpsc::Sender<Line>,
    counts: Arc<Counts>,
}

/// The thread that writes.
pub struct Writer {
    log: Log,
    thread: JoinHandle<()>,
}

/// Opens the file and starts the thread that writes it. Blocks.
///
/// # Errors
/// The file cannot be opened, or the thread not be started.
pub fn open(settings: Settings) -> Result<(Log, Writer), OpenError> {
    let path = settings.path.clone();
    let failed = |source| OpenError { path: path.clone(), source };
    let file = Rotating::open(settings).map_err(failed)?;
    let (log, lines) = queue();
    let counts = log.counts.clone();
    let thread = thread::Builder::new().name("audit-log".to_owned());
    let thread = thread.spawn(move || run(file, lines, &counts)).map_err(failed)?;
    Ok((log.clone(), Writer { log, thread }))
}

fn queue() -> (Log, mpsc::Receiver<Line>) {
    let (sender, lines) = mpsc::channel(LINES);
    (Log { lines: sender, counts: Arc::default() }, lines)
}

impl Log {
    /// Never waits: a line for which there is no room is counted instead.
    pub(crate) fn write(&self, line: String) {
        let length = line.len();
        let waiting = self.counts.waiting.fetch_add(length, Ordering::Relaxed);
        if waiting + length > BYTES || self.lines.try_send(Line::Event(line)).is_err() {
            self.counts.waiting.fetch_sub(length, Ordering::Relaxed);
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Writer {
    /// Writes what waits, and ends the thread; gives up after three seconds.
    pub async fn end(self) {
        let Writer { log, thread } = self;
        let ended = async {
            // Fails if the thread has ended.
            let _ = log.lines.send(Line::End).await;
            let joined = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
            if !joined.unwrap_or(false) {
                tracing::error!("the audit log's thread failed");
            }
        };
        if tokio::time::timeout(END, ended).await.is_err() {
            tracing::error!("the audit log's last lines were not written in time");
        }
    }
}

/// Lines that are written together.
struct Batch {
    file: Rotating,
    lines: String,
    count: u64,
}

impl Batch {
    fn add(&mut self, line: &str) {
        self.lines.push_str(line);
        self.lines.push('\n');
        self.count += 1;
    }

    /// Writes the lines, and how many were lost before them; those that cannot be written are lost.
    fn write(&mut self, counts: &Counts) {
        let lost = counts.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.lines.push_str(&lost_line(lost));
        }
        if let Err(error) = self.file.append(self.lines.as_bytes()) {
            tracing::error!(error = %error, count = self.count, "lines of the audit log were not written");
            counts.lost.fetch_add(lost + self.count, Ordering::Relaxed);
        }
        self.lines.clear();
        self.count = 0;
    }
}

fn run(file: Rotating, mut lines: mpsc::Receiver<Line>, counts: &Counts) {
    let mut batch = Batch { file, lines: String::new(), count: 0 };
    while let Some(line) = lines.blocking_recv() {
        match line {
            Line::Event(text) => {
                counts.waiting.fetch_sub(text.len(), Ordering::Relaxed);
                batch.add(&text);
            }
            Line::End => return batch.write(counts),
        }
        if lines.is_empty() || batch.lines.len() >= BATCH {
            batch.write(counts);
        }
    }
}

/// How many events are not in the log.
fn lost_line(lost: u64) -> String {
    let time = clock::rfc3339_micro(clock::now());
    let line =
        json!({"kind": "LostEvents", "apiVersion": "audit.causeway.io/v1", "count": lost, "timestamp": time});
    format!("{line}\n")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn read(path: &std::path::Path) -> Vec<Value> {
        std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted_and_the_count_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let (log, lines) = queue();
        // Nobody writes yet.
        (0..LINES + 7).for_each(|number| log.write(format!("{{\"number\":{number}}}")));
        let counts = log.counts.clone();
        let file = Rotating::open(Settings::at(path.clone())).unwrap();
        let thread = thread::spawn(move || run(file, lines, &counts));
        Writer { log, thread }.end().await;
        let written = read(&path);
        let lost: Vec<&Value> = written.iter().filter(|line| line["kind"] == "LostEvents").collect();
        assert_eq!((written.len(), lost.len()), (LINES + 1, 1));
        assert_eq!(lost[0]["count"], 7);
    }

    #[test]
    fn the_bytes_that_wait_are_limited_as_well() {
        let (log, _lines) = queue();
        (0..5).for_each(|_| log.write("x".repeat(BYTES / 4)));
        assert_eq!(log.counts.lost.load(Ordering::Relaxed), 1);
        assert_eq!(log.counts.waiting.load(Ordering::Relaxed), BYTES);
    }

    #[test]
    fn what_the_disk_does_not_take_is_told_once_it_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let settings = Settings { path: path.clone(), max_bytes: 1, backups: 1 };
        let file = Rotating::open(settings).unwrap();
        let (mut batch, counts) = (Batch { file, lines: String::new(), count: 0 }, Counts::default());
        batch.add("{\"number\":1}");
        batch.write(&counts);
        // The file is full and cannot be put aside.
        let aside = folder.path().join("audit.log.1");
        std::fs::create_dir(&aside).unwrap();
        batch.add("{\"number\":2}");
        batch.add("{\"number\":3}");
        batch.write(&counts);
        std::fs::remove_dir(&aside).unwrap();
        batch.add("{\"number\":4}");
        batch.write(&counts);
        assert_eq!(read(&aside)[0]["number"], 1);
        let written = read(&path);
        assert_eq!((&written[0]["number"], &written[1]["count"]), (&4.into(), &2.into()));
    }
}
