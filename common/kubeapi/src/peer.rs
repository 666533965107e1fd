//! Who is at the other end of a connection.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pki::Subject;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::user::{AUTHENTICATED, User};

/// What a connection shows of the client.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The name of the door that it came through ([`crate::Door::what`]); `None`: it is this program itself.
    pub door: Option<&'static str>,
    /// `None`: it is on this machine, and shows no address.
    pub address: Option<IpAddr>,
    pub certificate: Certificate,
}

/// What a handshake shows.
#[derive(Clone, Debug)]
pub enum Certificate {
    /// None was shown, or there was no TLS.
    Missing,
    /// One that is not of our CA, or not valid now.
    Foreign,
    /// Its subject: CN is the user, O the groups.
    Known { user: User, not_after: i64 },
}

impl Peer {
    /// True for this program itself.
    pub(crate) fn is_program(&self) -> bool {
        self.door.is_none()
    }

    /// This program itself, as `user`.
    pub fn program(user: User) -> Peer {
        Peer { door: None, address: None, certificate: Certificate::Known { user, not_after: i64::MAX } }
    }
}

impl Certificate {
    /// `now` in Unix seconds.
    pub(crate) fn of(
        chain: Option<&[CertificateDer<'_>]>,
        verifier: &dyn ClientCertVerifier,
        now: i64,
    ) -> Certificate {
        let Some((leaf, intermediates)) = chain.and_then(<[_]>::split_first) else {
            return Certificate::Missing;
        };
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now.unsigned_abs()));
        if verifier.verify_client_cert(leaf, intermediates, time).is_err() {
            return Certificate::Foreign;
        }
        match Subject::of(leaf) {
            Ok(subject) if !subject.common_name.is_empty() => {
                let mut groups = subject.organizations;
                groups.push(AUTHENTICATED.to_owned());
                let user = User { name: subject.common_name, groups, ..User::default() };
                Certificate::Known { user, not_after: subject.not_after }
            }
            _ => Certificate::Foreign,
        }
    }
}

/// Where a listener's clients come from.
pub trait Origin: Send + 'static {
    /// `None`: from this machine, without an address.
    fn address(&self) -> Option<IpAddr>;
}

impl Origin for SocketAddr {
    fn address(&self) -> Option<IpAddr> {
        Some(self.ip().to_canonical())
    }
}

impl Origin for () {
    fn address(&self) -> Option<IpAddr> {
        None
    }
}
