//! What people type, with five versions of kubectl, at the embedded API server.
//!
//! `CAUSEWAY_KUBECONFIG=FILE cargo nextest run -p clients -j 1 kubectl` asks Kubernetes itself.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clients::server::Cluster;
use harness::clients::Installed;

/// kubectl of one version, with a cache of its own.
struct Kubectl {
    program: PathBuf,
    cluster: Cluster,
    cache: tempfile::TempDir,
}

impl Kubectl {
    fn start(minor: u32) -> Result<Kubectl> {
        let program = Installed::find()?.kubectl(minor);
        let kubectl = Kubectl { program, cluster: Cluster::find()?, cache: tempfile::tempdir()? };
        kubectl.tells("version", &format!("Client Version: v1.{minor}."))?;
        Ok(kubectl)
    }

    /// (success, output of both kinds) of a line of words; `input` is what it reads.
    fn run(&self, line: &str, input: &str) -> Result<(bool, String)> {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.cluster.kubeconfig).arg("--cache-dir").arg(self.cache.path());
        command.args(line.split_whitespace()).env("KUBECTL_EXTERNAL_DIFF", "diff -u");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("running {}", self.program.display()))?;
        // It may end without reading.
        let _ = child.stdin.take().context("its input")?.write_all(input.as_bytes());
        let output = child.wait_with_output()?;
        let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok((output.status.success(), told.concat()))
    }

    /// It succeeds and tells `words`.
    fn tells(&self, line: &str, words: &str) -> Result<()> {
        self.takes(line, "", words)
    }

    fn takes(&self, line: &str, input: &str, words: &str) -> Result<()> {
        let (success, told) = self.run(line, input)?;
        ensure!(success && told.contains(words), "kubectl {line}: without {words:?}: {told}");
        Ok(())
    }

    /// It fails and tells `words`.
    fn fails(&self, line: &str, input: &str, words: &str) -> Result<()> {
        let (success, told) = self.run(line, input)?;
        ensure!(
            !success && told.contains(words),
            "kubectl {line}: success is {success}, without {words:?}: {told}"
        );
        Ok(())
    }

    fn created(&self) -> Result<()> {
        self.tells("create namespace shop", "namespace/shop created")?;
        self.tells(
            "create deployment web --image=a/web:1 --replicas=0 -n shop",
            "deployment.apps/web created",
        )?;
        self.tells("create configmap c --from-literal=k=v -n shop", "configmap/c created")?;
        self.tells("create secret generic s --from-literal=k=v -n shop", "secret/s created")?;
        self.tells("create service clusterip web --tcp=80:8080 -n shop", "service/web created")?;
        self.tells("create job j --image=a -n shop", "job.batch/j created")?;
        self.takes(
            "create -n shop -f -",
            "{apiVersion: v1, kind: ResourceQuota, metadata: {name: q}, spec: {hard: {pods: 50}}}",
            "",
        )?;
        self.tells("create priorityclass high --value=10", "priorityclass.scheduling.k8s.io/high created")?;
        self.tells(
            "create ingress i --rule=a.example/=web:80 -n shop",
            "ingress.networking.k8s.io/i created",
        )?;
        let budget = "create poddisruptionbudget b --selector=app=web --min-available=1 -n shop";
        self.tells(budget, "poddisruptionbudget.policy/b created")?;
        self.tells("create serviceaccount robot -n shop", "serviceaccount/robot created")?;
        self.tells(
            "create role reader --verb=get --resource=pods -n shop",
            "role.rbac.authorization.k8s.io/reader created",
        )?;
        let binding = "create rolebinding reader --role=reader --serviceaccount=shop:robot -n shop";
        self.tells(binding, "rolebinding.rbac.authorization.k8s.io/reader created")?;
        self.tells("create token robot -n shop", "ey")
    }

    fn applied(&self) -> Result<()> {
        let map = |value: &str| {
            format!(
                "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: applied, labels: {{set: one}}}}, data: {{k: {value}}}}}"
            )
        };
        self.takes("apply -n shop -f -", &map("one"), "configmap/applied created")?;
        self.takes("apply -n shop -f -", &map("one"), "configmap/applied unchanged")?;
        self.takes("apply -n shop -f -", &map("two"), "configmap/applied configured")?;
        self.fails("diff -n shop -f -", &map("three"), "+  k: three")?;
        let other = map("five").replace("name: applied", "name: kept");
        let pruning = "apply -n shop --prune -l set=one --prune-allowlist=core/v1/ConfigMap -f -";
        self.takes(pruning, &other, "configmap/applied pruned")?;
        self.fails("get configmap applied -n shop", "", "NotFound")?;
        self.takes("apply -n shop -f -", &map("three"), "configmap/applied created")?;
        self.fails("apply -n shop --server-side --field-manager=other -f -", &map("four"), "conflict")?;
        let forced = "apply -n shop --server-side --field-manager=other --force-conflicts -f -";
        self.takes(forced, &map("four"), "configmap/applied serverside-applied")?;
        self.fails(
            "apply -n shop -f -",
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, datta: {}}",
            "datta",
        )
    }

    fn shown(&self) -> Result<()> {
        self.tells("get deployment web -n shop -o wide", "a/web:1")?;
        self.tells("get deployment web -n shop -o jsonpath={.spec.strategy.type}", "RollingUpdate")?;
        self.tells("get all -n shop", "deployment.apps/web")?;
        let columns = "get configmap applied -n shop -o custom-columns=NAME:.metadata.name,K:.data.k";
        self.tells(columns, "applied   four")?;
        self.tells("get configmap c -n shop -o yaml", "k: v")?;
        self.tells("get configmaps -A --chunk-size=1 -o name", "configmap/c")?;
        self.tells("explain deployment.spec.strategy", "maxSurge")
            .or_else(|_| self.tells("explain deployment.spec.strategy.rollingUpdate", "maxSurge"))?;
        self.tells("explain pods --recursive", "readinessProbe")?;
        self.tells("describe deployment web -n shop", "StrategyType:")?;
        self.tells("describe quota q -n shop", "pods")?;
        self.tells("events -n shop", "").map(drop)?;
        self.tells("api-resources --namespaced=true -o name", "deployments.apps")?;
        self.tells("api-versions", "apps/v1")?;
        self.tells("auth can-i list pods -n shop", "yes")?;
        self.fails("auth can-i list pods -n shop --as=system:serviceaccount:shop:robot", "", "no")?;
        self.tells("auth can-i get pods -n shop --as=system:serviceaccount:shop:robot", "yes")?;
        self.tells("auth whoami", "Username")?;
        self.tells("cluster-info", "control plane")
    }

    fn changed(&self) -> Result<()> {
        self.tells("set image deployment/web web=a/web:2 -n shop", "image updated")?;
        self.tells("rollout status deployment/web -n shop --timeout=60s", "successfully rolled out")?;
        self.tells(
            "wait --for=jsonpath={.status.observedGeneration}=2 deployment/web -n shop --timeout=60s",
            "condition met",
        )?;
        self.tells("rollout history deployment/web -n shop", "REVISION")?;
        self.tells("rollout undo deployment/web -n shop", "rolled back")?;
        self.tells("get deployment web -n shop -o jsonpath={..image}", "a/web:1")?;
        self.tells("rollout restart deployment/web -n shop", "restarted")?;
        self.tells("scale deployment/web --replicas=1 --current-replicas=0 -n shop", "scaled")?;
        self.fails("scale deployment/web --replicas=1 --current-replicas=7 -n shop", "", "xpected replicas")?;
        self.tells("scale deployment/web --replicas=0 -n shop", "scaled")?;
        self.tells(
            "autoscale deployment/web --min=1 --max=3 -n shop",
            "horizontalpodautoscaler.autoscaling/web autoscaled",
        )?;
        self.tells("label deployment/web tier=front -n shop", "labeled")?;
        self.fails("label deployment/web tier=back -n shop", "", "--overwrite")?;
        self.tells("annotate deployment/web note=text -n shop", "annotated")?;
        self.tells("patch deployment/web -n shop -p {\"spec\":{\"paused\":true}}", "patched")?;
        self.tells("patch configmap/c -n shop --type=json -p [{\"op\":\"add\",\"path\":\"/data/m\",\"value\":\"1\"}]", "patched")?;
        self.takes(
            "replace -n shop -f -",
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {}}",
            "replaced",
        )
    }

    fn nodes(&self) -> Result<()> {
        self.takes("create -f -", "{apiVersion: v1, kind: Node, metadata: {name: n1}}", "node/n1 created")?;
        self.tells("taint node n1 dedicated=x:NoSchedule", "tainted")?;
        self.tells("cordon n1", "cordoned")?;
        let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {app: web}}, \
                   spec: {nodeName: n1, terminationGracePeriodSeconds: 0, containers: [{name: a, image: a}]}}";
        self.takes("create -n shop -f -", pod, "pod/p created")?;
        let ready =
            "{\"status\":{\"phase\":\"Running\",\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}";
        self.tells(&format!("patch pod p -n shop --subresource=status -p {ready}"), "patched")?;
        self.fails("drain n1 --force --timeout=2s", "", "disruption budget")?;
        self.tells("delete poddisruptionbudget b -n shop", "deleted")?;
        self.tells("drain n1 --force --timeout=60s", "drained")?;
        self.tells("uncordon n1", "uncordoned")?;
        self.tells("delete node n1", "deleted")
    }

    fn deleted(&self) -> Result<()> {
        self.tells("delete deployment web -n shop --cascade=orphan", "deleted")?;
        self.tells("get replicasets -n shop -o name", "replicaset.apps/web-")?;
        self.tells("delete replicasets -n shop --all --cascade=foreground --timeout=60s", "deleted")?;
        self.tells("delete job j -n shop --cascade=background", "deleted")?;
        self.tells("delete namespace shop --timeout=60s", "deleted")?;
        self.fails("get namespace shop", "", "NotFound")
    }

    fn everything(&self) -> Result<()> {
        self.created()?;
        self.applied()?;
        self.shown()?;
        self.changed()?;
        self.nodes()?;
        self.deleted()
    }
}

#[test]
fn kubectl_1_33_does_what_people_type() -> Result<()> {
    Kubectl::start(33)?.everything()
}

#[test]
fn kubectl_1_34_does_what_people_type() -> Result<()> {
    Kubectl::start(34)?.everything()
}

#[test]
fn kubectl_1_35_does_what_people_type() -> Result<()> {
    Kubectl::start(35)?.everything()
}

#[test]
fn kubectl_1_36_does_what_people_type() -> Result<()> {
    Kubectl::start(36)?.everything()
}

#[test]
fn kubectl_1_37_does_what_people_type() -> Result<()> {
    Kubectl::start(37)?.everything()
}
