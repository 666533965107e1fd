//! CloudCore as its Deployment runs it: a user without rights, a root file system that takes no writes, the token of a service
//! account, and what its roles give it. Whatever CloudCore asks an API server for beside that is found here.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::go_edge;
use e2e::judge::Judge;
use harness::cgroups::Cgroups;
use harness::containerd::Containerd;
use harness::edge::{Doors, Edge};
use harness::kubectl::Kubectl;
use harness::process::Process;
use harness::programs::Programs;
use harness::replica::ApiServer;
use harness::site::{IMAGE, NODE};
use harness::wait::PATIENCE;
use harness::{images, ports, wait};
use manifests::Installation;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A node in KubeEdge's dialect, which runs no pods.
const PLAIN: &str = "edge-2";

const GREETER: &str = include_str!("../../../manifests/samples/greeter.yaml");
const THERMOMETER: &str = include_str!("../../../manifests/samples/thermometer.yaml");
/// A pod of a file on the node.
const STATIC: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: default}\nspec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: \"causeway.local/busybox:1\"}]}\n";

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

/// Rights of the roles for which there is no occasion here: volumes of CSI drivers, what a replica sees that lags behind or that starts
/// beside many devices, other replicas, tokens that have ended, leases that nobody renews. That of the signer is asked for by the API
/// server itself.
const ELSEWHERE: &[&str] = &[
    " storage.k8s.io/volumeattachments get",
    " certificates.k8s.io/signers approve",
    " devices.kubeedge.io/devicemodels get",
    " devices.kubeedge.io/devices get",
    " devices.kubeedge.io/devicestatuses list",
    "kubeedge /secrets update",
    "kubeedge /configmaps delete",
    "kubeedge coordination.k8s.io/leases delete",
    "kubeedge coordination.k8s.io/leases list",
    "kube-node-lease coordination.k8s.io/leases list",
];

/// Parts stop in the order of the fields.
struct Lab {
    edges: Vec<Edge>,
    mapper: Option<Process>,
    cloudcore: Process,
    judge: Judge,
    kubectl: Kubectl,
    doors: Doors,
    streams: u16,
    programs: Programs,
    api: ApiServer,
    _containerd: Containerd,
    _cgroups: Cgroups,
    _runtime: tokio::runtime::Runtime,
    scratch: TempDir,
}

impl Lab {
    fn start() -> Result<Lab> {
        let (programs, scratch) = (Programs::find()?, tempfile::tempdir()?);
        let folder = |name: &str| scratch.path().join(name);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let containerd = runtime.block_on(Containerd::start(&folder("cri"), true))?;
        runtime.block_on(containerd.import(&images::busybox(IMAGE)))?;
        let ca = folder("edges-ca.crt");
        let kubelets = ["--kubelet-certificate-authority", &ca.to_string_lossy()];
        let api = ApiServer::start_with(&programs, &folder("api"), &kubelets)?;
        let kubectl = Kubectl::new(&api.kubeconfig);
        for text in installed() {
            kubectl.apply(&text)?;
        }
        let judge = Judge::start(&api.kubeconfig, &folder("account"))?;
        let config = folder("cloudcore.yaml");
        let [link, certificates, streams, webhooks] = configuration(&config)?;
        kubectl.apply(&endpoints_of_webhooks(webhooks))?;
        let port = json!([{"op": "replace", "path": "/spec/ports/0/port", "value": webhooks}]).to_string();
        kubectl.run(&[
            "patch",
            "service",
            "cloudcore-webhooks",
            "-n",
            "kubeedge",
            "--type=json",
            "-p",
            &port,
        ])?;
        let log = folder("cloudcore.log");
        let mut cloudcore = Process::start(as_a_pod(&judge, &config, &programs), "cloudcore", &log)?;
        let serves = wait::for_true("CloudCore serves edges", PATIENCE, || {
            cloudcore.check()?;
            Ok(std::net::TcpStream::connect(("127.0.0.1", link)).is_ok())
        });
        serves.with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        std::fs::write(&ca, edges_ca(&kubectl)?)?;
        let kubeconfig = api.kubeconfig.to_string_lossy().into_owned();
        let token = programs.keadm(&["gettoken", "--kube-config", &kubeconfig])?.trim().to_owned();
        let link = std::net::SocketAddr::from(([127, 0, 0, 1], link));
        let doors = Doors { link, cert_port: certificates, quic_port: 0, token };
        let socket = containerd.socket();
        let socket = Path::new(socket.trim_start_matches("unix://"));
        // It asks for the certificate that it serves with.
        let kubelet = "modules.edged.tailoredKubeletConfig";
        let serving =
            [format!("{kubelet}.serverTLSBootstrap=true"), format!("{kubelet}.port={}", ports::free()?)];
        let serving = serving.each_ref().map(String::as_str);
        let edge = Edge::join_at(&programs, &doors, NODE, &folder(NODE), Some(socket), &serving)?;
        let cgroups = Cgroups(edge.cgroup());
        let kubeedge = ["modules.edgeHub.dialect=kubeedge"];
        let plain = Edge::join_at(&programs, &doors, PLAIN, &folder(PLAIN), None, &kubeedge)?;
        Ok(Lab {
            edges: vec![edge, plain],
            mapper: None,
            cloudcore,
            judge,
            kubectl,
            doors,
            streams,
            programs,
            api,
            _containerd: containerd,
            _cgroups: cgroups,
            _runtime: runtime,
            scratch,
        })
    }
}

/// What who installs CloudCore applies before: the namespace, the definitions, what is there for admission webhooks.
fn installed() -> Vec<String> {
    let is_wanted =
        |object: &&Value| object["kind"] == "Namespace" || object["metadata"]["name"] == "cloudcore-webhooks";
    let all = manifests::objects(&Installation::default());
    let definitions = manifests::chart().into_iter().filter(|file| file.path.starts_with("crds/"));
    let objects = all.iter().filter(is_wanted).map(Value::to_string);
    objects.chain(definitions.map(|file| file.text)).collect()
}

/// What the controllers of a cluster make of the Service of the webhooks, whose port is that of the configuration.
fn endpoints_of_webhooks(port: u16) -> String {
    json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "cloudcore-webhooks", "namespace": "kubeedge"},
        "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "webhooks", "port": port}]}]})
    .to_string()
}

/// The file in the chart's config map, with ports that are free, of which those of sessions, registration, streams and webhooks are
/// given.
fn configuration(file: &Path) -> Result<[u16; 4]> {
    let mut installation = Installation::default();
    let core = &mut installation.cloud_core;
    core.monitor_address = format!("127.0.0.1:{}", ports::free()?);
    let (hub, streams) = (&mut core.modules.cloud_hub, &mut core.modules.cloud_stream);
    hub.advertise_address = vec!["127.0.0.1".to_owned()];
    (hub.websocket.port, hub.https.port) = (ports::free()?, ports::free()?);
    (streams.stream_port, streams.tunnel_port) = (ports::free()?, ports::free()?);
    streams.node_address = "127.0.0.1".to_owned();
    core.modules.webhooks.port = ports::free()?;
    let (hub, streams) = (&core.modules.cloud_hub, &core.modules.cloud_stream);
    let given = [hub.websocket.port, hub.https.port, streams.stream_port, core.modules.webhooks.port];
    let objects = manifests::objects(&installation);
    let map = objects.iter().find(|object| object["kind"] == "ConfigMap").context("a config map")?;
    let text = map["data"]["cloudcore.yaml"].as_str().context("a text")?;
    std::fs::write(file, text)?;
    Ok(given)
}

fn as_a_pod(judge: &Judge, config: &Path, programs: &Programs) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--", "sh", "-ec", AS_A_POD, "sh"]);
    command.arg(&judge.account).arg(config).arg(programs.path("cloudcore"));
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("POD_IP", "127.0.0.1");
    command.env("KUBERNETES_SERVICE_HOST", judge.address.ip().to_string());
    command.env("KUBERNETES_SERVICE_PORT", judge.address.port().to_string());
    command
}

/// The CA of the edges and of CloudCore, PEM.
fn edges_ca(kubectl: &Kubectl) -> Result<String> {
    let secret =
        kubectl.run(&["get", "secret", "casecret", "-n", "kubeedge", "-o", "jsonpath={.data.cadata}"])?;
    Ok(pki::files::certificate_pem(&STANDARD.decode(secret.trim())?))
}

/// A request for a certificate that the node serves with.
fn signing_request() -> Result<Value> {
    let mut params = rcgen::CertificateParams::new(vec![NODE.to_owned()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("system:node:{NODE}"));
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    let pem = params.serialize_request(&rcgen::KeyPair::generate()?)?.pem()?;
    Ok(json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": "own"}, "spec": {"signerName": "kubernetes.io/kubelet-serving",
        "usages": ["digital signature", "server auth"], "request": STANDARD.encode(pem)}}))
}

/// A pod with a token, that tolerates for a while that its node is away.
fn asking() -> Value {
    let tolerates = |key: &str| json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asks"}, "spec": {
        "nodeName": NODE,
        "terminationGracePeriodSeconds": 0,
        "tolerations": [tolerates("not-ready"), tolerates("unreachable")],
        "containers": [{"name": "c", "image": IMAGE,
            "command": ["sh", "-c", "echo started; cat /t/token; sleep 1000000"],
            "volumeMounts": [{"name": "t", "mountPath": "/t"}]}],
        "volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
    }})
}

impl Lab {
    fn waits(
        &self,
        what: &str,
        kind: &str,
        name: &str,
        path: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<()> {
        wait::for_true(what, PATIENCE, || {
            Ok(self.kubectl.field(kind, name, path).is_ok_and(|value| wanted(&value)))
        })
    }

    /// Pods, with what they refer to, their tokens, statuses, events, and those of files.
    fn pods(&self) -> Result<()> {
        let ready = ".status.conditions[?(@.type==\"Ready\")].status";
        self.waits("the node is ready", "node", NODE, ready, |value| value == "True")?;
        self.kubectl.apply(GREETER)?;
        self.kubectl.apply(&asking().to_string())?;
        for pod in ["greeter", "asks"] {
            self.waits(&format!("{pod} runs"), "pod", pod, ".status.phase", |value| value == "Running")?;
        }
        let file = self.edges[0].root.join("etc/kubeedge/manifests/web.yaml");
        std::fs::create_dir_all(file.parent().context("a folder")?)?;
        std::fs::write(&file, STATIC)?;
        self.waits("the mirror runs", "pod", "web-edge-1", ".status.phase", |value| value == "Running")?;
        std::fs::remove_file(&file)?;
        wait::for_true("the mirror goes", PATIENCE, || {
            Ok(self.kubectl.run(&["get", "pods", "-o", "name"])?.lines().all(|name| name != "pod/web-edge-1"))
        })?;
        wait::for_true("events of pods", PATIENCE, || {
            Ok(self.kubectl.run(&["get", "events", "-o", "name"])?.lines().count() > 3)
        })?;
        // A node's policy changes its pods.
        self.kubectl.run(&["annotate", "node", NODE, "node.openyurt.io/autonomy-duration=2h"])?;
        let tolerations = ".spec.tolerations[*].tolerationSeconds";
        self.waits("the policy counts", "pod", "asks", tolerations, |value| value.contains("7200"))?;
        let mut count = 0;
        wait::for_true("a pod is made with the policy, by the webhook", PATIENCE, || {
            count += 1;
            let mut pod = asking();
            pod["metadata"]["name"] = json!(format!("made-{count}"));
            let file = self.scratch.path().join("made.json");
            std::fs::write(&file, pod.to_string())?;
            let create = ["create", "--validate=false", "-o", "json", "-f", &file.to_string_lossy()];
            let made: Value = serde_json::from_str(&self.kubectl.run(&create)?)?;
            self.kubectl.run(&["delete", "pod", &format!("made-{count}"), "--wait=false"])?;
            Ok(made["spec"]["tolerations"][0]["tolerationSeconds"] == 7200)
        })?;
        // An upgrade applies the empty configurations once more.
        let webhooks = || {
            let path = ".webhooks[*].name";
            self.kubectl.field("mutatingwebhookconfiguration", "cloudcore-webhooks", path)
        };
        let before = webhooks()?;
        for text in installed().iter().filter(|text| text.contains("WebhookConfiguration\"")) {
            self.kubectl.apply(text)?;
        }
        ensure!(!before.is_empty() && webhooks()? == before, "{before}");
        Ok(())
    }

    /// A claim, a class of the runtime, and the node's own certificate: what CloudCore reads for a node that asks.
    fn asked_for(&self) -> Result<()> {
        let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "kept"}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "hostPath": {"path": self.scratch.path().join("kept"), "type": "DirectoryOrCreate"}}});
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "kept"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": "kept",
            "resources": {"requests": {"storage": "1Gi"}}}});
        let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "plain"},
            "handler": "runc"});
        let mut pod = asking();
        pod["metadata"]["name"] = json!("keeps");
        pod["spec"]["runtimeClassName"] = json!("plain");
        pod["spec"]["volumes"] = json!([{"name": "t", "persistentVolumeClaim": {"claimName": "kept"}}]);
        pod["spec"]["containers"][0]["command"] = json!(["sh", "-c", "echo here > /t/file; sleep 1000000"]);
        for object in [volume, claim, class, pod] {
            self.kubectl.apply(&object.to_string())?;
        }
        let uid = self.kubectl.field("pvc", "kept", ".metadata.uid")?;
        let reference =
            json!({"kind": "PersistentVolumeClaim", "namespace": "default", "name": "kept", "uid": uid});
        let to_claim = json!({"spec": {"claimRef": reference}}).to_string();
        let bound = json!({"status": {"phase": "Bound"}}).to_string();
        let merge = ["kept", "--type=merge", "-p"];
        self.kubectl.run(&[&["patch", "pv"], &merge[..], &[&to_claim]].concat())?;
        for kind in ["pv", "pvc"] {
            self.kubectl.run(&[&["patch", kind, "--subresource=status"], &merge[..], &[&bound]].concat())?;
        }
        self.waits("a pod with a claim runs", "pod", "keeps", ".status.phase", |value| value == "Running")?;
        wait::for_true("the node has its certificate", PATIENCE, || {
            Ok(!self
                .kubectl
                .run(&["get", "csr", "-o", "jsonpath={.items[*].status.certificate}"])?
                .is_empty())
        })
    }

    /// Logs and commands, through the stream server.
    fn streams(&self) -> Result<()> {
        wait::for_true("logs", PATIENCE, || {
            Ok(self.kubectl.run(&["logs", "asks"]).is_ok_and(|log| log.starts_with("started\n")))
        })?;
        let stranger = self.kubectl.run(&["create", "token", "default"])?;
        let bearer = format!("Bearer {}", stranger.trim());
        let tls = e2e::peer::tls(&self.edges[0].root, false)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (path, headers) = ("/containerLogs/default/asks/c", [("Authorization", bearer.as_str())]);
        let (status, _) = runtime.block_on(e2e::peer::get(tls, self.streams, path, &headers, Vec::new()))?;
        ensure!(status == 403, "a service account without rights: {status}");
        // Of a node that is not here, other replicas are looked for.
        let away = self.kubectl.run(&["get", "--raw", "/api/v1/nodes/edge-9/proxy/stats/summary"]);
        ensure!(away.is_err());
        Ok(())
    }

    fn devices(&mut self) -> Result<()> {
        let socket = self.edges[0].dmi_socket();
        wait::for_true("EdgeCore's DMI socket", PATIENCE, || Ok(socket.exists()))?;
        let (own, config) =
            (self.scratch.path().join("virtual.sock"), self.scratch.path().join("virtual.yaml"));
        let text = format!(
            "grpc_server: {{socket_path: {}}}\ncommon: {{name: virtual-mapper, version: v1.0.0, api_version: v1.0.0, protocol: \
             virtual, address: 127.0.0.1, edgecore_sock: {}}}\n",
            own.display(),
            socket.display()
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(self.programs.path("mapper-virtual"));
        command.arg("--config-file").arg(&config);
        self.mapper =
            Some(Process::start(command, "mapper-virtual", &self.scratch.path().join("mapper.log"))?);
        self.kubectl.apply(THERMOMETER)?;
        let path = ".status.twins[?(@.propertyName==\"temperature\")].reported.value";
        self.waits("a value comes", "devicestatus", "thermometer", path, |value| !value.is_empty())
    }

    /// An edge of KubeEdge's dialect, whose acknowledgements are objects.
    fn records(&self) -> Result<()> {
        self.kubectl
            .create(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": PLAIN}}).to_string())?;
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stored"},
            "spec": {"nodeName": PLAIN, "containers": [{"name": "c", "image": "x"}]}});
        self.kubectl.apply(&pod.to_string())?;
        let recorded = || {
            let records = self.kubectl.run(&[
                "get",
                "objectsyncs",
                "-o",
                "jsonpath={.items[*].status.objectResourceVersion}",
            ]);
            Ok::<_, anyhow::Error>(records?.split_whitespace().any(|version| version != "0"))
        };
        wait::for_true("a record of what the edge has", PATIENCE, recorded)?;
        // An older one tells whole statuses.
        self.edges[1].kill9()?;
        let uid = self.kubectl.field("pod", "stored", ".metadata.uid")?;
        let has_come = || Ok(self.kubectl.field("event", "told", ".count").is_ok_and(|count| count == "3"));
        let (root, port) = (&self.edges[1].root, self.doors.link.port());
        go_edge::whole_reports(root, port, PLAIN, ["stored", &uid], has_come)?;
        self.waits("the pod's status", "pod", "stored", ".status.phase", |value| value == "Running")
    }

    /// Tokens that are good once, a name that is taken, a node that is put out.
    fn joins(&self) -> Result<()> {
        let kubeconfig = self.api.kubeconfig.to_string_lossy().into_owned();
        let once = ["gettoken", "--single-use", "--kube-config", &kubeconfig];
        let token = || Ok::<_, anyhow::Error>(self.programs.keadm(&once)?.trim().to_owned());
        let join = |name: &str, folder: &str, token: String| {
            let doors = Doors { token, ..self.doors() };
            Edge::join_at(&self.programs, &doors, name, &self.scratch.path().join(folder), None, &[])
        };
        let once = join("edge-3", "once", token()?)?;
        let used = || {
            let maps = self.kubectl.run(&["get", "configmaps", "-n", "kubeedge", "-o", "name"])?;
            Ok(maps.contains("configmap/used-token-"))
        };
        wait::for_true("the use of the token is written down", PATIENCE, used)?;
        drop(once);
        let existing = ["gettoken", "--existing-nodes", "--kube-config", &kubeconfig];
        let existing = self.programs.keadm(&existing)?.trim().to_owned();
        ensure!(join(NODE, "twice", existing).is_err(), "the name of a connected node was given away");
        self.kubectl.create(&signing_request()?.to_string())?;
        let approved = ".status.conditions[?(@.type==\"Approved\")].status";
        self.waits("the node's certificate is approved", "csr", "own", approved, |value| value == "True")?;
        for node in [PLAIN, "edge-4"] {
            if node != PLAIN {
                self.kubectl.create(
                    &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}).to_string(),
                )?;
            }
            self.kubectl.run(&["delete", "node", node])?;
            let path = format!(".data.{node}");
            wait::for_true("the deleted node is on the list", PATIENCE, || {
                let list = [
                    "get",
                    "configmap",
                    "refused-nodes",
                    "-n",
                    "kubeedge",
                    "-o",
                    &format!("jsonpath={{{path}}}"),
                ];
                Ok(self.kubectl.run(&list).is_ok_and(|entry| !entry.is_empty()))
            })?;
        }
        wait::for_true("records of the deleted node go", PATIENCE, || {
            let records = self.kubectl.run(&["get", "objectsyncs,clusterobjectsyncs", "-o", "name"])?;
            Ok(!records.contains(PLAIN))
        })
    }

    fn work(&mut self) -> Result<()> {
        self.pods()?;
        self.asked_for()?;
        self.streams()?;
        self.devices()?;
        self.records()?;
        self.joins()
    }

    fn doors(&self) -> Doors {
        let Doors { link, cert_port, quic_port, token } = &self.doors;
        Doors { link: *link, cert_port: *cert_port, quic_port: *quic_port, token: token.clone() }
    }
}

#[test]
fn cloudcore_does_its_work_as_a_pod_with_the_rights_of_its_roles_alone() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let mut lab = Lab::start()?;
    let done = lab.work();
    lab.cloudcore.check()?;
    let log = std::fs::read_to_string(&lab.cloudcore.log)?;
    let (refused, unused) = (lab.judge.refused(), lab.judge.unused());
    ensure!(refused.is_empty(), "no role gives CloudCore {refused:#?}\n{log}");
    done.with_context(|| format!("nobody asked for {unused:#?}\n{log}"))?;
    let unused: Vec<&String> = unused.iter().filter(|right| !ELSEWHERE.contains(&right.as_str())).collect();
    ensure!(unused.is_empty(), "nobody needs {unused:#?}");
    Ok(())
}
