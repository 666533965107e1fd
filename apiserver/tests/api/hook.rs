//! A webhook: a TLS server that writes down what it is asked and answers as it is told.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pki::tls::{ClientCertificate, LiveServer};
use pki::{Authority, Bundle, DAY, Profile, Usage};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::client::Server;

/// What is answered to a request, by its path: the `response` of the review, or the whole text.
pub(crate) type Reply = Box<dyn Fn(&str, &Value) -> Said + Send + Sync>;

pub(crate) enum Said {
    /// The uid is added.
    Response(Value),
    Text(u16, String),
    Nothing,
}

#[derive(Clone)]
pub(crate) struct Hook {
    pub address: SocketAddr,
    /// Base64 of PEM.
    pub ca: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    _serving: Arc<AbortOnDropHandle<()>>,
}

impl Hook {
    pub(crate) async fn start(reply: impl Fn(&str, &Value) -> Said + Send + Sync + 'static) -> Hook {
        pki::install_provider();
        let now = daemon::clock::unix_seconds();
        let ca = Authority::generate(None, now).unwrap();
        let names = ["127.0.0.1", "hooks.system.svc"].map(str::to_owned).to_vec();
        let profile = Profile {
            common_name: "hook".to_owned(),
            organizations: vec![],
            names,
            usage: Usage::Server,
            lifetime: DAY,
        };
        let identity = ca.issue(&profile, now).unwrap();
        let live = LiveServer::new(&identity, &Bundle::of(ca.certificate())).unwrap();
        let acceptor = TlsAcceptor::from(live.config(ClientCertificate::Optional, &["http/1.1"]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let (seen, reply): (_, Arc<Reply>) = (asked.clone(), Arc::new(Box::new(reply)));
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, seen, reply) = (acceptor.clone(), seen.clone(), reply.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|request| answer(request, seen.clone(), reply.clone()));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        let ca = STANDARD.encode(pki::files::certificate_pem(ca.certificate()));
        Hook { address, ca, asked, _serving: Arc::new(AbortOnDropHandle::new(serving)) }
    }

    /// Allows everything.
    pub(crate) async fn lenient() -> Hook {
        Hook::start(|_, _| Said::Response(json!({"allowed": true}))).await
    }

    /// What it was asked so far, with the path, and forgets that.
    pub(crate) fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// A webhook that is asked about everything in the core group, at `path`; `more` is added.
    pub(crate) fn at(&self, name: &str, path: &str, more: Value) -> Value {
        let mut hook = json!({"name": format!("{name}.example.com"), "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "timeoutSeconds": 5,
            "clientConfig": {"url": format!("https://{}{path}", self.address), "caBundle": self.ca},
            "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]});
        for (field, value) in more.as_object().into_iter().flatten() {
            hook[field] = value.clone();
        }
        hook
    }
}

pub(crate) const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
pub(crate) const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";

/// Makes a configuration.
pub(crate) async fn configure(server: &Server, path: &str, name: &str, hooks: &[Value]) -> Value {
    let kind = if path == MUTATING { "Mutating" } else { "Validating" };
    let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": format!("{kind}WebhookConfiguration"), "metadata": {"name": name}, "webhooks": hooks});
    server.create(path, configuration).await
}

/// A rule for the core group.
pub(crate) fn rules(operations: &[&str], resources: &[&str]) -> Value {
    json!([{"operations": operations, "apiGroups": ["*"], "apiVersions": ["*"], "resources": resources}])
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
    reply: Arc<Reply>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path_and_query().unwrap().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let of = (review["apiVersion"].as_str().unwrap(), review["kind"].as_str().unwrap());
    let known = [("admission.k8s.io/v1", "AdmissionReview"), ("apiextensions.k8s.io/v1", "ConversionReview")];
    assert!(known.contains(&of), "{of:?}");
    let asked = review["request"].clone();
    seen.lock().unwrap().push((path.clone(), asked.clone()));
    let (code, text) = match reply(path.split('?').next().unwrap(), &asked) {
        Said::Nothing => std::future::pending().await,
        Said::Text(code, text) => (code, text),
        Said::Response(mut response) => {
            if response["uid"].is_null() {
                response["uid"] = asked["uid"].clone();
            }
            let review =
                json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response});
            (200, review.to_string())
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    Ok(response)
}

/// An answer with a JSON patch.
pub(crate) fn patched(patch: &Value) -> Said {
    Said::Response(
        json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string())}),
    )
}
