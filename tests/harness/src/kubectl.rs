//! The real kubectl.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::programs;

#[derive(Clone, Debug)]
pub struct Kubectl {
    pub kubeconfig: PathBuf,
}

impl Kubectl {
    pub fn new(kubeconfig: &Path) -> Kubectl {
        Kubectl { kubeconfig: kubeconfig.to_owned() }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        // Its discovery cache would outlive the site.
        let cache = self.kubeconfig.with_extension("cache");
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(cache).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        programs::run(self.command(arguments))
    }

    /// Applies manifests given as text.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        self.feed(&["apply", "-f", "-"], manifests)
    }

    /// Creates objects given as text, unchecked by kubectl: the API server's word counts.
    pub fn create(&self, manifests: &str) -> Result<String> {
        self.feed(&["create", "--validate=false", "-f", "-"], manifests)
    }

    /// Like [`Kubectl::create`], as another user.
    pub fn create_as(&self, user: &str, manifests: &str) -> Result<String> {
        self.feed(&["create", "--as", user, "--validate=false", "-f", "-"], manifests)
    }

    fn feed(&self, arguments: &[&str], manifests: &str) -> Result<String> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("running kubectl {arguments:?}"))?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(manifests.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("kubectl {}: {}", arguments[0], String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// One object.
    pub fn get(&self, kind: &str, name: &str) -> Result<Value> {
        let text = self.run(&["get", kind, name, "-o", "json"])?;
        serde_json::from_str(&text).with_context(|| format!("reading {kind} {name}"))
    }

    /// One field of one object, by JSONPath; empty if absent.
    pub fn field(&self, kind: &str, name: &str, path: &str) -> Result<String> {
        self.run(&["get", kind, name, "-o", &format!("jsonpath={{{path}}}")])
    }
}
