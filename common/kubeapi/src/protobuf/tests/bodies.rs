//! Bodies that are no good.

use apimachinery::messages::Message;
use serde_json::json;

use super::samples;
use crate::protobuf::wire::{VARINT, put_bytes, put_tag, put_varint};
use crate::protobuf::{answer, decode, envelope, parse};

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, bytes);
    out
}

fn body(kind: &str, raw: &[u8]) -> Vec<u8> {
    [envelope::head("v1", kind, raw.len()), raw.to_vec()].concat()
}

#[track_caller]
fn refused(kind: &str, raw: &[u8], code: u16, words: &[&str]) {
    let status = parse(&body(kind, raw)).unwrap_err();
    assert_eq!(status.code, code, "{}", status.message);
    for word in words {
        assert!(status.message.contains(word), "{}", status.message);
    }
}

#[test]
fn what_is_wrong_is_told_with_its_message_and_field() {
    let number = [1 << 3, 5];
    refused("ConfigMap", &number, 400, &["v1.ConfigMap", "metadata (1)", "wire type"]);
    refused("ConfigMap", &field(1, &field(1, b"\xff\xfe")), 400, &["v1.ObjectMeta", "name (1)", "not UTF-8"]);
    refused("ConfigMap", &[0x0a, 9, 1], 400, &["v1.ConfigMap", "cut short"]);
    refused("ConfigMap", &field(2, &field(2, &[0x80])), 400, &["v1.ConfigMap", "data (2)", "not UTF-8"]);
    let entry = [field(1, b"k"), vec![2 << 3, 1]].concat();
    refused("ConfigMap", &field(2, &entry), 400, &["v1.ConfigMap", "data (2)", "wire type"]);
    let time = [[1 << 3].as_slice(), &[0xff; 8], &[0x7f]].concat();
    refused(
        "ConfigMap",
        &field(1, &field(8, &time)),
        400,
        &["v1.ObjectMeta", "creationTimestamp (8)", "no time"],
    );
}

#[test]
fn kinds_without_a_message_are_refused_as_unsupported() {
    refused("Gadget", &[], 415, &["v1 \"Gadget\"", "application/json"]);
    assert_eq!(parse(b"k8s\0").unwrap_err().code, 415);
    for noise in [b"" as &[u8], b"k8s", b"{}", b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
        assert_eq!(parse(noise).unwrap_err().code, 400);
    }
}

#[test]
fn unknown_fields_are_passed_over() {
    let known = field(1, &field(1, b"c"));
    let mut group = Vec::new();
    put_tag(&mut group, 30, 3);
    put_tag(&mut group, 1, VARINT);
    put_varint(&mut group, 300);
    put_tag(&mut group, 30, 4);
    let raw = [known, field(29, b"x"), group, vec![25 << 3 & 0x7f | 0x80 | 5, 1, 1, 2, 3, 4]].concat();
    let wanted = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c" } });
    assert_eq!(parse(&body("ConfigMap", &raw)).unwrap(), wanted);
    refused("ConfigMap", &[(7 << 3) | 4], 400, &["v1.ConfigMap"]);
    refused("ConfigMap", &[3, 4], 400, &["v1.ConfigMap"]);
}

#[test]
fn nesting_and_the_number_of_values_are_bounded() {
    let definition = Message::of_kind("apiextensions.k8s.io/v1", "CustomResourceDefinition").unwrap();
    let nested = |depth| {
        let mut schema = Vec::new();
        for _ in 0..depth {
            // `not`
            schema = field(28, &schema);
        }
        field(2, &field(7, &field(4, &field(1, &schema))))
    };
    assert!(decode::object(definition, &nested(20)).is_ok());
    let error = decode::object(definition, &nested(100)).unwrap_err().to_string();
    assert!(error.contains("v1.JSONSchemaProps") && error.contains("deep"), "{error}");
    let raw = format!("{}{}", "[".repeat(126), "]".repeat(126));
    let revision = Message::of_kind("apps/v1", "ControllerRevision").unwrap();
    let error = decode::object(revision, &field(2, &field(1, raw.as_bytes()))).unwrap_err().to_string();
    assert!(error.contains("v1.ControllerRevision, field data (2)"), "{error}");
    // A million of empty containers is 2 MB here and a gigabyte as JSON.
    let pod = field(2, &field(2, &[]).repeat(1_000_000));
    refused("Pod", &pod, 400, &["more than 500000 values"]);
}

#[test]
fn noise_in_bodies_is_read_or_refused() {
    let mut seed = 7_u32;
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize
    };
    for (_, _, good) in samples() {
        for _ in 0..300 {
            let mut bad = good.clone();
            for _ in 0..1 + next() % 4 {
                let at = next() % bad.len();
                bad[at] = next() as u8;
            }
            bad.truncate(1 + next() % bad.len());
            match parse(&bad) {
                // What reads can be told.
                Ok(value) => assert!(answer(&value.to_string()).is_ok(), "{value}"),
                Err(status) => assert!([400, 415].contains(&status.code), "{status}"),
            }
        }
    }
}
