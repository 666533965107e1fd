//! URL paths of the Kubernetes API.

/// What a path below `/api` or `/apis` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcePath {
    pub group: String,
    pub version: String,
    /// Empty for cluster-scoped resources and for lists over all namespaces.
    pub namespace: String,
    pub resource: String,
    /// Empty for collections.
    pub name: String,
    pub subresource: String,
    /// What follows the subresource (`proxy/...`), without a leading slash.
    pub rest: String,
    /// By an old path (`/api/v1/watch/...`), which is watched.
    pub watch: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestPath {
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/<group>`
    Group(String),
    /// `/api/v1` or `/apis/<group>/<version>`; the core group is empty.
    GroupVersion(String, String),
    Resource(ResourcePath),
    /// Anything else: `/version`, `/healthz`, `/openapi/v3/...`
    Other,
}

impl RequestPath {
    /// Reads a path. Segments are percent-decoded; `None` if one does not decode or hides a slash.
    pub fn parse(path: &str) -> Option<RequestPath> {
        let segments: Vec<String> =
            path.split('/').filter(|part| !part.is_empty()).map(decode).collect::<Option<_>>()?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        Some(match segments.as_slice() {
            ["api"] => RequestPath::CoreVersions,
            ["apis"] => RequestPath::Groups,
            ["apis", group] => RequestPath::Group((*group).to_owned()),
            ["api", version] => RequestPath::GroupVersion(String::new(), (*version).to_owned()),
            ["apis", group, version] => RequestPath::GroupVersion((*group).to_owned(), (*version).to_owned()),
            ["api", version, rest @ ..] => RequestPath::Resource(resource("", version, rest)),
            ["apis", group, version, rest @ ..] => RequestPath::Resource(resource(group, version, rest)),
            _ => RequestPath::Other,
        })
    }
}

fn resource(group: &str, version: &str, rest: &[&str]) -> ResourcePath {
    if let ["watch", rest @ ..] = rest
        && !rest.is_empty()
    {
        return ResourcePath { watch: true, ..plain(group, version, rest) };
    }
    plain(group, version, rest)
}

fn plain(group: &str, version: &str, rest: &[&str]) -> ResourcePath {
    let (namespace, rest) = match rest {
        // `namespaces/x/status` and `/finalize` are about the namespace, not about a resource named so.
        ["namespaces", _, "status" | "finalize"] if group.is_empty() => ("", rest),
        ["namespaces", namespace, inner, ..] if !inner.is_empty() => (*namespace, &rest[2..]),
        _ => ("", rest),
    };
    let at = |index: usize| rest.get(index).map(|part| (*part).to_owned()).unwrap_or_default();
    ResourcePath {
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        resource: at(0),
        name: at(1),
        subresource: at(2),
        rest: rest.get(3..).map(|parts| parts.join("/")).unwrap_or_default(),
        watch: false,
    }
}

/// Percent-decodes one path segment.
fn decode(segment: &str) -> Option<String> {
    let text = percent_decode(segment, false)?;
    (!text.contains('/') && text != "." && text != "..").then_some(text)
}

/// Percent-decodes; `plus` turns `+` into a space, as queries do.
pub fn percent_decode(text: &str, plus: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
            }
            b'+' if plus => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

/// `text` as the value of a parameter of a URL, or as one segment of its path.
pub fn percent_encode(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// The pairs of a query string, decoded; pairs that do not decode are left out.
pub fn query_pairs(query: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        Some((percent_decode(key, true)?, percent_decode(value, true)?))
    };
    query.split('&').filter(|part| !part.is_empty()).filter_map(pair).collect()
}

/// True for what every user of an API server may read (the role `system:discovery`).
pub fn is_discovery(path: &str) -> bool {
    if path.contains(['%', '?']) || path.contains("//") || path.contains("/.") {
        return false;
    }
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        ["api" | "apis" | "version" | "healthz" | "livez" | "readyz"]
        | ["api" | "apis", _]
        | ["apis", _, _] => true,
        ["openapi", rest @ ..] => !rest.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(path: &str) -> ResourcePath {
        match RequestPath::parse(path) {
            Some(RequestPath::Resource(path)) => path,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn paths_name_group_namespace_resource_and_subresource() {
        for (path, want) in [
            ("/api/v1/pods", "|v1||pods||"),
            ("/api/v1/namespaces", "|v1||namespaces||"),
            ("/api/v1/namespaces/x", "|v1||namespaces|x|"),
            ("/api/v1/namespaces/x/status", "|v1||namespaces|x|status"),
            ("/api/v1/namespaces/x/pods", "|v1|x|pods||"),
            ("/api/v1/namespaces/x/pods/p/log", "|v1|x|pods|p|log"),
            ("/api/v1/nodes/n/status", "|v1||nodes|n|status"),
            ("/apis/apps/v1/namespaces/x/deployments/d", "apps|v1|x|deployments|d|"),
            ("/apis/a.b/v1/things/a%3Ab", "a.b|v1||things|a:b|"),
            ("/api/v1/watch/namespaces/x/pods/p", "|v1|x|pods|p|"),
            ("/apis/a.b/v1/watch", "a.b|v1||watch||"),
        ] {
            let p = parsed(path);
            let got = [p.group, p.version, p.namespace, p.resource, p.name, p.subresource].join("|");
            assert_eq!(got, want, "{path}");
            assert_eq!(parsed(path).watch, path.contains("/watch/"), "{path}");
        }
    }

    #[test]
    fn traversal_and_broken_escapes_are_refused() {
        for path in
            ["/api/v1/pods/..", "/api/v1/pods/%2e%2e", "/api/v1/pods/a%2fb", "/api/%zz", "/api/v1/%ff"]
        {
            assert_eq!(RequestPath::parse(path), None, "{path}");
        }
        assert_eq!(RequestPath::parse("/healthz"), Some(RequestPath::Other));
    }
}
