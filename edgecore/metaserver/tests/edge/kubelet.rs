//! The Node API of a hub in front of a scripted kubelet, which asks MetaServer who calls it, as kubelets do.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kubeletproxy::{Door, Passes, Settings, USER};
use message::ObjectKind;
use pki::Identity;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::client::Who;
use crate::cloud::{Cloud, NODE};
use crate::node::Node;

const TOKENS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const RIGHTS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const JSON: &str = "application/json";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A hub, its kubelet, and the socket of its Node API.
struct Site {
    cloud: Arc<Cloud>,
    node: Node,
    own: Identity,
    passes: Passes,
    kubelet: Arc<Kubelet>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Kubelet {
    /// The heads of requests that it answered.
    served: Mutex<Vec<(String, HeaderMap)>>,
    /// The lines of the log that is followed.
    log: Mutex<Option<mpsc::Receiver<String>>>,
}

fn whole(code: u16, text: String) -> Response<Body> {
    let mut answer = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    *answer.status_mut() = StatusCode::from_u16(code).unwrap();
    answer
}

/// What a kubelet is told of who shows `token`.
async fn who(node: &Node, own: &Identity, token: &str) -> Value {
    let review =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let told = node.write(&Who::Certificate(own), "POST", TOKENS, JSON, &review).await;
    assert_eq!(told.code, 201, "{}", told.body);
    told.body["status"].clone()
}

/// What it is told of whether that user may.
async fn may(node: &Node, own: &Identity, user: &Value, subresource: &str, name: &str) -> bool {
    let spec = json!({"user": user["username"], "uid": user["uid"], "groups": ["system:authenticated"],
        "resourceAttributes": {"verb": "get", "version": "v1", "resource": "nodes", "subresource": subresource, "name": name}});
    let review =
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
    let told = node.write(&Who::Certificate(own), "POST", RIGHTS, JSON, &review).await;
    assert_eq!(told.code, 201, "{}", told.body);
    told.body["status"]["allowed"] == true
}

/// A request that the kubelet is asked to judge.
struct Asked {
    token: String,
    subresource: &'static str,
    judged: oneshot::Sender<u16>,
}

impl Kubelet {
    async fn answer(&self, request: Request<Incoming>, judge: mpsc::Sender<Asked>) -> Response<Body> {
        let path = request.uri().to_string();
        let shown = request.headers().get("authorization").map(|shown| shown.to_str().unwrap().to_owned());
        let token =
            shown.and_then(|shown| shown.strip_prefix("Bearer ").map(str::to_owned)).unwrap_or_default();
        let subresource = match path.split(['/', '?']).nth(1).unwrap() {
            "stats" => "stats",
            "pods" => "pods",
            _ => "proxy",
        };
        let (judged, told) = oneshot::channel();
        judge.send(Asked { token, subresource, judged }).await.unwrap();
        let code = told.await.unwrap();
        if code != 200 {
            return whole(code, "Unauthorized".into());
        }
        self.served.lock().unwrap().push((path.clone(), request.headers().clone()));
        if path.contains("follow=true") {
            let log = self.log.lock().unwrap().take().unwrap();
            let lines = futures_util::stream::unfold(log, |mut log| async {
                log.recv().await.map(|line| (line, log))
            });
            let lines = lines.map(|line| Ok(Frame::data(Bytes::from(line))));
            return Response::new(StreamBody::new(lines).boxed_unsync());
        }
        if request.headers().contains_key("upgrade") {
            let upgrade = request.headers()["upgrade"].clone();
            tokio::spawn(async move {
                let session = hyper::upgrade::on(request).await.unwrap();
                let (mut from, mut to) = tokio::io::split(TokioIo::new(session));
                tokio::io::copy(&mut from, &mut to).await.unwrap();
            });
            let mut answer = whole(101, String::new());
            answer.headers_mut().insert("connection", "Upgrade".parse().unwrap());
            answer.headers_mut().insert("upgrade", upgrade);
            return answer;
        }
        whole(200, format!("answer to {path}\n"))
    }

    /// Listens with a certificate of its own making.
    async fn listen(self: Arc<Kubelet>, judge: mpsc::Sender<Asked>) -> std::net::SocketAddr {
        let made = rcgen::generate_simple_self_signed(["edge-1".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![made.cert.into()], key).unwrap();
        let tls = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kubelet, judge, tls) = (self.clone(), judge.clone(), tls.clone());
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = service_fn(move |request| {
                        let (kubelet, judge) = (kubelet.clone(), judge.clone());
                        async move { Ok::<_, Infallible>(kubelet.answer(request, judge).await) }
                    });
                    let serving = hyper::server::conn::http1::Builder::new();
                    let _ = serving.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
                });
            }
        });
        address
    }
}

impl Site {
    /// `foreign`: the kubelet would have to be another user's.
    async fn start(foreign: bool) -> (Site, mpsc::Receiver<Asked>) {
        let cloud = Cloud::start().await;
        let mut node = Node::start(&cloud).await;
        let (passes, kubelet) = (Passes::new(NODE).unwrap(), Arc::new(Kubelet::default()));
        let (judge, asked) = mpsc::channel(8);
        let address = kubelet.clone().listen(judge).await;
        let socket = node.folder.path().join("edged.sock");
        let owner = rustix::process::geteuid().as_raw() + u32::from(foreign);
        let settings = Settings { socket: socket.clone(), kubelet: address, owner };
        let (door, stop) = (Door::build(settings, passes.clone()).unwrap(), CancellationToken::new());
        tokio::spawn(door.run(stop.clone()));
        let shown = passes.clone();
        node.again(|node| {
            node.hub = true;
            node.passes = Some(shown);
            node.node_api = Some(socket);
        })
        .await;
        let own = node.own();
        (Site { cloud, node, own, passes, kubelet, stop }, asked)
    }

    /// Has the kubelet ask MetaServer about each request, as long as `answer` lasts.
    async fn judging<T>(&self, asked: &mut mpsc::Receiver<Asked>, answer: impl Future<Output = T>) -> T {
        let judging = async {
            while let Some(Asked { token, subresource, judged }) = asked.recv().await {
                let status = who(&self.node, &self.own, &token).await;
                let code = match status["authenticated"] == true {
                    false => 401,
                    true if may(&self.node, &self.own, &status["user"], subresource, NODE).await => 200,
                    true => 403,
                };
                judged.send(code).unwrap();
            }
        };
        tokio::select! {
            answer = answer => answer,
            () = judging => unreachable!("the kubelet stays"),
        }
    }

    /// Asks the Node API as CloudCore does.
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
        let stream = UnixStream::connect(self.node.folder.path().join("edged.sock")).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder().method(method).uri(path).header("host", "node");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap()
    }

    fn served(&self) -> Vec<(String, HeaderMap)> {
        self.kubelet.served.lock().unwrap().clone()
    }
}

async fn text(answer: Response<Incoming>) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_asks_metaserver_answers_what_the_cloud_asks_with_the_link_and_without() {
    let (site, mut asked) = Site::start(false).await;
    for is_cut in [false, true] {
        if is_cut {
            site.cloud.cut();
        }
        let before = site.cloud.count("reviews");
        let shown =
            [("authorization", "Bearer of.who.asks"), ("x-forwarded-uri", "/api/v1/nodes/edge-1/proxy/pods")];
        for path in ["/containerLogs/shop/web/c?tailLines=2", "/stats/summary", "/pods"] {
            let answer = site.judging(&mut asked, site.ask("GET", path, &shown)).await;
            assert_eq!((answer.status().as_u16(), text(answer).await), (200, format!("answer to {path}\n")));
        }
        assert_eq!(site.cloud.count("reviews"), before, "the cloud hears nothing of tokens");
    }
    let served = site.served();
    let tokens: std::collections::BTreeSet<_> =
        served.iter().map(|(_, headers)| headers["authorization"].to_str().unwrap().to_owned()).collect();
    assert_eq!(tokens.len(), 6, "each request has its own");
    assert!(tokens.iter().all(|token| !token.contains("of.who.asks")), "{tokens:?}");
    assert!(served.iter().all(|(_, headers)| !headers.contains_key("x-forwarded-uri")));
    // They are over with their requests.
    for token in tokens {
        let token = token.strip_prefix("Bearer ").unwrap().to_owned();
        assert_eq!(who(&site.node, &site.own, &token).await["authenticated"], false);
        assert_eq!(site.node.get(&Who::Token(&token), "/api/v1/namespaces/shop/configmaps").await.code, 401);
    }
    site.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn followed_logs_come_line_by_line_and_sessions_go_both_ways() {
    let (site, mut asked) = Site::start(false).await;
    let (log, lines) = mpsc::channel(1);
    *site.kubelet.log.lock().unwrap() = Some(lines);
    let path = "/containerLogs/shop/web/c?follow=true";
    let mut answer = site.judging(&mut asked, site.ask("GET", path, &[])).await;
    for line in ["first\n", "second\n"] {
        log.send(line.to_owned()).await.unwrap();
        let frame = answer.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), line);
    }
    drop(log);
    assert!(answer.body_mut().frame().await.is_none());

    for protocol in ["SPDY/3.1", "websocket"] {
        let headers = [("connection", "Upgrade"), ("upgrade", protocol)];
        let answer =
            site.judging(&mut asked, site.ask("POST", "/exec/shop/web/c?command=cat", &headers)).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["upgrade"]),
            (101, &protocol.parse().unwrap())
        );
        let mut session = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
        // Data of a stream in either framing.
        let said = match protocol {
            "websocket" => b"\x82\x83\x01\x02\x03\x04abc".to_vec(),
            _ => b"\x00\x00\x00\x01\x00\x00\x00\x03abc".to_vec(),
        };
        session.write_all(&said).await.unwrap();
        let mut heard = vec![0; said.len()];
        session.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, said, "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_users_process_at_the_kubelets_port_is_shown_nothing() {
    let (site, mut asked) = Site::start(true).await;
    let answer = site.ask("GET", "/pods", &[]).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["content-type"]), (502, &JSON.parse().unwrap()));
    let status: Value = serde_json::from_str(&text(answer).await).unwrap();
    let message = status["message"].as_str().unwrap();
    assert_eq!(status["kind"], "Status");
    assert!(message.contains("a process of user") && message.contains("hub.kubelet"), "{message}");
    assert!(asked.try_recv().is_err() && site.served().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_path_of_the_node_api_reaches_no_kubelet() {
    let (site, mut asked) = Site::start(false).await;
    for (method, path, code) in [
        ("GET", "/debug/pprof/heap", 404),
        ("GET", "/metrics/../run/shop/web/c", 404),
        ("GET", "/run/shop/web/c", 405),
    ] {
        assert_eq!(site.ask(method, path, &[]).await.status().as_u16(), code, "{path}");
    }
    assert!(asked.try_recv().is_err());
    // A kubelet that does not know the token says so to nobody but us.
    let refused = async {
        let Asked { judged, .. } = asked.recv().await.unwrap();
        judged.send(401).unwrap();
        std::future::pending::<()>().await
    };
    let answer = tokio::select! {
        answer = site.ask("GET", "/pods", &[]) => answer,
        () = refused => unreachable!(),
    };
    assert_eq!(answer.status().as_u16(), 502);
    assert!(text(answer).await.contains("authentication.webhook"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_these_tokens_is_had_in_no_other_way_and_other_reviews_go_to_the_cloud() {
    let (site, mut asked) = Site::start(false).await;
    let answer = async {
        let Asked { token, judged, .. } = asked.recv().await.unwrap();
        let user = who(&site.node, &site.own, &token).await["user"].clone();
        assert_eq!(user["username"], USER);
        assert!(may(&site.node, &site.own, &user, "proxy", NODE).await);
        assert!(!may(&site.node, &site.own, &user, "proxy", "edge-2").await);
        assert!(!may(&site.node, &site.own, &user, "", NODE).await);
        let by_name = json!({"username": USER, "uid": ""});
        assert!(!may(&site.node, &site.own, &by_name, "proxy", NODE).await, "a name from elsewhere");
        // Whoever does not show the node's certificate learns nothing, and the cloud is not asked.
        let before = site.cloud.count("reviews");
        let account = site.cloud.token("reader");
        let review = json!({"spec": {"token": token}});
        let told = site.node.write(&Who::Token(&account), "POST", TOKENS, JSON, &review).await;
        assert_eq!(told.body["status"]["authenticated"], false, "{}", told.body);
        let spec = json!({"user": USER, "uid": user["uid"], "resourceAttributes":
            {"verb": "get", "resource": "nodes", "subresource": "proxy", "name": NODE}});
        let told = site.node.write(&Who::Token(&account), "POST", RIGHTS, JSON, &json!({"spec": spec})).await;
        assert_eq!(told.body["status"]["allowed"], false, "{}", told.body);
        assert_eq!(site.cloud.count("reviews"), before);
        judged.send(200).unwrap();
    };
    let (answered, ()) = tokio::join!(site.ask("GET", "/pods", &[]), answer);
    assert_eq!(answered.status().as_u16(), 200);
    drop(site.passes);
    let before = site.cloud.count("reviews");
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "somebody", "resourceAttributes": {"verb": "get", "resource": "nodes"}}});
    let told = site.node.write(&Who::Certificate(&site.own), "POST", RIGHTS, JSON, &review).await;
    assert_eq!((told.code, site.cloud.count("reviews")), (201, before + 1), "{}", told.body);
    assert_eq!(
        (&told.body["spec"]["user"], &told.body["status"]["allowed"]),
        (&json!("somebody"), &json!(false))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn root_on_the_node_reads_logs_while_cut_off_and_the_door_without_tls_does_not() {
    let (site, mut asked) = Site::start(false).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7"},
        "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "i"}]}});
    site.node.hold(ObjectKind::Pod, &pod).await;
    site.cloud.cut();
    let path = "/api/v1/namespaces/shop/pods/web/log?tailLines=1";
    let own = Who::Certificate(&site.own);
    let log = site.judging(&mut asked, site.node.raw(&own, path)).await;
    assert_eq!(log, "answer to /containerLogs/shop/web/c?tailLines=1\n");
    let (code, told) = site.node.plain("GET", path, &[("host", "127.0.0.1")]).await;
    assert_eq!(code, 503, "{told}");
    assert_eq!(site.served().len(), 1);
}
