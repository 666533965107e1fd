//! Handshakes in memory, at any time of the day.

use std::io::ErrorKind;
use std::sync::Arc;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::{ServerName, UnixTime};

use super::*;
use crate::{Authority, Bundle, DAY, Identity, NODES_GROUP, Profile, Subject, Usage, edge_common_name};

const NOW: i64 = 1_800_000_000;

#[derive(Debug)]
struct Clock(i64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(self.0 as u64)))
    }
}

fn at_client(config: Arc<ClientConfig>, now: i64) -> Arc<ClientConfig> {
    let mut config = (*config).clone();
    config.time_provider = Arc::new(Clock(now));
    Arc::new(config)
}

fn at_server(config: Arc<ServerConfig>, now: i64) -> Arc<ServerConfig> {
    let mut config = (*config).clone();
    config.time_provider = Arc::new(Clock(now));
    Arc::new(config)
}

/// Runs a handshake; gives the common name of the client's certificate.
fn shake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<Option<String>, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let mut bytes = Vec::new();
    for _ in 0..8 {
        client.write_tls(&mut bytes).unwrap();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        bytes.clear();
        server.write_tls(&mut bytes).unwrap();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match client.read_tls(&mut rest) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                read => read.unwrap(),
            };
            client.process_new_packets()?;
        }
        bytes.clear();
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    let certificate = server.peer_certificates().and_then(|chain| chain.first());
    Ok(certificate.map(|certificate| Subject::of(certificate).unwrap().common_name))
}

fn authority() -> Authority {
    crate::install_provider();
    Authority::generate(None, NOW).unwrap()
}

fn edge(ca: &Authority, days: i64, from: i64) -> Identity {
    let profile = Profile {
        common_name: edge_common_name("e"),
        organizations: vec![NODES_GROUP.to_owned()],
        names: vec![],
        usage: Usage::Client,
        lifetime: days * DAY,
    };
    ca.issue(&profile, from).unwrap()
}

fn cloud(ca: &Authority, from: i64) -> Identity {
    let profile = Profile {
        common_name: "KubeEdge".to_owned(),
        organizations: vec![],
        names: vec!["10.0.0.5".to_owned(), "cloud.example".to_owned()],
        usage: Usage::Server,
        lifetime: 365 * DAY,
    };
    ca.issue(&profile, from).unwrap()
}

const NAME: &str = "cloud.example";

#[test]
fn both_sides_follow_a_rotation_of_the_ca_in_any_order() {
    let (old, new) = (authority(), authority());
    let both = Bundle::of(old.certificate()).with(new.certificate());
    let server = LiveServer::new(&cloud(&old, NOW), &Bundle::of(old.certificate())).unwrap();
    let client = LiveClient::new(&Bundle::of(old.certificate()), Some(&edge(&old, 9, NOW))).unwrap();
    let (server_config, client_config) =
        (at_server(server.config(ClientCertificate::Required, &[]), NOW), at_client(client.config(), NOW));
    let ok = || shake(client_config.clone(), server_config.clone(), NAME).is_ok();
    assert!(ok());
    server.change(&cloud(&old, NOW), &both).unwrap();
    assert!(ok(), "the server trusts the new CA as well");
    // The server moves to the new CA; this edge was away and knows the old one only.
    let crossed = cloud(&new, NOW).with_intermediates(vec![old.cross_sign(&new, NOW).unwrap()]);
    server.change(&crossed, &both).unwrap();
    assert!(ok(), "a cross-signed chain leads to the CA the edge knows");
    client.change(&Bundle::of(new.certificate()), Some(&edge(&old, 9, NOW))).unwrap();
    assert!(ok(), "the edge trusts the new CA only");
    client.change(&both, Some(&edge(&new, 9, NOW))).unwrap();
    assert!(ok(), "the edge has a certificate of the new CA");
    server.change(&crossed, &Bundle::of(new.certificate())).unwrap();
    assert!(ok(), "the old CA is retired");
    client.change(&both, Some(&edge(&old, 9, NOW))).unwrap();
    assert!(!ok(), "nobody comes in with the retired CA");
}

#[test]
fn a_session_is_not_resumed_past_a_change_of_trust_or_identity() {
    let (old, new) = (authority(), authority());
    let server = LiveServer::new(&cloud(&old, NOW), &Bundle::of(old.certificate())).unwrap();
    let client = LiveClient::new(&Bundle::of(old.certificate()), Some(&edge(&old, 9, NOW))).unwrap();
    let (server_config, client_config) =
        (at_server(server.config(ClientCertificate::Required, &[]), NOW), at_client(client.config(), NOW));
    assert!(shake(client_config.clone(), server_config.clone(), NAME).is_ok());
    server.change(&cloud(&old, NOW), &Bundle::of(new.certificate())).unwrap();
    assert!(shake(client_config.clone(), server_config.clone(), NAME).is_err());
    client.change(&Bundle::of(old.certificate()), Some(&edge(&new, 9, NOW))).unwrap();
    assert!(shake(client_config, server_config, NAME).is_ok());
}

#[test]
fn an_expired_certificate_passes_only_where_the_caller_looks_at_its_dates() {
    let ca = authority();
    let trust = Bundle::of(ca.certificate());
    let server = LiveServer::new(&cloud(&ca, NOW + 20 * DAY), &trust).unwrap();
    let later = NOW + 20 * DAY;
    let come = |identity: &Identity, clients| {
        let client = LiveClient::new(&trust, Some(identity)).unwrap().config();
        shake(at_client(client, later), at_server(server.config(clients, &[]), later), NAME)
    };
    let expired = edge(&ca, 9, NOW);
    let passed = come(&expired, ClientCertificate::OptionalEvenExpired).unwrap();
    assert_eq!(passed.as_deref(), Some("system:node:e"));
    assert!(come(&expired, ClientCertificate::Optional).is_err());
    assert!(come(&expired, ClientCertificate::Required).is_err());
    assert!(
        come(&edge(&authority(), 9, NOW), ClientCertificate::OptionalEvenExpired).is_err(),
        "a foreign CA"
    );
}

#[test]
fn an_edge_whose_clock_was_never_set_verifies_the_cloud() {
    let ca = authority();
    let trust = Bundle::of(ca.certificate());
    // Made a year after all the edge has ever seen.
    let server = LiveServer::new(&cloud(&ca, NOW + 365 * DAY), &trust).unwrap();
    let client = LiveClient::new(&trust, Some(&edge(&ca, 900, NOW))).unwrap().config();
    let server = at_server(server.config(ClientCertificate::Required, &[]), NOW + 365 * DAY);
    assert!(shake(at_client(client.clone(), 0), server.clone(), NAME).is_ok());
    // A clock that is ahead still sees an end.
    assert!(shake(at_client(client, NOW + 900 * DAY), server, NAME).is_err());
}

#[test]
fn a_server_certificate_with_an_empty_dns_name_is_verified_by_its_other_names() {
    let ca = authority();
    // What a default KubeEdge installation makes of `dnsNames: [""]`.
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![
        SanType::DnsName("".try_into().unwrap()),
        SanType::IpAddress("10.0.0.5".parse().unwrap()),
        SanType::DnsName(NAME.try_into().unwrap()),
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let identity = ca.issue_unchecked(params, &key);
    let server = LiveServer::new(&identity, &Bundle::of(ca.certificate())).unwrap();
    let server = at_server(server.config(ClientCertificate::Optional, &[]), NOW);
    let client = at_client(client(ca.certificate(), None).unwrap(), NOW);
    for (name, right) in [("10.0.0.5", true), (NAME, true), ("10.0.0.6", false), ("other.example", false)] {
        assert_eq!(shake(client.clone(), server.clone(), name).is_ok(), right, "{name}");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused_when_it_is_set_not_when_it_is_used() {
    let ca = authority();
    let trust = Bundle::of(ca.certificate());
    let (one, other) = (edge(&ca, 9, NOW), edge(&ca, 9, NOW));
    let mixed = Identity::from_der(one.certificate(), &other.key_sec1().unwrap()).unwrap();
    assert!(matches!(LiveClient::new(&trust, Some(&mixed)), Err(TlsError::Identity(_))));
    assert!(matches!(LiveServer::new(&mixed, &trust), Err(TlsError::Identity(_))));
}
