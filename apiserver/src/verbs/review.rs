//! Reviews: questions that are created and answered, never stored.

use apimachinery::kinds::split_api_version;
use apimachinery::path::ResourcePath;
use apimachinery::{Status, object};
use http::Method;
use serde_json::{Value, json};

use crate::context::Context;
use crate::registry::builtin::REVIEWS;
use crate::respond::{self, Answer};
use crate::user::{MASTERS, User};
use crate::{request, tokens};

/// The kind of review a path asks for.
pub(crate) fn kind(path: &ResourcePath) -> Option<&'static str> {
    let fits = |(api_version, plural, _): &&(&str, &str, &str)| {
        split_api_version(api_version) == (path.group.as_str(), path.version.as_str())
            && *plural == path.resource
    };
    REVIEWS.iter().find(fits).map(|(.., kind)| *kind)
}

pub(crate) async fn answer(
    context: &Context,
    kind: &str,
    user: &User,
    parts: &http::request::Parts,
    body: hyper::body::Incoming,
) -> Result<Answer, Status> {
    if parts.method != Method::POST {
        return Err(Status::method_not_allowed(parts.method.as_str()));
    }
    let bytes = request::body(&parts.headers, body).await?;
    let mut review: Value = request::parse(request::content_type(&parts.headers), &bytes)?;
    if !review.is_object() {
        return Err(Status::bad_request("the review is not a JSON object"));
    }
    review["kind"] = json!(kind);
    let allowed = |allowed: bool| match allowed {
        true => json!({ "allowed": true, "reason": "member of system:masters" }),
        false => json!({ "allowed": false, "reason": "only system:masters have access" }),
    };
    match kind {
        "TokenReview" => review = tokens::review(context, &review).await,
        "SelfSubjectAccessReview" => review["status"] = allowed(user.is_master()),
        "SubjectAccessReview" => {
            review["status"] =
                allowed(object::list(&review, "/spec/groups").iter().any(|group| group == MASTERS));
        }
        "SelfSubjectReview" => {
            review["status"] = json!({ "userInfo": {
                "username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra } });
        }
        _ => {
            let every = json!([{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }]);
            let rules = if user.is_master() { every } else { json!([]) };
            review["status"] = json!({ "resourceRules": rules, "nonResourceRules": [], "incomplete": false });
        }
    }
    Ok(respond::json(201, &review))
}
