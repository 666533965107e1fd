//! The certificate authority of a cluster's edge.

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SerialNumber,
};
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::subject::{alternative_name, distinguished_name};
use crate::{AuthorityError, BACKDATE, DAY, Identity, SigningRequest, Subject, der};

/// A CA certificate with its key: ECDSA P-256, KubeEdge's form.
pub struct Authority {
    certificate: CertificateDer<'static>,
    key: KeyPair,
    sec1: Vec<u8>,
}

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Server,
    Client,
    ServerAndClient,
}

/// What a certificate says.
#[derive(Clone, Debug)]
pub struct Profile {
    pub common_name: String,
    pub organizations: Vec<String>,
    /// IP addresses and DNS names, as text.
    pub names: Vec<String>,
    pub usage: Usage,
    /// Seconds.
    pub lifetime: i64,
}

/// Common name of KubeEdge's CA.
const KUBEEDGE: &str = "KubeEdge";
/// KubeEdge's CA lifetime in days.
const CA_DAYS: i64 = 36_400;

impl Authority {
    /// Makes a new CA named `common_name`, or KubeEdge's name.
    ///
    /// # Errors
    /// [`AuthorityError`]: no key could be generated, or `now` is no date.
    pub fn generate(common_name: Option<&str>, now: i64) -> Result<Authority, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Generate)?;
        let params = ca_params(common_name.unwrap_or(KUBEEDGE), now)?;
        let certificate = params.self_signed(&key).map_err(AuthorityError::BadCertificate)?.der().clone();
        Authority::assemble(certificate, key)
    }

    /// Reads a CA from DER; the key may be SEC1 (KubeEdge's form) or PKCS#8.
    ///
    /// # Errors
    /// [`AuthorityError`]: key or certificate cannot be read.
    pub fn from_der(certificate: &[u8], key: &[u8]) -> Result<Authority, AuthorityError> {
        let pkcs8 = der::pkcs8_from_any(key).ok_or(AuthorityError::BadKey)?;
        let key = KeyPair::try_from(pkcs8).map_err(|_| AuthorityError::BadKey)?;
        Authority::assemble(CertificateDer::from(certificate.to_vec()), key)
    }

    fn assemble(certificate: CertificateDer<'static>, key: KeyPair) -> Result<Authority, AuthorityError> {
        // Parses the certificate and checks that it can issue with this key's algorithm.
        Issuer::from_ca_cert_der(&certificate, &key).map_err(AuthorityError::BadCertificate)?;
        let sec1 =
            der::sec1_from_pkcs8(key.serialized_der(), key.der_bytes()).ok_or(AuthorityError::BadKey)?;
        Ok(Authority { certificate, key, sec1 })
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The CA key as SEC1 DER: what KubeEdge's `casecret` holds and its token HMAC is keyed with.
    pub fn key_sec1(&self) -> &[u8] {
        &self.sec1
    }

    /// Lower-case hex SHA-256 of the CA certificate's DER: the first part of a join token.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.certificate)
    }

    /// Makes a key and a certificate for it.
    ///
    /// # Errors
    /// [`AuthorityError`]: a name or date of `profile` is none, or no key could be generated.
    pub fn issue(&self, profile: &Profile, now: i64) -> Result<Identity, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Generate)?;
        let certificate = self.sign(profile, &key, now, None)?;
        Ok(Identity::new(certificate, key.serialized_der().to_vec()))
    }

    /// Signs the key of a request. Subject, names and usages come from `profile` alone: whatever the request asked
    /// for besides its key is not looked at here (callers compare the subject first). `earliest`: its first second is not
    /// before this (Unix).
    ///
    /// # Errors
    /// [`AuthorityError`]: a name or date of `profile` is none, or the key cannot be signed.
    pub fn sign_request(
        &self,
        request: &SigningRequest,
        profile: &Profile,
        now: i64,
        earliest: Option<i64>,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        self.sign(profile, request.public_key(), now, earliest)
    }

    /// A certificate of `next`'s key and name, signed by this CA: who trusts only this CA then trusts what `next`
    /// signs. `next` is one of [`Authority::generate`].
    ///
    /// # Errors
    /// [`AuthorityError`]: `next`'s certificate cannot be read, or a date is none.
    pub fn cross_sign(&self, next: &Authority, now: i64) -> Result<CertificateDer<'static>, AuthorityError> {
        let name = Subject::of(&next.certificate).map(|subject| subject.common_name);
        let mut params = ca_params(&name.unwrap_or_default(), now)?;
        // Names the pair of issuer and serial apart from that of the self-signed certificate.
        params.serial_number = Some(SerialNumber::from(random_bytes().to_vec()));
        params.use_authority_key_identifier_extension = true;
        let sign_error = |source| AuthorityError::Sign { common_name: KUBEEDGE.to_owned(), source };
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key).map_err(sign_error)?;
        Ok(params.signed_by(&next.key, &issuer).map_err(sign_error)?.der().clone())
    }

    fn sign(
        &self,
        profile: &Profile,
        key: &impl PublicKeyData,
        now: i64,
        earliest: Option<i64>,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(&profile.common_name, &profile.organizations)?;
        params.subject_alt_names =
            profile.names.iter().map(|name| alternative_name(name)).collect::<Result<Vec<_>, _>>()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = match profile.usage {
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::ServerAndClient => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
        };
        params.use_authority_key_identifier_extension = true;
        params.not_before = date((now - BACKDATE).max(earliest.unwrap_or(i64::MIN)))?;
        params.not_after = date(now + profile.lifetime)?;
        let sign_error = |source| AuthorityError::Sign { common_name: profile.common_name.clone(), source };
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key).map_err(sign_error)?;
        Ok(params.signed_by(key, &issuer).map_err(sign_error)?.der().clone())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl Authority {
    /// Signs whatever is in `params`.
    pub(crate) fn issue_unchecked(&self, mut params: CertificateParams, key: &KeyPair) -> Identity {
        params.not_before = date(1_799_000_000).unwrap();
        params.not_after = date(1_900_000_000).unwrap();
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key).unwrap();
        let certificate = params.signed_by(key, &issuer).unwrap().der().clone();
        Identity::new(certificate, key.serialized_der().to_vec())
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.fingerprint())
    }
}

/// Lower-case hex SHA-256.
pub fn fingerprint(certificate: &[u8]) -> String {
    digest::digest(&digest::SHA256, certificate).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ca_params(common_name: &str, now: i64) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(common_name, &[])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
    ];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = date(now - BACKDATE)?;
    params.not_after = date(now + CA_DAYS * DAY)?;
    Ok(params)
}

/// 128 random bits, positive when read as a DER integer.
pub(crate) fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    // The system's generator only fails where no TLS would work either; the bits name things, they keep no secret.
    let _ = SystemRandom::new().fill(&mut bytes);
    bytes[0] &= 0x7f;
    bytes
}

fn date(seconds: i64) -> Result<OffsetDateTime, AuthorityError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| AuthorityError::BadDate { seconds })
}
