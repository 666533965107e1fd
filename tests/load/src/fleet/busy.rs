//! One edge gets hundreds of updates at once; a bystander must not feel it.

use anyhow::Result;

use super::bystander::Bystander;
use super::{Worker, wait_text};
use crate::ground::Ground;
use crate::objects;
use crate::result::{Results, rounded};
use crate::workers::node_name;

/// Config maps of the busy edge, all changed in one burst.
const UPDATES: usize = 500;
/// Bursts, one after the other: one alone is over before the bystander was asked often.
const BURSTS: usize = 5;

pub(super) async fn run(
    ground: &Ground,
    workers: &mut [Worker],
    bystander: &Bystander,
    results: &mut Results,
) -> Result<()> {
    println!("{UPDATES} updates to one edge, {BURSTS} times");
    let names: Vec<String> = (0..UPDATES).map(|number| format!("busy-{number}")).collect();
    let mut wanted: Vec<_> = names.iter().map(|name| objects::config_map(name, "busy")).collect();
    wanted.push(objects::pod("busy", &node_name(0), &names));
    objects::ensure_all(&ground.cluster, wanted).await?;
    wait_text(workers, "busy", UPDATES, harness::wait::now()).await?;
    let samples = bystander.watch();
    // Of the longest burst.
    let (mut longest, mut api): (f64, f64) = (0.0, 0.0);
    for burst in 0..BURSTS {
        let text = format!("busy-{burst}");
        let began = harness::wait::now();
        objects::patch_all(&ground.cluster, &names, &text).await?;
        let answered = began.elapsed().as_secs_f64();
        wait_text(workers, &text, UPDATES, began).await?;
        let committed = began.elapsed().as_secs_f64();
        if committed > longest {
            (longest, api) = (committed, answered);
        }
    }
    let meanwhile = samples.finish().await?;
    results.add("busy_api_s", "500 updates to one edge: the API server's time (s)", rounded(api));
    results.add("busy_s", "500 updates to one edge: all committed (s)", rounded(longest));
    results.add("busy_bystander_p99_ms", "a bystander's update meanwhile, p99 (ms)", rounded(meanwhile.p99));
    results.add(
        "busy_bystander_p50_ms",
        "a bystander's update meanwhile, median (ms)",
        rounded(meanwhile.p50),
    );
    results.add("busy_bystander_samples", "updates of the bystander", meanwhile.count);
    Ok(())
}
