//! Programs that run in the background, found by their pid files.

use std::path::Path;

/// The pid in `file`, if a process of program `name` has it and has not begun to end.
pub fn running(file: &Path, name: &str) -> Option<i32> {
    let pid: i32 = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
    // The link, not the name in `comm`: that one changes a moment after the program has started.
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let exe = exe.file_name()?.to_string_lossy().into_owned();
    (exe.trim_end_matches(" (deleted)") == name).then_some(pid)
}

/// True once the process has given back its ports, locks and files. A process that ends loses its memory, and so the
/// link to its program, before it closes its files: [`running`] is none too early for who wants to start it anew.
pub fn has_ended(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| is_over(&stat))
}

/// Reads `/proc/PID/stat` (proc(5)): a zombie none of whose threads is left has closed everything. The name, field 2,
/// may hold spaces and brackets.
fn is_over(stat: &str) -> bool {
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let state = fields.next();
    // Field 20 by the manual's count; the state is field 3.
    let threads = fields.nth(16).and_then(|threads| threads.parse().ok()).unwrap_or(0);
    state == Some("X") || (state == Some("Z") && threads <= 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_over_when_none_of_its_threads_is_left() {
        let stat = |state: &str, threads: u32| {
            format!("7 (a) b) {state} 1 7 7 0 -1 4194560 9 0 0 0 1 2 0 0 20 0 {threads} 0 99 0 0 184467")
        };
        assert!(!is_over(&stat("S", 3)));
        assert!(!is_over(&stat("Z", 2)), "its first thread ended, another still closes its files");
        assert!(is_over(&stat("Z", 1)));
        assert!(is_over(&stat("X", 0)));
    }

    #[test]
    fn this_process_runs_and_a_reaped_one_has_ended() {
        assert!(!has_ended(std::process::id().cast_signed()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(has_ended(child.id().cast_signed()));
    }
}
