//! Who asks: tokens of service accounts, and the certificate of this node.

use std::net::IpAddr;
use std::sync::Arc;

use apimachinery::Status;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use kubeapi::user::{AUTHENTICATED, Asker, User, service_account_groups};
use kubeapi::{Certificate, Peer};

use crate::held::Held;
use crate::keys::Keys;

/// A user name of nodes.
const NODES: &str = "system:node:";
/// The name of the door without TLS.
pub(crate) const PLAIN: &str = "MetaServer's port without TLS";
/// Said of a user who is the node because he came through that door.
const SHOWS_NOTHING: &str = "causeway/shows-nothing";

pub(crate) struct Users {
    pub keys: Arc<Keys>,
    /// This node's name.
    pub node: String,
}

impl Users {
    /// The user that this node is.
    pub(crate) fn node_user(&self) -> String {
        format!("{NODES}{}", self.node)
    }

    /// The user of a request; `None` for one that shows nothing.
    pub(crate) async fn authenticate(
        &self,
        held: &Held,
        peer: &Peer,
        headers: &HeaderMap,
    ) -> Result<Option<Asker>, Status> {
        let user = match bearer(headers)? {
            Some(token) => Some(self.account(held, token).await?),
            None if peer.door == Some(PLAIN) => Some(self.at_plain_door(headers)?),
            None => self.node(&peer.certificate)?,
        };
        let impersonates = |name: &http::HeaderName| name.as_str().starts_with("impersonate-");
        if user.is_some() && headers.keys().any(impersonates) {
            let text = "nobody is taken for another through a node: ask the API server itself";
            return Err(Status::new(403, "Forbidden", text));
        }
        Ok(user.map(Asker::from))
    }

    async fn account(&self, held: &Held, token: &str) -> Result<User, Status> {
        let claims = self.keys.verify(token).await.map_err(|why| {
            tracing::debug!(error = %why, "a token is not taken");
            Status::unauthorized()
        })?;
        let bound = &claims.bound;
        if let Some(pod) = &bound.pod {
            let here = held.uid(&bound.namespace, &pod.name).await?;
            if here.is_some_and(|uid| uid != pod.uid) {
                return Err(Status::unauthorized());
            }
        }
        let mut groups = service_account_groups(&bound.namespace).to_vec();
        groups.push(AUTHENTICATED.to_owned());
        let (name, uid) = (claims.user().to_owned(), bound.account.uid.clone());
        Ok(User { name, uid, groups, ..User::default() })
    }

    /// Who shows nothing at the door without TLS is the node, as with YurtHub. A page in a browser is not: it asks for another
    /// host than one of this machine, or says where it comes from.
    fn at_plain_door(&self, headers: &HeaderMap) -> Result<User, Status> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
        let is_of_here = name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !is_of_here || headers.contains_key(ORIGIN) {
            return Err(Status::unauthorized());
        }
        let groups = vec!["system:nodes".to_owned(), AUTHENTICATED.to_owned()];
        let extra = [(SHOWS_NOTHING.to_owned(), Vec::new())].into();
        Ok(User { name: self.node_user(), groups, extra, ..User::default() })
    }

    /// True for this node by its certificate: root on this machine, whatever the door without TLS lets in.
    pub(crate) fn is_certified_node(&self, user: &User) -> bool {
        user.name == self.node_user() && !user.extra.contains_key(SHOWS_NOTHING)
    }

    /// Only this node itself is known by a certificate.
    fn node(&self, certificate: &Certificate) -> Result<Option<User>, Status> {
        match certificate {
            Certificate::Missing => Ok(None),
            Certificate::Known { user, not_after }
                if user.name == self.node_user() && *not_after > daemon::clock::unix_seconds() =>
            {
                Ok(Some(user.clone()))
            }
            _ => Err(Status::unauthorized()),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Status> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let Some(header) = all.next() else { return Ok(None) };
    // Two of them could be read as one here and as the other in the cloud.
    if all.next().is_some() {
        return Err(Status::unauthorized());
    }
    let text = header.to_str().map_err(|_| Status::unauthorized())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(Status::unauthorized)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Status::unauthorized());
    }
    Ok(Some(token.trim()))
}
