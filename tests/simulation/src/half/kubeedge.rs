//! KubeEdge's dialect: the cloud's exchange, and what an edge has under way.

use std::collections::VecDeque;

use anyhow::{Context, Result};
use cloudcore::cloudhub::kubeedge::{self as cloud, Asked};
use cloudcore::desired::NodeSet;
use edgehub::inflight::InFlight;
use message::{Downstream, Json, Message, MessageId, NodeName, Received, Reply, Request, Upstream};
use metamanager::objects::{Arrival, Body};
use metamanager::outbox::{self, Waiting};
use store::rusqlite::Connection as Database;
use tokio::time::Instant;

use super::{CloudHalf, Committed, EdgeHalf, Effect, Wants};
use crate::api::Api;

fn encode(message: &Message) -> Vec<u8> {
    message::encode(message).into_bytes()
}

fn decode(frame: &[u8]) -> Result<Message> {
    message::decode(frame).context("a message that was sent is not readable")
}

pub(crate) struct Cloud {
    exchange: cloud::Exchange,
    /// Messages under way: the API server may have taken them or not.
    running: Vec<(u64, Box<Asked>)>,
    /// Answers, and what is sent again.
    outgoing: VecDeque<Message>,
}

impl Cloud {
    /// `owes_everything`: the node has not got everything since it started.
    pub(crate) fn new(owes_everything: bool) -> Cloud {
        Cloud {
            exchange: cloud::Exchange::new(owes_everything),
            running: Vec::new(),
            outgoing: VecDeque::new(),
        }
    }
}

impl CloudHalf for Cloud {
    fn receive(&mut self, frame: &[u8], set: &NodeSet) -> Result<Wants> {
        let message = decode(frame)?;
        let mut wants = Wants::default();
        match set.with(|desired| self.exchange.take_in(message, frame.len(), desired, 0)) {
            Some(cloud::Effect::Record { settled, is_all }) => {
                wants.settled.push(*settled);
                wants.has_everything = is_all;
            }
            Some(cloud::Effect::StartOver) => wants.start_over = true,
            Some(cloud::Effect::Send(message)) => self.outgoing.push_back(*message),
            Some(cloud::Effect::Unreadable { error, .. }) => {
                anyhow::bail!("the edge broke the protocol: {error}")
            }
            _ => {}
        }
        Ok(wants)
    }

    fn send(&mut self, set: &NodeSet, _: bool, now: Instant) -> Vec<Vec<u8>> {
        let again = set.with(|desired| self.exchange.overdue(desired, now, 0));
        self.outgoing.extend(again);
        let next = set.with(|desired| self.exchange.next(desired, now, 0));
        self.outgoing.drain(..).chain(next).map(|message| encode(&message)).collect()
    }

    fn start_row(&mut self) -> bool {
        let started = self.exchange.start();
        let is_some = started.is_some();
        self.running.extend(started);
        is_some
    }

    fn carry_out(&mut self, which: usize, api: &mut Api, told: bool) -> Result<bool> {
        if self.running.is_empty() || api.refuses {
            return Ok(false);
        }
        let at = which % self.running.len();
        let (_, asked) = &self.running[at];
        let answer = match &asked.upstream {
            Upstream::TwinReport { name, report, .. } => {
                api.report(name, report.parse()?, None);
                Downstream::Confirmed { to: asked.message.header.msg_id.clone() }.to_message(0)
            }
            Upstream::Ask(request) => request.answer(&asked.message, &Reply::Done, 0),
            other => anyhow::bail!("an edge of this simulation does not send {other:?}"),
        };
        if told {
            let (seq, asked) = self.running.remove(at);
            self.exchange.finished(seq, &asked.message.header.msg_id, asked.bytes);
            self.outgoing.push_back(answer);
        }
        Ok(true)
    }

    fn waits(&self, set: &NodeSet) -> bool {
        !self.outgoing.is_empty() || set.with(|desired| desired.next_deadline().is_some())
    }
}

#[derive(Default)]
pub(crate) struct Edge {
    flight: InFlight,
    /// Objects received and not committed.
    pending: VecDeque<Received>,
    committing: Option<Received>,
    registration: Option<MessageId>,
    now: Option<Instant>,
}

impl Edge {
    /// With its first messages: a node whose EdgeCore has started registers.
    pub(crate) fn connect(node: &str, registers: bool) -> Result<(Edge, Vec<Vec<u8>>)> {
        let mut edge = Edge::default();
        if !registers {
            return Ok((edge, Vec::new()));
        }
        let object = Json::encode(&serde_json::json!({"kind": "Node", "metadata": {"name": node}}))?;
        let request = Request::CreateNode { node: NodeName::new(node)?, object };
        let asked = Upstream::Ask(request).to_message(0);
        edge.registration = Some(asked.header.msg_id.clone());
        Ok((edge, vec![encode(&asked)]))
    }

    fn send_row(&mut self, row: &Waiting, now: Instant) -> Vec<u8> {
        self.flight.sent(row.message.header.msg_id.clone(), row.seq, true, now);
        encode(&row.message)
    }
}

impl EdgeHalf for Edge {
    fn receive(&mut self, frame: &[u8], _: &Database) -> Result<Effect> {
        let received = Received::parse(decode(frame)?).context("the cloud broke the protocol")?;
        Ok(match &received.body {
            Downstream::Put { .. } | Downstream::Remove { .. } => {
                self.pending.push_back(received);
                Effect::Pending
            }
            Downstream::Confirmed { to } => {
                if let Some(now) = self.now {
                    self.flight.heard(now);
                }
                self.flight.done(to).map_or(Effect::Nothing, |seq| Effect::Finished(vec![seq]))
            }
            Downstream::Reply { to, .. } if self.registration.as_ref() == Some(to) => Effect::Registered,
            _ => Effect::Nothing,
        })
    }

    fn next_commit(&mut self) -> Option<Vec<Arrival>> {
        let received = self.pending.pop_front()?;
        let (key, body) = match &received.body {
            Downstream::Put { key, version, object, .. } => {
                (key.clone(), Body::Put { version: version.clone(), object: object.clone() })
            }
            Downstream::Remove { key, uid, .. } => (key.clone(), Body::Remove { uid: uid.clone() }),
            _ => return None,
        };
        self.committing = Some(received);
        Some(vec![Arrival { key, mark: 0, body }])
    }

    fn committed(&mut self, how: Committed<'_>) -> Vec<Vec<u8>> {
        let Some(received) = self.committing.take() else { return Vec::new() };
        let answer = match how {
            Committed::Stored(_) => received.message.ack(0),
            Committed::Refused => {
                let of = received.message.header.msg_id.clone();
                Upstream::Complaint { of, text: "disk full".into() }.to_message(0)
            }
        };
        vec![encode(&answer)]
    }

    fn send(&mut self, db: &Database, now: Instant) -> Result<Vec<Vec<u8>>> {
        self.now = Some(now);
        let mut frames = Vec::new();
        let overtaken = outbox::with_newer(db, &self.flight.slow(now))?;
        super::remove(db, &overtaken)?;
        self.flight.overtaken(&overtaken);
        let due = self.flight.due(now);
        super::remove(db, &due.given_up)?;
        for seq in due.again {
            match outbox::next_in_order(db, seq - 1, 1)?.into_iter().find(|row| row.seq == seq) {
                Some(row) => frames.push(self.send_row(&row, now)),
                None => self.flight.forget(seq),
            }
        }
        while self.flight.room() > 0 {
            let rows = outbox::next_in_order(db, self.flight.cursor, self.flight.room())?;
            if rows.is_empty() {
                break;
            }
            frames.extend(rows.iter().map(|row| self.send_row(row, now)).collect::<Vec<_>>());
        }
        Ok(frames)
    }

    fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn waits(&self) -> bool {
        !self.flight.is_empty()
    }
}
