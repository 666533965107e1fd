//! A thousand seeds. Run one again with `cargo run -p simulation -- SEED 1`, more with `-- FIRST COUNT`.
#![allow(clippy::unwrap_used)]

fn run(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Err(error) = simulation::run(seed) {
            panic!("seed {seed}: {error:#}");
        }
    }
}

#[test]
fn seeds_0_to_249_keep_every_promise() {
    run(0..250);
}

#[test]
fn seeds_250_to_499_keep_every_promise() {
    run(250..500);
}

#[test]
fn seeds_500_to_749_keep_every_promise() {
    run(500..750);
}

#[test]
fn seeds_750_to_999_keep_every_promise() {
    run(750..1000);
}
