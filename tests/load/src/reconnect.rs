//! CloudCore is killed and started again: how long until the edge is served, from the moment the port listens.

use std::time::Duration;

use anyhow::Result;

use crate::edge::Edge;
use crate::ground::Ground;
use crate::result::{Results, percentile, rounded};
use crate::{Common, objects};

const ROUNDS: usize = 20;
/// How long CloudCore stays away, by round: restarts and short outages.
const AWAY: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(8)];

pub(crate) async fn run(common: &Common) -> Result<()> {
    let mut ground = Ground::start(common, 1).await?;
    let names = vec!["load-0".to_owned()];
    let wanted = vec![
        objects::node("edge-1"),
        objects::config_map("load-0", "0"),
        objects::pod("reader", "edge-1", &names),
    ];
    objects::ensure_all(&ground.cluster, wanted).await?;
    let edge = Edge::start(common, &ground, "edge-1", &ground.server()).await?;
    let seen = edge.open().await?;
    seen.wait_for(&names).await?;

    let mut samples = Vec::new();
    for round in 0..ROUNDS {
        ground.kill_cloud()?;
        // What the edge misses is what shows that it is served again.
        let version = objects::patch(&ground.cluster, "load-0", &format!("round {round}")).await?;
        tokio::time::sleep(AWAY[round % AWAY.len()]).await;
        ground.start_cloud().await?;
        let listening = harness::wait::now();
        while seen.version("load-0")?.as_deref() != Some(version.as_str()) {
            anyhow::ensure!(listening.elapsed() < Duration::from_secs(60), "the edge does not come back");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        samples.push(listening.elapsed().as_secs_f64() * 1000.0);
    }
    let mut results = Results::default();
    results.add(
        "p50_ms",
        "port listens -> missed change committed, median (ms)",
        rounded(percentile(&mut samples, 50.0)),
    );
    results.add(
        "max_ms",
        "port listens -> missed change committed, longest (ms)",
        rounded(percentile(&mut samples, 100.0)),
    );
    results.add("rounds", "rounds", ROUNDS);
    results.print();
    Ok(())
}
