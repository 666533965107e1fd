//! Leader election for work that one replica does for all: a Lease `causeway-<singleton>` in namespace `kubeedge`.
//!
//! ```text
//! follower --- lease absent, given up, or not renewed for its duration --- write wins ---> leader
//!    ^------------- not renewed for ten seconds, or another holder is seen ----------------'
//! ```
//!
//! A write names the version it has seen, so of several replicas one wins. Others' renewals are timed on the own
//! monotonic clock, no wall clock is compared. A leader stops its work seconds before another may start.

use std::time::Duration;

use apimachinery::kinds::lines;
use message::{Json, Status};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Cluster;

/// Time without a renewal after which another replica takes over.
const LEASE: Duration = Duration::from_secs(15);
/// Time after its last renewal at which a leader stops by itself.
const GIVE_UP: Duration = Duration::from_secs(10);
/// Between looks at the lease.
const RETRY: Duration = Duration::from_secs(3);
/// Time one look and one write may take; with `GIVE_UP` it stays below `LEASE`.
const ROUND: Duration = Duration::from_secs(4);

const NAMESPACE: Option<&str> = Some("kubeedge");

/// A lease as the API server shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Observed {
    holder: String,
    resource_version: String,
    duration: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Create,
    /// Another's lease that has ended.
    Take,
    Renew,
    Wait,
}

/// The state of one candidate.
struct Election {
    me: String,
    /// The version of another's lease and since when it has not changed.
    stale: Option<(String, Instant)>,
    /// When the last successful write began.
    renewed: Option<Instant>,
}

impl Election {
    fn new(me: String) -> Election {
        Election { me, stale: None, renewed: None }
    }

    /// What to do about the lease as it is now.
    fn step(&mut self, observed: Option<&Observed>, now: Instant) -> Action {
        let Some(lease) = observed else { return Action::Create };
        if lease.holder == self.me {
            return Action::Renew;
        }
        self.renewed = None;
        if lease.holder.is_empty() {
            return Action::Take;
        }
        match &self.stale {
            Some((version, since)) if *version == lease.resource_version => {
                if now.duration_since(*since) >= lease.duration { Action::Take } else { Action::Wait }
            }
            _ => {
                self.stale = Some((lease.resource_version.clone(), now));
                Action::Wait
            }
        }
    }

    fn written(&mut self, began: Instant) {
        self.renewed = Some(began);
        self.stale = None;
    }

    fn leads(&self, now: Instant) -> bool {
        self.renewed.is_some_and(|renewed| now.duration_since(renewed) < GIVE_UP)
    }

    /// Time until something may have changed.
    fn wait(&self, now: Instant) -> Duration {
        let end = self.renewed.map(|renewed| (renewed + GIVE_UP).saturating_duration_since(now));
        end.filter(|left| !left.is_zero()).map_or(RETRY, |left| left.min(RETRY))
    }
}

/// The work of a leader ended although it was not asked to.
#[derive(Debug, thiserror::Error)]
#[error("the work of the leader of {singleton} ended: {reason}")]
pub struct WorkEnded {
    singleton: String,
    reason: String,
}

/// Runs `work` while this replica leads; the token given to it ends with the leadership. Returns when stopped, after
/// giving the lease up.
///
/// # Errors
/// The work ended, or panicked, while this replica leads.
pub async fn lead<F, W>(
    cluster: Cluster,
    singleton: &str,
    stop: CancellationToken,
    mut work: W,
) -> Result<(), WorkEnded>
where
    W: FnMut(CancellationToken) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let lease = Lease { path: lines::Lease.path(NAMESPACE, &format!("causeway-{singleton}")), cluster };
    let mut election = Election::new(uuid::Uuid::new_v4().to_string());
    let mut running: Option<(CancellationToken, tokio::task::JoinHandle<()>)> = None;
    while !stop.is_cancelled() {
        let round = tokio::time::timeout(ROUND, lease.round(&mut election));
        match round.await {
            Ok(Ok(())) => {}
            Ok(Err(status)) => tracing::debug!(singleton, error = %status, "lease not renewed"),
            Err(_) => tracing::debug!(singleton, "lease not renewed in time"),
        }
        let leads = election.leads(Instant::now());
        match running.take() {
            Some(work) if leads => running = Some(work),
            Some((token, task)) => {
                tracing::info!(singleton, "leadership lost");
                end(token, task).await;
            }
            None if leads => {
                tracing::info!(singleton, holder = election.me, "leading");
                let token = stop.child_token();
                running = Some((token.clone(), tokio::spawn(work(token))));
            }
            None => {}
        }
        tokio::select! {
            biased;
            _ = stop.cancelled() => {}
            _ = tokio::time::sleep(election.wait(Instant::now())) => {}
        }
        if let Some((token, task)) = running.take_if(|(_, task)| task.is_finished())
            && !token.is_cancelled()
        {
            let reason = match task.await {
                Ok(()) => "it returned".to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(WorkEnded { singleton: singleton.to_owned(), reason });
        }
        // The end of a leadership may have passed while waiting.
        if !election.leads(Instant::now())
            && let Some((token, task)) = running.take()
        {
            tracing::info!(singleton, "leadership lost");
            end(token, task).await;
        }
    }
    if let Some((token, task)) = running {
        end(token, task).await;
        let _ = tokio::time::timeout(ROUND, lease.give_up(&election)).await;
    }
    Ok(())
}

async fn end(token: CancellationToken, task: tokio::task::JoinHandle<()>) {
    token.cancel();
    task.abort();
    let _ = task.await;
}

struct Lease {
    path: String,
    cluster: Cluster,
}

impl Lease {
    async fn round(&self, election: &mut Election) -> Result<(), Status> {
        let began = Instant::now();
        let current = match self.cluster.get(&self.path).await {
            Ok(lease) => lease.parse::<Value>().ok(),
            Err(status) if status.is_not_found() => None,
            Err(status) => return Err(status),
        };
        let action = election.step(current.as_ref().map(observed).as_ref(), began);
        if action == Action::Wait {
            return Ok(());
        }
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let next = written(current.as_ref(), name, &election.me, action);
        let body = Json::of(&next);
        let result = match action {
            Action::Create => self.cluster.create(&lines::Lease.path(NAMESPACE, ""), &body).await,
            _ => self.cluster.replace(&self.path, &body).await,
        };
        match result {
            Ok(_) => election.written(began),
            // Another replica was faster.
            Err(status) if status.is_conflict() => election.renewed = None,
            Err(status) => return Err(status),
        }
        Ok(())
    }

    /// Lets another replica start at once.
    async fn give_up(&self, election: &Election) -> Result<(), Status> {
        let mut lease = self.cluster.get(&self.path).await?.parse::<Value>().unwrap_or(Value::Null);
        if observed(&lease).holder != election.me {
            return Ok(());
        }
        lease["spec"]["holderIdentity"] = json!("");
        let body = Json::of(&lease);
        self.cluster.replace(&self.path, &body).await.map(|_| ())
    }
}

fn observed(lease: &Value) -> Observed {
    let seconds = lease["spec"]["leaseDurationSeconds"].as_u64();
    Observed {
        holder: lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned(),
        resource_version: lease["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned(),
        duration: seconds.map_or(LEASE, Duration::from_secs),
    }
}

/// The lease to write over `current`, which keeps its version.
fn written(current: Option<&Value>, name: &str, me: &str, action: Action) -> Value {
    let now = daemon::clock::rfc3339_micro(daemon::clock::now());
    let mut lease = current.cloned().unwrap_or_else(|| {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "namespace": "kubeedge"}, "spec": {"leaseTransitions": 0},
        })
    });
    let spec = &mut lease["spec"];
    if action != Action::Renew {
        spec["acquireTime"] = json!(now);
    }
    if action == Action::Take {
        spec["leaseTransitions"] = json!(spec["leaseTransitions"].as_u64().unwrap_or(0) + 1);
    }
    spec["holderIdentity"] = json!(me);
    spec["leaseDurationSeconds"] = json!(LEASE.as_secs());
    spec["renewTime"] = json!(now);
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, version: &str) -> Observed {
        Observed { holder: holder.into(), resource_version: version.into(), duration: LEASE }
    }

    #[test]
    fn a_lease_is_taken_only_after_it_was_seen_unchanged_for_its_whole_duration() {
        let mut b = Election::new("b".into());
        let start = Instant::now();
        assert_eq!(b.step(Some(&lease("a", "1")), start), Action::Wait);
        assert_eq!(b.step(Some(&lease("a", "1")), start + LEASE - Duration::from_secs(1)), Action::Wait);
        assert_eq!(b.step(Some(&lease("a", "2")), start + LEASE), Action::Wait, "renewed");
        assert_eq!(b.step(Some(&lease("a", "2")), start + LEASE + LEASE), Action::Take);
        assert_eq!(b.step(Some(&lease("", "3")), start), Action::Take, "given up");
        assert_eq!(b.step(None, start), Action::Create);
    }

    #[test]
    fn a_leader_that_cannot_renew_stops_before_another_may_start() {
        let mut a = Election::new("a".into());
        let start = Instant::now();
        assert!(!a.leads(start));
        a.written(start);
        assert!(a.leads(start + GIVE_UP - Duration::from_millis(1)));
        assert!(!a.leads(start + GIVE_UP));
        assert!(GIVE_UP + ROUND < LEASE, "even in the middle of a look");
        assert_eq!(a.wait(start + GIVE_UP - Duration::from_secs(1)), Duration::from_secs(1));
    }

    #[test]
    fn a_leader_that_sees_another_holder_no_longer_leads() {
        let mut a = Election::new("a".into());
        let start = Instant::now();
        a.written(start);
        assert_eq!(a.step(Some(&lease("a", "1")), start), Action::Renew);
        assert!(a.leads(start));
        assert_eq!(a.step(Some(&lease("b", "2")), start), Action::Wait);
        assert!(!a.leads(start));
    }

    #[test]
    fn a_written_lease_keeps_the_version_it_goes_over_and_counts_transitions() {
        let fresh = written(None, "causeway-x", "a", Action::Create);
        assert_eq!(fresh["spec"]["leaseTransitions"], 0);
        let mut seen = fresh.clone();
        seen["metadata"]["resourceVersion"] = json!("7");
        let taken = written(Some(&seen), "causeway-x", "b", Action::Take);
        assert_eq!(taken["metadata"]["resourceVersion"], "7");
        assert_eq!(taken["spec"]["leaseTransitions"], 1);
        assert_eq!(observed(&taken).holder, "b");
        let renewed = written(Some(&taken), "causeway-x", "b", Action::Renew);
        assert_eq!(renewed["spec"]["acquireTime"], taken["spec"]["acquireTime"]);
    }
}
