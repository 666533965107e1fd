//! Who is asking: client certificates of the own CA (CN is the user, O the groups) and service-account tokens issued here.

use apimachinery::Status;
use apimachinery::path::percent_decode;
use apimachinery::rbac::{Attributes, What};
use http::{HeaderMap, HeaderName};
use kubeapi::user::{ANONYMOUS, AUTHENTICATED, Asker, UNAUTHENTICATED, User, service_account_groups};
use kubeapi::{Certificate, Peer};

use crate::authorise::authorise;
use crate::context::Context;
use crate::signer::ISSUER;
use crate::tokens;

/// The user of a request; who shows nothing is anonymous, and may what roles give those. Impersonation headers are honoured for who has the right.
pub(crate) async fn authenticate(
    context: &Context,
    peer: &Peer,
    headers: &HeaderMap,
) -> Result<Asker, Status> {
    let user = match bearer(headers)? {
        Some(token) => Some(tokens::verify(context, token, &[ISSUER]).await?.user),
        None => match &peer.certificate {
            Certificate::Missing => None,
            Certificate::Foreign => return Err(Status::unauthorized()),
            Certificate::Known { not_after, .. } if *not_after <= daemon::clock::unix_seconds() => {
                return Err(Status::unauthorized());
            }
            Certificate::Known { user, .. } => Some(user.clone()),
        },
    };
    impersonate(context, user.unwrap_or_else(anonymous), headers)
}

fn anonymous() -> User {
    User { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..User::default() }
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Status> {
    let Some(header) = headers.get(http::header::AUTHORIZATION) else { return Ok(None) };
    let text = header.to_str().map_err(|_| Status::unauthorized())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(Status::unauthorized)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Status::unauthorized());
    }
    Ok(Some(token.trim()))
}

/// The user that another one asks to be taken for, if he may. Headers that are not understood are refused: whoever sends
/// them wants fewer rights than his own.
fn impersonate(context: &Context, user: User, headers: &HeaderMap) -> Result<Asker, Status> {
    const EXTRA: &str = "impersonate-extra-";
    let texts = |name: &HeaderName| -> Result<Vec<String>, Status> {
        let texts = headers.get_all(name).iter().map(|value| value.to_str().map(str::to_owned));
        texts.collect::<Result<_, _>>().map_err(|_| Status::bad_request(format!("header {name} is not text")))
    };
    let mut wanted = User::default();
    let mut asked = false;
    for name in headers.keys() {
        match name.as_str() {
            "impersonate-user" => wanted.name = texts(name)?.swap_remove(0),
            "impersonate-group" => wanted.groups = texts(name)?,
            "impersonate-uid" => wanted.uid = texts(name)?.swap_remove(0),
            other => {
                let Some(key) = other.strip_prefix(EXTRA) else { continue };
                let key = percent_decode(key, false)
                    .ok_or_else(|| Status::bad_request(format!("header {name} is not percent-encoded")))?;
                wanted.extra.insert(key.to_lowercase(), texts(name)?);
            }
        }
        asked = true;
    }
    if !asked {
        return Ok(user.into());
    }
    if wanted.name.is_empty() {
        return Err(Status::bad_request("groups, a uid or more are impersonated without a user"));
    }
    may_impersonate(context, &user, &wanted)?;
    if let (Some((namespace, _)), true) = (service_account(&wanted.name), wanted.groups.is_empty()) {
        wanted.groups = service_account_groups(namespace).to_vec();
    }
    if wanted.name != ANONYMOUS && !wanted.groups.iter().any(|group| group == UNAUTHENTICATED) {
        wanted.groups.push(AUTHENTICATED.to_owned());
    }
    wanted.groups.dedup();
    Ok(Asker { user: wanted, impersonator: Some(user) })
}

/// The right `impersonate` on the user and on each group, the uid and all that is said beside.
fn may_impersonate(context: &Context, user: &User, wanted: &User) -> Result<(), Status> {
    const GROUP: &str = "authentication.k8s.io";
    let may = |group, resource, subresource, namespace, name| {
        let what = What::Resource { group, resource, subresource, namespace, name };
        authorise(context, user, &Attributes::new("impersonate", what))
    };
    match service_account(&wanted.name) {
        Some((namespace, name)) => may("", "serviceaccounts", "", namespace, name)?,
        None => may("", "users", "", "", &wanted.name)?,
    }
    for group in &wanted.groups {
        may("", "groups", "", "", group)?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            may(GROUP, "userextras", key, "", value)?;
        }
    }
    match wanted.uid.is_empty() {
        true => Ok(()),
        false => may(GROUP, "uids", "", "", &wanted.uid),
    }
}

/// Namespace and name in the name of a service account's user.
fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':')
}
