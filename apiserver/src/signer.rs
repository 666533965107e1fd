//! Signs and opens service-account tokens: JWTs with ES256 under a key of our own, or RS256 or ES256 under a given one. Anyone can
//! check them by the published key (RFC 7517).

use apimachinery::object::{integer, text};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use ring::{digest, hmac};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

/// Who issues tokens here, and the audience of those that are for this API.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";
/// Larger ones are not ours.
const MAX_BYTES: usize = 8 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it holds no RSA key of at least 2048 bits and no P-256 key in PKCS#8, as PEM")]
pub struct NotAKey;

enum Pair {
    Ec(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

pub(crate) struct Signer {
    pair: Pair,
    id: String,
    random: SystemRandom,
    /// The secret that earlier versions of this program signed with: their tokens are good until they expire.
    earlier: Option<hmac::Key>,
}

/// A new key of our own, as PEM; `None`: the system gives no random numbers.
pub(crate) fn generate() -> Option<String> {
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).ok()?;
    let text = base64::engine::general_purpose::STANDARD.encode(made.as_ref());
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    Some(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")))
}

impl Signer {
    pub(crate) fn new(pem: &[u8], earlier: Option<&[u8]>) -> Result<Signer, NotAKey> {
        let random = SystemRandom::new();
        let pair = match PrivateKeyDer::from_pem_slice(pem).map_err(|_| NotAKey)? {
            PrivateKeyDer::Pkcs8(key) => {
                let key = key.secret_pkcs8_der();
                match RsaKeyPair::from_pkcs8(key) {
                    Ok(pair) => Pair::Rsa(Box::new(pair)),
                    Err(_) => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &random)
                        .map(|pair| Pair::Ec(Box::new(pair)))
                        .map_err(|_| NotAKey)?,
                }
            }
            PrivateKeyDer::Pkcs1(key) => {
                Pair::Rsa(Box::new(RsaKeyPair::from_der(key.secret_pkcs1_der()).map_err(|_| NotAKey)?))
            }
            _ => return Err(NotAKey),
        };
        let id = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, pair.public()));
        let earlier = earlier.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret));
        Ok(Signer { pair, id, random, earlier })
    }

    /// `None`: the system gives no random numbers.
    pub(crate) fn sign(&self, claims: &Value) -> Option<String> {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = json!({ "alg": self.algorithm(), "kid": self.id });
        let text = format!("{}.{}", encode(&head), encode(claims));
        let tag = match &self.pair {
            Pair::Ec(pair) => pair.sign(&self.random, text.as_bytes()).ok()?.as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut tag = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, text.as_bytes(), &mut tag).ok()?;
                tag
            }
        };
        Some(format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag)))
    }

    /// The claims of a token that this server signed and that has not expired.
    pub(crate) fn open(&self, token: &str, now: i64) -> Option<Value> {
        let (said, tag) = token.rsplit_once('.').filter(|_| token.len() <= MAX_BYTES)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        let read = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        let (head, claims) = said.split_once('.')?;
        match (text(&read(head)?, "/alg"), &self.earlier) {
            ("HS256", Some(secret)) => hmac::verify(secret, said.as_bytes(), &tag).ok()?,
            (alg, _) if alg == self.algorithm() => {
                UnparsedPublicKey::new(self.pair.verification(), self.pair.public())
                    .verify(said.as_bytes(), &tag)
                    .ok()?;
            }
            _ => return None,
        }
        let claims = read(claims)?;
        (integer(&claims, "/exp")? > now && text(&claims, "/iss") == ISSUER).then_some(claims)
    }

    /// As JWTs name it.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Ec(_) => "ES256",
            Pair::Rsa(_) => "RS256",
        }
    }

    /// The public key as a JWK set.
    pub(crate) fn keys(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut key = json!({ "use": "sig", "kid": self.id, "alg": self.algorithm() });
        match &self.pair {
            Pair::Ec(pair) => {
                // An uncompressed point: 4, x, y.
                let (x, y) = pair.public_key().as_ref().get(1..).unwrap_or_default().split_at(32);
                key["kty"] = json!("EC");
                key["crv"] = json!("P-256");
                key["x"] = json!(encode(x));
                key["y"] = json!(encode(y));
            }
            Pair::Rsa(pair) => {
                let parts = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
                key["kty"] = json!("RSA");
                key["n"] = json!(encode(&parts.n));
                key["e"] = json!(encode(&parts.e));
            }
        }
        json!({ "keys": [key] })
    }
}

impl Pair {
    fn public(&self) -> &[u8] {
        match self {
            Pair::Ec(pair) => pair.public_key().as_ref(),
            Pair::Rsa(pair) => pair.public().as_ref(),
        }
    }

    fn verification(&self) -> &'static dyn VerificationAlgorithm {
        match self {
            Pair::Ec(_) => &ECDSA_P256_SHA256_FIXED,
            Pair::Rsa(_) => &RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        Signer::new(generate().unwrap().as_bytes(), None).unwrap()
    }

    #[test]
    fn foreign_expired_and_broken_tokens_do_not_open() {
        let signer = signer();
        let token = signer.sign(&json!({ "iss": ISSUER, "exp": 100 })).unwrap();
        assert!(signer.open(&token, 99).is_some());
        assert!(signer.open(&token, 100).is_none());
        assert!(super::tests::signer().open(&token, 99).is_none());
        for bad in ["", ".", "a.b.c", &format!("{token}x"), &"x".repeat(100_000)] {
            assert!(signer.open(bad, 99).is_none());
        }
        let other = signer.sign(&json!({ "iss": "https://elsewhere", "exp": 100 })).unwrap();
        assert!(signer.open(&other, 99).is_none());
    }

    #[test]
    fn the_algorithm_is_the_keys_and_not_the_tokens_to_choose() {
        let signer = signer();
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = encode(json!({ "iss": ISSUER, "exp": 100 }));
        // Signed with the public key as if it were a secret, and not at all.
        let text = format!("{}.{claims}", encode(json!({ "alg": "HS256" })));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, signer.pair.public()), text.as_bytes());
        assert!(signer.open(&format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag)), 99).is_none());
        assert!(signer.open(&format!("{}.{claims}.", encode(json!({ "alg": "none" }))), 99).is_none());
    }

    #[test]
    fn tokens_of_earlier_versions_are_good_until_they_expire() {
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!(
            "{}.{}",
            encode(json!({ "alg": "HS256", "typ": "JWT" })),
            encode(json!({ "iss": ISSUER, "exp": 100 }))
        );
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"secret"), text.as_bytes());
        let token = format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag));
        let pem = generate().unwrap();
        let with = |secret: Option<&[u8]>| Signer::new(pem.as_bytes(), secret).unwrap();
        assert!(with(Some(b"secret")).open(&token, 99).is_some());
        assert!(with(Some(b"secret")).open(&token, 100).is_none());
        assert!(with(Some(b"other")).open(&token, 99).is_none());
        assert!(with(None).open(&token, 99).is_none());
    }

    #[test]
    fn whoever_has_the_published_key_can_check_a_token() {
        let signer = signer();
        let token = signer.sign(&json!({ "iss": ISSUER, "exp": 100 })).unwrap();
        let keys = signer.keys();
        let part = |name: &str| URL_SAFE_NO_PAD.decode(text(&keys, &format!("/keys/0/{name}"))).unwrap();
        let point = [vec![4], part("x"), part("y")].concat();
        let (said, tag) = token.rsplit_once('.').unwrap();
        let checked = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(said.as_bytes(), &URL_SAFE_NO_PAD.decode(tag).unwrap());
        assert!(checked.is_ok());
        let head = URL_SAFE_NO_PAD.decode(said.split_once('.').unwrap().0).unwrap();
        let head: Value = serde_json::from_slice(&head).unwrap();
        assert_eq!(head, json!({ "alg": "ES256", "kid": keys["keys"][0]["kid"] }));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert_eq!(Signer::new(text.as_bytes(), None).err(), Some(NotAKey));
        }
    }
}
