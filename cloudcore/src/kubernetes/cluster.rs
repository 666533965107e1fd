//! Requests to the API server.

use std::path::PathBuf;

use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use message::{Json, Status};

/// Handle of the cluster. Clones share the connection.
#[derive(Clone)]
pub struct Cluster {
    pub(super) client: kube::Client,
    ca: std::sync::Arc<str>,
}

/// How a patch is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    Strategic,
    Plain,
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
        let client =
            kube::Client::try_from(config).map_err(|source| ConnectError::Client(Box::new(source)))?;
        Ok(Cluster { client, ca: ca.into() })
    }

    /// The CA certificates of the API server as PEM; empty if it is trusted by the system's own.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    pub async fn get(&self, path: &str) -> Result<Json, Status> {
        self.send(Method::GET, path, None, String::new()).await
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
            Merge::Plain => "application/merge-patch+json",
        };
        self.send(Method::PATCH, path, Some(kind), patch).await
    }

    pub async fn delete(&self, path: &str, options: &Json) -> Result<Json, Status> {
        self.send(Method::DELETE, path, Some("application/json"), options.text().to_owned()).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        kind: Option<&str>,
        body: String,
    ) -> Result<Json, Status> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(kind) = kind {
            request = request.header(http::header::CONTENT_TYPE, kind);
        }
        let request = request
            .body(body.into_bytes())
            .map_err(|error| Status::failure(400, "BadRequest", format!("request path {path:?}: {error}")))?;
        let text = self.client.request_text(request).await.map_err(to_status)?;
        Json::from_text(text).map_err(|error| Status::failure(500, "InternalError", error.to_string()))
    }
}

/// The API server's own words, or 503 for trouble on the way to it.
fn to_status(error: kube::Error) -> Status {
    match error {
        kube::Error::Api(status) => {
            let details =
                status.details.as_ref().and_then(|details| serde_json::to_value(details).ok()).map(Box::new);
            Status { details, ..Status::failure(status.code, &status.reason, status.message.clone()) }
        }
        other => {
            Status::failure(503, "ServiceUnavailable", format!("the API server cannot be reached: {other}"))
        }
    }
}
