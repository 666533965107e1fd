//! Logs, exec, attach and port-forward of this node's pods: asked of the Node API beside us, so that they work without
//! the cloud. Requests are translated as kube-apiserver does (`pkg/registry/core/pod/strategy.go`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use apimachinery::Status;
use apimachinery::listing::Asked as _;
use apimachinery::object::{list, text};
use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::BodyExt as _;
use kubeapi::Call;
use kubeapi::request::Incoming;
use kubeapi::respond::{Answer, Body};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::pass;

const CONNECT: Duration = Duration::from_secs(5);
/// What is read of a refusal.
const REFUSAL: usize = 10 * 1024;

/// The Node API's socket.
#[derive(Clone, Debug)]
pub(crate) struct NodeApi(pub PathBuf);

/// True if the Node API answers this subresource.
pub(crate) fn is_one<B>(call: &Call<'_, B>) -> bool {
    let is_asked = match call.target.subresource.as_str() {
        "log" => call.parts.method == Method::GET,
        "exec" | "attach" | "portforward" => matches!(call.parts.method, Method::GET | Method::POST),
        _ => false,
    };
    is_asked && call.target.served.is_core("pods")
}

impl NodeApi {
    /// `pod` is the pod that is asked about; whoever asks may do it.
    pub(crate) async fn answer<B>(
        &self,
        call: &Call<'_, B>,
        pod: &Value,
        body: Option<Incoming>,
        stop: &CancellationToken,
    ) -> Result<Answer, Status> {
        let path = path(call, pod)?;
        let trouble = |why: String| Status::unavailable(format!("the Node API of this node: {why}"));
        let stream = connect(&self.0).await.map_err(trouble)?;
        let headers = httpproxy::onward(&call.parts.headers, HeaderValue::from_static("node"));
        let body = body.filter(|_| call.target.subresource != "log");
        let answer = pass::over(Box::new(stream), &path, headers, &call.parts, body, stop).await;
        let answer = answer.map_err(trouble)?;
        if answer.status().is_success() || answer.status().as_u16() == 101 {
            return Ok(answer);
        }
        let code = answer.status();
        let is_status = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
        if is_status {
            return Ok(answer);
        }
        let text = timeout(CONNECT, refusal(answer.into_body())).await.unwrap_or_default();
        let reason = code.canonical_reason().unwrap_or("Unknown").replace(' ', "");
        let message = String::from_utf8_lossy(&text).trim().to_owned();
        Err(Status { code: code.as_u16(), reason: reason.into(), message, ..Status::default() })
    }
}

/// The beginning of a body.
async fn refusal(mut body: Body) -> Vec<u8> {
    let mut text = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let data = frame.into_data().unwrap_or_default();
        text.extend_from_slice(&data[..data.len().min(REFUSAL - text.len())]);
    }
    text
}

async fn connect(socket: &Path) -> Result<UnixStream, String> {
    match timeout(CONNECT, UnixStream::connect(socket)).await {
        Ok(stream) => stream.map_err(|error| format!("connecting to {}: {error}", socket.display())),
        Err(_) => Err(format!("connecting to {} took too long", socket.display())),
    }
}

fn path<B>(call: &Call<'_, B>, pod: &Value) -> Result<String, Status> {
    let (namespace, name) = (encoded(&call.target.namespace), encoded(&call.target.name));
    let mut query = String::new();
    let mut add = |name: &str, value: &str| {
        query.push(if query.is_empty() { '?' } else { '&' });
        let _ = write!(query, "{name}={}", encoded(value));
    };
    let path = match call.target.subresource.as_str() {
        "portforward" => {
            call.query.all("ports").for_each(|port| add("port", port));
            format!("/portForward/{namespace}/{name}")
        }
        "log" => {
            const OPTIONS: [&str; 8] = [
                "follow",
                "previous",
                "sinceSeconds",
                "sinceTime",
                "timestamps",
                "tailLines",
                "limitBytes",
                "stream",
            ];
            let given = OPTIONS.iter().filter(|option| !call.query.get(option).is_empty());
            given.for_each(|option| add(option, call.query.get(option)));
            format!("/containerLogs/{namespace}/{name}/{}", encoded(&container(call, pod)?))
        }
        verb => {
            for (from, to) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")]
            {
                if call.query.flag(from) {
                    add(to, "1");
                }
            }
            call.query.all("command").for_each(|word| add("command", word));
            format!("/{verb}/{namespace}/{name}/{}", encoded(&container(call, pod)?))
        }
    };
    Ok(path + &query)
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The container that is meant.
fn container<B>(call: &Call<'_, B>, pod: &Value) -> Result<String, Status> {
    let name = &call.target.name;
    let all = ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"];
    let names = |at: &str| list(pod, at).iter().map(|one| text(one, "/name")).collect::<Vec<_>>();
    match call.query.get("container") {
        "" => match names(all[0]).as_slice() {
            [only] => Ok((*only).to_owned()),
            several => Err(Status::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                several.join(" ")
            ))),
        },
        wanted if all.iter().any(|at| names(at).contains(&wanted)) => Ok(wanted.to_owned()),
        wanted => Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}"))),
    }
}
