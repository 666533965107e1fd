//! `keadm init` of a cluster: the objects of `keadm manifest generate` are applied, and the pods waited for.
//!
//! ```text
//! flags --> objects (the crate manifests) --> whose are those that are there? --> applied, what is not wanted any more removed
//!                                                                              --> Deployment rolled out --> how nodes join
//! ```

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use manifests::{Installation, NAME, NAMESPACE};
use serde_json::Value;

use super::steps::{Step, carry_out, plan, refuse};
use super::{Flags, extra, rollout};
use crate::cluster::{Kind, Objects, title};
use crate::commands::manifest::{self, Wanted};
use crate::commands::secrets;
use crate::{address, render};

/// Between two looks at the Deployment.
const POLL: Duration = Duration::from_secs(1);
/// The Service for API servers.
const INTERNAL: &str = "cloudcore-internal";

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
    let others = extra::read(&flags.manifests)?;
    let objects = Objects::new(secrets::client(&flags.kube_config).await?);
    let steps = plan(&objects, &installation).await.context("looking at what the cluster has")?;
    if flags.dry_run {
        let others = others.iter().map(|object| format!("apply {}", title(object)));
        steps.iter().map(Step::told).chain(others).for_each(|line| render::result(&line));
        render::done("nothing was changed");
        return Ok(());
    }
    refuse(&steps, flags.force)?;
    let stop = daemon::stop::on_signals().context("listening for signals")?;
    let mut applied = Vec::new();
    let left = format!(
        "keadm init again goes on, keadm reset cloud{} removes CloudCore",
        cluster(&flags.kube_config)
    );
    let done = async {
        carry_out(&objects, steps, &mut applied).await?;
        extra::apply(&objects, &others, &mut applied).await?;
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
    use serde_json::json;

    fn installation() -> Installation {
        let mut installation = Installation::default();
        installation.cloud_core.modules.cloud_hub.advertise_address = vec!["fd00::1".to_owned()];
        installation
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
