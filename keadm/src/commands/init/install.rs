//! `keadm init` of a cluster: the objects of `keadm manifest generate` are applied, and the pods waited for.
//!
//! ```text
//! flags --> objects (the crate manifests) --> whose are those that are there? --> applied, what is not wanted any more removed
//!                                                                              --> Deployment rolled out --> how nodes join
//! ```

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use manifests::{Installation, NAME, NAMESPACE};
use ring::digest;
use serde_json::{Value, json};

use super::{Flags, rollout};
use crate::cluster::{Kind, Objects, Owner, SELECTOR, is_ours, owner, title};
use crate::commands::manifest::{self, Wanted};
use crate::commands::secrets;
use crate::{address, render};

/// Between two looks at the Deployment.
const POLL: Duration = Duration::from_secs(1);
/// The Service for API servers.
const INTERNAL: &str = "cloudcore-internal";
/// Of the pods: they are replaced when their configuration is another.
const CHECKSUM: &str = "checksum/config";

/// Kinds that an installation has or has not, as its values say.
const OPTIONAL: [(&str, &str); 3] = [
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
];

/// What is to be done with one object.
struct Step {
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

pub(super) async fn run(flags: &Flags) -> anyhow::Result<()> {
    let installation = manifest::installation(&Wanted {
        advertise_address: &flags.advertise_address,
        tag: flags.profile.as_deref().or(flags.kubeedge_version.as_ref().and_then(Option::as_deref)),
        image_repository: flags.image_repository.as_deref(),
        set: &flags.set,
    })?;
    if flags.print_final_values {
        render::result(daemon::config::to_yaml(&installation).map_err(anyhow::Error::msg)?.trim_end());
    }
    if !flags.kube_config.exists() {
        bail!(
            "--kube-config {}: there is no such file; --standalone needs no cluster",
            flags.kube_config.display()
        );
    }
    let client = secrets::client(&flags.kube_config).await?;
    let objects = Objects::new(client);
    let steps = plan(&objects, &installation).await.context("looking at what the cluster has")?;
    if flags.dry_run {
        steps
            .iter()
            .for_each(|step| render::result(&format!("{} {}", step.change.word(), title(&step.object))));
        render::done("nothing was changed");
        return Ok(());
    }
    refuse(&steps, flags.force)?;
    let stop = daemon::stop::on_signals().context("listening for signals")?;
    let mut applied = Vec::new();
    let left =
        format!("keadm init again goes on, keadm reset cloud{} removes it", cluster(&flags.kube_config));
    let done = async {
        carry_out(&objects, steps, &mut applied).await?;
        render::done(&format!("CloudCore is installed in namespace {NAMESPACE}"));
        match flags.wait {
            true => wait(&objects, Duration::from_secs(u64::try_from(flags.timeout).unwrap_or(0))).await,
            false => Ok(()),
        }
    };
    let done = tokio::select! {
        biased;
        () = stop.cancelled() => Err(anyhow::anyhow!("interrupted")),
        done = done => done,
    };
    if let Err(error) = done {
        return Err(match applied.as_slice() {
            [] => error.context("nothing was changed in the cluster"),
            applied => error.context(format!("in the cluster are now {}; {left}", applied.join(", "))),
        });
    }
    tell(&objects, &installation, flags).await
}

/// ` --kube-config FILE` as it must be repeated in the next command.
fn cluster(kubeconfig: &Path) -> String {
    let absolute = std::path::absolute(kubeconfig).unwrap_or_else(|_| kubeconfig.to_owned());
    format!(" --kube-config {}", render::word(&absolute.to_string_lossy()))
}

/// All objects, definitions first, and what is to be done with them; then those that are not wanted any more.
async fn plan(objects: &Objects, installation: &Installation) -> anyhow::Result<Vec<Step>> {
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
fn refuse(steps: &[Step], force: bool) -> anyhow::Result<()> {
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

async fn carry_out(objects: &Objects, steps: Vec<Step>, applied: &mut Vec<String>) -> anyhow::Result<()> {
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

async fn wait(objects: &Objects, timeout: Duration) -> anyhow::Result<()> {
    let deployment = Kind::find("apps/v1", "Deployment")?.path(Some(NAMESPACE), NAME);
    let pods = Kind::find("v1", "Pod")?.path(Some(NAMESPACE), "");
    let mut told = String::new();
    let rolled_out = async {
        loop {
            let there = objects.get(&deployment).await?.context("the Deployment is gone")?;
            let Err(missing) = rollout::progress(&there) else { return Ok(()) };
            let pods = objects.list(&pods, "app.kubernetes.io%2Fname%3Dcloudcore").await?;
            let missing = match rollout::trouble(&pods) {
                Some(trouble) => format!("{missing}; {trouble}"),
                None => missing,
            };
            if missing != told {
                render::done(&format!("not yet: {missing}"));
                told = missing;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    match tokio::time::timeout(timeout, rolled_out).await {
        Ok(done) => done,
        Err(_) => bail!(
            "CloudCore is not available after {timeout:?}: {told}; kubectl describe pods -n {NAMESPACE} says more (--timeout waits longer, --wait=false not at all)"
        ),
    }
}

/// Where nodes come to: address, port of sessions, port of registration.
fn doors(installation: &Installation, service: Option<&Value>) -> (String, u16, u16) {
    let core = &installation.cloud_core;
    let (hub, ports) = (&core.modules.cloud_hub, &core.service);
    let host = hub.advertise_address.first().cloned().unwrap_or_default();
    match ports.kind.as_str() {
        "NodePort" => (
            host,
            of_node(service, "cloudhub", ports.cloudhub_node_port),
            of_node(service, "cloudhub-https", ports.cloudhub_https_node_port),
        ),
        _ => (host, hub.websocket.port, hub.https.port),
    }
}

/// The port of the cluster's nodes: the API server chooses one where none was given.
fn of_node(service: Option<&Value>, name: &str, given: u16) -> u16 {
    let ports = service.and_then(|service| service["spec"]["ports"].as_array());
    let port = ports.into_iter().flatten().find(|port| port["name"] == name);
    let port = port.and_then(|port| port["nodePort"].as_u64()).and_then(|port| u16::try_from(port).ok());
    port.filter(|port| *port > 0).unwrap_or(given)
}

async fn tell(objects: &Objects, installation: &Installation, flags: &Flags) -> anyhow::Result<()> {
    let service = objects.get(&Kind::find("v1", "Service")?.path(Some(NAMESPACE), NAME)).await?;
    let (host, hub, https) = doors(installation, service.as_ref());
    render::done(&format!(
        "nodes connect to {}:{hub}, and get their certificates at port {https}",
        address::in_url(&host)
    ));
    if service.as_ref().is_some_and(|service| owner(service) != Owner::Keadm) {
        render::done("Service cloudcore is not as it was applied: another program changes it");
    }
    if let Some(command) = streams_command(objects, installation).await? {
        render::done(&format!(
            "for kubectl logs and exec of edge nodes give {command} as well, in another init"
        ));
    }
    render::next(&join_command(&host, hub, https, &flags.kube_config));
    Ok(())
}

/// How API servers reach nodes: at the Service inside of the cluster, whose address is known only now.
async fn streams_command(objects: &Objects, installation: &Installation) -> anyhow::Result<Option<String>> {
    let streams = &installation.cloud_core.modules.cloud_stream;
    if !streams.enable || !streams.node_address.is_empty() {
        return Ok(None);
    }
    let path = Kind::find("v1", "Service")?.path(Some(NAMESPACE), INTERNAL);
    let service = objects.get(&path).await?.unwrap_or_default();
    let address = service["spec"]["clusterIP"].as_str().filter(|ip| !ip.is_empty() && *ip != "None");
    Ok(address.map(|ip| format!("--set modules.cloudStream.nodeAddress={ip}")))
}

fn join_command(host: &str, hub: u16, https: u16, kubeconfig: &Path) -> String {
    let address = render::word(&format!("{}:{hub}", address::in_url(host)));
    let certport = if https == 10002 { String::new() } else { format!(" --certport {https}") };
    format!(
        "keadm join --cloudcore-ipport {address}{certport} --token \"$(keadm gettoken{})\"",
        cluster(kubeconfig)
    )
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

    #[test]
    fn nodes_are_told_the_ports_of_the_service_in_a_command_that_can_be_typed() {
        let service =
            json!({"spec": {"ports": [{"name": "cloudhub", "nodePort": 31000}, {"name": "cloudhub-https"}]}});
        let (host, hub, https) = doors(&installation(), Some(&service));
        assert_eq!((host.as_str(), hub, https), ("fd00::1", 31000, 30002));
        let words = shlex::split(&join_command(&host, hub, https, Path::new("/srv/a b"))).unwrap();
        assert_eq!(words[3], "[fd00::1]:31000");
        assert_eq!(words[4..6], ["--certport", "30002"]);
        let mut balanced = installation();
        balanced.cloud_core.service.kind = "LoadBalancer".to_owned();
        assert_eq!(doors(&balanced, None).1, 10000);
    }
}
