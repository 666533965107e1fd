//! The Node API on a real containerd, asked by hand, by a WebSocket client and by the real kubectl.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]
#![allow(clippy::disallowed_methods, reason = "a test waits for nobody else")]

#[path = "containerd/gateway.rs"]
mod gateway;
#[path = "containerd/lab.rs"]
mod lab;

use std::process::Stdio;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use gateway::Gateway;
use lab::{IMAGE, Lab, until};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// `c` echoes what it is told, `counter` counts and crashes when told to, `web` listens.
fn pod(uid: &str) -> Value {
    let counter =
        "i=0; while [ ! -e /tmp/end ]; do i=$((i+1)); echo line $i; sleep 0.2; done; echo last words; exit 3";
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "uid": uid, "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "nodeName": "edge-1", "restartPolicy": "Always", "terminationGracePeriodSeconds": 1,
            "containers": [
                {"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "stdin": true,
                 "command": ["cat"], "volumeMounts": [{"name": "ram", "mountPath": "/ram"}],
                 "resources": {"limits": {"memory": "64Mi"}}},
                {"name": "counter", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", counter]},
                {"name": "web", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                 "command": ["sh", "-c", "while true; do echo pong | nc -l -p 8080; done"]}],
            "volumes": [{"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]
        },
        "status": {"phase": "Running"}
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_api_serves_a_pod_as_the_kubelet_does() {
    let Some(lab) = Lab::start(true).await else { return };
    let uid = lab.uid(0);
    lab.store("default/pod/web", pod(&uid)).await;
    let edged = lab.edged().await;
    until("three running containers", || async {
        let text = lab.get("/runningpods/").await.1;
        let pods: Value = serde_json::from_str(&text).unwrap_or_default();
        pods["items"][0]["spec"]["containers"].as_array().is_some_and(|list| list.len() == 3)
    })
    .await;
    assert_eq!(lab.get("/healthz").await, (200, "ok".to_owned()));
    let pods: Value = serde_json::from_str(&lab.get("/pods").await.1).unwrap();
    assert_eq!((&pods["kind"], &pods["items"][0]["metadata"]["uid"]), (&json!("PodList"), &json!(uid)));

    logs(&lab).await;
    commands(&lab, &uid).await;
    attach_over_websocket(&lab).await;
    let gateway = Gateway::start(lab.path("edged.sock"), pod(&uid)).await;
    kubectl_exec(&lab, &gateway).await;
    kubectl_port_forward(&lab, &gateway).await;
    usage(&lab, &uid).await;
    edged.stop().await;
}

async fn logs(lab: &Lab) {
    let path = "/containerLogs/default/web/counter";
    until("some lines", || async { lab.get(path).await.1.contains("line 5\n") }).await;
    let (status, all) = lab.get(path).await;
    assert_eq!(status, 200);
    assert!(all.starts_with("line 1\nline 2\n"), "{all}");
    let tail = lab.get(&format!("{path}?tailLines=2")).await.1;
    assert_eq!(tail.lines().count(), 2, "{tail}");
    assert!(!tail.contains("line 1\n"), "{tail}");
    let timed = lab.get(&format!("{path}?timestamps=true&limitBytes=60")).await.1;
    assert_eq!(timed.len(), 60);
    let (time, rest) = timed.split_once(' ').unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok() && rest.starts_with("line 1\n"), "{timed}");
    let later = lab.get(&format!("{path}?sinceTime=2100-01-01T00:00:00Z")).await;
    assert_eq!(later, (200, String::new()));
    // What cannot be had is told in the kubelet's words.
    let (status, text) = lab.get(&format!("{path}?previous=true")).await;
    assert_eq!(
        (status, text.trim()),
        (400, "previous terminated container \"counter\" in pod \"web\" not found")
    );
    assert_eq!(lab.get("/containerLogs/default/none/c").await, (404, "pod \"none\" not found\n".to_owned()));
    let (status, text) = lab.get("/containerLogs/default/web/x").await;
    assert_eq!((status, text.trim()), (404, "container \"x\" not found in pod \"web\""));
    assert_eq!(lab.get(&format!("{path}?tailLines=x")).await.0, 400);

    // A follower sees the end: the container's last words, then the end of the answer.
    let followed = format!("{path}?follow=true&tailLines=1");
    let follow = lab.get(&followed);
    let end = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        lab.ask("POST", "/run/default/web/counter?cmd=touch+/tmp/end").await
    };
    let both = async { tokio::join!(follow, end) };
    let ((status, text), ended) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    assert_eq!((status, ended.0), (200, 200), "{ended:?}");
    assert!(text.lines().count() >= 3 && text.ends_with("\nlast words\n"), "{text}");
    until("the log of the crashed run", || async {
        lab.get(&format!("{path}?previous=true")).await.1.ends_with("last words\n")
    })
    .await;
}

async fn commands(lab: &Lab, uid: &str) {
    let (status, text) = lab.ask("POST", "/run/default/web/c?cmd=echo+hello").await;
    assert_eq!((status, text.as_str()), (200, "hello\n"));
    let (status, text) = lab.ask("POST", &format!("/run/default/web/{uid}/c?cmd=false")).await;
    assert_eq!((status, text.trim()), (500, "command ended with 1"));
    assert_eq!(lab.ask("POST", "/run/default/web/other-uid/c?cmd=true").await.0, 404);
    // An exec needs a connection that can be upgraded, streams, a command and a container.
    assert_eq!(lab.ask("POST", "/exec/default/web/c?command=true&output=1").await.0, 400);
    for (path, wanted) in [
        ("/exec/default/web/c?command=true", "400"),
        ("/exec/default/web/c?output=1", "400"),
        ("/exec/default/web/x?command=true&output=1", "404"),
        ("/portForward/default/web?port=x", "400"),
    ] {
        let error = websocket(lab, path).await.err().unwrap();
        assert!(error.contains(wanted), "{path}: {error}");
    }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio::net::UnixStream>;

async fn websocket(lab: &Lab, path: &str) -> Result<Socket, String> {
    let mut request = format!("ws://node{path}").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "v4.channel.k8s.io".parse().unwrap());
    request.headers_mut().insert("origin", "http://node".parse().unwrap());
    let connected = tokio_tungstenite::client_async(request, lab.connect().await).await;
    connected.map(|(socket, _)| socket).map_err(|error| error.to_string())
}

/// Messages begin with the number of their stream: 0 stdin, 1 stdout, 2 stderr, 3 how it ended.
async fn said(socket: &mut Socket, channel: u8, wanted: &str) {
    let mut text = String::new();
    while !text.contains(wanted) {
        let message = tokio::time::timeout(Duration::from_secs(20), socket.next()).await;
        let message =
            message.unwrap_or_else(|_| panic!("{wanted:?} not said, only {text:?}")).unwrap().unwrap();
        let data = message.into_data();
        if data.first() == Some(&channel) {
            text.push_str(&String::from_utf8_lossy(&data[1..]));
        }
    }
}

async fn attach_over_websocket(lab: &Lab) {
    let mut exec = websocket(
        lab,
        "/exec/default/web/c?command=sh&command=-c&command=echo+out;echo+err%3E%262;exit+7&output=1&error=1",
    )
    .await
    .unwrap();
    said(&mut exec, 1, "out\n").await;
    let mut exec =
        websocket(lab, "/exec/default/web/c?command=sh&command=-c&command=exit+7&output=1&error=1")
            .await
            .unwrap();
    said(&mut exec, 3, "\"message\":\"7\"").await;

    let mut attach = websocket(lab, "/attach/default/web/c?input=1&output=1").await.unwrap();
    attach.send(Message::Binary(Bytes::from_static(b"\0hello cat\n"))).await.unwrap();
    said(&mut attach, 1, "hello cat\n").await;
    attach.close(None).await.unwrap();
}

fn kubectl(lab: &Lab, gateway: &Gateway, spdy: bool) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("kubectl");
    command.env("KUBECONFIG", lab.path("none")).kill_on_drop(true);
    command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", if spdy { "false" } else { "true" });
    command.arg("--server").arg(&gateway.url).arg("--cache-dir").arg(lab.path("cache"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// kubectl tries WebSocket first, which the runtime's streaming server does not speak in kubectl's form, then SPDY.
async fn kubectl_exec(lab: &Lab, gateway: &Gateway) {
    for spdy in [true, false] {
        let script = "cat; echo to stderr >&2; exit 5";
        let mut child = kubectl(lab, gateway, spdy)
            .args(["exec", "-i", "web", "-c", "c", "--", "sh", "-c", script])
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let text = "a line of text\n".repeat(20_000);
        let wanted = text.clone();
        let write = async move {
            input.write_all(text.as_bytes()).await.unwrap();
            drop(input);
        };
        let both = async { tokio::join!(write, child.wait_with_output()) };
        let ((), output) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
        let output = output.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "spdy {spdy}: {errors}");
        assert_eq!(output.stdout.len(), wanted.len(), "{errors}");
        assert!(output.stdout == wanted.as_bytes() && errors.contains("to stderr\n"), "{errors}");
    }
    let output = kubectl(lab, gateway, true)
        .args(["logs", "web", "-c", "counter", "--tail=1"])
        .output()
        .await
        .unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"line "), "{output:?}");
    let output = kubectl(lab, gateway, true)
        .args(["exec", "web", "-c", "nothere", "--", "true"])
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("nothere"), "{errors}");
}

async fn kubectl_port_forward(lab: &Lab, gateway: &Gateway) {
    let mut child = kubectl(lab, gateway, true).args(["port-forward", "pod/web", ":8080"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await.unwrap();
    let line = line.unwrap().expect("kubectl says where it forwards from");
    let port: u16 = line.split("127.0.0.1:").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    for _ in 0..2 {
        until("an answer through the forwarded port", || async {
            let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else {
                return false;
            };
            let mut text = String::new();
            let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut text)).await;
            matches!(read, Ok(Ok(_))) && text == "pong\n"
        })
        .await;
    }
    child.kill().await.unwrap();
}

async fn usage(lab: &Lab, uid: &str) {
    let read = || async { serde_json::from_str::<Value>(&lab.get("/stats/summary").await.1).unwrap() };
    let first = read().await;
    assert_eq!(first["node"]["nodeName"], "edge-1");
    for number in [
        &first["node"]["memory"]["workingSetBytes"],
        &first["node"]["cpu"]["usageCoreNanoSeconds"],
        &first["node"]["fs"]["capacityBytes"],
        &first["node"]["rlimit"]["curproc"],
        &first["node"]["runtime"]["imageFs"]["capacityBytes"],
    ] {
        assert!(number.as_u64().unwrap_or(0) > 0, "{first}");
    }
    let pod = &first["pods"][0];
    assert_eq!(pod["podRef"], json!({"name": "web", "namespace": "default", "uid": uid}));
    assert_eq!(pod["network"]["name"], "eth0", "{pod}");
    let container = pod["containers"].as_array().unwrap().iter().find(|one| one["name"] == "c").unwrap();
    for number in [
        &pod["memory"]["workingSetBytes"],
        &pod["cpu"]["usageCoreNanoSeconds"],
        &pod["process_stats"]["process_count"],
        &pod["network"]["rxBytes"],
        &pod["ephemeral-storage"]["usedBytes"],
        &container["memory"]["workingSetBytes"],
        &container["cpu"]["usageCoreNanoSeconds"],
        &container["rootfs"]["capacityBytes"],
        &container["logs"]["capacityBytes"],
    ] {
        assert!(number.as_u64().unwrap_or(0) > 0, "{pod}");
    }
    assert_eq!(
        (&pod["volume"][0]["name"], &pod["volume"][0]["capacityBytes"]),
        (&json!("ram"), &json!(1 << 20))
    );
    // A second look has rates.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(read().await["node"]["cpu"]["usageNanoCores"].as_u64().unwrap_or(0) > 0);
    let short: Value =
        serde_json::from_str(&lab.get("/stats/summary?only_cpu_and_memory=true").await.1).unwrap();
    assert!(short["pods"][0]["cpu"].is_object() && short["pods"][0]["network"].is_null(), "{short}");

    let text = lab.get("/metrics/resource").await.1;
    for start in [
        "node_cpu_usage_seconds_total ",
        "node_memory_working_set_bytes ",
        "container_memory_working_set_bytes{container=\"c\",namespace=\"default\",pod=\"web\"} ",
        "pod_cpu_usage_seconds_total{namespace=\"default\",pod=\"web\"} ",
        "scrape_error 0",
    ] {
        assert!(text.lines().any(|line| line.starts_with(start)), "{start} is not in\n{text}");
    }
    let text = lab.get("/metrics/cadvisor").await.1;
    let wanted =
        "container_network_receive_bytes_total{interface=\"eth0\",namespace=\"default\",pod=\"web\"} ";
    assert!(text.contains(wanted), "{text}");
    let text = lab.get("/metrics").await.1;
    assert!(
        text.contains("\nkubelet_running_pods 1\n") && text.contains("process_resident_memory_bytes "),
        "{text}"
    );
}
