use link::memory;
use message::NodeName;
use metamanager::intake::Outlets;
use metamanager::{LinkState, Objects, Outbox, cloud::Cloud};
use native::frames::Welcome;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{Metrics, Signs, Uplink};

#[tokio::test]
async fn a_stream_that_is_asked_for_before_the_cloud_has_said_whether_it_takes_any_waits_for_its_word() {
    for takes_streams in [true, false] {
        let ((mut to_edge, mut from_edge), halves) = memory::native_pair().await;
        let store = metamanager::database::in_memory().unwrap();
        let (objects, outbox) = (Objects::new(store.clone()), Outbox::new(store));
        // EdgeHub tells of a link as soon as there is one.
        let (_link, state) = watch::channel(LinkState::Connected);
        let (_cloud, mut calls) = Cloud::channel(state.clone());
        let (uplink, mut streams) = Uplink::channel(state);
        let intake = Intake::new(objects, Outlets::default());
        let node = NodeName::new("edge-1").unwrap();
        let session = Session {
            node: &node,
            heartbeat: Duration::from_secs(15),
            intake: &intake,
            outbox: &outbox,
            calls: &mut calls,
            streams: &mut streams,
            node_api: None,
            stop: CancellationToken::new(),
            metrics: Metrics::default(),
            signs: Signs::to(&daemon::health::Health::default()),
        };
        let cloud = async {
            let hello = from_edge.next().await.unwrap();
            assert!(matches!(hello, IncomingFrame::Frame(body) if matches!(*body, Body::Hello(_))));
            let welcome = Welcome { takes_streams, ..Welcome::default() };
            to_edge.send(Body::Welcome(welcome)).await.unwrap();
        };
        let (opened, ()) = tokio::select! {
            end = run(halves.0, halves.1, session) => panic!("the session ended: {end}"),
            done = async { tokio::join!(uplink.open(), cloud) } => done,
        };
        match takes_streams {
            true => assert!(opened.is_ok()),
            false => assert!(matches!(opened, Err(NoStream::Unable))),
        }
    }
}
