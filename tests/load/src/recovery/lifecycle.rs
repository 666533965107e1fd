//! What kube-controller-manager's node lifecycle controller does to nodes that say nothing, with its default times: the
//! conditions become Unknown and the node gets taints; once it says that it is ready the taints go, and nobody else makes
//! it ready again.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use cloudcore::kubernetes::{Cluster, Merge};
use harness::wait;
use serde_json::{Value, json};

/// `--node-monitor-grace-period` before Kubernetes 1.32.
const GRACE: Duration = Duration::from_secs(40);
/// `--node-monitor-period`.
const LOOK: Duration = Duration::from_secs(5);
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// Watches over `nodes` for ever.
pub(super) async fn control(cluster: Cluster, nodes: Vec<String>) {
    let mut renewed: HashMap<String, (String, std::time::Instant)> = HashMap::new();
    loop {
        for node in &nodes {
            // The API server of this scenario does not fail; a node that is not there yet is looked at again.
            let _ = look(&cluster, node, &mut renewed).await;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(
    cluster: &Cluster,
    node: &str,
    renewed: &mut HashMap<String, (String, std::time::Instant)>,
) -> Result<()> {
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node}");
    let lease: Value = cluster.get(&lease).await?.parse()?;
    let path = format!("/api/v1/nodes/{node}");
    let object: Value = cluster.get(&path).await?.parse()?;
    let said = format!("{} {}", lease["spec"]["renewTime"], object["status"]["conditions"]);
    let entry = renewed.entry(node.to_owned()).or_insert_with(|| (said.clone(), wait::now()));
    if entry.0 != said {
        *entry = (said, wait::now());
    }
    let ready = ready_of(&object);
    if entry.1.elapsed() > GRACE && ready != "Unknown" {
        let conditions: Vec<Value> = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"]
            .map(|kind| {
                json!({"type": kind, "status": "Unknown", "reason": "NodeStatusUnknown",
                    "message": "Kubelet stopped posting node status."})
            })
            .to_vec();
        let status = json!({"status": {"conditions": conditions}}).to_string();
        cluster.patch(&format!("{path}/status"), Merge::Strategic, status).await?;
        let taints = ["NoSchedule", "NoExecute"].map(|effect| json!({"key": UNREACHABLE, "effect": effect}));
        let spec = json!({"spec": {"taints": taints}}).to_string();
        cluster.patch(&path, Merge::Json, spec).await?;
        // Its own words are none of the node's.
        renewed.remove(node);
    } else if ready == "True" && object["spec"]["taints"].is_array() {
        cluster.patch(&path, Merge::Json, json!({"spec": {"taints": null}}).to_string()).await?;
    }
    Ok(())
}

/// Status of the condition Ready; empty where there is none.
pub(super) fn ready_of(node: &Value) -> &str {
    let conditions = node["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    ready.and_then(|ready| ready["status"].as_str()).unwrap_or_default()
}
