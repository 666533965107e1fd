//! Edges in raw WebSocket frames: one from before patches, one that is asked for volumes, one that asks for
//! what is not its own.

use anyhow::{Context, Result, ensure};
use e2e::go_edge::{GoEdge, Lab, NODE, message};
use harness::wait;
use harness::wait::PATIENCE;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

fn json_of(lab: &Lab, what: &[&str]) -> Result<Value> {
    let args = [&["get"], what, &["-o", "json", "--ignore-not-found"]].concat();
    let text = lab.cloud.kubectl().run(&args)?;
    Ok(if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text)? })
}

fn pod(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "none"}]}})
    .to_string()
}

fn status(phase: &str, state: &str) -> Value {
    json!({"phase": phase, "podIP": "10.0.0.7",
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": null}],
        "containerStatuses": [{"name": "c", "image": "none", "imageID": "", "restartCount": 0,
            "ready": false, "state": {state: {}}}]})
}

#[test]
fn an_edge_that_reports_whole_statuses_is_understood() -> Result<()> {
    let lab = Lab::start()?;
    lab.block_on(async {
        let mut edge = lab.connect().await?;
        let node = json!({"metadata": {"name": NODE, "labels": {"node-role.kubernetes.io/edge": ""}}});
        let resource = format!("default/nodestatus/{NODE}");
        for id in ["register", "again"] {
            let registered = edge.answer(&message(id, "meta", "insert", &resource, node.clone())).await?;
            ensure!(registered["content"] == "OK", "{registered}");
            ensure!(registered["route"]["resource"] == format!("default/node/{NODE}"), "{registered}");
        }
        let report = json!({"UID": NODE, "ExtendResources": {"example.com/camera": [{"name": "cam-1"}]},
            "Status": {"nodeInfo": {"architecture": "arm64"}, "conditions":
                [{"type": "Ready", "status": "True", "lastHeartbeatTime": "1970-01-01T00:00:00Z"}]}});
        let reported = edge.answer(&message("status", "meta", "update", &resource, report)).await?;
        ensure!(reported["content"] == "OK", "{reported}");
        let node = json_of(&lab, &["node", NODE])?;
        ensure!(node["status"]["nodeInfo"]["architecture"] == "arm64", "{node}");
        ensure!(node["metadata"]["annotations"]["example.com/camera"] == r#"[{"name":"cam-1"}]"#, "{node}");
        let heartbeat = node["status"]["conditions"][0]["lastHeartbeatTime"].as_str().unwrap_or_default();
        ensure!(heartbeat > "2026", "{node}");

        for name in ["one", "two"] {
            lab.cloud.kubectl().apply(&pod(name))?;
        }
        edge.read(true).await?;
        let uid =
            |name: &str| -> Result<Value> { Ok(json_of(&lab, &["pod", name])?["metadata"]["uid"].clone()) };
        let one = json!({"UID": uid("one")?, "Name": "one", "Status": status("Running", "running")});
        let answer = edge.answer(&message("p-1", "meta", "update", "default/podstatus/one", one)).await?;
        ensure!(answer["content"] == "OK", "{answer}");
        let written = json_of(&lab, &["pod", "one"])?;
        ensure!(written["status"]["podIP"] == "10.0.0.7", "{written}");
        ensure!(written["status"]["startTime"].is_string(), "{written}");
        ensure!(written["status"]["conditions"][0]["lastTransitionTime"].is_string(), "{written}");

        // A list without a name: one pod that is there, one of another uid, one that never was.
        let list = json!([
            {"UID": uid("two")?, "Name": "two", "Status": status("Running", "running")},
            {"UID": "of-the-pod-before", "Name": "one", "Status": status("Failed", "terminated")},
            {"UID": "u", "Name": "never", "Status": status("Running", "running")},
        ]);
        let answer = edge.answer(&message("p-2", "meta", "update", "default/podstatus", list)).await?;
        ensure!(answer["content"] == "OK", "{answer}");
        edge.read(true).await?;
        let removed: Vec<&str> = edge
            .received
            .iter()
            .filter(|message| message["route"]["operation"] == "delete")
            .filter_map(|message| message["content"]["metadata"]["uid"].as_str())
            .collect();
        ensure!(removed == ["of-the-pod-before", "u"], "{removed:?}");
        ensure!(json_of(&lab, &["pod", "two"])?["status"]["phase"] == "Running");
        ensure!(json_of(&lab, &["pod", "one"])?["status"]["phase"] == "Running");

        // A deleted pod that ended goes for good.
        lab.cloud.kubectl().run(&["delete", "pod", "one", "--wait=false"])?;
        edge.read(true).await?;
        let over = json!({"UID": uid("one")?, "Name": "one", "Status": status("Failed", "terminated")});
        edge.answer(&message("p-3", "meta", "update", "default/podstatus/one", over)).await?;
        wait::for_true("the pod is gone", PATIENCE, || Ok(json_of(&lab, &["pod", "one"])?.is_null()))
    })
}

#[test]
fn a_storage_call_reaches_its_node_and_the_answer_comes_back() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let socket = scratch.path().join("kubeedge.sock");
    let address = format!("modules.cloudHub.unixsocket.address=unix://{}", socket.display());
    let lab = Lab::start_with(&["modules.cloudHub.unixsocket.enable=true", &address])?;
    lab.block_on(async {
        let mut edge = lab.connect().await?;
        edge.read(true).await?;
        let resource = format!("node/{NODE}/default/volume/pvc-1");
        let mut driver = UnixStream::connect(&socket).await?;
        let call = message("csi-1", "resource", "createvolume", &resource, json!("{\"name\":\"pvc-1\"}"));
        driver.write_all(call.to_string().as_bytes()).await?;
        edge.read(true).await?;
        let asked = |message: &&Value| message["route"]["operation"] == "createvolume";
        let mut answer = edge.received.iter().find(asked).context("the call")?.clone();
        ensure!(answer["route"]["resource"] == "default/volume/pvc-1", "{answer}");
        ensure!(answer["content"] == "{\"name\":\"pvc-1\"}", "{answer}");
        answer["header"] =
            json!({"msg_id": "a", "parent_msg_id": answer["header"]["msg_id"], "timestamp": 1});
        answer["route"]["operation"] = "response".into();
        answer["content"] = "e30=".into();
        edge.send(&answer).await?;
        let mut told = String::new();
        tokio::time::timeout(PATIENCE, driver.read_to_string(&mut told)).await??;
        let told: Value = serde_json::from_str(&told)?;
        ensure!(told["content"] == "e30=" && told["header"]["parent_msg_id"] == "csi-1", "{told}");
        Ok(())
    })
}

#[test]
fn a_node_reads_and_makes_what_is_its_own() -> Result<()> {
    let lab = Lab::start()?;
    lab.block_on(async {
        let mut edge = lab.connect().await?;
        let claim = |name: &str| {
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
        };
        let volume = |name: &str, claim: &str| {
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
                "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
                    "hostPath": {"path": "/data"}, "claimRef": {"namespace": "default", "name": claim}}})
        };
        let mut user: Value = serde_json::from_str(&pod("user"))?;
        user["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "ours"}},
            {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]);
        let items = [
            claim("ours"),
            claim("user-scratch"),
            claim("theirs"),
            volume("pv-ours", "ours"),
            volume("pv-theirs", "theirs"),
            user,
        ];
        lab.cloud
            .kubectl()
            .apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
        edge.read(true).await?;
        for (resource, code) in [
            ("default/persistentvolumeclaim/ours", None),
            ("default/persistentvolumeclaim/user-scratch", None),
            ("default/persistentvolumeclaim/theirs", Some(403)),
            ("null/persistentvolume/pv-ours", None),
            ("null/persistentvolume/pv-theirs", Some(403)),
            ("null/persistentvolume/none", Some(404)),
        ] {
            let answer = edge.answer(&message(resource, "meta", "query", resource, Value::Null)).await?;
            ensure!(answer["content"]["ErrStatus"]["code"].as_u64() == code, "{resource}: {answer}");
        }
        // Under its own name, whatever the object calls itself.
        let node = json!({"metadata": {"name": "of-another",
            "labels": {"node-restriction.kubernetes.io/vault": "yes", "site": "a"}}});
        edge.answer(&message("node", "meta", "insert", &format!("null/node/{NODE}"), node)).await?;
        let lease = json!({"metadata": {"name": "of-another", "namespace": "kube-node-lease"}});
        let resource = format!("kube-node-lease/lease/{NODE}");
        edge.answer(&message("lease", "meta", "insert", &resource, lease)).await?;
        let ours = json_of(&lab, &["node", NODE])?;
        ensure!(ours["metadata"]["labels"]["site"] == "a", "{ours}");
        ensure!(ours["metadata"]["labels"]["node-restriction.kubernetes.io/vault"].is_null(), "{ours}");
        ensure!(json_of(&lab, &["node", "of-another"])?.is_null());
        ensure!(json_of(&lab, &["lease", "-n", "kube-node-lease", "of-another"])?.is_null());
        let request = json!({"metadata": {"name": "r"}, "spec": {"request": "", "usages": ["server auth"],
            "signerName": "kubernetes.io/kube-apiserver-client"}});
        let resource = "default/certificatesigningrequest/r";
        let answer = edge.answer(&message("csr", "meta", "insert", resource, request)).await?;
        ensure!(answer["content"]["Err"]["ErrStatus"]["code"] == 403, "{answer}");
        Ok(())
    })
}

/// A Go edge takes an object with an error in it for an empty one, and starts the pod with an empty volume.
#[test]
fn a_missing_config_map_that_a_pod_needs_is_no_empty_object_to_a_go_edge() -> Result<()> {
    let lab = Lab::start()?;
    lab.block_on(async {
        let mut edge = lab.connect().await?;
        let volumes = json!([
            {"name": "needed", "configMap": {"name": "needed"}},
            {"name": "secret", "secret": {"secretName": "needed"}},
            {"name": "optional", "configMap": {"name": "optional", "optional": true}},
        ]);
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
            "spec": {"nodeName": NODE, "volumes": volumes, "containers": [{"name": "c", "image": "none"}]}});
        lab.cloud.kubectl().apply(&pod.to_string())?;
        edge.read(true).await?;
        for (id, resource) in [("c", "default/configmap/needed"), ("s", "default/secret/needed")] {
            let answer = edge.answer(&message(id, "meta", "query", resource, Value::Null)).await?;
            ensure!(answer["route"]["operation"] == "error", "{answer}");
            ensure!(answer["content"].as_str().is_some_and(|text| text.contains("not found")), "{answer}");
        }
        let optional = "default/configmap/optional";
        let answer = edge.answer(&message("o", "meta", "query", optional, Value::Null)).await?;
        ensure!(answer["content"]["ErrStatus"]["code"] == 404, "{answer}");

        // What went while the edge was not told is removed by kind and version.
        lab.cloud.kubectl().run(&["delete", "pod", "p", "--grace-period=0", "--force"])?;
        edge.read(true).await?;
        let deleted = edge.received.iter().find(|message| {
            message["route"]["operation"] == "delete" && message["route"]["resource"] == "default/pod/p"
        });
        let deleted = deleted.context("the pod's deletion")?;
        ensure!(deleted["content"]["kind"] == "Pod" && deleted["content"]["apiVersion"] == "v1", "{deleted}");
        Ok(())
    })
}

/// Would be the path of another object if a name were put into a URL as it is.
#[test]
fn a_name_that_leads_elsewhere_reaches_nothing() -> Result<()> {
    let lab = Lab::start()?;
    lab.block_on(async {
        let mut edge = lab.connect().await?;
        lab.cloud.kubectl().run(&["create", "secret", "generic", "treasure", "--from-literal=key=gold"])?;
        let secret = "default%2Fsecrets%2Ftreasure?/persistentvolumeclaim/x";
        edge.send(&message("s-1", "meta", "query", secret, Value::Null)).await?;
        // API servers that do not decode a path take a question mark all the same.
        let namespace = "kube-system?/persistentvolumeclaim/x";
        edge.send(&message("n-1", "meta", "query", namespace, Value::Null)).await?;
        let smuggled = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "smuggled"},
            "involvedObject": {"kind": "Node", "name": NODE}});
        let event = "default%2Fconfigmaps?/event/e";
        edge.send(&message("e-1", "meta", "insert", event, smuggled)).await?;
        let other = json!({"UID": "", "Name": "x%2F..%2F..%2Fsecrets%2Ftreasure?", "Status": {}});
        edge.send(&message("p-1", "meta", "update", "default/podstatus/x", other)).await?;
        all_carried_out(&mut edge).await?;
        let told = serde_json::to_string(&edge.received)?;
        ensure!(!told.contains("Z29sZA"), "the secret was told: {told}");
        let answered = |message: &&Value| message["header"]["parent_msg_id"] == "n-1";
        let answer = edge.received.iter().find(answered);
        ensure!(answer.is_none_or(|answer| answer["content"]["kind"] != "Namespace"), "{answer:?}");
        ensure!(json_of(&lab, &["configmap", "smuggled"])?.is_null(), "an object was smuggled in");
        Ok(())
    })
}

async fn all_carried_out(edge: &mut GoEdge) -> Result<()> {
    edge.read(true).await?;
    let pong = edge.answer(&message("last", "resource", "ping", "x", Value::Null)).await?;
    ensure!(pong["content"] == "ack", "{pong}");
    Ok(())
}
