//! keadm's commands, as an operator types them.

use std::time::Duration;

use anyhow::{Context, Result};
use harness::programs::Programs;
use harness::site::{IMAGE, NODE, Site};
use harness::wait;

#[test]
fn reset_takes_pods_files_and_processes_away_and_a_node_can_join_again() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let programs = Programs::find()?;
    let site = Site::start(&programs, true, |_| {})?;
    site.node_ready()?;
    site.apply_greeter()?;
    site.pod_running()?;
    // A pod that has ended has no process, and still a sandbox and a cgroup.
    let done = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "done", "namespace": "default"},
        "spec": {"nodeName": NODE, "restartPolicy": "Never", "hostNetwork": true,
            "containers": [{"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["true"]}]}});
    site.kubectl().apply(&done.to_string())?;
    wait::for_true("a pod that has ended", Duration::from_secs(60), || {
        Ok(site.kubectl().get("pod", "done")?["status"]["phase"] == "Succeeded")
    })?;
    let root = site.edge.root.to_string_lossy().into_owned();

    let again = programs.keadm(&["join", "-e", "127.0.0.1:1", "-t", &site.cloud.token()?, "--root", &root]);
    let error = format!("{:#}", again.err().context("joined twice")?);
    assert!(error.contains("has joined already"), "{error}");
    let unasked = programs.keadm(&["reset", "edge", "--root", &root]);
    assert!(unasked.is_err(), "reset without being asked");

    programs.keadm(&["reset", "edge", "--force", "--root", &root])?;
    assert!(site.edge.pid().is_err(), "EdgeCore still runs");
    assert!(!site.edge.root.join("etc/kubeedge").exists());
    wait::for_true("no container left", Duration::from_secs(30), || Ok(site.running_tasks()?.is_empty()))?;
    assert_eq!(
        site.ctr(&["-n", "k8s.io", "containers", "ls", "-q"])?.trim(),
        "",
        "ended containers and sandboxes are left"
    );

    // A node that lost everything joins under its old name and gets its pod again.
    let endpoint = site.containerd()?.socket();
    let socket = std::path::Path::new(endpoint.trim_start_matches("unix://"));
    let fresh = site.folder().join("edge again\\1");
    let doors = harness::edge::Doors {
        link: site.relay.address(),
        cert_port: site.cloud.cert_port,
        quic_port: site.cloud.quic_port,
        token: site.cloud.keadm(&["gettoken", "--existing-nodes"])?.trim().to_owned(),
    };
    let edge = harness::edge::Edge::join_at(&programs, &doors, "edge-1", &fresh, Some(socket), &[])?;
    wait::for_true("both containers run again", Duration::from_secs(60), || {
        Ok(site.running_tasks()?.len() == 3)
    })?;
    // Names that mountinfo escapes, and the cgroups of the pods, which no runtime removes.
    programs.keadm(&["reset", "edge", "--force", "--root", &fresh.to_string_lossy()])?;
    assert!(!fresh.join("var/lib/kubelet").exists(), "pods' folders are left");
    assert_eq!(harness::cgroups::folders(&edge.cgroup()), Vec::<std::path::PathBuf>::new());
    drop(edge);
    Ok(())
}

#[test]
fn a_mistake_in_a_flag_names_the_flag_and_changes_nothing() -> Result<()> {
    let programs = Programs::find()?;
    let folder = tempfile::tempdir()?;
    let root = folder.path().to_string_lossy().into_owned();
    for (arguments, named) in [
        (vec!["init", "--standalone", "--set", "modules.cloudHub.nodeLimits=7"], "nodeLimits"),
        (vec!["join", "-e", "nowhere", "-t", "x"], "--token"),
        (vec!["join", "-e", "a:1", "-t", "x", "-i", "Bad_Name"], "--edgenode-name"),
        (vec!["gettoken", "--kube-config", "/nonexistent/config"], "/nonexistent/config"),
    ] {
        let mut arguments = arguments.clone();
        arguments.extend(["--root", &root]);
        let error = format!("{:#}", programs.keadm(&arguments).err().context("accepted")?);
        assert!(error.contains(named), "{arguments:?}: {error}");
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0, "{arguments:?} left something behind");
    }
    assert!(programs.keadm(&["version", "-o", "short"])?.starts_with('v'));
    Ok(())
}
