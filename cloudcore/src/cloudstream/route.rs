//! What a request is about, by its path, as the kubelet serves it.

use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, Method, Uri};

/// What the caller must be allowed to do with `nodes`, as the kubelet asks (`pkg/kubelet/server/auth.go`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Access {
    pub verb: &'static str,
    pub subresource: &'static str,
}

pub(super) fn access(method: &Method, path: &str) -> Access {
    let verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    };
    let subresource = match path.split('/').nth(1).unwrap_or_default() {
        "stats" => "stats",
        "metrics" => "metrics",
        "logs" => "log",
        "checkpoint" => "checkpoint",
        _ => "proxy",
    };
    Access { verb, subresource }
}

/// Namespace and name of the pod a path is about.
pub(super) fn pod(path: &str) -> Option<(&str, &str)> {
    let mut parts = path.split('/').skip(1);
    match parts.next()? {
        "containerLogs" | "exec" | "attach" | "portForward" | "run" | "podTcp" | "podPorts" => {}
        _ => return None,
    }
    let (namespace, name) = (parts.next()?, parts.next()?);
    (!namespace.is_empty() && !name.is_empty()).then_some((namespace, name))
}

/// True where an HTTP server of a pod or of the node answers, so that all headers of the answer are its own.
pub(super) fn is_port(path: &str) -> bool {
    matches!(path.split('/').nth(1), Some("ports" | "podPorts"))
}

/// True if an API server proxies for another node than this.
pub(super) fn proxied_elsewhere(headers: &HeaderMap, node: &str) -> bool {
    proxied(headers).is_some_and(|name| bare(name) != Some(node))
}

/// The node that an API server says it proxies for.
fn proxied(headers: &HeaderMap) -> Option<&str> {
    let forwarded = headers.get("x-forwarded-uri").and_then(|value| value.to_str().ok());
    forwarded.and_then(|path| path.strip_prefix("/api/v1/nodes/"))?.split('/').next()
}

/// Names that lead to this server.
#[derive(Default)]
pub(super) struct Names {
    /// That by which API servers reach it, if nodes are told one: no node's.
    pub own: Option<Arc<str>>,
    /// In which every node has a name.
    pub domain: Option<Arc<str>>,
}

/// The node a request names: API servers say which one they proxy for, others ask under the node's own name.
pub(super) fn node(uri: &Uri, headers: &HeaderMap, names: &Names) -> Option<String> {
    if let Some(name) = proxied(headers) {
        return bare(name).map(str::to_owned);
    }
    let host = uri.host().or_else(|| headers.get(HOST)?.to_str().ok()).unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    if names.own.as_deref() == Some(host) {
        return None;
    }
    // Names of nodes may have dots.
    let in_domain = names.domain.as_deref().and_then(|domain| host.strip_suffix(domain)?.strip_suffix('.'));
    if let Some(name) = in_domain {
        return Some(name.to_owned()).filter(|name| !name.is_empty());
    }
    let is_address = host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
    let name = host.split('.').next().unwrap_or_default();
    (!is_address && !name.is_empty()).then(|| name.to_owned())
}

/// The node's own name: `NAME:PORT` and `SCHEME:NAME:PORT` are names of nodes too.
fn bare(name: &str) -> Option<&str> {
    match name.split(':').collect::<Vec<_>>()[..] {
        [name] | [name, _] | [_, name, _] => Some(name).filter(|name| !name.is_empty()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn rights_are_those_the_kubelet_asks_for() {
        for (method, path, verb, subresource) in [
            (Method::GET, "/metrics/resource", "get", "metrics"),
            (Method::GET, "/stats/summary", "get", "stats"),
            (Method::GET, "/logs/", "get", "log"),
            (Method::POST, "/exec/d/p/c", "create", "proxy"),
            (Method::GET, "/containerLogs/d/p/c", "get", "proxy"),
            (Method::GET, "/metricsx", "get", "proxy"),
            (Method::GET, "//metrics", "get", "proxy"),
            (Method::GET, "/ports/9100/metrics", "get", "proxy"),
            (Method::DELETE, "/ports/https:9100/stats", "delete", "proxy"),
            (Method::POST, "/podPorts/d/p/80/logs/", "create", "proxy"),
            (Method::GET, "/nodeTcp/9100", "get", "proxy"),
            (Method::GET, "/podTcp/d/p/80", "get", "proxy"),
        ] {
            assert_eq!(access(&method, path), Access { verb, subresource }, "{method} {path}");
        }
    }

    #[test]
    fn pods_are_named_by_the_path() {
        assert_eq!(pod("/exec/d/p/c"), Some(("d", "p")));
        assert_eq!(pod("/portForward/d/p"), Some(("d", "p")));
        assert_eq!(pod("/podTcp/d/p/80"), Some(("d", "p")));
        assert_eq!(pod("/podPorts/d/p/https:443/x"), Some(("d", "p")));
        assert_eq!(pod("/ports/9100/podPorts/d/p"), None);
        assert_eq!(pod("/containerLogs/d//c"), None);
        assert_eq!(pod("/exec/d"), None);
        assert_eq!(pod("/stats/d/p/c"), None);
    }

    #[test]
    fn pods_are_asked_at_their_own_node_where_a_node_is_named() {
        let elsewhere = |forwarded: &str| {
            let value = HeaderValue::from_str(forwarded).unwrap();
            proxied_elsewhere(&HeaderMap::from_iter([("x-forwarded-uri".parse().unwrap(), value)]), "edge-1")
        };
        assert!(!proxied_elsewhere(&HeaderMap::new(), "edge-1"));
        assert!(!elsewhere("/api/v1/namespaces/d/pods/p/exec"));
        assert!(!elsewhere("/api/v1/nodes/edge-1/proxy/exec/d/p/c"));
        assert!(!elsewhere("/api/v1/nodes/https:edge-1:10250/proxy/podPorts/d/p/80/"));
        assert!(elsewhere("/api/v1/nodes/edge-2/proxy/podPorts/d/p/80/"));
    }

    #[test]
    fn nodes_are_named_by_the_api_server_or_by_the_host() {
        let named = |forwarded: &str, host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_str(host).unwrap());
            if !forwarded.is_empty() {
                headers.insert("x-forwarded-uri", HeaderValue::from_str(forwarded).unwrap());
            }
            let names = Names { own: Some("cloud.example.com".into()), domain: Some("edges.example".into()) };
            node(&Uri::from_static("/stats/summary"), &headers, &names)
        };
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(named("/api/v1/nodes/edge-1/proxy/stats/summary", "10.0.0.1:10003"), name("edge-1"));
        assert_eq!(named("/api/v1/nodes/https:edge-1:10250/proxy/", "10.0.0.1"), name("edge-1"));
        assert_eq!(named("", "edge-2.edges.kubeedge.svc:10003"), name("edge-2"));
        assert_eq!(named("", "edge-2"), name("edge-2"));
        assert_eq!(named("", "store.7.edges.example:10003"), name("store.7"));
        for host in ["cloud.example.com:10003", "10.0.0.1:10003", "10.0.0.1", "[fd00::1]:10003", ":10003"] {
            assert_eq!(named("", host), None, "{host}");
        }
    }
}
