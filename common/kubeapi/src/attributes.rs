//! What a request asks for, as authorisation sees it.

use apimachinery::listing::Asked as _;
use apimachinery::path::ResourcePath;
use apimachinery::rbac::{Attributes, What};
use apimachinery::{FieldSelector, RequestPath};
use http::Method;

use crate::request::Query;

/// True if anyone may ask for this path.
pub(crate) fn is_public(path: &str) -> bool {
    let root = path.split('/').nth(1).unwrap_or_default();
    matches!(root, "healthz" | "livez" | "readyz") || path == "/version"
}

/// A request's verb, and what it is on. Verbs are those of `apiserver/pkg/endpoints/request/requestinfo.go`.
pub(crate) struct Action {
    verb: String,
    /// As in the request.
    raw: String,
    /// `None`: of no API group.
    path: Option<ResourcePath>,
    /// The one object of a collection that is listed or watched; empty: all.
    selected: String,
    /// The one node whose pods are listed or watched; empty: those of all.
    on_node: String,
    upgrades: bool,
}

impl Action {
    pub(crate) fn of(method: &Method, path: &RequestPath, raw: &str, query: &Query) -> Action {
        let RequestPath::Resource(path) = path else {
            let verb = method.as_str().to_lowercase();
            return Action {
                verb,
                raw: raw.to_owned(),
                path: None,
                selected: String::new(),
                on_node: String::new(),
                upgrades: false,
            };
        };
        Action {
            verb: verb(method, path, query).to_owned(),
            raw: raw.to_owned(),
            selected: selected(path, query, "metadata.name"),
            on_node: selected(path, query, "spec.nodeName"),
            upgrades: *method == Method::GET && connects(path),
            path: Some(path.clone()),
        }
    }

    pub(crate) fn attributes(&self) -> Attributes<'_> {
        Attributes { on_node: &self.on_node, ..Attributes::new(&self.verb, self.what()) }
    }

    /// What else is to be allowed: browsers upgrade by GET, which is no lesser thing than to post.
    pub(crate) fn more(&self) -> Option<Attributes<'_>> {
        self.upgrades.then(|| Attributes::new("create", self.what()))
    }

    /// Empty for what is of no API group.
    pub(crate) fn version(&self) -> &str {
        self.path.as_ref().map_or("", |path| &path.version)
    }

    /// True if a request of this kind may last: a watch, logs, what is connected to. As kube-apiserver's
    /// `LongRunningRequestCheck` (`pkg/controlplane/apiserver/config.go`).
    pub(crate) fn lasts(&self) -> bool {
        let subresource = self.path.as_ref().map_or("", |path| &path.subresource);
        self.verb == "watch" || matches!(subresource, "attach" | "exec" | "log" | "portforward" | "proxy")
    }

    /// The verb in metrics (`apiserver/pkg/endpoints/metrics/metrics.go`, `cleanVerb`): as kube-apiserver counts requests, and
    /// `other` for what clients make up.
    pub(crate) fn told(&self) -> &'static str {
        let subresource = self.path.as_ref().map_or("", |path| &path.subresource);
        let connects = matches!(subresource, "attach" | "exec" | "portforward" | "proxy");
        match self.verb.as_str() {
            _ if connects => "CONNECT",
            "get" => "GET",
            "list" => "LIST",
            "watch" => "WATCH",
            "create" | "post" => "POST",
            "update" | "put" => "PUT",
            "patch" => "PATCH",
            "delete" => "DELETE",
            "deletecollection" => "DELETECOLLECTION",
            _ => "other",
        }
    }

    /// False for what only reads.
    pub(crate) fn changes(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }

    fn what(&self) -> What<'_> {
        let Some(path) = &self.path else { return What::Path(&self.raw) };
        What::Resource {
            group: &path.group,
            resource: &path.resource,
            subresource: &path.subresource,
            // A namespace is in itself: who administers it may read it.
            namespace: if is_namespace(path) { &path.name } else { &path.namespace },
            name: if path.name.is_empty() { &self.selected } else { &path.name },
        }
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
        Method::GET | Method::HEAD if path.watch || (collection && query.flag("watch")) => "watch",
        Method::GET | Method::HEAD if collection => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if collection => "deletecollection",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The one value that `field` of what is listed or watched must have; empty: any.
fn selected(path: &ResourcePath, query: &Query, field: &str) -> String {
    if !path.name.is_empty() {
        return String::new();
    }
    let fields = FieldSelector::parse(query.get("fieldSelector")).unwrap_or_default();
    fields.pinned(field).unwrap_or_default().to_owned()
}
