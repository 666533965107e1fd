use std::time::Duration;

use link::memory;
use message::{Json, NodeName, ObjectKey, ObjectKind, Origin, Request, ResourceVersion, Verb};
use metamanager::intake::{Intake, Outlets};
use metamanager::pushes::Pushes;
use metamanager::{LinkState, Objects, Outbox, cloud::Cloud};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{Metrics, Signs};

/// More than the pipe between both ends holds.
const LARGE: usize = 400 * 1024;

struct Edge {
    objects: Objects,
    outbox: Outbox,
    pushes: Pushes,
}

fn edge() -> Edge {
    let store = metamanager::database::in_memory().unwrap();
    Edge { objects: Objects::new(store.clone()), outbox: Outbox::new(store), pushes: Pushes::default() }
}

/// Runs a session of `edge` until `with` has ended.
async fn session<T>(edge: &Edge, halves: (Sender, Receiver), with: impl Future<Output = T>) -> T {
    let (_link, state) = watch::channel(LinkState::Connected);
    let (_cloud, mut calls) = Cloud::channel(state.clone());
    let (_uplink, mut streams) = crate::Uplink::channel(state);
    let outlets = Outlets { pushes: edge.pushes.clone(), ..Outlets::default() };
    let intake = Intake::new(edge.objects.clone(), outlets);
    let node = NodeName::new("e1").unwrap();
    let session = Session {
        node: &node,
        heartbeat: Duration::from_secs(15),
        intake: &intake,
        outbox: &edge.outbox,
        calls: &mut calls,
        streams: &mut streams,
        node_api: None,
        stop: CancellationToken::new(),
        metrics: Metrics::default(),
        signs: Signs::to(&daemon::health::Health::default()),
    };
    tokio::select! {
        end = run(halves.0, halves.1, session) => panic!("the session ended: {end}"),
        done = with => done,
    }
}

fn status(bytes: usize) -> Upstream {
    let patch = format!(r#"{{"status": "{}"}}"#, "x".repeat(bytes));
    Upstream::Ask(Request::PatchPodStatus { namespace: "d".into(), name: "p".into(), patch })
}

fn event() -> Upstream {
    let (namespace, name, object) = ("d".into(), "e".into(), Json::string("e"));
    Upstream::Event { namespace, name, verb: Verb::Create, object }
}

async fn soon<T, F: Future<Output = Option<T>>>(mut look: impl FnMut() -> F) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.unwrap()
}

#[tokio::test]
async fn an_edge_that_waits_for_the_cloud_to_read_goes_on_reading() {
    let ((mut to_edge, _cloud_reads_nothing), halves) = memory::pair().await;
    let edge = edge();
    edge.outbox.submit(status(LARGE)).await.unwrap();
    let key = ObjectKey::new(Some("d"), ObjectKind::ConfigMap, "c");
    let put = Downstream::Put {
        key: key.clone(),
        origin: Origin::EdgeController,
        version: ResourceVersion("7".into()),
        object: Json::of(
            &serde_json::json!({"metadata": {"name": "c", "namespace": "d", "resourceVersion": "7"}}),
        ),
        first: true,
    };
    session(&edge, halves, async {
        to_edge.send(&put.to_message(1)).await.unwrap();
        soon(|| async { edge.objects.get(&key).await.unwrap() }).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_watched_is_told_and_stored_only_if_it_may_be_for_this_nodes_pods() {
    let ((mut to_edge, mut from_edge), halves) = memory::pair().await;
    let edge = edge();
    let mut told = edge.pushes.subscribe();
    let put = |path: &str, node: &str| {
        let key = ObjectKey::parse(path).unwrap();
        let metadata = serde_json::json!({"name": key.name, "namespace": "d", "resourceVersion": "7"});
        let object = Json::of(&serde_json::json!({"metadata": metadata, "spec": {"nodeName": node}}));
        let (origin, version) = (Origin::DynamicController, ResourceVersion("7".into()));
        (key.clone(), Downstream::Put { key, origin, version, object, first: true })
    };
    session(&edge, halves, async {
        for (path, node, is_stored) in [
            ("d/service/s", "", false),
            ("d/configmap/c", "", true),
            ("d/pod/other", "e2", false),
            ("d/pod/own", "e1", true),
            ("null/node/e2", "", false),
        ] {
            let (key, put) = put(path, node);
            to_edge.send(&put.to_message(1)).await.unwrap();
            assert_eq!(told.recv().await.unwrap().key, key);
            assert_eq!(edge.objects.get(&key).await.unwrap().is_some(), is_stored, "{path}");
            loop {
                let Incoming::Message(answer) = from_edge.next().await.unwrap() else { continue };
                if !answer.header.parent_msg_id.is_empty() {
                    break;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_message_that_nobody_answers_is_kept_until_it_is_written() {
    let ((_to_edge, mut cloud), halves) = memory::pair().await;
    let edge = edge();
    edge.outbox.submit(status(LARGE)).await.unwrap();
    edge.outbox.submit(event()).await.unwrap();
    session(&edge, halves, async {
        // Time in which a session that does not wait for its writes would have removed the event.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let rows = edge.outbox.next(0, 10).await.unwrap();
        assert_eq!(rows.len(), 2, "behind a message that the cloud does not read");
        let reads = async { while cloud.next().await.is_ok() {} };
        let event_is_gone = soon(|| async {
            let rows = edge.outbox.next(0, 10).await.unwrap();
            (rows.len() == 1).then_some(rows)
        });
        tokio::select! {
            rows = event_is_gone => assert!(rows[0].message.content.text().len() > LARGE),
            _ = reads => panic!("the link ended"),
        }
    })
    .await;
}
