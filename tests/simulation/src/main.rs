//! `simulation [first] [count]`: more seeds than the tests run, or one again.

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (first, count) = (number(0)?, number(1000)?);
    for seed in first..first + count {
        simulation::run(seed).with_context(|| format!("seed {seed}"))?;
    }
    eprintln!("seeds {first} to {} keep every promise", first + count - 1);
    Ok(())
}
