//! Join tokens: `<hex sha256 of the CA certificate>.<JWT>` (spec/transport.md 4.2).
//!
//! The JWT is HS256 over `{"exp":..}` and nothing else, keyed with the CA's private key, so it can be checked here
//! without a JWT library: the header is compared, never interpreted, and no other algorithm exists.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::Deserialize;

use crate::Authority;

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// Longest token read, in bytes.
pub const MAX_BYTES: usize = 4096;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("token is not four parts separated by dots")]
    Malformed,
    #[error("token was not signed by this cluster")]
    BadSignature,
    #[error("token expired at {expired} (now {now}); make a new one with keadm gettoken")]
    Expired { expired: i64, now: i64 },
    #[error("token belongs to another cluster: it names CA {wanted}, the server has {found}")]
    OtherCluster { wanted: String, found: String },
}

#[derive(Deserialize)]
struct Claims {
    exp: i64,
}

/// Makes a token that expires at `expires` (Unix seconds).
pub fn mint(authority: &Authority, expires: i64) -> String {
    let payload = format!("{{\"exp\":{expires}}}");
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(payload));
    let signature = hmac::sign(&key(authority), signed.as_bytes());
    format!("{}.{signed}.{}", authority.fingerprint(), URL_SAFE_NO_PAD.encode(signature))
}

fn key(authority: &Authority) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, authority.key_sec1())
}

/// Checks the JWT an edge presents as bearer.
pub fn verify(authority: &Authority, jwt: &str, now: i64) -> Result<(), TokenError> {
    if jwt.len() > MAX_BYTES {
        return Err(TokenError::Malformed);
    }
    let (signed, signature) = jwt.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let payload = signed.split_once('.').map(|(_, payload)| payload).ok_or(TokenError::Malformed)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
    hmac::verify(&key(authority), signed.as_bytes(), &signature).map_err(|_| TokenError::BadSignature)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::Malformed)?;
    let claims: Claims = serde_json::from_slice(&payload).map_err(|_| TokenError::Malformed)?;
    if claims.exp <= now {
        return Err(TokenError::Expired { expired: claims.exp, now });
    }
    Ok(())
}

/// A token as an edge holds it. Does not print.
#[derive(Clone)]
pub struct JoinToken {
    ca_fingerprint: String,
    jwt: String,
}

impl JoinToken {
    pub fn parse(text: &str) -> Result<JoinToken, TokenError> {
        let text = text.trim();
        let (ca_fingerprint, jwt) = text.split_once('.').ok_or(TokenError::Malformed)?;
        let hex = ca_fingerprint.len() == 64 && ca_fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit());
        if text.len() > MAX_BYTES || !hex || jwt.split('.').count() != 3 {
            return Err(TokenError::Malformed);
        }
        Ok(JoinToken { ca_fingerprint: ca_fingerprint.to_ascii_lowercase(), jwt: jwt.to_owned() })
    }

    /// Checks that a downloaded CA certificate is the one the token was made for.
    pub fn check_ca(&self, certificate: &[u8]) -> Result<(), TokenError> {
        let found = crate::authority::fingerprint(certificate);
        if found == self.ca_fingerprint {
            return Ok(());
        }
        Err(TokenError::OtherCluster { wanted: self.ca_fingerprint.clone(), found })
    }

    /// The part sent as `Authorization: Bearer`.
    pub fn bearer(&self) -> &str {
        &self.jwt
    }
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinToken(ca {})", self.ca_fingerprint)
    }
}
