//! Following over a rotation, to the end of the container.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use cri::fake::Fake;
use cri::v1;

use super::*;

fn line(text: &str) -> String {
    format!("2026-01-01T00:00:00Z stdout F {text}\n")
}

fn append(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(line(text).as_bytes()).unwrap();
}

/// A running container called `c`.
async fn running(fake: &Fake) -> Alive {
    let runtime = cri::Runtime::new(&fake.endpoint()).unwrap();
    fake.add_image("image");
    let sandbox = runtime.run_pod_sandbox(v1::PodSandboxConfig::default(), "").await.unwrap();
    let config = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "c".into(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: "image".into(), ..Default::default() }),
        ..Default::default()
    };
    let id = runtime.create_container(&sandbox, config, v1::PodSandboxConfig::default()).await.unwrap();
    runtime.start_container(&id).await.unwrap();
    Alive { runtime, id }
}

async fn read_until(body: &mut mpsc::Receiver<Bytes>, text: &mut String, wanted: &str) {
    while !text.contains(wanted) {
        let piece = body.recv().await.unwrap_or_else(|| panic!("the end came before {wanted:?}: {text:?}"));
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
}

#[tokio::test]
async fn a_follower_goes_over_to_the_new_file_and_ends_with_the_container() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path(), Arc::new(|| 1)).unwrap();
    let alive = running(&fake).await;
    let logs = folder.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    let path = logs.join("0.log");
    append(&logs.join("0.log.20260101-000000"), "oldest");
    append(&path, "old");
    let (pieces, mut body) = mpsc::channel(WAITING);
    let options = Options::parse(&Query::parse(Some("follow=1")), jiff::Timestamp::UNIX_EPOCH).unwrap();
    let (changes, files) = (Changes::of(&logs), Files::open(&path).unwrap());
    let start = tail::start(&files.all, options.tail).unwrap();
    let reader = Reader { pieces, lines: Lines::new(&options), alive: Some(alive), changes, read: 0 };
    let reading = tokio::spawn(reader.run(files, start));

    let mut text = String::new();
    read_until(&mut body, &mut text, "old\n").await;
    // The runtime writes to the old file until it opens the new one.
    std::fs::rename(&path, logs.join("0.log.20260102-000000")).unwrap();
    append(&logs.join("0.log.20260102-000000"), "late");
    append(&path, "new");
    read_until(&mut body, &mut text, "new\n").await;
    append(&path, "last");
    assert!(fake.exit("c", 0));
    read_until(&mut body, &mut text, "last\n").await;
    assert!(body.recv().await.is_none(), "nothing comes after the end");
    reading.await.unwrap().unwrap();
    assert_eq!(text, "oldest\nold\nlate\nnew\nlast\n");
}
