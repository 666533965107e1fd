//! One client that follows, and what it has told so far.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::ledger::Event;

type Heard = Arc<Mutex<Vec<Result<Event, String>>>>;

pub(crate) struct Follower {
    pub client: &'static str,
    heard: Heard,
    running: Running,
}

enum Running {
    /// Ends with its input.
    Program(Child),
    Task(JoinHandle<()>),
}

impl Follower {
    /// A program that prints its events.
    pub(crate) fn of_program(client: &'static str, mut command: Command) -> Result<Follower> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("running the informer of {client}"))?;
        let output = child.stdout.take().context("its output")?;
        let heard = Heard::default();
        let writing = heard.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).map_err(|_| line);
                writing.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        });
        Ok(Follower { client, heard, running: Running::Program(child) })
    }

    /// kube's watcher.
    pub(crate) fn of_kube(runtime: &Runtime, client: Client, namespace: &str) -> Follower {
        let heard = Heard::default();
        let writing = heard.clone();
        let api: Api<ConfigMap> = Api::namespaced(client, namespace);
        let task = runtime.spawn(async move {
            let selected = watcher::Config::default().labels("of=informers");
            let stream = watcher(api, selected).default_backoff();
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                let (kind, object) = match event {
                    Ok(watcher::Event::InitApply(object)) => ("ADDED", object),
                    Ok(watcher::Event::Apply(object)) => ("MODIFIED", object),
                    Ok(watcher::Event::Delete(object)) => ("DELETED", object),
                    Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_) => continue,
                };
                let version = object.resource_version().unwrap_or_default();
                let event = Event { kind: kind.to_owned(), name: object.name_any(), version };
                writing.lock().unwrap_or_else(PoisonError::into_inner).push(Ok(event));
            }
        });
        Follower { client: "kube-rs", heard, running: Running::Task(task) }
    }

    /// All events so far.
    ///
    /// # Errors
    /// It said something that is no event.
    pub(crate) fn told(&self) -> Result<Vec<Event>> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let all = heard.iter().map(|event| event.clone().map_err(anyhow::Error::msg));
        all.collect::<Result<_>>().with_context(|| format!("{} said what is no event", self.client))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        match &mut self.running {
            Running::Program(child) => {
                // It may have ended.
                let _ = child.kill();
                let _ = child.wait();
            }
            Running::Task(task) => task.abort(),
        }
    }
}
