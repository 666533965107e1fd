//! What is around every message: `k8s\0` and a `runtime.Unknown` (`apimachinery/pkg/runtime/generated.proto`).

use std::borrow::Cow;

use apimachinery::messages::Message;
use serde::Deserialize;

use super::encode;
use super::wire::{Broken, Parts, Wire, put_bytes, put_head, wrap};

const MAGIC: &[u8] = b"k8s\0";
/// What Go writes behind the message: no content encoding and no content type.
const END: [u8; 4] = [0x1a, 0, 0x22, 0];

/// A message in its envelope.
#[derive(Debug, Default)]
pub(super) struct Unknown<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub raw: &'a [u8],
}

/// What keeps an envelope from being read.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("the body does not begin as Kubernetes' Protobuf does (\"k8s\\0\")")]
    Magic,
    #[error("the envelope (runtime.Unknown): {0}")]
    Broken(#[from] Broken),
    #[error("the envelope (runtime.Unknown), field typeMeta: it is not UTF-8")]
    Text,
    #[error("the envelope (runtime.Unknown), field contentEncoding: {0:?} is not read here")]
    Encoding(String),
}

pub(super) fn open(body: &[u8]) -> Result<Unknown<'_>, OpenError> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| OpenError::Text);
    let mut unknown = Unknown::default();
    let mut parts = Parts(body.strip_prefix(MAGIC).ok_or(OpenError::Magic)?);
    while let Some(part) = parts.next()? {
        match part {
            (1, Wire::Bytes(types)) => {
                let mut types = Parts(types);
                while let Some(part) = types.next()? {
                    match part {
                        (1, Wire::Bytes(bytes)) => unknown.api_version = text(bytes)?,
                        (2, Wire::Bytes(bytes)) => unknown.kind = text(bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => unknown.raw = bytes,
            (3, Wire::Bytes(bytes)) if !bytes.is_empty() => {
                return Err(OpenError::Encoding(String::from_utf8_lossy(bytes).into_owned()));
            }
            _ => {}
        }
    }
    Ok(unknown)
}

/// Everything of an envelope in front of a message of this length.
pub(crate) fn head(api_version: &str, kind: &str, length: usize) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    let start = out.len();
    put_bytes(&mut out, 1, api_version.as_bytes());
    put_bytes(&mut out, 2, kind.as_bytes());
    wrap(&mut out, start, 1);
    put_head(&mut out, 2, length);
    out
}

/// Everything of an envelope behind a message.
pub(crate) const fn end() -> &'static [u8] {
    &END
}

/// An object of a kind from its JSON, in its envelope.
///
/// # Errors
/// The text does not read as JSON, or as an object of this kind.
pub(super) fn typed(
    message: Message,
    api_version: &str,
    kind: &str,
    json: &str,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut raw = Vec::with_capacity(json.len());
    encode::object(message, &mut serde_json::Deserializer::from_str(json), &mut raw)?;
    let mut out = head(api_version, kind, raw.len());
    out.reserve_exact(raw.len() + END.len());
    out.extend_from_slice(&raw);
    out.extend_from_slice(&END);
    Ok(out)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
}

/// The JSON of an answer as Protobuf; `None` if it is of no kind that has a message.
///
/// # Errors
/// As for [`typed`].
pub(crate) fn answer(json: &str) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let Ok(Head { api_version, kind }) = serde_json::from_str(json) else { return Ok(None) };
    let Some(message) = Message::of_kind(&api_version, &kind) else { return Ok(None) };
    typed(message, &api_version, &kind, json).map(Some)
}
