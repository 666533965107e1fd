//! What a new connection of the tunnel asks for (docs/protocol/transport.md 6.2).

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

/// Where Go edges serve their Node API.
const HOST: &str = "127.0.0.1:10350";

/// The data of [`crate::Kind::Logs`], `Exec`, `Attach` and `Metrics`: a request, as Go's types are written in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connect {
    #[serde(rename = "MessID")]
    pub connection: u64,
    pub url: GoUrl,
    /// Go edges read `null` as none.
    #[serde(default, deserialize_with = "null_as_none")]
    pub header: BTreeMap<String, Vec<String>>,
    /// Of commands only; absent, it is GET.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub method: String,
}

fn null_as_none<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Go's `url.URL`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GoUrl {
    pub scheme: String,
    pub opaque: String,
    pub user: Option<serde_json::Value>,
    pub host: String,
    /// Decoded.
    pub path: String,
    /// As it was written, where that is not the usual way.
    pub raw_path: String,
    pub omit_host: bool,
    pub force_query: bool,
    pub raw_query: String,
    pub fragment: String,
    pub raw_fragment: String,
}

impl Connect {
    /// `target` is a path with its query.
    pub fn new(connection: u64, target: &str, headers: &HeaderMap, method: Option<&Method>) -> Connect {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let decoded = percent_decode_str(path).decode_utf8_lossy().into_owned();
        let raw_path = if decoded == path { String::new() } else { path.to_owned() };
        let mut header: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            header.entry(canonical(name)).or_default().push(value);
        }
        Connect {
            connection,
            url: GoUrl {
                scheme: "http".to_owned(),
                host: HOST.to_owned(),
                path: decoded,
                raw_path,
                raw_query: query.to_owned(),
                ..GoUrl::default()
            },
            header,
            method: method.map(Method::to_string).unwrap_or_default(),
        }
    }

    /// The path and query that are asked for.
    pub fn target(&self) -> String {
        let path = match self.url.raw_path.as_str() {
            "" => utf8_percent_encode(&self.url.path, PATH).to_string(),
            raw => raw.to_owned(),
        };
        match self.url.raw_query.as_str() {
            "" => path,
            query => format!("{path}?{query}"),
        }
    }

    /// The headers, without those that are none.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, values) in &self.header {
            let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
            for value in values.iter().filter_map(|value| HeaderValue::from_str(value).ok()) {
                headers.append(name.clone(), value);
            }
        }
        headers
    }
}

/// A name as Go writes it: `X-Stream-Protocol-Version`.
fn canonical(name: &HeaderName) -> String {
    let mut at_start = true;
    let letter = |letter: char| {
        let written = if at_start { letter.to_ascii_uppercase() } else { letter };
        at_start = letter == '-';
        written
    };
    name.as_str().chars().map(letter).collect()
}

/// What Go leaves as it is in a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_written_as_go_writes_it() {
        let mut headers = HeaderMap::new();
        headers.insert("x-stream-protocol-version", HeaderValue::from_static("v4.channel.k8s.io"));
        headers.append("x-stream-protocol-version", HeaderValue::from_static("v3.channel.k8s.io"));
        let connect = Connect::new(7, "/exec/d/p/c?command=ls&output=1", &headers, Some(&Method::POST));
        let written = serde_json::to_string(&connect).unwrap();
        let expected = concat!(
            r#"{"MessID":7,"url":{"Scheme":"http","Opaque":"","User":null,"Host":"127.0.0.1:10350","#,
            r#""Path":"/exec/d/p/c","RawPath":"","OmitHost":false,"ForceQuery":false,"#,
            r#""RawQuery":"command=ls&output=1","Fragment":"","RawFragment":""},"#,
            r#""header":{"X-Stream-Protocol-Version":["v4.channel.k8s.io","v3.channel.k8s.io"]},"#,
            r#""method":"POST"}"#
        );
        assert_eq!(written, expected);
        let read: Connect = serde_json::from_str(&written).unwrap();
        assert_eq!((read.target().as_str(), read.headers()), ("/exec/d/p/c?command=ls&output=1", headers));
    }

    #[test]
    fn what_go_leaves_out_or_writes_as_null_is_read() {
        let text = r#"{"MessID":1,"url":{"Scheme":"http","Host":"h","Path":"/a b/ü"},"header":null}"#;
        let read: Connect = serde_json::from_str(text).unwrap();
        assert_eq!((read.target().as_str(), read.method.as_str()), ("/a%20b/%C3%BC", ""));
        assert!(read.headers().is_empty());
        let odd = Connect::new(1, "/a%2Fb", &HeaderMap::new(), None);
        assert_eq!((odd.url.path.as_str(), odd.url.raw_path.as_str()), ("/a/b", "/a%2Fb"));
        assert_eq!(odd.target(), "/a%2Fb");
    }
}
