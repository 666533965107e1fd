//! The edge's side: verifies the cloud although the clock may be wrong, and presents what it has today.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, ResolvesClientCert, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue, WebPkiServerVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, NamedGroup, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{TlsError, certified, provider, roots};
use crate::{Bundle, Identity, Subject};

/// What a TLS client presents and whom it trusts, changeable while its configuration is in use. Clones share it.
#[derive(Clone, Debug)]
pub struct LiveClient {
    now: Arc<RwLock<Arc<State>>>,
}

#[derive(Debug)]
struct State {
    verifier: Arc<WebPkiServerVerifier>,
    /// Unix seconds. Signed facts say that it is at least this late: a clock that says otherwise (no battery, never
    /// set) is not believed.
    not_earlier: i64,
    key: Option<Arc<CertifiedKey>>,
    /// A session resumed under an old identity would speak for it.
    sessions: Arc<ClientSessionMemoryCache>,
}

/// Servers a client keeps sessions of: the link, the registration port, a spare.
const SESSIONS: usize = 8;

impl State {
    fn of(trust: &Bundle, identity: Option<&Identity>) -> Result<State, TlsError> {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots(trust)?, provider());
        let own_start = identity.and_then(|identity| Subject::of(identity.certificate()).ok());
        let own_start = own_start.map_or(0, |subject| subject.not_before);
        Ok(State {
            verifier: verifier.build().map_err(TlsError::Verifier)?,
            not_earlier: trust.newest_start().max(own_start),
            key: identity.map(certified).transpose()?,
            sessions: Arc::new(ClientSessionMemoryCache::new(SESSIONS)),
        })
    }
}

impl LiveClient {
    /// # Errors
    /// [`TlsError`]: certificate and key are not a pair, or a CA cannot be trusted.
    pub fn new(trust: &Bundle, identity: Option<&Identity>) -> Result<LiveClient, TlsError> {
        Ok(LiveClient { now: Arc::new(RwLock::new(Arc::new(State::of(trust, identity)?))) })
    }

    /// Changes trust and identity for every handshake from now on. An error leaves both as they were.
    ///
    /// # Errors
    /// [`TlsError`] as [`LiveClient::new`]'s.
    pub fn change(&self, trust: &Bundle, identity: Option<&Identity>) -> Result<(), TlsError> {
        let state = Arc::new(State::of(trust, identity)?);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(())
    }

    /// A configuration that follows every change.
    pub fn config(&self) -> Arc<ClientConfig> {
        let shared = Arc::new(self.clone());
        let mut config = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(shared.clone())
            .with_client_cert_resolver(shared.clone());
        config.resumption = Resumption::store(shared);
        Arc::new(config)
    }

    fn state(&self) -> Arc<State> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for LiveClient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let state = self.state();
        // The CA's word that the certificate has begun is worth more than a clock that says it has not.
        let began = Subject::of(certificate).map_or(0, |subject| subject.not_before);
        let floor = u64::try_from(began.max(state.not_earlier)).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.as_secs().max(floor)));
        state.verifier.verify_server_cert(certificate, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.state().verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.state().verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.state().verifier.supported_verify_schemes()
    }
}

impl ResolvesClientCert for LiveClient {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.state().key.clone()
    }

    fn has_certs(&self) -> bool {
        self.state().key.is_some()
    }
}

impl ClientSessionStore for LiveClient {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.state().sessions.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.state().sessions.kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.state().sessions.set_tls12_session(server, value);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.state().sessions.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.state().sessions.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.state().sessions.insert_tls13_ticket(server, value);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.state().sessions.take_tls13_ticket(server)
    }
}
