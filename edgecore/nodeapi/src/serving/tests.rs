//! The node beside a cloud that signs what is approved.

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use message::{Json, ObjectKind, Reply, Request, Status};
use metamanager::cloud::Call;
use nodebase::host::interfaces::InterfaceAddress;
use nodebase::host::{Disk, Host};
use pki::{Authority, DAY, Profile, SigningRequest, Usage};
use podmodel::board::Board;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::{Allowed, Source};

/// A machine whose address may change.
struct Machine(Mutex<IpAddr>);

impl Host for Machine {
    fn text(&self, _: &str) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn names(&self, _: &str) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn disk(&self, _: &Path) -> io::Result<Disk> {
        Ok(Disk::default())
    }
    fn cpus(&self) -> u32 {
        1
    }
    fn kernel_release(&self) -> String {
        String::new()
    }
    fn routed_addresses(&self) -> Vec<IpAddr> {
        vec![*self.0.lock().unwrap()]
    }
    fn addresses(&self) -> Vec<InterfaceAddress> {
        Vec::new()
    }
}

/// What the cloud knows. Clones share it.
#[derive(Clone)]
struct Cluster {
    ca: Arc<Authority>,
    requests: Arc<Mutex<Vec<Value>>>,
    /// Of the node's object.
    addresses: Arc<Mutex<Vec<String>>>,
    /// Whether requests are approved and signed.
    approves: Arc<Mutex<bool>>,
    clock: Clock,
}

impl Cluster {
    fn answer(&self, request: Request) -> Reply {
        match request {
            Request::ClusterCa => Reply::Text(pki::files::certificate_pem(self.ca.certificate())),
            Request::CreateSigningRequest { object, .. } => {
                let object: Value = object.parse().unwrap();
                self.requests.lock().unwrap().push(object.clone());
                Reply::Object(Json::of(&object))
            }
            Request::Get { key } if key.kind == ObjectKind::Node => {
                let addresses = self.addresses.lock().unwrap();
                let addresses: Vec<Value> =
                    addresses.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
                Reply::Object(Json::of(&json!({"status": {"addresses": addresses}})))
            }
            Request::Get { key } => {
                let requests = self.requests.lock().unwrap();
                let Some(object) = requests.iter().find(|object| object["metadata"]["name"] == key.name)
                else {
                    return Reply::Refused(Status::new(404, "NotFound", "no such request"));
                };
                let mut object = object.clone();
                if *self.approves.lock().unwrap() {
                    object["status"] = json!({"certificate": STANDARD.encode(self.sign(&object))});
                }
                Reply::Object(Json::of(&object))
            }
            other => panic!("{other:?}"),
        }
    }

    fn sign(&self, object: &Value) -> String {
        let pem = STANDARD.decode(object["spec"]["request"].as_str().unwrap()).unwrap();
        let request = SigningRequest::from_pem(&pem).unwrap();
        let profile = Profile {
            common_name: request.common_name().unwrap().to_owned(),
            organizations: vec![request.organization().unwrap().to_owned()],
            names: hosts(object),
            usage: Usage::Server,
            lifetime: 10 * DAY,
        };
        let certificate = self.ca.sign_request(&request, &profile, self.clock.now().as_second(), None);
        // As of a signer whose own certificate is another's.
        let between = pki::files::certificate_pem(self.ca.certificate());
        pki::files::certificate_pem(&certificate.unwrap()) + &between
    }

    fn asked(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    fn last(&self) -> Value {
        self.requests.lock().unwrap().last().cloned().unwrap()
    }

    fn approve(&self, approves: bool) {
        *self.approves.lock().unwrap() = approves;
    }
}

fn hosts(object: &Value) -> Vec<String> {
    let pem = STANDARD.decode(object["spec"]["request"].as_str().unwrap()).unwrap();
    let (names, addresses) = SigningRequest::from_pem(&pem).unwrap().hosts();
    names.into_iter().chain(addresses.iter().map(ToString::to_string)).collect()
}

/// A node that keeps its certificate.
struct Lab {
    cluster: Cluster,
    machine: Arc<Machine>,
    link: watch::Sender<LinkState>,
    shown: Shown,
    folder: TempDir,
    stop: CancellationToken,
}

impl Lab {
    fn start(link: LinkState) -> Lab {
        let clock = Clock::tokio("2026-11-30T10:00:00Z".parse().unwrap());
        let ca = Authority::generate(Some("cluster"), clock.now().as_second()).unwrap();
        let cluster = Cluster {
            ca: Arc::new(ca),
            requests: Arc::default(),
            addresses: Arc::new(Mutex::new(["192.168.0.2", "192.168.0.7"].map(str::to_owned).to_vec())),
            approves: Arc::default(),
            clock: clock.clone(),
        };
        let (link, state) = watch::channel(link);
        let (cloud, calls) = Cloud::channel(state);
        tokio::spawn(serve(cluster.clone(), calls));
        let machine = Arc::new(Machine(Mutex::new("192.168.0.2".parse().unwrap())));
        let addresses = Arc::new(Addresses::find(Vec::new(), &*machine));
        let (folder, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let followed =
            nodebase::addresses::follow(addresses.clone(), Board::default(), machine.clone(), stop.clone());
        tokio::spawn(followed);
        let port = TlsPort {
            address: ([127, 0, 0, 1], 0).into(),
            certificate: folder.path().join("pki/kubelet-server.crt"),
            key: folder.path().join("pki/kubelet-server.key"),
            source: Source::Asked,
            client_ca: None,
            allowed: Allowed::default(),
        };
        let (certificate, shown) = Certificate::of(&port);
        let node = NodeName::new("edge-1").unwrap();
        let deps = Deps { node, clock, cloud, addresses };
        tokio::spawn(certificate.keep(deps, stop.clone()));
        Lab { cluster, machine, link, shown, folder, stop }
    }

    /// What is kept on the disk.
    fn kept(&self) -> pki::Identity {
        let file = |name: &str| self.folder.path().join("pki").join(name);
        pki::files::read_identity(&file("kubelet-server.crt"), &file("kubelet-server.key")).unwrap()
    }

    async fn until(&self, what: &str, mut is: impl FnMut(&Lab) -> bool) {
        let waited = async {
            while !is(self) {
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
        };
        let limit = Duration::from_secs(20 * 24 * 3600);
        tokio::time::timeout(limit, waited).await.unwrap_or_else(|_| panic!("{what}: never"));
    }
}

async fn serve(cluster: Cluster, mut calls: mpsc::Receiver<Call>) {
    while let Some(Call { upstream, answer }) = calls.recv().await {
        let message::Upstream::Ask(request) = upstream else { panic!("{upstream:?}") };
        let _ = answer.send(cluster.answer(request));
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_waited_for_then_shown_kept_privately_and_renewed_with_another_key() {
    let lab = Lab::start(LinkState::Connected);
    lab.until("a request", |lab| lab.cluster.asked() == 1).await;
    let asked = lab.cluster.last();
    assert_eq!(hosts(&asked), ["edge-1", "192.168.0.2"]);
    assert_eq!(asked["spec"]["usages"], json!(["digital signature", "server auth"]));
    assert!(lab.shown.borrow().is_none(), "nobody is served before");
    lab.cluster.approve(true);
    lab.until("a certificate", |lab| lab.shown.borrow().is_some()).await;
    let first = lab.kept();
    let files = kept::Files {
        certificate: lab.folder.path().join("pki/kubelet-server.crt"),
        key: lab.folder.path().join("pki/kubelet-server.key"),
    };
    let loaded = files.load().await.unwrap().unwrap();
    assert_eq!(
        loaded.identity.intermediates(),
        [lab.cluster.ca.certificate().clone()],
        "a start shows them too"
    );
    let key = lab.folder.path().join("pki/kubelet-server.key");
    assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(lab.cluster.asked(), 1);

    lab.cluster.approve(false);
    lab.until("another request", |lab| lab.cluster.asked() == 2).await;
    assert_eq!(lab.kept().certificate(), first.certificate(), "the old one is there meanwhile");
    assert!(lab.shown.borrow().is_some());
    lab.cluster.approve(true);
    lab.until("a renewed one", |lab| lab.kept().certificate() != first.certificate()).await;
    assert_ne!(lab.kept().private_key().secret_der(), first.private_key().secret_der());
    lab.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn another_is_asked_for_when_the_addresses_change_and_nothing_without_a_link() {
    let lab = Lab::start(LinkState::Disconnected);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(lab.cluster.asked(), 0);
    lab.link.send_replace(LinkState::Connected);
    lab.until("a request", |lab| lab.cluster.asked() == 1).await;
    // The link goes down while it waits; what was asked for is not forgotten.
    lab.link.send_replace(LinkState::Disconnected);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    lab.cluster.approve(true);
    lab.link.send_replace(LinkState::Connected);
    lab.until("a certificate", |lab| lab.shown.borrow().is_some()).await;
    assert_eq!(lab.cluster.asked(), 1);

    *lab.machine.0.lock().unwrap() = "192.168.0.7".parse().unwrap();
    lab.until("another request", |lab| lab.cluster.asked() == 2).await;
    assert_eq!(hosts(&lab.cluster.last()), ["edge-1", "192.168.0.7"]);
    let held = |lab: &Lab| pki::hosts_of(lab.kept().certificate()).unwrap();
    lab.until("its certificate", |lab| held(lab).contains(&"192.168.0.7".to_owned())).await;
    lab.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nobody_approves_is_made_again_a_few_times_an_hour() {
    let lab = Lab::start(LinkState::Connected);
    tokio::time::sleep(Duration::from_secs(6 * 3600)).await;
    let asked = lab.cluster.asked();
    assert!((10..=24).contains(&asked), "{asked} in six hours");
    lab.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_object_has_other_addresses_serves_under_its_name_and_asks_once_a_day() {
    let lab = Lab::start(LinkState::Connected);
    *lab.cluster.addresses.lock().unwrap() = vec!["10.0.0.9".to_owned()];
    lab.cluster.approve(true);
    lab.until("a certificate", |lab| lab.shown.borrow().is_some()).await;
    assert_eq!(hosts(&lab.cluster.last()), ["edge-1"]);
    tokio::time::sleep(Duration::from_secs(20 * 3600)).await;
    assert_eq!(lab.cluster.asked(), 1);
    lab.until("another request", |lab| lab.cluster.asked() == 2).await;
    lab.stop.cancel();
}
