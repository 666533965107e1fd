//! Takes received objects in groups, has them committed, and gives back their acknowledgements.

use daemon::health::Beat;
use message::{Downstream, Json, Message, NodeName, ObjectKey, ObjectKind, Origin, Received};
use tokio::sync::mpsc;

use super::hold::Held;
use metamanager::intake::Intake;
use metamanager::objects::{Arrival, Body};
use metamanager::pushes::Pushed;

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
    (intake, node): (Intake, NodeName),
    beat: Beat,
    mut inbox: mpsc::Receiver<Item>,
    outbox: mpsc::Sender<Message>,
) {
    let mut items = Vec::with_capacity(GROUP);
    while inbox.recv_many(&mut items, GROUP).await > 0 {
        let (group, _held): (Vec<_>, Vec<_>) = items.drain(..).map(|item| (item.received, item.held)).unzip();
        let arrivals = group.iter().filter_map(|received| arrival(received, &node)).collect();
        let busy = beat.begin();
        let result = intake.commit(arrivals).await;
        drop(busy);
        let now = daemon::clock::unix_ms();
        for received in group {
            let answer = match &result {
                Ok(_) => {
                    pushed(&received).into_iter().for_each(|pushed| intake.pushed(pushed));
                    received.message.ack(now)
                }
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

/// What is stored of an object. What is watched is stored by who watches it, but for what the node has for its pods as well: the
/// cloud sends one message for both.
fn arrival(received: &Received, node: &NodeName) -> Option<Arrival> {
    let (key, body) = match &received.body {
        Downstream::Put { key, origin: Origin::DynamicController, object, .. }
        | Downstream::Remove { key, origin: Origin::DynamicController, object, .. }
            if !is_for(node, key, object) =>
        {
            return None;
        }
        Downstream::Put { key, version, object, .. } => {
            (key, Body::Put { version: version.clone(), object: object.clone() })
        }
        Downstream::Remove { key, uid, .. } => (key, Body::Remove { uid: uid.clone() }),
        _ => return None,
    };
    Some(Arrival { key: key.clone(), mark: 0, body })
}

/// What a node may have because of its pods and devices.
fn is_for(node: &NodeName, key: &ObjectKey, object: &Json) -> bool {
    match key.kind {
        ObjectKind::ConfigMap | ObjectKind::Secret | ObjectKind::DeviceModel => true,
        ObjectKind::Node => key.name == node.as_str(),
        ObjectKind::Pod | ObjectKind::Device => object
            .parse::<serde_json::Value>()
            .is_ok_and(|object| object["spec"]["nodeName"] == node.as_str()),
        _ => false,
    }
}

/// What whoever watches hears of it.
fn pushed(received: &Received) -> Option<Pushed> {
    let (key, object, is_gone) = match &received.body {
        Downstream::Put { key, object, .. } => (key, object, false),
        Downstream::Remove { key, object, .. } => (key, object, true),
        _ => return None,
    };
    Some(Pushed { key: key.clone(), object: object.clone(), is_gone })
}
