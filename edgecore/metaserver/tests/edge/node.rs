//! A node with MetaServer, which can be started again.

use std::path::PathBuf;
use std::sync::Arc;

use message::{Json, ObjectKey, ObjectKind, ResourceVersion};
use metamanager::sealed::{Sealer, Seals, key};
use metamanager::{Change, ObjectChange, Objects, Outbox};
use metaserver::serving::Files;
use metaserver::{Bounds, Deps, Filters, Hub, MetaServer, QueuedWrites, Settings};
use pki::{Authority, Identity, Profile, Usage};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cloud::{Cloud, Link, NODE};

pub(crate) struct Node {
    pub folder: tempfile::TempDir,
    pub cloud: Arc<Cloud>,
    pub objects: Objects,
    pub authority: Authority,
    pub node_api: Option<PathBuf>,
    pub outbox: Outbox,
    pub filters: Filters,
    pub watch_services: bool,
    pub hub: bool,
    pub queued_writes: QueuedWrites,
    pub passes: Option<kubeletproxy::Passes>,
    pub services: tokio::sync::watch::Sender<metamanager::KnownServices>,
    bounds: Bounds,
    running: Option<Running>,
}

struct Running {
    address: std::net::SocketAddr,
    plain: Option<std::net::SocketAddr>,
    ca: Vec<u8>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Node {
    pub(crate) async fn start(cloud: &Arc<Cloud>) -> Node {
        Node::start_with(cloud, Bounds::default(), None).await
    }

    pub(crate) async fn start_with(cloud: &Arc<Cloud>, bounds: Bounds, node_api: Option<PathBuf>) -> Node {
        pki::install_provider();
        let now = daemon::clock::unix_seconds();
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::generate(None, now).unwrap();
        pki::files::write_ca(&folder.path().join("rootCA.crt"), authority.certificate()).unwrap();
        let store = metamanager::database::in_memory().unwrap();
        let (objects, outbox) = (Objects::new(store.clone()), Outbox::new(store));
        let cloud = cloud.clone();
        let filters = Filters::default();
        let (running, watch_services, services) = (None, false, Default::default());
        let mut node = Node {
            folder,
            cloud,
            objects,
            authority,
            node_api,
            outbox,
            filters,
            watch_services,
            hub: false,
            queued_writes: QueuedWrites::default(),
            passes: None,
            services,
            bounds,
            running,
        };
        node.begin().await;
        node
    }

    /// With other settings.
    pub(crate) async fn again(&mut self, change: impl FnOnce(&mut Node)) {
        self.stop().await;
        change(self);
        self.begin().await;
    }

    fn seals(&self) -> Seals {
        Seals::with(Sealer::new(&key::read_or_make(&self.folder.path().join("secrets.key")).unwrap()))
    }

    pub(crate) async fn begin(&mut self) {
        let at = |name: &str| self.folder.path().join(name);
        let settings = Settings {
            node: NODE.to_owned(),
            server: ([127, 0, 0, 1], 0).into(),
            dummy: None,
            database: at("metaserver.db"),
            files: Files {
                folder: at("metaserver"),
                given: None,
                given_ca: None,
                client_ca: at("rootCA.crt"),
                node: (at("node.crt"), at("node.key")),
            },
            issuers: vec![],
            audiences: vec![],
            key_files: vec![],
            node_api: self.node_api.clone(),
            bounds: self.bounds,
            filters: self.filters.clone(),
            watch_services: self.watch_services,
            queued_writes: if self.hub { QueuedWrites::of_the_node() } else { self.queued_writes.clone() },
            hub: self.hub.then_some(Hub { plain: Some(([127, 0, 0, 1], 0).into()) }),
        };
        let deps = Deps {
            objects: self.objects.clone(),
            outbox: Some(self.outbox.clone()),
            seals: self.seals(),
            passes: self.passes.clone(),
            upstream: Arc::new(Link(self.cloud.clone())),
            services: self.services.clone(),
            reach: tokio::sync::watch::Sender::new(None),
        };
        let server = MetaServer::build(settings, deps).await.unwrap();
        let (address, plain, stop) = (server.address(), server.plain_address(), CancellationToken::new());
        let ca = pki::Bundle::from_pem(server.trust().as_bytes()).unwrap().certificates()[0].to_vec();
        let task = tokio::spawn(server.run(stop.clone()));
        self.running = Some(Running { address, plain, ca, stop, task });
    }

    pub(crate) async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.stop.cancel();
        running.task.await.unwrap();
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.running.as_ref().unwrap().address
    }

    /// The door without TLS.
    pub(crate) fn plain_address(&self) -> std::net::SocketAddr {
        self.running.as_ref().unwrap().plain.unwrap()
    }

    pub(crate) fn ca(&self) -> &[u8] {
        &self.running.as_ref().unwrap().ca
    }

    /// A client certificate of the nodes' CA.
    pub(crate) fn certificate(&self, name: &str) -> Identity {
        let profile = Profile {
            common_name: name.to_owned(),
            organizations: vec!["system:nodes".to_owned()],
            names: vec![],
            usage: Usage::Client,
            lifetime: 3600,
        };
        self.authority.issue(&profile, daemon::clock::unix_seconds()).unwrap()
    }

    /// This node's own.
    pub(crate) fn own(&self) -> Identity {
        self.certificate(&format!("system:node:{NODE}"))
    }

    /// The node holds an object for its own work.
    pub(crate) async fn hold(&self, kind: ObjectKind, object: &Value) {
        let metadata = &object["metadata"];
        let key = ObjectKey::new(metadata["namespace"].as_str(), kind, metadata["name"].as_str().unwrap());
        let version = ResourceVersion(metadata["resourceVersion"].as_str().unwrap().to_owned());
        let change = Change::Put { version, object: Json::of(object) };
        self.objects.apply(vec![ObjectChange { key, change }]).await.unwrap();
    }
}
