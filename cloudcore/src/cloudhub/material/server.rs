//! The certificate CloudCore shows to edges: one for all replicas, renewed before it ends.

use std::collections::{BTreeMap, BTreeSet};

use pki::{DAY, Identity, IdentityError, Profile, Subject, Usage};

use super::secrets::{self, Stored};
use super::{MaterialError, Trust};
use crate::kubernetes::Cluster;

const SECRET: &str = "cloudcoresecret";
const CERTIFICATE: &str = "cloudcoredata";
const KEY: &str = "cloudcorekeydata";
/// `<fingerprint of the CA> <names>`: what the certificate was made for.
const ISSUED_FOR: &str = "causeway.io/issued-for";

/// Days a server certificate is valid; it is renewed when less than a third of its life is left.
const DAYS: i64 = 365;

/// Times a write is tried that other replicas get in the way of.
const ATTEMPTS: u32 = 5;

/// The stored certificate if it is of the CA that signs, names every address and has time left; else a new one. Names
/// that other replicas put there stay, or replicas would take turns in replacing each other's.
pub(super) async fn obtain(
    cluster: &Cluster,
    trust: &Trust,
    names: &[String],
    now: i64,
) -> Result<Identity, MaterialError> {
    let fingerprint = trust.authority.fingerprint();
    for _ in 0..ATTEMPTS {
        let stored = secrets::read(cluster, SECRET).await?;
        let (issuer, mut named) = stored.as_ref().map(issued_for).unwrap_or_default();
        let complete = names.iter().all(|name| named.contains(name));
        if issuer == fingerprint
            && complete
            && let Some(stored) = &stored
            && let Some(identity) = usable(stored, now)
        {
            return Ok(identity.with_intermediates(trust.intermediates.clone()));
        }
        if issuer != fingerprint {
            named.clear();
        }
        named.extend(names.iter().cloned());
        let (identity, data) = issue(trust, &named, now)?;
        let issued_for = format!("{fingerprint} {}", named.into_iter().collect::<Vec<_>>().join(","));
        if secrets::write(cluster, SECRET, stored.as_ref(), &data, &[(ISSUED_FOR, &issued_for)]).await? {
            tracing::info!(issued_for, "server certificate issued");
            return Ok(identity.with_intermediates(trust.intermediates.clone()));
        }
    }
    Err(MaterialError::Contended { secret: SECRET })
}

fn issued_for(stored: &Stored) -> (String, BTreeSet<String>) {
    let (issuer, names) = stored.annotation(ISSUED_FOR).split_once(' ').unwrap_or_default();
    (issuer.to_owned(), names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// The stored pair, if it is one and has enough time left.
fn usable(stored: &Stored, now: i64) -> Option<Identity> {
    let data = stored.data();
    let identity = Identity::from_der(data.get(CERTIFICATE)?, data.get(KEY)?).ok()?;
    let subject = Subject::of(identity.certificate()).ok()?;
    if is_early(subject.not_before, now) {
        tracing::warn!(
            begins = subject.not_before,
            now,
            "stored server certificate begins in the future, issued anew"
        );
        return None;
    }
    (!is_due(subject.not_before, subject.not_after, now)).then_some(identity)
}

/// Clocks of replicas may be apart by so many seconds.
const SKEW: i64 = 300;

/// True for a certificate that was made when a clock was wrong: peers would refuse it.
fn is_early(begin: i64, now: i64) -> bool {
    begin > now + SKEW
}

/// True if less than a third of the life from `begin` to `end` is left.
fn is_due(begin: i64, end: i64, now: i64) -> bool {
    end.saturating_sub(now) < end.saturating_sub(begin) / 3
}

fn issue(
    trust: &Trust,
    names: &BTreeSet<String>,
    now: i64,
) -> Result<(Identity, BTreeMap<String, Vec<u8>>), MaterialError> {
    let profile = Profile {
        common_name: "KubeEdge".to_owned(),
        organizations: vec!["KubeEdge".to_owned()],
        names: names.iter().cloned().collect(),
        usage: Usage::Server,
        lifetime: DAYS * DAY,
    };
    let identity = trust.authority.issue(&profile, now).map_err(MaterialError::Authority)?;
    let key = identity.key_sec1().ok_or(MaterialError::Server(IdentityError::KeyForm))?;
    let certificate = identity.certificate().to_vec();
    Ok((identity, BTreeMap::from([(CERTIFICATE.to_owned(), certificate), (KEY.to_owned(), key)])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_certificate_is_due_in_the_last_third_of_its_life() {
        assert!(!is_due(0, 300, 199));
        assert!(!is_due(0, 300, 200));
        assert!(is_due(0, 300, 201));
        assert!(is_due(0, 300, 999));
    }

    #[test]
    fn a_certificate_from_the_future_is_not_kept() {
        assert!(!is_early(100, 100) && !is_early(100 + SKEW, 100));
        assert!(is_early(101 + SKEW, 100));
    }
}
