//! Objects of one resource that a watch of somebody else's shows, with a client of his.

use futures_util::stream::{Stream, StreamExt as _, iter};
use kube::core::ApiResource;
use kube::runtime::watcher;
use kube::{Api, runtime};
use message::{Json, Status};

use super::cluster::to_status;
use super::raw::RawObject;
use super::resource::stub;
use super::watch::{PAGE, Tracker, WatchEvent};

/// Seconds after which a watch is asked to end. The library takes one that stays silent for five seconds longer as dead.
const WATCH_SECONDS: u32 = 240;

/// What is watched.
#[derive(Clone, Debug)]
pub struct Selection {
    pub resource: ApiResource,
    /// `None`: all namespaces, or a resource of the cluster.
    pub namespace: Option<String>,
    pub labels: Option<String>,
    pub fields: Option<String>,
}

impl Selection {
    /// What is there, what changes and what goes, across lists and watches. After an error it is asked for again when the next
    /// event is: whoever reads it waits meanwhile.
    pub fn events(
        &self,
        client: kube::Client,
    ) -> impl Stream<Item = Result<WatchEvent, Status>> + Send + use<> {
        let Selection { resource, namespace, labels, fields } = self.clone();
        let api: Api<RawObject> = match &namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let mut config = watcher::Config::default().page_size(PAGE).timeout(WATCH_SECONDS);
        (config.label_selector, config.field_selector) = (labels, fields);
        let mut known = Tracker::default();
        runtime::watcher(api, config).flat_map(move |event| {
            let told = match event {
                Ok(event) => known.on_event(event, &resource).into_iter().map(Ok).collect(),
                Err(error) => vec![Err(why(error))],
            };
            iter(told)
        })
    }

    /// The identity of an object that is gone, as an edge needs it.
    pub fn stub(&self, namespace: Option<&str>, name: &str, uid: &str) -> Json {
        stub(&self.resource, namespace, name, uid)
    }
}

/// The API server's own words, or 503.
fn why(error: watcher::Error) -> Status {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => to_status(error),
        watcher::Error::WatchError(status) => to_status(kube::Error::Api(status)),
        other => Status::new(503, "ServiceUnavailable", daemon::errors::describe(&other)),
    }
}
