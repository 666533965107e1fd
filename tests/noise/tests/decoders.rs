//! Noise, and messages with noise in them: no decoder panics, whatever comes.
#![allow(clippy::unwrap_used)]

use native::frames::frame::Body;
use native::frames::{
    Change, Compare, Delta, Done, Envelope, Failed, Held, Hello, Inventory, KindDigest, Objects, Row, Stored,
    Submit, change,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..1500)
}

/// JSON that looks like an envelope, with odd parts.
fn envelope() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("pod".to_owned()),
        Just("d/podpatch/p".to_owned()),
        Just("query".to_owned()),
        Just("response".to_owned()),
        Just("twin".to_owned()),
        Just("membership".to_owned()),
        "\\PC{0,12}",
    ];
    let content = prop_oneof![
        Just("null".to_owned()),
        Just("{\"ErrStatus\":{}}".to_owned()),
        Just("\"{\"".to_owned()),
        "[0-9]{1,30}"
    ];
    (vec(word, 5), content).prop_map(|(words, content)| {
        let text = |at: usize| words[at].replace(['"', '\\'], "");
        format!(
            "{{\"header\":{{\"msg_id\":\"{}\",\"timestamp\":1}},\"route\":{{\"source\":\"{}\",\"group\":\"{}\",\
             \"operation\":\"{}\",\"resource\":\"{}\"}},\"content\":{content}}}",
            text(0), text(1), text(2), text(3), text(4)
        )
        .into_bytes()
    })
}

fn held() -> impl Strategy<Value = Held> {
    ("\\PC{0,20}", "\\PC{0,8}", "\\PC{0,8}", any::<u64>()).prop_map(|(resource, uid, version, mark)| Held {
        resource,
        uid,
        version,
        mark,
    })
}

fn frame() -> impl Strategy<Value = Body> {
    prop_oneof![
        (vec(("\\PC{0,9}", any::<u32>(), any::<u64>()), 0..9), "\\PC{0,90}").prop_map(|(digests, store)| {
            let digest = |(kind, count, sum)| KindDigest { kind, count, sum };
            let digests = digests.into_iter().map(digest).collect();
            Body::Hello(Hello {
                store,
                heartbeat_seconds: u32::MAX,
                digests,
                wants_in_step: true,
                takes_streams: true,
                takes_side_streams: true,
            })
        }),
        (vec(held(), 0..9), any::<bool>()).prop_map(|(held, last)| Body::Inventory(Inventory { held, last })),
        (any::<u64>(), any::<u64>()).prop_map(|(through, ticket)| {
            let failed = vec![Failed { ticket, base_missing: true, reason: String::new() }];
            Body::Stored(Stored { through, failed })
        }),
        vec((any::<u64>(), envelope()), 0..9).prop_map(|rows| {
            let rows = rows.into_iter().map(|(seq, envelope)| Row { seq, envelope }).collect();
            Body::Submit(Submit { rows })
        }),
        envelope().prop_map(|json| Body::Call(Envelope { json, delta: None })),
        envelope().prop_map(|json| Body::Answer(Envelope { json, delta: None })),
        vec("\\PC{0,9}", 0..9).prop_map(|kinds| Body::Compare(Compare { kinds })),
        (any::<u64>(), vec(any::<u64>(), 0..9))
            .prop_map(|(through, also)| Body::Done(Done { through, also })),
        (bytes(), any::<u32>(), any::<u64>()).prop_map(|(patch, size, base_hash)| {
            let body = Some(change::Body::Delta(Delta { base_hash, size, patch }));
            Body::Objects(Objects {
                changes: vec![Change { body, resource: "d/pod/p".into(), ..Change::default() }],
            })
        }),
    ]
}

proptest! {
    #[test]
    fn noise_comes_back_from_every_decoder(data in bytes()) {
        noise::envelope(&data);
        noise::native_frame(&data);
        noise::quic_stream(&data);
        noise::signing_request(&data);
        noise::token(&data);
        noise::inventory(&data);
        noise::protobuf(&data);
    }

    #[test]
    fn odd_envelopes_come_back(data in envelope()) {
        noise::envelope(&data);
    }

    #[test]
    fn odd_frames_come_back_however_they_are_cut(body in frame(), size in any::<u8>(), tail in bytes()) {
        let frame = native::encode(body);
        noise::native_frame(&frame);
        let mut stream = vec![size];
        stream.extend((frame.len() as u32).to_be_bytes());
        stream.extend(&frame);
        stream.extend(tail);
        noise::quic_stream(&stream);
    }

    #[test]
    fn any_difference_to_the_envelope_before_is_made_or_refused(
        first in "\\PC{0,900}",
        patch in bytes(),
        size in any::<u32>(),
        fits in any::<bool>(),
    ) {
        let mut envelopes = native::Envelopes::default();
        let whole = Envelope { json: first.clone().into_bytes(), delta: None };
        prop_assert_eq!(envelopes.unpack(whole), Ok(first.clone()));
        let base_hash = native::text_hash(if fits { &first } else { "other" });
        let made = envelopes.unpack(Envelope { json: vec![], delta: Some(Delta { base_hash, size, patch }) });
        prop_assert!(made.is_err() || made.is_ok_and(|text| text.len() <= size as usize));
    }

    #[test]
    fn any_hello_may_be_followed_by_any_inventory(hello in frame(), list in vec(held(), 0..20)) {
        let mut data = native::encode(hello);
        let mut second = native::encode(Body::Inventory(Inventory { held: list, last: true }));
        // The two halves of the input are the two frames; zeros behind a plain frame end it early and are noise too.
        let half = data.len().max(second.len());
        data.resize(half, 0);
        second.resize(half, 0);
        data.extend(second);
        noise::inventory(&data);
    }

    #[test]
    fn tokens_and_requests_with_the_right_shape_come_back(parts in vec("[A-Za-z0-9_-]{0,80}", 4), der in bytes()) {
        noise::token(parts.join(".").as_bytes());
        let mut sequence = vec![0x30, 0x82, (der.len() >> 8) as u8, der.len() as u8];
        sequence.extend(der);
        noise::signing_request(&sequence);
    }
}
