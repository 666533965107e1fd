//! Carries out what nodes send up: authorises it, hands it to the controller that owns it, gives the answer.
//!
//! ```text
//! session --> authz: is it the node's own?  --> budgets: does it make more than it may? --> edgecontroller | devicecontroller
//! ```

pub mod authz;
mod budgets;

use std::time::Duration;

use daemon::backoff::Backoff;
use futures_util::future::BoxFuture;
use message::{Message, NodeName, Reply, Request, Status, Upstream, Verb};
use tokio::time::Instant;

use crate::cloudhub::{Charge, Loss, Metrics, RateAccounts, Row, Upstreams};
use crate::devicecontroller::{self, Devices, Stamp};
use crate::dynamiccontroller::Applications;
use crate::edgecontroller::{self, Downstream, KubeletAddress, Rights};
use crate::kubernetes::Cluster;
pub use budgets::Budgets;
use budgets::{MIRRORS, Made};

/// First and longest wait before a message the API server could not take is tried again. The end of an outage is noticed
/// before.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));
/// Those who waited for the API server come back within this time, one after the other.
const SPREAD: Duration = Duration::from_millis(500);
/// How long a message is tried that the API server refuses although the node may send it. API servers refuse everybody
/// in their first seconds, and while the rights of CloudCore are being changed.
const REFUSED_FOR: Duration = Duration::from_secs(300);

/// What carries out upstream messages.
#[derive(Clone)]
pub struct UpstreamRoom {
    pub cluster: Cluster,
    pub downstream: Downstream,
    pub devices: Devices,
    pub rights: Rights,
    /// What nodes may make.
    pub budgets: Budgets,
    /// What they have cost.
    pub rate_accounts: RateAccounts,
    /// Off only by explicit configuration, for migration.
    pub enforce: bool,
    pub metrics: Metrics,
    /// Carries out what MetaServers of KubeEdge's edges ask; `None`: nobody does.
    pub applications: Option<Applications>,
    /// Where API servers reach nodes, if not at their own addresses.
    pub kubelets: Option<KubeletAddress>,
}

/// How a message was carried out.
enum Outcome {
    /// For good; the answer, if the dialect has one.
    Done(Option<Box<Message>>),
    /// The API server could not now; the same message may succeed later.
    Later(Option<Box<Message>>),
    /// The API server does not let CloudCore do it; perhaps it will.
    Refused(Option<Box<Message>>),
}

impl Outcome {
    fn into_answer(self) -> Option<Box<Message>> {
        match self {
            Outcome::Done(answer) | Outcome::Later(answer) | Outcome::Refused(answer) => answer,
        }
    }
}

impl UpstreamRoom {
    async fn until_done(
        &self,
        node: &NodeName,
        asked: &Message,
        upstream: &Upstream,
        stamp: Option<&Stamp>,
    ) -> Option<Box<Message>> {
        let _under_way = self.metrics.carry();
        let resource = || asked.route.resource.chars().take(128).collect::<String>();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut refused: Option<Instant> = None;
        loop {
            let recovery = self.cluster.recovery();
            match self.carry_out(node, asked, upstream, stamp).await {
                Outcome::Done(answer) => return answer,
                Outcome::Later(_) => refused = None,
                Outcome::Refused(answer) => {
                    let since = *refused.get_or_insert_with(Instant::now);
                    if since.elapsed() >= REFUSED_FOR {
                        tracing::error!(
                            %node,
                            resource = resource(),
                            after_ms = REFUSED_FOR.as_millis() as u64,
                            "message given up: the API server does not let CloudCore carry it out"
                        );
                        self.metrics.lost(Loss::Refused);
                        return answer;
                    }
                }
            }
            self.metrics.retried();
            tokio::select! {
                _ = tokio::time::sleep(backoff.next()) => {}
                // One that is refused waits its time: that others are served says nothing about it.
                _ = recovery.after(SPREAD), if refused.is_none() => backoff.reset(),
            }
        }
    }

    /// Carries out one message of `node`. `stamp` names it among the messages of the node's outbox.
    async fn carry_out(
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
            Err(status) if self.enforce => Some((Loss::Unauthorised, status)),
            _ => self.over_budget(node, upstream).map(|status| (Loss::OverBudget, status)),
        };
        if let Some((loss, status)) = &refused {
            self.metrics.lost(*loss);
            let (msg_id, resource) = (&asked.header.msg_id, &asked.route.resource);
            tracing::warn!(%node, %msg_id, resource, error = %status, "message refused");
        }
        let now = daemon::clock::unix_ms();
        match (upstream, refused.map(|(_, status)| status)) {
            (Upstream::Ask(request), Some(status)) => {
                done(request.answer(asked, &Reply::Refused(status), now))
            }
            (Upstream::Ask(request), None) => {
                let makes =
                    matches!(request, Request::CreatePod { .. } | Request::CreateSigningRequest { .. });
                let _turn = if makes { self.budgets.turn().await } else { None };
                let reply = edgecontroller::upstream::answer(
                    &self.cluster,
                    &self.downstream,
                    self.kubelets.as_ref(),
                    node,
                    request,
                )
                .await;
                let answer = Some(Box::new(request.answer(asked, &reply, daemon::clock::unix_ms())));
                match &reply {
                    Reply::Refused(status) if status.is_retryable() => {
                        tracing::warn!(%node, resource = asked.route.resource, error = %status, "request failed");
                        Outcome::Later(answer)
                    }
                    Reply::Refused(status) if is_refusal(status) => {
                        tracing::warn!(%node, resource = asked.route.resource, error = %status, "request refused by the API server");
                        Outcome::Refused(answer)
                    }
                    _ => Outcome::Done(answer),
                }
            }
            (Upstream::MembershipDetail { .. }, _) => {
                done(self.devices.membership(node.as_str()).to_message(now))
            }
            (Upstream::Application(asked_for), _) => {
                let answer = match &self.applications {
                    Some(applications) => applications.answer(node, asked_for).await,
                    None => asked_for.rejected(&no_applications()),
                };
                done(answer.answer(&asked.header.msg_id, daemon::clock::unix_ms()))
            }
            (Upstream::TwinReport { .. } | Upstream::DeviceState { .. }, refused) => {
                self.report(node, asked, upstream, stamp, refused.is_some()).await
            }
            (event @ Upstream::Event { .. }, None) => {
                let _turn = self.budgets.turn().await;
                match edgecontroller::events::record(&self.cluster, event).await {
                    Ok(()) => Outcome::Done(None),
                    Err(status) => {
                        tracing::warn!(%node, error = %status, "event not recorded");
                        self.failed(&status, None)
                    }
                }
            }
            _ => Outcome::Done(None),
        }
    }

    /// Refuses what would make one object more than a healthy node makes.
    fn over_budget(&self, node: &NodeName, upstream: &Upstream) -> Option<Status> {
        let (made, what) = match upstream {
            Upstream::Event { verb: Verb::Create, .. } => (Made::Event, "events"),
            Upstream::Ask(Request::CreatePod { .. }) => (Made::Mirror, "mirror pods"),
            Upstream::Ask(Request::CreateSigningRequest { .. }) => (Made::Request, "signing requests"),
            _ => return None,
        };
        let has_room = made != Made::Mirror || self.downstream.mirrors_of(node.as_str()) < MIRRORS;
        if has_room && self.budgets.take(node, made, Instant::now()) {
            return None;
        }
        self.rate_accounts.note(node, Charge::MadeTooMuch, Instant::now());
        Some(Status::new(403, "Forbidden", format!("node {node} makes more {what} than a node may")))
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
            let confirmed = Some(Box::new(confirmation(asked)));
            return self.failed(status, confirmed);
        }
        done(confirmation(asked))
    }

    /// What follows from a failure of the API server; `answer` is the answer once the message is given up.
    fn failed(&self, status: &Status, answer: Option<Box<Message>>) -> Outcome {
        if status.is_retryable() {
            Outcome::Later(None)
        } else if is_refusal(status) {
            Outcome::Refused(answer)
        } else {
            self.metrics.lost(Loss::Rejected);
            Outcome::Done(answer)
        }
    }
}

impl Upstreams for UpstreamRoom {
    fn answer<'a>(
        &'a self,
        node: &'a NodeName,
        asked: &'a Message,
        upstream: &'a Upstream,
    ) -> BoxFuture<'a, Option<Box<Message>>> {
        Box::pin(async move { self.carry_out(node, asked, upstream, None).await.into_answer() })
    }

    fn carry_out_for_good<'a>(
        &'a self,
        node: &'a NodeName,
        asked: &'a Message,
        upstream: &'a Upstream,
        row: Option<Row>,
    ) -> BoxFuture<'a, Option<Box<Message>>> {
        Box::pin(async move {
            let stamp = row.map(|Row { store, seq }| Stamp { store, seq });
            self.until_done(node, asked, upstream, stamp.as_ref()).await
        })
    }
}

/// True if the API server refused CloudCore: it does not know it, or does not let it. Nothing is made in a namespace that
/// is being deleted, however often it is asked for.
fn is_refusal(status: &Status) -> bool {
    let terminating = status.causes.iter().any(|cause| cause.reason == "NamespaceTerminating");
    matches!(status.code, 401 | 403) && !terminating
}

fn no_applications() -> Status {
    let why = "modules.dynamicController.enable of CloudCore is off: the API server is not asked for nodes";
    Status::new(503, "ServiceUnavailable", why)
}

fn confirmation(asked: &Message) -> Message {
    let confirmed = message::Downstream::Confirmed { to: asked.header.msg_id.clone() };
    confirmed.to_message(daemon::clock::unix_ms())
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use crate::devicecontroller::Devices;
    use crate::edgecontroller::{Downstream, Rights};
    use http::{Request, Response, StatusCode};
    use kube::client::Body;

    /// An API server that answers `status` to the first `times` requests and takes the others; counts them.
    fn room(status: StatusCode, times: u32) -> (UpstreamRoom, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let counting = asked.clone();
        let service = tower::service_fn(move |_: Request<Body>| {
            let number = counting.fetch_add(1, Ordering::Relaxed);
            let (status, text) = if number < times {
                (
                    status,
                    r#"{"kind":"Status","status":"Failure","code":CODE,"reason":"x","message":"not yet"}"#,
                )
            } else {
                (StatusCode::CREATED, "{}")
            };
            let text = text.replace("CODE", status.as_str());
            async move {
                let mut response = Response::new(Body::from(text.into_bytes()));
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            }
        });
        let cluster = Cluster::with_client(kube::Client::new(service, "default"));
        let (downstream, devices) = (Downstream::default(), Devices::default());
        let rights = Rights::new(downstream.clone(), devices.clone(), cluster.clone());
        let metrics = Metrics::default();
        let budgets = Budgets::default();
        (
            UpstreamRoom {
                cluster,
                downstream,
                devices,
                rights,
                budgets,
                rate_accounts: RateAccounts::default(),
                enforce: true,
                metrics,
                applications: None,
                kubelets: None,
            },
            asked,
        )
    }

    /// An event of the node about itself.
    fn event() -> Message {
        let route = message::Route::new("edged", "resource", "insert", "default/event/e".to_owned());
        let involved = serde_json::json!({"involvedObject": {"kind": "Node", "name": "e1"}});
        Message::new(route, message::Json::encode(&involved).unwrap(), 0)
    }

    async fn until_done(room: &UpstreamRoom, asked: &Message) {
        let upstream = Upstream::parse(asked).unwrap();
        room.until_done(&NodeName::new("e1").unwrap(), asked, &upstream, None).await;
    }

    fn lost(metrics: &Metrics, reason: &str) -> bool {
        let all = daemon::metrics::Metrics::new("t");
        all.register(|registry| metrics.register(registry));
        all.render().contains(&format!("t_cloudhub_upstream_lost_total{{reason=\"{reason}\"}} 1"))
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_api_server_refuses_in_its_first_seconds_is_written_in_the_end() {
        for status in [StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED, StatusCode::SERVICE_UNAVAILABLE] {
            let (room, asked) = room(status, 8);
            until_done(&room, &event()).await;
            assert_eq!(asked.load(Ordering::Relaxed), 9, "{status}");
            assert!(!lost(&room.metrics, "refused") && !lost(&room.metrics, "rejected"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_for_good_is_given_up_and_counted() {
        let (room, _) = room(StatusCode::FORBIDDEN, u32::MAX);
        let began = Instant::now();
        until_done(&room, &event()).await;
        assert!(began.elapsed() >= REFUSED_FOR && began.elapsed() < REFUSED_FOR * 2);
        assert!(lost(&room.metrics, "refused"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_up_that_fails_never_makes_a_pod_another_nodes() {
        let (room, asked) = room(StatusCode::FORBIDDEN, 3);
        let route = message::Route::new("edged", "resource", "insert", "default/event/e".to_owned());
        let involved =
            serde_json::json!({"involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}});
        let about_pod = Message::new(route, message::Json::encode(&involved).unwrap(), 0);
        until_done(&room, &about_pod).await;
        assert_eq!(asked.load(Ordering::Relaxed), 4, "looked up until the API server answered");
        assert!(lost(&room.metrics, "unauthorised"), "its answer names another node");
    }
}
