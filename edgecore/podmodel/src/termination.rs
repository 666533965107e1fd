//! The last words of a container: the end of its termination message file, or of its log.

use std::path::PathBuf;

use cri::{labels, v1};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::opening;

/// What one container may say (docs/protocol/edge-runtime.md 5.5).
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
    let path = PathBuf::from(&mount.host_path);
    let file = daemon::blocking(move || opening::last_words(&path)).await.ok()?;
    let (text, _) = end_of(file, MESSAGE_LIMIT).await?;
    Some(text)
}

/// The last bytes of a file, and whether there are more before them.
async fn end_of(file: std::fs::File, bytes: u64) -> Option<(String, bool)> {
    let mut file = tokio::fs::File::from_std(file);
    let start = file.metadata().await.ok()?.len().saturating_sub(bytes);
    file.seek(std::io::SeekFrom::Start(start)).await.ok()?;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text).await.ok()?;
    Some((String::from_utf8_lossy(&text).into_owned(), start > 0))
}

async fn log_end(path: &str) -> Option<String> {
    let path = PathBuf::from(path);
    let file = daemon::blocking(move || opening::log(&path)).await.ok()?;
    // Each line carries some 40 bytes of time and stream name.
    let window = LOG_LIMIT + 40 * LOG_LINES as u64;
    let (text, is_cut) = end_of(file, window).await?;
    Some(last_lines(&text, is_cut))
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

    #[tokio::test]
    async fn a_message_is_the_end_of_its_file_and_links_have_none() {
        let folder = tempfile::tempdir().unwrap();
        let status = |name: &str| v1::ContainerStatus {
            annotations: [(labels::TERMINATION_PATH.to_owned(), "/dev/termination-log".to_owned())].into(),
            mounts: vec![v1::Mount {
                container_path: "/dev/termination-log".to_owned(),
                host_path: folder.path().join(name).to_string_lossy().into_owned(),
                ..v1::Mount::default()
            }],
            ..v1::ContainerStatus::default()
        };
        std::fs::write(folder.path().join("0"), format!("begin{}end", ".".repeat(5000))).unwrap();
        std::os::unix::fs::symlink(folder.path().join("0"), folder.path().join("1")).unwrap();
        let told = message(&status("0")).await;
        assert!(told.len() == 4096 && told.ends_with("..end"), "{} bytes", told.len());
        assert_eq!(message(&status("1")).await, "");
    }

    #[test]
    fn the_end_of_a_log_is_given_without_times_and_within_the_limit() {
        let log = "2026-11-21T00:00:00Z stdout F a b\n2026-11-21T00:00:01Z stderr F c\n";
        assert_eq!(last_lines(log, false), "a b\nc\n");
        assert_eq!(last_lines(log, true), "c\n");
        let long = format!("t stdout F {}\n", "x".repeat(100)).repeat(200);
        assert!(last_lines(&long, false).len() as u64 <= LOG_LIMIT);
    }
}
