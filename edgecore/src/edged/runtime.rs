//! Watches whether the container runtime answers and whether its network is ready.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::context::chain;
use super::settings::CgroupDriver;

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
        }
    }
}

/// How often the runtime is asked (spec/edge-runtime.md 5.2), and how often while it does not answer.
const CHECK: Duration = Duration::from_secs(5);
const CHECK_ABSENT: Duration = Duration::from_secs(1);

pub async fn watch(runtime: cri::Runtime, facts: watch::Sender<RuntimeFacts>, stop: CancellationToken) {
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
    let status = match runtime.status().await {
        Ok(status) => status,
        Err(error) => return absent(error),
    };
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
