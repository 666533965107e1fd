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
use nodeapi::{Allowed, ForwardedPorts, Source, TlsPort};
use nodebase::clock::Clock;
use nodebase::host::Recorded;
use pki::{Authority, Identity, Profile, Usage};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
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
    start_forwarding(folder, ca, port, ForwardedPorts::default()).await
}

async fn start_forwarding(
    folder: &Path,
    ca: &Ca,
    port: u16,
    forwarded: ForwardedPorts,
) -> (Fake, CancellationToken, tokio::task::JoinHandle<()>) {
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
        forwarded,
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

/// Answers each connection's request with what came, and an upgrade with an echo. Gives its port.
async fn server(tls: Option<tokio_rustls::TlsAcceptor>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            match &tls {
                Some(tls) => drop(tokio::spawn(told(tls.accept(stream).await.unwrap()))),
                None => drop(tokio::spawn(told(stream))),
            }
        }
    });
    port
}

async fn told(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let asked = head(&mut stream).await;
    if asked.contains("upgrade: echo") {
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
            .await
            .unwrap();
        let mut said = [0; 5];
        stream.read_exact(&mut said).await.unwrap();
        stream.write_all(&said).await.unwrap();
        return stream.shutdown().await.unwrap();
    }
    let length = asked.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.unwrap();
    let said = format!("{asked}{}", String::from_utf8(body).unwrap());
    let head = "HTTP/1.1 207 Multi-Status\r\nx-own: kept\r\nkeep-alive: timeout=5\r\nconnection: close\r\n";
    stream.write_all(format!("{head}content-length: {}\r\n\r\n{said}", said.len()).as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    // Neither a request nor what opens TLS is read beyond its end.
    while !head.ends_with(b"\r\n\r\n") && head.first() != Some(&0x16) {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// What the Node API answers, all of it.
async fn asked(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn ports_of_the_node_that_the_policy_names_are_reached_over_http_https_and_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    let identity = ca.issue("somebody", "else");
    let clients = pki::tls::ClientCertificate::Optional;
    let tls = pki::tls::server(&identity, ca.0.certificate(), clients, &["http/1.1"]).unwrap();
    let (plain, secure) = (server(None).await, server(Some(tls.into())).await);
    let (closed, own) = (server(None).await, harness::ports::free().unwrap());
    let policy = ForwardedPorts::new([plain..=plain, secure..=secure], vec![own]);
    let (_fake, stop, task) = start_forwarding(folder.path(), &ca, own, policy).await;
    let socket = folder.path().join("edged.sock");

    for way in [format!("/ports/{plain}"), format!("/ports/https:{secure}")] {
        let port = way.trim_start_matches(|letter: char| !letter.is_ascii_digit());
        let request = format!(
            "PUT {way}/a//b%2Fc?d=e&f HTTP/1.1\r\nhost: node\r\nauthorization: Bearer x\r\nx-mine: 1\r\n\
             connection: close\r\ncontent-length: 4\r\n\r\nbody"
        );
        let answer = asked(&socket, &request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 207 Multi-Status"), "{answer}");
        assert!(head.contains("x-own: kept") && !head.contains("keep-alive"), "{answer}");
        assert!(
            body.starts_with("PUT /a//b%2Fc?d=e&f HTTP/1.1\r\n") && body.ends_with("\r\n\r\nbody"),
            "{answer}"
        );
        assert!(
            body.contains(&format!("host: 127.0.0.1:{port}\r\n")) && body.contains("x-mine: 1"),
            "{answer}"
        );
        assert!(!body.contains("authorization"), "{answer}");

        let upgrade =
            format!("GET {way}/ HTTP/1.1\r\nhost: node\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello");
        let echoed = asked(&socket, &upgrade).await;
        assert!(echoed.starts_with("HTTP/1.1 101 ") && echoed.ends_with("\r\n\r\nhello"), "{echoed}");
    }

    let tcp = |port: u16| {
        format!(
            "GET /nodeTcp/{port} HTTP/1.1\r\nhost: node\r\nconnection: upgrade, close\r\nupgrade: tcp\r\n\r\n\
             GET /t HTTP/1.1\r\n\r\n"
        )
    };
    let through = asked(&socket, &tcp(plain)).await;
    assert!(through.starts_with("HTTP/1.1 101 ") && through.contains("HTTP/1.1 207 "), "{through}");
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
    for request in
        [get(&format!("/ports/{closed}/")), get(&format!("/ports/https:{own}/pods")), tcp(closed), tcp(own)]
    {
        let refused = asked(&socket, &request).await;
        let names_key = refused.contains("modules.edged.nodeAPI.forwardedPorts");
        assert!(refused.starts_with("HTTP/1.1 403 ") && names_key, "{request}: {refused}");
    }
    let no_tls = asked(&socket, &get(&format!("/ports/https:{plain}/"))).await;
    assert!(no_tls.starts_with("HTTP/1.1 502 ") && no_tls.contains("handshake"), "{no_tls}");
    let nobody = asked(&socket, &get(&format!("/podPorts/default/web/{plain}/"))).await;
    assert!(nobody.starts_with("HTTP/1.1 404 ") && nobody.contains("pod \"web\" not found"), "{nobody}");
    stop.cancel();
    task.await.unwrap();
}
