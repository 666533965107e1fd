//! How soon a thread has its turn. Both are courtesies of the kernel: without them everything works as well.

use std::time::Duration;

/// A thread that wants so little time at once is let before one that wants more, as soon as it has work (Linux 6.12 and
/// later; others take no notice).
const SLICE: Duration = Duration::from_micros(200);

/// Work is short and somebody waits for it. To be called before threads are made: they take after the thread that makes
/// them.
pub fn prompt() {
    set(0, SLICE);
}

/// Work may be long and others go first; `nice` as in nice(1), more is less.
pub fn patient(nice: i32) {
    // Nothing asked for: what the kernel gives by itself, many times as much.
    set(nice, Duration::ZERO);
}

/// Of the calling thread.
fn set(nice: i32, slice: Duration) {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: u64::try_from(slice.as_nanos()).unwrap_or(0),
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads as many bytes as `size` says, which are those of the structure. 0 is the calling thread.
    #[allow(unsafe_code)]
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if answer != 0 && nice != 0 {
        // A sandbox that forbids the one may allow the other.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Niceness, and the slice asked for in nanoseconds, of the calling thread.
    fn now() -> (i32, u64) {
        let mut found = libc::sched_attr {
            size: 0,
            sched_policy: 0,
            sched_flags: 0,
            sched_nice: 0,
            sched_priority: 0,
            sched_runtime: 0,
            sched_deadline: 0,
            sched_period: 0,
        };
        let size = size_of::<libc::sched_attr>();
        // SAFETY: the kernel writes at most `size` bytes, which the structure has.
        #[allow(unsafe_code)]
        let answer = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut found, size, 0) };
        assert_eq!(answer, 0);
        (found.sched_nice, found.sched_runtime)
    }

    #[test]
    fn threads_take_after_the_thread_that_makes_them_until_they_say_otherwise() {
        let before = now();
        let slices_are_known = before.1 != 0;
        prompt();
        let wanted = if slices_are_known { SLICE.as_nanos() as u64 } else { 0 };
        assert_eq!(now(), (0, wanted));
        let (made, patient) = std::thread::spawn(|| {
            let made = now();
            patient(7);
            (made, now())
        })
        .join()
        .unwrap();
        assert_eq!(made, (0, wanted));
        assert_eq!(patient, (7, before.1));
    }
}
