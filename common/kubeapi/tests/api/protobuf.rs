//! Answers in Protobuf, to clients that ask for it.

use http::Method;
use http_body_util::BodyExt as _;
use kubeapi::respond::Answer;
use kubeapi::{Api, Settings, request as bodies};
use serde_json::{Value, json};

use crate::asking::{api, json as in_json, request, send};
use crate::double::Double;

const MAPS: &str = "/api/v1/namespaces/n/configmaps";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

fn api_with_maps() -> Api<Double> {
    let api = api(Settings::default());
    for name in ["a", "b"] {
        let map = json!({"metadata": {"name": name, "namespace": "n"}, "data": {"k": "v"}});
        api.backend().put("configmaps", map);
    }
    api
}

async fn get(api: &Api<Double>, accept: &str, path: &str) -> Answer {
    send(api, request(Method::GET, path).header("accept", accept), "").await
}

/// The code, and the answer read as JSON.
async fn told(api: &Api<Double>, accept: &str, path: &str) -> (u16, Value) {
    let answer = get(api, accept, path).await;
    assert_eq!(answer.headers()["content-type"], PROTOBUF, "{path}");
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (code, bodies::parse(PROTOBUF, &bytes).unwrap())
}

#[tokio::test]
async fn objects_lists_metadata_errors_and_discovery_are_told_in_protobuf() {
    let api = api_with_maps();
    for path in [MAPS, &format!("{MAPS}/a"), "/apis", "/api", "/api/v1", "/apis/test.example"] {
        let (code, value) = told(&api, PROTOBUF, path).await;
        let mut wanted = in_json(get(&api, "application/json", path).await).await;
        if path == MAPS {
            // Items of lists are bare, and metadata has no creation here.
            wanted["metadata"] = json!({ "resourceVersion": wanted["metadata"]["resourceVersion"] });
        }
        assert_eq!((code, &value), (200, &wanted), "{path}");
    }
    let partial = format!("{PROTOBUF};as=PartialObjectMetadataList;v=v1;g=meta.k8s.io");
    let (_, list) = told(&api, &partial, MAPS).await;
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(
        list["items"][1],
        json!({ "metadata": { "name": "b", "namespace": "n", "resourceVersion": "2" } })
    );
    let (code, status) = told(&api, PROTOBUF, &format!("{MAPS}/c")).await;
    assert_eq!((code, &status["kind"], &status["details"]["name"]), (404, &json!("Status"), &json!("c")));
    let (code, status) = told(&api, PROTOBUF, "/api/v1/secrets").await;
    assert_eq!((code, &status["message"]), (504, &json!("the cloud did not answer")));
}

#[tokio::test]
async fn aggregated_discovery_says_its_type() {
    let api = api_with_maps();
    let wanted = format!("{PROTOBUF};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let answer = get(&api, &format!("{wanted},application/json"), "/api").await;
    assert_eq!(answer.headers()["content-type"], wanted);
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let list = bodies::parse(PROTOBUF, &bytes).unwrap();
    assert_eq!(list["kind"], "APIGroupDiscoveryList");
    assert_eq!(list["items"][0]["versions"][0]["version"], "v1");
}

#[tokio::test]
async fn the_first_form_that_can_be_served_is() {
    let api = api_with_maps();
    let table = format!("{PROTOBUF};as=Table;v=v1;g=meta.k8s.io");
    for (accept, path, code, media) in [
        (format!("{PROTOBUF},application/json"), MAPS, 200, PROTOBUF),
        (format!("application/json,{PROTOBUF}"), MAPS, 200, "application/json"),
        (format!("text/csv,{PROTOBUF}"), MAPS, 200, PROTOBUF),
        (format!("{table},application/json"), MAPS, 200, "application/json"),
        (table.clone(), MAPS, 406, "application/json"),
        (
            format!("{PROTOBUF};as=PartialObjectMetadata,application/json"),
            &format!("{MAPS}/c"),
            404,
            "application/json",
        ),
        (
            format!("{PROTOBUF};stream=watch"),
            &format!("{MAPS}?watch=1"),
            200,
            &format!("{PROTOBUF};stream=watch"),
        ),
    ] {
        let answer = get(&api, &accept, path).await;
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()),
            (code, media),
            "{accept}"
        );
    }
    let refused = in_json(get(&api, "text/csv", MAPS).await).await;
    let types = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    assert_eq!(
        refused["message"],
        format!(
            "406: Not Acceptable\n\nAvailable representations: {types}, application/json;stream=watch, {PROTOBUF};stream=watch"
        )
    );
    let refused = in_json(get(&api, &table, MAPS).await).await;
    assert_eq!(refused["message"], format!("only the following media types are accepted: {types}"));
}

#[tokio::test]
async fn a_watch_is_a_stream_of_frames_with_their_length_in_front() {
    let api = api_with_maps();
    let mut body = get(&api, PROTOBUF, &format!("{MAPS}?watch=true")).await.into_body();
    for (name, kind) in [("a", "ADDED"), ("b", "ADDED"), ("c", "ADDED")] {
        if name == "c" {
            api.backend().put("configmaps", json!({"metadata": {"name": "c", "namespace": "n"}}));
        }
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let (length, event) = frame.split_at(4);
        assert_eq!(u32::from_be_bytes(length.try_into().unwrap()) as usize, event.len());
        let (head, object) = event.split_at(event.windows(4).position(|four| four == b"k8s\0").unwrap());
        assert_eq!(&head[..2 + kind.len()], [&[0x0a, kind.len() as u8], kind.as_bytes()].concat());
        let object = bodies::parse(PROTOBUF, object).unwrap();
        assert_eq!((&object["kind"], &object["metadata"]["name"]), (&json!("ConfigMap"), &json!(name)));
    }
}
