//! The body of an answer, for as long as something of it comes.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

/// A body that breaks off if nothing of it comes for too long.
pub struct Moving {
    body: Incoming,
    patience: Duration,
    until: Pin<Box<Sleep>>,
}

impl Moving {
    /// Breaks `body` off when nothing of it has come for `patience` while somebody waited for it.
    pub fn new(body: Incoming, patience: Duration) -> Moving {
        Moving { body, patience, until: Box::pin(tokio::time::sleep(patience)) }
    }
}

impl Body for Moving {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                let until = Instant::now() + self.patience;
                self.until.as_mut().reset(until);
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => match self.until.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Some(Err("nothing came for too long".into()))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
