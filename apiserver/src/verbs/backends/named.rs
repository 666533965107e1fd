//! `[scheme:]name[:port]`, as the API names what is proxied to. Pure.

use apimachinery::Status;

/// What is proxied to (`k8s.io/apimachinery/pkg/util/net`, `SplitSchemeNamePort`).
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Named<'a> {
    /// HTTPS is spoken there.
    pub is_tls: bool,
    pub name: &'a str,
    /// A number or the name of a port; empty: the usual one.
    pub port: &'a str,
}

impl Named<'_> {
    pub(in super::super) fn parse(text: &str) -> Result<Named<'_>, Status> {
        let named = match text.split(':').collect::<Vec<_>>()[..] {
            [name] => Some(Named { is_tls: false, name, port: "" }),
            [name, port] | ["" | "http", name, port] => Some(Named { is_tls: false, name, port }),
            ["https", name, port] => Some(Named { is_tls: true, name, port }),
            _ => None,
        };
        named.filter(|named| !named.name.is_empty()).ok_or_else(|| {
            Status::bad_request(format!(
                "{text:?} is not NAME, NAME:PORT or http:NAME:PORT or https:NAME:PORT"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_proxied_to_is_named_with_scheme_and_port() {
        let named = |text| Named::parse(text).ok().map(|named| (named.is_tls, named.name, named.port));
        assert_eq!(named("web"), Some((false, "web", "")));
        assert_eq!(named("web:8080"), Some((false, "web", "8080")));
        assert_eq!(named(":web:8080"), Some((false, "web", "8080")));
        assert_eq!(named("https:web:"), Some((true, "web", "")));
        assert_eq!(named("https:web"), Some((false, "https", "web")), "as kube-apiserver reads it");
        assert_eq!(named("http:web:http"), Some((false, "web", "http")));
        for wrong in ["ftp:web:1", ":80", "", "a:b:c:d"] {
            assert_eq!(named(wrong), None, "{wrong}");
        }
    }
}
