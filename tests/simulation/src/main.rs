//! `simulation [first] [count] [native|kubeedge]`: more seeds than the tests run, or one again.

use anyhow::{Context, Result, bail};
use simulation::Dialect;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (first, count) = (number(0)?, number(1000)?);
    let dialect = match arguments.next().as_deref() {
        None | Some("native") => Dialect::Native,
        Some("kubeedge") => Dialect::KubeEdge,
        Some(other) => bail!("{other:?} is neither native nor kubeedge"),
    };
    for seed in first..first + count {
        simulation::run(seed, dialect).with_context(|| format!("seed {seed}"))?;
    }
    eprintln!("seeds {first} to {} keep every promise", first + count - 1);
    Ok(())
}
