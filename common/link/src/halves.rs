//! What the halves of a connection have in common in every dialect.

use std::future::Future;

use message::Message;
use native::frames::frame::Body;

use crate::{
    CloseReason, FrameReceiver, FrameSender, Incoming, IncomingFrame, ReceiveError, Receiver, SendError,
    Sender,
};

/// A writing half.
pub trait SendHalf: Send + Sized + 'static {
    /// What is written at once.
    type Item: Send + 'static;

    /// # Errors
    /// [`SendError`]: the peer did not take it in time, or the connection is gone.
    fn send_item(&mut self, item: Self::Item) -> impl Future<Output = Result<(), SendError>> + Send;

    /// Asks for a sign of life, where the transport does not keep itself alive.
    ///
    /// # Errors
    /// As [`SendHalf::send_item`]'s.
    fn send_ping(&mut self) -> impl Future<Output = Result<(), SendError>> + Send;

    /// Says why and closes. Best effort: the peer may be gone.
    fn say_goodbye(self, reason: CloseReason) -> impl Future<Output = ()> + Send;
}

/// A reading half.
pub trait ReceiveHalf: Send {
    /// What is read at once.
    type Item: Send;

    /// The next of what the peer sent. Cancel safe. What came before it counts as worked off.
    ///
    /// # Errors
    /// [`ReceiveError`]: the connection ended, or what came is too large, over the budget, or not of this dialect.
    fn next_item(&mut self) -> impl Future<Output = Result<Self::Item, ReceiveError>> + Send;

    /// Bytes of what was read last.
    fn held_bytes(&self) -> usize;

    /// True if the transport itself ends a connection whose peer is silent.
    fn ends_silence(&self) -> bool;
}

impl SendHalf for FrameSender {
    type Item = Body;

    async fn send_item(&mut self, body: Body) -> Result<(), SendError> {
        self.send(body).await
    }

    async fn send_ping(&mut self) -> Result<(), SendError> {
        self.ping().await
    }

    async fn say_goodbye(self, reason: CloseReason) {
        self.close(reason).await;
    }
}

impl SendHalf for Sender {
    type Item = Message;

    async fn send_item(&mut self, message: Message) -> Result<(), SendError> {
        self.send(&message).await
    }

    async fn send_ping(&mut self) -> Result<(), SendError> {
        self.ping().await
    }

    async fn say_goodbye(self, reason: CloseReason) {
        self.close(reason).await;
    }
}

impl ReceiveHalf for FrameReceiver {
    type Item = IncomingFrame;

    async fn next_item(&mut self) -> Result<IncomingFrame, ReceiveError> {
        self.next().await
    }

    fn held_bytes(&self) -> usize {
        self.held()
    }

    fn ends_silence(&self) -> bool {
        self.notices_silence()
    }
}

impl ReceiveHalf for Receiver {
    type Item = Incoming;

    async fn next_item(&mut self) -> Result<Incoming, ReceiveError> {
        self.next().await
    }

    fn held_bytes(&self) -> usize {
        self.held()
    }

    fn ends_silence(&self) -> bool {
        false
    }
}
