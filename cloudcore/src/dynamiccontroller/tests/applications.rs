use futures_util::{StreamExt as _, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use message::{Application, Asked, Bytes64, Message, Upstream};

use super::*;
use crate::desired::{Source as _, Sources};
use crate::dynamiccontroller::{Applications, Watches};

fn applications(requests: &Requests) -> (Applications, Watches) {
    let watches = Watches::new(requests.clone(), Sources::new(Vec::new()));
    (Applications::new(requests.clone(), watches.clone()), watches)
}

fn application(verb: &str, key: &str, option: Value, body: &str) -> Application {
    let option = Bytes64::new(option.to_string().into_bytes());
    let req_body = Bytes64::new(body.as_bytes().to_vec());
    let mut application = Application::default();
    (application.verb, application.key, application.nodename) = (verb.into(), key.into(), "edge-1".into());
    (application.option, application.req_body) = (option, req_body);
    application.named()
}

/// The outcome, over the wire both ways.
async fn outcome(applications: &Applications, application: Application) -> Result<Vec<u8>, Status> {
    let asked = Upstream::Application(Asked::One(Box::new(application))).to_message(0);
    let Ok(Upstream::Application(asked_for)) = Upstream::parse(&asked) else { panic!("{asked:?}") };
    let answer = applications.answer(&NodeName::new("edge-1").unwrap(), &asked_for).await;
    let answer: Message = answer.answer(&asked.header.msg_id, 0);
    assert_eq!(answer.header.parent_msg_id, asked.header.msg_id);
    assert_eq!(answer.route.operation, "applicationResponse");
    answer.content.parse::<Application>().unwrap().into_outcome()
}

#[tokio::test]
async fn without_node_identity_an_application_reads_discovery_and_hears_which_switch_is_off() {
    let (requests, seen) = requests();
    let (applications, _) = applications(&requests);
    for path in ["/api", "/apis/apps/v1", "/version", "/healthz", "/openapi/v2"] {
        let body = outcome(&applications, application("get", path, json!({}), "")).await.unwrap();
        assert_eq!(body, b"the answer", "{path}");
    }
    let asked = seen.lock().unwrap().len();
    for (verb, key) in [
        ("get", "/core/v1/services/d/s"),
        ("list", "/core/v1/services/null/null"),
        ("delete", "/core/v1/pods/d/p"),
        ("get", "/metrics"),
    ] {
        let status = outcome(&applications, application(verb, key, json!({}), "")).await.unwrap_err();
        let is_told = status.message.contains("modules.dynamicController.nodeIdentity");
        assert!(is_told || status.code == 400, "{verb} {key}: {status}");
    }
    assert_eq!(seen.lock().unwrap().len(), asked, "the API server heard of it");
}

#[tokio::test]
async fn an_application_is_carried_out_as_the_node_of_the_session_and_by_the_rules_of_requests() {
    let (requests, seen) = requests_with(true);
    let (applications, _) = applications(&requests);
    let patch = json!({"Name": "edge-1", "PatchType": "application/merge-patch+json", "Data": "e30=",
        "Options": {"fieldManager": "m"}, "Subresources": ["status"]});
    for (asked, line) in [
        (
            application("list", "/core/v1/services/null/null", json!({"labelSelector": "a=b"}), ""),
            "GET /api/v1/services?labelSelector=a%3Db",
        ),
        (
            application("update", "/coordination.k8s.io/v1/leases/kube-node-lease/edge-1", json!({}), "{}"),
            "PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1",
        ),
        (
            application("patch", "/core/v1/nodes/null/edge-1", patch, ""),
            "PATCH /api/v1/nodes/edge-1/status?fieldManager=m",
        ),
    ] {
        assert_eq!(outcome(&applications, asked).await.unwrap(), b"the answer");
        let (seen, headers, _) = seen.lock().unwrap().last().unwrap().clone();
        assert_eq!(seen, line);
        assert_eq!(headers["impersonate-user"], "system:node:edge-1");
    }
    let asked = seen.lock().unwrap().len();
    let mut of_another = application("get", "/core/v1/nodes/null/edge-2", json!({}), "");
    of_another.nodename = "edge-2".into();
    for refused in [
        application("get", "/core/v1/secrets/a/s", json!({}), ""),
        application("list", "/core/v1/configmaps/a/null", json!({}), ""),
        application("update", "/core/v1/nodes/null/edge-2", json!({}), "{}"),
        of_another,
    ] {
        assert_eq!(outcome(&applications, refused).await.unwrap_err().code, 403);
    }
    let large = application("update", "/core/v1/nodes/null/edge-1", json!({}), &" ".repeat(BODY + 1));
    assert_eq!(outcome(&applications, large).await.unwrap_err().code, 413);
    assert_eq!(seen.lock().unwrap().len(), asked, "the API server heard of it");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_costs_an_application_its_deadline() {
    let service = tower::service_fn(|_: Request<KubeBody>| {
        std::future::pending::<Result<Response<KubeBody>, Infallible>>()
    });
    let requests = Requests::new(Cluster::with_client(kube::Client::new(service, "default")), None);
    let (applications, _) = applications(&requests);
    let status = outcome(&applications, application("get", "/version", json!({}), "")).await.unwrap_err();
    assert_eq!(status.code, 504);
}

/// An API server with two services and a watch that never ends; `has_both`: the second is there. The first is deleted when told.
fn watched(has_both: Arc<std::sync::atomic::AtomicBool>, deletes: Arc<tokio::sync::Notify>) -> Requests {
    let service = tower::service_fn(move |request: Request<KubeBody>| {
        let has_both = has_both.load(std::sync::atomic::Ordering::Relaxed);
        let deletes = deletes.clone();
        async move {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let item = |name: &str| json!({"metadata": {"name": name, "namespace": "d", "uid": name, "resourceVersion": "5"}});
            let items = if has_both { vec![item("a"), item("b")] } else { vec![item("a")] };
            let list = json!({"kind": "ServiceList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": items});
            // In the order of Kubernetes' own text.
            let deleted = concat!(
                r#"{"type":"DELETED","object":{"kind":"Service","apiVersion":"v1","#,
                r#""metadata":{"name":"a","namespace":"d","uid":"a","resourceVersion":"9"}}}"#,
            );
            let never = stream::pending::<Result<Frame<Bytes>, Infallible>>();
            let told = stream::once(async move {
                deletes.notified().await;
                Ok(Frame::data(Bytes::from(format!("{deleted}\n"))))
            });
            let body = match query.contains("watch=true") {
                true => http_body_util::BodyExt::boxed(StreamBody::new(Box::pin(told.chain(never)))),
                false => Full::from(list.to_string()).boxed(),
            };
            Ok::<_, Infallible>(Response::new(body))
        }
    });
    let cluster = Cluster::with_client(kube::Client::new(service, "default"));
    let rights = Rights::new(Downstream::default(), Devices::default(), cluster.clone());
    Requests::new(cluster, Some(rights))
}

/// The next message of what is watched, acknowledged.
async fn next(set: &crate::desired::NodeSet) -> Message {
    loop {
        let taken = set.without_wake_watched(|watched| {
            let sent = watched.next(crate::desired::Window::WATCHED, tokio::time::Instant::now())?;
            watched.acked(sent.ticket);
            Some(sent.body.to_message(0))
        });
        if let Some(message) = taken.flatten() {
            return message;
        }
        let changed = tokio::time::timeout(std::time::Duration::from_secs(60), set.changed());
        changed.await.expect("nothing is sent any more");
    }
}

fn about(message: &Message) -> String {
    assert_eq!(message.route.source, "dynamiccontroller");
    format!("{} {} {}", message.route.operation, message.route.resource, message.header.resourceversion)
}

#[tokio::test(start_paused = true)]
async fn what_a_node_watches_is_sent_and_taken_away_also_after_its_session() {
    let has_both = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let deletes = Arc::new(tokio::sync::Notify::new());
    let requests = watched(has_both.clone(), deletes.clone());
    let (applications, watches) = applications(&requests);
    let watch = application("watch", "/core/v1/services/null/null", json!({}), "");
    let status = outcome(&applications, watch.clone()).await.unwrap_err();
    assert_eq!(status.code, 503, "without a session: {status}");

    let (first, second) = (crate::desired::NodeSet::default(), crate::desired::NodeSet::default());
    watches.subscribe("edge-1", 1, &first);
    outcome(&applications, watch.clone()).await.unwrap();
    let mut told = vec![about(&next(&first).await), about(&next(&first).await)];
    told.sort();
    assert_eq!(told, ["insert d/service/a 5", "insert d/service/b 5"]);
    deletes.notify_one();
    assert_eq!(about(&next(&first).await), "delete d/service/a 9");

    // The second goes while the node is away; it watches still, and does not say so.
    watches.unsubscribe("edge-1", 1);
    has_both.store(false, std::sync::atomic::Ordering::Relaxed);
    watches.subscribe("edge-1", 2, &second);
    let mut told = vec![about(&next(&second).await), about(&next(&second).await)];
    told.sort();
    assert_eq!(told, ["delete d/service/b 7", "insert d/service/a 5"]);
    let node = NodeName::new("edge-1").unwrap();
    let all = message::Applications::from([(watch.id.clone(), watch.clone())]);
    let failed = applications.answer(&node, &Asked::Watches(all)).await;
    assert_eq!(failed, Asked::Watches(message::Applications::new()));

    // One that the node may not have is told as failed; those that are not told end.
    let pods = application("watch", "/core/v1/pods/null/null", json!({}), "");
    let all = message::Applications::from([(pods.id.clone(), pods.clone())]);
    let Asked::Watches(failed) = applications.answer(&node, &Asked::Watches(all)).await else { panic!() };
    assert_eq!(failed[&pods.id].clone().into_outcome().unwrap_err().code, 403);
    // What ended does not go on after the next connect.
    watches.unsubscribe("edge-1", 2);
    let third = crate::desired::NodeSet::default();
    watches.subscribe("edge-1", 3, &third);
    let goes_on = tokio::time::timeout(std::time::Duration::from_secs(60), third.changed()).await;
    assert!(goes_on.is_err(), "a watch that ended goes on");
}
