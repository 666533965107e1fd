//! Lists in Protobuf, piece by piece.

use std::collections::VecDeque;

use apimachinery::Status;
use apimachinery::messages::{Message, Of};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

use crate::parts::Items;
use crate::protobuf::{self, MEDIA_TYPE};
use crate::respond::{self, Answer, BodyError};
use crate::stored::Stored;

/// Bytes of a piece, about.
const PIECE: usize = 64 * 1024;
/// Lists with fewer bytes than this are written at once, so that one that cannot be written fails with a Status.
const SHORT: usize = 256 * 1024;

/// A list on its way out. Its length comes first, so it is encoded before anything is written; each object is let go as soon as it
/// is encoded, and others have their turn after every piece.
pub(crate) struct Listing<W> {
    api_version: String,
    kind: String,
    write: W,
    items: Items,
    pieces: VecDeque<Bytes>,
    length: usize,
    open: Vec<u8>,
    /// Of the items.
    message: Message,
}

impl<W> Listing<W>
where
    W: FnMut(&Stored, Message, &mut Vec<u8>) -> Result<(), Status> + Send + 'static,
{
    /// `write` appends the message of an object.
    ///
    /// # Errors
    /// 500: `kind` is of no list that has a message.
    pub(crate) fn new(
        (api_version, kind): (String, String),
        metadata: &Value,
        items: Items,
        write: W,
    ) -> Result<Listing<W>, Status> {
        let unknown = || Status::internal(format!("there is no message of {api_version} {kind}"));
        let list = Message::of_kind(&api_version, &kind).ok_or_else(unknown)?;
        let Some(Of::Message(message)) = list.field(1).map(|items| items.of) else { return Err(unknown()) };
        let mut open = Vec::new();
        protobuf::append(list, &format!("{{\"metadata\":{metadata}}}"), &mut open)?;
        let pieces = VecDeque::new();
        Ok(Listing { api_version, kind, write, items, pieces, length: 0, open, message })
    }

    /// Encodes about a piece; false: there is nothing left.
    async fn encode(&mut self) -> Result<bool, Status> {
        let mut message = Vec::new();
        while self.open.len() < PIECE {
            let Some(item) = self.items.next().await? else { break };
            message.clear();
            (self.write)(&item, self.message, &mut message)?;
            protobuf::put_item(&mut self.open, &message);
        }
        let is_over = self.open.is_empty();
        if !is_over {
            self.length += self.open.len();
            self.pieces.push_back(std::mem::take(&mut self.open).into());
        }
        Ok(!is_over)
    }

    /// Puts on the envelope, when all is encoded.
    fn close(&mut self) {
        let head = protobuf::head(&self.api_version, &self.kind, self.length);
        self.pieces.push_front(head.into());
        self.pieces.push_back(Bytes::from_static(protobuf::end()));
    }

    /// 200 with the list. An object that cannot be encoded fails a short list, and breaks a long one off.
    ///
    /// # Errors
    /// 500 for such an object.
    pub(crate) async fn answer(mut self) -> Result<Answer, Status> {
        while self.length < SHORT {
            if !self.encode().await? {
                self.close();
                let whole: Vec<u8> = self.pieces.iter().flatten().copied().collect();
                return Ok(respond::bytes(200, MEDIA_TYPE, whole));
            }
        }
        let pieces = stream::unfold(Some((false, self)), |state| async move {
            let (mut is_closed, mut list) = state?;
            while !is_closed {
                match list.encode().await {
                    Ok(true) => tokio::task::yield_now().await,
                    Ok(false) => {
                        list.close();
                        is_closed = true;
                    }
                    Err(status) => return Some((Err(BodyError::from(status)), None)),
                }
            }
            let piece = list.pieces.pop_front()?;
            Some((Ok(Frame::data(piece)), Some((true, list))))
        });
        let mut answer = respond::stream(StreamBody::new(pieces).boxed_unsync(), MEDIA_TYPE);
        answer.extensions_mut().insert(respond::Long);
        Ok(answer)
    }
}
