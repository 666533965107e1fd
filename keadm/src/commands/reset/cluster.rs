//! `keadm reset cloud` of a cluster: removes what `keadm init` made there, and what CloudCore made in its namespace.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use manifests::NAMESPACE;
use serde_json::Value;

use crate::cluster::{Kind, Objects, SELECTOR, is_ours};
use crate::commands::{self, secrets};
use crate::render;

/// What keadm applies, those that make others first; with webhooks that carry its labels.
const APPLIED: [(&str, &str); 13] = [
    ("apps/v1", "Deployment"),
    ("policy/v1", "PodDisruptionBudget"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
    ("v1", "Service"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("v1", "ConfigMap"),
    ("v1", "ServiceAccount"),
];
/// What CloudCore makes: replicas that lead, and where they are.
const LEASES: &str = "causeway-";
/// The CA of the edges, the server's certificate and the join token.
const SECRETS: [&str; 3] = ["casecret", "cloudcoresecret", "tokensecret"];
/// Who may not come back, and which tokens were used: of no use without the CA, and needed with it.
const WITH_CA: [&str; 2] = ["refused-nodes", "used-token-"];
/// What a namespace has of itself, or what does not count as somebody's.
const ITS_OWN: [(&str, &str); 3] = [
    ("ConfigMap", "kube-root-ca.crt"),
    ("ConfigMap", "openshift-service-ca.crt"),
    ("ServiceAccount", "default"),
];
/// What others may have in the namespace.
const OTHERS: [(&str, &str); 12] = [
    ("v1", "Pod"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "StatefulSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "ServiceAccount"),
    ("v1", "PersistentVolumeClaim"),
    ("coordination.k8s.io/v1", "Lease"),
];
/// Time pods and the namespace get to go.
const GONE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(500);

pub(super) struct Wanted<'a> {
    pub kubeconfig: &'a Path,
    pub force: bool,
    pub keep_ca: bool,
}

pub(super) async fn run(wanted: &Wanted<'_>) -> anyhow::Result<()> {
    let objects = Objects::new(secrets::client(wanted.kubeconfig).await?);
    let applied = find(&objects).await.context("looking at what the cluster has")?;
    let namespace = Kind::find("v1", "Namespace")?.path(None, NAMESPACE);
    let is_ours = objects.get(&namespace).await?.is_some_and(|namespace| is_ours(&namespace));
    if applied.is_empty() && !is_ours {
        bail!(
            "keadm has installed nothing in the cluster of {}; what Helm installed, helm uninstall removes",
            wanted.kubeconfig.display()
        );
    }
    if !wanted.force {
        let ca = match wanted.keep_ca {
            true => "the CA of the edges stays, with the list of refused nodes",
            false => "its CA goes, so that ALL EDGES MUST JOIN AGAIN (--keep-ca keeps it)",
        };
        commands::confirm(&format!(
            "this removes CloudCore from the cluster of {}; {ca}",
            wanted.kubeconfig.display()
        ))?;
    }
    let mut removed = 0;
    let done = remove(&objects, wanted, applied, is_ours.then_some(namespace), &mut removed).await;
    let others = done.with_context(|| match removed {
        0 => "nothing was removed".to_owned(),
        removed => format!("{removed} objects were removed, the rest is still there: run the command again"),
    })?;
    tell(wanted, &others);
    Ok(())
}

/// Paths of what keadm applied, and what to call it.
async fn find(objects: &Objects) -> anyhow::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for (version, kind) in APPLIED {
        let kind = Kind::find(version, kind)?;
        for object in objects.list(&kind.path(None, ""), SELECTOR).await? {
            found.push(place(kind, &object));
        }
    }
    Ok(found)
}

fn place(kind: Kind, object: &Value) -> (String, String) {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let namespace = object["metadata"]["namespace"].as_str();
    let title = match namespace {
        Some(namespace) => format!("{} {namespace}/{name}", kind.name),
        None => format!("{} {name}", kind.name),
    };
    (kind.path(namespace, name), title)
}

/// Returns what of others keeps the namespace.
async fn remove(
    objects: &Objects,
    wanted: &Wanted<'_>,
    applied: Vec<(String, String)>,
    namespace: Option<String>,
    removed: &mut usize,
) -> anyhow::Result<Vec<String>> {
    let (programs, rest): (Vec<_>, Vec<_>) =
        applied.into_iter().partition(|(_, title)| title.starts_with("Deployment "));
    remove_all(objects, programs, removed).await?;
    // What they make must not come back.
    wait_for_pods(objects).await?;
    remove_all(objects, rest, removed).await?;
    let made = made(objects, wanted.keep_ca).await?;
    remove_all(objects, made, removed).await?;
    let Some(namespace) = namespace.filter(|_| !wanted.keep_ca) else { return Ok(Vec::new()) };
    let others = others(objects).await?;
    if others.is_empty() {
        remove_all(objects, vec![(namespace.clone(), format!("Namespace {NAMESPACE}"))], removed).await?;
        let gone = async {
            while objects.get(&namespace).await?.is_some() {
                tokio::time::sleep(POLL).await;
            }
            Ok::<_, anyhow::Error>(())
        };
        tokio::time::timeout(GONE, gone)
            .await
            .with_context(|| format!("namespace {NAMESPACE} is being deleted for {GONE:?}; kubectl describe namespace says what holds it"))??;
    }
    Ok(others)
}

async fn remove_all(
    objects: &Objects,
    places: Vec<(String, String)>,
    removed: &mut usize,
) -> anyhow::Result<()> {
    for (path, title) in places {
        if objects.delete(&path).await.with_context(|| format!("removing {title}"))? {
            *removed += 1;
            render::done(&format!("removed {title}"));
        }
    }
    Ok(())
}

async fn wait_for_pods(objects: &Objects) -> anyhow::Result<()> {
    let pods = Kind::find("v1", "Pod")?.path(Some(NAMESPACE), "");
    let gone = async {
        while !objects.list(&pods, "app.kubernetes.io%2Fname%3Dcloudcore").await?.is_empty() {
            tokio::time::sleep(POLL).await;
        }
        Ok::<_, anyhow::Error>(())
    };
    let gone = tokio::time::timeout(GONE, gone).await;
    gone.with_context(|| format!("CloudCore's pods are still there after {GONE:?}"))?
}

/// What CloudCore itself made in its namespace, and what keadm wrote there for it.
async fn made(objects: &Objects, keep_ca: bool) -> anyhow::Result<Vec<(String, String)>> {
    let mut made = Vec::new();
    let mut add = async |version: &str, kind: &str, is_made: &dyn Fn(&str) -> bool| {
        let kind = Kind::find(version, kind)?;
        let all = objects.list(&kind.path(Some(NAMESPACE), ""), "").await?;
        let of_it =
            all.iter().filter(|object| is_made(object["metadata"]["name"].as_str().unwrap_or_default()));
        made.extend(of_it.map(|object| place(kind, object)));
        Ok::<_, anyhow::Error>(())
    };
    add("coordination.k8s.io/v1", "Lease", &|name| name.starts_with(LEASES)).await?;
    if !keep_ca {
        add("v1", "ConfigMap", &|name| WITH_CA.iter().any(|prefix| name.starts_with(prefix))).await?;
        add("v1", "Secret", &|name| SECRETS.contains(&name)).await?;
    }
    Ok(made)
}

/// What somebody else has in the namespace.
async fn others(objects: &Objects) -> anyhow::Result<Vec<String>> {
    let mut others = Vec::new();
    for (version, name) in OTHERS {
        let kind = Kind::find(version, name)?;
        for object in objects.list(&kind.path(Some(NAMESPACE), ""), "").await? {
            let named = object["metadata"]["name"].as_str().unwrap_or_default();
            let is_its_own = ITS_OWN.contains(&(name, named))
                || object["type"] == "kubernetes.io/service-account-token"
                || object["metadata"]["ownerReferences"].is_array()
                || object["metadata"]["deletionTimestamp"].is_string();
            if !is_its_own {
                others.push(format!("{name} {named}"));
            }
        }
    }
    Ok(others)
}

/// What is left, and how to remove it.
fn tell(wanted: &Wanted<'_>, others: &[String]) {
    render::done("CloudCore is removed from the cluster");
    if wanted.keep_ca {
        render::done(&format!("left: the secrets of namespace {NAMESPACE} with the CA, and who is refused"));
    }
    if !others.is_empty() {
        render::done(&format!("left: namespace {NAMESPACE}, in which others have {}", others.join(", ")));
    }
    render::done(
        "left: devices, their models and states, and the definitions of these kinds; nodes and their pods",
    );
    let kubeconfig = render::word(&wanted.kubeconfig.to_string_lossy());
    let names: Vec<&str> = api::crds::ALL.iter().map(|(name, _)| *name).collect();
    render::next(&format!(
        "kubectl --kubeconfig {kubeconfig} delete nodes -l node-role.kubernetes.io/edge    # if none of them comes back\n  \
         kubectl --kubeconfig {kubeconfig} delete crd {}    # with all devices",
        names.join(" ")
    ));
}
