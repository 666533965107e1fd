//! A session in the native dialect: the shell around [`Exchange`].

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use link::{FrameReceiver, FrameSender, IncomingFrame, Outlet};
use message::{Downstream, Message, NodeName, Upstream};
use native::frames::frame::Body;
use tokio::time::Instant;

use super::super::exchange::{self, Effect, Exchange, Submitted};
use super::super::upstreams::{Row, Upstreams};
use super::silence::Silence;
use super::{CALLS, End, HOLD, OUTGOING, REFUSED_PAUSE, Session, settled, sleep_until};
use crate::desired::NodeSet;

/// Something under way that ended.
enum Ended {
    Row {
        /// Among the rows of this session.
        place: u64,
        bytes: usize,
    },
    Call {
        answer: Option<Box<Message>>,
        bytes: usize,
    },
}

type Running = FuturesUnordered<Pin<Box<dyn Future<Output = Ended> + Send>>>;

struct Pump<'a> {
    session: &'a Session,
    set: &'a NodeSet,
    exchange: Exchange,
    outgoing: VecDeque<Body>,
    running: Running,
    /// Apart from what the node asked for: it holds nothing of the node's, and may take as long as an outage.
    leftovers: Option<BoxFuture<'static, ()>>,
    calls: usize,
    /// Bytes of calls under way.
    held: usize,
    /// The node has sent too much and is not read before.
    waits: Option<Instant>,
    /// No objects are sent before.
    paused: Option<Instant>,
    silence: Silence,
}

pub(super) async fn run(session: Box<Session>, sender: FrameSender, receiver: FrameReceiver) -> End {
    let (session, set) = (&*session, &NodeSet::default());
    set.without_wake(|desired| desired.keep_texts());
    session.subscribe(set);
    let mut outlet = Outlet::new(sender);
    let mut pump = Pump {
        session,
        set,
        exchange: Exchange::new(session.handle.epoch),
        outgoing: VecDeque::new(),
        running: FuturesUnordered::new(),
        leftovers: None,
        calls: 0,
        held: 0,
        waits: None,
        paused: None,
        silence: Silence::new(Instant::now() + session.keepalive),
    };
    let end = pump.pump(&mut outlet, receiver).await;
    drop(pump);
    session.unsubscribe();
    outlet.close(session.close_reason(&end)).await;
    end
}

impl Pump<'_> {
    async fn pump(&mut self, outlet: &mut Outlet<FrameSender>, mut receiver: FrameReceiver) -> End {
        let ended = self.session.handle.ended.clone();
        let must_speak = !receiver.notices_silence();
        loop {
            self.start_rows();
            if outlet.is_idle()
                && let Some(body) = self.next_frame()
            {
                outlet.send(body);
            }
            if self.set.is_node_deleted() {
                return End::NodeDeleted;
            }
            let paused = self.paused.filter(|_| outlet.is_idle());
            let may_read = self.may_read();
            self.silence.reading(may_read, self.patience());
            tokio::select! {
                biased;
                _ = ended.cancelled() => return End::Told,
                written = outlet.finished() => if let Err(error) = written { return error.into() },
                Some(ended) = self.running.next(), if !self.running.is_empty() => self.on_ended(ended),
                () = settled(&mut self.leftovers) => self.leftovers = None,
                incoming = receiver.next(), if may_read => {
                    self.waits = self.session.note_sent(receiver.held());
                    match incoming {
                        Err(error) => return error.into(),
                        Ok(incoming) => if let Err(end) = self.on_incoming(incoming) { return end },
                    }
                }
                _ = self.set.changed(), if outlet.is_idle() => {}
                _ = sleep_until(self.waits), if self.waits.is_some() => self.waits = None,
                _ = sleep_until(paused) => self.paused = None,
                _ = sleep_until(self.silence.ends()), if must_speak => return End::Silent(self.patience()),
            }
        }
    }

    /// What was read is held until it is carried out.
    fn may_read(&self) -> bool {
        self.calls < CALLS
            && self.outgoing.len() < OUTGOING
            && self.held + self.exchange.held() < HOLD
            && self.waits.is_none()
    }

    /// Status before bulk: answers and acknowledgements, then notices, then objects.
    fn next_frame(&mut self) -> Option<Body> {
        if let Some(body) = self.outgoing.pop_front() {
            return Some(body);
        }
        if let Some(done) = self.exchange.done() {
            return Some(done);
        }
        let now = daemon::clock::unix_ms();
        let (notices, dropped) = self.set.take_notices();
        self.session.metrics.notices_dropped(dropped);
        for notice in notices {
            match notice {
                Downstream::Volume(call) => {
                    self.session.rooms.volumes.refused(&call.id, "the node serves no storage calls");
                }
                notice => self.outgoing.push_back(exchange::notice(&notice.to_message(now))),
            }
        }
        if let Some(body) = self.outgoing.pop_front() {
            return Some(body);
        }
        if self.paused.is_some() {
            return None;
        }
        let objects = self.set.without_wake(|desired| self.exchange.objects(desired, Instant::now()));
        // What the node holds and nobody wants may still have to go.
        if objects.is_some() || self.leftovers.is_some() {
            return objects;
        }
        self.set.without_wake(|desired| self.exchange.in_step(desired))
    }

    fn start_rows(&mut self) {
        while let Some((place, Submitted { seq, message, upstream, bytes })) = self.exchange.rows.start() {
            let Some(upstream) = upstream else {
                self.session.note_unreadable(&message, "it is no message of this protocol");
                self.exchange.finish(place, bytes);
                continue;
            };
            let row = Row { store: self.exchange.store.clone(), seq };
            let (rooms, node) = (self.session.rooms.clone(), self.session.handle.node.clone());
            self.running.push(Box::pin(async move {
                rooms.upstreams.carry_out_for_good(&node, &message, &upstream, Some(row)).await;
                Ended::Row { place, bytes }
            }));
        }
    }

    fn on_incoming(&mut self, incoming: IncomingFrame) -> Result<(), End> {
        self.silence.spoke(self.patience());
        let IncomingFrame::Frame(body) = incoming else { return Ok(()) };
        let effects = self.set.without_wake(|desired| self.exchange.on_frame(*body, desired))?;
        for effect in effects {
            match effect {
                Effect::Send(body) => self.outgoing.push_back(body),
                Effect::Answer(asked, bytes) => self.start_call(asked, bytes),
                Effect::Compared => self.start_leftovers(),
                Effect::Refused(error) => {
                    tracing::warn!(node = %self.session.handle.node, error, "the node could not store an object");
                    self.paused = Some(Instant::now() + REFUSED_PAUSE);
                }
            }
        }
        Ok(())
    }

    fn start_call(&mut self, asked: Box<Message>, bytes: usize) {
        self.calls += 1;
        self.held += bytes;
        let (rooms, node) = (self.session.rooms.clone(), self.session.handle.node.clone());
        self.running.push(Box::pin(async move {
            Ended::Call { answer: answer(&*rooms.upstreams, &node, &asked).await, bytes }
        }));
    }

    fn start_leftovers(&mut self) {
        if let Some(settling) = self.session.settle_leftovers(self.set) {
            self.leftovers = Some(Box::pin(settling));
        }
    }

    fn on_ended(&mut self, ended: Ended) {
        match ended {
            Ended::Row { place, bytes } => self.exchange.finish(place, bytes),
            Ended::Call { answer, bytes } => {
                self.calls -= 1;
                self.held -= bytes;
                self.outgoing.extend(answer.map(|answer| self.exchange.answer(&answer)));
            }
        }
    }

    /// The longer of the configured limit and two of the node's own heartbeats.
    fn patience(&self) -> std::time::Duration {
        let heartbeats = std::time::Duration::from_secs(u64::from(self.exchange.heartbeat.min(3600)) * 2);
        self.session.keepalive.max(heartbeats)
    }
}

async fn answer(upstreams: &dyn Upstreams, node: &NodeName, asked: &Message) -> Option<Box<Message>> {
    let upstream = Upstream::parse(asked).ok()?;
    upstreams.answer(node, asked, &upstream).await
}
