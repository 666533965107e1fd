//! Connected pairs in memory, for tests: the real framing over a pipe, without sockets and TLS.

use message::MAX_MESSAGE_BYTES;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::connection::{Socket, Stream, limits, split};
use crate::{FrameReceiver, FrameSender, Receiver, Sender, frames};

/// Bytes the pipe holds each way before a writer waits.
const PIPE: usize = 64 * 1024;

async fn sockets() -> (Socket, Socket) {
    let (cloud, edge) = tokio::io::duplex(PIPE);
    let limits = || Some(limits(MAX_MESSAGE_BYTES));
    let cloud = WebSocketStream::from_raw_socket(Box::new(cloud) as Stream, Role::Server, limits()).await;
    let edge = WebSocketStream::from_raw_socket(Box::new(edge) as Stream, Role::Client, limits()).await;
    (cloud, edge)
}

/// (cloud end, edge end), KubeEdge's dialect.
pub async fn pair() -> ((Sender, Receiver), (Sender, Receiver)) {
    let (cloud, edge) = sockets().await;
    (split(cloud, MAX_MESSAGE_BYTES, None), split(edge, MAX_MESSAGE_BYTES, None))
}

/// (cloud end, edge end), native dialect.
pub async fn native_pair() -> ((FrameSender, FrameReceiver), (FrameSender, FrameReceiver)) {
    let (cloud, edge) = sockets().await;
    (frames::split(cloud, None), frames::split(edge, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Incoming;
    use message::{Json, Message, Route, Upstream};

    #[tokio::test]
    async fn a_message_larger_than_a_buffer_arrives_whole() {
        let ((mut cloud, _keep), (_edge, mut edge)) = pair().await;
        let text = "x".repeat(3_000_000);
        let sent = Message::new(Route::new("a", "b", "c", "d"), Json::string(&text), 1);
        let send = cloud.send(&sent);
        let (result, received) = tokio::join!(send, edge.next());
        result.unwrap();
        let Incoming::Message(received) = received.unwrap() else { panic!() };
        assert_eq!(*received, sent);
    }

    #[tokio::test]
    async fn a_ping_is_answered_while_the_peer_reads() {
        let ((_c, mut cloud), (mut edge_out, mut edge_in)) = pair().await;
        tokio::spawn(async move { while cloud.next().await.is_ok() {} });
        edge_out.ping().await.unwrap();
        edge_out.send(&Upstream::Keepalive.to_message(1)).await.unwrap();
        assert!(matches!(edge_in.next().await.unwrap(), Incoming::Pong));
    }
}
