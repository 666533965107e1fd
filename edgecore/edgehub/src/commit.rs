//! Takes received objects in groups, has them committed, and gives back their acknowledgements.

use daemon::health::Beat;
use message::{Downstream, Message, Received};
use tokio::sync::mpsc;

use super::hold::Held;
use metamanager::intake::Intake;
use metamanager::objects::{Arrival, Body};

/// Objects committed in one transaction.
const GROUP: usize = 64;

/// Received objects that may wait for a commit; the cloud sends no more than its window before acknowledgements.
pub(super) const QUEUE: usize = 128;

/// A received object, counted until it is committed.
pub(super) struct Item {
    pub received: Received,
    pub held: Held,
}

/// Runs until the session drops its end. A commit that fails is answered with a complaint: the cloud sends again.
pub(super) async fn run(
    intake: Intake,
    beat: Beat,
    mut inbox: mpsc::Receiver<Item>,
    outbox: mpsc::Sender<Message>,
) {
    let mut items = Vec::with_capacity(GROUP);
    while inbox.recv_many(&mut items, GROUP).await > 0 {
        let (group, _held): (Vec<_>, Vec<_>) = items.drain(..).map(|item| (item.received, item.held)).unzip();
        let arrivals = group.iter().filter_map(arrival).collect();
        let busy = beat.begin();
        let result = intake.commit(arrivals).await;
        drop(busy);
        let now = daemon::clock::unix_ms();
        for received in group {
            let answer = match &result {
                Ok(_) => received.message.ack(now),
                Err(error) => {
                    let of = received.message.header.msg_id.clone();
                    tracing::error!(msg_id = %of, error = super::describe(error), "object not stored");
                    message::Upstream::Complaint { of, text: super::describe(error) }.to_message(now)
                }
            };
            if outbox.send(answer).await.is_err() {
                return;
            }
        }
    }
}

fn arrival(received: &Received) -> Option<Arrival> {
    let (key, body) = match &received.body {
        Downstream::Put { key, version, object, .. } => {
            (key, Body::Put { version: version.clone(), object: object.clone() })
        }
        Downstream::Remove { key, uid, .. } => (key, Body::Remove { uid: uid.clone() }),
        _ => return None,
    };
    Some(Arrival { key: key.clone(), mark: 0, body })
}
