mod bodies;
mod made;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http_body_util::BodyExt as _;
use serde_json::json;

use super::*;
use crate::parts::Items;
use crate::pieces::Listing;
use crate::stored::{Key, Page, Stored};

/// Answers of kube-apiserver 1.36: `NAME.json`, and `NAME.hex`, the same in Protobuf in hexadecimal digits.
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/protobuf/samples");

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let value = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    digits.chunks_exact(2).map(|two| value(two[0]) << 4 | value(two[1])).collect()
}

fn samples() -> Vec<(PathBuf, String, Vec<u8>)> {
    let folder = std::fs::read_dir(Path::new(SAMPLES)).unwrap();
    let paths = folder.map(|entry| entry.unwrap().path());
    let samples: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let json = std::fs::read_to_string(&path).unwrap();
            let hex = std::fs::read_to_string(path.with_extension("hex")).unwrap();
            (path, json, from_hex(&hex))
        })
        .collect();
    assert!(samples.len() >= 12);
    samples
}

#[test]
fn answers_are_byte_for_byte_those_of_kubernetes() {
    for (path, json, wanted) in samples() {
        let made = answer(&json).unwrap().unwrap();
        assert!(made == wanted, "{}: {made:02x?}\n{wanted:02x?}", path.display());
    }
}

#[test]
fn bodies_read_as_the_json_of_kubernetes() {
    for (path, json, body) in samples() {
        let wanted: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parse(&body).unwrap(), wanted, "{}", path.display());
    }
}

#[test]
fn events_of_a_watch_are_framed_as_those_of_kubernetes() {
    let text = std::fs::read_to_string(Path::new(SAMPLES).join("watch.txt")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.chunks_exact(2) {
        let wanted: Value = serde_json::from_str(pair[0]).unwrap();
        let object = answer(&wanted["object"].to_string()).unwrap().unwrap();
        assert_eq!(event(wanted["type"].as_str().unwrap(), &object), from_hex(pair[1]));
    }
}

#[test]
fn what_has_no_message_is_not_told_in_protobuf() {
    for json in [
        r#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","rows":[]}"#,
        r#"{"kind":"Device","apiVersion":"devices.kubeedge.io/v1beta1"}"#,
        r#"{"major":"1"}"#,
        "[1]",
        "ok",
    ] {
        assert_eq!(answer(json).unwrap(), None, "{json}");
    }
    // A stored object that is not of its kind fails, and is not told by halves.
    let error = object("v1", "ConfigMap", r#"{"metadata":{"name":5}}"#).unwrap_err();
    assert_eq!(error.code, 500);
}

fn stored(count: usize) -> Vec<Stored> {
    (0..count)
        .map(|at| Stored {
            key: Key::new("configmaps", "n", &format!("c{at}")),
            revision: 1,
            body: Arc::from(
                json!({ "metadata": { "name": format!("c{at}") }, "data": { "k": "v" } }).to_string(),
            ),
        })
        .collect()
}

async fn list(count: usize) -> (Option<u64>, Vec<u8>) {
    let kind = ("v1".to_owned(), "ConfigMapList".to_owned());
    let write = |item: &Stored, message, out: &mut Vec<u8>| append(message, &item.body, out);
    let metadata = json!({ "resourceVersion": "7" });
    let page = Page { items: stored(count), revision: 7, more: false, remaining: None };
    let listing = Listing::new(kind, &metadata, Items::of_page(page), write).unwrap();
    let answer = listing.answer().await.unwrap();
    assert_eq!(answer.headers()["content-type"], MEDIA_TYPE);
    let body = answer.into_body();
    let size = hyper::body::Body::size_hint(&body).exact();
    (size, body.collect().await.unwrap().to_bytes().to_vec())
}

#[tokio::test]
async fn a_list_is_the_same_in_pieces_and_at_once() {
    for count in [0, 1, 3, 20_000] {
        let items: Vec<Value> = stored(count).iter().map(|item| item.value().unwrap()).collect();
        let whole = json!({
            "kind": "ConfigMapList", "apiVersion": "v1", "metadata": { "resourceVersion": "7" }, "items": items,
        });
        let (size, body) = list(count).await;
        assert!(body == answer(&whole.to_string()).unwrap().unwrap(), "{count}");
        assert_eq!(size.is_some(), count < 1_000, "{count}");
    }
}
