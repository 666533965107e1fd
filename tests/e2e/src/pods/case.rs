//! A row as it is written.
//!
//! ```yaml
//! kind: Pod                         # and further objects; API version, node, image and grace are filled in
//! metadata: {name: greets}
//! spec: {containers: [{name: main, command: [sh, -c, "echo hello; sleep 600"]}]}
//! ---
//! steps:
//! - do: {kubectl: [label, pod, greets, a=b]}        # optional: kubectl, delete, kill or exec
//!   passes: [{phase: Pending}]                      # seen in this order on the way
//!   status: {phase: Running, containerStatuses/main/ready: true}
//!   facts: [{exec: id -u, prints: "0"}, {log: main, contains: [hello]}]
//!   never: [{containerStatuses/main/restartCount: 1}]
//! ```
//!
//! Known in every text: `<scratch>` (a folder of the site), `<root>` (of the edge), `<beside>` (the folder it is in),
//! `<peer:NAME>` (a port of the test's own servers). Known in what is expected and in facts, too: `<podIP>`, `<hostIP>`,
//! `<uid>`, `<cgroup>` (above the node's), `<edgecore>` (its process).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::site::{IMAGE, NODE};
use serde::Deserialize;
use serde_json::{Value, json};

/// Path into `status` -> what is there.
pub type Wanted = BTreeMap<String, Value>;

#[derive(Debug)]
pub struct Case {
    /// `<theme>/<file>`
    pub name: String,
    /// The pod that is looked at.
    pub pod: String,
    /// Its first container: where facts are looked for unless they say.
    pub container: String,
    pub objects: Vec<Value>,
    pub steps: Vec<Step>,
}

impl Fact {
    /// Whether it can be looked for on this machine.
    pub fn applies(&self) -> bool {
        let version = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { 2 } else { 1 };
        self.cgroup.is_none_or(|wanted| wanted == version)
    }
}

impl Case {
    /// All objects of the row, those of its steps among them.
    pub fn all(&self) -> impl Iterator<Item = &Value> {
        let later = self.steps.iter().filter_map(|step| step.act.as_ref()?.create.as_ref());
        self.objects.iter().chain(later)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// The pod that is looked at, unless it is the row's first.
    pub pod: Option<String>,
    #[serde(rename = "do")]
    pub act: Option<Act>,
    /// What the status shows at the end, all at once.
    pub status: Wanted,
    /// What it showed before, in this order.
    pub passes: Vec<Wanted>,
    /// What it never showed in this step.
    pub never: Vec<Wanted>,
    pub facts: Vec<Fact>,
    /// The pod has left the API.
    pub gone: bool,
    /// The pod is another of the same name than at the start of the step.
    pub replaced: bool,
}

/// What is done before a step is awaited.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Act {
    pub kubectl: Vec<String>,
    /// Deletes the pod with the grace of its spec.
    pub delete: bool,
    /// Kills this container behind EdgeCore's back.
    pub kill: Option<String>,
    pub exec: Option<Command>,
    /// Binds a claim to a volume, as the cluster's controller does.
    pub bind: Option<Binding>,
    /// Makes one more object.
    pub create: Option<Value>,
    /// Writes a file of the host.
    pub write: Option<Written>,
    /// Removes a file of the host.
    pub remove: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    pub claim: String,
    pub volume: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    pub file: String,
    pub text: String,
}

/// A text is a line for the container's shell.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Command {
    Line(String),
    Words(Vec<String>),
}

impl Command {
    pub fn words(&self) -> Vec<String> {
        match self {
            Command::Line(line) => ["sh", "-c", line].map(str::to_owned).to_vec(),
            Command::Words(words) => words.clone(),
        }
    }
}

/// Something that is true inside or beside a container. Says where to look, then what is there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fact {
    /// Standard output of a command in a container.
    pub exec: Option<Command>,
    /// Looked for only where the machine's cgroups are of this version.
    pub cgroup: Option<u8>,
    /// The container, unless it is the first.
    #[serde(rename = "in")]
    pub container: Option<String>,
    /// What a container wrote in all its runs, without times.
    pub log: Option<String>,
    /// A file of the host.
    pub file: Option<String>,
    /// Names in a folder of the host.
    pub folder: Option<String>,
    /// The answer of an HTTP server (`address:port`) to the test's own request.
    pub get: Option<String>,
    /// The whole text, without the last newline.
    pub prints: Option<String>,
    pub contains: Vec<String>,
    pub lacks: Vec<String>,
    /// With `exec`: the exit code, which is 0 otherwise.
    pub exit: Option<i32>,
}

impl Case {
    /// Reads a row. `fill` replaces what every text knows.
    pub fn read(file: &Path, name: &str, fill: &impl Fn(&str) -> String) -> Result<Case> {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        Case::parse(&fill(&text), name).with_context(|| format!("row {name}"))
    }

    pub fn parse(text: &str, name: &str) -> Result<Case> {
        let mut documents: Vec<Value> =
            apimachinery::yaml::parse_all(text).map_err(|error| anyhow::anyhow!("{error}"))?;
        let last = documents.pop().context("it is empty")?;
        let mut steps: Vec<Step> = serde_json::from_value(last["steps"].clone()).context("its steps")?;
        ensure!(!steps.is_empty(), "it has no steps");
        for step in &steps {
            let asserts = !step.status.is_empty() || !step.facts.is_empty() || step.gone;
            ensure!(asserts, "a step asserts nothing: {step:?}");
        }
        documents.iter_mut().for_each(complete);
        // Pods come last: the API server looks for what they name.
        documents.sort_by_key(|object| object["kind"] == "Pod");
        steps.iter_mut().filter_map(|step| step.act.as_mut()?.create.as_mut()).for_each(complete);
        let pod = documents.iter().find(|object| object["kind"] == "Pod").context("it has no pod")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(Case {
            name: name.to_owned(),
            pod: text(&pod["metadata"]["name"]),
            container: text(&pod["spec"]["containers"][0]["name"]),
            objects: documents,
            steps,
        })
    }
}

/// Fills in what rows do not say: there is no scheduler, and one image.
fn complete(object: &mut Value) {
    fill(object, "apiVersion", json!("v1"));
    if object["kind"] != "Pod" {
        return;
    }
    let Some(spec) = object.get_mut("spec") else { return };
    fill(spec, "nodeName", json!(NODE));
    fill(spec, "terminationGracePeriodSeconds", json!(2));
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            fill(container, "image", json!(IMAGE));
        }
    }
}

fn fill(object: &mut Value, key: &str, value: Value) {
    if let Value::Object(fields) = object {
        fields.entry(key).or_insert(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c}]}\n---\n";

    #[test]
    fn a_row_is_completed_and_must_assert_something() {
        let case = Case::parse(&format!("{ROW}steps: [{{status: {{phase: Running}}}}]"), "t/p").unwrap();
        assert_eq!((case.pod.as_str(), case.container.as_str()), ("p", "c"));
        assert_eq!(case.objects[0]["spec"]["containers"][0]["image"], IMAGE);
        assert_eq!(case.steps[0].status["phase"], "Running");
        for steps in ["[]", "[{passes: [{phase: Pending}]}]", "[{misspelt: {phase: Running}}]"] {
            assert!(Case::parse(&format!("{ROW}steps: {steps}"), "t/p").is_err(), "{steps}");
        }
    }
}
