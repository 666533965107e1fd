//! Service-account tokens: JWTs (RFC 7519) with RS256 or ES256 (RFC 7518 3.3, 3.4), and the keys that they are checked
//! with, as JWKs (RFC 7517) or in PEM. Pure; what is checked is what kube-apiserver checks (`pkg/serviceaccount/jwt.go`,
//! `claims.go`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;

/// Larger ones are none.
const MAX_BYTES: usize = 16 * 1024;
/// Seconds by which a token may be from the future: clocks differ.
const SKEW: i64 = 60;

/// Why a token is not taken. The client learns only that it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("it is no token of a service account")]
    Malformed,
    #[error("the key that it names is not known")]
    UnknownKey,
    #[error("its signature is wrong")]
    Signature,
    #[error("its issuer is another")]
    Issuer,
    #[error("it is meant for another audience")]
    Audience,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYet,
}

/// One who signs.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// Empty: it has none, and is tried with every token.
    id: String,
    public: Public,
    /// Of the tokens that it signs.
    issuers: Vec<String>,
}

#[derive(Clone, Debug)]
enum Public {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// PKCS#1.
    RsaDer(Vec<u8>),
    /// The point, uncompressed.
    P256(Vec<u8>),
}

#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("there is no PUBLIC KEY in it")]
    Pem(#[source] rustls_pki_types::pem::Error),
    #[error("it holds a key that is neither RSA nor P-256")]
    Kind,
}

/// What the relay answers about keys.
#[derive(Deserialize)]
struct Delivered {
    issuer: String,
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Jwk {
    kty: String,
    kid: String,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

impl Jwk {
    fn public(&self) -> Option<Public> {
        let read = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
        match (self.kty.as_str(), self.crv.as_str()) {
            ("RSA", _) => Some(Public::Rsa { n: read(&self.n)?, e: read(&self.e)? }),
            ("EC", "P-256") => {
                let (x, y) = (read(&self.x)?, read(&self.y)?);
                let fits = x.len() == 32 && y.len() == 32;
                fits.then(|| Public::P256([vec![4], x, y].concat()))
            }
            _ => None,
        }
    }
}

/// The keys in what the relay answers; those of a kind that is not known are left out. `None`: it is no such answer.
pub(crate) fn delivered(text: &str) -> Option<Vec<Key>> {
    let Delivered { issuer, keys } = serde_json::from_str(text).ok()?;
    let key = |jwk: Jwk| {
        let public = jwk.public()?;
        Some(Key { id: jwk.kid, public, issuers: vec![issuer.clone()] })
    };
    Some(keys.into_iter().filter_map(key).collect())
}

/// The keys of a PEM file.
pub(crate) fn of_pem(pem: &[u8], issuers: &[String]) -> Result<Vec<Key>, KeyFileError> {
    let found = SubjectPublicKeyInfoDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(KeyFileError::Pem)?;
    if found.is_empty() {
        return Err(KeyFileError::Pem(rustls_pki_types::pem::Error::NoItemsFound));
    }
    let key = |der: SubjectPublicKeyInfoDer<'_>| {
        let public = of_spki(&der).ok_or(KeyFileError::Kind)?;
        Ok(Key { id: String::new(), public, issuers: issuers.to_vec() })
    };
    found.into_iter().map(key).collect()
}

/// `SEQUENCE { SEQUENCE { OID, ... }, BIT STRING }`
fn of_spki(der: &[u8]) -> Option<Public> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let (info, _) = value(der, 0x30)?;
    let (algorithm, rest) = value(info, 0x30)?;
    let (bits, _) = value(rest, 0x03)?;
    let (0, key) = bits.split_first().map(|(unused, key)| (*unused, key))? else { return None };
    let (kind, parameters) = value(algorithm, 0x06)?;
    if kind == RSA {
        return Some(Public::RsaDer(key.to_vec()));
    }
    let (curve, _) = value(parameters, 0x06)?;
    (curve == P256 && key.len() == 65).then(|| Public::P256(key.to_vec()))
}

/// The content of a DER value of this tag, and what follows it.
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    /// What must be understood, and is not.
    crit: Option<serde_json::Value>,
}

/// What a token says.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    sub: String,
    #[serde(default)]
    aud: Audience,
    exp: i64,
    #[serde(default)]
    nbf: Option<i64>,
    #[serde(rename = "kubernetes.io")]
    pub bound: Bound,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(untagged)]
enum Audience {
    #[default]
    Nobody,
    One(String),
    Several(Vec<String>),
}

/// What a token is bound to.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Bound {
    pub namespace: String,
    #[serde(rename = "serviceaccount")]
    pub account: Reference,
    pub pod: Option<Reference>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Reference {
    pub name: String,
    #[serde(default)]
    pub uid: String,
}

impl Claims {
    /// `system:serviceaccount:NAMESPACE:NAME`
    pub(crate) fn user(&self) -> &str {
        &self.sub
    }
}

fn part<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Rejection> {
    serde_json::from_slice(bytes).map_err(|_| Rejection::Malformed)
}

fn decoded(text: &str) -> Result<Vec<u8>, Rejection> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Rejection::Malformed)
}

/// When a token that was checked expires, in Unix seconds.
pub(crate) fn expiry(token: &str) -> Option<i64> {
    #[derive(Deserialize)]
    struct Expiry {
        exp: i64,
    }
    let claims = decoded(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Expiry>(&claims).ok().map(|claims| claims.exp)
}

/// What `token` says, if one of `keys` signed it for one of `audiences` (or for the issuer itself, which is the API
/// server's own audience) and it is valid `now` (Unix seconds).
pub(crate) fn verify(token: &str, keys: &[Key], audiences: &[String], now: i64) -> Result<Claims, Rejection> {
    let (text, signature) =
        token.rsplit_once('.').filter(|_| token.len() <= MAX_BYTES).ok_or(Rejection::Malformed)?;
    let (header, claims) = text.split_once('.').ok_or(Rejection::Malformed)?;
    let (header, claims, signature) = (decoded(header)?, decoded(claims)?, decoded(signature)?);
    let Header { alg, kid, crit } = part(&header)?;
    if crit.is_some() {
        return Err(Rejection::Malformed);
    }
    let meant = |key: &&Key| key.id.is_empty() || kid.is_empty() || key.id == kid;
    let mut candidates = keys.iter().filter(meant).peekable();
    if candidates.peek().is_none() {
        return Err(Rejection::UnknownKey);
    }
    let signer = candidates.find(|key| key.public.signed(&alg, text.as_bytes(), &signature));
    let signer = signer.ok_or(Rejection::Signature)?;
    let claims: Claims = part(&claims)?;
    if !signer.issuers.contains(&claims.iss) {
        return Err(Rejection::Issuer);
    }
    let is_ours = |audience: &String| audiences.contains(audience) || *audience == claims.iss;
    let is_meant = match &claims.aud {
        Audience::Nobody => false,
        Audience::One(one) => is_ours(one),
        Audience::Several(several) => several.iter().any(is_ours),
    };
    if !is_meant {
        return Err(Rejection::Audience);
    }
    if claims.exp <= now {
        return Err(Rejection::Expired);
    }
    if claims.nbf.is_some_and(|begins| begins > now + SKEW) {
        return Err(Rejection::NotYet);
    }
    let Bound { namespace, account, .. } = &claims.bound;
    let named = format!("system:serviceaccount:{namespace}:{}", account.name);
    if claims.sub != named || namespace.is_empty() || account.name.is_empty() {
        return Err(Rejection::Malformed);
    }
    Ok(claims)
}

impl Public {
    fn signed(&self, algorithm: &str, text: &[u8], signature: &[u8]) -> bool {
        let checked = match (algorithm, self) {
            ("RS256", Public::Rsa { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, text, signature)
            }
            ("RS256", Public::RsaDer(key)) => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(text, signature)
            }
            ("ES256", Public::P256(point)) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(text, signature)
            }
            _ => return false,
        };
        checked.is_ok()
    }
}

#[cfg(test)]
mod tests;
