//! The pod survives what edges live through.

use std::time::Duration;

use anyhow::Result;
use harness::programs::Programs;
use harness::site::{IMAGE, NODE, Site};
use harness::wait;
use harness::wait::PATIENCE;
use serde_json::json;

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

/// The node's database is lost while the cloud goes on: what the cloud serves tells that the pod has ended.
#[test]
fn a_pod_that_has_ended_never_runs_again_although_the_nodes_database_is_lost() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let site = Site::start(&Programs::find()?, true, |_| {})?;
    site.node_ready()?;
    let written = site.folder().join("written");
    for (name, policy, script, phase) in [
        ("once", "Never", "echo once >> /out/runs", "Succeeded"),
        ("failed", "Never", "echo failed >> /out/runs; exit 3", "Failed"),
        ("done", "OnFailure", "echo done >> /out/runs", "Succeeded"),
    ] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"nodeName": NODE, "restartPolicy": policy,
                "containers": [{"name": "c", "image": IMAGE, "command": ["sh", "-c", script],
                    "volumeMounts": [{"name": "out", "mountPath": "/out"}]}],
                "volumes": [{"name": "out", "hostPath": {"path": written, "type": "DirectoryOrCreate"}}]}});
        site.kubectl().apply(&pod.to_string())?;
        site.kubectl().run(&[
            "wait",
            &format!("pod/{name}"),
            "--timeout=60s",
            &format!("--for=jsonpath={{.status.phase}}={phase}"),
        ])?;
    }
    let runs = || -> Result<String> { Ok(std::fs::read_to_string(written.join("runs"))?) };
    assert_eq!(runs()?, "once\nfailed\ndone\n");

    site.edge.kill9()?;
    for end in ["", "-wal", "-shm"] {
        let mut file = site.edge.database().into_os_string();
        file.push(end);
        let _ = std::fs::remove_file(file);
    }
    site.edge.start()?;
    // A pod made after it is served after it, so those before have been looked at.
    site.apply_greeter()?;
    site.pod_running()?;
    assert_eq!(runs()?, "once\nfailed\ndone\n", "a pod that had ended ran again");
    for (name, phase) in [("once", "Succeeded"), ("failed", "Failed"), ("done", "Succeeded")] {
        assert_eq!(site.kubectl().field("pod", name, ".status.phase")?, phase, "{name}");
    }
    Ok(())
}

fn running(site: &Site, id: &str) -> bool {
    site.running_tasks().is_ok_and(|tasks| tasks.iter().any(|task| id.ends_with(task.as_str())))
}
