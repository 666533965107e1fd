//! Edged against a real containerd: a pod with volumes starts, is adopted after a restart, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]
#![allow(clippy::disallowed_methods, reason = "a test waits for nobody else")]

#[path = "containerd/lab.rs"]
mod lab;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cri::v1;
use harness::containerd::mounts_below;
use lab::{IMAGE, Lab, until};
use message::ObjectKey;
use metamanager::{Change, ObjectChange};
use serde_json::{Value, json};

fn pod(uid: &str, host_network: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "uid": uid, "resourceVersion": "1", "labels": {"app": "web"}},
        "spec": {
            "nodeName": "edge-1", "hostNetwork": host_network, "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"fsGroup": 2000},
            "initContainers": [
                {"name": "first", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                 "command": ["sh", "-c", "echo made > /shared/made"],
                 "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}],
            "containers": [
                {"name": "talker", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                 "command": ["sh", "-c", "cat /etc/app/greeting /etc/pass/word /shared/made; echo $WHO $(NODE); sleep 1000"],
                 "env": [{"name": "WHO", "valueFrom": {"configMapKeyRef": {"name": "app", "key": "who"}}},
                         {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                 "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                 "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}, {"name": "pass", "mountPath": "/etc/pass"},
                                  {"name": "shared", "mountPath": "/shared"}]},
                {"name": "sleeper", "image": IMAGE, "imagePullPolicy": "Always",
                 "securityContext": {"runAsUser": 1000, "readOnlyRootFilesystem": true},
                 "volumeMounts": [{"name": "ram", "mountPath": "/ram", "subPath": "below"},
                                  {"name": "config", "mountPath": "/one", "subPath": "greeting"}]}],
            "volumes": [
                {"name": "config", "configMap": {"name": "app"}},
                {"name": "pass", "secret": {"secretName": "pass"}},
                {"name": "shared", "emptyDir": {}},
                {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]
        }
    })
}

fn config_map(greeting: &str, version: u64) -> Value {
    json!({"metadata": {"name": "app", "namespace": "default", "uid": "cm", "resourceVersion": version.to_string()},
        "data": {"greeting": greeting, "who": "causeway"}})
}

fn log(lab: &Lab, container: &str) -> String {
    let path = lab.path(&format!("logs/default_web_{}/{container}/0.log", lab.uid(0)));
    std::fs::read_to_string(path).unwrap_or_default()
}

async fn life_of_a_pod(cni: bool) {
    let Some(lab) = Lab::start(cni).await else { return };
    let uid = lab.uid(0);
    lab.store("default/configmap/app", config_map("hello\n", 1)).await;
    let secret = json!({"metadata": {"name": "pass", "namespace": "default", "uid": "s"}, "data": {"word": "c2VjcmV0Cg=="}});
    lab.store("default/secret/pass", secret).await;
    lab.store("default/pod/web", pod(&uid, !cni)).await;

    // It starts from the store, offline.
    let edged = lab.edged().await;
    until("a ready status", || async {
        let status = lab.status("web").await;
        status["status"]["conditions"]
            .as_array()
            .is_some_and(|list| list.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
    })
    .await;
    until("the log", || async { log(&lab, "talker").contains("causeway") }).await;
    let said: Vec<String> = log(&lab, "talker")
        .lines()
        .map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned())
        .collect();
    assert_eq!(said, ["hello", "secret", "made", "causeway edge-1"].map(str::to_owned));
    let status = lab.status("web").await;
    assert_eq!(status["metadata"]["uid"], uid.as_str());
    assert_eq!(status["status"]["phase"], "Running");
    assert_eq!(status["status"]["qosClass"], "Burstable");
    assert!(status["status"]["podIP"].is_string(), "{status}");
    let containers = status["status"]["containerStatuses"].as_array().unwrap();
    assert_eq!(containers.len(), 2);
    assert!(containers[0]["containerID"].as_str().unwrap().starts_with("containerd://"));

    // Log collectors find the containers by name.
    let id = containers[1]["containerID"].as_str().unwrap().trim_start_matches("containerd://").to_owned();
    let link = lab.path(&format!("containers/web_default_talker-{id}.log"));
    until("the link to the log", || async { link.exists() }).await;
    assert_eq!(std::fs::read_to_string(&link).unwrap(), log(&lab, "talker"));

    // A changed config map reaches the file.
    let greeting = lab.path(&format!("kubelet/pods/{}/volumes/kubernetes.io~configmap/config/greeting", uid));
    let change = lab.store("default/configmap/app", config_map("changed\n", 2)).await;
    edged.tell(change).await;
    until("the new greeting", || async { std::fs::read_to_string(&greeting).unwrap() == "changed\n" }).await;

    // A restart of Edged adopts the same containers.
    let before = lab.container_ids().await;
    edged.stop().await;
    let edged = lab.edged().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(lab.container_ids().await, before);

    // Deletion leaves nothing.
    let mut ending = pod(&uid, !cni);
    ending["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:00:00Z");
    ending["metadata"]["deletionGracePeriodSeconds"] = json!(1);
    let change = lab.store("default/pod/web", ending).await;
    edged.tell(change).await;
    until("the deletion in the outbox", || async {
        lab.outbox().await.iter().any(|message| message.route.operation == "delete")
    })
    .await;
    let status = lab.status("web").await;
    assert!(status["status"]["containerStatuses"][0]["state"]["terminated"].is_object(), "{status}");
    assert!(lab.container_ids().await.is_empty());
    assert!(lab.runtime().list_pod_sandboxes(None).await.unwrap().is_empty());
    assert_eq!(mounts_below(&lab.path("kubelet")), Vec::<PathBuf>::new());
    assert!(!lab.path(&format!("kubelet/pods/{}", uid)).exists());
    assert_eq!(cgroups_named(&format!("pod{}", uid)), Vec::<PathBuf>::new());

    let gone = ObjectChange {
        key: ObjectKey::parse("default/pod/web").unwrap(),
        change: Change::Remove { uid: Some(uid.clone()) },
    };
    edged.tell(gone).await;
    let logs = lab.path(&format!("logs/default_web_{}", uid));
    until("the removal of the logs", || async { !logs.exists() }).await;
    until("the removal of the links", || async {
        std::fs::read_dir(lab.path("containers")).unwrap().next().is_none()
    })
    .await;
    edged.stop().await;
}

fn cgroups_named(name: &str) -> Vec<PathBuf> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let all = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
    let classes = ["kubepods", "kubepods/burstable", "kubepods/besteffort"];
    all.flat_map(|root| classes.map(|class| root.join(class).join(name)))
        .filter(|path: &PathBuf| Path::exists(path))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_last_two_runs_of_a_crashing_container_keep_their_logs() {
    let Some(lab) = Lab::start(false).await else { return };
    let uid = lab.uid(0);
    let container = json!({"name": "crasher", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", "echo words; exit 1"]});
    let pod = json!({"metadata": {"name": "web", "namespace": "default", "uid": uid},
        "spec": {"nodeName": "edge-1", "hostNetwork": true, "terminationGracePeriodSeconds": 1, "containers": [container]}});
    lab.store("default/pod/web", pod.clone()).await;
    let edged = lab.edged_that(|settings| settings.longest_restart = Duration::from_millis(100)).await;
    let folder = lab.path(&format!("logs/default_web_{uid}/crasher"));
    let logs = || {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    until("the fourth run", || async { folder.join("3.log").exists() }).await;
    until("the end of the first logs", || async { !folder.join("0.log").exists() }).await;
    assert!(logs().len() <= 3, "{:?}", logs());
    edged.delete(&lab, pod).await;
    edged.stop().await;
}

/// containerd's CRI can lose sight of a task when a start is broken off; here one is made behind its back.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_the_runtime_lost_sight_of_does_not_keep_a_gone_pod() {
    let Some(lab) = Lab::start(false).await else { return };
    let (uid, runtime) = (lab.uid(0), lab.runtime());
    let labels =
        [("pod.name", "lost"), ("pod.namespace", "default"), ("pod.uid", &uid), ("container.name", "c")];
    let mut labels: HashMap<String, String> =
        labels.map(|(key, value)| (format!("io.kubernetes.{key}"), value.to_owned())).into();
    labels.insert("causeway.io/node-root".to_owned(), lab.path("kubelet").display().to_string());
    let own_network = v1::NamespaceOption { network: v1::NamespaceMode::Node.into(), ..Default::default() };
    let security =
        v1::LinuxSandboxSecurityContext { namespace_options: Some(own_network), ..Default::default() };
    let config = v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "lost".into(),
            uid: uid.clone(),
            namespace: "default".into(),
            attempt: 0,
        }),
        labels: labels.clone(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: format!("/kubepods/besteffort/pod{uid}"),
            security_context: Some(security),
            ..Default::default()
        }),
        ..Default::default()
    };
    let sandbox = runtime.run_pod_sandbox(config.clone(), "").await.unwrap();
    let image = runtime.image_status(IMAGE).await.unwrap().unwrap().id;
    let container = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "c".into(), attempt: 0 }),
        image: Some(v1::ImageSpec { image, ..Default::default() }),
        command: ["sleep", "1000"].map(str::to_owned).into(),
        labels,
        ..Default::default()
    };
    let id = runtime.create_container(&sandbox, container, config).await.unwrap();
    let socket = lab.containerd.socket();
    let socket = socket.trim_start_matches("unix://");
    let arguments = ["--address", socket, "--namespace", "k8s.io", "task", "start", "--detach", &id];
    let started = tokio::process::Command::new("ctr").args(arguments).output().await.unwrap();
    assert!(started.status.success(), "{started:?}");
    assert!(runtime.remove_container(&id).await.unwrap_err().is_refused());

    let edged = lab.edged().await;
    until("the end of the container", || async { lab.container_ids().await.is_empty() }).await;
    until("the end of the sandbox", || async { runtime.list_pod_sandboxes(None).await.unwrap().is_empty() })
        .await;
    until("the end of its cgroups", || async { cgroups_named(&format!("pod{uid}")).is_empty() }).await;
    edged.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_in_the_hosts_network_lives_and_leaves_nothing_behind() {
    life_of_a_pod(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_its_own_address_lives_and_leaves_nothing_behind() {
    life_of_a_pod(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_asks_the_name_servers_behind_the_stub_of_systemd_resolved() {
    let Some(lab) = Lab::start(true).await else { return };
    std::fs::write(lab.path("stub.conf"), "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n")
        .unwrap();
    std::fs::write(lab.path("upstream.conf"), "nameserver 192.0.2.53\nsearch lan\n").unwrap();
    let uid = lab.uid(0);
    let container = json!({"name": "talker", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", "cat /etc/resolv.conf; echo end; sleep 1000"]});
    let pod = json!({"metadata": {"name": "web", "namespace": "default", "uid": uid},
        "spec": {"nodeName": "edge-1", "dnsPolicy": "Default", "terminationGracePeriodSeconds": 1,
            "containers": [container]}});
    lab.store("default/pod/web", pod.clone()).await;
    let (stub, upstream) = (lab.path("stub.conf"), lab.path("upstream.conf"));
    let edged =
        lab.edged_that(|settings| (settings.resolv_conf, settings.resolved_conf) = (stub, upstream)).await;
    until("the log", || async { log(&lab, "talker").contains(" end") }).await;
    let text = log(&lab, "talker");
    assert!(text.contains("nameserver 192.0.2.53") && !text.contains("127.0.0.53"), "{text}");
    edged.delete(&lab, pod).await;
    edged.stop().await;
}
