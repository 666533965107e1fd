//! The approver beside an API server that fails for some and learns of nodes later.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;

use super::check::tests::{OWN, request};
use super::waiting::TRIES;
use super::*;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// An API server with nodes and signing requests.
#[derive(Clone)]
struct Server {
    requests: Arc<BTreeMap<String, Value>>,
    /// Addresses of nodes.
    nodes: Arc<Mutex<HashMap<String, Vec<String>>>>,
    /// Approvals, in the order they came, with the time since the start.
    asked: Arc<Mutex<Vec<(String, Duration)>>>,
    start: Instant,
}

impl Server {
    fn with(requests: &[(&str, &str, &str)]) -> Server {
        let requests = requests.iter().map(|(name, node, host)| {
            let mut object = request(&format!("system:node:{node}"), "system:nodes", &[host]);
            object["metadata"] = json!({"name": name, "uid": name, "resourceVersion": "1"});
            ((*name).to_owned(), object)
        });
        Server {
            requests: Arc::new(requests.collect()),
            nodes: Arc::default(),
            asked: Arc::default(),
            start: Instant::now(),
        }
    }

    fn node(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
        self.nodes.lock().unwrap().insert(name.to_owned(), addresses);
    }

    fn approved(&self, name: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(asked, _)| asked == name).count()
    }

    fn answer(&self, method: &Method, uri: &http::Uri) -> (u16, Value) {
        let path = uri.path();
        if path == WHO_AM_I {
            return (201, json!({"status": {"userInfo": {"username": OWN}}}));
        }
        if path == REQUESTS {
            let items: Vec<&Value> = self.requests.values().collect();
            return (200, json!({"metadata": {"resourceVersion": "7"}, "items": items}));
        }
        if let Some(name) = path.strip_prefix("/api/v1/nodes/") {
            let Some(addresses) = self.nodes.lock().unwrap().get(name).cloned() else {
                return (
                    404,
                    json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "none"}),
                );
            };
            let addresses: Vec<Value> =
                addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
            return (200, json!({"status": {"addresses": addresses}}));
        }
        let name = path.strip_prefix(&format!("{REQUESTS}/")).unwrap();
        match name.strip_suffix("/approval") {
            Some(name) => {
                assert_eq!(method, Method::PUT);
                self.asked.lock().unwrap().push((name.to_owned(), self.start.elapsed()));
                match name.starts_with("bad") {
                    true => (500, json!({"kind": "Status", "code": 500, "message": "a webhook fails"})),
                    false => (200, json!({})),
                }
            }
            None => (200, self.requests[name].clone()),
        }
    }

    fn cluster(&self) -> Cluster {
        let server = self.clone();
        let service = tower::service_fn(move |asked: Request<Body>| {
            let server = server.clone();
            async move {
                let is_watch = asked.uri().query().is_some_and(|query| query.contains("watch=true"));
                let body: BoxBody<Bytes, Infallible> = if is_watch {
                    BodyExt::boxed(StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>()))
                } else {
                    let (code, answer) = server.answer(asked.method(), asked.uri());
                    let answer =
                        Response::builder().status(code).body(Full::from(answer.to_string()).boxed());
                    return Ok::<_, Infallible>(answer.unwrap());
                };
                Ok(Response::new(body))
            }
        });
        Cluster::with_client(kube::Client::new(service, "default"))
    }

    /// Approves for as long as `time`.
    async fn run(&self, time: Duration) {
        let approved = approve_all(self.cluster(), CancellationToken::new());
        assert!(tokio::time::timeout(time, approved).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_the_api_server_keeps_failing_holds_up_no_other() {
    let bad: Vec<String> = (0..3 * AT_ONCE).map(|number| format!("bad-{number:02}")).collect();
    let mut requests: Vec<(&str, &str, &str)> =
        bad.iter().map(|name| (name.as_str(), name.as_str(), name.as_str())).collect();
    requests.push(("good", "good", "good"));
    let server = Server::with(&requests);
    requests.iter().for_each(|(_, node, _)| server.node(node, &[]));
    server.run(Duration::from_secs(600)).await;
    let asked = server.asked.lock().unwrap().clone();
    let good: Vec<Duration> = asked.iter().filter(|(name, _)| name == "good").map(|(_, at)| *at).collect();
    assert!(good.len() == 1 && good[0] < waiting::AGAIN, "{good:?}");
    for name in &bad {
        assert_eq!(server.approved(name), TRIES as usize, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_looked_at_again_once_its_node_is_there_and_has_told_its_address() {
    let server = Server::with(&[("r", "edge-1", "192.168.0.2"), ("other", "edge-2", "192.168.0.9")]);
    let told = server.clone();
    let later = async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(told.approved("r"), 0);
        told.node("edge-1", &[]);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(told.approved("r"), 0);
        told.node("edge-1", &["192.168.0.2"]);
        told.node("edge-2", &["192.168.0.3"]);
    };
    tokio::join!(server.run(Duration::from_secs(1200)), later);
    assert!(server.approved("r") > 0, "it was never looked at again");
    assert_eq!(server.approved("other"), 0);
}
