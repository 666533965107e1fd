//! A server in a temporary folder, and a client that says what it sends.

use std::path::PathBuf;
use std::sync::Arc;

use apiserver::{ApiServer, RunError, Settings};
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use pki::Identity;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

pub(crate) struct Server {
    pub folder: Arc<tempfile::TempDir>,
    pub address: std::net::SocketAddr,
    pub ca: Vec<u8>,
    admin: Identity,
    stop: CancellationToken,
    running: JoinHandle<Result<(), RunError>>,
}

/// How a client shows who it is.
pub(crate) enum Who<'a> {
    Admin,
    Anonymous,
    Token(&'a str),
    Certificate(&'a Identity),
}

impl Server {
    /// Without controllers: nothing changes but what the test changes.
    pub(crate) async fn start() -> Server {
        Server::start_in(Arc::new(tempfile::tempdir().unwrap()), &[], None).await
    }

    /// With an audit log, `audit.log` in the folder.
    pub(crate) async fn start_audited() -> Server {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let log = folder.path().join("audit.log");
        Server::start_in(folder, &[], Some(log)).await
    }

    /// With all controllers.
    pub(crate) async fn start_whole() -> Server {
        Server::start_in(Arc::new(tempfile::tempdir().unwrap()), &["*"], None).await
    }

    async fn start_in(
        folder: Arc<tempfile::TempDir>,
        controllers: &[&str],
        audit_log: Option<PathBuf>,
    ) -> Server {
        let kubeconfig = folder.path().join("admin.kubeconfig");
        let server = ApiServer::build(Settings {
            data_dir: folder.path().join("data"),
            listen: ([127, 0, 0, 1], 0).into(),
            names: vec!["cloud.example".to_owned()],
            admin_kubeconfig: kubeconfig.clone(),
            clients: vec![],
            nodes: apiserver::Reach::Nobody,
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
            service_range: apiserver::ServiceRange::default(),
            service_account_signing_key: None,
            limits: apiserver::Limits::default(),
            audit_log,
        })
        .await
        .unwrap();
        let text = std::fs::read_to_string(&kubeconfig).unwrap();
        let data = |key: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap();
            base64::engine::general_purpose::STANDARD.decode(line.trim()).unwrap()
        };
        let admin = Identity::from_pem(&data("client-certificate-data:"), &data("client-key-data:")).unwrap();
        let ca = pki::files::read_ca(&folder.path().join("data/pki/ca.crt")).unwrap();
        let (address, stop) = (server.address(), CancellationToken::new());
        let running = tokio::spawn(server.run(stop.clone()));
        Server { folder, address, ca, admin, stop, running }
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("admin.kubeconfig")
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }

    /// Stops and starts again on the same data.
    pub(crate) async fn restart(self) -> Server {
        let folder = self.folder.clone();
        self.stop().await;
        Server::start_in(folder, &[], None).await
    }

    pub(crate) async fn send(
        &self,
        who: Who<'_>,
        request: http::Request<Full<Bytes>>,
    ) -> http::Response<Incoming> {
        let identity = match &who {
            Who::Admin => Some(&self.admin),
            Who::Certificate(identity) => Some(*identity),
            Who::Anonymous | Who::Token(_) => None,
        };
        let connector = TlsConnector::from(pki::tls::client(&self.ca, identity).unwrap());
        let stream = TcpStream::connect(self.address).await.unwrap();
        let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = request;
        request.headers_mut().insert("host", "localhost".parse().unwrap());
        if let Who::Token(token) = who {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        sender.send_request(request).await.unwrap()
    }

    /// (code, body)
    pub(crate) async fn call(
        &self,
        who: Who<'_>,
        method: &str,
        path: &str,
        kind: &str,
        body: &str,
    ) -> (u16, Value) {
        let request = http::Request::builder().method(method).uri(path).header("content-type", kind);
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let response = self.send(who, request).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Who::Admin, "GET", path, "", "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call(Who::Admin, "POST", path, "application/json", &body.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call(Who::Admin, "PUT", path, "application/json", &body.to_string()).await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, body: &Value) -> (u16, Value) {
        self.call(Who::Admin, "PATCH", path, &format!("application/{kind}"), &body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str, options: &Value) -> (u16, Value) {
        let body = if options.is_null() { String::new() } else { options.to_string() };
        self.call(Who::Admin, "DELETE", path, "application/json", &body).await
    }

    /// Creates, which must succeed.
    pub(crate) async fn create(&self, path: &str, body: Value) -> Value {
        let (code, answer) = self.post(path, &body).await;
        assert_eq!(code, 201, "{answer}");
        answer
    }

    pub(crate) async fn watch(&self, path: &str) -> Lines {
        let request = http::Request::get(path).body(Full::default()).unwrap();
        let response = self.send(Who::Admin, request).await;
        assert_eq!(response.status(), 200);
        Lines { body: response.into_body(), buffer: Vec::new() }
    }
}

/// The events of a watch.
pub(crate) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next event, `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                assert!(line.starts_with(b"{\"type\":"), "type comes first");
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.frame().await?.unwrap();
            self.buffer.extend_from_slice(frame.data_ref().unwrap());
        }
    }

    /// (type, name) of the next event.
    pub(crate) async fn expect(&mut self) -> (String, String) {
        let event = self.next().await.unwrap();
        let text =
            |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        (text("/type"), text("/object/metadata/name"))
    }
}

pub(crate) fn config_map(name: &str) -> Value {
    serde_json::json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name }, "data": { "k": "v" } })
}

pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";
