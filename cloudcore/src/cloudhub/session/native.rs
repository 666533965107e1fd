//! A session in the native dialect: the shell around [`Exchange`].

use std::time::Duration;

use link::{FrameReceiver, FrameSender, IncomingFrame, Place, SideStreams};
use message::{Downstream, Message, NodeName, Upstream};
use native::frames::StreamFrame;
use native::frames::frame::Body;
use streams::Mux;
use tokio::time::Instant;

use super::super::exchange::{self, Effect, Exchange, Submitted};
use super::super::streams::{Asked, NoStream, OPENS};
use super::super::upstreams::{Row, Upstreams};
use super::pump::{self, Half, Shell};
use super::{CALLS, End, HOLD, REFUSED_PAUSE, Session};
use crate::desired::NodeSet;

/// Bytes between who asked for a stream and what carries it.
const PIPE: usize = 32 * 1024;

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

/// The native dialect's half.
struct Native {
    exchange: Exchange,
    calls: usize,
    /// Bytes of calls under way.
    held: usize,
    /// No objects are sent before.
    paused: Option<Instant>,
    streams: Mux,
    side: Option<SideStreams>,
}

pub(super) async fn run(session: Box<Session>, sender: FrameSender, receiver: FrameReceiver) -> End {
    let set = NodeSet::default();
    set.without_wake(|desired| desired.keep_texts());
    session.subscribe(&set);
    let mut exchange = Exchange::new(session.handle.epoch);
    exchange.connects_streams = session.rooms.requests.is_some();
    let half = Native {
        exchange,
        calls: 0,
        held: 0,
        paused: None,
        streams: Mux::default(),
        side: sender.side_streams(),
    };
    pump::run(&session, &set, half, sender, receiver).await
}

impl Half for Native {
    type Sender = FrameSender;
    type Receiver = FrameReceiver;
    type Ended = Ended;

    /// Leftovers are settled once the node's inventory is known.
    fn begin(&mut self, _: &mut Shell<'_, Self>) {}

    /// Status before bulk: answers and acknowledgements, then notices, then objects.
    fn next(&mut self, shell: &mut Shell<'_, Self>) -> Option<Body> {
        if let Some(body) = shell.outgoing.pop_front() {
            return Some(body);
        }
        if let Some(done) = self.exchange.done() {
            return Some(done);
        }
        let now = daemon::clock::unix_ms();
        let (notices, dropped) = shell.set.take_notices();
        shell.session.metrics.notices_dropped(dropped);
        for notice in notices {
            match notice {
                Downstream::Volume(call) => {
                    shell.session.rooms.volumes.refused(&call.id, "the node serves no storage calls");
                }
                notice => shell.outgoing.push_back(exchange::notice(&notice.to_message(now))),
            }
        }
        if let Some(body) = shell.outgoing.pop_front() {
            return Some(body);
        }
        if self.paused.is_some() {
            return None;
        }
        let (objects, away) = shell
            .set
            .without_wake(|desired| (self.exchange.objects(desired, Instant::now()), desired.take_away()));
        shell.session.want(&away);
        // What the node holds and nobody wants may still have to go.
        if objects.is_some() || shell.is_settling() {
            return objects;
        }
        shell.set.without_wake(|desired| self.exchange.in_step(desired))
    }

    fn start(&mut self, shell: &mut Shell<'_, Self>) {
        while let Some((place, Submitted { seq, message, upstream, bytes })) = self.exchange.rows.start() {
            let Some(upstream) = upstream else {
                shell.session.note_unreadable(&message, "it is no message of this protocol");
                self.exchange.finish(place, bytes);
                continue;
            };
            let row = Row { store: self.exchange.store.clone(), seq };
            let (rooms, node) = (shell.session.rooms.clone(), shell.session.handle.node.clone());
            shell.run(async move {
                rooms.upstreams.carry_out_for_good(&node, &message, &upstream, Some(row)).await;
                Ended::Row { place, bytes }
            });
        }
    }

    async fn spare(&mut self, session: &Session) -> Body {
        loop {
            tokio::select! {
                asked = session.handle.streams.next() => {
                    if let Some(frame) = self.open(asked) {
                        return Body::Stream(frame);
                    }
                }
                frame = self.streams.next() => return Body::Stream(frame),
            }
        }
    }

    fn is_charged(incoming: &IncomingFrame) -> bool {
        !matches!(incoming, IncomingFrame::Frame(body) if matches!(**body, Body::Stream(_)))
    }

    fn take_in(&mut self, incoming: IncomingFrame, _: usize, shell: &mut Shell<'_, Self>) -> Result<(), End> {
        shell.silence.spoke(self.patience(shell.session.keepalive));
        let body = match incoming {
            IncomingFrame::Life => return Ok(()),
            IncomingFrame::Frame(body) => *body,
        };
        if let Body::Stream(frame) = body {
            let Some(requests) = &shell.session.rooms.requests else {
                return Ok(self.streams.take_in(frame)?);
            };
            let node = &shell.session.handle.node;
            let connect = || std::future::ready(Ok(requests.connect(node)));
            let answer = self.streams.take_in_and_connect(frame, connect)?;
            shell.outgoing.extend(answer.map(Body::Stream));
            return Ok(());
        }
        let effects = shell.set.without_wake(|desired| self.exchange.on_frame(body, desired))?;
        for effect in effects {
            match effect {
                Effect::Send(body) => shell.outgoing.push_back(body),
                Effect::Answer(asked, bytes) => self.start_call(asked, bytes, shell),
                Effect::Compared => shell.settle_leftovers(),
                Effect::Refused(error) => {
                    tracing::warn!(node = %shell.session.handle.node, error, "the node could not store an object");
                    self.paused = Some(Instant::now() + REFUSED_PAUSE);
                }
            }
        }
        Ok(())
    }

    fn on_ended(&mut self, ended: Ended, shell: &mut Shell<'_, Self>) {
        match ended {
            Ended::Row { place, bytes } => self.exchange.finish(place, bytes),
            Ended::Call { answer, bytes } => {
                self.calls -= 1;
                self.held -= bytes;
                shell.outgoing.extend(answer.map(|answer| self.exchange.answer(&answer)));
            }
        }
    }

    fn has_room(&self) -> bool {
        self.calls < CALLS && self.held + self.exchange.held() < HOLD
    }

    /// The longer of the configured limit and two of the node's own heartbeats.
    fn patience(&self, keepalive: Duration) -> Duration {
        let heartbeats = Duration::from_secs(u64::from(self.exchange.heartbeat.min(3600)) * 2);
        keepalive.max(heartbeats)
    }

    fn time(&self, _: &NodeSet) -> Option<Instant> {
        self.paused
    }

    fn on_time(&mut self, _: &mut Shell<'_, Self>) {
        self.paused = None;
    }
}

impl Native {
    fn open(&mut self, asked: Asked) -> Option<StreamFrame> {
        if !self.exchange.takes_streams {
            asked.answer(Err(NoStream::Unable));
            return None;
        }
        if self.exchange.takes_side_streams
            && let Some(side) = &self.side
            && let Some(place) = side.place()
        {
            tokio::spawn(beside(side.clone(), place, asked));
            return None;
        }
        match self.streams.open() {
            Some((pipe, frame)) => {
                asked.answer(Ok(pipe));
                Some(frame)
            }
            None => {
                asked.answer(Err(NoStream::TooMany));
                None
            }
        }
    }

    fn start_call(&mut self, asked: Box<Message>, bytes: usize, shell: &Shell<'_, Self>) {
        self.calls += 1;
        self.held += bytes;
        let (rooms, node) = (shell.session.rooms.clone(), shell.session.handle.node.clone());
        shell.run(
            async move { Ended::Call { answer: answer(&*rooms.upstreams, &node, &asked).await, bytes } },
        );
    }
}

/// A stream beside the frames. It ends with its connection.
async fn beside(side: SideStreams, place: Place, asked: Asked) {
    let opened = tokio::time::timeout(OPENS, side.open(place)).await;
    let Ok(Ok(mut stream)) = opened else { return asked.answer(Err(NoStream::Away)) };
    let (near, far) = tokio::io::duplex(PIPE);
    asked.answer(Ok(near));
    if streams::carry(far, &mut stream.receive, &mut stream.send).await.is_err() {
        stream.abort();
    }
}

async fn answer(upstreams: &dyn Upstreams, node: &NodeName, asked: &Message) -> Option<Box<Message>> {
    let upstream = Upstream::parse(asked).ok()?;
    upstreams.answer(node, asked, &upstream).await
}
