//! Lifecycle hooks (docs/protocol/edge-runtime.md 5.9): postStart before the next container, preStop within the grace.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use super::worker::Worker;
use nodebase::events::Kind;
use podmodel::observed::{Instance, Observed};
use probes::handler::{ProbeOutcome, Target};

/// A hook that never ends must not hold its pod's worker for ever.
const POST_START_LIMIT: Duration = Duration::from_secs(120);

impl Worker {
    /// True if the container has no postStart hook, or it went well.
    pub(super) async fn post_start(&self, container: &Container, id: &str, pod_ip: &str) -> bool {
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(hook) = hook else { return true };
        let target = Target::of_hook(hook, container, id, pod_ip, POST_START_LIMIT);
        let answer = target.ask(&self.context.base.runtime).await;
        if answer.outcome == ProbeOutcome::Good {
            return true;
        }
        let text = format!("PostStartHook failed: {}", answer.text);
        self.context.base.events.record(
            &self.id,
            Some(&container.name),
            Kind::Warning,
            "FailedPostStartHook",
            &text,
        );
        false
    }

    /// Runs the preStop hook of a running container, at most for `grace`. Its failure stops nothing.
    pub(super) async fn pre_stop(&self, run: &Instance, observed: &Observed, grace: Duration) {
        let read = |text: &String| serde_json::from_str::<LifecycleHandler>(text).ok();
        let Some(hook) = run.pre_stop.as_ref().and_then(read) else { return };
        let ports = run.ports.as_ref().and_then(|text| serde_json::from_str(text).ok());
        let container = Container { name: run.name.clone(), ports, ..Container::default() };
        let sandbox = observed.sandboxes.iter().find(|sandbox| sandbox.id == run.sandbox);
        let pod_ip = match sandbox.and_then(|sandbox| sandbox.ips.first()) {
            Some(ip) => ip.clone(),
            None => self.context.addresses.all().into_iter().next().unwrap_or_default(),
        };
        let target = Target::of_hook(&hook, &container, &run.id, &pod_ip, grace);
        let answer = tokio::time::timeout(grace, target.ask(&self.context.base.runtime)).await;
        let bad = match answer {
            Ok(answer) if answer.outcome == ProbeOutcome::Good => None,
            Ok(answer) => Some(answer.text),
            Err(_) => Some("it did not end within the grace".to_owned()),
        };
        if let Some(why) = bad {
            let text = format!("PreStopHook failed: {why}");
            self.context.base.events.record(
                &self.id,
                Some(&run.name),
                Kind::Warning,
                "FailedPreStopHook",
                &text,
            );
        }
    }
}
