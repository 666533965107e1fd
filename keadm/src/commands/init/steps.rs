//! What an installation changes in a cluster: objects to be made, updated, taken over, removed.

use std::collections::HashSet;

use anyhow::{Context, bail};
use manifests::{Installation, NAMESPACE};
use ring::digest;
use serde_json::{Value, json};

use crate::cluster::{Kind, Objects, SELECTOR, is_ours, title};
use crate::render;

/// Of the pods: they are replaced when their configuration is another.
const CHECKSUM: &str = "checksum/config";

/// Kinds that an installation has or has not, as its values say.
const OPTIONAL: [(&str, &str); 3] = [
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
];

/// What is to be done with one object.
pub(super) struct Step {
    path: String,
    object: Value,
    change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Create,
    Update,
    /// Somebody else made it.
    TakeOver,
    /// A namespace that somebody else made: it is used as it is.
    Use,
    Remove,
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Change::Create => "create",
            Change::Update => "update",
            Change::TakeOver => "take over",
            Change::Use => "use, unchanged:",
            Change::Remove => "remove",
        }
    }
}

impl Step {
    /// In words.
    pub(super) fn told(&self) -> String {
        format!("{} {}", self.change.word(), title(&self.object))
    }
}

/// All objects, definitions first, and what is to be done with them; then those that are not wanted any more.
pub(super) async fn plan(objects: &Objects, installation: &Installation) -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();
    for object in wanted(installation)? {
        let path = Kind::path_of(&object)?;
        let there = objects.get(&path).await?;
        let change = change(&object, there.as_ref());
        steps.push(Step { path, object, change });
    }
    let paths: HashSet<String> = steps.iter().map(|step| step.path.clone()).collect();
    for (version, kind) in OPTIONAL {
        let kind = Kind::find(version, kind)?;
        for mut object in objects.list(&kind.path(Some(NAMESPACE), ""), SELECTOR).await? {
            let path = kind.path(Some(NAMESPACE), object["metadata"]["name"].as_str().unwrap_or_default());
            if !paths.contains(&path) {
                object["kind"] = json!(kind.name);
                steps.push(Step { path, object, change: Change::Remove });
            }
        }
    }
    Ok(steps)
}

fn wanted(installation: &Installation) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for (name, text) in api::crds::ALL {
        all.push(
            serde_saphyr::from_str::<Value>(text).with_context(|| format!("reading definition {name}"))?,
        );
    }
    let mut objects = manifests::objects(installation);
    let config = objects.iter().find(|object| object["kind"] == "ConfigMap");
    let config = config.map(|map| map["data"].to_string()).unwrap_or_default();
    if let Some(deployment) = objects.iter_mut().find(|object| object["kind"] == "Deployment") {
        let sum = digest::digest(&digest::SHA256, config.as_bytes());
        let sum: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        deployment["spec"]["template"]["metadata"]["annotations"][CHECKSUM] = json!(sum);
    }
    all.extend(objects);
    Ok(all)
}

fn change(object: &Value, there: Option<&Value>) -> Change {
    match (there, object["kind"].as_str().unwrap_or_default()) {
        (None, _) => Change::Create,
        // They are of all who speak of devices, and may be KubeEdge's.
        (Some(_), "CustomResourceDefinition") => Change::Update,
        (Some(there), _) if is_ours(there) => Change::Update,
        (Some(_), "Namespace") => Change::Use,
        (Some(_), _) => Change::TakeOver,
    }
}

/// What somebody else made is not changed unasked.
pub(super) fn refuse(steps: &[Step], force: bool) -> anyhow::Result<()> {
    let others = steps.iter().filter(|step| step.change == Change::TakeOver);
    let others: Vec<String> = others.map(|step| title(&step.object)).collect();
    if others.is_empty() || force {
        return Ok(());
    }
    bail!(
        "somebody else made {} (KubeEdge's keadm, or Helm): remove them first, with what made them, or give --force to take them over; --process runs CloudCore beside them, on this machine",
        others.join(", ")
    )
}

pub(super) async fn carry_out(
    objects: &Objects,
    steps: Vec<Step>,
    applied: &mut Vec<String>,
) -> anyhow::Result<()> {
    for Step { path, object, change } in steps {
        let title = title(&object);
        match change {
            Change::Use => continue,
            Change::Remove => drop(objects.delete(&path).await.with_context(|| format!("removing {title}"))?),
            Change::Create | Change::Update | Change::TakeOver => {
                objects.apply(&path, &object).await.with_context(|| format!("applying {title}"))?;
                applied.push(title.clone());
            }
        }
        render::done(&format!("{} {title}", change.word()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation() -> Installation {
        let mut installation = Installation::default();
        installation.cloud_core.modules.cloud_hub.advertise_address = vec!["fd00::1".to_owned()];
        installation
    }

    #[test]
    fn definitions_come_first_and_another_configuration_replaces_the_pods() {
        let all = wanted(&installation()).unwrap();
        assert!(all[..5].iter().all(|object| object["kind"] == "CustomResourceDefinition"));
        assert_eq!(all[5]["kind"], "Namespace");
        let sum = |installation: &Installation| {
            let all = wanted(installation).unwrap();
            let deployment = all.iter().find(|object| object["kind"] == "Deployment").unwrap();
            deployment["spec"]["template"]["metadata"]["annotations"][CHECKSUM].as_str().unwrap().to_owned()
        };
        let mut other = installation();
        other.cloud_core.replica_count = 5;
        assert_eq!(sum(&other), sum(&installation()));
        other.cloud_core.modules.cloud_hub.node_limit = 5;
        assert_ne!(sum(&other), sum(&installation()));
    }

    #[test]
    fn what_somebody_else_made_is_refused_but_for_the_namespace_and_the_definitions() {
        let of = |kind: &str| json!({"kind": kind, "metadata": {"name": "x"}});
        for (kind, expected) in [
            ("CustomResourceDefinition", Change::Update),
            ("Namespace", Change::Use),
            ("Deployment", Change::TakeOver),
        ] {
            assert_eq!(change(&of(kind), Some(&of(kind))), expected);
            assert_eq!(change(&of(kind), None), Change::Create);
        }
        let ours = wanted(&installation()).unwrap().pop().unwrap();
        assert_eq!(change(&ours, Some(&ours)), Change::Update);
        let steps = [Step { path: String::new(), object: of("Deployment"), change: Change::TakeOver }];
        let error = refuse(&steps, false).unwrap_err().to_string();
        assert!(error.contains("Deployment x") && error.contains("--force"), "{error}");
        assert!(refuse(&steps, true).is_ok());
    }
}
