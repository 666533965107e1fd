//! The room on a socket, without an API server.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pki::{Authority, Bundle};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;

struct Lab {
    address: SocketAddr,
    ca: Vec<u8>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), WebhooksError>>,
    _trust: watch::Sender<Arc<Trust>>,
}

impl Lab {
    async fn start() -> Lab {
        pki::install_provider();
        let authority = Authority::generate(None, daemon::clock::unix_seconds()).unwrap();
        let ca = authority.certificate().to_vec();
        let bundle = Bundle::of(&ca);
        let trust = Trust { authority: Arc::new(authority), bundle, intermediates: Vec::new() };
        let (sender, trust) = watch::channel(Arc::new(trust));
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let settings = Settings { listen: free, reached: Reached::Service, offline: Offline::Ignore };
        let room = Webhooks::build(&settings, trust).unwrap();
        let silent = tower::service_fn(|_: Request<kube::client::Body>| async {
            std::future::pending::<Result<http::Response<kube::client::Body>, std::convert::Infallible>>()
                .await
        });
        let cluster = Cluster::with_client(kube::Client::new(silent, "default"));
        let stop = CancellationToken::new();
        let running = room.run(Autonomy::default(), EdgeLinks::default(), cluster, stop.clone());
        Lab { address: free, ca, stop, running: tokio::spawn(running), _trust: sender }
    }

    async fn tcp(&self) -> TcpStream {
        loop {
            // The room begins to listen in its own time.
            match TcpStream::connect(self.address).await {
                Ok(stream) => return stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// Status and text of the answer.
    async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> (u16, String) {
        let tls = TlsConnector::from(pki::tls::client(&self.ca, None).unwrap());
        let name = "cloudcore-webhooks.kubeedge.svc".try_into().unwrap();
        let stream = tls.connect(name, self.tcp().await).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "x");
        let answer = sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

fn question(request: &Value) -> Vec<u8> {
    let mut request = request.clone();
    request["uid"] = json!("u-1");
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    review.to_string().into_bytes()
}

#[tokio::test]
async fn whoever_asks_costs_no_more_than_a_question_may() {
    let lab = Lab::start().await;
    // Silent clients take no place from others.
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(lab.tcp().await);
    }
    let pod = question(&json!({"operation": "CREATE", "object": {"kind": "Pod"}}));
    for (method, path, body, status) in [
        (Method::GET, paths::PODS, Vec::new(), 405),
        (Method::POST, paths::PODS, b"noise".to_vec(), 400),
        (Method::POST, paths::PODS, b"{}".to_vec(), 400),
        (Method::POST, paths::PODS, b"[".repeat(1000), 400),
        (Method::POST, paths::PODS, vec![b' '; 2 * 1024 * 1024], 413),
        (Method::POST, "/", pod.clone(), 404),
        (Method::POST, "/mutate/pods/", pod.clone(), 404),
    ] {
        let (found, said) = lab.ask(method, path, body).await;
        assert_eq!(found, status, "{path}: {said}");
    }
    for path in [paths::PODS, paths::ENDPOINTS, paths::WARN, paths::DENY] {
        let (status, said) = lab.ask(Method::POST, path, pod.clone()).await;
        let review: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((status, &review["response"]), (200, &json!({"uid": "u-1", "allowed": true})));
    }
    lab.stop.cancel();
    lab.running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_pod_that_says_that_it_stays_is_answered_with_a_patch() {
    let lab = Lab::start().await;
    let labels = json!({"app-offline.kubeedge.io": "autonomy"});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": labels}, "spec": {}});
    let (_, said) =
        lab.ask(Method::POST, paths::PODS, question(&json!({"operation": "CREATE", "object": pod}))).await;
    let review = serde_json::from_str(&said).unwrap();
    let answer = Answer::read(&review, "u-1", apimachinery::webhooks::Phase::Mutating).unwrap();
    let Verdict::Patched(patch) = answer.verdict else { panic!("{review}") };
    let patched =
        apimachinery::patch::apply(apimachinery::patch::PatchKind::Json, &pod, &patch, None).unwrap();
    assert_eq!(patched["spec"]["tolerations"].as_array().unwrap().len(), 2);
    lab.stop.cancel();
    lab.running.await.unwrap().unwrap();
}
