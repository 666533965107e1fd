//! A thousand config maps of one node, changed as fast as the API server takes them.

use std::time::Duration;

use anyhow::Result;

use crate::edge::Edge;
use crate::ground::Ground;
use crate::result::{Results, rounded};
use crate::{Common, objects};

const CONFIG_MAPS: usize = 1000;

pub(crate) async fn run(common: &Common) -> Result<()> {
    let ground = Ground::start(common, 1).await?;
    let names: Vec<String> = (0..CONFIG_MAPS).map(|n| format!("load-{n}")).collect();
    let mut wanted = vec![objects::node("edge-1")];
    wanted.extend(names.iter().map(|name| objects::config_map(name, "0")));
    wanted.push(objects::pod("reader", "edge-1", &names));
    objects::ensure_all(&ground.cluster, wanted).await?;
    let edge = Edge::start(common, &ground, "edge-1", &ground.server()).await?;
    let seen = edge.open().await?;
    seen.wait_for(&names).await?;

    let began = harness::wait::now();
    objects::patch_all(&ground.cluster, &names, "changed").await?;
    let api = began.elapsed().as_secs_f64();
    while seen.count("changed")? < CONFIG_MAPS {
        anyhow::ensure!(began.elapsed() < Duration::from_secs(120), "the burst does not arrive");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let committed = began.elapsed().as_secs_f64();
    let mut results = Results::default();
    results.add("api_s", "until the API server took the last of 1,000 (s)", rounded(api));
    results.add("committed_s", "until the edge committed the last (s)", rounded(committed));
    results.add("link_s", "beyond the API server's own time (s)", rounded(committed - api));
    results.print();
    Ok(())
}
