//! APIServices: versions of groups that other servers serve.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
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

use crate::client::{Lines, Server, Who};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const THINGS: &str = "/apis/sample.example.com/v1/namespaces/default/things";

/// A request: method, path with query, headers and body.
type Asked = (String, String, HeaderMap, String);

/// A server behind the API server, which knows it by its client certificate.
struct Sample {
    address: SocketAddr,
    /// Base64 of PEM.
    ca: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Sample {
    /// With an endpoint of its own for the Service `sample`.
    async fn start(server: &Server) -> Sample {
        let (code, map) =
            server.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").await;
        assert_eq!(code, 200, "{map}");
        let trusted = map["data"]["requestheader-client-ca-file"].as_str().unwrap();
        assert_eq!(map["data"]["requestheader-allowed-names"], "[\"front-proxy-client\"]");
        let now = daemon::clock::unix_seconds();
        let ca = Authority::generate(None, now).unwrap();
        let profile = Profile {
            common_name: "sample".to_owned(),
            organizations: vec![],
            names: vec!["sample.default.svc".to_owned()],
            usage: Usage::Server,
            lifetime: DAY,
        };
        let identity = ca.issue(&profile, now).unwrap();
        let live = LiveServer::new(&identity, &Bundle::from_pem(trusted.as_bytes()).unwrap()).unwrap();
        let acceptor = TlsAcceptor::from(live.config(ClientCertificate::Required, &["http/1.1"]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let seen = asked.clone();
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, seen) = (acceptor.clone(), seen.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|request| answer(request, seen.clone()));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        let sample = Sample {
            address,
            ca: STANDARD.encode(pki::files::certificate_pem(ca.certificate())),
            asked,
            _serving: AbortOnDropHandle::new(serving),
        };
        let service =
            json!({"metadata": {"name": "sample"}, "spec": {"ports": [{"name": "https", "port": 443}]}});
        server.create("/api/v1/namespaces/default/services", service).await;
        server.create("/api/v1/namespaces/default/endpoints", sample.endpoints(&["127.0.0.1"])).await;
        sample
    }

    fn endpoints(&self, addresses: &[&str]) -> Value {
        let addresses: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        let ports = json!([{"name": "https", "port": self.address.port()}]);
        let subsets =
            if addresses.is_empty() { json!([]) } else { json!([{"addresses": addresses, "ports": ports}]) };
        json!({"metadata": {"name": "sample"}, "subsets": subsets})
    }

    fn api_service(&self) -> Value {
        json!({"metadata": {"name": "v1.sample.example.com"}, "spec": {
            "group": "sample.example.com", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 200,
            "caBundle": self.ca, "service": {"namespace": "default", "name": "sample"}}})
    }

    /// What clients asked so far.
    fn asked(&self) -> Vec<Asked> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked
            .into_iter()
            .filter(|(_, _, headers, _)| headers["x-remote-user"] != "system:kube-aggregator")
            .collect()
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Asked>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let path = parts.uri.path_and_query().unwrap().to_string();
    let said = match path.as_str() {
        "/apis/sample.example.com/v1" => {
            json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "sample.example.com/v1",
            "resources": [
                {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get", "list"], "shortNames": ["th"]},
                {"name": "things/status", "singularName": "", "namespaced": true, "kind": "Thing", "verbs": ["get"]},
            ]})
        }
        _ => json!({"kind": "ThingList", "apiVersion": "sample.example.com/v1", "items": []}),
    };
    seen.lock().unwrap().push((parts.method.to_string(), path, parts.headers, body));
    let code = if parts.method == "POST" { 418 } else { 200 };
    let answer =
        Response::builder().status(code).header("content-type", "application/json").header("x-own", "kept");
    Ok(answer.body(Full::new(said.to_string().into())).unwrap())
}

/// Waits until the condition has this status and reason.
async fn until(watch: &mut Lines, status: &str, reason: &str) {
    loop {
        let event = watch.next().await.unwrap();
        let condition = &event["object"]["status"]["conditions"][0];
        if condition["status"] == status && condition["reason"] == reason {
            return;
        }
    }
}

async fn followed(server: &Server) -> Lines {
    server.watch(&format!("{SERVICES}?watch=true&fieldSelector=metadata.name%3Dv1.sample.example.com")).await
}

#[tokio::test]
async fn requests_for_a_version_of_a_group_go_to_its_server_and_say_who_asks() {
    let server = Server::start().await;
    let sample = Sample::start(&server).await;
    let mut watch = followed(&server).await;
    server.create(SERVICES, sample.api_service()).await;
    until(&mut watch, "True", "Passed").await;
    let request = Request::post(format!("{THINGS}?x=a%20b"))
        .header("content-type", "application/json")
        .header("x-remote-user", "somebody-else")
        .header("x-remote-group", "system:masters-of-all")
        .header("authorization-of-mine", "kept")
        .body(Full::new(Bytes::from("{\"a\":1}")))
        .unwrap();
    let answer = server.send(Who::Admin, request).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-own"]),
        (418, &"kept".parse::<http::HeaderValue>().unwrap())
    );
    let asked = sample.asked();
    let [(method, path, headers, body)] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(
        (method.as_str(), path.as_str(), body.as_str()),
        ("POST", "/apis/sample.example.com/v1/namespaces/default/things?x=a%20b", "{\"a\":1}")
    );
    let said = |name: &str| -> Vec<&str> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    };
    assert_eq!(said("x-remote-user"), ["kubernetes-admin"]);
    assert!(said("x-remote-group").contains(&"system:masters"), "{headers:?}");
    assert!(!said("x-remote-group").contains(&"system:masters-of-all"), "{headers:?}");
    assert_eq!(
        (said("host"), said("authorization-of-mine")),
        (vec![format!("sample.default.svc:{}", sample.address.port()).as_str()], vec!["kept"])
    );
    let (code, list) = server.get("/apis/sample.example.com/v1").await;
    assert_eq!((code, &list["resources"][0]["name"]), (200, &json!("things")));
    server.stop().await;
}

#[tokio::test]
async fn who_may_not_is_refused_before_the_other_server_hears_of_it() {
    let server = Server::start().await;
    let sample = Sample::start(&server).await;
    let mut watch = followed(&server).await;
    server.create(SERVICES, sample.api_service()).await;
    until(&mut watch, "True", "Passed").await;
    let (code, status) = server.call(Who::Anonymous, "GET", THINGS, "", "").await;
    assert_eq!((code, &status["reason"]), (403, &json!("Forbidden")), "{status}");
    assert_eq!(sample.asked().len(), 0);
    server.stop().await;
}

#[tokio::test]
async fn discovery_tells_what_another_server_serves_even_while_that_is_gone() {
    let server = Server::start().await;
    let sample = Sample::start(&server).await;
    let mut watch = followed(&server).await;
    server.create(SERVICES, sample.api_service()).await;
    until(&mut watch, "True", "Passed").await;
    let group = async || {
        let request = Request::get("/apis")
            .header("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
            .body(Full::default())
            .unwrap();
        let answer = server.send(Who::Admin, request).await;
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        let list: Value = serde_json::from_slice(&text).unwrap();
        let items = list["items"].as_array().unwrap().clone();
        items.into_iter().find(|one| one["metadata"]["name"] == "sample.example.com").unwrap()["versions"][0]
            .clone()
    };
    let version = group().await;
    assert_eq!((&version["version"], &version["freshness"]), (&json!("v1"), &json!("Current")));
    let thing = &version["resources"][0];
    assert_eq!(
        (&thing["resource"], &thing["scope"], &thing["shortNames"]),
        (&json!("things"), &json!("Namespaced"), &json!(["th"]))
    );
    assert_eq!(
        thing["responseKind"],
        json!({"group": "sample.example.com", "version": "v1", "kind": "Thing"})
    );
    assert_eq!(thing["subresources"][0]["subresource"], "status");
    let (_, groups) = server.get("/apis/sample.example.com").await;
    assert_eq!(groups["preferredVersion"]["groupVersion"], "sample.example.com/v1");

    server.put("/api/v1/namespaces/default/endpoints/sample", &sample.endpoints(&[])).await;
    until(&mut watch, "False", "MissingEndpoints").await;
    assert_eq!(group().await["freshness"], "Stale");
    let (code, status) = server.get(THINGS).await;
    assert_eq!((code, &status["reason"]), (503, &json!("ServiceUnavailable")), "{status}");
    let (code, _) = server.get("/apis/apps/v1").await;
    assert_eq!(code, 200);

    server.put("/api/v1/namespaces/default/endpoints/sample", &sample.endpoints(&["127.0.0.1"])).await;
    until(&mut watch, "True", "Passed").await;
    assert_eq!(server.get(THINGS).await.0, 200);
    server.delete(&format!("{SERVICES}/v1.sample.example.com"), &Value::Null).await;
    assert_eq!(server.get(THINGS).await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_shows_another_certificate_is_not_available_unless_that_is_wanted() {
    let server = Server::start().await;
    let sample = Sample::start(&server).await;
    let mut watch = followed(&server).await;
    let mut service = sample.api_service();
    let other = Authority::generate(None, daemon::clock::unix_seconds()).unwrap();
    service["spec"]["caBundle"] = json!(STANDARD.encode(pki::files::certificate_pem(other.certificate())));
    server.create(SERVICES, service).await;
    until(&mut watch, "False", "FailedDiscoveryCheck").await;
    let path = format!("{SERVICES}/v1.sample.example.com");
    let patch = json!({"spec": {"caBundle": null, "insecureSkipTLSVerify": true}});
    let (code, answer) = server.patch(&path, "merge-patch+json", &patch).await;
    assert_eq!(code, 200, "{answer}");
    until(&mut watch, "True", "Passed").await;
    assert_eq!(server.get(THINGS).await.0, 200);
    server.stop().await;
}
