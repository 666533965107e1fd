//! Starting one container: image, configuration, create, start.

use std::collections::BTreeMap;
use std::time::Duration;

use cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::round::Round;
use super::worker::{Retry, Worker, ips};
use super::{configs, env, network, security};
use images::{self, EnsuredImage, PullPolicy, credentials::Credentials};
use nodebase::events::Kind;
use podmodel::errors::chain;
use podmodel::observed::{Observed, Sandbox, State};
use podmodel::status::Failure;
use podmodel::{backoff, spec};
use volumes::{Prepared, container_mounts};

/// Where a container starts.
pub(super) struct StartContext<'a> {
    pub pod: &'a Pod,
    pub spec: &'a PodSpec,
    pub sandbox: &'a Sandbox,
    pub volumes: &'a Prepared,
    /// What the runtime held before this round.
    pub before: &'a Observed,
}

/// From a pull that failed until the API shows that it is waited with: the kubelet's next look at the pod.
const TELL_BACK_OFF: Duration = Duration::from_secs(1);
/// Configuration errors end with what they wait for (a config map that is pushed), so they are looked at again soon.
const CONFIG_RETRY: Duration = Duration::from_secs(10);

/// How often a pull that takes long is told.
const STILL_PULLING: Duration = Duration::from_secs(60);

impl Worker {
    /// True if the container runs. A failure is kept for the status, and not tried again before its delay.
    pub(super) async fn start(
        &mut self,
        site: &StartContext<'_>,
        name: &str,
        attempt: u32,
        round: &mut Round,
    ) -> bool {
        let Some(container) = spec::container(site.spec, name) else { return false };
        let container = container.as_ref();
        if let Some(retry) = self.retries.get(name).filter(|retry| retry.not_before > self.now()) {
            round.not_before(retry.not_before);
            let at = retry.not_before;
            self.still_failing(container, at).await;
            return false;
        }
        let Err(failure) = self.try_start(site, container, attempt).await else {
            self.failures.remove(name);
            self.retries.remove(name);
            return true;
        };
        tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, container = name,
            reason = failure.reason, error = %failure.message, "container not started");
        self.context.base.events.record(&self.id, Some(name), Kind::Warning, "Failed", &failure.message);
        let failures = self.retries.get(name).map_or(0, |retry| retry.failures) + 1;
        let delay = match failure.reason {
            "CreateContainerConfigError" => CONFIG_RETRY,
            _ => backoff::delay(failures + 1),
        };
        let (now, not_before) = (self.now(), self.now() + delay);
        // The API is to show that a pull waits for its next try, whether anything else wakes this pod or not.
        let is_pull = failure.reason == "ErrImagePull";
        round.not_before(if is_pull { not_before.min(now + TELL_BACK_OFF) } else { not_before });
        self.retries.insert(name.to_owned(), Retry { failures, not_before });
        self.failures.insert(name.to_owned(), failure);
        false
    }

    /// While a pull waits for its next try, the API shows that.
    async fn still_failing(&mut self, container: &Container, at: jiff::Timestamp) {
        let image = container.image.as_deref().unwrap_or_default();
        let Some(failure) = self.failures.get_mut(&container.name) else { return };
        if matches!(failure.reason, "ErrImagePull" | "ImagePullBackOff") {
            if failure.reason == "ErrImagePull" {
                let text = format!("Back-off pulling image {image:?}: {}", failure.message);
                *failure = Failure { reason: "ImagePullBackOff", message: text };
            }
            let text = format!("Back-off pulling image {image:?}");
            self.context.base.events.record(&self.id, Some(&container.name), Kind::Normal, "BackOff", &text);
        }
        tracing::debug!(container = %container.name, until = %at, "start held back");
    }

    async fn try_start(
        &mut self,
        site: &StartContext<'_>,
        container: &Container,
        attempt: u32,
    ) -> Result<(), Failure> {
        let name = container.image.as_deref().unwrap_or_default();
        let policy = PullPolicy::of(container.image_pull_policy.as_deref(), name);
        let image = self.image(site, container, name, policy).await?;
        let mounted = self.image_volumes(site, container).await?;
        let config = self.configure(site, container, attempt, image, mounted).await?;
        let resolv = self.resolv().await;
        let sandbox = configs::sandbox(site.pod, site.spec, site.sandbox.attempt, &self.node(&resolv));
        let runtime = self.context.base.runtime.clone();
        let id = match runtime.create_container(&site.sandbox.id, config, sandbox).await {
            Ok(id) => id,
            Err(error) => {
                self.remove_stale(&error, container, attempt).await;
                return Err(Failure { reason: "CreateContainerError", message: chain(&error) });
            }
        };
        let named = Some(container.name.as_str());
        let text = format!("Created container: {}", container.name);
        self.context.base.events.record(&self.id, named, Kind::Normal, "Created", &text);
        if let Err(error) = runtime.start_container(&id).await {
            return Err(Failure { reason: "RunContainerError", message: chain(&error) });
        }
        let pod_ip = ips(&self.context, site.spec, Some(site.sandbox)).first().cloned().unwrap_or_default();
        if !self.post_start(container, &id, &pod_ip).await {
            let _ = self.context.base.runtime.stop_container(&id, self.grace).await;
            let message = "PostStartHook failed".to_owned();
            return Err(Failure { reason: "PostStartHookError", message });
        }
        let text = format!("Started container {}", container.name);
        self.context.base.events.record(&self.id, named, Kind::Normal, "Started", &text);
        tracing::info!(namespace = %self.id.namespace, name = %self.id.name, container = %container.name, attempt, "container started");
        Ok(())
    }

    /// A name that is taken belongs to a container that was made and never started: it goes.
    async fn remove_stale(&self, error: &cri::CallError, container: &Container, attempt: u32) {
        if !error.is_name_taken() {
            return;
        }
        let label = Some((cri::labels::POD_UID, self.id.uid.as_str()));
        for item in self.context.base.runtime.list_containers(label).await.unwrap_or_default() {
            let same =
                item.metadata.as_ref().is_some_and(|m| m.name == container.name && m.attempt == attempt);
            if same && item.state() != v1::ContainerState::ContainerRunning {
                let _ = self.context.base.runtime.remove_container(&item.id).await;
            }
        }
    }

    /// An image the container needs, pulled if the policy says so.
    pub(super) async fn image(
        &self,
        site: &StartContext<'_>,
        container: &Container,
        image: &str,
        policy: PullPolicy,
    ) -> Result<v1::Image, Failure> {
        let credentials = Credentials::of(&self.context.queries, &self.id.namespace, site.spec).await;
        let named = Some(container.name.as_str());
        let pulling = self.while_pulling(&container.name, image);
        match images::ensure(&self.context.images, image, policy, &credentials, Box::pin(pulling)).await {
            Ok(EnsuredImage::Present(found)) => {
                let text = format!("Container image {image:?} already present on machine");
                self.context.base.events.record(&self.id, named, Kind::Normal, "Pulled", &text);
                Ok(found)
            }
            Ok(EnsuredImage::Pulled(found)) => {
                let text = format!("Successfully pulled image {image:?}");
                self.context.base.events.record(&self.id, named, Kind::Normal, "Pulled", &text);
                Ok(found)
            }
            Err(error) => Err(Failure { reason: error.reason(), message: chain(&error) }),
        }
    }

    /// Tells that an image is being pulled, and from time to time that it still is.
    async fn while_pulling(&self, container: &str, image: &str) {
        let began = tokio::time::Instant::now();
        let mut text = format!("Pulling image {image:?}");
        loop {
            self.context.base.events.record(&self.id, Some(container), Kind::Normal, "Pulling", &text);
            tokio::time::sleep(STILL_PULLING).await;
            text = format!("Still pulling image {image:?} after {}s", began.elapsed().as_secs());
        }
    }

    async fn configure(
        &self,
        site: &StartContext<'_>,
        container: &Container,
        attempt: u32,
        image: v1::Image,
        images: BTreeMap<String, v1::ImageSpec>,
    ) -> Result<v1::ContainerConfig, Failure> {
        let config_error = |error: &(dyn std::error::Error + 'static)| Failure {
            reason: "CreateContainerConfigError",
            message: chain(error),
        };
        let context = &self.context;
        let pod_ips = ips(context, site.spec, Some(site.sandbox));
        let place = context.place(pod_ips.clone());
        let reader = env::Reader { queries: &context.queries, pod: site.pod, place: &place };
        let environment = reader.environment(container).await.map_err(|error| config_error(&error))?;
        let mut security = security::container(site.spec, container, &image, &context.base.settings)
            .map_err(|error| config_error(&error))?;
        if let Some(target) = spec::target(site.spec, &container.name) {
            let running = site.before.newest(target).filter(|run| run.state == State::Running);
            let Some(run) = running else {
                let message =
                    format!("target container {target:?} of the ephemeral container is not running");
                return Err(Failure { reason: "CreateContainerConfigError", message });
            };
            security.namespace_options = Some(security::guest_namespaces(site.spec, &run.id));
        }
        let host_file = match site.spec.host_network {
            Some(true) => tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default(),
            _ => String::new(),
        };
        let domain = &context.base.settings.cluster_domain;
        let hosts = network::hosts_file(site.pod, site.spec, domain, &pod_ips, &host_file);
        let (root, uid) = (context.base.settings.root_dir.clone(), self.id.uid.clone());
        let has_recursive_read_only = context.base.facts.borrow().has_recursive_read_only;
        let (wanted, vars, volumes) = (container.clone(), environment.clone(), site.volumes.clone());
        let mounts = daemon::blocking(move || {
            let wanted = container_mounts::MountContext {
                root: &root,
                uid: &uid,
                container: &wanted,
                attempt,
                environment: &vars,
                hosts,
                images,
                has_recursive_read_only,
            };
            Ok(container_mounts::prepare(&wanted, &volumes))
        })
        .await
        .map_err(|error| config_error(&error))?
        .map_err(|error| config_error(&error))?;
        let devices =
            container_mounts::devices(container, site.volumes).map_err(|error| config_error(&error))?;
        let resolv = self.resolv().await;
        let gear = context.devices.gear(&self.id.uid, &container.name).await;
        let gear = gear.map_err(|error| config_error(&error))?;
        let parts = configs::Parts { attempt, image, environment, mounts, devices, gear, security };
        Ok(configs::container(site.pod, site.spec, container, parts, &self.node(&resolv)))
    }
}
