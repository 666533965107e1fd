//! The cloud: an embedded API server, and a relay that stands for the session with the node. Tokens are signed with ES256
//! by a key that the relay tells; to the API server it goes as the administrator who impersonates, which leaves all
//! rights to the API server.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use apiserver::{ApiServer, Settings};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use metaserver::upstream::{CutOff, Io, Opening, Upstream};
use pki::Identity;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";
pub(crate) const NODE: &str = "edge-1";

type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

pub(crate) struct Cloud {
    _folder: tempfile::TempDir,
    address: std::net::SocketAddr,
    ca: Vec<u8>,
    admin: Identity,
    pub key: EcdsaKeyPair,
    /// Valid tokens, and the users that they are of.
    tokens: Mutex<HashMap<String, String>>,
    connected: watch::Sender<bool>,
    /// Ends what is under way at the next cut; each stream that is under way holds the second.
    session: Mutex<(CancellationToken, Arc<()>)>,
    /// Of the session that was cut last.
    ending: Mutex<Arc<()>>,
    /// Bytes of answers until the link is cut.
    budget: Mutex<Option<usize>>,
    /// The next watch is told that its revision is forgotten.
    pub forgetful: std::sync::atomic::AtomicBool,
    /// The next watch of config maps begins once this is told, and ends at once: what happened meanwhile is not told.
    pub untold: std::sync::Mutex<Option<tokio::sync::oneshot::Receiver<()>>>,
    /// What is opened next is answered with 101, and echoed; the head of the request is kept.
    pub upgrades: std::sync::atomic::AtomicBool,
    pub head: Mutex<String>,
    /// (user, method, path) of what came over the link.
    asked: Mutex<Vec<(String, String, String)>>,
}

/// What a token is to say.
pub(crate) fn claims(account: &str, audience: &str, issuer: &str, expires: i64) -> Value {
    let now = daemon::clock::unix_seconds();
    json!({ "iss": issuer, "sub": format!("system:serviceaccount:shop:{account}"), "aud": [audience], "exp": now + expires,
        "nbf": now - 10, "iat": now - 10,
        "kubernetes.io": { "namespace": "shop", "serviceaccount": { "name": account, "uid": "u" } } })
}

pub(crate) fn new_key() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap()
}

pub(crate) fn sign(key: &EcdsaKeyPair, claims: &Value) -> String {
    sign_as(key, "k1", claims)
}

pub(crate) fn sign_as(key: &EcdsaKeyPair, kid: &str, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(&json!({ "alg": "ES256", "kid": kid })), encode(claims));
    let signature = key.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

impl Cloud {
    /// With namespace `shop`, whose account `reader` may read config maps, and `stranger` nothing.
    pub(crate) async fn start() -> Arc<Cloud> {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("admin.kubeconfig");
        let server = ApiServer::build(Settings {
            data_dir: folder.path().join("data"),
            listen: ([127, 0, 0, 1], 0).into(),
            names: vec![],
            admin_kubeconfig: kubeconfig.clone(),
            clients: vec![],
            nodes: apiserver::Reach::Nobody,
            controllers: vec![],
            service_range: apiserver::ServiceRange::default(),
            service_account_signing_key: None,
            audit_log: None,
            limits: apiserver::Limits::default(),
        })
        .await
        .unwrap();
        let text = std::fs::read_to_string(&kubeconfig).unwrap();
        let data = |key: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap();
            STANDARD.decode(line.trim()).unwrap()
        };
        let admin = Identity::from_pem(&data("client-certificate-data:"), &data("client-key-data:")).unwrap();
        let ca = pki::files::read_ca(&folder.path().join("data/pki/ca.crt")).unwrap();
        let address = server.address();
        tokio::spawn(server.run(CancellationToken::new()));
        let cloud = Arc::new(Cloud {
            _folder: folder,
            address,
            ca,
            admin,
            key: new_key(),
            tokens: Mutex::default(),
            connected: watch::Sender::new(true),
            session: Mutex::default(),
            ending: Mutex::default(),
            budget: Mutex::default(),
            forgetful: Default::default(),
            untold: Default::default(),
            upgrades: Default::default(),
            head: Mutex::default(),
            asked: Mutex::default(),
        });
        cloud.create("/api/v1/namespaces", json!({ "metadata": { "name": "shop" } })).await;
        // Every namespace has it, a little later; the tests count what they make.
        let root = "/api/v1/namespaces/shop/configmaps/kube-root-ca.crt";
        while cloud.admin("DELETE", root, json!({})).await.0 == 404 {
            tokio::task::yield_now().await;
        }
        let role = json!({ "metadata": { "name": "reader" }, "rules": [
            { "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"] },
            { "apiGroups": [""], "resources": ["events"], "verbs": ["list", "create"] },
            { "apiGroups": ["x.io"], "resources": ["valves"], "verbs": ["get", "list", "watch"] }] });
        let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop";
        cloud.create(&format!("{rbac}/roles"), role).await;
        cloud.bind("reader").await;
        // What CloudCore gives to nodes there.
        let rule = |group: &str, resources: &[&str]| json!({ "apiGroups": [group], "resources": resources, "verbs": ["*"] });
        let rules = json!([
            rule("", &["nodes", "nodes/status", "pods", "pods/status", "events", "serviceaccounts/token"]),
            rule("coordination.k8s.io", &["leases"]),
            rule("storage.k8s.io", &["csinodes"])
        ]);
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        cloud
            .create(
                &format!("{rbac}/clusterroles"),
                json!({ "metadata": { "name": "nodes" }, "rules": rules }),
            )
            .await;
        let of = |kind: &str, name: &str| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name });
        let binding = json!({ "metadata": { "name": "nodes" }, "roleRef": of("ClusterRole", "nodes"),
            "subjects": [of("Group", "system:nodes")] });
        cloud.create(&format!("{rbac}/clusterrolebindings"), binding).await;
        cloud
    }

    pub(crate) async fn bind(&self, account: &str) {
        let binding = json!({ "metadata": { "name": account },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
            "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": "shop" }] });
        self.create("/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings", binding).await;
    }

    pub(crate) async fn unbind(&self, account: &str) {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings/{account}");
        assert_eq!(self.admin("DELETE", &path, Value::Null).await.0, 200);
    }

    /// A token that the cloud takes.
    pub(crate) fn token(&self, account: &str) -> String {
        let token = sign(&self.key, &claims(account, ISSUER, ISSUER, 3600));
        self.take(&token, account);
        token
    }

    /// The cloud takes this token, which was signed elsewhere.
    pub(crate) fn take(&self, token: &str, account: &str) {
        self.tokens.lock().unwrap().insert(token.to_owned(), format!("system:serviceaccount:shop:{account}"));
    }

    /// The cloud does not take it any more.
    pub(crate) fn revoke(&self, token: &str) {
        self.tokens.lock().unwrap().remove(token);
    }

    pub(crate) fn cut(&self) {
        self.connected.send_replace(false);
        let (session, streams) = std::mem::take(&mut *self.session.lock().unwrap());
        session.cancel();
        *self.ending.lock().unwrap() = streams;
    }

    /// Waits until nothing of the session that was cut is under way.
    pub(crate) async fn is_quiet(&self) {
        while Arc::strong_count(&self.ending.lock().unwrap()) > 1 {
            tokio::task::yield_now().await;
        }
    }

    /// Cuts the link when so many more bytes of answers have gone over it.
    pub(crate) fn cut_after(&self, bytes: usize) {
        *self.budget.lock().unwrap() = Some(bytes);
    }

    pub(crate) fn mend(&self) {
        *self.budget.lock().unwrap() = None;
        self.connected.send_replace(true);
    }

    pub(crate) async fn is_cut(&self) {
        self.connected.subscribe().wait_for(|connected| !connected).await.unwrap();
    }

    /// How often something was asked whose path has `part`.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(.., path)| path.contains(part)).count()
    }

    /// As whom that was asked.
    pub(crate) fn askers(&self, part: &str) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(.., path)| path.contains(part)).map(|(user, ..)| user.clone()).collect()
    }

    pub(crate) async fn create(&self, path: &str, object: Value) -> Value {
        let (code, answer) = self.admin("POST", path, object).await;
        assert_eq!(code, 201, "{answer}");
        answer
    }

    pub(crate) async fn config_map(&self, name: &str, data: &str) -> Value {
        let object =
            json!({ "metadata": { "name": name, "labels": { "app": name } }, "data": { "k": data } });
        self.create("/api/v1/namespaces/shop/configmaps", object).await
    }

    /// What the API server itself answers to the administrator, to the byte.
    pub(crate) async fn raw(&self, path: &str) -> Bytes {
        let answer = self.send(Request::get(path).body(Full::new(Bytes::new())).unwrap()).await;
        answer.into_body().collect().await.unwrap().to_bytes()
    }

    /// As the administrator, not over the link.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let answer = self.send(request.body(Full::new(Bytes::from(text))).unwrap()).await;
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn send<B>(&self, mut request: Request<B>) -> Response<Incoming>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let connector = TlsConnector::from(pki::tls::client(&self.ca, Some(&self.admin)).unwrap());
        let stream = TcpStream::connect(self.address).await.unwrap();
        let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        request.headers_mut().insert("host", "localhost".parse().unwrap());
        sender.send_request(request).await.unwrap()
    }

    fn keys(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        json!({ "issuer": ISSUER, "keys": [{ "kty": "EC", "crv": "P-256", "kid": "k1", "x": x, "y": y }] })
    }

    /// What the relay makes of a request.
    async fn relay(self: Arc<Cloud>, mut request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().to_string();
        if path == "/.causeway/v1/keys" {
            self.asked.lock().unwrap().push((String::new(), "GET".into(), path));
            return answer(200, &self.keys());
        }
        let headers = request.headers_mut();
        assert!(headers.keys().all(|name| !name.as_str().starts_with("impersonate-")), "{headers:?}");
        let shown = headers.remove("authorization");
        let user = match (shown, headers.remove("causeway-caller")) {
            (Some(shown), None) => {
                let token = shown.to_str().unwrap().strip_prefix("Bearer ").unwrap_or_default();
                self.tokens.lock().unwrap().get(token).cloned()
            }
            (None, Some(_)) => Some(format!("system:node:{NODE}")),
            _ => None,
        };
        let Some(user) = user else {
            self.asked.lock().unwrap().push((String::new(), request.method().to_string(), path));
            return answer(
                401,
                &json!({ "kind": "Status", "code": 401, "reason": "Unauthorized", "message": "Unauthorized" }),
            );
        };
        headers.insert("impersonate-user", user.parse().unwrap());
        if user.starts_with("system:node:") {
            headers.insert("impersonate-group", "system:nodes".parse().unwrap());
        }
        let is_watch = path.contains("watch=1");
        self.asked.lock().unwrap().push((user, request.method().to_string(), path));
        if is_watch && self.forgetful.swap(false, std::sync::atomic::Ordering::SeqCst) {
            return answer(
                410,
                &json!({ "kind": "Status", "code": 410, "reason": "Expired", "message": "too old" }),
            );
        }
        let is_of_maps = is_watch && request.uri().path().ends_with("/configmaps");
        let untold = if is_of_maps { self.untold.lock().unwrap().take() } else { None };
        if let Some(untold) = untold {
            untold.await.unwrap();
            return answer(200, &json!({ "type": metaserver::upstream::LIST_AGAIN, "object": {} }));
        }
        let (parts, body) = self.send(request).await.into_parts();
        let counted = self.clone();
        let body = body.map_frame(move |frame| {
            let length = frame.data_ref().map_or(0, Bytes::len);
            let mut budget = counted.budget.lock().unwrap();
            if let Some(left) = &mut *budget {
                *left = left.saturating_sub(length);
                if *left == 0 {
                    *budget = None;
                    drop(budget);
                    counted.cut();
                }
            }
            frame
        });
        Response::from_parts(parts, body.map_err(Into::into).boxed_unsync())
    }
}

fn answer(code: u16, body: &Value) -> Response<Body> {
    // A line, as of a watch.
    let body = Full::new(Bytes::from(format!("{body}\n"))).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

async fn echo(cloud: &Cloud, mut stream: tokio::io::DuplexStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    *cloud.head.lock().unwrap() = String::from_utf8(head).unwrap().to_lowercase();
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n\r\n";
    stream.write_all(answer).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
}

/// The node's end of the link.
pub(crate) struct Link(pub Arc<Cloud>);

impl Upstream for Link {
    fn open(&self) -> Opening<'_> {
        Box::pin(async {
            if !*self.0.connected.borrow() {
                return Err(CutOff);
            }
            let (near, far) = tokio::io::duplex(16 * 1024);
            let (cloud, (session, under_way)) = (self.0.clone(), self.0.session.lock().unwrap().clone());
            if cloud.upgrades.swap(false, std::sync::atomic::Ordering::SeqCst) {
                tokio::spawn(async move { echo(&cloud, far).await });
                return Ok(Box::new(near) as Box<dyn Io>);
            }
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let cloud = cloud.clone();
                    async move { Ok::<_, Infallible>(cloud.relay(request).await) }
                });
                let serving =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
                tokio::select! {
                    () = session.cancelled() => {}
                    _ = serving => {}
                }
                drop(under_way);
            });
            Ok(Box::new(near) as Box<dyn Io>)
        })
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.0.connected.subscribe()
    }
}
