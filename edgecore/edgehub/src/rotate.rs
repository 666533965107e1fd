//! Keeps this node's certificate young and its trusted CAs current (docs/protocol/transport.md 4.4).
//!
//! ```text
//! certificate   |-----------------------[ 0.7 .. 0.9 )-----|   renewed at a random moment of that span, with a new key,
//!                                                              and soon after another CA began to sign
//! trusted CAs   asked for after connecting and every refresh, from a server trusted already
//! ```
//!
//! Files are written first, then [`LiveClient`] is changed: the link that is up stays up, the next dial uses the new
//! pair. A failure leaves everything as it was and is tried again.

use std::time::Duration;

use daemon::errors::describe;
use message::NodeName;
use pki::tls::LiveClient;
use rand::RngExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::credentials::Credentials;
use super::enroll::{self, EnrollError, Enrollment};
use metamanager::LinkState;

/// Checked configuration.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// Off: the certificate is used until it ends.
    pub rotate: bool,
    /// Time after which the trusted CAs are asked for again.
    pub trust_refresh: Duration,
}

/// Waits are cut into pieces: the clock of a node without a battery jumps when the time is set.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// First and longest wait after a failure; between them it doubles.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// Longest time after connecting at which CAs are asked for, so that a fleet that reconnects does not ask at once.
const SPREAD: Duration = Duration::from_secs(600);

/// The running task.
pub(super) struct Rotation {
    pub node: NodeName,
    pub enrollment: Enrollment,
    pub renewal: Renewal,
    pub link: watch::Receiver<LinkState>,
    pub credentials: Credentials,
    pub live: LiveClient,
}

/// When what is due, in Unix seconds.
struct Plan {
    renew: Option<i64>,
    refresh: i64,
    refreshed: i64,
    failures: u32,
}

/// A moment of the span in which a certificate is renewed; `random` is in 0..1.
fn renewal_time((begin, end): (i64, i64), random: f64) -> i64 {
    let lifetime = end.saturating_sub(begin).max(0);
    begin + (lifetime as f64 * (0.7 + 0.2 * random)).round() as i64
}

fn retry_wait(failures: u32) -> Duration {
    daemon::backoff::doubled(RETRY.0, RETRY.1, failures)
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

impl Plan {
    /// Brings the next refresh forward after connecting, but not to a moment at which the last one is still fresh.
    fn on_connect(&mut self, now: i64, every: Duration, random: f64) {
        let spread = (every / 10).min(SPREAD).as_secs_f64() * random;
        let fresh_until = self.refreshed.saturating_add(seconds(every / 24));
        self.refresh = self.refresh.min(now.max(fresh_until) + spread as i64);
    }

    /// Brings the renewal forward: the CA of the certificate no longer signs and will one day not be trusted.
    fn on_other_signer(&mut self, now: i64, every: Duration, random: f64) {
        let soon = now.saturating_add(((every / 24).as_secs_f64() * random) as i64);
        self.renew = self.renew.map(|renew| renew.min(soon));
    }

    /// Time until something is due.
    fn wait(&self, now: i64) -> Duration {
        let next = self.renew.map_or(self.refresh, |renew| renew.min(self.refresh));
        let wait = u64::try_from(next.saturating_sub(now)).unwrap_or(0);
        Duration::from_secs(wait.max(1)).min(LONGEST_WAIT)
    }
}

impl Rotation {
    /// Runs until stopped.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut plan = Plan { renew: self.next_renewal(), refresh: i64::MAX, refreshed: 0, failures: 0 };
        loop {
            let now = daemon::clock::unix_seconds();
            let work = async {
                if plan.renew.is_some_and(|due| due <= now) {
                    self.renew(&mut plan, now).await;
                }
                if plan.refresh <= now {
                    self.refresh(&mut plan, now).await;
                }
            };
            tokio::select! {
                biased;
                _ = stop.cancelled() => return,
                _ = work => {}
            }
            let wait = plan.wait(daemon::clock::unix_seconds());
            tokio::select! {
                biased;
                _ = stop.cancelled() => return,
                changed = self.link.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if *self.link.borrow_and_update() == LinkState::Connected {
                        let now = daemon::clock::unix_seconds();
                        plan.on_connect(now, self.renewal.trust_refresh, rand::rng().random());
                    }
                }
                _ = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn next_renewal(&self) -> Option<i64> {
        let time = renewal_time(self.credentials.validity(), rand::rng().random());
        self.renewal.rotate.then_some(time)
    }

    async fn renew(&mut self, plan: &mut Plan, now: i64) {
        let (node, enrollment, held) = (&self.node, &self.enrollment, &self.credentials);
        let renewed = if held.is_expired(now) {
            enroll::replace_expired(node, enrollment, held, held.validity().1).await
        } else {
            enroll::renew(node, enrollment, held).await
        };
        match renewed.and_then(|renewed| self.take(renewed)) {
            Ok(()) => {
                plan.failures = 0;
                plan.renew = self.next_renewal();
                tracing::info!(node = %self.node, "certificate renewed");
            }
            Err(error) => {
                let wait = retry_wait(plan.failures);
                let (attempt, error) = (plan.failures, describe(&error));
                match attempt {
                    0 => tracing::warn!(node = %self.node, error, "certificate not renewed, trying again"),
                    _ => tracing::debug!(node = %self.node, attempt, error, "certificate not renewed"),
                }
                plan.failures = plan.failures.saturating_add(1);
                plan.renew = Some(now.saturating_add(seconds(wait)));
            }
        }
    }

    async fn refresh(&mut self, plan: &mut Plan, now: i64) {
        plan.refreshed = now;
        plan.refresh = now.saturating_add(seconds(self.renewal.trust_refresh));
        let taken = match enroll::newer_trust(&self.enrollment, &self.credentials).await {
            Ok(None) => Ok(false),
            Ok(Some(trust)) => self.take(Credentials { trust, ..self.credentials.clone() }).map(|()| true),
            Err(error) => Err(error),
        };
        match taken {
            Ok(changed) => {
                let Credentials { trust, identity } = &self.credentials;
                if changed {
                    let count = trust.certificates().len();
                    tracing::info!(node = %self.node, count, "trusted CAs changed");
                }
                if !trust.signer_signed(identity.certificate()) {
                    plan.on_other_signer(now, self.renewal.trust_refresh, rand::rng().random());
                }
            }
            Err(error) => {
                tracing::warn!(node = %self.node, error = describe(&error), "trusted CAs not refreshed");
                plan.refresh = now.saturating_add(seconds(RETRY.1.min(self.renewal.trust_refresh)));
            }
        }
    }

    /// Uses what is on disk already.
    fn take(&mut self, credentials: Credentials) -> Result<(), EnrollError> {
        self.live.change(&credentials.trust, Some(&credentials.identity)).map_err(EnrollError::Tls)?;
        self.credentials = credentials;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    #[test]
    fn a_certificate_is_renewed_between_seven_and_nine_tenths_of_its_life() {
        assert_eq!(renewal_time((0, 1000), 0.0), 700);
        assert_eq!(renewal_time((500, 1500), 0.5), 1300);
        assert!(renewal_time((0, 1000), 0.99) < 900);
        // One that makes no sense is due at once.
        assert_eq!(renewal_time((1000, 0), 0.5), 1000);
    }

    #[test]
    fn a_certificate_of_a_ca_that_no_longer_signs_is_renewed_within_the_hour_and_only_sooner() {
        let day = Duration::from_secs(86_400);
        let mut plan = Plan { renew: Some(100 * DAY), refresh: 0, refreshed: 0, failures: 0 };
        plan.on_other_signer(DAY, day, 0.5);
        assert_eq!(plan.renew, Some(DAY + 1800));
        plan.on_other_signer(DAY + 1790, day, 0.5);
        assert_eq!(plan.renew, Some(DAY + 1800));
        plan.renew = None;
        plan.on_other_signer(DAY, day, 0.5);
        assert_eq!(plan.renew, None, "renewal is off");
    }

    #[test]
    fn waits_after_failures_grow_and_stay_bounded() {
        assert_eq!(retry_wait(0), Duration::from_secs(2));
        assert_eq!(retry_wait(3), Duration::from_secs(16));
        assert_eq!(retry_wait(u32::MAX), RETRY.1);
    }

    #[test]
    fn a_node_that_reconnects_all_the_time_asks_for_the_trusted_cas_once_an_hour() {
        let day = Duration::from_secs(86_400);
        let mut plan = Plan { renew: None, refresh: i64::MAX, refreshed: 0, failures: 0 };
        plan.on_connect(10 * DAY, day, 0.5);
        assert_eq!(plan.refresh, 10 * DAY + 300, "spread over ten minutes");
        plan = Plan { refreshed: 10 * DAY, refresh: 11 * DAY, ..plan };
        plan.on_connect(10 * DAY + 5, day, 0.0);
        assert_eq!(plan.refresh, 10 * DAY + 3600);
        assert_eq!(plan.wait(10 * DAY), LONGEST_WAIT, "a clock that is set later is noticed");
    }
}
