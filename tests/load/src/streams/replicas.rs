//! Commands, logs and files of a node asked of each of two CloudCores, of which one alone holds the node's session.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use harness::memory;
use harness::pair::Pair;
use harness::programs::Programs;
use harness::site::{IMAGE, NODE};
use harness::wait;
use pki::tls::LiveClient;
use serde_json::json;
use tokio_rustls::TlsConnector;

use super::sessions::{self, WARM_UP};
use super::{PATIENCE, Way};
use crate::result::{Results, rounded};

/// Lines of the log, and of the file.
const LINES: usize = 5_000;

#[derive(clap::Args, Clone)]
pub(crate) struct Flags {
    /// Folder with the programs to measure.
    #[arg(long)]
    programs: PathBuf,
    /// Tries at each CloudCore.
    #[arg(long, default_value_t = 1000)]
    tries: usize,
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let pair = Pair::start(&Programs::in_folder(&flags.programs)?, &[], false)?;
    let script = format!("seq 1 {LINES} | tee /file; sleep 1000000");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bench"}, "spec": {
        "nodeName": NODE, "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": IMAGE, "command": ["sh", "-c", script]}]}});
    pair.kubectl.apply(&pod.to_string())?;
    let lines: String = (1..=LINES).map(|line| format!("{line}\n")).collect();
    wait::for_true("the pod has said all", PATIENCE, || {
        Ok(pair.kubectl.run(&["logs", "bench"]).is_ok_and(|log| log == lines))
    })?;
    let ways = [way(&pair, 0)?, way(&pair, 1)?].map(Arc::new);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut results = Results::default();
    runtime.block_on(measure(flags, &pair, &ways, &lines, &mut results))?;
    results.print();
    Ok(())
}

/// The stream server of a replica, asked as an API server asks.
fn way(pair: &Pair, replica: usize) -> Result<Way> {
    let read = |path: PathBuf| std::fs::read(&path).with_context(|| format!("reading {}", path.display()));
    let [certificate, key] = pair.administrator()?;
    let trust = pki::Bundle::from_pem(&read(pair.ca())?)?;
    let identity = pki::Identity::from_pem(&read(certificate)?, &read(key)?)?;
    let client = LiveClient::new(&trust, Some(&identity))?;
    let address = format!("127.0.0.1:{}", pair.ports[replica]);
    Ok(Way::Server { address, tls: TlsConnector::from(client.config()) })
}

async fn measure(
    flags: &Flags,
    pair: &Pair,
    ways: &[Arc<Way>; 2],
    lines: &str,
    results: &mut Results,
) -> Result<()> {
    let expected = sessions::Expected { lines: Some(Arc::new(lines.to_owned())) };
    let pids = || -> Result<[i32; 3]> {
        Ok([pair.replicas[0].program.pid()?, pair.replicas[1].program.pid()?, pair.edge.pid()?])
    };
    for way in ways {
        sessions::all(WARM_UP, way, &expected).await?;
    }
    let before = resident(pids()?).await?;
    let mut wrong = [0, 0];
    for (way, wrong) in ways.iter().zip(&mut wrong) {
        *wrong = sessions::all(flags.tries, way, &expected).await?;
    }
    let after = resident(pids()?).await?;
    results.add("tries", "commands, logs and files asked of each CloudCore", flags.tries);
    results.add("wrong_a", "of them with other bytes or another exit code, at the first", wrong[0]);
    results.add("wrong_b", "at the second", wrong[1]);
    let ratio = |at: usize| rounded(after[at] as f64 / before[at] as f64);
    results.add("cloud_a_ratio", "the first CloudCore's memory afterwards, against before", ratio(0));
    results.add("cloud_b_ratio", "the second's", ratio(1));
    results.add("edge_ratio", "EdgeCore's", ratio(2));
    Ok(())
}

async fn resident(pids: [i32; 3]) -> Result<Vec<u64>> {
    tokio::time::sleep(sessions::REST).await;
    pids.into_iter().map(memory::median_kb).collect()
}
