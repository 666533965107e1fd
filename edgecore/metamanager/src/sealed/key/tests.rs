use super::*;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

fn put(path: &Path, bytes: &[u8], mode: u32) {
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_missing_key_is_made_once_for_its_owner_alone_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    assert!(read(&path).unwrap().is_none() && !path.exists(), "reading makes nothing");
    // A crash left a part of one.
    std::fs::write(folder.path().join("key.new"), "part").unwrap();
    let made = read_or_make(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    let line = std::fs::read_to_string(&path).unwrap();
    assert_eq!(STANDARD.decode(line.trim()).unwrap(), made.bytes());
    assert_eq!(read_or_make(&path).unwrap().bytes(), made.bytes());
    let other = read_or_make(&folder.path().join("other")).unwrap();
    assert_ne!(other.bytes(), made.bytes());
    let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["key", "other"]);
}

#[test]
fn a_key_is_base64_on_one_line_or_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let bytes: Vec<u8> = (100..132).collect();
    for file in [
        STANDARD.encode(&bytes).into_bytes(),
        format!(" {}\r\n", STANDARD.encode(&bytes)).into(),
        bytes.clone(),
    ] {
        put(&path, &file, 0o400);
        assert_eq!(read_or_make(&path).unwrap().bytes(), bytes);
        assert_eq!(std::fs::read(&path).unwrap(), file, "it is never written to");
    }
}

#[test]
fn what_is_no_key_is_refused_with_the_file_and_the_cure_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let line = |bytes: &[u8]| STANDARD.encode(bytes).into_bytes();
    let bytes: Vec<u8> = (100..132).collect();
    let files = [
        Vec::new(),
        line(&bytes[1..]),
        line(&bytes).repeat(2),
        line(&bytes)[1..].to_vec(),
        line(&[0; 32]),
        vec![0; 32],
        b"thirty-two letters are no secret".to_vec(),
        vec![b'A'; 1 << 20],
    ];
    for file in files {
        put(&path, &file, 0o600);
        let error = read_or_make(&path).err().unwrap().to_string();
        assert!(error.contains(&*path.to_string_lossy()) && error.contains("openssl rand"), "{error}");
        assert!(!error.contains("letters"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), file);
    }
}

#[test]
fn a_key_that_others_may_read_and_places_that_are_no_file_are_refused_with_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let line = STANDARD.encode((100..132).collect::<Vec<u8>>());
    for shared in [0o640, 0o604, 0o660, 0o4611] {
        put(&path, line.as_bytes(), shared);
        let error = read_or_make(&path).err().unwrap().to_string();
        assert!(error.contains(&format!("chmod 600 {}", path.display())), "{shared:o}: {error}");
    }
    let error = read_or_make(folder.path()).err().unwrap().to_string();
    assert!(error.contains("is not a file"), "{error}");
    let missing = folder.path().join("none/key");
    let error = read_or_make(&missing).err().unwrap().to_string();
    assert!(error.contains(&*missing.to_string_lossy()) && error.contains("make its folder"), "{error}");
}
