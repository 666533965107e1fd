//! Alone in its file, and so in its process: it measures what the process holds.
#![cfg(target_env = "gnu")]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use daemon::memory::HeapTrimmer;
use tokio_util::sync::CancellationToken;

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_lies_between_blocks_in_use_is_given_back_when_the_work_is_over() {
    const BLOCKS: usize = 16 * 1024;
    let (spare, stop) = (HeapTrimmer::default(), CancellationToken::new());
    let task = tokio::spawn(spare.clone().give_back(stop.clone()));
    let mut blocks: Vec<Vec<u8>> = (0..BLOCKS).map(|_| vec![1; 4096]).collect();
    let full = resident_kb();
    for (number, block) in blocks.iter_mut().enumerate() {
        if number % 16 != 0 {
            *block = Vec::new();
        }
    }
    spare.note();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let after = resident_kb();
    assert!(after + 30_000 < full, "{full} KiB before, {after} KiB after");
    stop.cancel();
    task.await.unwrap();
}
