//! CA, server certificate and join token in the forms of KubeEdge (docs/protocol/transport.md 4.1, 4.2).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

pub(super) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    server: (CertificateDer<'static>, Vec<u8>),
    bearer: String,
}

impl Authority {
    pub(super) fn generate() -> Result<Authority> {
        let key = KeyPair::generate()?;
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "KubeEdge");
        ca.serial_number = Some(1024.into());
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
        ];
        ca.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = ca.self_signed(&key)?.der().clone();
        let issuer = Issuer::new(ca, key);

        let server_key = KeyPair::generate()?;
        let mut server = CertificateParams::default();
        server.distinguished_name.push(DnType::CommonName, "KubeEdge");
        server.distinguished_name.push(DnType::OrganizationName, "KubeEdge");
        // A default installation has an empty DNS name beside its address.
        server.subject_alt_names =
            vec![SanType::DnsName("".try_into()?), SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server_certificate = server.signed_by(&server_key, &issuer)?.der().clone();
        Ok(Authority {
            certificate,
            issuer,
            server: (server_certificate, server_key.serialized_der().to_vec()),
            // Opaque to an edge: header and claims {"exp":..} of a JWT, with a signature only this cloud checks.
            bearer: "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjQxMDI0NDQ4MDB9.c2lnbmF0dXJl".to_owned(),
        })
    }

    pub(super) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    pub(super) fn bearer(&self) -> &str {
        &self.bearer
    }

    /// SHA-256 of the CA's DER in hex, then the JWT.
    pub(super) fn token(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.certificate);
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{hex}.{}", self.bearer)
    }

    /// Signs a request given as DER; the subject must be that of node `name`. DER again.
    pub(super) fn sign(&self, request: &[u8], name: &str) -> Result<Vec<u8>> {
        let der = CertificateSigningRequestDer::from(request.to_vec());
        let mut request = CertificateSigningRequestParams::from_der(&der)?;
        let subject = &request.params.distinguished_name;
        let text = |kind: &DnType| match subject.get(kind) {
            Some(DnValue::Utf8String(text)) => text.clone(),
            Some(DnValue::PrintableString(text)) => text.as_str().to_owned(),
            other => format!("{other:?}"),
        };
        let (common_name, organization) = (text(&DnType::CommonName), text(&DnType::OrganizationName));
        ensure!(common_name == format!("system:node:{name}"), "{common_name}");
        ensure!(organization == "system:nodes", "{organization}");
        request.params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(request.signed_by(&self.issuer)?.der().to_vec())
    }

    /// TLS of port 10002: a client certificate is not needed.
    pub(super) fn registration_port(&self) -> Result<Arc<ServerConfig>> {
        let (certificate, key) = self.server_identity();
        let config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key.into())?;
        Ok(Arc::new(config))
    }

    /// TLS of port 10000: a client certificate of this CA is required.
    pub(super) fn message_port(&self) -> Result<Arc<ServerConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
        let (certificate, key) = self.server_identity();
        let config = ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate], key.into())?;
        Ok(Arc::new(config))
    }

    fn server_identity(&self) -> (CertificateDer<'static>, PrivatePkcs8KeyDer<'static>) {
        (self.server.0.clone(), PrivatePkcs8KeyDer::from(self.server.1.clone()))
    }
}
