use super::*;

fn files(folder: &Path) -> Files {
    Files {
        folder: folder.join("metaserver"),
        given: Some((folder.join("given.crt"), folder.join("given.key"))),
        given_ca: Some(folder.join("given-ca.crt")),
        client_ca: folder.join("rootCA.crt"),
        node: (folder.join("node.crt"), folder.join("node.key")),
    }
}

fn look(files: &Files, names: &[String]) -> Found {
    let provider = rustls::crypto::ring::default_provider();
    find(files, names, "127.0.0.1:10550".parse().unwrap(), &provider).unwrap()
}

#[test]
fn a_node_makes_its_own_certificates_once_and_keeps_their_keys_to_itself() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let names = names(&["127.0.0.1:10550".parse().unwrap(), "169.254.30.10:10550".parse().unwrap()]);
    let first = look(&files, &names);
    for name in ["ca.key", "server.key", "kubeconfig"] {
        let mode = std::fs::metadata(files.folder.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let hosts = pki::hosts_of(&first.shown.cert[0]).unwrap();
    for name in ["127.0.0.1", "169.254.30.10", "localhost", "kubernetes.default.svc"] {
        assert!(hosts.iter().any(|host| host == name), "{name}");
    }
    let again = look(&files, &names);
    assert_eq!(again.shown.cert, first.shown.cert, "nothing is made anew");
    let more = [names, vec!["10.0.0.1".to_owned()]].concat();
    let renewed = look(&files, &more);
    assert_ne!(renewed.shown.cert[0], first.shown.cert[0], "another name needs another certificate");
    assert_eq!(
        (renewed.trust.as_str(), &renewed.shown.cert[1]),
        (first.trust.as_str(), &first.shown.cert[1])
    );
    let kubeconfig = std::fs::read_to_string(files.folder.join("kubeconfig")).unwrap();
    assert!(
        kubeconfig.contains("https://127.0.0.1:10550") && kubeconfig.contains("node.crt"),
        "{kubeconfig}"
    );
}

#[test]
fn a_certificate_is_renewed_before_it_expires_and_one_of_another_time_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("s.crt"), folder.path().join("s.key"));
    let now = 1_800_000_000;
    let authority = Authority::generate(Some("x"), now).unwrap();
    let names = ["localhost".to_owned()];
    let at = |time: i64| own(&authority, &certificate, &key, &names, time).unwrap().certificate().clone();
    let first = at(now);
    assert_eq!(at(now + LIFE - LEFT - 10), first);
    let second = at(now + LIFE - LEFT + 10);
    assert_ne!(second, first);
    assert_ne!(at(now), second, "it is not valid yet: the clock was put back");
    let other = Authority::generate(Some("x"), now).unwrap();
    let of_other = own(&other, &certificate, &key, &names, now).unwrap();
    assert!(is_signed(of_other.certificate(), other.certificate(), now));
}

#[test]
fn given_files_are_shown_once_they_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let now = daemon::clock::unix_seconds();
    look(&files, &names(&[]));
    let authority = Authority::generate(Some("theirs"), now).unwrap();
    let profile = Profile {
        common_name: "x".into(),
        organizations: vec![],
        names: vec!["localhost".into()],
        usage: Usage::Server,
        lifetime: DAY,
    };
    let identity = authority.issue(&profile, now).unwrap();
    let (certificate, key) = files.given.clone().unwrap();
    files::write_identity(&certificate, &key, &identity).unwrap();
    files::write_ca(files.given_ca.as_ref().unwrap(), authority.certificate()).unwrap();
    let found = look(&files, &names(&[]));
    assert_eq!(&found.shown.cert[0], identity.certificate());
    assert_eq!(found.trust.trim(), files::certificate_pem(authority.certificate()).trim());
}
