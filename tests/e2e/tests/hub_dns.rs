//! A stock CoreDNS in front of EdgeCore in hub form, on the embedded API server or on a given cluster.
//!
//! `CAUSEWAY_COREDNS=FILE cargo nextest run -p e2e --test hub_dns`; `CAUSEWAY_KUBECONFIG=FILE` for a cluster that is there.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use e2e::stock::{self, Answer, CoreDns, Hub, Told};
use harness::cloud::NODE_IDENTITY;
use harness::kubectl::Kubectl;
use harness::programs::Programs;
use harness::site::{NODE, Site};
use harness::wait::{self, PATIENCE};
use serde_json::{Value, json};
use simple_dns::TYPE;

const SPACE: &str = "causeway-named";

fn name(service: &str) -> String {
    format!("{service}.{SPACE}.svc.cluster.local")
}

/// A headless Service, and a slice with an endpoint on this node, 10.78.`number`.1, and one on another, 10.78.`number`.2.
fn headless(name: &str, number: u8, annotations: &Value) -> [Value; 2] {
    let endpoint = |last: u8, node: &str| {
        json!({ "addresses": [format!("10.78.{number}.{last}")], "nodeName": node, "conditions": { "ready": true },
            "targetRef": { "kind": "Pod", "namespace": SPACE, "name": format!("{name}-{last}") } })
    };
    let ports = json!([{ "name": "web", "port": 80, "protocol": "TCP" }]);
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": SPACE, "annotations": annotations },
        "spec": { "clusterIP": "None", "ports": ports } });
    let slice = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": format!("{name}-1"), "namespace": SPACE, "labels": { "kubernetes.io/service-name": name } },
        "endpoints": [endpoint(1, NODE), endpoint(2, "elsewhere")], "ports": ports });
    [service, slice]
}

fn answers(dns: &mut CoreDns, kind: TYPE, name: &str, wanted: &[&str]) -> Result<()> {
    let wanted: Answer = wanted.iter().map(|one| (*one).to_owned()).collect();
    let what = format!("{wanted:?} only as the answer for {name}");
    wait::for_true(&what, PATIENCE, || {
        dns.check()?;
        let found = dns.ask(kind, name)?;
        ensure!(found == wanted, "the answer is {found:?}");
        Ok(true)
    })
}

/// What is always so: `address` is that of the Service `web`.
fn answers_all(dns: &mut CoreDns, address: &str) -> Result<()> {
    answers(dns, TYPE::A, &name("web"), &[address])?;
    let port = format!("80 {}", name("web"));
    answers(dns, TYPE::SRV, &format!("_web._tcp.{}", name("web")), &[&port])?;
    answers(dns, TYPE::A, &name("all"), &["10.78.1.1", "10.78.1.2"])?;
    // The node's own endpoint alone, in both kinds of answers.
    answers(dns, TYPE::A, &name("near"), &["10.78.2.1"])?;
    let port = format!("80 10-78-2-1.{}", name("near"));
    answers(dns, TYPE::SRV, &format!("_web._tcp.{}", name("near")), &[&port])
}

/// What a kubelet says of the pod on this node.
fn ready(hub: Hub, status: &str) -> Result<()> {
    let conditions = json!({ "conditions": [{ "type": "Ready", "status": status }] });
    hub.patch_status(&format!("/api/v1/namespaces/{SPACE}/pods/all-1"), &conditions)
}

fn story(site: &Site, (hub, node): (Hub, &Kubectl), dns: &mut CoreDns) -> Result<()> {
    let cloud = site.kubectl();
    let address = cloud.run(&["-n", SPACE, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])?;
    answers_all(dns, &address)?;
    answers(dns, TYPE::A, &name("late"), &[])?;

    // What changes is told, and so is what only this node's filters change.
    for object in headless("late", 3, &json!({})) {
        cloud.apply(&object.to_string())?;
    }
    answers(dns, TYPE::A, &name("late"), &["10.78.3.1", "10.78.3.2"])?;
    let near = "openyurt.io/topologyKeys=kubernetes.io/hostname";
    cloud.run(&["-n", SPACE, "annotate", "service", "late", near])?;
    answers(dns, TYPE::A, &name("late"), &["10.78.3.1"])?;

    node.run(&["-n", SPACE, "get", "pod", "all-1"])?;
    site.relay.cut();
    stock::wait_until_cut(node)?;
    answers_all(dns, &address)?;
    for (restarts_hub, told) in [(false, Told::AsPod), (true, Told::ByKubeconfig), (true, Told::AsPod)] {
        dns.kill9()?;
        if restarts_hub {
            site.edge.kill9()?;
            site.edge.start()?;
        }
        dns.again(told)?;
        answers_all(dns, &address)?;
    }
    // What the node says of its own pod counts here at once.
    wait::for_true("the pod unready", PATIENCE, || ready(hub, "False").map(|()| true))?;
    answers(dns, TYPE::A, &name("all"), &["10.78.1.2"])?;
    ready(hub, "True")?;
    answers_all(dns, &address)?;

    site.relay.heal();
    cloud.run(&["-n", SPACE, "delete", "service/late", "endpointslice/late-1"])?;
    answers(dns, TYPE::A, &name("late"), &[])?;
    let [_, mut slice] = headless("all", 1, &json!({}));
    slice["endpoints"][1]["addresses"] = json!(["10.78.1.3"]);
    cloud.apply(&slice.to_string())?;
    answers(dns, TYPE::A, &name("all"), &["10.78.1.1", "10.78.1.3"])
}

#[test]
fn a_stock_coredns_behind_the_hub_has_the_names_of_its_node_with_the_cloud_and_without() -> Result<()> {
    let Some(binary) = stock::binary("CAUSEWAY_COREDNS") else { return Ok(()) };
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let hub = Hub::new(Ipv4Addr::new(127, 0, 0, 2))?;
    let settings = hub.settings();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let site = Site::start_on(&Programs::find()?, false, (&[NODE_IDENTITY], &settings), |_| {})?;
    let kubeconfig = Hub::kubeconfig(&site)?;
    let (node, cloud) = (Kubectl::new(&kubeconfig), site.kubectl());

    // What a kubelet would have done.
    wait::for_true("the node registered", PATIENCE, || {
        let object = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE } });
        Ok(cloud.get("node", NODE).is_ok() || node.create(&object.to_string()).is_ok())
    })?;
    let space = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": SPACE } });
    cloud.apply(&space.to_string())?;
    wait::for_true("the account of pods", PATIENCE, || {
        Ok(cloud.run(&["-n", SPACE, "get", "serviceaccount", "default"]).is_ok())
    })?;
    let web = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": SPACE },
        "spec": { "ports": [{ "name": "web", "port": 80, "protocol": "TCP" }] } });
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "all-1", "namespace": SPACE },
        "spec": { "nodeName": NODE, "containers": [{ "name": "c", "image": "i" }] } });
    let near = json!({ "openyurt.io/topologyKeys": "kubernetes.io/hostname" });
    let services = [headless("all", 1, &json!({})), headless("near", 2, &near)];
    for object in services.iter().flatten().chain([&web, &pod]) {
        cloud.apply(&object.to_string())?;
    }
    ready(hub, "True")?;

    let folder = site.folder().join("coredns");
    let mut dns = CoreDns::start((&binary, &folder), (hub, &kubeconfig), &cloud, Told::AsPod)?;
    let told = story(&site, (hub, &node), &mut dns);
    let _ = std::fs::copy(dns.log(), site.kept_logs().join("coredns.log"));
    // No kubelet says that it has ended.
    cloud.run(&["-n", SPACE, "delete", "pod", "all-1", "--force", "--grace-period=0"])?;
    cloud.run(&["delete", "namespace", SPACE])?;
    told
}
