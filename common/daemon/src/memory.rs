//! Memory that was freed goes back to the kernel when the work that needed it is over: glibc keeps what lies between
//! blocks in use, which after a thousand handshakes is as much again as what they left.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The work is over when there was none for this long.
const QUIET: Duration = Duration::from_secs(5);
/// The longest wait for work without an end.
const LONGEST: Duration = Duration::from_secs(60);
/// The least time between two returns: work that ends later is seen within it.
const REST: Duration = Duration::from_secs(15);
/// Blocks of this many bytes and more are mapped each for itself, and are gone as soon as they are freed.
#[cfg(target_env = "gnu")]
const APART: libc::c_int = 64 * 1024;

/// Notes work that used much memory. Clones belong together.
#[derive(Clone, Default)]
pub struct HeapTrimmer(Arc<Notify>);

impl HeapTrimmer {
    /// Work was done.
    pub fn note(&self) {
        self.0.notify_one();
    }

    /// Gives memory back after every spell of work, until stopped.
    pub async fn give_back(self, stop: CancellationToken) {
        let worked = async {
            loop {
                self.0.notified().await;
                let over = async { while tokio::time::timeout(QUIET, self.0.notified()).await.is_ok() {} };
                let _ = tokio::time::timeout(LONGEST, over).await;
                // It takes the allocator's locks, a few milliseconds on a large heap.
                let _ = tokio::task::spawn_blocking(trim).await;
                tokio::time::sleep(REST).await;
            }
        };
        tokio::select! {
            biased;
            _ = stop.cancelled() => {}
            _ = worked => {}
        }
    }
}

/// Keeps large blocks apart from small ones, which would hold their memory after they were freed. glibc would raise
/// the size it starts at with the largest block it has seen. To be called before threads are made.
#[cfg(target_env = "gnu")]
pub fn keep_large_blocks_apart() {
    // SAFETY: mallopt takes two numbers and may be called at any time.
    #[allow(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, APART);
    }
}

/// Other allocators do so by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn keep_large_blocks_apart() {}

/// Threads take from `each` heaps for each core: fewer keep less, more let threads allocate at the same time. glibc makes up to
/// eight of them, and every one keeps what it does not use: after a flood of handshakes or messages these hold seven times what
/// is in use. For programs with many threads. To be called before threads are made.
#[cfg(target_env = "gnu")]
pub fn keep_heaps_few(each: usize) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let heaps = libc::c_int::try_from(cores * each).unwrap_or(libc::c_int::MAX);
    // SAFETY: mallopt takes two numbers and may be called at any time.
    #[allow(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, heaps);
    }
}

/// Other allocators have no such heaps.
#[cfg(not(target_env = "gnu"))]
pub fn keep_heaps_few(_: usize) {}

/// For `GLIBC_TUNABLES`, which glibc reads when a program starts: one heap, and no freed blocks kept back for each thread.
#[cfg(target_env = "gnu")]
const TUNABLES: &str = "glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0";

/// Makes all threads take from one heap that keeps nothing back for them. By itself glibc gives each thread a heap, and seven
/// freed blocks of each size: these lie all over the heap, and their pages stay after a flood of messages is over, as much
/// as a tenth of a small program. For programs whose threads seldom allocate at the same time.
///
/// The allocator can be told so only at the start, therefore the program is executed once more, with its arguments, as the
/// same process. To be called before anything is opened. It returns in the second run, and if `GLIBC_TUNABLES` already says
/// how many blocks to keep.
///
/// # Errors
/// The program's file is gone or may not be executed; the program can go on, and takes more memory.
#[cfg(target_env = "gnu")]
pub fn share_one_heap() -> std::io::Result<()> {
    use std::os::unix::process::CommandExt;
    let given = std::env::var("GLIBC_TUNABLES").ok();
    let mut arguments = std::env::args_os();
    let (Some(tunables), Some(name)) = (tunables(given.as_deref()), arguments.next()) else { return Ok(()) };
    let program = std::env::current_exe()?;
    // Started by way of another program, such as the dynamic linker.
    if program.file_name() != std::path::Path::new(&name).file_name() {
        return Ok(());
    }
    let mut anew = std::process::Command::new(program);
    Err(anew.arg0(name).args(arguments).env("GLIBC_TUNABLES", tunables).exec())
}

/// Other allocators have no such heaps.
///
/// # Errors
/// None.
#[cfg(not(target_env = "gnu"))]
pub fn share_one_heap() -> std::io::Result<()> {
    Ok(())
}

/// What `GLIBC_TUNABLES` must be, if it is not so already.
#[cfg(target_env = "gnu")]
fn tunables(given: Option<&str>) -> Option<String> {
    match given {
        Some(given) if given.contains("glibc.malloc.tcache_count") => None,
        Some(given) if !given.is_empty() => Some(format!("{given}:{TUNABLES}")),
        _ => Some(TUNABLES.to_owned()),
    }
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: malloc_trim takes a number and may be called at any time from any thread.
    #[allow(unsafe_code)]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators give back by themselves.
#[cfg(not(target_env = "gnu"))]
fn trim() {}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn what_the_allocator_was_told_is_kept() {
        assert_eq!(tunables(None).as_deref(), Some(TUNABLES));
        assert_eq!(tunables(Some("")).as_deref(), Some(TUNABLES));
        let added = tunables(Some("glibc.malloc.perturb=7")).unwrap();
        assert_eq!(added, format!("glibc.malloc.perturb=7:{TUNABLES}"));
        assert_eq!(tunables(Some(&added)), None, "it would be started for ever");
        assert_eq!(tunables(Some("glibc.malloc.tcache_count=3")), None, "somebody wants it otherwise");
    }
}
