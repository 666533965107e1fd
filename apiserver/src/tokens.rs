//! Service-account tokens: JWTs signed with HS256 under a key that never leaves `pki/`.

use apimachinery::Status;
use apimachinery::object::{integer, list, text, uid};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use daemon::clock;
use ring::hmac;
use serde_json::{Value, json};

use crate::auth::User;
use crate::context::Context;
use crate::storage::Key;

/// Who issues tokens here, and the audience of those that are for this API.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";
/// Larger ones are not ours.
const MAX_BYTES: usize = 8 * 1024;
const SHORTEST: i64 = 600;
const LONGEST: i64 = 365 * 86_400;

pub(crate) struct Signer(hmac::Key);

impl Signer {
    pub(crate) fn new(secret: &[u8]) -> Signer {
        Signer(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    fn sign(&self, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", encode(&json!({ "alg": "HS256", "typ": "JWT" })), encode(claims));
        let tag = hmac::sign(&self.0, text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }

    /// The claims of a token that this server signed and that has not expired.
    fn open(&self, token: &str, now: i64) -> Option<Value> {
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

/// Whom a token stands for, and before whom.
pub(crate) struct Verified {
    pub user: User,
    /// Those of the audiences asked for that it is meant for; at least one.
    audiences: Vec<String>,
}

/// What a bearer token says before one of `audiences`. The service account, and the pod the token is bound to, must still
/// exist.
pub(crate) async fn verify(context: &Context, token: &str, audiences: &[&str]) -> Result<Verified, Status> {
    let claims = context.signer.open(token, clock::unix_seconds()).ok_or_else(Status::unauthorized)?;
    let meant = |audience: &&&str| list(&claims, "/aud").iter().any(|own| own.as_str() == Some(**audience));
    let audiences: Vec<String> =
        audiences.iter().filter(meant).map(|audience| (*audience).to_owned()).collect();
    if audiences.is_empty() {
        return Err(Status::unauthorized());
    }
    let bound = &claims["kubernetes.io"];
    let namespace = text(bound, "/namespace");
    for (resource, at) in [("serviceaccounts", "serviceaccount"), ("pods", "pod"), ("secrets", "secret")] {
        let Some(reference) = bound.get(at) else { continue };
        let key = Key::new(resource, namespace, text(reference, "/name"));
        let found = context.storage.get(&key).await?.ok_or_else(Status::unauthorized)?.value()?;
        if uid(&found) != text(reference, "/uid") {
            return Err(Status::unauthorized());
        }
    }
    let groups =
        ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}"), "system:authenticated"];
    let user = User {
        name: text(&claims, "/sub").to_owned(),
        uid: text(bound, "/serviceaccount/uid").to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        ..User::default()
    };
    Ok(Verified { user, audiences })
}

/// Answers a TokenRequest for the service account `account`.
pub(crate) async fn issue(context: &Context, account: &Value, request: &Value) -> Result<Value, Status> {
    let (namespace, name) = (text(account, "/metadata/namespace"), text(account, "/metadata/name"));
    let wanted = integer(request, "/spec/expirationSeconds").unwrap_or(3600);
    if wanted < SHORTEST {
        let cause = apimachinery::Cause::invalid(
            "spec.expirationSeconds",
            &json!(wanted),
            "may not specify a duration less than 10 minutes",
        );
        return Err(Status::invalid("authentication.k8s.io", "TokenRequest", name, vec![cause]));
    }
    let audiences = match list(request, "/spec/audiences") {
        [] => vec![json!(ISSUER)],
        given => given.to_vec(),
    };
    let (now, seconds) = (clock::unix_seconds(), wanted.min(LONGEST));
    let mut bound =
        json!({ "namespace": namespace, "serviceaccount": { "name": name, "uid": uid(account) } });
    if let Some(reference) = request.pointer("/spec/boundObjectRef").filter(|reference| reference.is_object())
    {
        let (field, object) = bound_object(context, namespace, reference).await?;
        bound[field] = object;
    }
    let claims = json!({
        "iss": ISSUER, "sub": format!("system:serviceaccount:{namespace}:{name}"), "aud": audiences,
        "exp": now + seconds, "iat": now, "nbf": now, "jti": uuid::Uuid::new_v4().to_string(), "kubernetes.io": bound,
    });
    let expires = jiff::Timestamp::from_second(now + seconds).unwrap_or_else(|_| clock::now());
    let mut answer = request.clone();
    answer["kind"] = json!("TokenRequest");
    answer["apiVersion"] = json!("authentication.k8s.io/v1");
    answer["metadata"] =
        json!({ "name": name, "namespace": namespace, "creationTimestamp": clock::rfc3339(clock::now()) });
    answer["spec"] = json!({
        "audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": request.pointer("/spec/boundObjectRef"),
    });
    answer["status"] =
        json!({ "token": context.signer.sign(&claims), "expirationTimestamp": clock::rfc3339(expires) });
    Ok(answer)
}

async fn bound_object(
    context: &Context,
    namespace: &str,
    reference: &Value,
) -> Result<(&'static str, Value), Status> {
    let (resource, field) = match text(reference, "/kind") {
        "Pod" => ("pods", "pod"),
        "Secret" => ("secrets", "secret"),
        other => return Err(Status::bad_request(format!("cannot bind token for object of type {other}"))),
    };
    let name = text(reference, "/name");
    let found = context.storage.get(&Key::new(resource, namespace, name)).await?;
    let found = found.ok_or_else(|| Status::not_found("", resource, name))?.value()?;
    let wanted = text(reference, "/uid");
    if !wanted.is_empty() && wanted != uid(&found) {
        return Err(Status::conflict(
            "",
            resource,
            name,
            "the UID in the bound object reference does not match",
        ));
    }
    Ok((field, json!({ "name": name, "uid": uid(&found) })))
}

/// Answers a TokenReview.
pub(crate) async fn review(context: &Context, request: &Value) -> Value {
    let wanted: Vec<&str> = list(request, "/spec/audiences").iter().filter_map(Value::as_str).collect();
    let wanted = if wanted.is_empty() { vec![ISSUER] } else { wanted };
    let status = match verify(context, text(request, "/spec/token"), &wanted).await {
        Ok(Verified { user, audiences }) => json!({ "authenticated": true, "audiences": audiences,
            "user": { "username": user.name, "uid": user.uid, "groups": user.groups } }),
        Err(_) => json!({ "authenticated": false, "user": {}, "error": "invalid bearer token" }),
    };
    let mut answer = request.clone();
    answer["status"] = status;
    answer
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
