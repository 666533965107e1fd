//! What CloudCore reads for a node that asks: claims with their volumes, whether one is attached, a class of the runtime, the node's own
//! certificate.

use anyhow::Result;
use harness::csi_driver::{Driver, NAME};
use harness::site::NODE;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::{Lab, pods};

/// The CSI driver's name of the volume.
const HANDLE: &str = "vol-1";

impl Lab {
    pub(super) fn volumes(&self) -> Result<()> {
        let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "plain"},
            "handler": "runc"});
        self.kubectl.apply(&class.to_string())?;
        let path = self.scratch.path().join("kept");
        self.bound("kept", json!({"hostPath": {"path": path, "type": "DirectoryOrCreate"}}))?;
        let mut pod = with_claim("kept");
        pod["spec"]["runtimeClassName"] = json!("plain");
        self.kubectl.apply(&pod.to_string())?;
        self.waits("a pod with a claim runs", "pod", "kept", ".status.phase", |value| value == "Running")?;
        self.attached()?;
        let certificate = self.edges[0].root.join("var/lib/kubelet/pki/kubelet-server.crt");
        self.until("the node has its certificate", || Ok(certificate.exists()))
    }

    /// A volume of a CSI driver, which the node waits for until it is attached.
    fn attached(&self) -> Result<()> {
        let driver = {
            let _within = self.runtime.enter();
            let kubelet = self.edges[0].root.join("var/lib/kubelet");
            Driver::start(&self.scratch.path().join("driver"), &kubelet)?
        };
        // As the attach-detach controller of a cluster names it.
        let digest = digest(&SHA256, format!("{HANDLE}{NAME}{NODE}").as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("csi-{hex}");
        let attachment = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": name},
            "spec": {"attacher": NAME, "nodeName": NODE, "source": {"persistentVolumeName": "far"}}});
        self.kubectl.create(&attachment.to_string())?;
        self.bound("far", json!({"csi": {"driver": NAME, "volumeHandle": HANDLE}}))?;
        self.kubectl.apply(&with_claim("far").to_string())?;
        self.until("the node tells that the volume is not attached", || {
            let events = self.kubectl.run(&["get", "events", "-o", "jsonpath={.items[*].message}"])?;
            Ok(events.contains("the volume is not attached to this node yet"))
        })?;
        let attached = json!({"status": {"attached": true}}).to_string();
        self.kubectl.run(&[
            "patch",
            "volumeattachment",
            &name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &attached,
        ])?;
        let file = driver.data(HANDLE).join("file");
        self.until("the pod writes to its volume", || {
            Ok(std::fs::read_to_string(&file).is_ok_and(|text| text == "here\n"))
        })?;
        // The volume is given back while its driver is there.
        self.kubectl.run(&["delete", "pod", "far"])?;
        let given_back = format!("unstage {HANDLE}");
        self.until("the volume is given back", || Ok(driver.calls().contains(&given_back)))
    }

    /// A volume and its claim, both called `name`, bound as the controllers of a cluster bind them.
    fn bound(&self, name: &str, source: Value) -> Result<()> {
        let mut volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": ""}});
        for (kind, source) in source.as_object().into_iter().flatten() {
            volume["spec"][kind] = source.clone();
        }
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": name,
            "resources": {"requests": {"storage": "1Gi"}}}});
        for object in [volume, claim] {
            self.kubectl.apply(&object.to_string())?;
        }
        let uid = self.kubectl.field("pvc", name, ".metadata.uid")?;
        let reference =
            json!({"kind": "PersistentVolumeClaim", "namespace": "default", "name": name, "uid": uid});
        let to_claim = json!({"spec": {"claimRef": reference}}).to_string();
        let bound = json!({"status": {"phase": "Bound"}}).to_string();
        let merge = [name, "--type=merge", "-p"];
        self.kubectl.run(&[&["patch", "pv"], &merge[..], &[&to_claim]].concat())?;
        for kind in ["pv", "pvc"] {
            self.kubectl.run(&[&["patch", kind, "--subresource=status"], &merge[..], &[&bound]].concat())?;
        }
        Ok(())
    }
}

/// A pod that writes to the volume of the claim of its name.
fn with_claim(name: &str) -> Value {
    let mut pod = pods::asking();
    pod["metadata"]["name"] = json!(name);
    pod["spec"]["volumes"] = json!([{"name": "t", "persistentVolumeClaim": {"claimName": name}}]);
    pod["spec"]["containers"][0]["command"] = json!(["sh", "-c", "echo here > /t/file; sleep 1000000"]);
    pod
}
