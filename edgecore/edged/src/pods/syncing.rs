//! Syncing: bring the runtime nearer to the spec, then tell how it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::round::Round;
use super::starting::StartContext;
use super::worker::{AFTER_ERROR, Next, Retry, Worker};
use super::{cgroups, configs, names};
use nodebase::events::Kind;
use podmodel::errors::chain;
use podmodel::observed::{Observed, Sandbox, State, sandbox_of};
use podmodel::plan::{Action, Situation, Why, plan};
use podmodel::spec::RestartPolicy;
use podmodel::status::Failure;
use podmodel::stop_decision::StopDecision;
use podmodel::{backoff, spec};
use probes::Surroundings;
use volumes::Prepared;

/// A pod that is as it should be is looked at again after this, plus up to half of it.
const RESYNC: Duration = Duration::from_secs(60);
/// A pod that waits for the network plugin.
const NETWORK_WAIT: Duration = Duration::from_secs(1);

impl Worker {
    pub(super) async fn sync(&mut self, pod: &Pod, spec: &PodSpec) -> Next {
        let observed = match Observed::read(&self.context.base.runtime, &self.id.uid).await {
            Ok(observed) => observed,
            Err(error) => return self.runtime_trouble(pod, &error).await,
        };
        self.unread_since = None;
        self.cleaned = false;
        if let Some(text) = names::problem(spec) {
            self.decide(StopDecision::failed("InvalidPod", text));
            return Next::In(Duration::ZERO);
        }
        let mut round = Round::default();
        if let Some(limit) = spec.active_deadline_seconds {
            let end = self.record.start + Duration::from_secs(u64::try_from(limit).unwrap_or(0));
            if self.now() >= end {
                let text = "Pod was active on the node longer than the specified deadline";
                self.decide(StopDecision::failed("DeadlineExceeded", text));
                return Next::In(Duration::ZERO);
            }
            round.not_before(end);
        }
        self.follow_probes(pod, spec, &observed);
        let logged = self.logged(spec, &observed).await;
        let actions = self.plan(spec, &observed, pod, &logged);
        let begins = actions.iter().any(|action| matches!(action, Action::CreateSandbox { .. }));
        let network_ready = self.context.base.facts.borrow().network_ready;
        if begins && !network_ready && spec.host_network != Some(true) {
            let text = "network is not ready: container runtime network not ready";
            self.context.base.events.record(&self.id, None, Kind::Warning, "NetworkNotReady", text);
            self.report(pod, spec, &observed, false).await;
            return Next::In(NETWORK_WAIT);
        }
        if let Some(next) = self.claim_devices(spec, &observed).await {
            self.report(pod, spec, &observed, false).await;
            return next;
        }
        // The API shows that the node has taken the pod while images are pulled.
        if self.status.is_none() {
            self.report_soon(pod, spec, &observed).await;
        }
        let volumes = match self.mounted(pod, spec, &observed).await {
            Ok(volumes) => volumes,
            Err(not_before) => {
                self.report(pod, spec, &observed, false).await;
                return Next::In(self.until(not_before));
            }
        };
        if let Some(due) = volumes.refresh_at {
            round.not_before(due.max(self.now() + AFTER_ERROR));
        }
        // Before anything of it runs: that may take as long as pulling its images, and EdgeCore may end meanwhile.
        if !self.recorded && (begins || !observed.sandboxes.is_empty()) {
            self.keep_record().await;
        }
        let after = self.act(pod, spec, observed, actions, &volumes, &mut round).await;
        self.follow_probes(pod, spec, &after);
        self.report(pod, spec, &after, false).await;
        self.link_logs(&after).await;
        self.collect_garbage(&after).await;
        self.next(&round)
    }

    fn next(&self, round: &Round) -> Next {
        let resync = RESYNC + RESYNC.mul_f64(rand::random_range(0.0..0.5));
        let rest = if round.failed { AFTER_ERROR } else { resync };
        Next::In(round.wake.map_or(rest, |at| self.until(at).min(rest)))
    }

    fn plan(
        &mut self,
        spec: &PodSpec,
        observed: &Observed,
        pod: &Pod,
        logged: &BTreeMap<String, u32>,
    ) -> Vec<Action> {
        let health = self.probes.health();
        plan(&Situation {
            spec,
            observed,
            now: self.now(),
            longest_restart: self.context.base.settings.longest_restart,
            counted: &self.counted(pod, spec, observed, logged),
            done: &self.done_before(pod, spec, observed),
            unhealthy: &health.unhealthy,
            starting: &health.starting,
        })
    }

    /// Probes the containers that run.
    fn follow_probes(&mut self, pod: &Pod, spec: &PodSpec, observed: &Observed) {
        let previous = self.previous(pod);
        let statuses = previous.container_statuses.iter().chain(&previous.init_container_statuses).flatten();
        let told: BTreeMap<String, (bool, bool)> = statuses
            .filter_map(|status| {
                let id = status.container_id.as_ref()?.rsplit('/').next()?.to_owned();
                Some((id, (status.ready, status.started == Some(true))))
            })
            .collect();
        let running: Vec<_> = spec::all_containers(spec)
            .filter_map(|container| {
                let run = observed.newest(&container.name).filter(|run| run.state == State::Running)?;
                let (ready, started) = told.get(&run.id).copied().unwrap_or_default();
                Some((container, run, ready, started))
            })
            .collect();
        let ips = super::worker::ips(&self.context, spec, observed.sandboxes.first());
        let wake = self.wake.clone();
        let around = Surroundings {
            runtime: self.context.base.runtime.clone(),
            clock: self.context.base.clock.clone(),
            pod_ip: ips.first().cloned().unwrap_or_default(),
            pod: self.id.clone(),
            events: self.context.base.events.clone(),
            changed: std::sync::Arc::new(move || wake.now()),
        };
        self.probes.follow(&running, &around);
    }

    /// Restart counts of containers the runtime has forgotten: from the last status, or from their log files.
    fn counted(
        &self,
        pod: &Pod,
        spec: &PodSpec,
        observed: &Observed,
        logged: &BTreeMap<String, u32>,
    ) -> BTreeMap<String, u32> {
        let previous = self.previous(pod);
        let statuses = previous.container_statuses.iter().chain(&previous.init_container_statuses).flatten();
        let told: BTreeMap<&str, u32> = statuses
            .filter(|status| status.container_id.is_some())
            .map(|status| (status.name.as_str(), u32::try_from(status.restart_count).unwrap_or(0)))
            .collect();
        let count = |name: &String| {
            let count = told.get(name.as_str()).max(logged.get(name)).copied()?;
            Some((name.clone(), count))
        };
        forgotten(spec, observed).iter().filter_map(count).collect()
    }

    /// How often containers that the runtime has forgotten were restarted, by their log files.
    async fn logged(&self, spec: &PodSpec, observed: &Observed) -> BTreeMap<String, u32> {
        let folder = self.context.base.settings.pod_logs_dir.join(self.id.log_folder());
        let names = forgotten(spec, observed);
        if names.is_empty() {
            return BTreeMap::new();
        }
        let count = move |name: String| {
            let count = super::folders::highest_log(&folder.join(&name))?;
            Some((name, count))
        };
        daemon::blocking(move || Ok(names.into_iter().filter_map(count).collect())).await.unwrap_or_default()
    }

    /// Containers the runtime has forgotten (the node was made anew) that have ended as far as the API knows, and are not
    /// begun again by the pod's policy.
    fn done_before(&self, pod: &Pod, spec: &PodSpec, observed: &Observed) -> BTreeSet<String> {
        let policy = RestartPolicy::of(spec);
        let is_done = |code: i32| match policy {
            RestartPolicy::Always => false,
            RestartPolicy::OnFailure => code == 0,
            RestartPolicy::Never => true,
        };
        let previous = self.previous(pod);
        let ended = previous.container_statuses.iter().flatten().filter(|status| {
            let end = status.state.as_ref().and_then(|state| state.terminated.as_ref());
            // What never ran has no id.
            status.container_id.is_some() && end.is_some_and(|end| is_done(end.exit_code))
        });
        let names = ended.map(|status| status.name.clone());
        names.filter(|name| observed.newest(name).is_none()).collect()
    }

    /// The pod's volumes, or when to try again: what fails is tried ever more rarely, at once when an object it may wait
    /// for has changed.
    async fn mounted(
        &mut self,
        pod: &Pod,
        spec: &PodSpec,
        observed: &Observed,
    ) -> Result<Prepared, jiff::Timestamp> {
        if let Some(retry) = self.mounting.filter(|retry| retry.not_before > self.now()) {
            return Err(retry.not_before);
        }
        let text = match self.prepare(pod, spec, observed).await {
            Ok(volumes) => {
                self.mounting = None;
                return Ok(volumes);
            }
            Err(text) => text,
        };
        if self.is_news(&text) {
            tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, error = %text, "volumes not ready");
        }
        let failures = self.mounting.map_or(0, |retry| retry.failures) + 1;
        let delay = backoff::mount_delay(failures);
        let text = format!("{text} (tried again in {})", backoff::written(delay));
        self.context.base.events.record(&self.id, None, Kind::Warning, "FailedMount", &text);
        let not_before = self.now() + delay;
        self.mounting = Some(Retry { failures, not_before });
        Err(not_before)
    }

    async fn prepare(&self, pod: &Pod, spec: &PodSpec, observed: &Observed) -> Result<Prepared, String> {
        let logs = self.context.base.settings.pod_logs_dir.join(self.id.log_folder());
        let dir = volumes::pod_dir(&self.context.base.settings.root_dir, &self.id.uid);
        let made = daemon::blocking(move || {
            volumes::mounts::make_dir(&dir, 0o750)?;
            volumes::mounts::make_dirs(&logs, 0o755)
        });
        made.await.map_err(|error| format!("making the pod's folders: {error}"))?;
        let place = self.context.place(super::worker::ips(&self.context, spec, observed.sandboxes.first()));
        let site = volumes::VolumeContext {
            root: &self.context.base.settings.root_dir,
            queries: &self.context.queries,
            csi: &self.context.csi,
            place: &place,
            allocatable_memory: self.context.allocatable("memory"),
            pod,
            spec,
        };
        site.prepare().await.map_err(|error| chain(&error))
    }

    /// Does the actions in order and returns what the runtime holds afterwards.
    async fn act(
        &mut self,
        pod: &Pod,
        spec: &PodSpec,
        before: Observed,
        actions: Vec<Action>,
        volumes: &Prepared,
        round: &mut Round,
    ) -> Observed {
        let mut sandbox = before.sandboxes.first().cloned();
        let held: BTreeSet<String> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Hold { name, .. } | Action::Start { name, .. } => Some(name.clone()),
                _ => None,
            })
            .collect();
        self.failures.retain(|name, _| held.contains(name));
        for action in actions {
            let goes_on = match action {
                Action::StopPod => {
                    round.acted = true;
                    let stopped = self.stop_in_order(spec, &before, self.grace).await;
                    self.done(stopped)
                }
                Action::CreateSandbox { attempt } => {
                    round.acted = true;
                    sandbox = self.create_sandbox(pod, spec, attempt).await;
                    sandbox.is_some()
                }
                Action::Kill { id, name, why } => {
                    round.acted = true;
                    self.context.base.events.record(
                        &self.id,
                        Some(&name),
                        Kind::Normal,
                        "Killing",
                        why.text(),
                    );
                    let own =
                        spec::container(spec, &name).and_then(|container| spec::probe_grace(&container));
                    let grace = own.filter(|_| why == Why::Unhealthy).unwrap_or(self.grace);
                    let stopped = match before.containers.iter().find(|run| run.id == id) {
                        Some(run) => self.stop_one(run, &before, grace).await,
                        None => Ok(()),
                    };
                    self.done(stopped)
                }
                Action::Remove { id } => {
                    let removed = self.context.base.runtime.remove_container(&id).await;
                    self.forget_log(&before, &id).await;
                    self.done(removed)
                }
                Action::Hold { name, until, delay } => {
                    self.hold(&name, until, delay);
                    round.not_before(until);
                    true
                }
                Action::Start { name, attempt, init } => {
                    round.acted = true;
                    let Some(sandbox) = &sandbox else { break };
                    let site = StartContext { pod, spec, sandbox, volumes, before: &before };
                    self.start(&site, &name, attempt, round).await || !init
                }
            };
            if !goes_on {
                round.failed = true;
                break;
            }
        }
        if !round.acted {
            return before;
        }
        self.context.activity.notify_one();
        Observed::read(&self.context.base.runtime, &self.id.uid).await.unwrap_or(before)
    }

    /// A container that never ran leaves no log: it would count as a run should its successor be lost as well.
    async fn forget_log(&self, before: &Observed, id: &str) {
        let Some(run) = before.containers.iter().find(|run| run.id == id) else { return };
        self.remove_logs(run, super::folders::is_empty).await;
    }

    fn done(&self, result: Result<(), cri::CallError>) -> bool {
        if let Err(error) = &result {
            tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, error = %chain(error), "step of a pod failed");
        }
        result.is_ok()
    }

    fn hold(&mut self, name: &str, until: jiff::Timestamp, delay: Duration) {
        let seconds = self.until(until).as_secs() + 1;
        let (id, delay) = (&self.id, backoff::written(delay));
        let pod = format!("{}_{}({})", id.name, id.namespace, id.uid);
        let text = format!("back-off {delay} restarting failed container={name} pod={pod}");
        self.context.base.events.record(&self.id, Some(name), Kind::Warning, "BackOff", &text);
        tracing::debug!(name, seconds, "container held back");
        self.failures.insert(name.to_owned(), Failure { reason: "CrashLoopBackOff", message: text });
    }

    pub(super) fn node<'a>(&'a self, resolv: &'a str) -> configs::Node<'a> {
        configs::Node {
            settings: &self.context.base.settings,
            driver: self.context.base.facts.borrow().driver,
            resolv,
            machine: &self.context.base.machine,
        }
    }

    async fn create_sandbox(&mut self, pod: &Pod, spec: &PodSpec, attempt: u32) -> Option<Sandbox> {
        let attempt = attempt.max(self.sandbox_floor);
        let resolv = self.resolv().await;
        self.tell_of_dns(pod, spec, &resolv);
        let config = configs::sandbox(pod, spec, attempt, &self.node(&resolv));
        let handler = match self.runtime_handler(spec).await {
            Ok(handler) => handler,
            Err(error) => {
                self.sandbox_failed(&chain(&error)).await;
                return None;
            }
        };
        // The containers have limits of their own; whether there can be a sandbox is the runtime's word.
        if let Err(error) = cgroups::prepare(&self.context, spec, &self.id.uid).await {
            tracing::warn!(name = %self.id.name, error = %chain(&error), "limits of a pod's cgroup not set");
        }
        let id = match self.context.base.runtime.run_pod_sandbox(config, &handler).await {
            Ok(id) => id,
            Err(error) => {
                if error.is_name_taken() {
                    self.sandbox_floor = attempt + 1;
                }
                self.sandbox_failed(&chain(&error)).await;
                return None;
            }
        };
        cgroups::confirm(&self.context, spec, &self.id.uid).await;
        sandbox_of(&self.context.base.runtime, id).await.ok()
    }

    async fn sandbox_failed(&self, error: &str) {
        tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, error, "sandbox not made");
        let text = format!("Failed to create pod sandbox: {error}");
        self.context.base.events.record(&self.id, None, Kind::Warning, "FailedCreatePodSandBox", &text);
    }
}

/// Containers that the runtime knows nothing of.
fn forgotten(spec: &PodSpec, observed: &Observed) -> Vec<String> {
    let all = spec::all_containers(spec).map(|container| container.name.clone());
    all.filter(|name| observed.newest(name).is_none()).collect()
}
