//! Signs and opens JWTs with HS256.

use apimachinery::object::{integer, text};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

/// Who issues tokens here, and the audience of those that are for this API.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";
/// Larger ones are not ours.
const MAX_BYTES: usize = 8 * 1024;

pub(crate) struct Signer(hmac::Key);

impl Signer {
    pub(crate) fn new(secret: &[u8]) -> Signer {
        Signer(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", encode(&json!({ "alg": "HS256", "typ": "JWT" })), encode(claims));
        let tag = hmac::sign(&self.0, text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }

    /// The claims of a token that this server signed and that has not expired.
    pub(crate) fn open(&self, token: &str, now: i64) -> Option<Value> {
        let (text, tag) = token.rsplit_once('.').filter(|_| token.len() <= MAX_BYTES)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        hmac::verify(&self.0, text.as_bytes(), &tag).ok()?;
        let claims = URL_SAFE_NO_PAD.decode(text.split_once('.')?.1).ok()?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        (integer(&claims, "/exp")? > now && text_is(&claims, "/iss", ISSUER)).then_some(claims)
    }
}

fn text_is(value: &Value, pointer: &str, wanted: &str) -> bool {
    text(value, pointer) == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_expired_and_broken_tokens_do_not_open() {
        let signer = Signer::new(b"one");
        let token = signer.sign(&json!({ "iss": ISSUER, "exp": 100 }));
        assert!(signer.open(&token, 99).is_some());
        assert!(signer.open(&token, 100).is_none());
        assert!(Signer::new(b"two").open(&token, 99).is_none());
        for bad in ["", ".", "a.b.c", &format!("{token}x"), &"x".repeat(100_000)] {
            assert!(signer.open(bad, 99).is_none());
        }
    }
}
