//! Join tokens: `<hex sha256 of the CA certificate>.<JWT>` (docs/protocol/transport.md 4.2).
//!
//! The JWT is HS256, keyed with the CA's private key, so it can be checked here without a JWT library: the header is
//! never interpreted, and no other algorithm exists. KubeEdge's claims are `{"exp":..}`; ours may add that the token is
//! good once (`jti`), for some nodes only (`nodes`) or for nodes that exist (`existing`), which KubeEdge's own CloudCore
//! does not read.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::{Authority, CLOCK_SKEW, authority};

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
    #[error("token is for nodes {pattern:?}, not for node {node}")]
    OtherNode { pattern: String, node: String },
    #[error("token belongs to another cluster: it names CA {wanted}, the server has {found}")]
    OtherCluster { wanted: String, found: String },
}

/// What a token says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// End, Unix seconds.
    pub exp: i64,
    /// Name of a token that is good for one node, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Pattern of node names it is good for; `*` stands for any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// It is good for names of nodes that exist, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub existing: bool,
}

impl Claims {
    /// KubeEdge's claims: an end and nothing else.
    pub fn until(expires: i64) -> Claims {
        Claims { exp: expires, jti: None, nodes: None, existing: false }
    }

    /// Checks that the token is good for `node`.
    ///
    /// # Errors
    /// [`TokenError`]: the token is for other nodes.
    pub fn check_node(&self, node: &str) -> Result<(), TokenError> {
        match &self.nodes {
            Some(pattern) if !matches(pattern, node) => {
                Err(TokenError::OtherNode { pattern: pattern.clone(), node: node.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

/// True if `name` has the form of `pattern`, in which every `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(end)
}

/// A fresh `jti`: 32 hexadecimal digits.
pub fn fresh_id() -> String {
    authority::random_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// True for text [`fresh_id`] could have made; nothing else is used in the name of an object.
fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Makes a token of KubeEdge's form that expires at `expires` (Unix seconds).
pub fn mint(authority: &Authority, expires: i64) -> String {
    mint_with(authority, &Claims::until(expires))
}

/// Makes a token with `claims`.
pub fn mint_with(authority: &Authority, claims: &Claims) -> String {
    // Numbers and strings always have a JSON form.
    let payload = serde_json::to_string(claims).unwrap_or_default();
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(payload));
    let signature = hmac::sign(&key(authority), signed.as_bytes());
    format!("{}.{signed}.{}", authority.fingerprint(), URL_SAFE_NO_PAD.encode(signature))
}

fn key(authority: &Authority) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, authority.key_sec1())
}

/// Checks the JWT an edge presents as bearer and gives what it says. Which node may use it and how often is the
/// caller's to check.
///
/// # Errors
/// [`TokenError`]: the token has another form, was signed with another key, or has ended at `now`.
pub fn verify(authority: &Authority, jwt: &str, now: i64) -> Result<Claims, TokenError> {
    if jwt.len() > MAX_BYTES {
        return Err(TokenError::Malformed);
    }
    let (signed, signature) = jwt.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let payload = signed.split_once('.').map(|(_, payload)| payload).ok_or(TokenError::Malformed)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
    hmac::verify(&key(authority), signed.as_bytes(), &signature).map_err(|_| TokenError::BadSignature)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::Malformed)?;
    let claims: Claims = serde_json::from_slice(&payload).map_err(|_| TokenError::Malformed)?;
    if claims.exp.saturating_add(CLOCK_SKEW) <= now {
        return Err(TokenError::Expired { expired: claims.exp, now });
    }
    if claims.jti.as_deref().is_some_and(|id| !is_id(id)) {
        return Err(TokenError::Malformed);
    }
    Ok(claims)
}

/// A token as an edge holds it. Does not print.
///
/// ```
/// use pki::Authority;
/// use pki::token::{self, Claims, JoinToken};
///
/// let now = 1_800_000_000; // Unix seconds
/// let authority = Authority::generate(None, now)?;
/// let text = token::mint_with(&authority, &Claims::until(now + 3600));
/// JoinToken::parse(&text)?.check_ca(authority.certificate())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct JoinToken {
    ca_fingerprint: String,
    jwt: String,
}

impl JoinToken {
    /// # Errors
    /// [`TokenError`]: the text is not four parts between dots.
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
    ///
    /// # Errors
    /// [`TokenError`]: it names another CA.
    pub fn check_ca(&self, certificate: &[u8]) -> Result<(), TokenError> {
        let found = authority::fingerprint(certificate);
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
