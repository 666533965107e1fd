//! A stock kube-proxy in front of EdgeCore in hub form, on the embedded API server or on a given cluster.
//!
//! `CAUSEWAY_KUBE_PROXY=FILE cargo nextest run -p e2e --test hub_proxy`; `CAUSEWAY_KUBECONFIG=FILE` for a cluster that is there.

use anyhow::{Result, ensure};
use e2e::stock::{self, Hub, KubeProxy, Network, Rules};
use harness::cloud::NODE_IDENTITY;
use harness::kubectl::Kubectl;
use harness::programs::Programs;
use harness::site::{NODE, Site};
use harness::wait::{self, PATIENCE};
use serde_json::{Value, json};

const SPACE: &str = "causeway-proxied";

/// A Service and a slice with an endpoint on this node, 10.77.`number`.1, and one on another, 10.77.`number`.2.
fn service(name: &str, number: u8, annotations: &Value) -> [Value; 2] {
    let endpoint = |last: u8, node: &str| {
        json!({ "addresses": [format!("10.77.{number}.{last}")], "nodeName": node, "conditions": { "ready": true },
            "targetRef": { "kind": "Pod", "namespace": SPACE, "name": format!("{name}-{last}") } })
    };
    let ports = json!([{ "name": "web", "port": 80, "protocol": "TCP" }]);
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": SPACE, "annotations": annotations },
        "spec": { "ports": ports } });
    let slice = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": format!("{name}-1"), "namespace": SPACE, "labels": { "kubernetes.io/service-name": name } },
        "endpoints": [endpoint(1, NODE), endpoint(2, "elsewhere")], "ports": ports });
    [service, slice]
}

fn rules(these: &[&str]) -> Rules {
    these.iter().map(|rule| (*rule).to_owned()).collect()
}

fn sends_to(proxy: &mut KubeProxy<'_>, wanted: &[&str]) -> Result<()> {
    let wanted = rules(wanted);
    let what = format!("rules of kube-proxy to {wanted:?} only");
    wait::for_true(&what, PATIENCE, || {
        proxy.check()?;
        let found = proxy.rules(SPACE)?;
        ensure!(found == wanted, "there are rules to {found:?}");
        Ok(true)
    })
}

/// What a kubelet says of the pod on this node.
fn ready(hub: Hub, status: &str) -> Result<()> {
    let conditions = json!({ "conditions": [{ "type": "Ready", "status": status }] });
    hub.patch_status(&format!("/api/v1/namespaces/{SPACE}/pods/all-1"), &conditions)
}

fn story(site: &Site, (hub, node): (Hub, &Kubectl), proxy: &mut KubeProxy<'_>) -> Result<()> {
    let cloud = site.kubectl();
    let both = ["all 10.77.1.1", "all 10.77.1.2"];
    let with_near = [&both[..], &["near 10.77.2.1"]].concat();
    sends_to(proxy, &with_near)?;

    // What changes is told, and so is what only this node's filters change.
    let [late, slice] = service("late", 3, &json!({}));
    cloud.apply(&late.to_string())?;
    cloud.apply(&slice.to_string())?;
    sends_to(proxy, &[&with_near[..], &["late 10.77.3.1", "late 10.77.3.2"]].concat())?;
    let near = "openyurt.io/topologyKeys=kubernetes.io/hostname";
    cloud.run(&["-n", SPACE, "annotate", "service", "late", near])?;
    sends_to(proxy, &[&with_near[..], &["late 10.77.3.1"]].concat())?;
    cloud.run(&["-n", SPACE, "delete", "service/late", "endpointslice/late-1"])?;
    sends_to(proxy, &with_near)?;

    node.run(&["-n", SPACE, "get", "pod", "all-1"])?;
    site.relay.cut();
    stock::wait_until_cut(node)?;
    proxy.kill9()?;
    ensure!(proxy.rules(SPACE)?.is_empty());
    site.edge.kill9()?;
    site.edge.start()?;
    proxy.again()?;
    sends_to(proxy, &with_near)?;
    // What the node says of its own pod counts here at once.
    wait::for_true("the pod unready", PATIENCE, || ready(hub, "False").map(|()| true))?;
    sends_to(proxy, &["all 10.77.1.2", "near 10.77.2.1"])?;
    ready(hub, "True")?;
    sends_to(proxy, &with_near)?;

    site.relay.heal();
    cloud.run(&["-n", SPACE, "delete", "service/near", "endpointslice/near-1"])?;
    sends_to(proxy, &both)
}

#[test]
fn a_stock_kube_proxy_behind_the_hub_has_the_rules_of_its_node_with_the_cloud_and_without() -> Result<()> {
    let Some(binary) = stock::binary("CAUSEWAY_KUBE_PROXY") else { return Ok(()) };
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let network = Network::make()?;
    let hub = Hub::new(network.outside)?;
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
    let addresses = json!({ "addresses": [{ "type": "InternalIP", "address": network.inside }] });
    hub.patch_status(&format!("/api/v1/nodes/{NODE}"), &addresses)?;

    let space = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": SPACE } });
    cloud.apply(&space.to_string())?;
    wait::for_true("the account of pods", PATIENCE, || {
        Ok(cloud.run(&["-n", SPACE, "get", "serviceaccount", "default"]).is_ok())
    })?;
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "all-1", "namespace": SPACE },
        "spec": { "nodeName": NODE, "containers": [{ "name": "c", "image": "i" }] } });
    let near = json!({ "openyurt.io/topologyKeys": "kubernetes.io/hostname" });
    let services = [service("all", 1, &json!({})), service("near", 2, &near)];
    for object in services.iter().flatten().chain([&pod]) {
        cloud.apply(&object.to_string())?;
    }
    ready(hub, "True")?;

    let folder = site.folder().join("kube-proxy");
    let mut proxy = KubeProxy::start((&binary, &folder), NODE, (hub, &kubeconfig), &cloud, &network)?;
    let told = story(&site, (hub, &node), &mut proxy);
    let _ = std::fs::copy(proxy.log(), site.kept_logs().join("kube-proxy.log"));
    // No kubelet says that it has ended.
    cloud.run(&["-n", SPACE, "delete", "pod", "all-1", "--force", "--grace-period=0"])?;
    cloud.run(&["delete", "namespace", SPACE])?;
    told
}
