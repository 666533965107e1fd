//! A client of the Kubernetes API that is a node: every request of it is judged and sent as the node's own are.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use message::{NodeName, Status};
use tower_service::Service;

use super::{Body, Requests, refusal};

/// Reads as `node`.
#[derive(Clone)]
pub(super) struct NodeReads {
    pub(super) requests: Requests,
    pub(super) node: NodeName,
}

impl NodeReads {
    pub(super) fn into_client(self) -> kube::Client {
        kube::Client::new(self, "default")
    }
}

impl Service<Request<kube::client::Body>> for NodeReads {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    /// What is refused is an answer like the API server's.
    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let NodeReads { requests, node } = self.clone();
        Box::pin(async move {
            // Reads have no body.
            let (parts, _) = request.into_parts();
            let answered = requests.for_the_node(&node, parts, Bytes::new()).await;
            Ok(answered.unwrap_or_else(|status| refusal(&status)))
        })
    }
}
