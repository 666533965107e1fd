//! Attackers have a core of their own, as they would have machines of their own: what an attack costs the attacked is
//! measured, not what it costs the attacker.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Leaves the last core to attackers and returns its number; `None` where there is only one core. To be called before
/// any thread is started: threads and programs started later inherit it.
pub fn leave_one() -> Option<usize> {
    let mut cores = sched_getaffinity(None).ok()?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|core| cores.is_set(*core))?;
    if cores.count() < 2 {
        return None;
    }
    cores.unset(last);
    sched_setaffinity(None, &cores).ok().map(|()| last)
}

/// Moves to one core. To be called before any thread is started.
pub fn move_to(core: usize) -> std::io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}
