//! The HTTPS server: one AdmissionReview a request.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::webhooks::Answer;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use listener::Client;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Judge;
use super::identity::Shown;

/// API servers keep a few connections open.
const TERMS: listener::Terms = listener::Terms {
    what: "the admission webhooks",
    places: 128,
    first_byte: PATIENCE,
    drain: Duration::from_secs(1),
};
/// For the handshake, and for the body of a question.
const PATIENCE: Duration = Duration::from_secs(5);
/// For the head of a request, which is also how long a connection is kept that is not used.
const HEADERS: Duration = Duration::from_secs(90);
/// For an answer: less than configurations grant a question about endpoints, the only one that waits for something.
const ANSWER: Duration = Duration::from_millis(2500);
/// Pods have some KiB. A longer question is not answered, and its object stored as it is.
const BODY: usize = 1024 * 1024;
const HEAD: usize = 16 * 1024;
/// Questions parsed and answered at once.
pub(super) const AT_ONCE: usize = 8;

pub(super) async fn run(listener: TcpListener, shown: Shown, judge: Judge, stop: CancellationToken) {
    let (tls, judge) = (shown.acceptor(), Arc::new(judge));
    let serve = move |client: Client<TcpListener>| talk(client, tls.clone(), judge.clone());
    tokio::select! {
        never = shown.follow() => match never {},
        () = listener::serve(listener, TERMS, stop, serve) => {}
    }
}

async fn talk(client: Client<TcpListener>, tls: TlsAcceptor, judge: Arc<Judge>) {
    let Client { stream, place, stop, .. } = client;
    let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await else { return };
    let service = service_fn(move |request| {
        let judge = judge.clone();
        async move {
            let answer = answer(request, &judge).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|(status, why)| text(status, why)))
        }
    });
    // Nobody has said who he is: a connection gives way to a newer one for as long as it is open.
    let _place = place;
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        ended = connection.as_mut() => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "connection to the admission webhooks ended");
    }
}

type Refusal = (StatusCode, &'static str);

async fn answer(request: Request<Incoming>, judge: &Judge) -> Result<Response<Full<Bytes>>, Refusal> {
    if request.method() != Method::POST {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "webhooks are posted to"));
    }
    let path = request.uri().path().to_owned();
    let body = tokio::time::timeout(PATIENCE, Limited::new(request.into_body(), BODY).collect()).await;
    let body = match body {
        Err(_) => return Err((StatusCode::REQUEST_TIMEOUT, "the question took too long")),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "the question is longer than 1 MiB"));
        }
        Ok(Err(_)) => return Err((StatusCode::BAD_REQUEST, "the question broke off")),
        Ok(Ok(body)) => body.to_bytes(),
    };
    let judged = async {
        // It is never closed.
        let _turn = judge.turns.acquire().await;
        let review: Value = serde_json::from_slice(&body)
            .map_err(|_| (StatusCode::BAD_REQUEST, "the question is not JSON"))?;
        let request = Answer::question(&review);
        let request =
            request.ok_or((StatusCode::BAD_REQUEST, "not an AdmissionReview of admission.k8s.io/v1"))?;
        let answer = judge.answer(&path, request).await;
        let answer = answer.ok_or((StatusCode::NOT_FOUND, "there is no webhook at this path"))?;
        Ok(answer.to_json(request["uid"].as_str().unwrap_or_default()).to_string())
    };
    let late = || Err((StatusCode::SERVICE_UNAVAILABLE, "too much to do; the object is stored as it is"));
    let answer = tokio::time::timeout(ANSWER, judged).await.unwrap_or_else(|_| late())?;
    let mut response = Response::new(Full::new(Bytes::from(answer)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn text(status: StatusCode, why: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(why.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
