//! The pod survives what edges live through.

use std::time::Duration;

use anyhow::Result;
use harness::programs::Programs;
use harness::site::Site;
use harness::wait;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_pod_survives_a_cut_a_kill_of_edgecore_and_the_loss_of_its_containers_while_cut_off() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let site = Site::start(&Programs::find()?, true, |_| {})?;
    site.node_ready()?;
    site.apply_greeter()?;
    let first = site.pod_running()?;
    site.log_line("hello from the cloud, badge 4711")?;

    // The link goes: containers stay.
    site.relay.cut();
    wait::pause(Duration::from_secs(2));
    assert!(first.iter().all(|container| running(&site, &container.id)), "a cut link stopped a container");
    site.relay.heal();

    // EdgeCore dies and comes back: the same containers, by id, not restarted.
    site.edge.kill9()?;
    site.set_greeting("after the crash")?;
    site.edge.start()?;
    site.log_line("after the crash")?;
    let second = site.pod_running()?;
    assert_eq!(first, second);

    // EdgeCore dies while cut off and its containers vanish: all of it comes back from the database.
    site.relay.cut();
    site.edge.kill9()?;
    site.remove_all_containers()?;
    site.edge.start()?;
    wait::for_true("sandbox and both containers run again, offline", PATIENCE, || {
        Ok(site.running_tasks()?.len() == 3)
    })?;
    assert!(std::fs::read_to_string(site.edge.log())?.contains("cloud not reachable"));
    site.relay.heal();
    let third = wait::until("the cloud knows the new containers", PATIENCE, || {
        let now = site.pod_running()?;
        Ok(now.iter().zip(&second).all(|(new, old)| new.id != old.id).then_some(now))
    })?;
    assert_eq!(third.len(), 2);

    // Deleted with kubectl: gone from the API and from the runtime.
    site.kubectl().run(&["delete", "pod", "greeter", "--timeout=60s"])?;
    wait::for_true("no container left", PATIENCE, || Ok(site.running_tasks()?.is_empty()))?;
    Ok(())
}

fn running(site: &Site, id: &str) -> bool {
    site.running_tasks().is_ok_and(|tasks| tasks.iter().any(|task| id.ends_with(task.as_str())))
}
