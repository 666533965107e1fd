//! Requests to answers; and `/run`, a command whose output is the answer.

use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Incoming;

use super::answer::{self, Answer};
use super::podlist;
use super::query::Query;
use super::router::{self, Metrics, PodName, Route};
use super::target::HttpRefusal;
use super::{ServerState, health};

/// How long a command of `/run` may take.
const RUN_LIMIT: Duration = Duration::from_secs(120);

impl ServerState {
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Answer {
        let route = match router::route(request.method(), request.uri().path()) {
            Ok(route) => route,
            Err(status) => return answer::text(status, format!("no such thing: {}", request.uri().path())),
        };
        let query = Query::parse(request.uri().query());
        match self.carry_out(route, &query, request).await {
            Ok(answer) => answer,
            Err(refusal) => refusal.answer(),
        }
    }

    async fn carry_out(
        &self,
        route: Route,
        query: &Query,
        request: Request<Incoming>,
    ) -> Result<Answer, HttpRefusal> {
        Ok(match route {
            Route::Health(what) => health::answer(what, request.uri().query(), &self.health),
            Route::Pods => answer::json(&podlist::list(self.pods())),
            Route::RunningPods => answer::json(&podlist::list(self.running_pods().await?)),
            Route::Logs { pod, container } => self.logs(&pod, &container, query).await?,
            Route::Exec { pod, container } => self.exec(&pod, &container, query, request).await?,
            Route::Attach { pod, container } => self.attach(&pod, &container, query, request).await?,
            Route::PortForward { pod } => self.port_forward(&pod, query, request).await?,
            Route::Tcp { of, port } => self.tcp(&of, port, request).await?,
            Route::Http(backend) => self.http(backend, request).await?,
            Route::Run { pod, container } => self.run(&pod, &container, query).await?,
            Route::Summary => answer::json(&self.summary(query.says("only_cpu_and_memory")).await),
            Route::Metrics(Metrics::Process) => answer::metrics(self.process_metrics().await),
            Route::Metrics(Metrics::Resource) => answer::metrics(self.resource_metrics().await),
            Route::Metrics(Metrics::Cadvisor) => answer::metrics(self.cadvisor_metrics().await),
        })
    }

    /// `cmd` is split at spaces, as the kubelet does.
    async fn run(&self, pod: &PodName, container: &str, query: &Query) -> Result<Answer, HttpRefusal> {
        let command: Vec<String> =
            query.get("cmd").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        if command.is_empty() {
            return Err(HttpRefusal::new(StatusCode::BAD_REQUEST, "cmd is missing"));
        }
        let id = self.running(&self.pod(pod)?, container).await?;
        let done = self.base.runtime.exec_sync(&id, command, RUN_LIMIT).await;
        let done = done.map_err(|error| HttpRefusal::trouble(&error))?;
        let mut output = done.stdout;
        output.extend(done.stderr);
        match done.exit_code {
            0 => Ok(answer::plain(output)),
            code => {
                let text = format!("{}command ended with {code}", String::from_utf8_lossy(&output));
                Err(HttpRefusal::new(StatusCode::INTERNAL_SERVER_ERROR, text))
            }
        }
    }
}
