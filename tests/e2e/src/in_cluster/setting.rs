//! What is around CloudCore before it starts: what its installation applies, its file, and a pod's surroundings.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::kubectl::Kubectl;
use harness::ports;
use harness::programs::Programs;
use manifests::Installation;
use serde_json::{Value, json};

use crate::judge::Judge;

/// What a pod has around it, for a process: folder of the account, configuration, program.
const AS_A_POD: &str = r#"
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/secrets/kubernetes.io
cp -r "$1" /run/secrets/kubernetes.io/serviceaccount
cp "$2" /run/cloudcore.yaml
cp "$3" /run/cloudcore
chmod -R a+rX /run
test /var/run -ef /run || mount --bind /run /var/run
mount -o remount,ro /run
mount -o remount,bind,ro /
exec setpriv --reuid 65532 --regid 65532 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all \
    /run/cloudcore --config /run/cloudcore.yaml
"#;

/// What whoever installs CloudCore applies before: the definitions, the account with its roles, what is there for admission webhooks.
pub(super) fn installed() -> Vec<String> {
    let all = manifests::objects(&Installation::default());
    let is_service =
        |object: &&Value| object["kind"] == "Service" && object["metadata"]["name"] == "cloudcore-webhooks";
    let objects = manifests::rights(manifests::Parts { streams: true, webhooks: true, node_identity: false })
        .into_iter()
        .chain(all.iter().find(is_service).cloned());
    let definitions = manifests::chart().into_iter().filter(|file| file.path.starts_with("crds/"));
    objects.map(|object| object.to_string()).chain(definitions.map(|file| file.text)).collect()
}

/// What the controllers of a cluster make of the Service of the webhooks, whose port is that of the configuration.
pub(super) fn endpoints_of_webhooks(port: u16) -> String {
    json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "cloudcore-webhooks", "namespace": "kubeedge"},
        "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "webhooks", "port": port}]}]})
    .to_string()
}

/// The file in the chart's config map, with ports that are free, of which those of sessions, registration, streams and webhooks are
/// given.
pub(super) fn configuration(file: &Path) -> Result<[u16; 4]> {
    let mut installation = Installation::default();
    let core = &mut installation.cloud_core;
    core.monitor_address = format!("127.0.0.1:{}", ports::free()?);
    let (hub, streams) = (&mut core.modules.cloud_hub, &mut core.modules.cloud_stream);
    hub.advertise_address = vec!["127.0.0.1".to_owned()];
    (hub.websocket.port, hub.https.port) = (ports::free()?, ports::free()?);
    (streams.stream_port, streams.tunnel_port) = (ports::free()?, ports::free()?);
    streams.node_address = "127.0.0.1".to_owned();
    core.modules.webhooks.port = ports::free()?;
    // Another CA is to be seen soon.
    core.modules.cloud_hub.certificate_check_seconds = 1;
    let (hub, streams) = (&core.modules.cloud_hub, &core.modules.cloud_stream);
    let given = [hub.websocket.port, hub.https.port, streams.stream_port, core.modules.webhooks.port];
    let objects = manifests::objects(&installation);
    let map = objects.iter().find(|object| object["kind"] == "ConfigMap").context("a config map")?;
    let text = map["data"]["cloudcore.yaml"].as_str().context("a text")?;
    std::fs::write(file, text)?;
    Ok(given)
}

pub(super) fn as_a_pod(judge: &Judge, config: &Path, programs: &Programs) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--", "sh", "-ec", AS_A_POD, "sh"]);
    command.arg(&judge.account).arg(config).arg(programs.path("cloudcore"));
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("POD_IP", "127.0.0.1");
    command.env("KUBERNETES_SERVICE_HOST", judge.address.ip().to_string());
    command.env("KUBERNETES_SERVICE_PORT", judge.address.port().to_string());
    command
}

/// The CA of the edges and of CloudCore, PEM.
pub(super) fn edges_ca(kubectl: &Kubectl) -> Result<String> {
    let secret =
        kubectl.run(&["get", "secret", "casecret", "-n", "kubeedge", "-o", "jsonpath={.data.cadata}"])?;
    Ok(pki::files::certificate_pem(&STANDARD.decode(secret.trim())?))
}
