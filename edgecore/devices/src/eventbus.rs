//! EventBus: MQTT between apps, mappers and this node. Runs the embedded broker, a client of an external one, or both.
//!
//! ```text
//! apps -> embedded broker --+
//!                           +--> Messages   (those of each broker in its order)
//! apps -> external broker --+
//! Handle::publish --> both
//! ```
//!
//! Promises: an app hears that its message of QoS 1 or 2 arrived when the receipt it came with is completed, and sends
//! it again otherwise. Starts without a reachable external broker and keeps trying; publishing never waits; what of it
//! cannot be kept is lost oldest first and counted. Source: docs/protocol/devices.md section 4 (upstream blocks its start and its bus loop).

mod handle;
mod messages;

use futures_util::future::BoxFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::health::Beat;
use daemon::memory::HeapTrimmer;
use daemon::rooms::Work;
use mqtt::broker::access::Users;
use mqtt::broker::{self, BindError, Broker, Limits};
use mqtt::client::{self, Client};
use mqtt::topics;
use tokio::runtime;
use tokio_util::sync::CancellationToken;

pub use handle::Handle;
pub use messages::Messages;

/// Which brokers to use; neither is valid and makes a bus on which nothing happens.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where the embedded broker listens.
    pub internal: Option<SocketAddr>,
    /// A broker that somebody else runs; it keeps under the client id what was not acknowledged.
    pub external: Option<client::Settings>,
    /// Who may use the embedded broker; `None`: everybody.
    pub users: Option<Arc<Users>>,
    /// Of the embedded broker.
    pub limits: Limits,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("the thread of the embedded broker ended")]
    Doors(#[source] tokio::task::JoinError),
    #[error("starting the embedded broker")]
    Broker(#[source] BindError),
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the embedded broker ended early")]
    BrokerEnded(#[source] tokio::task::JoinError),
}

/// Built, not running.
pub struct EventBus {
    broker: Option<Broker>,
    doors: runtime::Handle,
    beat: Option<Beat>,
    /// Told when the broker's messages gave memory back.
    spare: Option<HeapTrimmer>,
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
    /// One that is worth it if it is half of what there was: a few small messages keep a page each from being given back.
    const HALF: usize = 64 * 1024;

    /// True once for each fall.
    fn fell(&mut self, bytes: usize) -> bool {
        self.top = self.top.max(bytes);
        let fall = self.top - bytes;
        let fell = fall >= Wave::FALL || (fall >= Wave::HALF && fall >= self.top / 2);
        if fell {
            self.top = bytes;
        }
        fell
    }
}

impl EventBus {
    /// Binds the embedded broker and starts connecting to the external one. `doors` is where the broker runs.
    pub fn build(
        settings: Settings,
        doors: &runtime::Handle,
    ) -> BoxFuture<'_, Result<(EventBus, Handle, Messages), BuildError>> {
        Box::pin(async move {
            let broker = match settings.internal {
                None => None,
                Some(listen) => {
                    let settings =
                        broker::Settings { listen, users: settings.users, limits: settings.limits };
                    let bound = doors.spawn(Broker::bind(settings)).await;
                    Some(bound.map_err(BuildError::Doors)?.map_err(BuildError::Broker)?)
                }
            };
            let address = broker.as_ref().map(Broker::local_addr);
            let internal = broker.as_ref().map(Broker::handle);
            let from_internal = internal.as_ref().map(|handle| handle.subscribe(topics::SUBSCRIPTIONS));
            let subscriptions = topics::SUBSCRIPTIONS.iter().map(|filter| (*filter).to_owned()).collect();
            let (external, from_external) = match settings.external {
                None => (None, None),
                Some(settings) => {
                    let (client, receiver) = Client::start(settings, subscriptions);
                    (Some(client), Some(receiver))
                }
            };
            let bus =
                EventBus { broker, doors: doors.clone(), beat: None, spare: None, wave: Wave::default() };
            let messages = Messages::new(from_internal, from_external);
            Ok((bus, Handle { internal, external, address }, messages))
        })
    }

    /// Shows that the bus moves.
    pub fn showing(self, beat: Beat) -> EventBus {
        EventBus { beat: Some(beat), ..self }
    }

    /// Tells `spare` when much of the broker's memory became free.
    pub fn returning(self, spare: HeapTrimmer) -> EventBus {
        EventBus { spare: Some(spare), ..self }
    }

    /// Runs until `stop`.
    pub fn run(self, stop: CancellationToken) -> Work<RunError> {
        Box::pin(self.work(stop))
    }

    async fn work(mut self, stop: CancellationToken) -> Result<(), RunError> {
        let Some(broker) = self.broker.take() else {
            stop.cancelled().await;
            return Ok(());
        };
        let (counts, beat) = (broker.handle(), self.beat.take());
        let mut broker = self.doors.spawn(broker.run(stop));
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                biased;
                ended = &mut broker => return ended.map_err(RunError::BrokerEnded),
                _ = look.tick() => {
                    let _busy = beat.as_ref().map(Beat::begin);
                    self.look(&counts);
                }
            }
        }
    }
}

impl EventBus {
    fn look(&mut self, broker: &broker::Handle) {
        let counts = broker.counts();
        let bytes = counts.queued_bytes + counts.clients * CONNECTION;
        if self.wave.fell(bytes)
            && let Some(spare) = &self.spare
        {
            spare.note();
        }
    }
}

#[cfg(test)]
mod tests;
