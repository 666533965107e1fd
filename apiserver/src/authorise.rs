//! May a user do what a request asks for: members of `system:masters` anything, others what roles give them.

use apimachinery::path::ResourcePath;
use apimachinery::rbac::{Attributes, What};
use apimachinery::{FieldSelector, RequestPath, Status};
use http::Method;

use crate::context::Context;
use crate::request::Query;
use crate::user::User;

/// True if anyone may ask for this path.
pub(crate) fn is_public(path: &str) -> bool {
    let root = path.split('/').nth(1).unwrap_or_default();
    matches!(root, "healthz" | "livez" | "readyz") || path == "/version"
}

/// 403 unless `user` may do this.
pub(crate) fn authorise(context: &Context, user: &User, asked: &Attributes<'_>) -> Result<(), Status> {
    match context.roles.decide(user, asked) {
        Some(_) => Ok(()),
        None => Err(asked.forbidden(&user.name)),
    }
}

/// 403 unless `user` may do what the request asks for. Verbs are those of `apiserver/pkg/endpoints/request/requestinfo.go`.
pub(crate) fn request(
    context: &Context,
    user: &User,
    method: &Method,
    path: &RequestPath,
    raw: &str,
    query: &Query,
) -> Result<(), Status> {
    let RequestPath::Resource(path) = path else {
        let verb = method.as_str().to_lowercase();
        return authorise(context, user, &Attributes { verb: &verb, what: What::Path(raw) });
    };
    let selected = selected(path, query);
    let what = What::Resource {
        group: &path.group,
        resource: &path.resource,
        subresource: &path.subresource,
        // A namespace is in itself: who administers it may read it.
        namespace: if is_namespace(path) { &path.name } else { &path.namespace },
        name: if path.name.is_empty() { &selected } else { &path.name },
    };
    authorise(context, user, &Attributes { verb: verb(method, path, query), what })?;
    match (method, connects(path)) {
        // Browsers upgrade by GET, which is no lesser thing than to post.
        (&Method::GET, true) => authorise(context, user, &Attributes { verb: "create", what }),
        _ => Ok(()),
    }
}

fn is_namespace(path: &ResourcePath) -> bool {
    path.group.is_empty() && path.resource == "namespaces"
}

fn connects(path: &ResourcePath) -> bool {
    path.group.is_empty()
        && path.resource == "pods"
        && matches!(path.subresource.as_str(), "exec" | "attach" | "portforward")
}

fn verb(method: &Method, path: &ResourcePath, query: &Query) -> &'static str {
    let collection = path.name.is_empty();
    match *method {
        Method::GET | Method::HEAD if collection && query.flag("watch") => "watch",
        Method::GET | Method::HEAD if collection => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if collection => "deletecollection",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The one object of a collection that is listed or watched; empty: all.
fn selected(path: &ResourcePath, query: &Query) -> String {
    if !path.name.is_empty() {
        return String::new();
    }
    let fields = FieldSelector::parse(query.get("fieldSelector")).unwrap_or_default();
    fields.pinned("metadata.name").unwrap_or_default().to_owned()
}
