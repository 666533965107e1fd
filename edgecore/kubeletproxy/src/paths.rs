//! Which requests are the Node API's (docs/protocol/edge-runtime.md 7.1): those that a kubelet answers and the cloud has
//! authorised by their path. Pure.

use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;

/// The kubelet's paths that pass.
#[derive(Clone, Copy)]
enum Verbs {
    Get,
    GetOrPost,
    Post,
}

/// Errors with the status for a request that does not pass. The cloud has judged the first part of `path`, which is as it came, so
/// nothing after it may lead elsewhere.
pub(crate) fn check(method: &Method, path: &str) -> Result<(), StatusCode> {
    let parts: Vec<&str> = path.strip_prefix('/').ok_or(StatusCode::NOT_FOUND)?.split('/').collect();
    let (parts, is_folder) = match parts.split_last() {
        Some((&"", parts)) => (parts, true),
        _ => (&parts[..], false),
    };
    if parts.iter().any(|part| leads_elsewhere(part)) {
        return Err(StatusCode::NOT_FOUND);
    }
    let verbs = match parts {
        ["healthz" | "metrics" | "logs", ..]
        | ["configz" | "pods" | "runningpods"]
        | ["stats", "summary"] => Verbs::Get,
        _ if is_folder => return Err(StatusCode::NOT_FOUND),
        ["containerLogs", _, _, _] => Verbs::Get,
        ["exec" | "attach", _, _, _] | ["exec" | "attach", _, _, _, _] => Verbs::GetOrPost,
        ["portForward", _, _] | ["portForward", _, _, _] => Verbs::GetOrPost,
        ["run", _, _, _] | ["run", _, _, _, _] => Verbs::Post,
        _ => return Err(StatusCode::NOT_FOUND),
    };
    let is_allowed = match verbs {
        Verbs::Get => *method == Method::GET,
        Verbs::GetOrPost => matches!(*method, Method::GET | Method::POST),
        Verbs::Post => *method == Method::POST,
    };
    if is_allowed { Ok(()) } else { Err(StatusCode::METHOD_NOT_ALLOWED) }
}

/// True for a part that is none, or that the kubelet would take for several or for the folder above.
fn leads_elsewhere(part: &str) -> bool {
    let decoded: Vec<u8> = percent_decode_str(part).collect();
    decoded.is_empty()
        || decoded == b"."
        || decoded == b".."
        || decoded.iter().any(|byte| matches!(byte, b'/' | b'\\' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_apis_paths_pass_by_their_methods() {
        for line in [
            "GET /containerLogs/d/web/c",
            "GET /exec/d/web/c",
            "POST /exec/d/web/u/c",
            "POST /attach/d/web/c",
            "POST /portForward/d/web",
            "GET /portForward/d/web/u",
            "POST /run/d/web/c",
            "GET /pods",
            "GET /pods/",
            "GET /runningpods/",
            "GET /stats/summary",
            "GET /metrics",
            "GET /metrics/cadvisor",
            "GET /healthz/syncloop",
            "GET /configz",
            "GET /logs/",
            "GET /logs/apt/history%20old.log",
        ] {
            let (method, path) = line.split_once(' ').unwrap();
            assert_eq!(check(&method.parse().unwrap(), path), Ok(()), "{line}");
        }
    }

    #[test]
    fn others_do_not_and_none_leads_elsewhere_than_it_says() {
        for path in [
            "/",
            "//pods",
            "/debug/pprof/profile",
            "/debug/flags/v",
            "/checkpoint/d/web/c",
            "/cri/exec/token",
            "/flagz",
            "/stats",
            "/stats/summary/../../exec/d/web/c",
            "/metrics/../exec/d/web/c",
            "/metrics/%2e%2e/exec/d/web/c",
            "/metrics/..%2fexec/d/web/c",
            "/logs/.%2E/run",
            "/logs//etc",
            "/logs/a%5cb",
            "/%65xec/d/web/c",
            "/exec/d/web",
            "/exec/d//c",
            "/exec/d/web/c/",
            "/containerLogs/d/web/u/c",
            "/podTcp/d/web/80",
            "/ports/10250/",
            "*",
        ] {
            assert_eq!(check(&Method::GET, path), Err(StatusCode::NOT_FOUND), "{path}");
        }
        for (method, path) in [
            (Method::GET, "/run/d/web/c"),
            (Method::POST, "/pods"),
            (Method::DELETE, "/exec/d/web/c"),
            (Method::PUT, "/logs/"),
            (Method::POST, "/containerLogs/d/web/c"),
        ] {
            assert_eq!(check(&method, path), Err(StatusCode::METHOD_NOT_ALLOWED), "{method} {path}");
        }
    }
}
