//! Alone in its file, and so in its process: it counts the process's heaps.
#![cfg(target_env = "gnu")]
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Barrier};

/// Heaps of the allocator, by its own report.
fn heaps() -> usize {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report");
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: both texts end with a zero byte, and the file is open until it is closed here, once.
    #[allow(unsafe_code)]
    unsafe {
        let file = libc::fopen(name.as_ptr(), c"w".as_ptr());
        assert!(!file.is_null());
        assert_eq!(libc::malloc_info(0, file), 0);
        libc::fclose(file);
    }
    std::fs::read_to_string(path).unwrap().matches("<heap ").count()
}

#[test]
fn many_threads_have_as_many_heaps_as_there_are_cores() {
    daemon::memory::keep_heaps_few(1);
    let cores = std::thread::available_parallelism().unwrap().get();
    let count = 4 * cores + 8;
    let all = Arc::new(Barrier::new(count));
    let threads = (0..count).map(|number| {
        let all = all.clone();
        std::thread::spawn(move || {
            all.wait();
            let block = vec![number; 100];
            // All hold something before the first ends.
            all.wait();
            block.len()
        })
    });
    let threads: Vec<_> = threads.collect();
    assert_eq!(threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>(), 100 * count);
    let heaps = heaps();
    assert!(heaps <= cores + 1, "{heaps} heaps of {count} threads on {cores} cores");
}
