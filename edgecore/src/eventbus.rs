//! EventBus: MQTT between apps, mappers and this node. Runs the embedded broker, a client of an external one, or both.
//!
//! ```text
//! apps -> embedded broker --+
//!                           +--> Receiver<Incoming>   (in the order of arrival)
//! apps -> external broker --+
//! Handle::publish --> both
//! ```
//!
//! Promises: an app hears that its message of QoS 1 or 2 arrived when the receipt it came with is completed, and sends
//! it again otherwise. Starts without a reachable external broker and keeps trying; publishing never waits; what of it
//! cannot be kept is lost oldest first and counted. Source: docs/protocol/devices.md section 4 (upstream blocks its start and its bus loop).

mod handle;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daemon::health::Beat;
use daemon::memory::Spare;
use mqtt::broker::access::Users;
use mqtt::broker::{self, BindError, Broker, Limits};
use mqtt::client::{BadAddress, Client};
use mqtt::{Delivery, Login, Receipt, topics};
use tokio::runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::edgehub::Secret;
pub use handle::Handle;

/// Which brokers to use; neither is valid and makes a bus on which nothing happens.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where the embedded broker listens.
    pub internal: Option<SocketAddr>,
    pub external: Option<External>,
    /// Who may use the embedded broker; `None`: everybody.
    pub users: Option<Arc<Users>>,
    /// Of the embedded broker.
    pub limits: Limits,
}

/// A broker that somebody else runs.
#[derive(Clone, Debug)]
pub struct External {
    /// `tcp://host:port`.
    pub url: String,
    /// What the broker knows this node by; it keeps under this name what was not acknowledged.
    pub client_id: String,
    /// Empty: connect without a name.
    pub username: String,
    pub password: Secret,
}

/// A message that an app published for EdgeCore or the cloud; `mqtt::topics::Inbound` reads the topic.
#[derive(Debug)]
pub struct Incoming {
    pub topic: String,
    pub payload: Bytes,
    /// To complete when what the message caused is durable: then the app is told that it arrived.
    pub receipt: Receipt,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("the thread of the embedded broker ended")]
    Doors(#[source] tokio::task::JoinError),
    #[error("starting the embedded broker")]
    Broker(#[source] BindError),
    #[error("modules.eventBus.mqttServerExternal")]
    External(#[source] BadAddress),
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the embedded broker ended early")]
    BrokerEnded(#[source] tokio::task::JoinError),
}

/// Messages handed to the reader and not yet taken; each broker keeps as many again.
const INBOX: usize = 256;

/// Built, not running.
pub struct EventBus {
    broker: Option<Broker>,
    doors: runtime::Handle,
    from_internal: Option<mpsc::Receiver<Delivery>>,
    from_external: Option<mpsc::Receiver<Delivery>>,
    inbox: mpsc::Sender<Incoming>,
    beat: Option<Beat>,
    /// Told when the broker's messages gave memory back.
    spare: Option<Spare>,
    wave: Wave,
}

/// How often the broker's memory is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// What a client's connection takes, in bytes: its task, its buffers, its answers.
const CONNECTION: usize = 16 * 1024;

/// What the broker's messages and clients take of memory, from which falls that are worth giving back are seen.
#[derive(Default)]
struct Wave {
    top: usize,
}

impl Wave {
    /// A fall that is worth it, in bytes.
    const FALL: usize = 1024 * 1024;

    /// True once for each fall.
    fn fell(&mut self, bytes: usize) -> bool {
        self.top = self.top.max(bytes);
        let fell = self.top - bytes >= Wave::FALL;
        if fell {
            self.top = bytes;
        }
        fell
    }
}

impl EventBus {
    /// Binds the embedded broker and starts connecting to the external one. `doors` is where the broker runs.
    pub async fn build(
        settings: Settings,
        doors: &runtime::Handle,
    ) -> Result<(EventBus, Handle, mpsc::Receiver<Incoming>), BuildError> {
        // Read first: nothing is bound for settings that cannot work.
        let external = settings.external.map(client_settings).transpose().map_err(BuildError::External)?;
        let broker = match settings.internal {
            None => None,
            Some(listen) => {
                let settings = broker::Settings { listen, users: settings.users, limits: settings.limits };
                let bound = doors.spawn(Broker::bind(settings)).await;
                Some(bound.map_err(BuildError::Doors)?.map_err(BuildError::Broker)?)
            }
        };
        let address = broker.as_ref().map(Broker::local_addr);
        let internal = broker.as_ref().map(Broker::handle);
        let from_internal = internal.as_ref().map(|handle| handle.subscribe(topics::SUBSCRIPTIONS));
        let subscriptions = topics::SUBSCRIPTIONS.iter().map(|filter| (*filter).to_owned()).collect();
        let (external, from_external) = match external {
            None => (None, None),
            Some(settings) => {
                let (client, receiver) = Client::start(settings, subscriptions);
                (Some(client), Some(receiver))
            }
        };
        let (inbox, receiver) = mpsc::channel(INBOX);
        let bus = EventBus {
            broker,
            doors: doors.clone(),
            from_internal,
            from_external,
            inbox,
            beat: None,
            spare: None,
            wave: Wave::default(),
        };
        Ok((bus, Handle { internal, external, address }, receiver))
    }

    /// Shows that the bus moves: that somebody takes what arrives.
    pub fn showing(self, beat: Beat) -> EventBus {
        EventBus { beat: Some(beat), ..self }
    }

    /// Tells `spare` when much of the broker's memory became free.
    pub fn returning(self, spare: Spare) -> EventBus {
        EventBus { spare: Some(spare), ..self }
    }

    /// Runs until `stop`, or until nobody reads what arrives.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), RunError> {
        // Its own token, so that the broker also ends when nobody reads any more.
        let stop_broker = stop.child_token();
        let counts = self.broker.as_ref().map(Broker::handle);
        let broker = self.broker.take().map(|broker| self.doors.spawn(broker.run(stop_broker.clone())));
        let mut look = tokio::time::interval(LOOK);
        loop {
            let Delivery { publish, receipt } = tokio::select! {
                biased;
                _ = stop.cancelled() => break,
                _ = look.tick(), if counts.is_some() => {
                    self.look(counts.as_ref());
                    continue;
                }
                Some(delivery) = next(&mut self.from_internal) => delivery,
                Some(delivery) = next(&mut self.from_external) => delivery,
            };
            let _busy = self.beat.as_ref().map(Beat::begin);
            let message = Incoming { topic: publish.topic, payload: publish.payload, receipt };
            let sent = tokio::select! {
                biased;
                _ = stop.cancelled() => break,
                sent = self.inbox.send(message) => sent,
            };
            if sent.is_err() {
                break;
            }
        }
        stop_broker.cancel();
        match broker {
            Some(broker) => broker.await.map_err(RunError::BrokerEnded),
            None => Ok(()),
        }
    }
}

impl EventBus {
    fn look(&mut self, broker: Option<&broker::Handle>) {
        let counts = broker.map(broker::Handle::counts).unwrap_or_default();
        let bytes = counts.queued_bytes + counts.clients * CONNECTION;
        if self.wave.fell(bytes)
            && let Some(spare) = &self.spare
        {
            spare.note();
        }
    }
}

/// The next message of a broker that is used; never anything from one that is not.
async fn next(receiver: &mut Option<mpsc::Receiver<Delivery>>) -> Option<Delivery> {
    let message = match receiver {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    };
    if message.is_none() {
        // Gone for good: asking again would answer at once.
        *receiver = None;
        return std::future::pending().await;
    }
    message
}

fn client_settings(external: External) -> Result<mqtt::client::Settings, BadAddress> {
    let address = external.url.parse()?;
    let login = (!external.username.is_empty())
        .then_some(Login { username: external.username, password: external.password.0 });
    Ok(mqtt::client::Settings { address, client_id: external.client_id, login })
}

#[cfg(test)]
mod tests;
