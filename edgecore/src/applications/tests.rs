use message::{Application, Asked, Json, Reply, Upstream};
use metamanager::LinkState;
use metamanager::cloud::Call;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use super::*;

/// The application that a request becomes, if it does, and the answer to it, once the cloud did with it as told.
async fn ask(
    text: &str,
    carry_out: impl FnOnce(Application) -> Application,
) -> (Option<Application>, String) {
    let (_link, state) = watch::channel(LinkState::Connected);
    let (cloud, mut calls) = Cloud::channel(state);
    let room = Applications::new(cloud, NodeName::new("e1").unwrap(), Pushes::default());
    let mut stream = room.connect();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let mut asked = None;
    tokio::select! {
        read = stream.read_to_string(&mut answer) => { read.unwrap(); }
        call = calls.recv() => {
            let Some(Call { upstream: Upstream::Application(Asked::One(application)), answer: to }) = call else { panic!() };
            asked = Some((*application).clone());
            let done = Json::encode(&carry_out(*application)).unwrap();
            to.send(Reply::Object(done)).unwrap();
            stream.read_to_string(&mut answer).await.unwrap();
        }
    }
    (asked, answer)
}

#[tokio::test]
async fn the_node_asks_a_kubeedge_cloud_by_applications() {
    let text = "GET /api/v1/services?labelSelector=a HTTP/1.1\r\nHost: x\r\nCauseway-Caller: node\r\n\r\n";
    let (asked, answer) = ask(text, |asked| asked.approved(b"{\"kind\":\"ServiceList\"}".to_vec())).await;
    let asked = asked.unwrap();
    assert_eq!((asked.verb.as_str(), asked.key.as_str()), ("list", "/core/v1/services/null/null"));
    assert_eq!((asked.nodename.as_str(), asked.id.len()), ("e1", 64));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{\"kind\":\"ServiceList\"}"), "{answer}");

    let text = "DELETE /api/v1/namespaces/d/pods/p HTTP/1.1\r\nHost: x\r\nCauseway-Caller: node\r\n\r\n";
    let (_, answer) = ask(text, |asked| asked.approved(Vec::new())).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Success"), "{answer}");
    let (_, answer) = ask(text, |asked| asked.rejected(Status::new(404, "NotFound", "gone"))).await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("gone"), "{answer}");
}

#[tokio::test]
async fn a_token_is_worth_nothing_to_a_kubeedge_cloud_but_discovery_is_everybodys() {
    let of = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n\r\n");
    let (asked, answer) = ask(&of("/api/v1/services"), |asked| asked).await;
    assert!(asked.is_none() && answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains("KubeEdge"), "{answer}");
    let (asked, answer) = ask(&of("/apis/apps/v1"), |asked| asked.approved(b"{}".to_vec())).await;
    assert_eq!(asked.unwrap().key, "/apis/apps/v1");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn protobuf_of_either_end_is_json_to_the_other() {
    // APIVersions {versions: ["v1"]} as kube-apiserver writes it.
    let document = b"k8s\0\n\x0f\n\0\x12\x0bAPIVersions\x12\x04\n\x02v1\x1a\0\"\0".to_vec();
    let text = "GET /api HTTP/1.1\r\nHost: x\r\n\r\n";
    let (_, answer) = ask(text, |asked| asked.approved(document.clone())).await;
    assert!(answer.contains("APIVersions") && answer.contains(r#""versions":["v1"]"#), "{answer}");
    let body = String::from_utf8(document).unwrap();
    let text = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nCauseway-Caller: node\r\nContent-Type: \
         application/vnd.kubernetes.protobuf\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (asked, _) = ask(&text, |asked| asked.approved(Vec::new())).await;
    assert!(asked.unwrap().req_body.bytes().starts_with(b"{"));
    let (asked, answer) = ask("GET /openapi/v3/api/v1 HTTP/1.1\r\nHost: x\r\n\r\n", |asked| asked).await;
    assert!(asked.is_none() && answer.starts_with("HTTP/1.1 503"), "{answer}");
}

/// A cloud that carries out what it is asked to, and a watch of services there.
struct Watched {
    link: watch::Sender<LinkState>,
    calls: tokio::sync::mpsc::Receiver<Call>,
    room: Applications,
    pushes: Pushes,
}

impl Watched {
    fn start() -> Watched {
        let (link, state) = watch::channel(LinkState::Connected);
        let (cloud, calls) = Cloud::channel(state);
        let pushes = Pushes::default();
        let room = Applications::new(cloud, NodeName::new("e1").unwrap(), pushes.clone());
        Watched { link, calls, room, pushes }
    }

    async fn begin(&self, since: i64) -> tokio::io::BufReader<DuplexStream> {
        self.begin_for(300, since).await
    }

    async fn begin_for(&self, seconds: u32, since: i64) -> tokio::io::BufReader<DuplexStream> {
        let path = format!(
            "/api/v1/services?watch=1&labelSelector=a&timeoutSeconds={seconds}&resourceVersion={since}"
        );
        let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\nCauseway-Caller: node\r\n\r\n");
        let mut stream = self.room.connect();
        stream.write_all(text.as_bytes()).await.unwrap();
        tokio::io::BufReader::new(stream)
    }

    /// The next thing the cloud is asked, which it does: `watch ID`, or `sync IDS`.
    async fn asked(&mut self) -> String {
        let Some(Call { upstream: Upstream::Application(asked), answer }) = self.calls.recv().await else {
            panic!()
        };
        let (told, done) = match asked {
            Asked::One(one) => {
                let told = format!("{} {}", one.verb, &one.id[..4]);
                (told, Json::encode(&one.approved(Vec::new())).unwrap())
            }
            Asked::Watches(all) => {
                let ids: Vec<&str> = all.keys().map(|id| &id[..4]).collect();
                (format!("sync {}", ids.join(" ")), Json::from_text("{}".to_owned()).unwrap())
            }
        };
        answer.send(Reply::Object(done)).unwrap();
        told.trim_end().to_owned()
    }

    fn push(&self, name: &str, version: i64) {
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "d",
            "resourceVersion": version.to_string(), "labels": {"a": "b"}}});
        let key = message::ObjectKey::parse(&format!("d/service/{name}")).unwrap();
        self.pushes.tell(metamanager::pushes::Pushed { key, object: Json::of(&object), is_gone: false });
    }
}

/// The next event: `MODIFIED one`, `LIST`, `ERROR 503`.
async fn event(stream: &mut tokio::io::BufReader<DuplexStream>) -> String {
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).await.unwrap() > 0, "the watch ended");
        let Ok(event) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
        let Some(kind) = event["type"].as_str() else { continue };
        let object = &event["object"];
        let what = object["metadata"]["name"].as_str().map(str::to_owned);
        let what = what.or_else(|| object["code"].as_u64().map(|code| code.to_string()));
        return [kind, &what.unwrap_or_default()].join(" ").trim_end().to_owned();
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_kubeedge_cloud_pushes_are_the_events_of_a_watch() {
    let mut cloud = Watched::start();
    // Whether somebody may watch is asked so, and is no reader.
    let mut probe = cloud.begin_for(1, 10).await;
    assert_eq!(cloud.asked().await, "sync", "what a process before this one watched ends");
    let begun = cloud.asked().await;
    assert!(begun.starts_with("watch "), "{begun}");
    probe.fill_buf().await.unwrap();
    drop(probe);
    let mut first = cloud.begin(10).await;
    assert_eq!(event(&mut first).await, "LIST", "what happened before it was begun");
    // Between the list and the next watch.
    cloud.push("between", 13);
    drop(first);
    // The same watch goes on, and nobody is asked.
    let mut second = cloud.begin(12).await;
    second.fill_buf().await.unwrap();
    for (name, version) in [("old", 12), ("two", 15), ("one", 14)] {
        cloud.push(name, version);
    }
    for name in ["between", "one", "two"] {
        assert_eq!(event(&mut second).await, format!("MODIFIED {name}"));
    }
    // What is lost is found by a list.
    assert_eq!(event(&mut second).await, "LIST");
    assert!(cloud.calls.try_recv().is_err());
    // Nobody watches any more.
    drop(second);
    assert_eq!(cloud.asked().await, "sync");
}

#[tokio::test(start_paused = true)]
async fn after_a_reconnect_the_cloud_is_told_what_is_watched_and_what_was_missed_is_listed() {
    let mut cloud = Watched::start();
    let mut stream = cloud.begin(10).await;
    cloud.asked().await;
    let begun = cloud.asked().await.replace("watch ", "");
    assert_eq!(event(&mut stream).await, "LIST");
    let mut stream = cloud.begin(12).await;
    stream.fill_buf().await.unwrap();
    cloud.link.send_replace(LinkState::Disconnected);
    assert_eq!(event(&mut stream).await, "ERROR 503");
    cloud.link.send_replace(LinkState::Connected);
    assert_eq!(cloud.asked().await, format!("sync {begun}"));
    let mut again = cloud.begin(12).await;
    assert_eq!(event(&mut again).await, "LIST");
    assert!(cloud.calls.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn what_the_cloud_does_not_push_is_listed_each_minute() {
    let mut cloud = Watched::start();
    let mut stream = cloud.begin(10).await;
    cloud.asked().await;
    let Some(Call { upstream: Upstream::Application(Asked::One(one)), answer }) = cloud.calls.recv().await
    else {
        panic!()
    };
    let refused = one.rejected(Status::new(403, "Forbidden", "no"));
    answer.send(Reply::Object(Json::encode(&refused).unwrap())).unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(event(&mut stream).await, "LIST");
    assert!(began.elapsed().as_secs() >= 59, "at once, whoever watches would list without end");
    // It is not asked each time.
    let mut again = cloud.begin(10).await;
    assert_eq!(event(&mut again).await, "LIST");
    assert!(cloud.calls.try_recv().is_err());
}
