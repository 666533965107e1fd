//! Requests at a steady rate, whether or not the ones before are answered: how long each took from when it was due.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use http::Request;
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::result::{percentile, rounded};

/// Connections that requests are shared between.
const CONNECTIONS: usize = 8;
/// Requests before it counts: connections are made, and the cloud has been asked about rights.
const FIRST: usize = 50;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Get,
    List,
}

pub(super) struct Load {
    pub rate: u32,
    pub time: Duration,
}

pub(super) struct Caller {
    clients: Vec<kube::Client>,
    /// Query of each request.
    state: String,
}

/// What was seen.
#[derive(Default)]
pub(super) struct Told {
    /// Milliseconds.
    samples: Vec<(bool, f64)>,
    pub failed: usize,
}

impl Told {
    fn of(&self, of: impl Fn(bool) -> bool) -> Vec<f64> {
        self.samples.iter().filter(|(is_list, _)| of(*is_list)).map(|(_, ms)| *ms).collect()
    }

    pub(super) fn percentile(&self, kind: Kind, percent: f64) -> Value {
        rounded(percentile(&mut self.of(|is_list| is_list == (kind == Kind::List)), percent))
    }

    pub(super) fn percentile_of_all(&self, percent: f64) -> Value {
        rounded(percentile(&mut self.of(|_| true), percent))
    }

    pub(super) fn mean(&self) -> Value {
        let all = self.of(|_| true);
        rounded(all.iter().sum::<f64>() / all.len() as f64)
    }
}

impl Caller {
    pub(super) async fn new(kubeconfig: &Path, state: &str) -> Result<Caller> {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(super::informers::connect(kubeconfig).await?);
        }
        Ok(Caller { clients, state: state.to_owned() })
    }

    pub(super) async fn run(self, load: &Load) -> Result<Told> {
        let caller = Arc::new(self);
        for at in 0..FIRST {
            // It only warms up: failures are counted below.
            let _ = caller.ask(at).await;
        }
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / load.rate);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut under_way, mut told) = (JoinSet::new(), Told::default());
        for at in 0..(load.time.as_secs() as usize * load.rate as usize) {
            let due = ticks.tick().await;
            let caller = caller.clone();
            under_way.spawn(async move {
                let asked = caller.ask(at).await;
                (at, due.elapsed(), asked)
            });
            while let Some(done) = under_way.try_join_next() {
                told.take(done?);
            }
        }
        while let Some(done) = under_way.join_next().await {
            told.take(done?);
        }
        Ok(told)
    }

    /// Gets and lists by turns.
    async fn ask(&self, at: usize) -> Result<()> {
        let path = match at % 2 {
            0 => format!("/api/v1/namespaces/default/pods/pod-{}{}", at % 10, self.state),
            _ => format!("/api/v1/namespaces/default/pods{}", self.state),
        };
        let request = Request::get(path.as_str()).header("Accept", "application/json").body(Body::empty())?;
        let answer = self.clients[at / 2 % self.clients.len()].send(request).await?;
        let code = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        anyhow::ensure!(code == 200 && !body.is_empty(), "{path}: {code}");
        Ok(())
    }
}

impl Told {
    fn take(&mut self, (at, took, asked): (usize, Duration, Result<()>)) {
        match asked {
            Ok(()) => self.samples.push((at % 2 == 1, took.as_secs_f64() * 1000.0)),
            Err(error) => {
                self.failed += 1;
                if self.failed <= 3 {
                    println!("  {error:#}");
                }
            }
        }
    }
}
