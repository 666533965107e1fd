//! One change at a time: from sending the PATCH until it is committed in the edge's SQLite.

use std::time::Duration;

use anyhow::Result;

use crate::edge::Edge;
use crate::ground::{Ground, cpu_ms};
use crate::result::{Results, percentile, rounded};
use crate::{Common, objects};

const CHANGES: usize = 1000;
/// How often the database is looked at.
const LOOK: Duration = Duration::from_micros(100);

pub(crate) async fn run(common: &Common) -> Result<()> {
    let ground = Ground::start(common, 1).await?;
    let names: Vec<String> = (0..10).map(|n| format!("load-{n}")).collect();
    let mut wanted = vec![objects::node("edge-1")];
    wanted.extend(names.iter().map(|name| objects::config_map(name, "0")));
    wanted.push(objects::pod("reader", "edge-1", &names));
    objects::ensure_all(&ground.cluster, wanted).await?;
    let edge = Edge::start(common, &ground, "edge-1", &ground.server()).await?;
    let seen = edge.open().await?;
    seen.wait_for(&names).await?;

    let (mut committed, mut api) = (Vec::new(), Vec::new());
    let before = cpu_ms(edge.pid()?)?;
    for change in 0..CHANGES {
        let name = &names[change % names.len()];
        let began = harness::wait::now();
        let version = objects::patch(&ground.cluster, name, &format!("change {change}")).await?;
        api.push(began.elapsed().as_secs_f64() * 1000.0);
        while seen.version(name)?.as_deref() != Some(version.as_str()) {
            anyhow::ensure!(began.elapsed() < Duration::from_secs(30), "change {change} does not arrive");
            tokio::time::sleep(LOOK).await;
        }
        committed.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    let cpu = cpu_ms(edge.pid()?)? - before;
    let mut results = Results::default();
    results.add(
        "p50_ms",
        "PATCH sent -> committed at the edge, median (ms)",
        rounded(percentile(&mut committed, 50.0)),
    );
    results.add(
        "p99_ms",
        "PATCH sent -> committed at the edge, p99 (ms)",
        rounded(percentile(&mut committed, 99.0)),
    );
    results.add("api_p50_ms", "of it the API call, median (ms)", rounded(percentile(&mut api, 50.0)));
    results.add("api_p99_ms", "of it the API call, p99 (ms)", rounded(percentile(&mut api, 99.0)));
    results.add("edge_cpu_ms_per_1000", "CPU of EdgeCore (ms)", rounded(cpu * 1000.0 / CHANGES as f64));
    results.print();
    Ok(())
}
