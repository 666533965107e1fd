use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

use super::*;

const ISSUER: &str = "https://kubernetes.default.svc";
/// A key for these tests alone.
const RSA: &[u8] = include_bytes!("rsa.pk8");

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "sub": "system:serviceaccount:shop:web", "aud": [ISSUER], "exp": 1000, "nbf": 100,
        "kubernetes.io": { "namespace": "shop", "serviceaccount": { "name": "web", "uid": "u" },
            "pod": { "name": "web-1", "uid": "p" } } })
}

fn ec() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap()
}

fn signed_ec(key: &EcdsaKeyPair, header: &Value, claims: &Value) -> String {
    let text = format!("{}.{}", encoded(header), encoded(claims));
    let signature = key.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn jwks(key: &EcdsaKeyPair) -> String {
    let point = key.public_key().as_ref();
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
    let foreign = json!({ "kty": "OKP", "kid": "x" });
    let ours = json!({ "kty": "EC", "crv": "P-256", "kid": "k1", "x": x, "y": y });
    json!({ "issuer": ISSUER, "keys": [foreign, ours] }).to_string()
}

#[test]
fn a_token_of_the_clusters_key_says_who_it_is() {
    let key = ec();
    let keys = delivered(&jwks(&key)).unwrap();
    let token = signed_ec(&key, &json!({ "alg": "ES256", "kid": "k1" }), &claims());
    let read = verify(&token, &keys, &[], 500).unwrap();
    assert_eq!(
        (read.user(), read.bound.pod.as_ref().unwrap().uid.as_str()),
        ("system:serviceaccount:shop:web", "p")
    );
    assert_eq!(expiry(&token), Some(1000));
}

#[test]
fn forged_expired_and_misdirected_tokens_are_rejected_each_for_its_reason() {
    let key = ec();
    let keys = delivered(&jwks(&key)).unwrap();
    let header = json!({ "alg": "ES256", "kid": "k1" });
    let with = |field: &str, value: Value| {
        let mut claims = claims();
        claims[field] = value;
        claims
    };
    let reason = |token: &str, now: i64| verify(token, &keys, &["mine".to_owned()], now).unwrap_err();
    let good = signed_ec(&key, &header, &claims());
    assert_eq!(reason(&good, 1000), Rejection::Expired);
    assert_eq!(reason(&good, 30), Rejection::NotYet);
    assert_eq!(reason(&signed_ec(&ec(), &header, &claims()), 500), Rejection::Signature);
    let other = json!({ "alg": "ES256", "kid": "k2" });
    assert_eq!(reason(&signed_ec(&key, &other, &claims()), 500), Rejection::UnknownKey);
    let audience = with("aud", json!("https://vault"));
    assert_eq!(reason(&signed_ec(&key, &header, &audience), 500), Rejection::Audience);
    assert_eq!(reason(&signed_ec(&key, &header, &with("aud", json!([]))), 500), Rejection::Audience);
    let issuer = with("iss", json!("https://evil"));
    assert_eq!(reason(&signed_ec(&key, &header, &issuer), 500), Rejection::Issuer);
    let subject = with("sub", json!("system:serviceaccount:kube-system:admin"));
    assert_eq!(reason(&signed_ec(&key, &header, &subject), 500), Rejection::Malformed);
    for alg in ["none", "HS256", "RS256"] {
        let header = json!({ "alg": alg, "kid": "k1" });
        assert_eq!(reason(&signed_ec(&key, &header, &claims()), 500), Rejection::Signature);
    }
    let critical = json!({ "alg": "ES256", "kid": "k1", "crit": ["exp"] });
    assert_eq!(reason(&signed_ec(&key, &critical, &claims()), 500), Rejection::Malformed);
    let mut parts: Vec<&str> = good.split('.').collect();
    let forged = encoded(&with("sub", json!("system:serviceaccount:shop:admin")));
    parts[1] = &forged;
    assert_eq!(reason(&parts.join("."), 500), Rejection::Signature);
    for bad in ["", ".", "..", "a.b.c", "x".repeat(100_000).as_str()] {
        assert_eq!(reason(bad, 500), Rejection::Malformed);
    }
    assert!(
        verify(&signed_ec(&key, &header, &with("aud", json!(["mine"]))), &keys, &["mine".to_owned()], 500)
            .is_ok()
    );
}

#[test]
fn a_key_file_of_the_api_server_checks_rsa_tokens() {
    let key = RsaKeyPair::from_pkcs8(RSA).unwrap();
    let sign = |header: &Value, claims: &Value| {
        let text = format!("{}.{}", encoded(header), encoded(claims));
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let keys = of_pem(include_bytes!("rsa.pub.pem"), &[ISSUER.to_owned()]).unwrap();
    let token = sign(&json!({ "alg": "RS256", "kid": "whatever" }), &claims());
    assert!(verify(&token, &keys, &[], 500).is_ok());
    let public: RsaPublicKeyComponents<Vec<u8>> = key.public().into();
    let (n, e) = (URL_SAFE_NO_PAD.encode(&public.n), URL_SAFE_NO_PAD.encode(&public.e));
    let jwks = json!({ "issuer": ISSUER, "keys": [{ "kty": "RSA", "kid": "whatever", "n": n, "e": e }] });
    assert!(verify(&token, &delivered(&jwks.to_string()).unwrap(), &[], 500).is_ok());
    assert!(matches!(of_pem(b"nothing", &[]), Err(KeyFileError::Pem(_))));
}
