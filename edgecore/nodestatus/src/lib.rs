//! The node: registered, its status told, its lease kept. All of it needs the link; without one nothing is tried, and
//! everything is brought up to date when it comes back.
//!
//! ```text
//! link down --Connected--> register (back-off 100 ms .. 7 s) --> status now, lease now
//!                            status: computed each 10 s, sent on change or after 5 min   lease: renewed each 10 s
//!                            both: what failed again after 100 ms .. 7 s
//! lease works again | the cloud's node contradicts what was told --> status now, changed or not
//! ```
//!
//! Owns nothing but what it said last. A node that could not be heard is called Unknown by Kubernetes, and nobody tells
//! it: so its status is told again after every silence. Source: docs/protocol/edge-runtime.md 5.19.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait for nobody else"))]

mod architecture;
pub mod capacity;
mod images;
pub mod lease;
pub mod object;
pub mod seen;
pub mod status;

use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node as ApiNode;
use message::{Json, ObjectKey, ObjectKind, Reply, Request};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use metamanager::{Cloud, CloudCallError, LinkState};
use nodebase::addresses::Addresses;
use nodebase::base::Base;
use nodebase::events::Kind;
use nodebase::host::{Host, facts};
use podmodel::errors::chain;

pub struct Node {
    pub base: Arc<Base>,
    pub addresses: Arc<Addresses>,
    pub capacity: Arc<capacity::Capacity>,
    /// The uid of the node object, once the cloud has told it.
    pub node_uid: watch::Sender<Option<String>>,
    /// What the node object that came last says of this node.
    pub node_seen: watch::Receiver<seen::NodeView>,
    pub cloud: Cloud,
    pub host: Arc<dyn Host>,
    /// When PLEG last succeeded.
    pub pleg: watch::Receiver<Option<Instant>>,
}

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("asking the cloud to {what}")]
    Call { what: &'static str, source: CloudCallError },
    #[error("the cloud refused to {what}")]
    Refused { what: &'static str, source: message::Status },
    #[error("encoding what the cloud is asked to {what}")]
    Encode { what: &'static str, source: message::JsonError },
}

impl NodeError {
    /// The object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, NodeError::Refused { source, .. } if source.is_not_found())
    }

    pub fn is_conflict(&self) -> bool {
        matches!(self, NodeError::Refused { source, .. } if source.is_conflict())
    }
}

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(7);
/// The least time between two answers to a cloud that says something else than the node: should it never agree, it is
/// told no more often than this.
const CONTRADICTED: Duration = Duration::from_secs(1);
/// A share of the lease's duration after which it is renewed.
const LEASE_SHARE: u32 = 4;

/// Asks the cloud and turns a refusal into an error.
pub fn ask<'a>(
    cloud: &'a Cloud,
    what: &'static str,
    request: Request,
) -> BoxFuture<'a, Result<Option<Json>, NodeError>> {
    Box::pin(async move {
        match cloud.call(request).await {
            Ok(Reply::Object(object)) => Ok(Some(object)),
            Ok(Reply::Done | Reply::Text(_)) => Ok(None),
            Ok(Reply::Refused(source)) => Err(NodeError::Refused { what, source }),
            Err(source) => Err(NodeError::Call { what, source }),
        }
    })
}

impl Node {
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            announce(&self).await;
            let mut link = self.cloud.link();
            let mut tell = Reporting::new(self);
            loop {
                let connected = tokio::select! {
                    biased;
                    _ = stop.cancelled() => return,
                    connected = link.wait_for(|state| *state == LinkState::Connected) => connected.is_ok(),
                };
                // Nobody is left who could connect.
                if !connected {
                    return stop.cancelled().await;
                }
                let mut watch = link.clone();
                tokio::select! {
                    biased;
                    _ = stop.cancelled() => return,
                    _ = watch.wait_for(|state| *state == LinkState::Disconnected) => {}
                    _ = tell.while_connected() => {}
                }
            }
        })
    }
}

const BOOT_ROWS: &str = "boot";

/// Tells that the node has started, and whether its machine was started as well.
async fn announce(node: &Node) {
    let name = node.base.settings.node.as_str();
    node.base.events.record_node(Kind::Normal, "Starting", "Starting kubelet.");
    let boot = facts::identity(&*node.host).boot_id;
    let path = format!("{BOOT_ROWS}/{name}");
    let before = match node.base.objects.get_local(path.clone()).await {
        Ok(before) => before,
        Err(error) => return tracing::debug!(error = %chain(&error), "the last boot is not known"),
    };
    if before.as_ref() == Some(&boot) || boot.is_empty() {
        return;
    }
    if before.is_some() {
        let text = format!("Node {name} has been rebooted, boot id: {boot}");
        node.base.events.record_node(Kind::Warning, "Rebooted", &text);
    }
    if let Err(error) = node.base.objects.put_local(path, BOOT_ROWS, name.to_owned(), boot).await {
        tracing::warn!(error = %chain(&error), "the boot of the machine is not remembered");
    }
}

/// Tries that failed since the last that did not.
#[derive(Default)]
struct Trouble(u32);

impl Trouble {
    /// Notes a failure; the first of an outage is news, the rest would fill a disk. Returns when to try again.
    fn failed(&mut self, what: &'static str, error: &NodeError) -> Duration {
        let error = chain(error);
        match self.0 {
            0 => tracing::warn!(operation = what, error, "the cloud did not take what the node tells"),
            attempt => tracing::debug!(
                operation = what,
                attempt,
                error,
                "the cloud did not take what the node tells"
            ),
        }
        let pause = FIRST_RETRY.saturating_mul(1 << self.0.min(16)).min(LONGEST_RETRY);
        self.0 = self.0.saturating_add(1);
        pause
    }

    /// Notes a success. True if it ends an outage.
    fn over(&mut self) -> bool {
        std::mem::take(&mut self.0) > 0
    }
}

/// What was said, and what is to be said next.
struct Reporting {
    node: Node,
    /// The node's uid, for the lease's owner.
    uid: Option<String>,
    lease: lease::Lease,
    lease_trouble: Trouble,
    /// When the lease was renewed last.
    renewed: Option<Instant>,
    status: status::Reporter,
    status_trouble: Trouble,
    images: images::ReportedImages,
}

impl Reporting {
    fn new(node: Node) -> Reporting {
        let name = node.base.settings.node.clone();
        let lease = lease::Lease::new(name, node.base.settings.lease_seconds);
        Reporting {
            node,
            uid: None,
            lease,
            lease_trouble: Trouble::default(),
            renewed: None,
            status: status::Reporter::default(),
            status_trouble: Trouble::default(),
            images: images::ReportedImages::default(),
        }
    }

    /// Registers, then reports and renews for ever. Dropped when the link goes down.
    async fn while_connected(&mut self) {
        if self.node.base.settings.register_node {
            self.register().await;
        }
        self.status.forget();
        let mut status = every(self.node.base.settings.status_interval);
        let mut lease = every(self.lease_interval());
        let mut facts = self.node.base.facts.clone();
        let mut pressure = self.node.base.pressure.subscribe();
        let mut shutdown = self.node.base.shutdown.subscribe();
        let mut addresses = self.node.addresses.changes();
        let mut seen = self.node.node_seen.clone();
        loop {
            tokio::select! {
                biased;
                _ = lease.tick() => self.renew(&mut lease, &mut status).await,
                _ = status.tick() => self.report(&mut status).await,
                Ok(()) = addresses.changed() => self.report(&mut status).await,
                Ok(()) = facts.changed() => self.report(&mut status).await,
                Ok(()) = pressure.changed() => self.report(&mut status).await,
                Ok(()) = shutdown.changed() => self.report(&mut status).await,
                Ok(()) = seen.changed() => {
                    if self.status.is_contradicted_by(&seen.borrow_and_update()) {
                        self.status.forget();
                        status.reset_after(CONTRADICTED);
                    }
                }
            }
        }
    }

    fn lease_interval(&self) -> Duration {
        Duration::from_secs(u64::from(self.node.base.settings.lease_seconds)) / LEASE_SHARE
    }

    async fn register(&mut self) {
        let mut trouble = Trouble::default();
        while let Err(error) = self.try_register().await {
            tokio::time::sleep(trouble.failed("register the node", &error)).await;
        }
    }

    async fn try_register(&mut self) -> Result<(), NodeError> {
        let what = "create the node";
        let name = self.node.base.settings.node.clone();
        let initial = object::initial(&self.node);
        let object = Json::encode(&initial).map_err(|source| NodeError::Encode { what, source })?;
        let answer =
            match ask(&self.node.cloud, what, Request::CreateNode { node: name.clone(), object }).await {
                Err(error) if error.is_conflict() => {
                    let key = ObjectKey::new(None, ObjectKind::Node, name.as_str());
                    let there = ask(&self.node.cloud, "read the node", Request::Get { key }).await?;
                    self.adopt(&initial, there.as_ref()).await;
                    there
                }
                other => other?,
            };
        if let Some(uid) = answer.and_then(|object| object::uid(&object)) {
            self.node.node_uid.send_replace(Some(uid.clone()));
            self.uid = Some(uid);
        }
        Ok(())
    }

    /// The node exists: what its status says holds until it is said otherwise, and labels that follow the node are
    /// brought up to date. A cloud that refuses that has the node all the same.
    async fn adopt(&mut self, initial: &ApiNode, there: Option<&Json>) {
        let Some(there) = there.and_then(|there| there.parse::<ApiNode>().ok()) else { return };
        self.status.learn(&there);
        let Some(patch) = object::difference(initial, &there) else { return };
        let request = Request::PatchNodeStatus { node: self.node.base.settings.node.clone(), patch };
        if let Err(error) = ask(&self.node.cloud, "bring the node's labels up to date", request).await {
            tracing::warn!(error = %chain(&error), "labels of the node are not as configured");
        }
    }

    async fn report(&mut self, ticks: &mut Interval) {
        let mut facts = status::Facts::gather(&self.node);
        facts.images = self.images.told(&self.node.base).await;
        let status = status::compute(&facts);
        let settings = &self.node.base.settings;
        for (kind, reason) in self.status.turns(&status) {
            let text = format!("Node {} status is now: {reason}", settings.node);
            self.node.base.events.record_node(kind, reason, &text);
        }
        let every = settings.status_report_interval;
        let Some(patch) = self.status.next(status, self.node.base.clock.now(), every) else { return };
        let request = Request::PatchNodeStatus { node: settings.node.clone(), patch };
        let what = "patch the node's status";
        let Err(error) = ask(&self.node.cloud, what, request).await else {
            self.status_trouble.over();
            return;
        };
        self.status.forget();
        ticks.reset_after(self.status_trouble.failed(what, &error));
        // A node that was deleted while connected is made again.
        if error.is_not_found() && self.node.base.settings.register_node {
            self.register().await;
        }
    }

    /// Renews the lease. A silence long enough for others to have called the node Unknown ends with its status.
    async fn renew(&mut self, ticks: &mut Interval, status: &mut Interval) {
        let now = self.node.base.clock.now();
        if let Err(error) = self.lease.renew(&self.node.cloud, self.uid.as_deref(), now).await {
            ticks.reset_after(self.lease_trouble.failed("renew the node's lease", &error));
            return;
        }
        let late = self.renewed.is_some_and(|at| at.elapsed() > self.lease_interval() * 2);
        self.renewed = Some(Instant::now());
        if self.lease_trouble.over() || late {
            self.status.forget();
            status.reset_immediately();
        }
    }
}

/// Ticks at once and then each `period`, counted from the last tick that was looked at.
fn every(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
