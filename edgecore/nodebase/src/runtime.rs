//! Watches whether the container runtime answers and whether its network is ready.

use futures_util::future::BoxFuture;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use podmodel::cgroups::CgroupDriver;
use podmodel::errors::chain;

/// What is known of the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeFacts {
    pub ready: bool,
    pub network_ready: bool,
    /// Why it is not ready; empty when it is.
    pub trouble: String,
    /// `containerd`
    pub name: String,
    pub version: String,
    pub driver: CgroupDriver,
    /// Names a RuntimeClass may lead to; empty where the runtime does not tell.
    pub handlers: Vec<String>,
    /// A pod's groups can be kept apart from those of its image.
    pub has_strict_groups: bool,
    /// Mounts can be made read-only with all that is mounted below them.
    pub has_recursive_read_only: bool,
    /// The image of sandboxes, which no pod names; empty where the runtime does not tell.
    pub sandbox_image: String,
}

impl RuntimeFacts {
    pub fn unknown(driver: CgroupDriver) -> RuntimeFacts {
        RuntimeFacts {
            ready: false,
            network_ready: false,
            trouble: "container runtime has not answered yet".to_owned(),
            name: "containerd".to_owned(),
            version: String::new(),
            driver,
            handlers: Vec::new(),
            has_strict_groups: false,
            has_recursive_read_only: false,
            sandbox_image: String::new(),
        }
    }
}

/// How often the runtime is asked (docs/protocol/edge-runtime.md 5.2), and how often while it does not answer.
const CHECK: Duration = Duration::from_secs(5);
const CHECK_ABSENT: Duration = Duration::from_secs(1);

pub fn watch(
    runtime: cri::Runtime,
    facts: watch::Sender<RuntimeFacts>,
    stop: CancellationToken,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        loop {
            let before = facts.borrow().clone();
            let now = ask(&runtime, &before).await;
            let wait = if now.ready { CHECK } else { CHECK_ABSENT };
            if now.ready != before.ready {
                tracing::info!(ready = now.ready, error = %now.trouble, "container runtime");
            }
            facts.send_if_modified(|known| {
                let changed = *known != now;
                *known = now;
                changed
            });
            tokio::select! {
                biased;
                _ = stop.cancelled() => return,
                _ = tokio::time::sleep(wait) => {}
            }
        }
    })
}

async fn ask(runtime: &cri::Runtime, before: &RuntimeFacts) -> RuntimeFacts {
    let absent = |error: cri::CallError| RuntimeFacts {
        ready: false,
        network_ready: false,
        trouble: chain(&error),
        ..before.clone()
    };
    let mut facts = before.clone();
    if !before.ready {
        match runtime.version().await {
            Ok(version) => (facts.name, facts.version) = (version.runtime_name, version.runtime_version),
            Err(error) => return absent(error),
        }
        // Runtimes without the call leave the configured driver.
        if let Ok(Some(driver)) = runtime.cgroup_driver().await {
            facts.driver = match driver {
                cri::v1::CgroupDriver::Systemd => CgroupDriver::Systemd,
                cri::v1::CgroupDriver::Cgroupfs => CgroupDriver::Cgroupfs,
            };
        }
    }
    let answer = match runtime.status(!before.ready).await {
        Ok(answer) => answer,
        Err(error) => return absent(error),
    };
    if !before.ready {
        learn(&mut facts, &answer);
    }
    let status = answer.status.unwrap_or_default();
    let condition = |kind: &str| status.conditions.iter().find(|condition| condition.r#type == kind);
    facts.ready = condition("RuntimeReady").is_some_and(|condition| condition.status);
    facts.network_ready = condition("NetworkReady").is_some_and(|condition| condition.status);
    let troubles: Vec<String> = status
        .conditions
        .iter()
        .filter(|condition| !condition.status)
        .map(|condition| format!("{} is false: {} {}", condition.r#type, condition.reason, condition.message))
        .collect();
    facts.trouble = troubles.join("; ");
    facts
}

/// What does not change while the runtime runs.
fn learn(facts: &mut RuntimeFacts, answer: &cri::v1::StatusResponse) {
    facts.handlers = answer.runtime_handlers.iter().map(|handler| handler.name.clone()).collect();
    facts.has_strict_groups = answer.features.as_ref().is_some_and(|all| all.supplemental_groups_policy);
    let default = answer.runtime_handlers.iter().find(|handler| handler.name.is_empty());
    facts.has_recursive_read_only = default
        .and_then(|handler| handler.features.as_ref())
        .is_some_and(|features| features.recursive_read_only_mounts);
    facts.sandbox_image = sandbox_image(&answer.info).unwrap_or_default();
}

/// Where containerd (1.x, 2.x) and CRI-O name the image of sandboxes.
fn sandbox_image(info: &std::collections::HashMap<String, String>) -> Option<String> {
    let config = info.get("config")?;
    let config: serde_json::Value = serde_json::from_str(config).ok()?;
    let places = ["/sandboxImage", "/pinnedImages/sandbox", "/images/pinnedImages/sandbox", "/pause_image"];
    places.iter().find_map(|place| config.pointer(place)?.as_str().map(str::to_owned))
}
