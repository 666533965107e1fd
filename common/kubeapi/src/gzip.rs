//! Long answers are compressed for clients that take it, as kube-apiserver does (`endpoints/handlers/responsewriters`).

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue, VARY};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Body as _, Frame};

use crate::respond::{Answer, Body, BodyError, Long};

/// Shorter answers go as they are.
const LONG: u64 = 128 * 1024;

/// True if a client that sent these headers takes gzip.
pub(crate) fn is_accepted(headers: &HeaderMap) -> bool {
    let all = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',')).any(|one| {
        let (name, weight) = one.split_once(';').unwrap_or((one, ""));
        name.trim().eq_ignore_ascii_case("gzip")
            && !matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

/// Compresses `answer` if it is long and not compressed already.
pub(crate) fn compress(mut answer: Answer) -> Answer {
    let is_long = answer.extensions_mut().remove::<Long>().is_some()
        || answer.body().size_hint().exact().is_some_and(|bytes| bytes > LONG);
    if !is_long || answer.headers().contains_key(CONTENT_ENCODING) {
        return answer;
    }
    answer.headers_mut().remove(CONTENT_LENGTH);
    answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    answer.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
    answer.map(packed)
}

fn packed(body: Body) -> Body {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let pieces = stream::unfold(Some((body, encoder)), |state| async move {
        let (mut body, mut encoder) = state?;
        loop {
            match body.frame().await {
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    if let Err(error) = encoder.write_all(&data) {
                        return Some((Err(BodyError::from(error)), None));
                    }
                    let ready = std::mem::take(encoder.get_mut());
                    if !ready.is_empty() {
                        return Some((Ok(Frame::data(Bytes::from(ready))), Some((body, encoder))));
                    }
                }
                Some(Err(error)) => return Some((Err(error), None)),
                None => {
                    return Some((
                        encoder.finish().map(Bytes::from).map(Frame::data).map_err(BodyError::from),
                        None,
                    ));
                }
            }
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::respond;

    #[test]
    fn a_client_takes_gzip_if_it_says_so() {
        for (value, wanted) in
            [("gzip", true), ("br, gzip;q=0.5", true), ("gzip;q=0", false), ("identity", false), ("", false)]
        {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]);
            assert_eq!(is_accepted(&headers), wanted, "{value}");
        }
        assert!(!is_accepted(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn long_answers_are_compressed_and_short_ones_are_not() {
        let text = "a line of a long answer\n".repeat(10_000);
        let answer = compress(respond::bytes(200, "application/json", text.clone()));
        assert_eq!(answer.headers()[CONTENT_ENCODING], "gzip");
        let packed = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(packed.len() < text.len() / 20, "{} bytes", packed.len());
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut unpacked).unwrap();
        assert_eq!(unpacked, text);
        let answer = compress(respond::bytes(200, "application/json", "short"));
        assert!(!answer.headers().contains_key(CONTENT_ENCODING));
    }
}
