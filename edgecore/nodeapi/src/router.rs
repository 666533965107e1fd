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

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    Health(Health),
    Pods,
    RunningPods,
    Logs { pod: PodName, container: String },
    Exec { pod: PodName, container: String },
    Attach { pod: PodName, container: String },
    PortForward { pod: PodName },
    Tcp { pod: PodName, port: u16 },
    Run { pod: PodName, container: String },
    Summary,
    Metrics(Metrics),
}

/// The route, or the status that says there is none.
pub(super) fn route(method: &Method, path: &str) -> Result<Route, StatusCode> {
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
        ["podTcp", namespace, name, port] => {
            let port = port.parse().ok().filter(|port| *port > 0)?;
            Route::Tcp { pod: pod(namespace, name, None), port }
        }
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
            ("/podTcp/d/web/8080", Route::Tcp { pod: web(None), port: 8080 }),
            ("/metrics/resource", Route::Metrics(Metrics::Resource)),
        ];
        for (path, expected) in table {
            assert_eq!(route(&Method::GET, path), Ok(expected), "{path}");
        }
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
        ] {
            assert_eq!(route(&Method::GET, path), Err(StatusCode::NOT_FOUND), "{path}");
        }
        assert_eq!(route(&Method::GET, "/run/d/web/c"), Err(StatusCode::METHOD_NOT_ALLOWED));
        assert_eq!(route(&Method::POST, "/pods"), Err(StatusCode::METHOD_NOT_ALLOWED));
        assert_eq!(route(&Method::DELETE, "/exec/d/web/c"), Err(StatusCode::METHOD_NOT_ALLOWED));
    }
}
