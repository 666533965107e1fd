//! An API server as a pod of a cluster meets it: TLS of a CA in a file, the token of its service account, and the rules of its
//! roles (the crate `manifests`). What they do not give is refused and remembered; the rest goes on to the embedded API server on
//! behalf of the account, whose roles are stored there too: what that refuses is remembered as well.
//!
//! Two questions at the end of a test say that each right of the roles is needed: was nothing refused, and was each right asked
//! for? One that was taken out of the roles would have been refused then, as no other right gives the same (the test in `rights`).

mod rights;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use apimachinery::yaml;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use rights::{Asked, Right};

/// The user that CloudCore is.
pub const ACCOUNT: &str = "system:serviceaccount:kubeedge:cloudcore";

type Body = BoxBody<Bytes, hyper::Error>;

/// Serves until it is dropped.
pub struct Judge {
    pub address: SocketAddr,
    /// Folder with `token`, `ca.crt` and `namespace`, as a kubelet mounts it.
    pub account: PathBuf,
    roles: Roles,
    _runtime: tokio::runtime::Runtime,
}

/// What the roles give, and what came of it.
#[derive(Clone)]
struct Roles {
    rights: Arc<[Right]>,
    noted: Arc<Mutex<Noted>>,
}

#[derive(Default)]
struct Noted {
    refused: BTreeSet<String>,
    used: BTreeSet<Right>,
}

impl Roles {
    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, what: String) {
        self.lock().refused.insert(what);
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
        let address = listener.local_addr()?;
        let roles = Roles { rights: rights::all().into(), noted: Arc::default() };
        let of_all = roles.clone();
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
                let (token, roles) = (format!("Bearer {token}"), of_all.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(|request| {
                        let (upstream, token, roles) = (upstream.clone(), token.clone(), roles.clone());
                        async move { Ok::<_, Infallible>(judge(request, &upstream, &token, &roles).await) }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Judge { address, account: account.to_owned(), roles, _runtime: runtime })
    }

    /// What was asked for and is given by no right.
    pub fn refused(&self) -> Vec<String> {
        self.roles.lock().refused.iter().cloned().collect()
    }

    /// True once something was asked for that this right gives, such as `get /nodes`.
    pub fn has_given(&self, right: &str) -> bool {
        self.roles.lock().used.iter().any(|used| used.to_string() == right)
    }

    /// Rights that nobody asked for.
    pub fn unused(&self) -> Vec<String> {
        let noted = self.roles.lock();
        let unused = self.roles.rights.iter().filter(|right| !noted.used.contains(*right));
        unused.map(Right::to_string).collect()
    }
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
    roles: &Roles,
) -> Response<Body> {
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if shown != Some(token) {
        roles.refuse("a request without the token of the service account".to_owned());
        return refusal(StatusCode::UNAUTHORIZED, "Unauthorized", "no token");
    }
    let asked = Asked::read(request.method(), request.uri());
    match asked.as_ref().and_then(|asked| rights::that_gives(&roles.rights, asked)) {
        Some(right) => {
            let answered = hand_on(request, upstream).await;
            let is = |code: StatusCode| answered.as_ref().is_ok_and(|answer| answer.status() == code);
            let asked_beside = asked.as_ref().and_then(|asked| rights::asked_beside(&roles.rights, asked));
            if is(StatusCode::FORBIDDEN) {
                roles.refuse(
                    asked
                        .map(|asked| format!("{asked} or what the API server asks about it"))
                        .unwrap_or_default(),
                );
            } else {
                let mut noted = roles.lock();
                noted.used.insert(right.clone());
                noted.used.extend(asked_beside.filter(|_| is(StatusCode::OK)).cloned());
            }
            answered.unwrap_or_else(|error| {
                refusal(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", &format!("{error:#}"))
            })
        }
        None => {
            let of_none = || format!("{} {}", request.method(), request.uri().path());
            let what = asked.map_or_else(of_none, |asked| asked.to_string());
            let answer = refusal(StatusCode::FORBIDDEN, "Forbidden", &what);
            roles.refuse(what);
            answer
        }
    }
}

async fn hand_on(mut request: Request<Incoming>, upstream: &Upstream) -> Result<Response<Body>> {
    request.headers_mut().remove(AUTHORIZATION);
    request.headers_mut().insert("impersonate-user", HeaderValue::from_static(ACCOUNT));
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
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
