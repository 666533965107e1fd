//! How soon a thread has its turn. Both are courtesies of the kernel: without them everything works as well.

use std::time::Duration;

/// A thread that wants so little time at once is let before one that wants more, as soon as it has work (Linux 6.12 and
/// later; others take no notice).
const SLICE: Duration = Duration::from_micros(200);

/// Work is short and somebody waits for it. To be called before threads are made: they take after the thread that makes
/// them. A niceness or a policy that the operator gave stays.
pub fn prompt() {
    if let Some(now) = attributes().filter(|now| now.sched_policy == libc::SCHED_OTHER as u32) {
        set(now.sched_nice, SLICE);
    }
}

/// Work may be long and others go first; `nice` as in nice(1), more is less.
pub fn patient(nice: i32) {
    // Nothing asked for: what the kernel gives by itself, many times as much.
    if !set(nice, Duration::ZERO) {
        // A sandbox that forbids the one may allow the other.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice);
    }
}

const NONE: libc::sched_attr = libc::sched_attr {
    size: size_of::<libc::sched_attr>() as u32,
    sched_policy: libc::SCHED_OTHER as u32,
    sched_flags: 0,
    sched_nice: 0,
    sched_priority: 0,
    sched_runtime: 0,
    sched_deadline: 0,
    sched_period: 0,
};

/// Of the calling thread (sched_getattr(2)); `None` if the kernel does not say.
fn attributes() -> Option<libc::sched_attr> {
    let mut found = NONE;
    // SAFETY: the kernel writes at most `size` bytes, which are those of the structure. 0 is the calling thread.
    #[allow(unsafe_code)]
    let answer = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut found, found.size, 0) };
    (answer == 0).then_some(found)
}

/// Of the calling thread; false if the kernel refuses.
fn set(nice: i32, slice: Duration) -> bool {
    let wanted = libc::sched_attr {
        sched_nice: nice,
        sched_runtime: u64::try_from(slice.as_nanos()).unwrap_or(0),
        ..NONE
    };
    // SAFETY: the kernel reads as many bytes as `size` says, which are those of the structure. 0 is the calling thread.
    #[allow(unsafe_code)]
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) };
    answer == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Niceness, and the slice asked for in nanoseconds, of the calling thread.
    fn now() -> (i32, u64) {
        attributes().map(|found| (found.sched_nice, found.sched_runtime)).unwrap()
    }

    #[test]
    fn threads_take_after_the_thread_that_makes_them_until_they_say_otherwise() {
        let (nice, kernels) = now();
        prompt();
        // Kernels before 6.12 know no slices, and say 0.
        let wanted = (nice, if kernels == 0 { 0 } else { SLICE.as_nanos() as u64 });
        assert_eq!(now(), wanted);
        let other = move || {
            let made = now();
            patient(nice + 2);
            (made, now())
        };
        assert_eq!(std::thread::spawn(other).join().unwrap(), (wanted, (nice + 2, kernels)));
    }

    #[test]
    fn what_the_operator_gave_stays() {
        let given = || {
            patient(now().0 + 1);
            let before = now();
            prompt();
            (before.0, now().0)
        };
        let (before, after) = std::thread::spawn(given).join().unwrap();
        assert_eq!(before, after);
    }
}
