//! The last words of a container: its termination message file, or the end of its log.

use cri::{labels, v1};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// What one container may say (spec/edge-runtime.md 5.5).
const MESSAGE_LIMIT: u64 = 4096;
const LOG_LIMIT: u64 = 2048;
const LOG_LINES: usize = 80;

/// The message of an exited container; the runtime's own message when it left none.
pub async fn message(status: &v1::ContainerStatus) -> String {
    let said = match said(status).await {
        Some(text) if !text.is_empty() => Some(text),
        _ if falls_back(status) => log_end(&status.log_path).await,
        _ => None,
    };
    match said {
        Some(text) if status.message.is_empty() => text,
        Some(text) => format!("{}: {text}", status.message),
        None => status.message.clone(),
    }
}

fn falls_back(status: &v1::ContainerStatus) -> bool {
    let policy = status.annotations.get(labels::TERMINATION_POLICY);
    status.exit_code != 0 && policy.is_some_and(|policy| policy == "FallbackToLogsOnError")
}

async fn said(status: &v1::ContainerStatus) -> Option<String> {
    let path = status.annotations.get(labels::TERMINATION_PATH)?;
    let mount = status.mounts.iter().find(|mount| mount.container_path == *path)?;
    let file = tokio::fs::File::open(&mount.host_path).await.ok()?;
    let mut bytes = Vec::new();
    file.take(MESSAGE_LIMIT).read_to_end(&mut bytes).await.ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

async fn log_end(path: &str) -> Option<String> {
    let mut file = tokio::fs::File::open(path).await.ok()?;
    // Each line carries some 40 bytes of time and stream name.
    let window = LOG_LIMIT + 40 * LOG_LINES as u64;
    let start = file.metadata().await.ok()?.len().saturating_sub(window);
    file.seek(std::io::SeekFrom::Start(start)).await.ok()?;
    let mut bytes = Vec::new();
    file.take(window).read_to_end(&mut bytes).await.ok()?;
    Some(last_lines(&String::from_utf8_lossy(&bytes), start > 0))
}

/// The texts of the last log lines, within the limit.
fn last_lines(log: &str, cut: bool) -> String {
    let texts: Vec<&str> =
        log.lines().skip(usize::from(cut)).filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    let mut size = 0;
    let fits = texts.iter().rev().take(LOG_LINES).take_while(|text| {
        size += text.len() as u64 + 1;
        size <= LOG_LIMIT
    });
    let count = fits.count();
    texts[texts.len() - count..].iter().map(|text| format!("{text}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_given_without_times_and_within_the_limit() {
        let log = "2026-11-21T00:00:00Z stdout F a b\n2026-11-21T00:00:01Z stderr F c\n";
        assert_eq!(last_lines(log, false), "a b\nc\n");
        assert_eq!(last_lines(log, true), "c\n");
        let long = format!("t stdout F {}\n", "x".repeat(100)).repeat(200);
        assert!(last_lines(&long, false).len() as u64 <= LOG_LIMIT);
    }
}
