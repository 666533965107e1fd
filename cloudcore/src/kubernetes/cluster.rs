//! Requests to the API server.

use std::path::PathBuf;
use std::time::Duration;

use apimachinery::path::percent_encode;
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use message::{Json, Status};
use serde::Deserialize;

use super::metrics::Metrics;
use super::raw::Meta;
use super::recovery::{Reach, Recovery};

/// Time a request may take, from the connection to the last byte of its answer.
const DEADLINE: Duration = Duration::from_secs(15);
/// Time to reach the API server.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection of watches on which nothing arrives for this long is dead: watches are asked to end earlier.
const SILENCE: Duration = Duration::from_secs(18);

/// Objects asked for at once when listing.
const PAGE: u32 = 500;
/// Media type of lists without specs and statuses (Kubernetes API concepts, "metadata-only fetches").
const ONLY_METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

#[derive(Default, Deserialize)]
#[serde(default)]
struct MetadataPage {
    metadata: ListMeta,
    items: Vec<Item>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ListMeta {
    /// Where the next page begins; empty on the last one.
    #[serde(rename = "continue")]
    token: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Item {
    metadata: Meta,
}

/// Handle of the cluster. Clones share the connections.
#[derive(Clone)]
pub struct Cluster {
    client: kube::Client,
    /// On connections of its own, that notice silence.
    pub(super) watching: kube::Client,
    /// Without credentials of CloudCore's, for requests that bring their own.
    callers: kube::Client,
    /// With CloudCore's credentials, for requests of others: tries nothing again.
    relaying: kube::Client,
    ca: std::sync::Arc<str>,
    metrics: Metrics,
    pub(super) reach: Reach,
}

/// How a patch is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    Strategic,
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("reading kubeconfig {path}")]
    Kubeconfig { path: PathBuf, source: kube::config::KubeconfigError },
    #[error(
        "no cluster found: give kubeAPIConfig.kubeConfig, KUBECONFIG or run inside a cluster, or use --standalone"
    )]
    NoCluster(#[source] kube::config::InferConfigError),
    #[error("building the Kubernetes client")]
    Client(#[source] Box<kube::Error>),
}

impl Cluster {
    /// Connects by the kubeconfig at `path`, or as a pod of the cluster, or by the user's kubeconfig.
    pub async fn connect(path: Option<PathBuf>, master: &str) -> Result<Cluster, ConnectError> {
        let mut config = match path {
            Some(path) => {
                let error = |source| ConnectError::Kubeconfig { path: path.clone(), source };
                let file = Kubeconfig::read_from(&path).map_err(error)?;
                kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                    .await
                    .map_err(error)?
            }
            None => kube::Config::infer().await.map_err(ConnectError::NoCluster)?,
        };
        if let Ok(uri) = master.parse::<http::Uri>()
            && uri.host().is_some()
        {
            config.cluster_url = uri;
        }
        let ca =
            config.root_cert.iter().flatten().map(|der| pki::files::certificate_pem(der)).collect::<String>();
        config.connect_timeout = Some(CONNECT);
        // The manager of the fields it writes, as KubeEdge's is.
        let agent = http::HeaderValue::from_static(concat!("cloudcore/", env!("CARGO_PKG_VERSION")));
        config.headers.push((http::header::USER_AGENT, agent));
        let mut callers = config.clone();
        callers.auth_info = kube::config::AuthInfo::default();
        callers.headers.clear();
        callers.read_timeout = None;
        // What is handed on is told as it comes: a refused eviction (429) would be tried for minutes.
        callers.default_retry = false;
        let mut relaying = config.clone();
        relaying.default_retry = false;
        let mut watching = config.clone();
        watching.read_timeout = Some(SILENCE);
        let build =
            |config| kube::Client::try_from(config).map_err(|source| ConnectError::Client(Box::new(source)));
        Ok(Cluster {
            client: build(config)?,
            watching: build(watching)?,
            callers: build(callers)?,
            relaying: build(relaying)?,
            ca: ca.into(),
            metrics: Metrics::default(),
            reach: Reach::default(),
        })
    }

    /// With a client of the caller's making, for watches as well.
    #[cfg(test)]
    pub(crate) fn with_client(client: kube::Client) -> Cluster {
        Cluster {
            watching: client.clone(),
            callers: client.clone(),
            relaying: client.clone(),
            client,
            ca: "".into(),
            metrics: Metrics::default(),
            reach: Reach::default(),
        }
    }

    /// The next time that the API server is back after failing.
    pub fn recovery(&self) -> Recovery {
        self.reach.next()
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The CA certificates of the API server as PEM; empty if it is trusted by the system's own.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// Sends a request as it is, with the credentials that it brings. The body of the answer is read by who asked.
    ///
    /// # Errors
    /// 503: the API server cannot be reached.
    pub async fn send_as_caller(
        &self,
        request: Request<kube::client::Body>,
    ) -> Result<http::Response<kube::client::Body>, Status> {
        self.callers.send(request).await.map_err(to_status)
    }

    /// Sends a request as CloudCore. The body of the answer is read by who asked.
    ///
    /// # Errors
    /// 503: the API server cannot be reached.
    pub async fn send_raw(
        &self,
        request: Request<kube::client::Body>,
    ) -> Result<http::Response<kube::client::Body>, Status> {
        self.relaying.send(request).await.map_err(to_status)
    }

    pub async fn get(&self, path: &str) -> Result<Json, Status> {
        self.send(Method::GET, path, None, String::new()).await
    }

    /// The metadata of every object of `collection`, asked for in pages of 500 objects.
    ///
    /// # Errors
    /// The API server's own words about the first page that failed; 410 if the list took longer than it keeps pages.
    pub async fn list_metadata(&self, collection: &str) -> Result<Vec<Meta>, Status> {
        let (mut found, mut next) = (Vec::new(), String::new());
        loop {
            let path = format!("{collection}?limit={PAGE}{next}");
            let page = self.send(Method::GET, &path, Some(ONLY_METADATA), String::new()).await?;
            let page: MetadataPage =
                page.parse().map_err(|error| Status::new(500, "InternalError", error.to_string()))?;
            found.extend(page.items.into_iter().map(|item| item.metadata));
            if page.metadata.token.is_empty() {
                return Ok(found);
            }
            next = format!("&continue={}", percent_encode(&page.metadata.token));
        }
    }

    pub async fn create(&self, collection: &str, object: &Json) -> Result<Json, Status> {
        self.send(Method::POST, collection, Some("application/json"), object.text().to_owned()).await
    }

    pub async fn replace(&self, path: &str, object: &Json) -> Result<Json, Status> {
        self.send(Method::PUT, path, Some("application/json"), object.text().to_owned()).await
    }

    pub async fn patch(&self, path: &str, merge: Merge, patch: String) -> Result<Json, Status> {
        let kind = match merge {
            Merge::Strategic => "application/strategic-merge-patch+json",
            Merge::Json => "application/merge-patch+json",
        };
        self.send(Method::PATCH, path, Some(kind), patch).await
    }

    pub async fn delete(&self, path: &str, options: &Json) -> Result<Json, Status> {
        self.send(Method::DELETE, path, Some("application/json"), options.text().to_owned()).await
    }

    /// Sends one request and reads its whole answer, within [`DEADLINE`]. `kind`: media type of the body, or of the
    /// answer that is wanted where there is no body.
    async fn send(
        &self,
        method: Method,
        path: &str,
        kind: Option<&str>,
        body: String,
    ) -> Result<Json, Status> {
        let verb = match method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "get",
        };
        let what = format!("{method} {path}");
        let answered = tokio::time::timeout(DEADLINE, self.send_within(method, path, kind, body)).await;
        let result = answered.unwrap_or_else(|_| {
            let text = format!("the API server did not answer {what} within {} s", DEADLINE.as_secs());
            Err(Status::new(504, "Timeout", text))
        });
        self.metrics.request(verb, &result);
        self.reach.note(&result);
        result
    }

    async fn send_within(
        &self,
        method: Method,
        path: &str,
        kind: Option<&str>,
        body: String,
    ) -> Result<Json, Status> {
        let names_kind =
            if method == Method::GET { http::header::ACCEPT } else { http::header::CONTENT_TYPE };
        let mut request = Request::builder().method(method).uri(path);
        if let Some(kind) = kind {
            request = request.header(names_kind, kind);
        }
        let request = request
            .body(body.into_bytes())
            .map_err(|error| Status::new(400, "BadRequest", format!("request path {path:?}: {error}")))?;
        let text = self.client.request_text(request).await.map_err(to_status)?;
        Json::from_text(text).map_err(|error| Status::new(500, "InternalError", error.to_string()))
    }
}

/// The API server's own words, or 503 for trouble on the way to it.
pub(crate) fn to_status(error: kube::Error) -> Status {
    match error {
        // Both are `metav1.Status`; kube's has fields of its own besides.
        kube::Error::Api(status) => {
            serde_json::to_value(&*status).and_then(serde_json::from_value).unwrap_or_else(|_| Status {
                code: status.code,
                message: status.message.clone(),
                ..Status::default()
            })
        }
        other => Status::new(503, "ServiceUnavailable", format!("the API server cannot be reached: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures_util::stream;
    use http::Response;
    use http_body_util::combinators::BoxBody;
    use http_body_util::{BodyExt, StreamBody};
    use hyper::body::Frame;
    use kube::client::Body;

    type Answer = Result<Response<BoxBody<Bytes, Infallible>>, Infallible>;

    fn cluster<F>(answer: impl Fn() -> F + Clone + Send + 'static) -> Cluster
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let service = tower::service_fn(move |_: Request<Body>| answer());
        Cluster::with_client(kube::Client::new(service, "default"))
    }

    async fn ask(cluster: &Cluster) -> Status {
        let began = tokio::time::Instant::now();
        let status = cluster.get("/api/v1/nodes/e1").await.unwrap_err();
        assert!(began.elapsed() <= DEADLINE, "{:?}", began.elapsed());
        status
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_costs_the_deadline_and_may_be_asked_again() {
        let silent = cluster(std::future::pending);
        let status = ask(&silent).await;
        assert!(status.is_retryable() && status.message.contains("GET /api/v1/nodes/e1"), "{status}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_answers_a_byte_a_second_costs_the_deadline() {
        let slow = cluster(|| async {
            let bytes = stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Some((Ok(Frame::data(Bytes::from_static(b" "))), ()))
            });
            Ok(Response::new(StreamBody::new(Box::pin(bytes)).boxed()))
        });
        assert_eq!(ask(&slow).await.code, 504);
    }
}
