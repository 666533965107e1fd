//! A thousand seeds that stay the same, and some that no run had before, in both dialects. Run one again with
//! `cargo run -p simulation -- SEED 1 native`, more with `-- FIRST COUNT native`.
#![allow(clippy::unwrap_used)]

use std::ops::Range;

use simulation::Dialect;

fn run(seeds: Range<u64>, dialect: Dialect) {
    let word = if dialect == Dialect::Native { "native" } else { "kubeedge" };
    for seed in seeds {
        if let Err(error) = simulation::run(seed, dialect) {
            panic!("seed {seed}: {error:#}\nonce more: cargo run -p simulation -- {seed} 1 {word}");
        }
    }
}

#[test]
fn seeds_0_to_249_keep_every_promise() {
    run(0..250, Dialect::Native);
}

#[test]
fn seeds_250_to_499_keep_every_promise() {
    run(250..500, Dialect::Native);
}

#[test]
fn seeds_500_to_749_keep_every_promise() {
    run(500..750, Dialect::Native);
}

#[test]
fn seeds_750_to_999_keep_every_promise() {
    run(750..1000, Dialect::Native);
}

#[test]
fn seeds_0_to_499_keep_every_promise_in_kubeedges_dialect() {
    run(0..500, Dialect::KubeEdge);
}

#[test]
fn seeds_500_to_999_keep_every_promise_in_kubeedges_dialect() {
    run(500..1000, Dialect::KubeEdge);
}

/// The acknowledgement of a removal was lost, and what was removed was wanted again: a record said that the node had it.
#[test]
fn a_seed_that_broke_a_promise_keeps_it() {
    run(802_836_798..802_836_799, Dialect::KubeEdge);
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
    run(base..base + COUNT, Dialect::Native);
    run(base..base + COUNT, Dialect::KubeEdge);
}
