//! MutatingWebhookConfiguration and ValidatingWebhookConfiguration: completed, and read.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::Client;
use super::matching::Matching;
use super::rules::Asked;
use crate::kinds::lines;
use crate::object::{self, integer, list, maps_in, set_default, text};

/// When webhooks are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// One after the other; they may change the object.
    Mutating,
    /// All at once, about the object as it would be stored.
    Validating,
}

impl Phase {
    /// That of configurations of this resource.
    pub fn of_resource(group: &str, resource: &str) -> Option<Phase> {
        let is = |line: &crate::kinds::KindInfo| (line.group, line.resource) == (group, resource);
        match () {
            () if is(&lines::MutatingWebhookConfiguration) => Some(Phase::Mutating),
            () if is(&lines::ValidatingWebhookConfiguration) => Some(Phase::Validating),
            () => None,
        }
    }
}

/// Fills in what a configuration may leave out (`pkg/apis/admissionregistration/v1/defaults.go`).
pub fn complete(phase: Phase, configuration: &mut Value) {
    for hook in maps_in(object::as_map(configuration), "webhooks") {
        set_default(hook, "failurePolicy", "Fail");
        set_default(hook, "matchPolicy", "Equivalent");
        set_default(hook, "namespaceSelector", json!({}));
        set_default(hook, "objectSelector", json!({}));
        set_default(hook, "timeoutSeconds", 10);
        if phase == Phase::Mutating {
            set_default(hook, "reinvocationPolicy", "Never");
        }
        let service = hook.get_mut("clientConfig").and_then(|config| config.get_mut("service"));
        if let Some(service) = service.and_then(Value::as_object_mut) {
            set_default(service, "port", 443);
        }
        for rule in maps_in(hook, "rules") {
            set_default(rule, "scope", "*");
        }
    }
}

/// A webhook of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// A name with dots, which refusals tell.
    pub name: String,
    pub client: Client,
    /// PEM; empty: none is given yet.
    pub ca: Vec<u8>,
    pub matching: Matching,
    /// `matchConditions`, as they are written.
    pub conditions: Vec<Value>,
    /// `failurePolicy: Ignore`: a webhook that cannot be asked is passed over.
    pub fails_open: bool,
    pub timeout: Duration,
    /// `reinvocationPolicy: IfNeeded`: asked once more if another one changed the object after it.
    pub again: bool,
}

impl Webhook {
    pub fn matches(&self, asked: &Asked<'_>) -> bool {
        self.matching.matches(asked)
    }
}

/// The webhooks of a configuration that was checked, in its order. What cannot be read is left out.
pub fn read(configuration: &Value) -> Vec<Webhook> {
    list(configuration, "/webhooks").iter().filter_map(webhook).collect()
}

fn webhook(hook: &Value) -> Option<Webhook> {
    use base64::Engine as _;
    let ca = base64::engine::general_purpose::STANDARD.decode(text(hook, "/clientConfig/caBundle")).ok()?;
    let seconds = integer(hook, "/timeoutSeconds").and_then(|seconds| u64::try_from(seconds).ok());
    Some(Webhook {
        name: text(hook, "/name").to_owned(),
        client: Client::read(&hook["clientConfig"])?,
        ca,
        matching: Matching::of_webhook(hook)?,
        conditions: list(hook, "/matchConditions").to_vec(),
        fails_open: text(hook, "/failurePolicy") == "Ignore",
        timeout: Duration::from_secs(seconds.unwrap_or(10)),
        again: text(hook, "/reinvocationPolicy") == "IfNeeded",
    })
}
