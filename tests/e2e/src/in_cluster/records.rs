//! An edge of KubeEdge's dialect, whose acknowledgements are objects.

use anyhow::Result;
use serde_json::json;

use super::{Lab, PLAIN};
use crate::go_edge;

impl Lab {
    pub(super) fn records(&self) -> Result<()> {
        self.kubectl
            .create(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": PLAIN}}).to_string())?;
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stored"},
            "spec": {"nodeName": PLAIN, "containers": [{"name": "c", "image": "x"}]}});
        self.kubectl.apply(&pod.to_string())?;
        let recorded = || {
            let records = self.kubectl.run(&[
                "get",
                "objectsyncs",
                "-o",
                "jsonpath={.items[*].status.objectResourceVersion}",
            ]);
            Ok::<_, anyhow::Error>(records?.split_whitespace().any(|version| version != "0"))
        };
        self.until("a record of what the edge has", recorded)?;
        // An older one tells whole statuses.
        self.edges[1].kill9()?;
        let uid = self.kubectl.field("pod", "stored", ".metadata.uid")?;
        let has_come = || {
            super::unrefused(&self.judge)?;
            Ok(self.kubectl.field("event", "told", ".count").is_ok_and(|count| count == "3"))
        };
        let (root, port) = (&self.edges[1].root, self.doors.link.port());
        go_edge::whole_reports(root, port, PLAIN, ["stored", &uid], has_come)?;
        self.waits("the pod's status", "pod", "stored", ".status.phase", |value| value == "Running")
    }
}
