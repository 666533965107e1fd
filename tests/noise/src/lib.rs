//! Every decoder that reads a peer's bytes, as functions that may be fed anything: they must come back.
//!
//! The tests feed bounded random noise; the targets of the `fuzz` folder feed what a fuzzer finds
//! (`cargo +nightly fuzz run TARGET`).

use std::sync::OnceLock;

use bytes::BytesMut;
use cloudcore::cloudhub::exchange::Exchange as CloudExchange;
use cloudcore::desired::Desired;
use edgehub::exchange::Exchange as EdgeExchange;
use message::{Received, Reply, Upstream};
use native::frames::Hello;
use native::frames::frame::Body;
use pki::{Authority, SigningRequest};

/// A WebSocket message in KubeEdge's dialect, read by either end.
pub fn envelope(data: &[u8]) {
    let Ok(message) = message::decode(data) else { return };
    let _ = Reply::read(&message.content);
    let _ = Upstream::parse(&message).map(|read| read.order_key());
    let _ = Received::parse(message).map(|received| received.wants_ack());
}

/// A frame of the native dialect, read by either end in the middle of a session.
pub fn native_frame(data: &[u8]) {
    let Ok(body) = native::decode(data) else { return };
    let _ = EdgeExchange::default().on_frame(body.clone());
    let (mut desired, mut exchange) = (Desired::default(), CloudExchange::new(1));
    let _ = exchange.on_frame(Body::Hello(Hello::default()), &mut desired);
    let _ = exchange.on_frame(body, &mut desired);
}

/// A QUIC stream, cut into frames wherever packets end. The first byte says how long packets are.
pub fn quic_stream(data: &[u8]) {
    let Some((size, data)) = data.split_first() else { return };
    let mut stream = BytesMut::new();
    for packet in data.chunks(usize::from(*size).max(1)) {
        stream.extend_from_slice(packet);
        loop {
            match native::split(&mut stream) {
                Ok(Some(frame)) => native_frame(&frame),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// The body of a certificate request.
pub fn signing_request(data: &[u8]) {
    if let Ok(request) = SigningRequest::from_der(data) {
        let _ = (request.common_name(), request.organization(), request.asks_for_names());
    }
}

/// A join token, at the server and at the edge.
pub fn token(data: &[u8]) {
    static AUTHORITY: OnceLock<Option<Authority>> = OnceLock::new();
    let authority = AUTHORITY.get_or_init(|| {
        pki::install_provider();
        Authority::generate(None, 0).ok()
    });
    let text = String::from_utf8_lossy(data);
    let _ = pki::token::JoinToken::parse(&text);
    if let Some(authority) = authority {
        let _ = pki::token::verify(authority, &text, 0);
    }
}

/// A request body in Kubernetes' Protobuf: as it is, and as an object whose kind the first byte chooses.
pub fn protobuf(data: &[u8]) {
    const KINDS: [(&str, &str); 4] = [
        ("v1", "Pod"),
        ("v1", "Secret"),
        ("apps/v1", "ControllerRevision"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ];
    let read = |body: &[u8]| kubeapi::request::parse("application/vnd.kubernetes.protobuf", body);
    let _ = read(data);
    let Some((choice, object)) = data.split_first() else { return };
    let (version, kind) = KINDS[usize::from(*choice) % KINDS.len()];
    let field = |number: u8, bytes: &[u8]| {
        let (low, high) = (bytes.len() % 128, bytes.len() / 128);
        // Two bytes of length are enough for what is fed here; more is cut off, as a broken body is.
        [&[number << 3 | 2, low as u8 | 0x80, high as u8 & 0x7f], bytes].concat()
    };
    let types = [field(1, version.as_bytes()), field(2, kind.as_bytes())].concat();
    let _ = read(&[b"k8s\0".to_vec(), field(1, &types), field(2, object)].concat());
}

/// An inventory: the digests of a hello, then lists, whatever they hold.
pub fn inventory(data: &[u8]) {
    let (hello, lists) = data.split_at(data.len() / 2);
    let (mut desired, mut exchange) = (Desired::default(), CloudExchange::new(1));
    for bytes in [hello, lists] {
        let Ok(body) = native::decode(bytes) else { return };
        if exchange.on_frame(body, &mut desired).is_err() {
            return;
        }
    }
    let _ = desired.unclaimed();
}
