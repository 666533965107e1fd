//! The configurations by which API servers know these webhooks. One replica keeps them, with the CAs of today; those that are
//! missing are made, if CloudCore may. Whoever installs CloudCore in a cluster makes them empty, and removes them.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::kinds::{KindInfo, lines};
use apimachinery::webhooks::{Phase, complete};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use message::{Json, Status};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::offline::LABEL;
use super::{Offline, Reached, Settings, paths};
use crate::cloudhub::material::{NAMESPACE, Trust};
use crate::kubernetes::{Cluster, WorkEnded, lead};

/// Of both, and of the Service.
const NAME: &str = "cloudcore-webhooks";
/// How often is looked whether others changed them.
const LOOK: Duration = Duration::from_secs(60);
/// Wait before what failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

pub(super) async fn keep(
    settings: Settings,
    cluster: Cluster,
    trust: watch::Receiver<Arc<Trust>>,
    stop: CancellationToken,
) -> Result<(), WorkEnded> {
    let work = {
        let cluster = cluster.clone();
        move |until: CancellationToken| {
            let (settings, cluster, trust) = (settings.clone(), cluster.clone(), trust.clone());
            async move {
                tokio::select! {
                    biased;
                    () = until.cancelled() => {}
                    () = follow(&settings, &cluster, trust) => {}
                }
            }
        }
    };
    lead(cluster, "webhooks", stop, work).await
}

/// Until the trust is nobody's any more, as the program ends.
async fn follow(settings: &Settings, cluster: &Cluster, mut trust: watch::Receiver<Arc<Trust>>) {
    loop {
        let ca = trust.borrow_and_update().bundle.to_pem();
        let mut wait = LOOK;
        for (phase, webhooks) in wanted(settings, &ca) {
            if let Err(status) = put(cluster, phase, &webhooks).await {
                tracing::warn!(
                    error = %status,
                    "a configuration of admission webhooks is not as it should be, trying again; it is part of the chart and of \
                     keadm manifest generate"
                );
                if status.is_retryable() || status.is_conflict() {
                    wait = AGAIN;
                }
            }
        }
        if let Ok(Err(_)) = tokio::time::timeout(wait, trust.changed()).await {
            return std::future::pending().await;
        }
    }
}

fn line(phase: Phase) -> &'static KindInfo {
    match phase {
        Phase::Mutating => &lines::MutatingWebhookConfiguration,
        Phase::Validating => &lines::ValidatingWebhookConfiguration,
    }
}

/// Makes the configuration have these webhooks; what else it has stays.
async fn put(cluster: &Cluster, phase: Phase, webhooks: &Value) -> Result<(), Status> {
    let line = line(phase);
    let path = line.path(None, NAME);
    let mut found: Value = match cluster.get(&path).await {
        Ok(found) => found.parse().map_err(|error| Status::internal(error.to_string()))?,
        Err(status) if status.is_not_found() => {
            let made = json!({
                "apiVersion": line.api_version(), "kind": line.kind,
                "metadata": {"name": NAME, "labels": {"app.kubernetes.io/part-of": "causeway"}},
                "webhooks": webhooks,
            });
            return cluster.create(&line.path(None, ""), &Json::of(&made)).await.map(drop);
        }
        Err(status) => return Err(status),
    };
    if is_within(webhooks, &found["webhooks"]) {
        return Ok(());
    }
    found["webhooks"] = webhooks.clone();
    cluster.replace(&path, &Json::of(&found)).await?;
    tracing::info!(kind = line.kind, "configuration of admission webhooks written");
    Ok(())
}

/// True if everything that is wanted is there; servers of other versions may add fields.
fn is_within(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            wanted.iter().all(|(name, value)| found.get(name).is_some_and(|found| is_within(value, found)))
        }
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(one, other)| is_within(one, other))
        }
        // An empty list may be left out.
        (Value::Array(wanted), Value::Null) => wanted.is_empty(),
        (wanted, found) => wanted == found,
    }
}

/// The webhooks of both configurations. `ca`: PEM. Pure.
fn wanted(settings: &Settings, ca: &str) -> [(Phase, Value); 2] {
    let hook = |name: &str, path: &str, seconds: u32, rules: Value, namespaces: Value| {
        json!({
            "name": format!("{name}.webhooks.causeway.io"),
            "admissionReviewVersions": ["v1"],
            "clientConfig": client(settings, path, ca),
            "failurePolicy": "Ignore",
            "sideEffects": "None",
            "timeoutSeconds": seconds,
            "rules": rules,
            "namespaceSelector": namespaces,
        })
    };
    let rule = |group: &str, resource: &str, operations: &[&str]| {
        json!({"apiGroups": [group], "apiVersions": ["v1"], "resources": [resource], "operations": operations,
            "scope": "Namespaced"})
    };
    let mut pods = hook("pods", paths::PODS, 2, json!([rule("", "pods", &["CREATE"])]), json!({}));
    // What others add, such as a label, counts.
    pods["reinvocationPolicy"] = json!("IfNeeded");
    let written = ["CREATE", "UPDATE"];
    let endpoints =
        json!([rule("", "endpoints", &written), rule("discovery.k8s.io", "endpointslices", &written)]);
    let endpoints = hook("endpoints", paths::ENDPOINTS, 3, endpoints, json!({}));
    let offline = [(Offline::Warn, paths::WARN), (Offline::Deny, paths::DENY)].map(|(mode, path)| {
        let rules = json!([rule("", "pods", &["UPDATE", "DELETE"])]);
        hook(&format!("offline-{}", mode.as_str()), path, 2, rules, namespaces(mode, settings.offline))
    });
    let whole = |phase, webhooks: Value| {
        let mut configuration = json!({"webhooks": webhooks});
        complete(phase, &mut configuration);
        (phase, configuration["webhooks"].take())
    };
    [whole(Phase::Mutating, json!([pods, endpoints])), whole(Phase::Validating, json!(offline))]
}

/// Namespaces of a mode: those that say so, and all that say nothing, if it is the usual one.
fn namespaces(mode: Offline, usual: Offline) -> Value {
    let all = [Offline::Ignore, Offline::Warn, Offline::Deny];
    let others = all.into_iter().filter(|other| *other != mode).map(Offline::as_str);
    let expression = match mode == usual {
        true => json!({"key": LABEL, "operator": "NotIn", "values": others.collect::<Vec<_>>()}),
        false => json!({"key": LABEL, "operator": "In", "values": [mode.as_str()]}),
    };
    json!({"matchExpressions": [expression]})
}

fn client(settings: &Settings, path: &str, ca: &str) -> Value {
    let mut client = json!({"caBundle": STANDARD.encode(ca)});
    match &settings.reached {
        Reached::Service => {
            client["service"] =
                json!({"namespace": NAMESPACE, "name": NAME, "path": path, "port": settings.listen.port()});
        }
        Reached::Url(url) => {
            let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
            client["url"] = json!(format!("https://{host}:{}{path}", url.port));
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use apimachinery::LabelSelector;
    use apimachinery::webhooks::{Url, problems};

    use super::*;

    fn settings(reached: Reached, offline: Offline) -> Settings {
        Settings { listen: ([0, 0, 0, 0], 10005).into(), reached, offline }
    }

    #[test]
    fn both_configurations_are_valid_complete_and_fail_open() {
        let url = Url::parse("https://[fd00::5]:10005").unwrap();
        for reached in [Reached::Service, Reached::Url(url)] {
            for (phase, webhooks) in wanted(&settings(reached, Offline::Ignore), "") {
                let mut configuration = json!({"webhooks": webhooks});
                assert_eq!(problems(phase, &configuration), []);
                complete(phase, &mut configuration);
                assert_eq!(configuration["webhooks"], webhooks, "nothing is left to the server");
                for hook in webhooks.as_array().unwrap() {
                    assert_eq!(hook["failurePolicy"], "Ignore");
                    assert!(hook["timeoutSeconds"].as_u64().unwrap() <= 3);
                }
            }
        }
    }

    #[test]
    fn a_namespace_without_a_label_has_the_usual_mode_and_one_with_a_label_its_own() {
        for usual in [Offline::Ignore, Offline::Warn, Offline::Deny] {
            for (label, mode) in [
                (None, usual),
                (Some("warn"), Offline::Warn),
                (Some("deny"), Offline::Deny),
                (Some("ignore"), Offline::Ignore),
            ] {
                let namespace = json!({"metadata": {"labels": label.map(|label| json!({LABEL: label}))}});
                let asked = [Offline::Warn, Offline::Deny].into_iter().filter(|mode| {
                    let selector = LabelSelector::of_object(&namespaces(*mode, usual), "").unwrap();
                    selector.matches_object(&namespace)
                });
                let expected: Vec<Offline> =
                    [mode].into_iter().filter(|mode| *mode != Offline::Ignore).collect();
                assert_eq!(asked.collect::<Vec<_>>(), expected, "{label:?}, {usual:?}");
            }
        }
    }

    #[test]
    fn only_what_is_wanted_is_compared() {
        let wanted = json!([{"name": "a", "rules": [{"scope": "*"}], "none": []}]);
        assert!(is_within(
            &wanted,
            &json!([{"name": "a", "rules": [{"scope": "*", "new": 1}], "none": [], "more": 2}])
        ));
        assert!(!is_within(&wanted, &json!([{"name": "a", "rules": [], "none": []}])));
        assert!(!is_within(&wanted, &json!([{"name": "b", "rules": [{"scope": "*"}], "none": []}])));
        assert!(!is_within(&wanted, &Value::Null));
    }
}
