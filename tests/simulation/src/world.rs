//! One run: random steps and faults, then peace, then the promises.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use cloudcore::desired::Placement;
use message::ObjectKind;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::time::Duration;
use tokio::time::Instant;

use crate::api::{Api, edge_name};
use crate::cloud::{Replica, arrived};
use crate::edge::{Commit, Edge};
use crate::half::Dialect;
use crate::network::Network;

/// Steps with faults.
const STEPS: u64 = 500;
/// Rounds of peace after which everything must be settled.
const PEACE: u64 = 3000;

/// What a step takes on the clock of the programs.
const STEP: Duration = Duration::from_millis(100);

struct World {
    rng: StdRng,
    dialect: Dialect,
    start: Instant,
    step: u64,
    api: Api,
    replicas: Vec<Replica>,
    edges: Vec<Edge>,
    network: Network,
    /// Watches of a replica see nothing before this step.
    lag_until: Vec<u64>,
    /// The API server refuses everything before this step.
    refused_until: u64,
    /// Bytes of texts that a replica holds in memory.
    texts: usize,
}

/// Runs the world of `seed` in one dialect; an error names the promise that was broken.
pub fn run(seed: u64, dialect: Dialect) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let edges = rng.random_range(1..=3);
    // Replicas that lag behind each other may tell a node of KubeEdge's dialect, which says nothing of what it has, of what was.
    let replicas = if dialect == Dialect::Native { rng.random_range(1..=2) } else { 1 };
    let api = Api::new(edges);
    // Some replicas hold hardly a text in memory.
    let texts = [0, 400, usize::MAX][rng.random_range(0..3)];
    let mut world = World {
        dialect,
        start: Instant::now(),
        step: 0,
        replicas: (0..replicas).map(|_| Replica::start(&api, texts)).collect(),
        edges: (0..edges).map(|number| Edge::new(number, dialect)).collect::<Result<_>>()?,
        network: Network::default(),
        lag_until: vec![0; replicas],
        refused_until: 0,
        texts,
        api,
        rng,
    };
    for _ in 0..STEPS {
        world.step += 1;
        world.api.refuses = world.step < world.refused_until;
        world.act().with_context(|| format!("step {}", world.step))?;
    }
    world.make_peace()?;
    world.check()
}

impl World {
    fn now(&self) -> Instant {
        self.start + STEP * u32::try_from(self.step).unwrap_or(u32::MAX)
    }

    fn act(&mut self) -> Result<()> {
        let edge = self.rng.random_range(0..self.edges.len());
        match self.rng.random_range(0..100) {
            0..14 => self.api.change(&mut self.rng, self.edges.len()),
            14..22 => {
                let device = if self.rng.random_bool(0.5) { "thermometer" } else { "valve" };
                self.edges[edge].report(device)?;
            }
            22..97 => {
                self.progress(edge)?;
            }
            _ => self.fault(edge)?,
        }
        Ok(())
    }

    /// One thing that goes on by itself, if there is one to do.
    fn progress(&mut self, edge: usize) -> Result<bool> {
        let mut choices: Vec<u32> = (0..10).collect();
        choices.shuffle(&mut self.rng);
        for choice in choices {
            if self.go_on(edge, choice)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn go_on(&mut self, edge: usize, choice: u32) -> Result<bool> {
        let replica = self.rng.random_range(0..self.replicas.len());
        match choice {
            0 if self.rng.random_bool(0.3) => {
                Ok(self.replicas[replica].fetch(&self.api) || self.replicas[replica].record(&mut self.api))
            }
            0 if self.lag_until[replica] > self.step => Ok(false),
            0 => Ok(self.replicas[replica].watch(&self.api)),
            1 => self.connect(edge),
            2 => self.edge_receives(edge),
            3 => {
                let now = self.now();
                self.with_edge(edge, |edge, connection, _| edge.send(connection, now))
            }
            4 => {
                let how = if self.rng.random_bool(0.02) { Commit::Refused } else { Commit::Durable };
                self.with_edge(edge, |edge, connection, api| edge.commit(connection, how, api))
            }
            choice => {
                // Usually the replica that has the session; sometimes one that does not know it is over.
                let serving = self.replicas.iter().position(|replica| replica.sessions.contains_key(&edge));
                let mut replica =
                    if self.rng.random_bool(0.2) { replica } else { serving.unwrap_or(replica) };
                if choice == 5 && self.dialect == Dialect::KubeEdge {
                    // Its reports have no stamp: an old one that a session writes after its end is taken for a new one.
                    let Some(current) = self.current(edge) else { return Ok(false) };
                    replica = current;
                }
                self.session_acts(replica, edge, choice)
            }
        }
    }

    /// The replica at the other end of the edge's connection.
    fn current(&self, edge: usize) -> Option<usize> {
        let id = self.edges[edge].link.as_ref()?.connection;
        self.replicas
            .iter()
            .position(|replica| replica.sessions.get(&edge).is_some_and(|session| session.connection == id))
    }

    fn session_acts(&mut self, replica: usize, edge: usize, choice: u32) -> Result<bool> {
        let which = self.rng.random_range(0..64);
        let told = self.rng.random_bool(0.9);
        if choice == 7 {
            return Ok(self.replicas[replica].settle_leftovers(edge, &self.api));
        }
        let Some(session) = self.replicas[replica].sessions.get_mut(&edge) else { return Ok(false) };
        match choice {
            5 => return session.carry_out(which, &mut self.api, told),
            6 => return Ok(session.start_row()),
            _ => {}
        }
        let now = self.start + STEP * u32::try_from(self.step).unwrap_or(u32::MAX);
        let Some(connection) = self.network.get(session.connection) else { return Ok(false) };
        if connection.stalled_until > self.step {
            return Ok(false);
        }
        if choice == 8 {
            return self.replicas[replica].receive(edge, connection, &self.api);
        }
        Ok(self.replicas[replica].send(edge, connection, now))
    }

    fn connect(&mut self, edge: usize) -> Result<bool> {
        if self.edges[edge].link.is_some() {
            return Ok(false);
        }
        let replica = self.rng.random_range(0..self.replicas.len());
        let id = self.network.connect();
        self.replicas[replica].accept(edge, id, self.dialect, &self.api);
        let connection = self.network.get(id).context("the new connection")?;
        self.edges[edge].connect(connection)?;
        Ok(true)
    }

    fn edge_receives(&mut self, edge: usize) -> Result<bool> {
        let step = self.step;
        self.with_edge(edge, |edge, connection, _| {
            if connection.stalled_until > step { Ok(false) } else { edge.receive(connection) }
        })
    }

    /// Does something with an edge that is connected. One whose connection is gone learns of it here.
    fn with_edge(
        &mut self,
        edge: usize,
        work: impl FnOnce(&mut Edge, &mut crate::network::Connection, &Api) -> Result<bool>,
    ) -> Result<bool> {
        let Some(link) = &self.edges[edge].link else { return Ok(false) };
        let Some(connection) = self.network.get(link.connection) else {
            self.edges[edge].link = None;
            return Ok(true);
        };
        work(&mut self.edges[edge], connection, &self.api)
    }

    fn fault(&mut self, edge: usize) -> Result<()> {
        let replica = self.rng.random_range(0..self.replicas.len());
        let connection = self.edges[edge].link.as_ref().map(|link| link.connection);
        match (self.rng.random_range(0..10), connection) {
            // Both ends learn of it when they look.
            (0, Some(id)) => self.network.cut(id),
            // The edge gives up; the cloud does not know and what is under way still arrives there.
            (1, Some(_)) => self.edges[edge].link = None,
            (2, Some(id)) => {
                let until = self.step + self.rng.random_range(5..60);
                if let Some(connection) = self.network.get(id) {
                    connection.stalled_until = until;
                }
            }
            (3, _) if self.rng.random_bool(0.2) => self.edges[edge].lose_disk()?,
            (3, _) => self.edges[edge].die(),
            (4, _) => {
                self.with_edge(edge, |edge, connection, api| edge.commit(connection, Commit::Torn, api))?;
                self.edges[edge].die();
            }
            // CloudCore dies and starts again.
            // What a node that has started still lacks is known to one process only, in KubeEdge's dialect.
            (5, _) if !self.api.refuses && !self.replicas[replica].owes_everything() => {
                let ids: Vec<u64> = self.replicas[replica].sessions.values().map(|s| s.connection).collect();
                ids.into_iter().for_each(|id| self.network.cut(id));
                self.replicas[replica] = Replica::start(&self.api, self.texts);
            }
            // CloudCore ends a session.
            (6, _) => {
                if let Some(session) = self.replicas[replica].sessions.remove(&edge) {
                    self.network.cut(session.connection);
                }
            }
            // The API server's watch stands still: this replica lives in the past.
            (7 | 8, _) => self.lag_until[replica] = self.step + self.rng.random_range(20..200),
            // It answers nobody, or forbids everything.
            (9, _) => self.refused_until = self.step + self.rng.random_range(20..200),
            _ => {}
        }
        Ok(())
    }

    /// No more faults: everything that can go on does until nothing is left to do.
    fn make_peace(&mut self) -> Result<()> {
        self.api.refuses = false;
        if self.dialect == Dialect::KubeEdge {
            // A record that another replica writes late counts from the next connection on.
            for replica in &mut self.replicas {
                replica.record(&mut self.api);
            }
            self.edges.iter_mut().for_each(|edge| edge.link = None);
        }
        // The ends learn of every connection that is over.
        for replica in &mut self.replicas {
            replica.sessions.retain(|edge, session| {
                self.edges[*edge].link.as_ref().is_some_and(|link| link.connection == session.connection)
            });
        }
        for _ in 0..PEACE {
            self.step += 100;
            let mut busy = false;
            for replica in 0..self.replicas.len() {
                let (replica, api) = (&mut self.replicas[replica], &mut self.api);
                while replica.watch(api) || replica.fetch(api) || replica.record(api) {
                    busy = true;
                }
            }
            for edge in 0..self.edges.len() {
                busy |= self.settle(edge)?;
            }
            if !busy {
                return Ok(());
            }
        }
        bail!("not settled after {PEACE} rounds of peace")
    }

    fn settle(&mut self, edge: usize) -> Result<bool> {
        let (mut busy, now) = (self.connect(edge)?, self.now());
        for replica in 0..self.replicas.len() {
            busy |= self.replicas[replica].settle_leftovers(edge, &self.api);
            for choice in 5..=6 {
                let Some(session) = self.replicas[replica].sessions.get_mut(&edge) else { continue };
                busy |= match choice {
                    5 => session.start_row() | session.carry_out(0, &mut self.api, true)?,
                    _ => match self.network.get(session.connection) {
                        Some(connection) => {
                            let waits = session.waits();
                            let sent = self.replicas[replica].send(edge, connection, now) | waits;
                            self.replicas[replica].receive(edge, connection, &self.api)? | sent
                        }
                        None => false,
                    },
                };
            }
        }
        busy |= self.edge_receives(edge)?;
        busy |= self.with_edge(edge, |edge, connection, _| edge.send(connection, now))?
            | self.edges[edge].waits();
        busy |=
            self.with_edge(edge, |edge, connection, api| edge.commit(connection, Commit::Durable, api))?;
        Ok(busy)
    }

    fn check(&self) -> Result<()> {
        let mut truth = Placement::default();
        // Pods first, so that every text they refer to is kept.
        let (pods, others): (Vec<_>, Vec<_>) =
            self.api.objects.values().partition(|object| object.kind == ObjectKind::Pod);
        for object in pods.into_iter().chain(others) {
            truth.put(arrived(object));
        }
        for (number, edge) in self.edges.iter().enumerate() {
            let wanted: BTreeMap<String, u64> = truth
                .set_of(&edge_name(number))
                .into_iter()
                .map(|wanted| (format!("{} {}", wanted.key, wanted.uid), wanted.mark))
                .collect();
            let mut held = edge.held()?;
            if self.dialect == Dialect::KubeEdge {
                // It has no inventory: what a node took without the cloud's hearing of it, and that was deleted meanwhile, stays
                // (a pod goes when the node speaks of it).
                let is_known = |name: &String| {
                    let uid = name.rsplit(' ').next().unwrap_or_default().to_owned();
                    self.api.records.contains_key(&(number, uid))
                };
                held.retain(|name, _| wanted.contains_key(name) || is_known(name));
            }
            ensure!(held == wanted, "edge {number} holds {held:?} instead of {wanted:?}");
            ensure!(edge.is_in_step(), "edge {number} has everything and was not told so");
            ensure!(edge.outbox_rows()? == 0, "the outbox of edge {number} is not empty");
            for (device, values) in edge.reported.iter().filter(|_| !edge.has_lost_reports) {
                let written = self.api.devices.get(device).map(|device| device.values.as_slice());
                let written = written.unwrap_or_default();
                // Values in between may have been merged into later ones.
                let in_order = written.windows(2).all(|pair| pair[0] < pair[1]);
                ensure!(
                    in_order && written.last() == values.last(),
                    "{device}: the API server was told {written:?} of {values:?}"
                );
            }
        }
        Ok(())
    }
}
