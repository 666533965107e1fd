//! Both programs, under noise at every port and socket they listen on, serve on, and end within ten seconds of SIGTERM.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use daemon::process::has_ended;
use e2e::skip;
use harness::listening;
use harness::noise::{Endpoint, Open};
use harness::ports;
use harness::programs::Programs;
use harness::site::Site;
use harness::wait;
use harness::wait::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};

/// What a stop may take.
const STOP: Duration = Duration::from_secs(10);

async fn torment(endpoints: &[Endpoint]) -> Vec<Open> {
    let mut open = Vec::new();
    for endpoint in endpoints {
        open.push(endpoint.torment().await);
    }
    open
}

/// Where the process listens. EdgeCore binds its sockets aside and moves them to their place.
fn endpoints(pid: i32) -> Result<Vec<Endpoint>> {
    let in_place = |endpoint| match endpoint {
        Endpoint::Unix(path) => {
            let path = path.to_string_lossy();
            let place = path.strip_suffix(".new").or(path.strip_suffix(".d/s"));
            Endpoint::Unix(PathBuf::from(place.unwrap_or(&path)))
        }
        other => other,
    };
    Ok(listening::endpoints(pid)?.into_iter().map(in_place).collect())
}

/// How long the process `pid` took to end after SIGTERM.
fn stop(pid: i32) -> Result<Duration> {
    let start = wait::now();
    let process = Pid::from_raw(pid).ok_or_else(|| anyhow::anyhow!("pid 0"))?;
    kill_process(process, Signal::TERM)?;
    wait::for_true("the end of the program", PATIENCE, || Ok(has_ended(pid)))?;
    Ok(start.elapsed())
}

/// How many there are of each kind: TCP, UDP, Unix.
fn kinds(endpoints: &[Endpoint]) -> [usize; 3] {
    let count = |of: fn(&Endpoint) -> bool| endpoints.iter().filter(|endpoint| of(endpoint)).count();
    [
        count(|endpoint| matches!(endpoint, Endpoint::Tcp(_))),
        count(|endpoint| matches!(endpoint, Endpoint::Udp(_))),
        count(|endpoint| matches!(endpoint, Endpoint::Unix(_))),
    ]
}

#[test]
fn programs_under_noise_at_every_door_serve_on_and_end_in_time() -> Result<()> {
    if skip::without_containers() {
        return Ok(());
    }
    let programs = Programs::find()?;
    let monitor = format!("commonConfig.monitorServer.bindAddress=127.0.0.1:{}", ports::free()?);
    let site = Site::start_with(&programs, true, &[&monitor], |_| {})?;
    site.node_ready()?;
    wait::for_true("EdgeCore's DMI socket", PATIENCE, || Ok(site.edge.dmi_socket().exists()))?;
    let (cloud, edge) = (site.cloud.pid()?, site.edge.pid()?);
    let (of_cloud, of_edge) = (endpoints(cloud)?, endpoints(edge)?);
    println!("CloudCore: {of_cloud:?}\nEdgeCore: {of_edge:?}");
    // WebSocket, certificates, monitor and the embedded API; QUIC. Broker, monitor; mappers, the Node API, device plugins.
    let [tcp, udp, _] = kinds(&of_cloud);
    ensure!(tcp >= 4 && udp >= 1, "CloudCore listens on {of_cloud:?}");
    let [tcp, _, unix] = kinds(&of_edge);
    ensure!(tcp >= 2 && unix >= 3, "EdgeCore listens on {of_edge:?}");

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let open = runtime.block_on(async { (torment(&of_cloud).await, torment(&of_edge).await) });
    ensure!((site.cloud.pid()?, site.edge.pid()?) == (cloud, edge), "a program ended under noise");
    site.apply_greeter()?;
    site.pod_running()?;
    let (of_edge, of_cloud) = (stop(edge)?, stop(cloud)?);
    ensure!(of_edge <= STOP && of_cloud <= STOP, "EdgeCore took {of_edge:?}, CloudCore {of_cloud:?}");
    drop(open);
    Ok(())
}
