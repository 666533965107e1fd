//! Pods, with what they refer to, their tokens, statuses, events, and those of files.

use anyhow::{Context, Result, ensure};
use harness::site::{IMAGE, NODE};
use serde_json::{Value, json};

use super::{Lab, setting};

const GREETER: &str = include_str!("../../../../manifests/samples/greeter.yaml");
/// A pod of a file on the node.
const STATIC: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: default}\nspec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: \"causeway.local/busybox:1\"}]}\n";

/// A pod with a token, that tolerates for a while that its node is away.
pub(super) fn asking() -> Value {
    let tolerates = |key: &str| json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asks"}, "spec": {
        "nodeName": NODE,
        "terminationGracePeriodSeconds": 0,
        "tolerations": [tolerates("not-ready"), tolerates("unreachable")],
        "containers": [{"name": "c", "image": IMAGE,
            "command": ["sh", "-c", "echo started; cat /t/token; sleep 1000000"],
            "volumeMounts": [{"name": "t", "mountPath": "/t"}]}],
        "volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
    }})
}

impl Lab {
    pub(super) fn pods(&self) -> Result<()> {
        let ready = ".status.conditions[?(@.type==\"Ready\")].status";
        self.waits("the node is ready", "node", NODE, ready, |value| value == "True")?;
        self.kubectl.apply(GREETER)?;
        self.kubectl.apply(&asking().to_string())?;
        for pod in ["greeter", "asks"] {
            self.waits(&format!("{pod} runs"), "pod", pod, ".status.phase", |value| value == "Running")?;
        }
        let file = self.edges[0].root.join("etc/kubeedge/manifests/web.yaml");
        std::fs::create_dir_all(file.parent().context("a folder")?)?;
        std::fs::write(&file, STATIC)?;
        self.waits("the mirror runs", "pod", "web-edge-1", ".status.phase", |value| value == "Running")?;
        std::fs::remove_file(&file)?;
        self.until("the mirror goes", || {
            Ok(self.kubectl.run(&["get", "pods", "-o", "name"])?.lines().all(|name| name != "pod/web-edge-1"))
        })?;
        self.until("events of pods", || {
            Ok(self.kubectl.run(&["get", "events", "-o", "name"])?.lines().count() > 3)
        })?;
        // A node's policy changes its pods.
        self.kubectl.run(&["annotate", "node", NODE, "node.openyurt.io/autonomy-duration=2h"])?;
        let tolerations = ".spec.tolerations[*].tolerationSeconds";
        self.waits("the policy counts", "pod", "asks", tolerations, |value| value.contains("7200"))?;
        let mut count = 0;
        self.until("a pod is made with the policy, by the webhook", || {
            count += 1;
            let mut pod = asking();
            pod["metadata"]["name"] = json!(format!("made-{count}"));
            let file = self.scratch.path().join("made.json");
            std::fs::write(&file, pod.to_string())?;
            let create = ["create", "--validate=false", "-o", "json", "-f", &file.to_string_lossy()];
            let made: Value = serde_json::from_str(&self.kubectl.run(&create)?)?;
            self.kubectl.run(&["delete", "pod", &format!("made-{count}"), "--wait=false"])?;
            Ok(made["spec"]["tolerations"][0]["tolerationSeconds"] == 7200)
        })?;
        // An upgrade applies the empty configurations once more.
        let webhooks = || {
            let path = ".webhooks[*].name";
            self.kubectl.field("mutatingwebhookconfiguration", "cloudcore-webhooks", path)
        };
        let before = webhooks()?;
        for text in setting::installed().iter().filter(|text| text.contains("WebhookConfiguration\"")) {
            self.kubectl.apply(text)?;
        }
        ensure!(!before.is_empty() && webhooks()? == before, "{before}");
        Ok(())
    }
}
