//! One row: its objects made, its steps awaited.

use std::time::Duration;

use anyhow::{Result, bail};
use harness::site::Site;
use harness::wait;
use serde_json::{Value, json};

use super::case::{Act, Binding, Case, Step};
use super::facts::Eyes;
use super::matching::{mismatches, passed};
use super::watch::{History, Watch};
use harness::wait::PATIENCE;

const POLL: Duration = Duration::from_millis(100);

/// What all rows share.
pub(super) struct Ground<'a> {
    pub site: &'a Site,
    pub watch: &'a Watch,
    pub eyes: &'a Eyes,
}

impl Ground<'_> {
    /// Runs a row; an error says which step did not hold, and all that was wrong with it.
    pub(super) fn run(&self, case: &Case) -> Result<()> {
        // A pod of a class that is not there is refused.
        let is_class = |object: &&Value| object["kind"].as_str().is_some_and(|kind| kind.ends_with("Class"));
        let (classes, others): (Vec<&Value>, Vec<&Value>) = case.objects.iter().partition(is_class);
        let items = [classes, others].concat();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        self.site.kubectl().create(&list.to_string())?;
        for (index, step) in case.steps.iter().enumerate() {
            let pod = step.pod.as_deref().unwrap_or(&case.pod);
            let begun = self.watch.of(pod).versions.len();
            if let Some(act) = &step.act {
                self.act(case, pod, act)?;
            }
            if let Err(wrong) = self.wait(case, pod, step, begun.saturating_sub(1)) {
                bail!("step {}: {}\n    last status: {}", index + 1, wrong.join("\n    "), self.last(pod));
            }
        }
        Ok(())
    }

    /// Takes the row's pods away, without waiting for their end.
    pub(super) fn clear(&self, case: &Case) -> Result<()> {
        let pods = case.all().filter(|object| object["kind"] == "Pod");
        let names: Vec<&str> = pods.filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
        let options = ["delete", "pod", "--ignore-not-found", "--wait=false", "--grace-period=2"];
        self.site.kubectl().run(&[&options, names.as_slice()].concat()).map(|_| ())
    }

    fn last(&self, pod: &str) -> String {
        let history = self.watch.of(pod);
        history.versions.last().map_or_else(|| "none".to_owned(), |pod| pod["status"].to_string())
    }

    fn act(&self, case: &Case, name: &str, act: &Act) -> Result<()> {
        let pod = self.watch.of(name).versions.pop().unwrap_or_default();
        let fill = |text: &str| self.fill(&pod, text);
        if !act.kubectl.is_empty() {
            let words: Vec<&str> = act.kubectl.iter().map(String::as_str).collect();
            self.site.kubectl().run(&words)?;
        }
        if let Some(object) = &act.create {
            self.site.kubectl().create(&object.to_string())?;
        }
        if let Some(binding) = &act.bind {
            self.bind(binding)?;
        }
        if act.delete {
            self.site.kubectl().run(&["delete", "pod", name, "--wait=false"])?;
        }
        if let Some(name) = &act.kill {
            let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
            let id =
                statuses.filter(|status| status["name"] == *name).find_map(|s| s["containerID"].as_str());
            self.site.kill_container(id.unwrap_or_default())?;
        }
        if let Some(command) = &act.exec {
            let ran = self.eyes.exec(&pod, &case.container, command)?;
            anyhow::ensure!(ran.exit == 0, "{command:?} ended with {}: {}", ran.exit, ran.output);
        }
        if let Some(written) = &act.write {
            std::fs::write(fill(&written.file), &written.text)?;
        }
        if let Some(file) = &act.remove {
            std::fs::remove_file(fill(file))?;
        }
        Ok(())
    }

    fn bind(&self, Binding { claim, volume }: &Binding) -> Result<()> {
        let kubectl = self.site.kubectl();
        let uid = kubectl.field("pvc", claim, ".metadata.uid")?;
        let reference =
            json!({"kind": "PersistentVolumeClaim", "namespace": "default", "name": claim, "uid": uid});
        let to_claim = json!({"spec": {"claimRef": reference}}).to_string();
        let bound = json!({"status": {"phase": "Bound"}}).to_string();
        kubectl.run(&["patch", "pv", volume, "--type=merge", "-p", &to_claim])?;
        for (kind, name) in [("pv", volume), ("pvc", claim)] {
            kubectl.run(&["patch", kind, name, "--subresource=status", "--type=merge", "-p", &bound])?;
        }
        Ok(())
    }

    /// What every text of a row knows of its pod.
    fn fill(&self, pod: &Value, text: &str) -> String {
        let status = |field: &str| pod["status"][field].as_str().unwrap_or_default();
        text.replace("<podIP>", status("podIP"))
            .replace("<hostIP>", status("hostIP"))
            .replace("<uid>", pod["metadata"]["uid"].as_str().unwrap_or_default())
            .replace("<edgecore>", &self.site.edge.pid().unwrap_or_default().to_string())
            .replace("<cgroup>", &format!("/{}", self.site.edge.cgroup()))
    }

    /// Waits until a step holds. Facts are looked for first: the status has to hold after they do.
    fn wait(&self, case: &Case, name: &str, step: &Step, begun: usize) -> Result<(), Vec<String>> {
        let start = wait::now();
        let mut open: Vec<_> = step.facts.iter().filter(|fact| fact.applies()).collect();
        loop {
            let before = self.watch.of(name);
            let pod = before.versions.last().cloned().unwrap_or_default();
            let mut wrong = Vec::new();
            open.retain(|fact| {
                let found =
                    self.eyes.contradiction(&pod, &case.container, fact, &|text| self.fill(&pod, text));
                wrong.extend(found.clone());
                found.is_some()
            });
            let history = self.watch.of(name);
            let seen = history.versions.get(begun..).unwrap_or_default();
            if let Some(bad) = self.forbidden(step, seen) {
                return Err(vec![bad]);
            }
            wrong.extend(self.status(step, &history, seen));
            if wrong.is_empty() {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                return Err(wrong);
            }
            wait::pause(POLL);
        }
    }

    /// A version that shows what must never be.
    fn forbidden(&self, step: &Step, seen: &[Value]) -> Option<String> {
        let shows = |pod: &Value, wanted: &_| {
            mismatches(&pod["status"], wanted, &|text| self.fill(pod, text)).is_empty()
        };
        let bad = step.never.iter().find(|wanted| seen.iter().any(|pod| shows(pod, wanted)))?;
        Some(format!("the status showed what it must not: {bad:?}"))
    }

    fn status(&self, step: &Step, history: &History, seen: &[Value]) -> Vec<String> {
        let newest = history.versions.last().cloned().unwrap_or_default();
        let fill = |text: &str| self.fill(&newest, text);
        let mut wrong = mismatches(&newest["status"], &step.status, &fill);
        let passed = passed(seen.iter().map(|pod| &pod["status"]), &step.passes, &fill);
        if let Some(missing) = step.passes.get(passed) {
            wrong.push(format!("the status did not pass {missing:?}"));
        }
        let uid = |pod: Option<&Value>| pod.map(|pod| pod["metadata"]["uid"].clone());
        if step.replaced && uid(seen.first()) == uid(history.versions.last()) {
            wrong.push("the pod is still the same".to_owned());
        }
        if step.gone && !history.gone {
            wrong.push("the pod is still in the API".to_owned());
        }
        wrong
    }
}
