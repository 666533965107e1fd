//! Real sockets and real TLS between a dialer and an acceptor.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use link::{
    AcceptError, Accepted, Acceptor, Budget, DialError, Dialect, Dialer, Hello, IncomingFrame, Link, Offer,
    Refusal, Target, Transport, quic,
};
use native::frames::Welcome;
use native::frames::frame::Body;
use pki::tls::ClientCertificate;
use pki::{Authority, DAY, Profile, Usage};
use tokio::net::TcpListener;

const NOW: i64 = 1_790_000_000;

struct Trust {
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
    stranger: Arc<rustls::ClientConfig>,
}

fn trust() -> Trust {
    pki::install_provider();
    let ca = Authority::generate(None, NOW).unwrap();
    let profile = |usage, names: &[&str]| Profile {
        common_name: "system:node:e1".into(),
        organizations: vec!["system:nodes".into()],
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        usage,
        lifetime: 3650 * DAY,
    };
    let server = ca.issue(&profile(Usage::Server, &["127.0.0.1"]), NOW).unwrap();
    let node = ca.issue(&profile(Usage::Client, &[]), NOW).unwrap();
    Trust {
        server: pki::tls::server(&server, ca.certificate(), ClientCertificate::Required, &[]).unwrap(),
        client: pki::tls::client(ca.certificate(), Some(&node)).unwrap(),
        stranger: pki::tls::client(ca.certificate(), None).unwrap(),
    }
}

fn target(address: SocketAddr, offer: Offer) -> Target {
    Target {
        address: address.to_string(),
        project_id: "p".into(),
        node: "e1".into(),
        timeout: Duration::from_secs(10),
        offer,
        way: link::Way::Straight,
    }
}

fn anyone(_: &rustls_pki_types::CertificateDer<'_>, hello: &Hello) -> Result<(), Refusal> {
    assert_eq!(hello.node_id, "e1");
    Ok(())
}

async fn accept_one(
    trust: &Trust,
    listener: &TcpListener,
    check: impl FnOnce(&rustls_pki_types::CertificateDer<'_>, &Hello) -> Result<(), Refusal> + Send + Unpin,
) -> Result<Accepted, AcceptError> {
    let acceptor = Acceptor::new(trust.server.clone(), 1024 * 1024, Budget::new(1024 * 1024));
    let (tcp, _) = listener.accept().await.unwrap();
    acceptor.accept(tcp, check).await
}

async fn exchange(cloud: Link, edge: Link) {
    let (Link::Native(mut down, _up), Link::Native(_, mut receiver)) = (cloud, edge) else { panic!() };
    down.send(Body::Welcome(Welcome { epoch: 7, takes_streams: false })).await.unwrap();
    match receiver.next().await.unwrap() {
        IncomingFrame::Frame(body) => {
            assert_eq!(*body, Body::Welcome(Welcome { epoch: 7, takes_streams: false }))
        }
        IncomingFrame::Life => panic!("expected a frame"),
    }
}

#[tokio::test]
async fn both_ends_agree_on_the_native_dialect_or_on_kubeedges() {
    let trust = trust();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dialer = Dialer::new(trust.client.clone());
    for (offer, dialect) in [(Offer::Auto, Dialect::Native), (Offer::KubeEdge, Dialect::KubeEdge)] {
        let target = target(address, offer);
        let (accepted, dialled) = tokio::join!(accept_one(&trust, &listener, anyone), dialer.dial(&target));
        let (accepted, dialled) = (accepted.unwrap(), dialled.unwrap());
        assert_eq!((accepted.link.dialect(), dialled.dialect()), (dialect, dialect));
        if dialect == Dialect::Native {
            exchange(accepted.link, dialled).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_knows_no_subprotocol_is_spoken_to_in_kubeedges_dialect() {
    let trust = trust();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(trust.server.clone());
    // Answers upgrades as gorilla/websocket does: no word about subprotocols.
    let server = tokio::spawn(async move {
        let mut sockets = Vec::new();
        while sockets.len() < 2 {
            let (tcp, _) = listener.accept().await.unwrap();
            let stream = tls.accept(tcp).await.unwrap();
            if let Ok(socket) = tokio_tungstenite::accept_async(stream).await {
                sockets.push(socket);
            }
        }
        sockets.len()
    });
    let dialer = Dialer::new(trust.client.clone());
    let link = dialer.dial(&target(address, Offer::Auto)).await.unwrap();
    assert_eq!(link.dialect(), Dialect::KubeEdge);
    assert_eq!(server.await.unwrap(), 2);
}

#[tokio::test]
async fn a_busy_server_says_when_to_come_back_and_a_refused_peer_why() {
    let trust = trust();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap(), Offer::Auto);
    let dialer = Dialer::new(trust.client.clone());
    let busy =
        |_: &rustls_pki_types::CertificateDer<'_>, _: &Hello| Err(Refusal::Busy(Duration::from_millis(2345)));
    let (accepted, dialled) = tokio::join!(accept_one(&trust, &listener, busy), dialer.dial(&target));
    assert!(matches!(accepted, Err(AcceptError::Busy(_))));
    assert_eq!(dialled.err().unwrap().retry_after(), Some(Duration::from_millis(2345)));
    let forbidden =
        |_: &rustls_pki_types::CertificateDer<'_>, _: &Hello| Err(Refusal::Forbidden("not you".into()));
    let (_, dialled) = tokio::join!(accept_one(&trust, &listener, forbidden), dialer.dial(&target));
    let error = dialled.err().unwrap();
    assert!(error.to_string().contains("403 not you"), "{error}");
    assert_eq!(error.retry_after(), None);
}

fn quic_listener(trust: &Trust) -> quic::Listener {
    quic_listener_on(trust, SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn quic_listener_on(trust: &Trust, address: SocketAddr) -> quic::Listener {
    let budget = Budget::new(1024 * 1024);
    quic::Listener::bind(address, trust.server.clone(), Duration::from_secs(10), budget, b"secret").unwrap()
}

fn quic_dialer(config: &Arc<rustls::ClientConfig>) -> quic::Dialer {
    quic::Dialer::bind(config.clone(), Duration::from_secs(1), Duration::from_secs(10)).unwrap()
}

async fn welcome(
    listener: &quic::Listener,
    check: impl FnOnce(&rustls_pki_types::CertificateDer<'_>, &Hello) -> Result<(), Refusal> + Send,
) -> Result<Accepted, AcceptError> {
    let incoming = listener.accept().await.unwrap();
    listener.welcome(incoming, check).await
}

#[tokio::test]
async fn a_quic_connection_survives_a_change_of_the_edges_address() {
    let trust = trust();
    let listener = quic_listener(&trust);
    let dialer = quic_dialer(&trust.client);
    let target = target(listener.address().unwrap(), Offer::Auto);
    let (accepted, dialled) = tokio::join!(welcome(&listener, anyone), dialer.dial(&target));
    let (accepted, dialled) = (accepted.unwrap(), dialled.unwrap());
    assert_eq!(accepted.link.transport(), Transport::Quic);
    dialer.rebind().unwrap();
    // The edge speaks first from its new address.
    let (Link::Native(down, mut up), Link::Native(mut edge_up, edge_down)) = (accepted.link, dialled) else {
        panic!()
    };
    edge_up.send(Body::Welcome(Welcome { epoch: 1, takes_streams: false })).await.unwrap();
    assert!(matches!(up.next().await.unwrap(), IncomingFrame::Frame(_)));
    exchange(Link::Native(down, up), Link::Native(edge_up, edge_down)).await;
}

#[tokio::test]
async fn an_edge_learns_from_the_next_server_that_its_quic_connection_died_with_the_last() {
    let trust = trust();
    // The first server is gone with its threads, and tells nobody.
    let killed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = {
        let _of_it = killed.enter();
        quic_listener(&trust)
    };
    let address = listener.address().unwrap();
    let accepting = killed.spawn(async move {
        let accepted = welcome(&listener, anyone).await;
        (listener, accepted)
    });
    let dialled = quic_dialer(&trust.client).dial(&target(address, Offer::Auto)).await.unwrap();
    let (listener, accepted) = accepting.await.unwrap();
    tokio::task::spawn_blocking(move || killed.shutdown_timeout(Duration::from_secs(10))).await.unwrap();
    drop((listener, accepted.unwrap()));
    let _next = quic_listener_on(&trust, address);
    let Link::Native(_, mut edge_down) = dialled else { panic!() };
    let error = edge_down.next().await.unwrap_err();
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        text += &format!("{error}; ");
        cause = error.source();
    }
    assert!(text.contains("reset by peer"), "{text}");
}

#[tokio::test]
async fn quic_peers_without_certificate_or_right_are_refused_with_the_reason() {
    let trust = trust();
    let listener = quic_listener(&trust);
    let target = target(listener.address().unwrap(), Offer::Auto);
    let stranger = quic_dialer(&trust.stranger);
    let (accepted, dialled) = tokio::join!(welcome(&listener, anyone), stranger.dial(&target));
    assert!(accepted.is_err() && dialled.is_err());
    let dialer = quic_dialer(&trust.client);
    let forbidden =
        |_: &rustls_pki_types::CertificateDer<'_>, _: &Hello| Err(Refusal::Forbidden("not you".into()));
    let (_, dialled) = tokio::join!(welcome(&listener, forbidden), dialer.dial(&target));
    assert!(dialled.err().unwrap().to_string().contains("not you"));
    let busy =
        |_: &rustls_pki_types::CertificateDer<'_>, _: &Hello| Err(Refusal::Busy(Duration::from_millis(99)));
    let (_, dialled) = tokio::join!(welcome(&listener, busy), dialer.dial(&target));
    assert!(matches!(
        dialled.err().unwrap(),
        DialError::Refused { retry_after: Some(wait), .. } if wait == Duration::from_millis(99)
    ));
}

#[tokio::test]
async fn a_frame_length_beyond_the_limit_ends_the_connection_before_memory_is_spent() {
    let trust = trust();
    let listener = quic_listener(&trust);
    let address = listener.address().unwrap();
    let mut config = (*trust.client).clone();
    config.alpn_protocols = vec![native::NAME.into()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(Arc::new(config)).unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    // The second is a frame like many, but nobody's greeting.
    for length in [u32::MAX, 100_000] {
        let connecting = endpoint.connect_with(config.clone(), address, "127.0.0.1").unwrap();
        let bomb = async {
            let connection = connecting.await.unwrap();
            let (mut send, _receive) = connection.open_bi().await.unwrap();
            send.write_all(&length.to_be_bytes()).await.unwrap();
            connection.closed().await
        };
        let (accepted, _closed) = tokio::join!(welcome(&listener, anyone), bomb);
        assert!(matches!(accepted, Err(AcceptError::Greeting)), "{length}");
    }
}

#[tokio::test]
async fn a_peer_that_has_not_greeted_may_send_little_ahead() {
    let trust = trust();
    let listener = quic_listener(&trust);
    let mut config = (*trust.client).clone();
    config.alpn_protocols = vec![native::NAME.into()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(Arc::new(config)).unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint.connect_with(config, listener.address().unwrap(), "127.0.0.1").unwrap();
    let incoming = listener.accept().await.unwrap().accept().unwrap();
    let (connection, _served) = tokio::join!(connecting, incoming);
    let (mut send, _receive) = connection.unwrap().open_bi().await.unwrap();
    let written = tokio::time::timeout(Duration::from_millis(300), send.write_all(&[0; 64 * 1024])).await;
    assert!(written.is_err(), "nobody reads, and all of it was taken");
}

#[tokio::test]
async fn streams_beside_the_frames_that_nobody_reads_hold_up_neither_frames_nor_each_other() {
    let trust = trust();
    let listener = quic_listener(&trust);
    let target = target(listener.address().unwrap(), Offer::Auto);
    let dialer = quic_dialer(&trust.client);
    let (accepted, dialled) = tokio::join!(welcome(&listener, anyone), dialer.dial(&target));
    let (Link::Native(mut down, _up), Link::Native(edge_up, mut edge_down)) =
        (accepted.unwrap().link, dialled.unwrap())
    else {
        panic!()
    };
    let (cloud, edge) = (down.side_streams().unwrap(), edge_up.side_streams().unwrap());
    let (mut senders, mut readers) = (Vec::new(), Vec::new());
    while let Some(place) = cloud.place() {
        let stream = cloud.open(place).await.unwrap();
        // More than the edge takes ahead of its reader.
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        senders.push(tokio::spawn(async move {
            let mut stream = stream;
            stream.send.write_all(&[1; 64]).await.unwrap();
            begun.send(()).unwrap();
            stream.send.write_all(&vec![7; 1024 * 1024]).await.unwrap();
            stream.send.finish().unwrap();
            // Read to its end before it goes.
            let _ = stream.send.stopped().await;
        }));
        readers.push(edge.accept().await.unwrap());
        has_begun.await.unwrap();
    }
    assert_eq!(readers.len(), 32);
    let body = Body::Welcome(Welcome { epoch: 9, takes_streams: false });
    down.send(body.clone()).await.unwrap();
    match edge_down.next().await.unwrap() {
        IncomingFrame::Frame(got) => assert_eq!(*got, body),
        other => panic!("{other:?}"),
    }
    // The last one first, to its end; the others are still full.
    for mut stream in readers.into_iter().rev() {
        let all = stream.receive.read_to_end(2 * 1024 * 1024).await.unwrap();
        assert_eq!(all.len(), 64 + 1024 * 1024);
    }
    for sender in senders {
        sender.await.unwrap();
    }
    assert!(cloud.place().is_some(), "streams that ended left their places");
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_told_from_one_that_ends() {
    let trust = trust();
    let listener = quic_listener(&trust);
    let target = target(listener.address().unwrap(), Offer::Auto);
    let dialer = quic_dialer(&trust.client);
    let (accepted, dialled) = tokio::join!(welcome(&listener, anyone), dialer.dial(&target));
    let (Link::Native(down, _up), Link::Native(edge_up, _edge_down)) =
        (accepted.unwrap().link, dialled.unwrap())
    else {
        panic!()
    };
    let (cloud, edge) = (down.side_streams().unwrap(), edge_up.side_streams().unwrap());
    let mut stream = cloud.open(cloud.place().unwrap()).await.unwrap();
    stream.send.write_all(b"half").await.unwrap();
    let mut there = edge.accept().await.unwrap();
    stream.abort();
    assert!(there.receive.read_to_end(100).await.is_err());
}
