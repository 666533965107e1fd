//! A start beside many devices, against an API server that counts what it is asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use daemon::health::Health;
use futures_util::stream;
use http::{Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::kubernetes::{self, Cluster};

const DEVICES: usize = 10_000;
const NODES: usize = 10;

/// An API server with devices, of which the first `with_status` have a DeviceStatus.
struct Api {
    with_status: usize,
    /// It says nothing to what concerns a DeviceStatus.
    is_silent: bool,
    asked: Mutex<BTreeMap<String, usize>>,
}

impl Api {
    fn device(number: usize) -> Value {
        json!({
            "metadata": {"name": format!("d{number:05}"), "namespace": "n", "uid": format!("u{number}"), "resourceVersion": "7"},
            "spec": {"nodeName": format!("e{}", number % NODES), "deviceModelRef": {"name": format!("m{}", number % 3)}},
        })
    }

    fn answer(&self, request: &Request<Body>) -> Response<BoxBody<Bytes, Infallible>> {
        let query = request.uri().query().unwrap_or_default();
        if query.contains("watch=true") {
            return Response::new(BodyExt::boxed(StreamBody::new(stream::pending::<
                Result<Frame<Bytes>, Infallible>,
            >())));
        }
        let collection = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        *self.asked.lock().unwrap().entry(format!("{} {collection}", request.method())).or_default() += 1;
        if request.method() == Method::POST {
            return Response::new(Full::from("{}").boxed());
        }
        let parameter = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse::<usize>().ok())
        };
        let (from, limit) = (parameter("continue").unwrap_or(0), parameter("limit").unwrap_or(usize::MAX));
        let (total, item): (usize, fn(usize) -> Value) = match collection.as_str() {
            "devices" => (DEVICES, Api::device),
            "devicestatuses" => {
                (self.with_status, |number| json!({"metadata": Api::device(number)["metadata"]}))
            }
            _ => (
                3,
                |number| json!({"metadata": {"name": format!("m{number}"), "namespace": "n", "uid": "m", "resourceVersion": "7"}}),
            ),
        };
        let end = total.min(from.saturating_add(limit));
        let mut list =
            json!({"metadata": {"resourceVersion": "7"}, "items": (from..end).map(item).collect::<Vec<_>>()});
        if end < total {
            list["metadata"]["continue"] = json!(end.to_string());
        }
        Response::new(Full::from(list.to_string()).boxed())
    }

    fn asked(&self) -> BTreeMap<String, usize> {
        self.asked.lock().unwrap().clone()
    }
}

/// The room with its watches, until it has seen everything.
async fn start(with_status: usize, is_silent: bool) -> (Arc<Api>, Devices, CancellationToken) {
    let api = Arc::new(Api { with_status, is_silent, asked: Mutex::default() });
    let answering = api.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = answering.answer(&request);
        let never = answering.is_silent && request.uri().path().ends_with("devicestatuses");
        async move {
            if never {
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let cluster = Cluster::with_client(kube::Client::new(service, "default"));
    let (devices, stop) = (Devices::default(), CancellationToken::new());
    let (room, seen) = mpsc::channel(256);
    for resource in WATCHED {
        tokio::spawn(kubernetes::feed(cluster.clone(), *resource, room.clone(), stop.clone()));
    }
    let follower = Follower::new(seen, WATCHED.len(), Health::default().beat("devicecontroller"));
    let mut complete = follower.complete();
    tokio::spawn(devices.clone().create_statuses(cluster, complete.clone(), stop.clone()));
    tokio::spawn(devices.clone().run(follower, stop.clone()));
    complete.wait_for(|complete| *complete).await.unwrap();
    (api, devices, stop)
}

#[tokio::test(start_paused = true)]
async fn a_start_beside_ten_thousand_devices_costs_a_few_lists() {
    let (api, devices, stop) = start(DEVICES - 3, false).await;
    assert_eq!(devices.lock().inventory.members_of("e1").len(), DEVICES / NODES);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = api.asked();
    // What is missing is made, and only that.
    assert_eq!(asked["POST devicestatuses"], 3, "{asked:?}");
    let total: usize = asked.values().sum();
    assert!(total <= 2 * DEVICES / 500 + 1 + 3, "{asked:?}");
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_says_nothing_of_statuses_holds_up_no_start() {
    let began = tokio::time::Instant::now();
    let (_api, devices, stop) = start(0, true).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(devices.lock().inventory.members_of("e1").len(), DEVICES / NODES);
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn statuses_that_are_missing_are_made_at_a_modest_rate_and_not_where_a_report_made_them() {
    let (api, devices, stop) = start(0, false).await;
    for number in 0..5000 {
        devices.missing.found("n", &format!("d{number:05}"));
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let made = api.asked()["POST devicestatuses"];
    assert!((100..=202).contains(&made), "{made} in ten seconds");
    tokio::time::sleep(Duration::from_secs(600)).await;
    let made = api.asked()["POST devicestatuses"];
    assert!((5000..5010).contains(&made), "{made}");
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_device_that_appears_gets_its_status_without_a_list() {
    let (api, devices, stop) = start(DEVICES, false).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = api.asked();
    let object = Json::encode(&Api::device(DEVICES)).unwrap();
    devices.take_in(Resource::Devices, WatchEvent::Put { meta: Meta::of(&object), object });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = api.asked();
    assert_eq!(after["POST devicestatuses"], 1);
    assert_eq!(after["GET devicestatuses"], before["GET devicestatuses"]);
    stop.cancel();
}
