//! The demo's steps, asserted: a pod and a device from kubectl to the edge, a cut, and convergence.

use anyhow::{Context, Result};
use harness::programs::Programs;
use harness::site::{NODE, Site};
use harness::wait;
use harness::wait::PATIENCE;

#[test]
fn a_pod_and_a_device_go_from_kubectl_to_the_edge_and_back_over_a_link_that_fails() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let mut site = Site::start(&Programs::find()?, true, |_| {})?;
    site.node_ready()?;
    site.apply_greeter()?;
    let before = site.pod_running()?;
    site.log_line("hello from the cloud, badge 4711")?;

    site.start_thermometer()?;
    site.apply_thermometer()?;
    let temperature = site.wait_reported("temperature", |value| !value.is_empty())?;
    temperature.parse::<f64>().context("the temperature is a number")?;
    site.wait_reported("threshold", |value| value.starts_with("30"))?;
    site.set_threshold("25")?;
    site.wait_reported("threshold", |value| value.starts_with("25"))?;
    wait::for_true("the device is online", PATIENCE, || {
        Ok(site.kubectl().field("devicestatus", "thermometer", ".status.state")? == "online")
    })?;
    kubectl_shows_it_all(&site)?;

    site.relay.cut();
    site.set_greeting("hello again")?;
    let victim =
        before.iter().find(|container| container.name == "greeter").context("no container greeter")?;
    site.kill_container(&victim.id)?;
    wait::for_true("the killed container runs again while cut off", PATIENCE, || {
        let tasks = site.running_tasks()?;
        Ok(tasks.len() == 3 && !tasks.iter().any(|task| victim.id.ends_with(task.as_str())))
    })?;
    assert!(site.log_line("hello")?.contains("hello from the cloud"), "the change arrived over a cut link");
    site.relay.heal();
    site.log_line("hello again")?;
    wait::for_true("the API knows of the restart", PATIENCE, || {
        Ok(site.pod_running()?.iter().any(|container| container.name == "greeter" && container.restarts == 1))
    })?;

    site.kubectl().run(&["delete", "device", "thermometer"])?;
    wait::for_true("DeviceStatus goes with its device", PATIENCE, || {
        Ok(site.kubectl().run(&["get", "devicestatuses", "-o", "name"])?.trim().is_empty())
    })?;

    let folder = site.folder().to_owned();
    drop(site);
    assert!(!folder.exists(), "{} was left behind", folder.display());
    Ok(())
}

/// What an operator types to look around.
fn kubectl_shows_it_all(site: &Site) -> Result<()> {
    let kubectl = site.kubectl();
    let table = kubectl.run(&["get", "nodes,pods,devices", "-o", "wide"])?;
    for shown in [NODE, "Ready", "greeter", "2/2", "Running", "thermometer", "containerd://"] {
        assert!(table.contains(shown), "{shown:?} is not in\n{table}");
    }
    let described = kubectl.run(&["describe", "pod", "greeter"])?;
    assert!(described.contains("causeway.local/busybox:1"), "{described}");
    assert!(kubectl.run(&["describe", "node", NODE])?.contains("KubeletReady"));
    assert!(kubectl.run(&["describe", "device", "thermometer"])?.contains("virtual"));
    Ok(())
}
