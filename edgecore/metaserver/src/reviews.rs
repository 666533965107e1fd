//! Reviews that the kubelet asks for: those about what this node shows to it are answered here, with the cloud and without.

use apimachinery::Status;
use apimachinery::path::ResourcePath;
use http::Method;
use http::request::Parts;
use kubeapi::request::{self, Incoming};
use kubeapi::respond::{self, Answer};
use kubeletproxy::{Passes, Question};

/// The answer, or the body for the cloud. `is_kubelet`: who asks has shown the node's certificate.
pub(crate) async fn answer(
    passes: Option<&Passes>,
    is_kubelet: bool,
    (path, parts): (&ResourcePath, &Parts),
    body: Incoming,
) -> Result<Result<Answer, Incoming>, Status> {
    let is_creation = parts.method == Method::POST && path.name.is_empty() && path.namespace.is_empty();
    let (Some(passes), Some(asked), true) = (passes, Question::of(&path.resource), is_creation) else {
        return Ok(Err(body));
    };
    let bytes = request::body(&parts.headers, body).await?;
    let review = request::parse(request::content_type(&parts.headers), &bytes)?;
    Ok(match passes.answer(asked, &review, is_kubelet) {
        Some(told) => Ok(respond::json(201, &told)),
        None => Err(Incoming::Program(bytes)),
    })
}
