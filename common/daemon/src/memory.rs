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

/// Makes all threads take from one heap. glibc gives each its own, of which each keeps what it does not use: a tenth of what
/// a small program holds. For programs whose threads seldom allocate at the same time. To be called before threads are made.
#[cfg(target_env = "gnu")]
pub fn share_one_heap() {
    // SAFETY: mallopt takes two numbers and may be called at any time.
    #[allow(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Other allocators have no such heaps.
#[cfg(not(target_env = "gnu"))]
pub fn share_one_heap() {}

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
