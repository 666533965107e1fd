//! Service-account tokens: JWTs signed under a key that never leaves its file ([`crate::signer`]).

use apimachinery::Status;
use apimachinery::object::{integer, list, text, uid};
use daemon::clock;
use kubeapi::stored::Key;
use kubeapi::user::{AUTHENTICATED, User, service_account_groups};
use serde_json::{Value, json};

use crate::context::Context;
use crate::signer::ISSUER;

const SHORTEST: i64 = 600;
const LONGEST: i64 = 365 * 86_400;

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
    let mut groups = service_account_groups(namespace).to_vec();
    groups.push(AUTHENTICATED.to_owned());
    let user = User {
        name: text(&claims, "/sub").to_owned(),
        uid: text(bound, "/serviceaccount/uid").to_owned(),
        groups,
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
    let token = context.signer.sign(&claims);
    let token = token.ok_or_else(|| Status::internal("the system gives no random numbers to sign with"))?;
    answer["status"] = json!({ "token": token, "expirationTimestamp": clock::rfc3339(expires) });
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
        Err(_) => json!({ "user": {}, "error": not_meant(context, request, &wanted)
            .unwrap_or_else(|| "invalid bearer token".to_owned()) }),
    };
    let mut answer = request.clone();
    answer["status"] = status;
    answer
}

/// What is said of a token that is right, but before others than these.
fn not_meant(context: &Context, request: &Value, wanted: &[&str]) -> Option<String> {
    let claims = context.signer.open(text(request, "/spec/token"), clock::unix_seconds())?;
    let meant = list(&claims, "/aud");
    let is_meant = meant.iter().any(|own| wanted.iter().any(|wanted| own == wanted));
    let (meant, wanted) = (json!(meant), json!(wanted));
    let said = "is invalid for the target audiences";
    (!is_meant).then(|| format!("[invalid bearer token, token audiences {meant} {said} {wanted}]"))
}
