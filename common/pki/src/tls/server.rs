//! The cloud's side: presents the certificate of today, verifies clients by the CAs of today.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, ResolvesServerCert, ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{TlsError, certified, provider, roots};
use crate::{Bundle, Identity, Subject};

/// What a server asks of its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// The handshake fails without a certificate signed by a trusted CA.
    Required,
    /// A certificate, if presented, must be signed by a trusted CA.
    Optional,
    /// As `Optional`, and the certificate may have expired: the caller looks at its dates before it believes it.
    OptionalEvenExpired,
}

/// What a TLS server presents and whom it trusts, changeable while it serves. Clones share it.
#[derive(Clone, Debug)]
pub struct LiveServer {
    now: Arc<RwLock<Arc<State>>>,
}

#[derive(Debug)]
struct State {
    key: Arc<CertifiedKey>,
    trust: Bundle,
    verifier: Arc<dyn ClientCertVerifier>,
    /// A resumed session is not verified again: these go when the trust changes.
    sessions: Arc<ServerSessionMemoryCache>,
}

/// Sessions kept for resumption (rustls' own default).
const SESSIONS: usize = 256;

/// Something a server can present.
pub trait Presented {
    /// The live form, whose clients' CA `ca` must be trusted.
    ///
    /// # Errors
    /// [`TlsError`]: certificate and key are not a pair, or `ca` is not trusted.
    fn live(&self, ca: &[u8]) -> Result<LiveServer, TlsError>;
}

impl Presented for Identity {
    fn live(&self, ca: &[u8]) -> Result<LiveServer, TlsError> {
        LiveServer::new(self, &Bundle::of(ca))
    }
}

impl Presented for LiveServer {
    fn live(&self, ca: &[u8]) -> Result<LiveServer, TlsError> {
        if self.state().trust.contains(ca) { Ok(self.clone()) } else { Err(TlsError::NotTrusted) }
    }
}

impl State {
    fn of(identity: &Identity, trust: &Bundle) -> Result<State, TlsError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(trust)?, provider());
        Ok(State {
            key: certified(identity)?,
            trust: trust.clone(),
            verifier: verifier.build().map_err(TlsError::Verifier)?,
            sessions: ServerSessionMemoryCache::new(SESSIONS),
        })
    }
}

impl LiveServer {
    /// # Errors
    /// [`TlsError`]: certificate and key are not a pair, or a CA cannot be trusted.
    pub fn new(identity: &Identity, trust: &Bundle) -> Result<LiveServer, TlsError> {
        Ok(LiveServer { now: Arc::new(RwLock::new(Arc::new(State::of(identity, trust)?))) })
    }

    /// Changes identity and trust for every handshake from now on. An error leaves both as they were.
    ///
    /// # Errors
    /// [`TlsError`] as [`LiveServer::new`]'s.
    pub fn change(&self, identity: &Identity, trust: &Bundle) -> Result<(), TlsError> {
        let mut state = State::of(identity, trust)?;
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        if now.trust == state.trust {
            state.sessions = now.sessions.clone();
        }
        *now = Arc::new(state);
        Ok(())
    }

    /// A configuration that follows every change. `alpn` may be empty.
    pub fn config(&self, clients: ClientCertificate, alpn: &[&str]) -> Arc<ServerConfig> {
        let shared = Arc::new(self.clone());
        let verifier = Arc::new(Verifier { live: self.clone(), clients });
        let mut config =
            ServerConfig::builder().with_client_cert_verifier(verifier).with_cert_resolver(shared.clone());
        config.session_storage = shared;
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    fn state(&self) -> Arc<State> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for LiveServer {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.state().key.clone())
    }
}

impl StoresServerSessions for LiveServer {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.state().sessions.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.state().sessions.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.state().sessions.take(key)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Verifier {
    live: LiveServer,
    clients: ClientCertificate,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.clients == ClientCertificate::Required
    }

    /// No hints: the trusted CAs change, and an edge has one certificate to choose from.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verifier = self.live.state().verifier.clone();
        let result = verifier.verify_client_cert(certificate, intermediates, now);
        let expired = matches!(
            result,
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. }
            ))
        );
        if !expired || self.clients != ClientCertificate::OptionalEvenExpired {
            return result;
        }
        let end = Subject::of(certificate).map_or(0, |subject| subject.not_after);
        let end = u64::try_from(end).unwrap_or(0).min(now.as_secs());
        let at_its_end = UnixTime::since_unix_epoch(std::time::Duration::from_secs(end));
        verifier.verify_client_cert(certificate, intermediates, at_its_end)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.live.state().verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.live.state().verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.live.state().verifier.supported_verify_schemes()
    }
}
