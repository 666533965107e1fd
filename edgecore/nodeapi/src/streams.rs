//! Exec, attach and port-forward: a one-use URL of the runtime's streaming server, and a proxy between it and the
//! client. The URL stays here (docs/protocol/edge-runtime.md 6.6).

use cri::v1::{AttachRequest, ExecRequest, PortForwardRequest};
use http::{Request, StatusCode};
use hyper::body::Incoming;

use super::ServerState;
use super::answer::Answer;
use super::proxy;
use super::query::Query;
use super::router::PodName;
use super::target::HttpRefusal;

/// Which streams the client wants; a terminal has no separate stderr.
struct Streams {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Streams {
    fn of(query: &Query) -> Result<Streams, HttpRefusal> {
        let tty = query.says("tty");
        let streams = Streams {
            stdin: query.says("input"),
            stdout: query.says("output"),
            stderr: query.says("error") && !tty,
            tty,
        };
        if streams.stdin || streams.stdout || streams.stderr {
            return Ok(streams);
        }
        Err(HttpRefusal::new(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr"))
    }
}

impl ServerState {
    pub(crate) async fn exec(
        &self,
        pod: &PodName,
        container: &str,
        query: &Query,
        request: Request<Incoming>,
    ) -> Result<Answer, HttpRefusal> {
        proxy::check(&request)?;
        let Streams { stdin, stdout, stderr, tty } = Streams::of(query)?;
        let cmd: Vec<String> = query.all("command").map(str::to_owned).collect();
        if cmd.is_empty() {
            return Err(HttpRefusal::new(StatusCode::BAD_REQUEST, "command is missing"));
        }
        let container_id = self.running(&self.pod(pod)?, container).await?;
        let wanted = ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
        let url = self.base.runtime.exec(wanted).await.map_err(|error| HttpRefusal::trouble(&error))?;
        self.proxy(request, &url).await
    }

    pub(crate) async fn attach(
        &self,
        pod: &PodName,
        container: &str,
        query: &Query,
        request: Request<Incoming>,
    ) -> Result<Answer, HttpRefusal> {
        proxy::check(&request)?;
        let Streams { stdin, stdout, stderr, tty } = Streams::of(query)?;
        let container_id = self.running(&self.pod(pod)?, container).await?;
        let wanted = AttachRequest { container_id, stdin, tty, stdout, stderr };
        let url = self.base.runtime.attach(wanted).await.map_err(|error| HttpRefusal::trouble(&error))?;
        self.proxy(request, &url).await
    }

    /// WebSocket clients name the ports in the query, SPDY clients in their streams.
    pub(crate) async fn port_forward(
        &self,
        pod: &PodName,
        query: &Query,
        request: Request<Incoming>,
    ) -> Result<Answer, HttpRefusal> {
        proxy::check(&request)?;
        let ports = query.all("port").chain(query.all("ports")).flat_map(|list| list.split(','));
        let read = |text: &str| match text.parse::<u16>() {
            Ok(port) if port > 0 => Ok(i32::from(port)),
            _ => Err(HttpRefusal::new(StatusCode::BAD_REQUEST, format!("{text:?} is not a port"))),
        };
        let port = ports.map(read).collect::<Result<Vec<i32>, HttpRefusal>>()?;
        let pod_sandbox_id = self.sandbox(&self.pod(pod)?).await?;
        let wanted = PortForwardRequest { pod_sandbox_id, port };
        let url =
            self.base.runtime.port_forward(wanted).await.map_err(|error| HttpRefusal::trouble(&error))?;
        self.proxy(request, &url).await
    }
}
