//! What a node's Node API answers: logs, exec, attach and port-forward of pods, and everything else of it below
//! `nodes/NAME/proxy`. Requests are translated as kube-apiserver does (`pkg/registry/core/pod/strategy.go`), answers are
//! handed on as they are.

use apimachinery::listing::Asked as _;
use std::fmt::Write as _;
use std::time::Duration;

use apimachinery::Status;
use apimachinery::object::{list, text};
use http::header::{CONTENT_TYPE, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use httpproxy::{Framing, Terms};
use hyper::body::Incoming;
use kubeapi::respond::{self, Answer, BodyError};
use kubeapi::stored::Key;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::backends::{self, Named};
use super::{Call, connect};
use crate::nodes::kubelet_port;

/// How long a node may take for the head of its answer: commands are started before.
const ANSWER: Duration = Duration::from_secs(90);
/// What is read of a node's refusal.
const REFUSAL: usize = 10 * 1024;
/// Sessions in which nothing moves end after this (kubelet's `streamingConnectionIdleTimeout`).
const IDLE: Duration = Duration::from_secs(4 * 3600);

type Onward = UnsyncBoxBody<bytes::Bytes, hyper::Error>;

/// True if a node answers this subresource.
pub(crate) fn is_one(call: &Call<'_>) -> bool {
    let served = &call.target.served;
    match call.target.subresource.as_str() {
        "log" | "exec" | "attach" | "portforward" => served.is_core("pods"),
        "proxy" => served.is_core("nodes"),
        _ => false,
    }
}

pub(crate) async fn answer(call: Call<'_>, body: Incoming) -> Result<Answer, Status> {
    let is_proxy = call.target.subresource == "proxy";
    let wanted = call.target.name.clone();
    let named = is_proxy.then(|| Named::parse(&wanted)).transpose()?;
    let mut target = call.target.clone();
    target.name = named.as_ref().map_or(target.name, |named| named.name.to_owned());
    let object = call.backend.storage.get(&target.key()).await?.ok_or_else(|| target.not_found())?;
    let object = object.value()?;
    // Without a port, or with that of the kubelet, it is the kubelet that is asked.
    let is_kubelets = |port: &str| port.is_empty() || port == kubelet_port(&object).to_string();
    if let Some(named) = named.filter(|named| !is_kubelets(named.port)) {
        return backends::port_of_node(call, &named, body).await;
    }
    let method = call.parts.method.clone();
    let takes_method = match call.target.subresource.as_str() {
        "log" => method == Method::GET,
        "proxy" => true,
        _ => matches!(method, Method::GET | Method::POST),
    };
    if !takes_method {
        return Err(Status::method_not_allowed());
    }
    connect::admit(&call).await?;
    let (node, path) = match call.target.subresource.as_str() {
        "proxy" => (target.name, format!("/{}{}", call.rest, raw_query(&call))),
        _ => in_pod(&call, &object)?,
    };
    if is_v5(&call) {
        // Runtimes speak v4 at most: clients fall back when this is refused, as kube-apiserver's answer to unknown protocols.
        return Ok(respond::text(
            403,
            "unable to upgrade: this server speaks v4.channel.k8s.io and SPDY/3.1",
        ));
    }
    hand_on(call, &node, &path, body).await
}

/// True if only the newest WebSocket protocols are offered.
fn is_v5(call: &Call<'_>) -> bool {
    let offered = call.parts.headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offered =
        offered.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).peekable();
    offered.peek().is_some()
        && offered.all(|one| matches!(one.trim(), "v5.channel.k8s.io" | "SPDY/3.1+portforward.k8s.io"))
}

fn raw_query(call: &Call<'_>) -> String {
    call.parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default()
}

/// The node of a pod, and the path there.
fn in_pod(call: &Call<'_>, pod: &Value) -> Result<(String, String), Status> {
    let (namespace, name) = (&call.target.namespace, &call.target.name);
    let node = text(pod, "/spec/nodeName");
    let unassigned = || Status::bad_request(format!("pod {name} does not have a host assigned"));
    let mut query = Pairs::default();
    let mut copy = |from: &str, to: &str| {
        let value = call.query.get(from);
        if !value.is_empty() {
            query.add(to, value);
        }
    };
    let path = match call.target.subresource.as_str() {
        "portforward" => {
            call.query.all("ports").for_each(|port| query.add("port", port));
            format!("/portForward/{namespace}/{name}")
        }
        "log" => {
            for option in [
                "follow",
                "previous",
                "sinceSeconds",
                "sinceTime",
                "timestamps",
                "tailLines",
                "limitBytes",
                "stream",
            ] {
                copy(option, option);
            }
            format!("/containerLogs/{namespace}/{name}/{}", container(call, pod)?)
        }
        verb => {
            let container = container(call, pod)?;
            for (from, to) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")]
            {
                if call.query.flag(from) {
                    query.add(to, "1");
                }
            }
            call.query.all("command").for_each(|word| query.add("command", word));
            format!("/{verb}/{namespace}/{name}/{container}")
        }
    };
    if node.is_empty() {
        return Err(unassigned());
    }
    Ok((node.to_owned(), format!("{path}{}", query.0)))
}

/// The container that is meant.
fn container(call: &Call<'_>, pod: &Value) -> Result<String, Status> {
    let name = &call.target.name;
    let names = |kind: &str| -> Vec<&str> {
        list(pod, &format!("/spec/{kind}"))
            .iter()
            .filter_map(|container| container["name"].as_str())
            .collect()
    };
    let (main, init, ephemeral) =
        (names("containers"), names("initContainers"), names("ephemeralContainers"));
    match (call.query.get("container"), main.as_slice()) {
        ("", [only]) if init.is_empty() || call.target.subresource != "log" => Ok((*only).to_owned()),
        ("", []) => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
        ("", _) => {
            let mut text = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                main.join(" ")
            );
            if !init.is_empty() {
                let _ = write!(text, " or one of the init containers: [{}]", init.join(" "));
            }
            if !ephemeral.is_empty() {
                let _ = write!(text, " or one of the ephemeral containers: [{}]", ephemeral.join(" "));
            }
            Err(Status::bad_request(text))
        }
        (wanted, _) if main.iter().chain(&init).chain(&ephemeral).any(|one| *one == wanted) => {
            Ok(wanted.to_owned())
        }
        (wanted, _) => Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}"))),
    }
}

/// Pairs of a query string.
#[derive(Default)]
struct Pairs(String);

impl Pairs {
    fn add(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        let _ = write!(self.0, "{name}={}", utf8_percent_encode(value, QUERY));
    }
}

/// What is written as it is in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

async fn hand_on(call: Call<'_>, node: &str, path: &str, body: Incoming) -> Result<Answer, Status> {
    let unreachable = |why: &str| {
        let mut status = Status::unavailable(format!("node {node:?} cannot be asked: {why}"));
        status.retry_after = Some(2);
        status
    };
    let object = call.backend.storage.get(&Key::new("nodes", "", node)).await?;
    let object = match &object {
        Some(stored) => stored.value()?,
        None => return Err(unreachable("there is no such node")),
    };
    let Some(connection) = call.backend.nodes.connect(&object).await else {
        let message =
            format!("this API server reaches no nodes, so it does not serve {}", call.target.subresource);
        return Err(Status::new(501, "NotImplemented", message));
    };
    let connection = connection.map_err(|why| unreachable(&why))?;
    let upgrades = httpproxy::wants_upgrade(&call.parts.headers);
    let onward = onward(&call, path, if upgrades { None } else { Some(body) })?;
    // Pings are the node's business.
    let stop = call.backend.stop.clone();
    let terms = Terms { patience: ANSWER, idle: IDLE, framing: Framing::Unknown, stop };
    let client = hyper::upgrade::on(Request::from_parts(call.parts.clone(), ()));
    let answer = httpproxy::hand_on(connection, onward, client, terms, ()).await;
    let answer = answer.map_err(|error| unreachable(&daemon::errors::describe(&error)))?;
    let status = answer.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let (parts, _) = answer.into_parts();
        return Ok(Response::from_parts(parts, respond::empty()));
    }
    if call.target.subresource != "proxy" && !status.is_success() {
        return Err(refused(&call, answer).await);
    }
    let (parts, body) = answer.into_parts();
    let mut handed = Response::new(body.map_err(BodyError::from).boxed_unsync());
    *handed.status_mut() = parts.status;
    if call.target.subresource == "proxy" {
        *handed.headers_mut() = httpproxy::answered(&parts.headers);
    } else if let Some(kind) = parts.headers.get(CONTENT_TYPE) {
        handed.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    Ok(handed)
}

fn onward(call: &Call<'_>, path: &str, body: Option<Incoming>) -> Result<Request<Onward>, Status> {
    let uri: Uri = path.parse().map_err(|_| Status::bad_request(format!("{path:?} is not a path")))?;
    let nothing = || Full::default().map_err(|never| match never {}).boxed_unsync();
    let mut onward = Request::new(body.map_or_else(nothing, BodyExt::boxed_unsync));
    *onward.method_mut() = call.parts.method.clone();
    *onward.uri_mut() = uri;
    *onward.headers_mut() = httpproxy::onward(&call.parts.headers, HeaderValue::from_static("node"));
    // A proxy for many nodes asks which one is meant.
    let asked = call.parts.uri.path().parse().ok().filter(|_| call.target.subresource == "proxy");
    if let Some(asked) = asked {
        onward.headers_mut().insert("x-forwarded-uri", asked);
    }
    Ok(onward)
}

/// A node's refusal as a Status, in kube-apiserver's words.
async fn refused(call: &Call<'_>, answer: Response<Incoming>) -> Status {
    let code = answer.status();
    let body = tokio::time::timeout(ANSWER, Limited::new(answer.into_body(), REFUSAL).collect()).await;
    let bytes = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    // A node says why in plain text, or as an object.
    let status = serde_json::from_slice::<Status>(&bytes).ok().filter(|status| status.code == code.as_u16());
    let said =
        status.map_or_else(|| String::from_utf8_lossy(&bytes).trim_end().to_owned(), |status| status.message);
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(said),
        StatusCode::NOT_FOUND => Status::new(404, "NotFound", said),
        StatusCode::TOO_MANY_REQUESTS => Status::new(429, "TooManyRequests", said),
        StatusCode::INTERNAL_SERVER_ERROR => Status::internal(said),
        code => {
            let (what, name) = (&call.target.subresource, &call.target.name);
            Status::new(
                code.as_u16(),
                "InternalError",
                format!("{what} of {name}: the node answered {code}: {said}"),
            )
        }
    }
}
