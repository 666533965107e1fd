//! `keadm init` and `keadm reset cloud` of a cluster. The test is the controller of Deployments: it
//! starts CloudCore as the pod would, and says that it is available.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use e2e::judge::Judge;
use harness::kubectl::Kubectl;
use harness::process::Process;
use harness::programs::Programs;
use harness::replica::ApiServer;
use harness::wait::PATIENCE;
use harness::{ports, process, programs, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

const NODE: &str = "edge-1";

/// Objects of somebody's, of a kind that is defined beside them.
const EXTRA: &str = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec:
  group: example.com
  names: {kind: Thing, plural: things}
  scope: Namespaced
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
---
apiVersion: example.com/v1
kind: Thing
metadata: {name: one}
";

/// Parts stop in the order of the fields.
struct Lab {
    cloudcore: Option<Process>,
    judge: Option<Judge>,
    kubectl: Kubectl,
    api: ApiServer,
    programs: Programs,
    /// Of sessions, registration, streams, tunnels and health.
    ports: [u16; 5],
    scratch: TempDir,
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

impl Lab {
    fn start() -> Result<Lab> {
        let (programs, scratch) = (Programs::find()?, tempfile::tempdir()?);
        let others =
            ["--controllers=*,-deployment-controller,-endpoints-controller,-endpointslice-controller"];
        let api = ApiServer::start_with(&programs, &scratch.path().join("api"), &others)?;
        let kubectl = Kubectl::new(&api.kubeconfig);
        let mut free = [0; 5];
        for (at, port) in free.iter_mut().enumerate() {
            // The first two are node ports of the Service as well.
            *port = if at < 2 { ports::free_on_nodes()? } else { ports::free()? };
        }
        Ok(Lab { cloudcore: None, judge: None, kubectl, api, programs, ports: free, scratch })
    }

    fn keadm(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(self.programs.path("keadm"));
        command.args(words).arg("--kube-config").arg(&self.api.kubeconfig);
        programs::output(&mut command)
    }

    /// `keadm init` with the ports of this test and what else is wanted.
    fn init(&self, more: &[&str]) -> Result<Output> {
        let [hub, https, stream, tunnel, monitor] = self.ports;
        let settings = format!(
            "cloudCore.replicaCount=1,modules.cloudHub.websocket.port={hub},cloudCore.modules.cloudHub.https.port={https},\
             modules.cloudStream.streamPort={stream},modules.cloudStream.tunnelPort={tunnel},\
             cloudCore.monitorAddress=127.0.0.1:{monitor},cloudCore.service.cloudhubNodePort={hub},\
             cloudCore.service.cloudhubHttpsNodePort={https}"
        );
        let words = ["init", "--advertise-address=127.0.0.1", "--set", &settings];
        self.keadm(&[&words, more].concat())
    }

    /// Everything there is, by kind and name.
    fn objects(&self) -> Result<BTreeSet<String>> {
        let kinds = self.kubectl.run(&["api-resources", "--verbs=list", "-o", "name"])?;
        let kinds = kinds.split_whitespace().collect::<Vec<_>>().join(",");
        let all = self.kubectl.run(&["get", &kinds, "-A", "--ignore-not-found", "-o", "json"])?;
        let all: Value = serde_json::from_str(&all)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let items = all["items"].as_array().context("items")?.iter();
        Ok(items
            .map(|item| {
                let meta = &item["metadata"];
                format!("{} {}/{}", text(&item["kind"]), text(&meta["namespace"]), text(&meta["name"]))
            })
            .collect())
    }

    /// Starts CloudCore as the Deployment's pod is: with the account's token and the config map's file.
    fn run_pods(&mut self) -> Result<()> {
        let judge = Judge::start(&self.api.kubeconfig, &self.scratch.path().join("account"))?;
        let map = self.kubectl.run(&["get", "configmap", "cloudcore", "-n", "kubeedge", "-o", "json"])?;
        let map: Value = serde_json::from_str(&map)?;
        let config = self.scratch.path().join("cloudcore.yaml");
        std::fs::write(&config, map["data"]["cloudcore.yaml"].as_str().context("cloudcore.yaml")?)?;
        let kubeconfig = self.scratch.path().join("account.kubeconfig");
        std::fs::write(&kubeconfig, of_account(&judge))?;
        let mut command = Command::new(self.programs.path("cloudcore"));
        // An account's token and CA are taken from a folder that only a pod has.
        command.arg("--config").arg(&config).env("KUBECONFIG", &kubeconfig).env("POD_IP", "127.0.0.1");
        command.env("HOME", self.scratch.path());
        let log = self.scratch.path().join("cloudcore.log");
        let mut started = Process::start(command, "cloudcore", &log)?;
        let serves = wait::for_true("CloudCore serves edges", PATIENCE, || {
            started.check()?;
            Ok(std::net::TcpStream::connect(("127.0.0.1", self.ports[0])).is_ok())
        });
        serves.with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        (self.cloudcore, self.judge) = (Some(started), Some(judge));
        Ok(())
    }

    /// What the controller of Deployments would tell.
    fn say_available(&self) -> Result<()> {
        let path = ".metadata.generation";
        let generation = self.kubectl.run(&[
            "get",
            "deployment",
            "cloudcore",
            "-n",
            "kubeedge",
            "-o",
            &format!("jsonpath={{{path}}}"),
        ])?;
        let generation: i64 = generation.trim().parse()?;
        let status = json!({"status": {"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1,
            "readyReplicas": 1, "availableReplicas": 1}});
        let patch = status.to_string();
        let words = [
            "patch",
            "deployment",
            "cloudcore",
            "-n",
            "kubeedge",
            "--subresource=status",
            "--type=merge",
            "-p",
        ];
        self.kubectl.run(&[&words[..], &[&patch]].concat()).map(drop)
    }
}

fn of_account(judge: &Judge) -> String {
    let (folder, address) = (judge.account.display(), judge.address);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: c\n  cluster: {{server: \"https://{address}\", \
         certificate-authority: {folder}/ca.crt}}\ncontexts:\n- name: c\n  context: {{cluster: c, user: u}}\nusers:\n- name: u\n  \
         user: {{tokenFile: {folder}/token}}\n"
    )
}

/// An edge that the printed command joined; stopped when dropped.
struct Joined(PathBuf);

impl Drop for Joined {
    fn drop(&mut self) {
        let pid = self.0.join("var/lib/kubeedge/edgecore.pid");
        let _ = process::signal(&pid, "edgecore", rustix::process::Signal::KILL);
    }
}

/// Types the command that init printed, with what this machine needs besides.
fn join(lab: &Lab, told: &str) -> Result<Joined> {
    let command = told.lines().find_map(|line| line.trim().strip_prefix("keadm join"));
    let command = command.with_context(|| format!("no command to join in {told}"))?;
    let root = lab.scratch.path().join(NODE);
    let typed = format!(
        "keadm join{command} --edgenode-name {NODE} --root {} --set modules.edged.enable=false,modules.eventBus.mqttServerInternal=tcp://127.0.0.1:{}",
        root.display(),
        ports::free()?
    );
    let keadm = lab.programs.path("keadm");
    let folder = keadm.parent().context("a folder")?.display().to_string();
    let mut shell = Command::new("sh");
    shell.args(["-c", &typed]).env("PATH", format!("{folder}:{}", std::env::var("PATH")?));
    let output = programs::output(&mut shell)?;
    ensure!(output.status.success(), "{typed}: {}", said(&output));
    Ok(Joined(root))
}

#[test]
fn init_installs_cloudcore_into_a_cluster_edges_join_as_told_and_reset_leaves_the_definitions() -> Result<()>
{
    let mut lab = Lab::start()?;
    let before = lab.objects()?;
    let extra = lab.scratch.path().join("extra.yaml");
    std::fs::write(&extra, EXTRA)?;
    let extra = format!("--manifests={}", extra.display());
    let dry = lab.init(&["--dry-run", &extra])?;
    let told = said(&dry);
    ensure!(dry.status.success() && told.contains("create Deployment kubeedge/cloudcore"), "{told}");
    ensure!(told.contains("apply Thing one"), "{told}");
    ensure!(lab.objects()? == before, "a dry run changed something");

    // The pods are not there in time; what was applied is named.
    let late = lab.init(&["--timeout=1s"])?;
    let told = said(&late);
    ensure!(!late.status.success() && told.contains("in the cluster are now"), "{told}");
    ensure!(told.contains("keadm reset cloud") && told.contains("not been looked at"), "{told}");
    lab.run_pods()?;
    lab.say_available()?;
    let done = lab.init(&[&extra])?;
    ensure!(done.status.success(), "{}", said(&done));
    ensure!(lab.objects()?.contains("Thing default/one"), "what the file has is not there");
    let told = said(&done);
    ensure!(told.contains("update Deployment kubeedge/cloudcore"), "{told}");
    let edge = join(&lab, &told)?;
    wait::for_true("the node is connected", PATIENCE, || {
        let log = std::fs::read_to_string(lab.scratch.path().join("cloudcore.log"))?;
        Ok(log.contains(&format!("node connected node={NODE} ")))
    })?;

    // Other values replace the pods, and what they do not want goes.
    let image = ".spec.template.spec.containers[0].image";
    let changed = lab.init(&[
        "--wait=false",
        "--kubeedge-version=v9",
        "--set",
        "cloudCore.networkPolicy.enable=false",
    ])?;
    ensure!(changed.status.success(), "{}", said(&changed));
    let words = ["get", "deployment", "cloudcore", "-n", "kubeedge", "-o", &format!("jsonpath={{{image}}}")];
    ensure!(lab.kubectl.run(&words)?.ends_with(":v9"));
    let there = lab.objects()?;
    ensure!(!there.iter().any(|object| object.starts_with("NetworkPolicy ")), "{there:#?}");

    let asked = lab.keadm(&["reset", "cloud"])?;
    ensure!(
        !asked.status.success() && said(&asked).contains("ALL EDGES MUST JOIN AGAIN"),
        "{}",
        said(&asked)
    );
    ensure!(lab.objects()? == there, "reset changed something unasked");
    // The controller of Deployments would end the pods.
    (lab.cloudcore, lab.judge) = (None, None);
    drop(edge);
    let reset = lab.keadm(&["reset", "cloud", "--force"])?;
    ensure!(reset.status.success() && said(&reset).contains("delete crd"), "{}", said(&reset));
    let left: Vec<String> = lab.objects()?.difference(&before).cloned().collect();
    let is_left = |object: &String| {
        // The API server keeps an APIService of each version of a definition itself.
        let kinds = [
            "CustomResourceDefinition ",
            "APIService ",
            "Thing ",
            "Node ",
            "Event ",
            "ObjectSync ",
            "ClusterObjectSync ",
        ];
        kinds.iter().any(|kind| object.starts_with(kind)) || object.starts_with("Lease kube-node-lease/")
    };
    let ours: Vec<&String> = left.iter().filter(|object| !is_left(object)).collect();
    ensure!(ours.is_empty(), "left are {ours:#?}");
    ensure!(left.iter().any(|object| object.starts_with("CustomResourceDefinition ")));
    let again = lab.keadm(&["reset", "cloud", "--force"])?;
    ensure!(!again.status.success() && said(&again).contains("installed nothing"), "{}", said(&again));
    Ok(())
}

#[test]
fn what_somebody_else_made_is_not_taken_over_unasked_and_the_ca_can_be_kept() -> Result<()> {
    let lab = Lab::start()?;
    let of = |kind: &str, version: &str, name: &str| json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "kubeedge"}});
    lab.kubectl.run(&["create", "namespace", "kubeedge"])?;
    lab.kubectl.create(&of("ServiceAccount", "v1", "cloudcore").to_string())?;
    let before = lab.objects()?;
    let refused = lab.init(&["--wait=false"])?;
    let told = said(&refused);
    ensure!(!refused.status.success() && told.contains("ServiceAccount kubeedge/cloudcore"), "{told}");
    ensure!(told.contains("--force") && lab.objects()? == before, "{told}");
    let forced = lab.init(&["--wait=false", "--force"])?;
    ensure!(forced.status.success(), "{}", said(&forced));

    let data = |name: &str| {
        let mut secret = of("Secret", "v1", name);
        secret["stringData"] = json!({"cadata": "x"});
        secret.to_string()
    };
    lab.kubectl.create(&data("casecret"))?;
    lab.kubectl.create(&of("ConfigMap", "v1", "refused-nodes").to_string())?;
    lab.kubectl.create(&of("ConfigMap", "v1", "of-somebody").to_string())?;
    let kept = lab.keadm(&["reset", "cloud", "--force", "--keep-ca"])?;
    ensure!(kept.status.success(), "{}", said(&kept));
    let there = lab.objects()?;
    for object in
        ["Secret kubeedge/casecret", "ConfigMap kubeedge/refused-nodes", "ConfigMap kubeedge/of-somebody"]
    {
        ensure!(there.contains(object), "{object} is gone: {there:#?}");
    }
    ensure!(
        !there.contains("Deployment kubeedge/cloudcore")
            && !there.contains("ServiceAccount kubeedge/cloudcore")
    );

    // Again, and then with the CA; the namespace is somebody else's.
    let again = lab.init(&["--wait=false"])?;
    ensure!(again.status.success(), "{}", said(&again));
    let gone = lab.keadm(&["reset", "cloud", "--force"])?;
    ensure!(gone.status.success(), "{}", said(&gone));
    let there = lab.objects()?;
    ensure!(
        !there.contains("Secret kubeedge/casecret") && !there.contains("ConfigMap kubeedge/refused-nodes")
    );
    ensure!(
        there.contains("ConfigMap kubeedge/of-somebody") && there.contains("Namespace /kubeedge"),
        "{there:#?}"
    );
    Ok(())
}
