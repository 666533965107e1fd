//! Tells a client of its messages of QoS 1 and 2, each when its receivers are done, in the order they came (MQTT 3.1.1
//! section 4.6).

use tokio::sync::mpsc;

use super::Shared;
use super::closed::{Closed, Identity};
use super::outgoing::Answer;
use crate::Outlook;

/// A message the client is yet to be told of.
pub(super) struct Unconfirmed {
    pub id: u16,
    pub exactly_once: bool,
    /// `None`: its receivers are done.
    pub outlook: Option<Outlook>,
}

/// Confirms until the connection ends, or until a message was lost: then nothing after it may be confirmed either, so
/// that the client sends them again in their order.
pub(super) async fn run(
    mut waiting: mpsc::Receiver<Unconfirmed>,
    answers: mpsc::Sender<Answer>,
    identity: &Identity,
    shared: &Shared,
) -> Closed {
    while let Some(Unconfirmed { id, exactly_once, outlook }) = waiting.recv().await {
        if let Some(mut outlook) = outlook
            && !outlook.completed().await
        {
            return Closed::NotStored;
        }
        let answer = if exactly_once {
            shared.with(|state| {
                if let Some(session) = state.session(&identity.client, identity.link) {
                    session.settle(id);
                }
            });
            Answer::PubRec(id)
        } else {
            Answer::PubAck(id)
        };
        if answers.send(answer).await.is_err() {
            return Closed::Ended;
        }
    }
    Closed::Ended
}
