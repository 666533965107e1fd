//! Which path means what (docs/protocol/edge-runtime.md 7.1). Pure.

use http::{Method, StatusCode};

/// A pod by name; with a uid, only that one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PodName {
    pub namespace: String,
    pub name: String,
    pub uid: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    All,
    /// Everything that is waited for at the start is there.
    Ready,
    Ping,
    Log,
    SyncLoop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metrics {
    Process,
    Resource,
    Cadvisor,
}

/// Whose port is meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PortOf {
    Node,
    Pod(PodName),
}

/// A request for an HTTP server: `[http:|https:]PORT/PATH` behind the name of whose port it is. Ours, the kubelet has none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Backend {
    pub of: PortOf,
    pub port: u16,
    pub is_tls: bool,
    /// As it was written, with its slash.
    pub path: String,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    Health(Health),
    Pods,
    RunningPods,
    Logs {
        pod: PodName,
        container: String,
    },
    Exec {
        pod: PodName,
        container: String,
    },
    Attach {
        pod: PodName,
        container: String,
    },
    PortForward {
        pod: PodName,
    },
    Tcp {
        of: PortOf,
        port: u16,
    },
    /// Any method: it is the server's.
    Http(Backend),
    Run {
        pod: PodName,
        container: String,
    },
    Summary,
    Metrics(Metrics),
}

/// The route, or the status that says there is none.
pub(super) fn route(method: &Method, path: &str) -> Result<Route, StatusCode> {
    if let Some(backend) = backend(path) {
        return backend.map(Route::Http).ok_or(StatusCode::NOT_FOUND);
    }
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let route = find(&parts).ok_or(StatusCode::NOT_FOUND)?;
    let is_allowed = match route {
        Route::Exec { .. } | Route::Attach { .. } | Route::PortForward { .. } => {
            matches!(*method, Method::GET | Method::POST)
        }
        Route::Run { .. } => *method == Method::POST,
        _ => *method == Method::GET,
    };
    if is_allowed { Ok(route) } else { Err(StatusCode::METHOD_NOT_ALLOWED) }
}

/// `None`: the path is not about an HTTP server; `Some(None)`: it is, and names none.
fn backend(path: &str) -> Option<Option<Backend>> {
    if let Some(rest) = path.strip_prefix("/ports/") {
        return Some(server(PortOf::Node, rest));
    }
    let rest = path.strip_prefix("/podPorts/")?;
    let mut parts = rest.splitn(3, '/');
    let (namespace, name, rest) = (parts.next()?, parts.next().unwrap_or_default(), parts.next());
    let named = rest.filter(|_| !namespace.is_empty() && !name.is_empty());
    Some(named.and_then(|rest| server(PortOf::Pod(pod(namespace, name, None)), rest)))
}

fn server(of: PortOf, rest: &str) -> Option<Backend> {
    let (named, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (is_tls, port_text) = match named.split_once(':') {
        Some(("https", port)) => (true, port),
        Some(("http", port)) => (false, port),
        Some(_) => return None,
        None => (false, named),
    };
    Some(Backend { of, port: port(port_text)?, is_tls, path: format!("/{path}") })
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

fn find(parts: &[&str]) -> Option<Route> {
    if parts.get(1..).is_some_and(|rest| rest.iter().any(|part| part.is_empty())) {
        return None;
    }
    Some(match parts {
        ["healthz"] | ["livez"] => Route::Health(Health::All),
        ["readyz"] => Route::Health(Health::Ready),
        ["healthz", "ping"] => Route::Health(Health::Ping),
        ["healthz", "log"] => Route::Health(Health::Log),
        ["healthz", "syncloop"] => Route::Health(Health::SyncLoop),
        ["pods"] => Route::Pods,
        ["runningpods"] => Route::RunningPods,
        ["containerLogs", namespace, name, container] => {
            Route::Logs { pod: pod(namespace, name, None), container: (*container).to_owned() }
        }
        ["stats", "summary"] => Route::Summary,
        ["metrics"] => Route::Metrics(Metrics::Process),
        ["metrics", "resource"] => Route::Metrics(Metrics::Resource),
        ["metrics", "cadvisor"] => Route::Metrics(Metrics::Cadvisor),
        ["portForward", namespace, name] => Route::PortForward { pod: pod(namespace, name, None) },
        ["portForward", namespace, name, uid] => Route::PortForward { pod: pod(namespace, name, Some(uid)) },
        ["podTcp", namespace, name, number] => {
            Route::Tcp { of: PortOf::Pod(pod(namespace, name, None)), port: port(number)? }
        }
        ["nodeTcp", number] => Route::Tcp { of: PortOf::Node, port: port(number)? },
        [verb, namespace, name, container] => {
            in_container(verb, pod(namespace, name, None), (*container).to_owned())?
        }
        [verb, namespace, name, uid, container] => {
            in_container(verb, pod(namespace, name, Some(uid)), (*container).to_owned())?
        }
        _ => return None,
    })
}

fn in_container(verb: &str, pod: PodName, container: String) -> Option<Route> {
    match verb {
        "exec" => Some(Route::Exec { pod, container }),
        "attach" => Some(Route::Attach { pod, container }),
        "run" => Some(Route::Run { pod, container }),
        _ => None,
    }
}

fn pod(namespace: &str, name: &str, uid: Option<&str>) -> PodName {
    PodName { namespace: namespace.to_owned(), name: name.to_owned(), uid: uid.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelets_paths_are_known_with_and_without_uid() {
        let web = |uid| pod("d", "web", uid);
        let table = [
            ("/healthz", Route::Health(Health::All)),
            ("/healthz/syncloop", Route::Health(Health::SyncLoop)),
            ("/livez", Route::Health(Health::All)),
            ("/readyz", Route::Health(Health::Ready)),
            ("/runningpods/", Route::RunningPods),
            ("/containerLogs/d/web/c", Route::Logs { pod: web(None), container: "c".into() }),
            ("/exec/d/web/c", Route::Exec { pod: web(None), container: "c".into() }),
            ("/exec/d/web/u/c", Route::Exec { pod: web(Some("u")), container: "c".into() }),
            ("/attach/d/web/u/c", Route::Attach { pod: web(Some("u")), container: "c".into() }),
            ("/portForward/d/web/u", Route::PortForward { pod: web(Some("u")) }),
            ("/podTcp/d/web/8080", Route::Tcp { of: PortOf::Pod(web(None)), port: 8080 }),
            ("/nodeTcp/9100", Route::Tcp { of: PortOf::Node, port: 9100 }),
            ("/metrics/resource", Route::Metrics(Metrics::Resource)),
        ];
        for (path, expected) in table {
            assert_eq!(route(&Method::GET, path), Ok(expected), "{path}");
        }
    }

    #[test]
    fn http_servers_get_what_follows_their_port_as_it_was_written_by_any_method() {
        let of = |path: &str, of: PortOf, port: u16, is_tls: bool, rest: &str| {
            let backend = Backend { of, port, is_tls, path: rest.to_owned() };
            assert_eq!(route(&Method::PATCH, path), Ok(Route::Http(backend)), "{path}");
        };
        let web = || PortOf::Pod(pod("d", "web", None));
        of("/ports/9100", PortOf::Node, 9100, false, "/");
        of("/ports/http:9100/", PortOf::Node, 9100, false, "/");
        of("/ports/https:9100/a//b%2Fc/", PortOf::Node, 9100, true, "/a//b%2Fc/");
        of("/podPorts/d/web/80", web(), 80, false, "/");
        of("/podPorts/d/web/https:443/ports/1/../x", web(), 443, true, "/ports/1/../x");
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        for path in [
            "/",
            "/exec",
            "/exec/d/web",
            "/containerLogs/d//c",
            "/containerLogs/d/web/c/x",
            "/configz",
            "/podTcp/d/web/0",
            "/nodeTcp/65536",
            "/nodeTcp/9100/x",
            "/ports/",
            "/ports/0/",
            "/ports/ftp:21/",
            "/ports/https:/",
            "//ports/9100/",
            "/podPorts/d/web",
            "/podPorts/d//80/",
            "/podPorts//web/80/",
        ] {
            assert_eq!(route(&Method::GET, path), Err(StatusCode::NOT_FOUND), "{path}");
        }
        assert_eq!(route(&Method::GET, "/run/d/web/c"), Err(StatusCode::METHOD_NOT_ALLOWED));
        assert_eq!(route(&Method::POST, "/pods"), Err(StatusCode::METHOD_NOT_ALLOWED));
        assert_eq!(route(&Method::DELETE, "/exec/d/web/c"), Err(StatusCode::METHOD_NOT_ALLOWED));
    }
}
