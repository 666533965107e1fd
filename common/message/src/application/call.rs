//! What an application asks of the Kubernetes API, and the application that asks for a request.
//!
//! Options of KubeEdge's applications are the objects of `meta/v1` (ListOptions, CreateOptions, ...), whose fields are parameters of
//! the same names in a URL.

use apimachinery::kinds::{self, GroupVersionResource};
use apimachinery::path::{RequestPath, ResourcePath, percent_encode, query_pairs};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Application, Bytes64, Stage};
use crate::names::check_name;
use crate::path::NO_NAMESPACE;
use crate::{NodeName, Status};

/// The verb of applications that ask for events, which come as messages of their own.
pub const WATCH: &str = "watch";
/// The core group, whose name is empty, in a key.
const CORE: &str = "core";
/// No name, in a key.
const NO_NAME: &str = "null";
/// Media type of bodies.
const JSON: &str = "application/json";

/// Parameters that are passed on, and how Go writes them in JSON.
const PARAMETERS: [(&str, Form); 13] = [
    ("labelSelector", Form::Text),
    ("fieldSelector", Form::Text),
    ("resourceVersion", Form::Text),
    ("resourceVersionMatch", Form::Text),
    ("continue", Form::Text),
    ("fieldManager", Form::Text),
    ("fieldValidation", Form::Text),
    ("propagationPolicy", Form::Text),
    ("limit", Form::Number),
    ("timeoutSeconds", Form::Number),
    ("gracePeriodSeconds", Form::Number),
    ("force", Form::Flag),
    ("dryRun", Form::Texts),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Number,
    Flag,
    Texts,
}

/// One request of the Kubernetes API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiCall {
    pub method: &'static str,
    /// With its query.
    pub path: String,
    /// Media type of the body.
    pub media: String,
    pub body: Vec<u8>,
}

/// Options of a patch, with the patch.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct PatchInfo {
    name: String,
    patch_type: String,
    data: Bytes64,
    options: Map<String, Value>,
    subresources: Option<Vec<String>>,
}

fn bad(text: impl Into<String>) -> Status {
    Status::new(400, "BadRequest", text)
}

/// The parts of a key, which may be cut short behind the resource, checked so that each stays one segment of a URL.
fn parts(key: &str) -> Result<ResourcePath, Status> {
    let unread = || {
        let key: String = key.chars().take(256).collect();
        bad(format!("the key {key:?} of an application is not /group/version/resource/namespace/name"))
    };
    let parts: Vec<&str> =
        key.strip_prefix('/').ok_or_else(unread)?.trim_end_matches('/').split('/').collect();
    let [group, version, resource, rest @ ..] = parts.as_slice() else { return Err(unread()) };
    if rest.len() > 2 || parts.iter().any(|part| check_name(part).is_err()) {
        return Err(unread());
    }
    let given = |at: usize, none: &str| {
        rest.get(at).filter(|part| **part != none).map(|part| (*part).to_owned()).unwrap_or_default()
    };
    Ok(ResourcePath {
        group: if *group == CORE { String::new() } else { (*group).to_owned() },
        version: (*version).to_owned(),
        namespace: given(0, NO_NAMESPACE),
        resource: (*resource).to_owned(),
        name: given(1, NO_NAME),
        subresource: String::new(),
        rest: String::new(),
        watch: false,
    })
}

/// `key` of what a path asks for.
fn key(path: &ResourcePath) -> String {
    let or = |text: &str, none: &str| if text.is_empty() { none.to_owned() } else { text.to_owned() };
    let ResourcePath { group, version, resource, namespace, name, .. } = path;
    let (group, namespace, name) = (or(group, CORE), or(namespace, NO_NAMESPACE), or(name, NO_NAME));
    format!("/{group}/{version}/{resource}/{namespace}/{name}")
}

/// Path of a collection, or of an object in it, or of a part of that.
fn url(parts: &ResourcePath, name: &str, below: &[&str]) -> Result<String, Status> {
    let named = [name].into_iter().filter(|name| !name.is_empty()).chain(below.iter().copied());
    for part in named {
        check_name(part).map_err(|error| bad(error.to_string()))?;
    }
    let ResourcePath { group, version, resource, namespace, .. } = parts;
    let namespace = (!namespace.is_empty()).then_some(namespace.as_str());
    let mut path = kinds::api_path(group, version, resource, namespace, name);
    for part in below {
        path.push('/');
        path.push_str(part);
    }
    Ok(path)
}

/// The query of a URL that says what `options` do, without `?`.
fn query(options: &Map<String, Value>) -> String {
    let mut pairs = Vec::new();
    for (name, form) in PARAMETERS {
        match (form, options.get(name)) {
            (Form::Text, Some(Value::String(text))) if !text.is_empty() => pairs.push((name, text.clone())),
            (Form::Number, Some(Value::Number(number))) => pairs.push((name, number.to_string())),
            (Form::Flag, Some(Value::Bool(flag))) => pairs.push((name, flag.to_string())),
            (Form::Texts, Some(Value::Array(texts))) => {
                pairs.extend(texts.iter().filter_map(Value::as_str).map(|text| (name, text.to_owned())));
            }
            _ => {}
        }
    }
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}={}", percent_encode(value))).collect();
    pairs.join("&")
}

/// The options that a query says, without those that say nothing to an application.
fn options(query: &str) -> Map<String, Value> {
    let mut options = Map::new();
    for (name, value) in query_pairs(query) {
        let Some((_, form)) = PARAMETERS.iter().find(|(known, _)| *known == name) else { continue };
        let value = match form {
            Form::Text => value.into(),
            Form::Number => value.parse::<i64>().map_or(Value::Null, Value::from),
            Form::Flag => (value == "true" || value == "1").into(),
            Form::Texts => {
                let mut texts = options.remove(&name).unwrap_or_else(|| json!([]));
                if let Value::Array(texts) = &mut texts {
                    texts.push(value.into());
                }
                texts
            }
        };
        if !value.is_null() {
            options.insert(name, value);
        }
    }
    options
}

fn is_selector((name, _): &(String, Value)) -> bool {
    matches!(name.as_str(), "labelSelector" | "fieldSelector")
}

fn with_query(path: String, options: &Map<String, Value>) -> String {
    match query(options).as_str() {
        "" => path,
        query => format!("{path}?{query}"),
    }
}

fn read<T: for<'a> Deserialize<'a> + Default>(what: &str, text: &[u8]) -> Result<T, Status> {
    if matches!(text, b"" | b"null") {
        return Ok(T::default());
    }
    serde_json::from_slice(text).map_err(|error| bad(format!("the {what} of an application: {error}")))
}

impl Application {
    /// What it asks of the API server. A key that `is_passed` is a path that is asked for as it is.
    ///
    /// # Errors
    /// 400 for what cannot be read, 405 for a verb that is not known.
    pub fn call(&self, is_passed: impl Fn(&str) -> bool) -> Result<ApiCall, Status> {
        let plain = |method, path| ApiCall { method, path, media: String::new(), body: Vec::new() };
        if self.verb == "get" && is_passed(self.key.trim_end_matches('/')) {
            return Ok(plain("GET", self.key.trim_end_matches('/').to_owned()));
        }
        let parts = parts(&self.key)?;
        let below = [self.subresource.as_str()];
        let below = &below[..usize::from(!self.subresource.is_empty())];
        let carrying = |method, path| ApiCall {
            method,
            path,
            media: JSON.to_owned(),
            body: self.req_body.bytes().to_vec(),
        };
        if self.verb == "patch" {
            return self.patch(&parts);
        }
        let options: Map<String, Value> = read("options", self.option.bytes())?;
        Ok(match self.verb.as_str() {
            "get" => plain("GET", with_query(url(&parts, self.name(&parts)?, below)?, &options)),
            "list" => plain("GET", with_query(url(&parts, "", &[])?, &options)),
            WATCH => {
                // Where to begin is the cloud's to know, and when to end too.
                let options = options.into_iter().filter(is_selector).collect();
                plain("GET", with_query(url(&parts, "", &[])?, &options))
            }
            "create" if below.is_empty() => carrying("POST", with_query(url(&parts, "", &[])?, &options)),
            "create" => {
                carrying("POST", with_query(url(&parts, &self.object_name(&parts)?, below)?, &options))
            }
            "update" => {
                carrying("PUT", with_query(url(&parts, &self.object_name(&parts)?, below)?, &options))
            }
            "updatestatus" => {
                carrying("PUT", with_query(url(&parts, &self.object_name(&parts)?, &["status"])?, &options))
            }
            "delete" => {
                let path = url(&parts, self.name(&parts)?, below)?;
                ApiCall {
                    method: "DELETE",
                    path,
                    media: JSON.to_owned(),
                    body: Value::from(options).to_string().into(),
                }
            }
            verb => {
                let verb: String = verb.chars().take(32).collect();
                return Err(Status::new(
                    405,
                    "MethodNotAllowed",
                    format!("{verb:?} is no verb of an application"),
                ));
            }
        })
    }

    /// The resource it is about, and the namespace, if it is about one.
    ///
    /// # Errors
    /// 400 for a key that cannot be read.
    pub fn resource(&self) -> Result<(GroupVersionResource, Option<String>), Status> {
        let ResourcePath { group, version, resource, namespace, .. } = parts(&self.key)?;
        let of = GroupVersionResource::of_parts(&group, &version, &resource);
        Ok((of, Some(namespace).filter(|namespace| !namespace.is_empty())))
    }

    /// Its selectors of labels and fields.
    ///
    /// # Errors
    /// 400 for options that cannot be read.
    pub fn selectors(&self) -> Result<(Option<String>, Option<String>), Status> {
        let mut options: Map<String, Value> = read("options", self.option.bytes())?;
        let mut selector = |name: &str| match options.remove(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        Ok((selector("labelSelector"), selector("fieldSelector")))
    }

    fn name<'a>(&self, parts: &'a ResourcePath) -> Result<&'a str, Status> {
        match parts.name.as_str() {
            "" => Err(bad(format!("an application that asks to {} has to name an object", self.verb))),
            name => Ok(name),
        }
    }

    /// The name of the object in the key, else in the body.
    fn object_name(&self, parts: &ResourcePath) -> Result<String, Status> {
        if !parts.name.is_empty() {
            return Ok(parts.name.clone());
        }
        let object: Value = read("object", self.req_body.bytes())?;
        match object["metadata"]["name"].as_str() {
            Some(name) if !name.is_empty() => Ok(name.to_owned()),
            _ => self.name(parts).map(str::to_owned),
        }
    }

    fn patch(&self, parts: &ResourcePath) -> Result<ApiCall, Status> {
        let info: PatchInfo = read("patch", self.option.bytes())?;
        let name = if info.name.is_empty() { self.name(parts)? } else { info.name.as_str() };
        let below = info.subresources.unwrap_or_default();
        let below: Vec<&str> = below.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        let path = with_query(url(parts, name, &below)?, &info.options);
        Ok(ApiCall { method: "PATCH", path, media: info.patch_type, body: info.data.into_bytes() })
    }
}

impl ApiCall {
    /// True if it asks for events.
    fn is_watch(&self, parts: &ResourcePath, query: &str) -> bool {
        let asks =
            |(name, value): &(String, String)| name == "watch" && matches!(value.as_str(), "" | "1" | "true");
        self.method == "GET" && (parts.watch || query_pairs(query).iter().any(asks))
    }

    /// The application by which `node` asks a KubeEdge cloud for this.
    ///
    /// # Errors
    /// 404 for paths that such a cloud does not pass on, 405 for what it has no application for, 400 for what cannot be read.
    pub fn application(
        self,
        node: &NodeName,
        is_passed: impl Fn(&str) -> bool,
    ) -> Result<Application, Status> {
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let asked = Application {
            nodename: node.as_str().to_owned(),
            status: Stage::InApplying,
            ..Application::default()
        };
        if self.method == "GET" && is_passed(path) {
            let option = Bytes64::new(b"{}".to_vec());
            let passed = Application { key: path.to_owned(), verb: "get".to_owned(), option, ..asked };
            return Ok(passed.named());
        }
        let parts = match RequestPath::parse(path) {
            Some(RequestPath::Resource(parts)) if parts.rest.is_empty() => parts,
            _ => {
                let text = format!("a KubeEdge cloud does not answer {path}");
                return Err(Status::new(404, "NotFound", text));
            }
        };
        let verb = match (self.method, parts.name.is_empty(), parts.subresource.as_str()) {
            ("GET", _, "") if self.is_watch(&parts, query) => WATCH,
            ("GET", true, "") => "list",
            ("GET", false, "") => "get",
            ("POST", true, "") => "create",
            ("POST", false, subresource) if !subresource.is_empty() => "create",
            ("PUT", false, "status") => "updatestatus",
            ("PUT", false, _) => "update",
            ("PATCH", false, _) => "patch",
            ("DELETE", false, "") => "delete",
            (method, ..) => {
                let text = format!("a KubeEdge cloud has no way to {method} {path}");
                return Err(Status::new(405, "MethodNotAllowed", text));
            }
        };
        let mut options = options(query);
        let option = match verb {
            "patch" => self.patch_option(&parts, options)?,
            "delete" => {
                let mut given: Map<String, Value> = read("options", &self.body)?;
                given.append(&mut options);
                Value::from(given)
            }
            // It is the same one from wherever it goes on.
            WATCH => Value::from(options.into_iter().filter(is_selector).collect::<Map<_, _>>()),
            _ => Value::from(options),
        };
        let carries = matches!(verb, "create" | "update" | "updatestatus");
        let subresource = if carries { parts.subresource.clone() } else { String::new() };
        let option = Bytes64::new(option.to_string().into_bytes());
        let req_body = if carries { Bytes64::new(self.body) } else { Bytes64::default() };
        Ok(Application { key: key(&parts), verb: verb.to_owned(), subresource, option, req_body, ..asked }
            .named())
    }

    fn patch_option(&self, parts: &ResourcePath, options: Map<String, Value>) -> Result<Value, Status> {
        let patch = PatchInfo {
            name: parts.name.clone(),
            patch_type: self.media.split(';').next().unwrap_or_default().trim().to_owned(),
            data: Bytes64::new(self.body.clone()),
            options,
            subresources: Some(parts.subresource.clone())
                .filter(|part| !part.is_empty())
                .map(|part| vec![part]),
        };
        serde_json::to_value(patch).map_err(|error| bad(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &'static str, path: &str, media: &str, body: &str) -> ApiCall {
        ApiCall { method, path: path.to_owned(), media: media.to_owned(), body: body.as_bytes().to_vec() }
    }

    fn application(verb: &str, key: &str, option: &str) -> Application {
        let option = Bytes64::new(option.as_bytes().to_vec());
        Application { key: key.to_owned(), verb: verb.to_owned(), option, ..Application::default() }
    }

    fn is_passed(path: &str) -> bool {
        path == "/version"
    }

    #[test]
    fn what_is_asked_of_one_end_is_what_the_other_asks_of_the_api_server() {
        let node = NodeName::new("e1").unwrap();
        let json = "application/json";
        for asked in [
            call("GET", "/version", "", ""),
            call("GET", "/api/v1/namespaces/d/configmaps/c", "", ""),
            call("GET", "/api/v1/nodes?labelSelector=a%3Db%2Cc&resourceVersion=0&limit=5", "", ""),
            call("GET", "/apis/apps/v1/deployments?fieldSelector=metadata.name%3Dx", "", ""),
            call("POST", "/api/v1/namespaces/d/events?dryRun=All", json, "{\"a\":1}"),
            call("POST", "/api/v1/namespaces/d/pods/p/eviction", json, "{}"),
            call("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/e1", json, "{}"),
            call("PUT", "/api/v1/nodes/e1/status?fieldManager=m", json, "{}"),
            call("PATCH", "/api/v1/nodes/e1/status?force=true", "application/apply-patch+yaml", "a: 1"),
            call("PATCH", "/api/v1/namespaces/d", "application/merge-patch+json", "{}"),
            call("DELETE", "/api/v1/namespaces/d/pods/p", json, "{\"gracePeriodSeconds\":0}"),
        ] {
            let application = asked.clone().application(&node, is_passed).unwrap();
            assert_eq!(application.nodename, "e1");
            assert_eq!(application.call(is_passed).unwrap(), asked);
        }
        let watch = call("GET", "/api/v1/services?watch=1&resourceVersion=7&labelSelector=a", "", "");
        let watch = watch.application(&node, is_passed).unwrap();
        assert_eq!((watch.verb.as_str(), watch.key.as_str()), ("watch", "/core/v1/services/null/null"));
        assert_eq!(watch.call(is_passed).unwrap().path, "/api/v1/services?labelSelector=a");
    }

    #[test]
    fn a_key_cut_short_is_read_and_one_that_leads_elsewhere_is_not() {
        let path = |key: &str| application("list", key, "{}").call(is_passed).map(|call| call.path);
        assert_eq!(path("/core/v1/services/null/").unwrap(), "/api/v1/services");
        assert_eq!(path("/x.io/v1/valves").unwrap(), "/apis/x.io/v1/valves");
        for bad in [
            "",
            "/",
            "core/v1/pods",
            "/core/v1",
            "/core//pods/d/p",
            "/core/v1/pods/../p",
            "/core/v1/pods/d%2fe/p",
            "/core/v1/pods/d/p/exec",
            "/core/v1/pods/d?x/p",
        ] {
            assert_eq!(path(bad).unwrap_err().code, 400, "{bad}");
        }
        let patch =
            |name: &str| application("patch", "/core/v1/pods/d/p", &format!("{{\"Name\":\"{name}\"}}"));
        assert!(patch("../x").call(is_passed).is_err());
        assert!(application("get", "/core/v1/pods/d/null", "{}").call(is_passed).is_err());
        assert!(application("get", "/core/v1/pods/d/p", "[").call(is_passed).is_err());
        assert_eq!(application("proxy", "/core/v1/pods/d/p", "{}").call(is_passed).unwrap_err().code, 405);
        let status =
            Application { subresource: "a/b".into(), ..application("get", "/core/v1/pods/d/p", "{}") };
        assert!(status.call(is_passed).is_err());
    }

    #[test]
    fn what_a_kubeedge_cloud_cannot_do_is_said_before_it_is_asked() {
        let node = NodeName::new("e1").unwrap();
        let refused =
            |method, path| call(method, path, "", "").application(&node, is_passed).unwrap_err().code;
        assert_eq!(refused("GET", "/metrics"), 404);
        assert_eq!(refused("GET", "/api/v1/namespaces/d/pods/p/proxy/x"), 404);
        assert_eq!(refused("GET", "/apis/apps/v1/namespaces/d/deployments/x/scale"), 405);
        assert_eq!(refused("DELETE", "/api/v1/namespaces/d/pods"), 405);
    }
}
