//! Carries out what nodes send up: authorises it, hands it to the controller that owns it, gives the answer.

use message::{Message, NodeName, Reply, Status, Upstream};

use super::authz;
use crate::devicecontroller::{self, Devices, Stamp};
use crate::edgecontroller::{self, Downstream, Rights};
use crate::kubernetes::Cluster;

/// What carries out upstream messages.
#[derive(Clone)]
pub struct UpstreamRoom {
    pub cluster: Cluster,
    pub downstream: Downstream,
    pub devices: Devices,
    pub rights: Rights,
    /// Off only by explicit configuration, for migration.
    pub enforce: bool,
}

/// How a message was carried out.
pub(super) enum Outcome {
    /// For good; the answer, if the dialect has one.
    Done(Option<Box<Message>>),
    /// The API server could not now; the same message may succeed later.
    Later(Option<Box<Message>>),
}

impl UpstreamRoom {
    /// Carries out one message of `node`. `stamp` names it among the messages of the node's outbox.
    pub(super) async fn carry_out(
        &self,
        node: &NodeName,
        asked: &Message,
        upstream: &Upstream,
        stamp: Option<&Stamp>,
    ) -> Outcome {
        let refused = match authz::check(node, upstream, &self.rights).await {
            Err(status) if status.is_retryable() => {
                tracing::debug!(%node, resource = asked.route.resource, error = %status, "not decidable yet");
                return later(asked, upstream, status);
            }
            Err(status) if self.enforce => Some(status),
            _ => None,
        };
        if let Some(status) = &refused {
            let (msg_id, resource) = (&asked.header.msg_id, &asked.route.resource);
            tracing::warn!(%node, %msg_id, resource, error = %status, "message refused");
        }
        let now = daemon::clock::unix_ms();
        match (upstream, refused) {
            (Upstream::Ask(request), Some(status)) => {
                done(request.answer(asked, &Reply::Refused(status), now))
            }
            (Upstream::Ask(request), None) => {
                let reply =
                    edgecontroller::upstream::answer(&self.cluster, &self.downstream, node, request).await;
                let answer = Some(Box::new(request.answer(asked, &reply, daemon::clock::unix_ms())));
                match &reply {
                    Reply::Refused(status) if status.is_retryable() => {
                        tracing::warn!(%node, resource = asked.route.resource, error = %status, "request failed");
                        Outcome::Later(answer)
                    }
                    _ => Outcome::Done(answer),
                }
            }
            (Upstream::MembershipDetail { .. }, _) => {
                done(self.devices.membership(node.as_str()).to_message(now))
            }
            (Upstream::TwinReport { .. } | Upstream::DeviceState { .. }, refused) => {
                self.report(node, asked, upstream, stamp, refused.is_some()).await
            }
            (event @ Upstream::Event { .. }, None) => {
                match edgecontroller::upstream::record(&self.cluster, event).await {
                    Ok(()) => Outcome::Done(None),
                    Err(status) => {
                        tracing::warn!(%node, error = %status, "event not recorded");
                        if status.is_retryable() { Outcome::Later(None) } else { Outcome::Done(None) }
                    }
                }
            }
            _ => Outcome::Done(None),
        }
    }

    /// A report that cannot ever be written (refused, unknown device, unreadable) is confirmed all the same, so that
    /// the edge stops sending it; one that may succeed later is not.
    async fn report(
        &self,
        node: &NodeName,
        asked: &Message,
        upstream: &Upstream,
        stamp: Option<&Stamp>,
        refused: bool,
    ) -> Outcome {
        let (cluster, devices) = (&self.cluster, &self.devices);
        let result = match upstream {
            _ if refused => Ok(()),
            Upstream::TwinReport { namespace, name, report } => {
                devicecontroller::upstream::report_twins(cluster, devices, namespace, name, report, stamp)
                    .await
            }
            Upstream::DeviceState { namespace, name, report } => {
                devicecontroller::upstream::report_state(cluster, devices, namespace, name, report).await
            }
            _ => Ok(()),
        };
        if let Err(status) = &result {
            tracing::warn!(%node, resource = asked.route.resource, error = %status, "report not written");
            if status.is_retryable() {
                return Outcome::Later(None);
            }
        }
        let confirmed = message::Downstream::Confirmed { to: asked.header.msg_id.clone() };
        done(confirmed.to_message(daemon::clock::unix_ms()))
    }
}

fn later(asked: &Message, upstream: &Upstream, status: Status) -> Outcome {
    let now = daemon::clock::unix_ms();
    Outcome::Later(match upstream {
        Upstream::Ask(request) => Some(Box::new(request.answer(asked, &Reply::Refused(status), now))),
        _ => None,
    })
}

fn done(answer: Message) -> Outcome {
    Outcome::Done(Some(Box::new(answer)))
}
