//! The Node API's doors: the socket's mode, TLS with and without certificates, other people's names.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]
#![allow(clippy::disallowed_methods, reason = "a test waits for nobody else")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cri::fake::Fake;
use edged::{Deps, Edged, Settings};
use message::NodeName;
use metamanager::{Cloud, LinkState, Objects, Outbox, Queries};
use nodeapi::{Allowed, Source, TlsPort};
use nodebase::clock::Clock;
use nodebase::host::Recorded;
use pki::{Authority, Identity, Profile, Usage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

struct Ca(Authority);

impl Ca {
    fn new() -> Ca {
        Ca(Authority::generate(Some("clients"), daemon::clock::unix_seconds()).unwrap())
    }

    fn issue(&self, name: &str, group: &str) -> Identity {
        let profile = Profile {
            common_name: name.to_owned(),
            organizations: vec![group.to_owned()],
            names: vec!["127.0.0.1".to_owned()],
            usage: Usage::ServerAndClient,
            lifetime: 3600,
        };
        self.0.issue(&profile, daemon::clock::unix_seconds()).unwrap()
    }
}

async fn start(folder: &Path, ca: &Ca, port: u16) -> (Fake, CancellationToken, tokio::task::JoinHandle<()>) {
    let files = [folder.join("tls.crt"), folder.join("tls.key"), folder.join("ca.crt")];
    let [certificate, key, client_ca] = files.clone();
    pki::files::write_identity(&certificate, &key, &ca.issue("edge-1", "nodes")).unwrap();
    pki::files::write_ca(&client_ca, ca.0.certificate()).unwrap();
    let fake = Fake::start(folder, Arc::new(|| 0)).unwrap();
    let tls = TlsPort {
        address: ([127, 0, 0, 1], port).into(),
        certificate,
        key,
        source: Source::Files,
        client_ca: Some(client_ca),
        allowed: Allowed { clients: Vec::new(), groups: vec!["system:masters".to_owned()] },
    };
    let api = nodeapi::Settings {
        socket: folder.join("edged.sock"),
        tls: Some(tls),
        loopback: None,
        streaming_idle: Duration::from_secs(60),
    };
    let settings = Settings {
        root_dir: folder.join("kubelet"),
        pod_logs_dir: folder.join("logs"),
        runtime_endpoint: fake.endpoint(),
        server: Some(api),
        ..Settings::with_defaults(NodeName::new("edge-1").unwrap())
    };
    let store = metamanager::database::open(&folder.join("edgecore.db")).unwrap();
    let objects = Objects::new(store.clone());
    let (_, link) = watch::channel(LinkState::Disconnected);
    let (cloud, _) = Cloud::channel(link);
    let (changes, inbox) = mpsc::channel(16);
    let queries = Queries::new(objects.clone(), cloud.clone());
    let deps = Deps {
        queries,
        outbox: Outbox::new(store),
        objects,
        cloud,
        changes: inbox,
        health: Default::default(),
        metrics: daemon::metrics::Metrics::new("edgecore"),
        in_step: tokio::sync::watch::channel(true).1,
    };
    let host = Arc::new(Recorded { cpus: 1, ..Recorded::default() });
    let edged = Edged::build_on(settings, deps, host, Clock::wall()).await.unwrap();
    let stop = CancellationToken::new();
    let token = stop.clone();
    let task = tokio::spawn(async move {
        let _open = changes;
        edged.run(token).await.unwrap();
    });
    (fake, stop, task)
}

/// The answer's first line, or nothing where the door stays shut.
async fn knock(port: u16, trusted: &Ca, identity: Option<&Identity>) -> Option<String> {
    let config = pki::tls::client(trusted.0.certificate(), identity).unwrap();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.ok()?;
    stream.write_all(b"GET /pods HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").await.ok()?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.ok()?;
    let text = String::from_utf8(text).unwrap();
    text.lines().next().map(str::to_owned)
}

#[tokio::test]
async fn only_certificates_of_the_ca_with_allowed_names_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, other) = (Ca::new(), Ca::new());
    let port = harness::ports::free().unwrap();
    let (_fake, stop, task) = start(folder.path(), &ca, port).await;
    let mode = std::fs::metadata(folder.path().join("edged.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let admin = ca.issue("kube-apiserver-kubelet-client", "system:masters");
    assert_eq!(knock(port, &ca, Some(&admin)).await.as_deref(), Some("HTTP/1.1 200 OK"));
    let node = ca.issue("system:node:edge-2", "system:nodes");
    assert_eq!(knock(port, &ca, Some(&node)).await.as_deref(), Some("HTTP/1.1 403 Forbidden"));
    assert_eq!(knock(port, &ca, None).await, None);
    let stranger = other.issue("kube-apiserver-kubelet-client", "system:masters");
    assert_eq!(knock(port, &ca, Some(&stranger)).await, None);

    // Files that were replaced count from the next connection on.
    pki::files::write_ca(&folder.path().join("ca.crt"), other.0.certificate()).unwrap();
    assert_eq!(knock(port, &ca, Some(&admin)).await, None);
    assert_eq!(knock(port, &ca, Some(&stranger)).await.as_deref(), Some("HTTP/1.1 200 OK"));
    stop.cancel();
    task.await.unwrap();
}
