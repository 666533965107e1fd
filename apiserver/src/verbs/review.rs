//! Reviews: questions that are created and answered, never stored.

use apimachinery::path::ResourcePath;
use apimachinery::rbac::{Attributes, Rule, What};
use apimachinery::{Cause, Status, object};
use http::Method;
use kubeapi::registry::{Computed, REVIEWS};
use kubeapi::request;
use kubeapi::respond::{self, Answer, Form, Holds};
use kubeapi::user::User;
use serde_json::{Value, json};

use crate::authorise;
use crate::context::Context;
use crate::tokens;

/// The kind of review a path asks for.
pub(crate) fn kind(path: &ResourcePath) -> Option<&'static str> {
    let fits = |one: &&Computed| (one.group, one.plural) == (&*path.group, &*path.resource);
    REVIEWS.iter().find(fits).map(|one| one.kind)
}

pub(crate) async fn answer(
    context: &Context,
    (kind, namespace): (&str, &str),
    user: &User,
    parts: &http::request::Parts,
    body: kubeapi::request::Incoming,
) -> Result<Answer, Status> {
    if parts.method != Method::POST {
        return Err(Status::method_not_allowed());
    }
    let wanted = respond::negotiate(&parts.headers, Holds::One, true)?;
    if matches!(wanted.form, Form::Table(_)) {
        return Err(Status::no_such_form());
    }
    let bytes = request::body(&parts.headers, body).await?;
    let mut review: Value = request::parse(request::content_type(&parts.headers), &bytes)?;
    if !review.is_object() {
        return Err(Status::bad_request("the review is not a JSON object"));
    }
    review["kind"] = json!(kind);
    match kind {
        "TokenReview" => review = tokens::review(context, &review).await,
        "SelfSubjectAccessReview" => review["status"] = access(context, user, &review)?,
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            review["status"] = access(context, &reviewed(&review, kind, namespace)?, &review)?;
        }
        "SelfSubjectReview" => {
            review["status"] = json!({ "userInfo": {
                "username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra } });
        }
        _ => review["status"] = rules(context, user, object::text(&review, "/spec/namespace"))?,
    }
    Ok(respond::json(201, &review))
}

/// Whom a review asks about.
fn reviewed(review: &Value, kind: &str, namespace: &str) -> Result<User, Status> {
    let invalid = |cause| Status::invalid("authorization.k8s.io", kind, "", vec![cause]);
    let texts = |list: &[Value]| list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let user = User {
        name: object::text(review, "/spec/user").to_owned(),
        uid: object::text(review, "/spec/uid").to_owned(),
        groups: texts(object::list(review, "/spec/groups")),
        ..User::default()
    };
    if user.name.is_empty() && user.groups.is_empty() {
        let why = "at least one of user or group must be specified";
        return Err(invalid(Cause::required("spec.user", why)));
    }
    if kind == "LocalSubjectAccessReview"
        && object::text(review, "/spec/resourceAttributes/namespace") != namespace
    {
        let why = format!("must match metadata.namespace: {namespace}");
        let field = "spec.resourceAttributes.namespace";
        let found = &review["spec"]["resourceAttributes"]["namespace"];
        return Err(invalid(Cause::invalid(field, found, &why)));
    }
    Ok(user)
}

/// The answer to what a review asks.
fn access(context: &Context, user: &User, review: &Value) -> Result<Value, Status> {
    let text = |pointer: &str| object::text(review, pointer);
    let there = |field: &str| review["spec"][field].is_object();
    let asked = match (there("resourceAttributes"), there("nonResourceAttributes")) {
        (true, false) => {
            let field = |name: &str| text(&format!("/spec/resourceAttributes/{name}"));
            let what = What::Resource {
                group: field("group"),
                resource: field("resource"),
                subresource: field("subresource"),
                namespace: field("namespace"),
                name: field("name"),
            };
            Attributes { on_node: on_node(review), ..Attributes::new(field("verb"), what) }
        }
        (false, true) => {
            let path = text("/spec/nonResourceAttributes/path");
            Attributes::new(text("/spec/nonResourceAttributes/verb"), What::Path(path))
        }
        _ => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            let cause = Cause::invalid("spec.resourceAttributes", &Value::Null, why);
            return Err(Status::invalid("authorization.k8s.io", "SubjectAccessReview", "", vec![cause]));
        }
    };
    let (is_allowed, reason) = match authorise::decide(context, user, &asked) {
        Ok(reason) => (true, reason),
        Err(why) => (false, why),
    };
    let mut status = json!({ "allowed": is_allowed });
    if !reason.is_empty() {
        status["reason"] = json!(reason);
    }
    Ok(status)
}

/// The one node whose pods a review asks to list or watch.
fn on_node(review: &Value) -> &str {
    let selector = "/spec/resourceAttributes/fieldSelector";
    let pins = |one: &&Value| {
        one["key"] == "spec.nodeName" && one["operator"] == "In" && object::list(one, "/values").len() == 1
    };
    let required = object::list(review, &format!("{selector}/requirements")).iter().find(pins);
    required.map(|one| object::text(one, "/values/0")).unwrap_or_default()
}

/// What somebody may do in a namespace.
fn rules(context: &Context, user: &User, namespace: &str) -> Result<Value, Status> {
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let rules = context.roles.rules_of(user, namespace);
    let (paths, resources): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| !rule.paths.is_empty());
    let values = |rules: Vec<&Rule>| rules.into_iter().map(Rule::value).collect::<Value>();
    Ok(json!({
        "resourceRules": values(resources), "nonResourceRules": values(paths), "incomplete": false,
    }))
}
