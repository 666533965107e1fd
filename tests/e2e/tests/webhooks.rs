//! Admission webhooks of CloudCore, asked by an API server: pods are made with the tolerations of their node's policy, endpoints of
//! nodes that are not heard of stay, changes that a node does not hear of are warned of or denied, and nothing waits for CloudCore.

use std::process::Output;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::cloud::Cloud;
use harness::kubectl::Kubectl;
use harness::programs::{self, Programs};
use harness::replica::ApiServer;
use harness::wait::PATIENCE;
use harness::{given, ports, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

const NODE: &str = "edge-1";
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const CONFIGURATIONS: [&str; 2] = ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"];

/// Parts stop in the order of the fields.
struct Lab {
    cloud: Cloud,
    /// The API server, if it is not CloudCore's own.
    _api: Option<ApiServer>,
    scratch: TempDir,
}

impl Lab {
    /// An API server that outlives CloudCore.
    fn beside_an_api_server(settings: &[&str]) -> Result<Lab> {
        let (programs, scratch) = (Programs::find()?, tempfile::tempdir()?);
        given::forget(NODE)?;
        let api = ApiServer::given_or_start(&programs, &scratch.path().join("api"), &[])?;
        let port = ports::free()?;
        let url = format!("modules.webhooks.url=https://127.0.0.1:{port}");
        let cloud = init(&programs, &scratch, Some(&api), port, &[settings, &[&url]].concat())?;
        Ok(Lab { cloud, _api: Some(api), scratch })
    }

    /// CloudCore with its own API server.
    fn standalone() -> Result<Lab> {
        let (programs, scratch) = (Programs::find()?, tempfile::tempdir()?);
        let cloud = init(&programs, &scratch, None, ports::free()?, &[])?;
        Ok(Lab { cloud, _api: None, scratch })
    }

    fn kubectl(&self) -> Kubectl {
        self.cloud.kubectl()
    }

    /// What kubectl says to `arguments` about an object in a file.
    fn about(&self, arguments: &[&str], object: &Value) -> Result<Output> {
        let file = self.scratch.path().join("object.json");
        std::fs::write(&file, object.to_string())?;
        let file = file.to_string_lossy();
        programs::output(&mut self.kubectl().command(&[arguments, &["-f", &file]].concat()))
    }

    /// The object as the API server answers when it is made.
    fn made(&self, object: &Value) -> Result<Value> {
        let output = self.about(&["create", "--validate=false", "-o", "json"], object)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn make_node(&self, annotations: Value) -> Result<()> {
        let metadata = json!({"name": NODE, "annotations": annotations});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata});
        self.kubectl().create(&node.to_string()).map(drop)
    }

    /// Sets a part of an object's status.
    fn patch_status(&self, kind: &str, name: &str, namespace: &str, status: &Value) -> Result<()> {
        let patch = json!({"status": status}).to_string();
        let arguments =
            ["patch", kind, name, "-n", namespace, "--subresource=status", "--type=strategic", "-p", &patch];
        self.kubectl().run(&arguments).map(drop)
    }

    /// Makes objects, each with a name of its own, until one is as wanted: an answer may come too late, which holds nothing up.
    fn until_made(
        &self,
        what: &str,
        make: impl Fn(&str) -> Value,
        is_wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut count = 0;
        wait::until(what, PATIENCE, || {
            count += 1;
            Ok(Some(self.made(&make(&format!("made-{count}")))?).filter(&is_wanted))
        })
    }

    /// CloudCore is asked about pods, and knows the node.
    fn pods_are_patched(&self, prefix: &str, seconds: &Value) -> Result<()> {
        let what = "a pod is made with the tolerations of its node's policy";
        self.until_made(
            what,
            |made| pod(&format!("{prefix}-{made}"), "default", "x"),
            |made| tolerated(made) == [seconds, seconds],
        )
        .map(drop)
    }
}

fn init(
    programs: &Programs,
    scratch: &TempDir,
    api: Option<&ApiServer>,
    port: u16,
    settings: &[&str],
) -> Result<Cloud> {
    let port = format!("modules.webhooks.port={port}");
    let own = ["modules.webhooks.enable=true", &port, "modules.cloudHub.certificateCheckSeconds=1"];
    let kubeconfig = api.map(|api| api.kubeconfig.as_path());
    Cloud::init_on(kubeconfig, programs, &scratch.path().join("cloud"), &[&own, settings].concat())
}

fn pod(name: &str, namespace: &str, image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": image}]}})
}

/// Seconds for which a pod tolerates both taints of nodes that are not heard of.
fn tolerated(pod: &Value) -> Vec<&Value> {
    let tolerations = || pod["spec"]["tolerations"].as_array().into_iter().flatten();
    let of =
        |taint: &&str| tolerations().find(|one| one["key"] == *taint).map(|one| &one["tolerationSeconds"]);
    TAINTS.iter().filter_map(of).collect()
}

fn ready_condition(status: &str) -> Value {
    json!([{"type": "Ready", "status": status}])
}

#[test]
fn a_pod_is_made_with_the_tolerations_of_its_nodes_policy() -> Result<()> {
    let lab = Lab::standalone()?;
    lab.make_node(json!({"node.openyurt.io/autonomy-duration": "2h"}))?;
    lab.pods_are_patched("first", &json!(7200))?;
    // KubeEdge's label counts before a scheduler has chosen a node.
    let labelled = |name: &str| {
        let mut labelled = pod(&format!("labelled-{name}"), "default", "x");
        labelled["metadata"]["labels"] = json!({"app-offline.kubeedge.io": "autonomy"});
        labelled["spec"]["nodeName"].take();
        labelled
    };
    lab.until_made("a pod that says itself that it stays", labelled, |made| {
        tolerated(made) == [&Value::Null; 2]
    })?;
    let mut elsewhere = pod("elsewhere", "default", "x");
    elsewhere["spec"]["nodeName"] = json!("edge-2");
    ensure!(tolerated(&lab.made(&elsewhere)?) == [&json!(300); 2]);
    Ok(())
}

#[test]
fn endpoints_of_a_node_that_is_not_heard_of_stay_ready_if_their_pod_was() -> Result<()> {
    let lab = Lab::beside_an_api_server(&[])?;
    let kubectl = lab.kubectl();
    lab.make_node(json!({"node.beta.openyurt.io/autonomy": "true"}))?;
    for (name, is_ready) in [("runs", true), ("crashes", false)] {
        lab.made(&pod(name, "default", "x"))?;
        let state = if is_ready {
            json!({"running": {}})
        } else {
            json!({"waiting": {"reason": "CrashLoopBackOff"}})
        };
        let container = json!({"name": "c", "ready": is_ready, "restartCount": 0, "image": "x", "imageID": "x", "state": state});
        // As Kubernetes' node life cycle leaves pods of a node that it does not hear of.
        let status = json!({"phase": "Running", "conditions": ready_condition("False"), "containerStatuses": [container]});
        lab.patch_status("pod", name, "default", &status)?;
    }
    lab.patch_status("node", NODE, "default", &json!({"conditions": ready_condition("Unknown")}))?;
    // kubectl plays the controllers of endpoints and slices.
    let target = |name: &str, address: &str| json!({"nodeName": NODE, "ip": address, "targetRef": {"kind": "Pod", "namespace": "default", "name": name}});
    let endpoint = |name: &str, address: &str| {
        let mut endpoint = target(name, address);
        endpoint["addresses"] = json!([address]);
        endpoint.as_object_mut().and_then(|fields| fields.remove("ip"));
        endpoint["conditions"] = json!({"ready": false, "serving": false, "terminating": false});
        endpoint
    };
    let slice = |name: &str| {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
            "endpoints": [endpoint("runs", "10.0.0.1"), endpoint("crashes", "10.0.0.2")]})
    };
    let conditions = |slice: &Value, at: usize| slice["endpoints"][at]["conditions"].clone();
    let up = json!({"ready": true, "serving": true, "terminating": false});
    let made = lab.until_made("the endpoint of a pod that was ready is put back", slice, |made| {
        conditions(made, 0) == up && conditions(made, 1)["ready"] == false
    })?;
    // What the controller writes again changes nothing of that.
    let name = made["metadata"]["name"].as_str().context("a name")?;
    let mut count = 0;
    wait::for_true("an update leaves the endpoint ready", PATIENCE, || {
        count += 1;
        let (mut again, label) = (slice(name), json!(count.to_string()));
        again["metadata"]["labels"]["updated"] = label.clone();
        kubectl.apply(&again.to_string())?;
        let stored = kubectl.get("endpointslice", name)?;
        ensure!(stored["metadata"]["labels"]["updated"] == label, "{stored}");
        Ok(conditions(&stored, 0) == up && conditions(&stored, 1)["ready"] == false)
    })?;

    let endpoints = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name}, "subsets": [{
            "notReadyAddresses": [target("runs", "10.0.0.1"), target("crashes", "10.0.0.2")], "ports": [{"port": 80}]}]})
    };
    let addresses = |made: &Value, list: &str| -> Vec<Value> {
        let list = made["subsets"][0][list].as_array().into_iter().flatten();
        list.map(|address| address["ip"].clone()).collect()
    };
    lab.until_made("the address of a pod that was ready is put back", endpoints, |made| {
        addresses(made, "addresses") == [json!("10.0.0.1")]
            && addresses(made, "notReadyAddresses") == [json!("10.0.0.2")]
    })
    .map(drop)
}

#[test]
fn a_change_that_a_node_does_not_hear_of_is_warned_of_or_denied_by_namespace() -> Result<()> {
    let lab = Lab::beside_an_api_server(&[])?;
    let kubectl = lab.kubectl();
    lab.make_node(json!({}))?;
    for (name, mode) in [("free", ""), ("warned", "warn"), ("denied", "deny")] {
        kubectl.run(&["create", "namespace", name])?;
        if !mode.is_empty() {
            kubectl.run(&["label", "namespace", name, &format!("causeway.io/offline-changes={mode}")])?;
        }
        lab.made(&pod("p", name, "old"))?;
    }
    let link = |status: &str| {
        lab.patch_status(
            "node",
            NODE,
            "default",
            &json!({"conditions": [{"type": "EdgeLink", "status": status}]}),
        )
    };
    link("False")?;
    // A new image for the pod: whether it was made, and what was said.
    let mut count = 0;
    let mut change = |namespace: &str| -> Result<(bool, String)> {
        count += 1;
        let image = format!("c=new:{count}");
        let arguments = ["set", "image", "pod/p", &image, "-n", namespace];
        let output = programs::output(&mut kubectl.command(&arguments))?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let told = "node edge-1 has lost its link to the cloud";
    let mut until = |namespace: &str, what: &str, is_wanted: &dyn Fn(bool, &str) -> bool| -> Result<String> {
        wait::until(what, PATIENCE, || {
            let (is_made, said) = change(namespace)?;
            Ok(Some(said).filter(|said| is_wanted(is_made, said)))
        })
    };
    let said = until("denied", "a change is denied", &|is_made, _| !is_made)?;
    let by = "admission webhook \"offline-deny.webhooks.causeway.io\" denied the request: ";
    ensure!(said.contains(&format!("{by}{told}")), "{said}");
    ensure!(said.contains("label namespace denied causeway.io/offline-changes=ignore"), "{said}");
    let warning = format!("Warning: {told}");
    until("warned", "a change is warned of", &|is_made, said| is_made && said.contains(&warning))?;
    let said = until("free", "a change is made", &|is_made, _| is_made)?;
    ensure!(said.is_empty(), "{said}");
    // The status is the node's own.
    lab.patch_status("pod", "p", "denied", &json!({"phase": "Running"}))?;
    let label = |mode: &str| {
        kubectl.run(&[
            "label",
            "namespace",
            "denied",
            "--overwrite",
            &format!("causeway.io/offline-changes={mode}"),
        ])
    };
    label("ignore")?;
    ensure!(until("denied", "a change is made", &|is_made, _| is_made)?.is_empty());
    label("deny")?;
    until("denied", "a change is denied", &|is_made, _| !is_made)?;
    let deletes = ["delete", "pod", "p", "-n", "denied", "--wait=false", "--dry-run=server"];
    wait::for_true("a deletion is denied", PATIENCE, || {
        let said = kubectl.run(&deletes).err().map(|error| format!("{error:#}"));
        Ok(said.is_some_and(|said| said.contains("run twice")))
    })?;
    link("True")?;
    until("denied", "the link is up", &|is_made, _| is_made).map(drop)
}

#[test]
fn nothing_waits_for_a_cloudcore_that_is_down() -> Result<()> {
    let lab = Lab::beside_an_api_server(&["modules.webhooks.offlineChanges=deny"])?;
    lab.make_node(json!({"node.openyurt.io/autonomy-duration": "2h"}))?;
    lab.pods_are_patched("before", &json!(7200))?;
    lab.cloud.kill9()?;
    let made = lab.made(&pod("meanwhile", "default", "x"))?;
    ensure!(tolerated(&made) == [&json!(300); 2], "{made}");
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web"}, "addressType": "IPv4", "endpoints": []});
    lab.made(&slice)?;
    lab.kubectl().run(&["set", "image", "pod/meanwhile", "c=y"])?;
    lab.kubectl().run(&["delete", "pod", "meanwhile", "--wait=false"])?;
    lab.cloud.start()?;
    lab.pods_are_patched("after", &json!(7200))
}

#[test]
fn a_new_ca_and_a_configuration_that_was_deleted_leave_the_webhooks_working() -> Result<()> {
    let lab = Lab::beside_an_api_server(&[])?;
    let kubectl = lab.kubectl();
    lab.make_node(json!({"node.openyurt.io/autonomy-duration": "2h"}))?;
    lab.pods_are_patched("before", &json!(7200))?;
    let bundle = |kind: &str| -> Result<pki::Bundle> {
        let path = ".webhooks[0].clientConfig.caBundle";
        let text = kubectl.field(kind, "cloudcore-webhooks", path)?;
        Ok(pki::Bundle::from_pem(&STANDARD.decode(text.trim())?)?)
    };
    let old = bundle(CONFIGURATIONS[0])?;
    ensure!(old.certificates().len() == 1);
    let kubeconfig = lab.cloud.kubeconfig();
    let ca = |arguments: &[&str]| {
        let kubeconfig = kubeconfig.to_string_lossy();
        lab.cloud.keadm(&[&["ca"], arguments, &["--kube-config", &kubeconfig]].concat())
    };
    // The chart gives no right to make configurations.
    let resources = "--resource=mutatingwebhookconfigurations,validatingwebhookconfigurations.admissionregistration.k8s.io";
    kubectl.run(&["delete", "clusterrole,clusterrolebinding", "makes-webhooks", "--ignore-not-found"])?;
    kubectl.run(&["create", "clusterrole", "makes-webhooks", "--verb=create", resources])?;
    let account = "--serviceaccount=kubeedge:cloudcore";
    let binding = ["create", "clusterrolebinding", "makes-webhooks", "--clusterrole=makes-webhooks", account];
    kubectl.run(&binding)?;
    for kind in CONFIGURATIONS {
        kubectl.run(&["delete", kind, "cloudcore-webhooks"])?;
    }
    ca(&["rotate", "--overlap", "2s"])?;
    for kind in CONFIGURATIONS {
        wait::for_true("both CAs are in the bundle", PATIENCE, || {
            Ok(bundle(kind).is_ok_and(|bundle| bundle.certificates().len() == 2))
        })?;
    }
    lab.pods_are_patched("both", &json!(7200))?;
    let signs =
        || -> Result<bool> { Ok(bundle(CONFIGURATIONS[0])?.certificates()[0] != old.certificates()[0]) };
    wait::for_true("the new CA signs", PATIENCE, signs)?;
    ca(&["retire"])?;
    wait::for_true("the old CA is gone", PATIENCE, || {
        let now = bundle(CONFIGURATIONS[0])?;
        Ok(now.certificates().len() == 1 && now.certificates()[0] != old.certificates()[0])
    })?;
    lab.pods_are_patched("new", &json!(7200))?;
    Ok(())
}
