//! `pods/NAME/proxy` and `services/NAME/proxy`: a request to a port of a pod, through the node that has it.

use std::time::Duration;

use apimachinery::object::{list, text};
use apimachinery::{LabelSelector, Status};
use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use httpproxy::{Framing, Terms};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::{Call, connect};
use crate::nodes::Connection;
use crate::respond::{self, Answer, BodyError};
use crate::storage::{Key, ListQuery};

/// How long the node, and then the pod, may take to answer.
const ANSWER: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(4 * 3600);
/// What a node's connection is upgraded to.
const TCP: HeaderValue = HeaderValue::from_static("tcp");

/// True for the proxies of pods and services.
pub(crate) fn is_one(call: &Call<'_>) -> bool {
    let served = &call.target.served;
    call.target.subresource == "proxy" && (served.is_core("pods") || served.is_core("services"))
}

/// `[scheme:]name[:port]`, as the API names what is proxied to.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

impl Named<'_> {
    fn parse(text: &str) -> Option<Named<'_>> {
        let named = match text.split(':').collect::<Vec<_>>()[..] {
            [name] => Named { scheme: "http", name, port: "" },
            [name, port] => Named { scheme: "http", name, port },
            ["" | "http", name, port] => Named { scheme: "http", name, port },
            ["https", name, port] => Named { scheme: "https", name, port },
            _ => return None,
        };
        (!named.name.is_empty()).then_some(named)
    }
}

/// `rest` is what follows `proxy` in the path.
pub(crate) async fn answer(call: Call<'_>, rest: &str, body: Incoming) -> Result<Answer, Status> {
    let wanted = call.target.name.clone();
    let named = Named::parse(&wanted)
        .ok_or_else(|| Status::bad_request(format!("{wanted:?} is not [http:|https:]NAME[:PORT]")))?;
    if named.scheme == "https" {
        let message = "this API server proxies to pods and services over plain HTTP only";
        return Err(Status::new(501, "NotImplemented", message));
    }
    let object = object(&call, named.name).await?;
    connect::admit(&call, rest).await?;
    let is_service = call.target.served.is_core("services");
    let (pod, port) = match is_service {
        true => backend(&call, &object, &named).await?,
        false => (object.clone(), pod_port(&object, named.port)?),
    };
    let stream = reach(&call, &pod, port).await?;
    forward(call, rest, body, stream, &wanted).await
}

async fn object(call: &Call<'_>, name: &str) -> Result<Value, Status> {
    let resource = &call.target.served.resource;
    let key = Key::new(&resource.key(), &call.target.namespace, name);
    match call.context.storage.get(&key).await? {
        Some(stored) => Ok(stored.value()?.clone()),
        None => Err(Status::not_found(&resource.group, &resource.plural, name)),
    }
}

/// A port of a pod by number or name; the first one if none is named.
fn pod_port(pod: &Value, port: &str) -> Result<u16, Status> {
    let containers = list(pod, "/spec/containers").iter();
    let mut ports = containers.flat_map(|container| list(container, "/ports"));
    let number = |port: &Value| port["containerPort"].as_u64().and_then(|port| u16::try_from(port).ok());
    let found = match port {
        "" => ports.next().and_then(number).or(Some(80)),
        text => match text.parse::<u16>() {
            Ok(port) => Some(port).filter(|port| *port > 0),
            Err(_) => ports.find(|port| port["name"] == text).and_then(number),
        },
    };
    found.ok_or_else(|| Status::bad_request(format!("the pod has no port {port:?}")))
}

/// A ready pod behind a service, and the port there.
async fn backend(call: &Call<'_>, service: &Value, named: &Named<'_>) -> Result<(Value, u16), Status> {
    let ports = list(service, "/spec/ports");
    let chosen = match (named.port, ports) {
        ("", [only]) => Some(only),
        ("", _) => None,
        (wanted, ports) => {
            let number = wanted.parse::<u16>().ok();
            ports
                .iter()
                .find(|port| port["name"] == wanted || number.is_some_and(|number| port["port"] == number))
        }
    };
    let chosen =
        chosen.ok_or_else(|| Status::unavailable(format!("no service port {:?} found", named.port)))?;
    let selector = service["spec"]["selector"].as_object().filter(|selector| !selector.is_empty());
    let selector =
        selector.ok_or_else(|| Status::unavailable("a service without a selector is not proxied to"))?;
    let selector: Vec<String> =
        selector.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    let labels =
        LabelSelector::parse(&selector.join(",")).map_err(|error| Status::bad_request(error.to_string()))?;
    let query = ListQuery {
        resource: "pods".to_owned(),
        namespace: Some(call.target.namespace.clone()),
        labels,
        fields: Default::default(),
        limit: 0,
        after: None,
    };
    let page = call.context.storage.list(query).await?;
    for stored in &page.items {
        let pod = stored.value()?;
        if is_ready(&pod) {
            let target = match &chosen["targetPort"] {
                Value::Number(port) => port.to_string(),
                Value::String(port) => port.clone(),
                _ => chosen["port"].to_string(),
            };
            let port = pod_port(&pod, &target)?;
            return Ok((pod.clone(), port));
        }
    }
    Err(Status::unavailable(format!("no endpoints available for service {:?}", named.name)))
}

fn is_ready(pod: &Value) -> bool {
    let mut conditions = list(pod, "/status/conditions").iter();
    !text(pod, "/spec/nodeName").is_empty()
        && conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// A connection to the port.
async fn reach(call: &Call<'_>, pod: &Value, port: u16) -> Result<TokioIo<hyper::upgrade::Upgraded>, Status> {
    let (node, name) = (text(pod, "/spec/nodeName"), text(pod, "/metadata/name"));
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let unreachable =
        |why: &dyn std::fmt::Display| Status::unavailable(format!("node {node:?} cannot be asked: {why}"));
    let object = call.context.storage.get(&Key::new("nodes", "", node)).await?;
    let object = object.ok_or_else(|| unreachable(&"there is no such node"))?;
    let object = object.value()?;
    let Some(connection) = call.context.nodes.connect(&object).await else {
        let message = "this API server reaches no nodes, so it does not serve proxies";
        return Err(Status::new(501, "NotImplemented", message));
    };
    let connection: Box<dyn Connection> = connection.map_err(|why| unreachable(&why))?;
    let path = format!("/podTcp/{}/{name}/{port}", call.target.namespace);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = path.parse().map_err(|_| Status::bad_request(format!("{path:?} is not a path")))?;
    *request.headers_mut() = HeaderMap::from_iter([
        (HOST, HeaderValue::from_static("node")),
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, TCP),
    ]);
    let answer = httpproxy::ask(connection, request, ANSWER).await;
    let mut answer = answer.map_err(|error| unreachable(&daemon::errors::describe(&error)))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let code = answer.status();
        let said = http_body_util::Limited::new(answer.into_body(), 4096).collect().await;
        let said =
            said.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
        return Err(Status::unavailable(format!("node {node:?} answered {code}: {}", said.trim())));
    }
    let stream = hyper::upgrade::on(&mut answer).await.map_err(|error| unreachable(&error))?;
    Ok(TokioIo::new(stream))
}

async fn forward(
    call: Call<'_>,
    rest: &str,
    body: Incoming,
    stream: TokioIo<hyper::upgrade::Upgraded>,
    wanted: &str,
) -> Result<Answer, Status> {
    let query = call.parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("/{rest}{query}");
    let uri: Uri = path.parse().map_err(|_| Status::bad_request(format!("{path:?} is not a path")))?;
    let host = HeaderValue::from_str(wanted).unwrap_or(HeaderValue::from_static("pod"));
    let mut onward = Request::new(body);
    *onward.method_mut() = call.parts.method.clone();
    *onward.uri_mut() = uri;
    *onward.headers_mut() = httpproxy::onward(&call.parts.headers, host);
    for (name, value) in [("x-forwarded-uri", call.parts.uri.path()), ("x-forwarded-proto", "https")] {
        if let Ok(value) = HeaderValue::from_str(value) {
            onward.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    let stop = call.context.stop.clone();
    let terms = Terms { patience: ANSWER, idle: IDLE, framing: Framing::Unknown, stop };
    let client = hyper::upgrade::on(Request::from_parts(call.parts.clone(), ()));
    let answer = httpproxy::hand_on(stream, onward, client, terms, ()).await;
    let answer = answer.map_err(|error| {
        Status::unavailable(format!("error trying to reach {wanted:?}: {}", daemon::errors::describe(&error)))
    })?;
    let (mut parts, body) = answer.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Response::from_parts(parts, respond::empty()));
    }
    for name in [CONNECTION, TRANSFER_ENCODING, HeaderName::from_static("keep-alive")] {
        parts.headers.remove(name);
    }
    let mut handed = Response::new(body.map_err(BodyError::from).boxed_unsync());
    *handed.status_mut() = parts.status;
    *handed.headers_mut() = parts.headers;
    Ok(handed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_proxied_to_is_named_with_scheme_and_port() {
        let named = |text| Named::parse(text).map(|named| (named.scheme, named.name, named.port));
        assert_eq!(named("web"), Some(("http", "web", "")));
        assert_eq!(named("web:8080"), Some(("http", "web", "8080")));
        assert_eq!(named("https:web:"), Some(("https", "web", "")));
        assert_eq!(named("http:web:http"), Some(("http", "web", "http")));
        assert_eq!(named("ftp:web:1"), None);
        assert_eq!(named(":80"), None);
    }

    #[test]
    fn ports_are_found_by_number_and_name() {
        let pod = json!({"spec": {"containers": [{"ports": [{"containerPort": 8080, "name": "web"}]}, {}]}});
        let port = |text| pod_port(&pod, text).ok();
        assert_eq!(
            (port(""), port("web"), port("9"), port("0"), port("other")),
            (Some(8080), Some(8080), Some(9), None, None)
        );
    }
}
