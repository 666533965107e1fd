//! The client against the fake, over a real socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::sync::Arc;
use std::time::Duration;

use cri::Runtime;
use cri::fake::Fake;
use cri::v1::{ContainerConfig, ContainerMetadata, PodSandboxConfig, PodSandboxMetadata};

fn fake() -> (tempfile::TempDir, Fake, Runtime) {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path(), Arc::new(|| 7)).unwrap();
    let runtime = Runtime::new(&fake.endpoint()).unwrap();
    (folder, fake, runtime)
}

fn sandbox(name: &str) -> PodSandboxConfig {
    let metadata =
        PodSandboxMetadata { name: name.into(), uid: "u".into(), namespace: "d".into(), attempt: 0 };
    PodSandboxConfig { metadata: Some(metadata), ..Default::default() }
}

fn container(name: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_container_lives_from_create_to_remove() {
    let (_folder, fake, runtime) = fake();
    assert_eq!(runtime.version().await.unwrap().runtime_name, "fake");
    let id = runtime.run_pod_sandbox(sandbox("p"), "").await.unwrap();
    let made = runtime.create_container(&id, container("c"), sandbox("p")).await.unwrap();
    runtime.start_container(&made).await.unwrap();
    assert!(fake.exit("c", 3));
    assert_eq!(runtime.container_status(&made).await.unwrap().exit_code, 3);
    runtime.stop_pod_sandbox(&id).await.unwrap();
    runtime.remove_pod_sandbox(&id).await.unwrap();
    assert!(runtime.list_containers(None).await.unwrap().is_empty());
}

#[tokio::test]
async fn errors_name_the_call_and_the_object_and_tell_their_kind() {
    let (_folder, _fake, runtime) = fake();
    let error = runtime.container_status("none").await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "calling ContainerStatus of the container runtime for none");
    assert!(runtime.cgroup_driver().await.unwrap_err().is_unimplemented());
    runtime.stop_container("none", Duration::from_secs(1)).await.unwrap();
    runtime.remove_pod_sandbox("none").await.unwrap();
    runtime.run_pod_sandbox(sandbox("p"), "").await.unwrap();
    assert!(runtime.run_pod_sandbox(sandbox("p"), "").await.unwrap_err().is_name_taken());
}

#[tokio::test]
async fn an_absent_runtime_is_worth_a_retry_and_is_found_when_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cri.sock");
    let runtime = Runtime::new(&format!("unix://{}", path.display())).unwrap();
    assert!(runtime.version().await.unwrap_err().is_retryable());
    let _fake = Fake::start(folder.path(), Arc::new(|| 7)).unwrap();
    runtime.version().await.unwrap();
}

#[test]
fn an_endpoint_that_is_no_unix_socket_is_refused() {
    assert!(Runtime::new("tcp://127.0.0.1:1").is_err());
    assert!(Runtime::new("relative.sock").is_err());
}
