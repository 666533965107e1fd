//! Rights in the embedded API server, with kubectl.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::cloud::Cloud;
use harness::kubectl::Kubectl;
use harness::programs::{self, Programs};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Lab {
    cloud: Cloud,
    scratch: TempDir,
}

impl Lab {
    fn start() -> Result<Lab> {
        let scratch = tempfile::tempdir()?;
        let cloud = Cloud::init(&Programs::find()?, &scratch.path().join("cloud"))?;
        Ok(Lab { cloud, scratch })
    }

    /// A kubectl with the token of a service account of `default`, which is made.
    fn account(&self, name: &str) -> Result<Kubectl> {
        let admin = self.cloud.kubectl();
        admin.run(&["create", "serviceaccount", name])?;
        let token = admin.run(&["create", "token", name])?;
        let text = admin.run(&["config", "view", "--raw", "--flatten", "-o", "json"])?;
        let mut config: Value = serde_json::from_str(&text)?;
        config["users"][0]["user"] = json!({"token": token.trim()});
        let path = self.scratch.path().join(format!("{name}.kubeconfig"));
        std::fs::write(&path, config.to_string())?;
        Ok(Kubectl::new(&path))
    }
}

/// What `kubectl auth can-i` answers.
fn can(kubectl: &Kubectl, arguments: &[&str]) -> Result<bool> {
    let mut command: Command = kubectl.command(&[&["auth", "can-i"], arguments].concat());
    let output = programs::output(&mut command)?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => anyhow::bail!("{arguments:?}: {other} {}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn refused(kubectl: &Kubectl, arguments: &[&str], words: &str) -> Result<()> {
    let output = programs::output(&mut kubectl.command(arguments))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && told.contains(words), "{arguments:?}: {told}");
    Ok(())
}

#[test]
fn cloudcore_has_the_rights_of_its_account_in_its_own_api_server_and_no_others() -> Result<()> {
    let lab = Lab::start()?;
    let found = walk(lab.scratch.path(), "cloudcore.kubeconfig")?;
    let account = Kubectl::new(&found);
    let user = "system:serviceaccount:kubeedge:cloudcore";
    ensure!(account.run(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])? == user);
    for (wanted, arguments) in [
        (true, &["list", "pods", "-A"][..]),
        (true, &["patch", "nodes"]),
        (true, &["update", "secrets/casecret", "-n", "kubeedge"]),
        (true, &["update", "leases.coordination.k8s.io", "-n", "kube-node-lease"]),
        (false, &["delete", "nodes"]),
        (false, &["update", "secrets/casecret", "-n", "default"]),
        (false, &["update", "secrets/other", "-n", "kubeedge"]),
        (false, &["create", "pods", "--subresource=exec", "-n", "default"]),
        (false, &["create", "clusterrolebindings.rbac.authorization.k8s.io"]),
        (false, &["impersonate", "users"]),
    ] {
        ensure!(can(&account, arguments)? == wanted, "{arguments:?}");
    }
    Ok(())
}

#[test]
fn kubectl_gives_and_takes_rights_and_lists_them() -> Result<()> {
    let lab = Lab::start()?;
    let (admin, robot) = (lab.cloud.kubectl(), lab.account("robot")?);
    refused(
        &robot,
        &["get", "pods"],
        "pods is forbidden: User \"system:serviceaccount:default:robot\" cannot list",
    )?;
    ensure!(!can(&robot, &["list", "pods"])?);
    admin.run(&["create", "rolebinding", "r", "--clusterrole=view", "--serviceaccount=default:robot"])?;
    ensure!(can(&robot, &["list", "pods"])? && !can(&robot, &["list", "pods", "-A"])?);
    robot.run(&["get", "pods"])?;
    let listed = robot.run(&["auth", "can-i", "--list"])?;
    ensure!(listed.contains("endpointslices.discovery.k8s.io") && listed.contains("/openapi/*"), "{listed}");
    refused(&robot, &["create", "configmap", "x"], "cannot create resource \"configmaps\"")?;
    refused(&robot, &["get", "pods", "--as", "kubernetes-admin"], "cannot impersonate resource \"users\"")?;
    // What is reconciled has all that the file says.
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "maker", "namespace": "default"},
        "rules": [{"verbs": ["create", "get"], "apiGroups": [""], "resources": ["configmaps"]}]});
    let file = lab.scratch.path().join("role.json");
    std::fs::write(&file, role.to_string())?;
    let file = file.to_string_lossy();
    admin.run(&["auth", "reconcile", "-f", &file])?;
    admin.run(&["create", "rolebinding", "m", "--role=maker", "--serviceaccount=default:robot"])?;
    robot.run(&["create", "configmap", "x"])?;
    admin.run(&["delete", "rolebinding", "m", "r"])?;
    refused(&robot, &["get", "configmap", "x"], "forbidden")
}

/// The file of this name below a folder.
fn walk(folder: &std::path::Path, name: &str) -> Result<std::path::PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.ends_with(name) => return Ok(path),
                false => {}
            }
        }
    }
    None.context("no such file")
}
