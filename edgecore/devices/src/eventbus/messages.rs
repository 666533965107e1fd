//! What apps published for this node.

use mqtt::Delivery;
use tokio::sync::mpsc;

/// Messages from every broker the bus uses, in the order in which each of them took its own.
pub struct Messages {
    internal: Option<mpsc::Receiver<Delivery>>,
    external: Option<mpsc::Receiver<Delivery>>,
    /// The external broker was heard last: the embedded one has its turn.
    turn: bool,
}

impl Messages {
    /// From the embedded broker and from an external one, as far as there are any.
    pub fn new(
        internal: Option<mpsc::Receiver<Delivery>>,
        external: Option<mpsc::Receiver<Delivery>>,
    ) -> Messages {
        Messages { internal, external, turn: true }
    }

    /// The next message. Waits for ever where no broker may bring one.
    pub async fn next(&mut self) -> Delivery {
        tokio::select! {
            delivery = next(&mut self.internal) => delivery,
            delivery = next(&mut self.external) => delivery,
        }
    }

    /// A message that is there already; the brokers take turns.
    pub fn waiting(&mut self) -> Option<Delivery> {
        self.turn = !self.turn;
        let (first, second) = match self.turn {
            true => (&mut self.internal, &mut self.external),
            false => (&mut self.external, &mut self.internal),
        };
        waiting(first).or_else(|| waiting(second))
    }
}

fn waiting(receiver: &mut Option<mpsc::Receiver<Delivery>>) -> Option<Delivery> {
    receiver.as_mut()?.try_recv().ok()
}

/// The next message of a broker that is used; never anything from one that is not.
async fn next(receiver: &mut Option<mpsc::Receiver<Delivery>>) -> Delivery {
    let delivery = match receiver {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    };
    match delivery {
        Some(delivery) => delivery,
        None => {
            // Gone for good: asking again would answer at once.
            *receiver = None;
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt::{Publish, QoS, Receipt};

    #[tokio::test]
    async fn neither_broker_keeps_the_other_from_being_heard() {
        let ((to_internal, internal), (to_external, external)) = (mpsc::channel(8), mpsc::channel(8));
        let mut messages = Messages::new(Some(internal), Some(external));
        assert!(messages.waiting().is_none());
        for number in 0..4 {
            for (name, broker) in [("internal", &to_internal), ("external", &to_external)] {
                let publish = Publish::new(name, number.to_string(), QoS::AtMostOnce);
                broker.try_send(Delivery { publish, receipt: Receipt::unwatched() }).unwrap();
            }
        }
        let heard: Vec<String> =
            (0..4).filter_map(|_| messages.waiting()).map(|one| one.accept().topic).collect();
        assert_eq!(heard.iter().filter(|topic| *topic == "internal").count(), 2, "{heard:?}");
        drop((to_internal, to_external));
        for _ in 0..4 {
            let _ = messages.next().await.accept();
        }
        let more = tokio::time::timeout(std::time::Duration::from_millis(20), messages.next());
        assert!(more.await.is_err(), "a broker that is gone brings nothing and does not spin");
    }
}
