//! Every message recorded from KubeEdge decodes, re-encodes to the same JSON value and header form, and reads as the
//! typed value its catalogue row names.
#![allow(clippy::unwrap_used)] // A test file throughout.

use std::path::{Path, PathBuf};

use message::{Asked, Downstream, Json, Message, Reply, Request, Route, Upstream};
use serde_json::Value;

struct Sample {
    name: String,
    downward: bool,
    value: Value,
    frame: Option<Vec<u8>>,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn samples() -> Vec<Sample> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(golden())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "json"))
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            Sample {
                name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
                downward: file["direction"] == "cloud->edge",
                value: file["message"].clone(),
                frame: file["frame_hex"].as_str().map(unhex),
            }
        })
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The payload of one unfragmented WebSocket frame, unmasked (RFC 6455 section 5.2).
fn payload(frame: &[u8]) -> Vec<u8> {
    let masked = frame[1] & 0x80 != 0;
    let (size, mut at) = match frame[1] & 0x7f {
        126 => (usize::from(u16::from_be_bytes([frame[2], frame[3]])), 4),
        short => (usize::from(short), 2),
    };
    if !masked {
        return frame[at..at + size].to_vec();
    }
    let mask = &frame[at..at + 4];
    at += 4;
    frame[at..at + size].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
}

fn decode(sample: &Sample) -> Message {
    message::decode(sample.value.to_string().as_bytes()).unwrap()
}

#[test]
fn every_recorded_message_reencodes_to_the_same_json_value() {
    let samples = samples();
    assert!(samples.len() >= 50, "golden files are missing: {}", samples.len());
    for sample in &samples {
        let again: Value = serde_json::from_str(&message::encode(&decode(sample))).unwrap();
        assert_eq!(again, sample.value, "{}", sample.name);
    }
}

#[test]
fn recorded_frames_reencode_to_the_same_bytes() {
    let mut seen = 0;
    for sample in samples() {
        let Some(frame) = &sample.frame else { continue };
        let bytes = payload(frame);
        let decoded = message::decode(&bytes).unwrap();
        assert_eq!(message::encode(&decoded).as_bytes(), bytes, "{}", sample.name);
        seen += 1;
    }
    assert!(seen >= 20, "only {seen} samples carry a frame");
}

/// Rows that rooms of later work handle: router.
fn is_outside(route: &Route) -> bool {
    matches!(route.source.as_str(), "router_eventbus" | "bus" | "router_servicebus")
}

#[test]
fn every_recorded_message_reads_as_a_typed_value() {
    for sample in samples() {
        let decoded = decode(&sample);
        if sample.downward {
            let read = Downstream::parse(&decoded).unwrap();
            let unread = matches!(read, Downstream::Unsupported { .. });
            assert!(!unread || is_outside(&decoded.route), "{}: {read:?}", sample.name);
        } else {
            let read = Upstream::parse(&decoded).unwrap();
            let unread = matches!(read, Upstream::Unsupported { .. });
            assert_eq!(unread, is_outside(&decoded.route), "{}: {read:?}", sample.name);
        }
    }
}

/// What differs between two sendings of the same thing.
fn without_identity(message: &Message) -> Value {
    let mut value: Value = serde_json::from_str(&message::encode(message)).unwrap();
    value["header"].as_object_mut().unwrap().remove("msg_id");
    value
}

#[test]
fn typed_values_write_the_messages_kubeedge_wrote() {
    for sample in samples() {
        let decoded = decode(&sample);
        let now = decoded.header.timestamp;
        let ours = if sample.downward {
            match Downstream::parse(&decoded).unwrap() {
                Downstream::Unsupported { .. } | Downstream::Reply { .. } => continue,
                read => read.to_message(now),
            }
        } else {
            match Upstream::parse(&decoded).unwrap() {
                // An acknowledgement is made from the message it answers, see below.
                Upstream::Unsupported { .. } | Upstream::Acknowledged { .. } => continue,
                read => read.to_message(now),
            }
        };
        assert!(without_identity(&ours) == without_identity(&decoded), "{}", sample.name);
    }
}

#[test]
fn applications_are_answered_as_recorded() {
    let samples = samples();
    let find = |prefix: &str| decode(samples.iter().find(|sample| sample.name.starts_with(prefix)).unwrap());
    for (asked, answered) in [("038", "039"), ("040", "041")] {
        let (mut asked, answered) = (find(asked), find(answered));
        asked.header.msg_id = answered.header.parent_msg_id.clone();
        let Upstream::Application(read) = Upstream::parse(&asked).unwrap() else { panic!("{asked:?}") };
        let done = match read {
            Asked::One(application) => Asked::One(Box::new(application.approved(b"the answer".to_vec()))),
            watches => watches,
        };
        let ours = done.answer(&asked.header.msg_id, answered.header.timestamp);
        let (mut ours, mut theirs) = (without_identity(&ours), without_identity(&answered));
        // The body of the recorded one is blackened.
        for value in [&mut ours, &mut theirs] {
            value["content"].as_object_mut().unwrap().remove("RespBody");
        }
        assert_eq!(ours, theirs);
    }
}

#[test]
fn answers_have_the_form_of_the_recorded_answers() {
    let samples = samples();
    let find = |prefix: &str| decode(samples.iter().find(|sample| sample.name.starts_with(prefix)).unwrap());
    for (asked, answered) in [("009", "010"), ("017", "019"), ("020", "022"), ("045", "046"), ("005", "006")]
    {
        let (mut asked, answered) = (find(asked), find(answered));
        asked.header.msg_id = answered.header.parent_msg_id.clone();
        let Upstream::Ask(request) = Upstream::parse(&asked).unwrap() else { panic!("{asked:?}") };
        let reply = Reply::read(&answered.content);
        let ours = request.answer(&asked, &reply, answered.header.timestamp);
        let (mut ours, mut theirs) = (without_identity(&ours), without_identity(&answered));
        // KubeEdge writes no version on the answer to a registration; ours does, which Go edges ignore.
        for value in [&mut ours, &mut theirs] {
            value["header"].as_object_mut().unwrap().remove("resourceversion");
        }
        assert_eq!(ours, theirs, "{:?}", request);
    }
}

#[test]
fn a_refused_lease_reads_as_not_found() {
    let samples = samples();
    let lease = decode(samples.iter().find(|sample| sample.name.starts_with("003")).unwrap());
    let Reply::Refused(status) = Reply::read(&lease.content) else { panic!("{lease:?}") };
    assert!(status.is_not_found());
}

#[test]
fn acknowledgements_copy_the_route_of_what_they_answer() {
    let samples = samples();
    for (sent, acked) in [("013", "014"), ("007", "008"), ("034", "035")] {
        let find =
            |prefix: &str| decode(samples.iter().find(|sample| sample.name.starts_with(prefix)).unwrap());
        let (sent, acked) = (find(sent), find(acked));
        let ours = sent.ack(acked.header.timestamp);
        assert_eq!((ours.route.source, ours.route.group, ours.route.operation, ours.content), {
            let theirs = acked.clone();
            (theirs.route.source, theirs.route.group, theirs.route.operation, theirs.content)
        });
    }
    assert!(Message::new(Route::default(), Json::string("OK"), 0).is_ok());
    assert!(matches!(Upstream::Ask(Request::ClusterCa).to_message(0).route.resource.as_str(), "k8s/ca.crt"));
}
