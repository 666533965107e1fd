//! Lists as they are written: piece by piece, so that a long list is never in memory a second time as one text.

mod packed;

use apimachinery::Status;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;

pub(crate) use packed::Listing;

use crate::parts::Items;
use crate::respond::{self, Answer, BodyError};
use crate::stored::Stored;

/// Bytes of a piece, about.
const PIECE: usize = 64 * 1024;

/// The text of a list that is left to write.
pub(crate) struct Pieces<W> {
    write: W,
    text: String,
    items: Items,
    is_first: bool,
    is_over: bool,
}

impl<W> Pieces<W>
where
    W: FnMut(&Stored, &mut String) -> Result<(), Status> + Send + 'static,
{
    /// `head` is the text in front of the items, `write` appends one.
    pub(crate) fn new(head: String, items: Items, write: W) -> Pieces<W> {
        Pieces { write, text: head, items, is_first: true, is_over: false }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if self.is_over {
            return Ok(None);
        }
        while self.text.len() < PIECE {
            let Some(item) = self.items.next().await? else {
                self.is_over = true;
                self.text.push_str("]}");
                break;
            };
            if !std::mem::take(&mut self.is_first) {
                self.text.push(',');
            }
            (self.write)(&item, &mut self.text)?;
        }
        let room = if self.is_over { 0 } else { PIECE + PIECE / 4 };
        Ok(Some(Bytes::from(std::mem::replace(&mut self.text, String::with_capacity(room)))))
    }

    /// 200 with the list. An object that cannot be rendered fails a short list, and breaks a long one off.
    pub(crate) async fn answer(mut self) -> Result<Answer, Status> {
        let first = self.next().await?.unwrap_or_default();
        if self.is_over {
            return Ok(respond::bytes(200, "application/json", first));
        }
        let rest = stream::unfold(Some((Some(first), self)), |state| async move {
            let (first, mut pieces) = state?;
            let piece = match first {
                Some(first) => Ok(Some(first)),
                None => pieces.next().await,
            };
            match piece {
                Ok(piece) => Some((Ok(Frame::data(piece?)), Some((None, pieces)))),
                Err(status) => Some((Err(BodyError::from(status)), None)),
            }
        });
        let mut answer = respond::stream(StreamBody::new(rest).boxed_unsync(), "application/json");
        answer.extensions_mut().insert(respond::Long);
        Ok(answer)
    }
}
