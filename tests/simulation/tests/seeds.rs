//! A thousand seeds that stay the same, and some that no run had before. Run one again with
//! `cargo run -p simulation -- SEED 1`, more with `-- FIRST COUNT`.
#![allow(clippy::unwrap_used)]

use std::ops::Range;

fn run(seeds: Range<u64>) {
    for seed in seeds {
        if let Err(error) = simulation::run(seed) {
            panic!("seed {seed}: {error:#}\nonce more: cargo run -p simulation -- {seed} 1");
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

/// Where fresh seeds begin: far from those above, and a number that is easily typed.
const FRESH: Range<u64> = 1_000_000..1_000_000_000;

/// How many a run takes.
const COUNT: u64 = 250;

/// The base is printed when the test fails, and by `cargo nextest run -p simulation --success-output final`. The same base
/// again: `CAUSEWAY_SIMULATION_BASE=NUMBER`.
#[test]
fn fresh_seeds_keep_every_promise() {
    let base = match std::env::var("CAUSEWAY_SIMULATION_BASE") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("CAUSEWAY_SIMULATION_BASE={text:?} is no number")),
        Err(_) => rand::random_range(FRESH),
    };
    eprintln!("fresh seeds {base} to {}", base + COUNT - 1);
    run(base..base + COUNT);
}
