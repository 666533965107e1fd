//! An API server as a pod of a cluster meets it: TLS of a CA in a file, the token of its service account, and the rules of its
//! roles (the crate `manifests`). What they do not give is refused and remembered; the rest goes on to the embedded API server
//! with an administrator's rights.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use apimachinery::path::{RequestPath, ResourcePath};
use apimachinery::yaml;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use manifests::{CLUSTER, LEASES, OWN, Rule};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

type Body = BoxBody<Bytes, hyper::Error>;

/// The rules, and in which namespace they count; empty: everywhere.
const SCOPES: [(&str, &[Rule]); 3] = [("", CLUSTER), ("kubeedge", OWN), ("kube-node-lease", LEASES)];

/// Serves until it is dropped.
pub struct Judge {
    pub address: SocketAddr,
    /// Folder with `token`, `ca.crt` and `namespace`, as a kubelet mounts it.
    pub account: PathBuf,
    asked: Asked,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Sets>>);

#[derive(Default)]
struct Sets {
    refused: BTreeSet<String>,
    granted: BTreeSet<String>,
}

impl Asked {
    fn lock(&self) -> MutexGuard<'_, Sets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the administrator of an API server reaches it.
struct Upstream {
    address: SocketAddr,
    tls: TlsConnector,
}

impl Judge {
    /// In front of the API server of `kubeconfig`; its files go into `account`.
    pub fn start(kubeconfig: &Path, account: &Path) -> Result<Judge> {
        pki::install_provider();
        let (upstream, upstream_ca) = upstream(kubeconfig)?;
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let token = rcgen::KeyPair::generate()?.public_key_pem().lines().nth(1).context("a key")?.to_owned();
        std::fs::create_dir_all(account)?;
        // Client certificates of API servers are of the cluster's CA as well.
        std::fs::write(account.join("ca.crt"), format!("{}{upstream_ca}", own.cert.pem()))?;
        std::fs::write(account.join("token"), &token)?;
        std::fs::write(account.join("namespace"), "kubeedge")?;
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
        let tls = rustls::ServerConfig::builder().with_no_client_auth();
        let tls = tls.with_single_cert(vec![own.cert.der().clone()], key)?;
        let (acceptor, upstream) = (TlsAcceptor::from(Arc::new(tls)), Arc::new(upstream));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let (address, asked) = (listener.local_addr()?, Asked::default());
        let noted = asked.clone();
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
                let (token, noted) = (format!("Bearer {token}"), noted.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(|request| {
                        let (upstream, token, noted) = (upstream.clone(), token.clone(), noted.clone());
                        async move { Ok::<_, Infallible>(judge(request, &upstream, &token, &noted).await) }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Judge { address, account: account.to_owned(), asked, _runtime: runtime })
    }

    /// What was asked for and is given by no rule.
    pub fn refused(&self) -> Vec<String> {
        self.asked.lock().refused.iter().cloned().collect()
    }

    /// What rules give and nobody asked for.
    pub fn unused(&self) -> Vec<String> {
        let granted = self.asked.lock();
        let all = SCOPES.iter().flat_map(|(scope, rules)| rules.iter().map(move |rule| (scope, rule)));
        let all = all.flat_map(|(scope, rule)| {
            let pairs = rule
                .resources
                .iter()
                .flat_map(move |resource| rule.verbs.iter().map(move |verb| (resource, verb)));
            pairs.map(move |(resource, verb)| told(scope, rule.group, resource, verb))
        });
        all.filter(|right| !granted.granted.contains(right)).collect()
    }
}

fn told(scope: &str, group: &str, resource: &str, verb: &str) -> String {
    format!("{scope} {group}/{resource} {verb}")
}

fn upstream(kubeconfig: &Path) -> Result<(Upstream, String)> {
    let config = yaml::parse(&std::fs::read_to_string(kubeconfig)?)?;
    let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
    let data = |value: &Value| -> Result<Vec<u8>> { Ok(STANDARD.decode(value.as_str().context("base64")?)?) };
    let server =
        cluster["server"].as_str().and_then(|url| url.strip_prefix("https://")).context("a server")?;
    let ca = data(&cluster["certificate-authority-data"])?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&ca)?)?;
    let certificate = CertificateDer::from_pem_slice(&data(&user["client-certificate-data"])?)?;
    let key = PrivateKeyDer::from_pem_slice(&data(&user["client-key-data"])?)?;
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots);
    let tls = tls.with_client_auth_cert(vec![certificate], key)?;
    let upstream = Upstream { address: server.parse()?, tls: TlsConnector::from(Arc::new(tls)) };
    Ok((upstream, String::from_utf8(ca)?))
}

async fn judge(
    request: Request<Incoming>,
    upstream: &Upstream,
    token: &str,
    asked: &Asked,
) -> Response<Body> {
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if shown != Some(token) {
        asked.lock().refused.insert("a request without the token of the service account".to_owned());
        return refusal(StatusCode::UNAUTHORIZED, "Unauthorized", "no token");
    }
    match right(request.method(), request.uri()) {
        Ok(right) => {
            asked.lock().granted.insert(right);
            hand_on(request, upstream).await.unwrap_or_else(|error| {
                refusal(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", &format!("{error:#}"))
            })
        }
        Err(what) => {
            let answer = refusal(StatusCode::FORBIDDEN, "Forbidden", &what);
            asked.lock().refused.insert(what);
            answer
        }
    }
}

/// The rule that gives what is asked for, or what is asked for.
fn right(method: &Method, uri: &http::Uri) -> Result<String, String> {
    let Some(RequestPath::Resource(path)) = RequestPath::parse(uri.path()) else {
        return Err(format!("{method} {}", uri.path()));
    };
    let watches = uri
        .query()
        .is_some_and(|query| query.split('&').any(|part| part == "watch=true" || part == "watch=1"));
    let verb = match (method.as_str(), path.name.is_empty()) {
        ("GET", true) if watches => "watch",
        ("GET", true) => "list",
        ("GET", false) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", false) => "delete",
        ("DELETE", true) => "deletecollection",
        (other, _) => other,
    };
    let resource = match path.subresource.as_str() {
        "" => path.resource.clone(),
        subresource => format!("{}/{subresource}", path.resource),
    };
    let scopes = SCOPES.iter().filter(|(scope, _)| scope.is_empty() || *scope == path.namespace);
    let mut found = scopes.flat_map(|(scope, rules)| rules.iter().map(move |rule| (scope, rule)));
    let found = found.find(|(_, rule)| gives(rule, &path, &resource, verb));
    let what = || format!("{verb} {}/{resource} {:?} in {:?}", path.group, path.name, path.namespace);
    found.map(|(scope, _)| told(scope, &path.group, &resource, verb)).ok_or_else(what)
}

fn gives(rule: &Rule, path: &ResourcePath, resource: &str, verb: &str) -> bool {
    rule.group == path.group
        && rule.resources.contains(&resource)
        && rule.verbs.contains(&verb)
        && (rule.names.is_empty() || rule.names.contains(&path.name.as_str()))
}

async fn hand_on(mut request: Request<Incoming>, upstream: &Upstream) -> Result<Response<Body>> {
    request.headers_mut().remove(AUTHORIZATION);
    let tcp = TcpStream::connect(upstream.address).await?;
    let name = ServerName::IpAddress(upstream.address.ip().into());
    let tls = upstream.tls.connect(name, tcp).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?.map(|body| body.boxed()))
}

fn refusal(status: StatusCode, reason: &str, message: &str) -> Response<Body> {
    let text = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason,
        "code": status.as_u16(), "message": message});
    let body = Full::new(Bytes::from(text.to_string())).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
