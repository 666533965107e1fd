use super::*;
use token::{Claims, JoinToken, TokenError};

const NOW: i64 = 1_800_000_000;

fn authority() -> Authority {
    install_provider();
    Authority::generate(None, NOW).unwrap()
}

fn node_profile(name: &str) -> Profile {
    Profile {
        common_name: edge_common_name(name),
        organizations: vec![NODES_GROUP.to_owned()],
        names: vec![],
        usage: Usage::Client,
        lifetime: 365 * DAY,
    }
}

#[test]
fn a_certificate_names_both_of_two_organizations_and_never_drops_one() {
    let ca = authority();
    let of = |names: &[&str]| {
        let organizations = names.iter().map(|name| (*name).to_owned()).collect();
        ca.issue(&Profile { organizations, ..node_profile("a") }, NOW)
    };
    for wanted in [&[][..], &["one"], &["one", "two"]] {
        let issued = of(wanted).unwrap();
        assert_eq!(Subject::of(issued.certificate()).unwrap().organizations, wanted);
    }
    assert!(matches!(of(&["one", "two", "three"]), Err(AuthorityError::Organizations { count: 3, .. })));
}

#[test]
fn a_ca_survives_the_sec1_form_kubeedge_stores() {
    let ca = authority();
    let again = Authority::from_der(ca.certificate(), ca.key_sec1()).unwrap();
    assert_eq!(again.key_sec1(), ca.key_sec1());
    assert_eq!(again.fingerprint(), ca.fingerprint());
    // ECPrivateKey with the curve named: Go refuses keys without it.
    assert!(
        ca.key_sec1()
            .windows(10)
            .any(|part| part == [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07])
    );
}

#[test]
fn a_signed_request_names_the_node_and_nothing_the_request_added() {
    let ca = authority();
    let (key, request) = node_request("edge-1").unwrap();
    let request = SigningRequest::from_der(&request).unwrap();
    assert_eq!(request.common_name(), Some("system:node:edge-1"));
    assert_eq!(request.organization(), Some("system:nodes"));
    let certificate = ca.sign_request(&request, &node_profile("edge-1"), NOW, None).unwrap();
    assert_eq!(EdgeSubject::of(&certificate).unwrap().node, "edge-1");
    let identity = Identity::new(certificate, key);
    assert!(tls::client(ca.certificate(), Some(&identity)).is_ok());
}

#[test]
fn an_identity_survives_pem_and_keeps_its_files_private() {
    use std::os::unix::fs::PermissionsExt;
    let identity = authority().issue(&node_profile("e"), NOW).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("c/server.crt"), folder.path().join("c/server.key"));
    files::write_identity(&certificate, &key, &identity).unwrap();
    let read = files::read_identity(&certificate, &key).unwrap();
    assert_eq!(read.certificate(), identity.certificate());
    assert_eq!(read.key_sec1(), identity.key_sec1());
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!format!("{identity:?}").contains("PRIVATE"));
}

#[test]
fn tokens_expire_and_are_bound_to_the_cluster() {
    let (ours, theirs) = (authority(), authority());
    let text = token::mint(&ours, NOW + 60);
    let token = JoinToken::parse(&text).unwrap();
    assert_eq!(token::verify(&ours, token.bearer(), NOW), Ok(Claims::until(NOW + 60)));
    assert_eq!(token::verify(&theirs, token.bearer(), NOW), Err(TokenError::BadSignature));
    let late = |seconds| token::verify(&ours, token.bearer(), NOW + 60 + seconds);
    assert!(late(CLOCK_SKEW - 1).is_ok(), "clocks may differ a little");
    assert!(matches!(late(CLOCK_SKEW), Err(TokenError::Expired { .. })));
    assert!(token.check_ca(ours.certificate()).is_ok());
    assert!(matches!(token.check_ca(theirs.certificate()), Err(TokenError::OtherCluster { .. })));
}

#[test]
fn malformed_and_unsigned_tokens_are_refused() {
    use base64::Engine as _;
    let ca = authority();
    let none = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    for bad in ["", ".", "a.b.c", "..", &format!("{none}.e30."), &"x".repeat(100_000)] {
        assert!(token::verify(&ca, bad, NOW).is_err(), "{}", &bad[..bad.len().min(40)]);
        assert!(JoinToken::parse(bad).is_err());
    }
}

#[test]
fn a_server_certificate_of_another_kind_is_not_a_node() {
    let ca = authority();
    let profile = Profile {
        common_name: "KubeEdge".into(),
        names: vec!["127.0.0.1".into(), "localhost".into()],
        ..node_profile("x")
    };
    let identity = ca.issue(&profile, NOW).unwrap();
    assert!(matches!(EdgeSubject::of(identity.certificate()), Err(SubjectError::NotANode { .. })));
    assert!(matches!(
        ca.issue(&Profile { names: vec!["".into()], ..profile }, NOW),
        Err(AuthorityError::BadName { .. })
    ));
}

#[test]
fn a_token_says_for_which_nodes_and_how_often_it_is_good() {
    let ca = authority();
    let claims =
        Claims { jti: Some(token::fresh_id()), nodes: Some("store-*-a".into()), ..Claims::until(NOW + 9) };
    let text = token::mint_with(&ca, &claims);
    let read = token::verify(&ca, JoinToken::parse(&text).unwrap().bearer(), NOW).unwrap();
    assert_eq!(read, claims);
    for (node, good) in
        [("store-7-a", true), ("store--a", true), ("store-7-b", false), ("a-store-7-a", false)]
    {
        assert_eq!(read.check_node(node).is_ok(), good, "{node}");
    }
    for (pattern, node, good) in [
        ("*", "x", true),
        ("a", "a", true),
        ("a", "ab", false),
        ("a*b*c", "a1b2c", true),
        ("a*a", "a", false),
    ] {
        let claims = Claims { nodes: Some(pattern.into()), ..Claims::until(NOW) };
        assert_eq!(claims.check_node(node).is_ok(), good, "{pattern} {node}");
    }
    // An id becomes part of an object's name.
    let odd = token::mint_with(&ca, &Claims { jti: Some("../casecret".into()), ..Claims::until(NOW + 9) });
    assert_eq!(token::verify(&ca, JoinToken::parse(&odd).unwrap().bearer(), NOW), Err(TokenError::Malformed));
}

#[test]
fn a_crash_between_the_files_of_an_identity_is_made_good_when_its_program_starts() {
    let ca = authority();
    let (old, new) = (ca.issue(&node_profile("e"), NOW).unwrap(), ca.issue(&node_profile("e"), NOW).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("server.crt"), folder.path().join("server.key"));
    files::write_identity(&certificate, &key, &old).unwrap();
    let (certificate_pem, key_pem) = new.to_pem().unwrap();
    // What is there when the process dies after the key's rename.
    std::fs::write(folder.path().join("server.crt.pending"), format!("{certificate_pem}{key_pem}")).unwrap();
    std::fs::write(&key, key_pem).unwrap();
    let others = files::read_identity(&certificate, &key).unwrap();
    assert_eq!(others.certificate(), new.certificate());
    assert!(folder.path().join("server.crt.pending").exists(), "who only reads changes nothing");
    for _ in 0..2 {
        let read = files::load_identity(&certificate, &key).unwrap();
        assert_eq!((read.certificate(), read.key_sec1()), (new.certificate(), new.key_sec1()));
        assert!(!folder.path().join("server.crt.pending").exists());
    }
    // The first one may be cut short as well.
    let first = folder.path().join("first.crt");
    assert!(!files::is_written(&first));
    std::fs::copy(&key, folder.path().join("first.key")).unwrap();
    let (certificate_pem, key_pem) = new.to_pem().unwrap();
    std::fs::write(folder.path().join("first.crt.pending"), format!("{certificate_pem}{key_pem}")).unwrap();
    assert!(files::is_written(&first));
    files::load_identity(&first, &folder.path().join("first.key")).unwrap();
    assert!(first.exists());
}

#[test]
fn an_identity_is_read_while_it_is_replaced_and_both_sides_succeed() {
    let ca = authority();
    let identities = [0, 1].map(|_| ca.issue(&node_profile("e"), NOW).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("server.crt"), folder.path().join("server.key"));
    files::write_identity(&certificate, &key, &identities[0]).unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reads = [0, 1].map(|_| {
            scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    files::read_identity(&certificate, &key).map_err(|error| format!("{error:?}"))?;
                }
                Ok::<_, String>(())
            })
        });
        let written: Vec<_> = identities
            .iter()
            .cycle()
            .take(100)
            .map(|identity| {
                files::write_identity(&certificate, &key, identity).map_err(|error| format!("{error:?}"))
            })
            .collect();
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(written.into_iter().find(Result::is_err), None);
        assert_eq!(reads.map(|read| read.join().unwrap()), [Ok(()), Ok(())]);
    });
    assert_eq!(files::read_identity(&certificate, &key).unwrap().certificate(), identities[1].certificate());
}

#[test]
fn a_bundle_survives_pem_and_refuses_what_is_not_certificates() {
    let (old, new) = (authority(), authority());
    let bundle = Bundle::of(new.certificate()).with(old.certificate()).with(new.certificate());
    assert_eq!(bundle.certificates().len(), 2);
    assert_eq!(Bundle::from_pem(bundle.to_pem().as_bytes()).unwrap(), bundle);
    let many: String = (0..17).map(|_| Bundle::of(authority().certificate()).to_pem()).collect();
    let noise = pem::pem("CERTIFICATE", b"noise");
    for bad in ["", "text", &noise, &many, &"x".repeat(Bundle::MAX_BYTES + 1)] {
        assert!(Bundle::from_pem(bad.as_bytes()).is_err(), "{}", &bad[..bad.len().min(40)]);
    }
}

#[test]
fn a_bundle_knows_whether_the_ca_that_signs_made_a_certificate_whatever_its_dates() {
    let (old, new) = (authority(), authority());
    let identity = old.issue(&Profile { lifetime: 1, ..node_profile("e1") }, NOW - DAY).unwrap();
    let both = Bundle::of(old.certificate()).with(new.certificate());
    assert!(both.signer_signed(identity.certificate()));
    let both = both.signed_by(new.certificate());
    assert!(!both.signer_signed(identity.certificate()));
    assert_eq!(both.certificates().len(), 2);
    assert!(!both.signer_signed(b"nonsense"));
}

#[test]
fn a_request_with_two_organisations_or_other_names_than_hosts_says_so() {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};
    let key = KeyPair::generate().unwrap();
    let read = |params: &CertificateParams| {
        SigningRequest::from_der(params.serialize_request(&key).unwrap().der()).unwrap()
    };
    let mut params = CertificateParams::new(vec!["edge-1".to_owned(), "10.0.0.7".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "system:node:edge-1");
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    let request = read(&params);
    assert_eq!(request.organization(), Some("system:nodes"));
    assert!(!request.asks_for_other_than_hosts());
    params.subject_alt_names.push(SanType::URI("spiffe://cluster/admin".try_into().unwrap()));
    assert!(read(&params).asks_for_other_than_hosts());
    // 2.5.4.10 is the organisation under its number.
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 10]), "system:masters");
    assert_eq!(read(&params).organization(), None);
}

/// RSA with 1024 bits, as old devices make it.
const WEAK_REQUEST: &str = "MIIBbzCB2QIBADAwMRUwEwYDVQQKDAxzeXN0ZW06bm9kZXMxFzAVBgNVBAMMDnN5c3RlbTpub2RlOmUxMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDOn2OWglkETsFcg6v3dpgTPA0zL8VKpViPoPKEgLSvVVX/gDXMkxjYRi81b67WWdeXh0HxfIBoXs0MpyUnWG/Nr6bA14XVmmA5o9ZRObtrIHfOb+WiJ7HcejhY2x5mTtTOUm6oOyBV0gXlvWLsLZLOgVOu6hc78XUGEtzH9JEtiQIDAQABoAAwDQYJKoZIhvcNAQELBQADgYEATm+o4fhxT9nM+cTy2KtyupolMeDcC8dwlk6HAukp58gDqNdXRA7DT55+pyJsUe05moD+U+Fhv3hfQHGcc/zbXX3idxZf9FbnMtxiZffHoQ3lLc8U53TqCepB50V2pT/YLua/LjMApFe9rCKrfGXZHSsV5NvL3O9w5G6eJHJ+r+0=";

#[test]
fn a_request_with_a_weak_key_is_told_what_is_wrong_with_it() {
    use base64::Engine;
    let der = base64::engine::general_purpose::STANDARD.decode(WEAK_REQUEST).unwrap();
    let error = SigningRequest::from_der(&der).err().unwrap().to_string();
    assert!(error.contains("key") && error.contains("P-256") && !error.contains("CA"), "{error}");
    let error = SigningRequest::from_der(b"nonsense").err().unwrap().to_string();
    assert!(error.contains("signing request") && !error.contains("CA"), "{error}");
}

#[test]
fn a_serving_certificate_is_for_the_hosts_that_were_asked_for() {
    let hosts = ["edge-1", "192.168.0.2", "fd00::2"].map(str::to_owned);
    let (key, pem) = serving_request("edge-1", &hosts).unwrap();
    let request = SigningRequest::from_pem(pem.as_bytes()).unwrap();
    assert_eq!(request.common_name(), Some("system:node:edge-1"));
    assert_eq!(request.organization(), Some(NODES_GROUP));
    let ca = Authority::generate(None, 1_800_000_000).unwrap();
    let profile = Profile {
        common_name: "system:node:edge-1".to_owned(),
        organizations: vec![NODES_GROUP.to_owned()],
        names: hosts.to_vec(),
        usage: Usage::Server,
        lifetime: DAY,
    };
    let certificate = ca.sign_request(&request, &profile, 1_800_000_000, None).unwrap();
    assert_eq!(hosts_of(&certificate).unwrap(), hosts);
    let identity = Identity::new(certificate, key);
    assert!(tls::LiveServer::new(&identity, &Bundle::of(ca.certificate())).is_ok(), "it is a pair");
    assert!(SigningRequest::from_pem(b"nonsense").is_err());
}
