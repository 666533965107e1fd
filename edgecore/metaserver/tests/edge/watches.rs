//! Watches: views that clients share.

use std::time::Duration;

use metaserver::Bounds;
use serde_json::json;

use crate::client::Who;
use crate::cloud::Cloud;
use crate::node::Node;

const MAPS: &str = "/api/v1/namespaces/shop/configmaps";

async fn update(cloud: &Cloud, name: &str, data: &str) -> i64 {
    let object = json!({ "metadata": { "name": name, "labels": { "app": name } }, "data": { "k": data } });
    let (code, answer) = cloud.admin("PUT", &format!("{MAPS}/{name}"), object).await;
    assert_eq!(code, 200, "{answer}");
    answer["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_of_one_scope_share_one_watch_in_the_cloud() {
    let cloud = Cloud::start().await;
    cloud.config_map("a", "1").await;
    let node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    let listed = node.get(&who, MAPS).await;
    let from = format!("{MAPS}?watch=1&resourceVersion={}", listed.revision());
    let mut watchers = Vec::new();
    for _ in 0..3 {
        watchers.push(node.watch(&who, &from).await);
    }
    let mut whole = node.watch(&who, &format!("{MAPS}?watch=1")).await;
    assert_eq!(whole.brief().await, "ADDED a");
    watchers.push(whole);
    let revision = update(&cloud, "a", "2").await;
    cloud.config_map("b", "1").await;
    let (code, _) = cloud.admin("DELETE", &format!("{MAPS}/b"), json!({})).await;
    assert_eq!(code, 200);
    for lines in &mut watchers {
        let (kind, object) = lines.next().await.unwrap();
        assert_eq!((kind.as_str(), &object["kind"]), ("MODIFIED", &json!("ConfigMap")));
        assert_eq!(object["metadata"]["resourceVersion"], revision.to_string(), "the cloud's");
        assert_eq!([lines.brief().await, lines.brief().await], ["ADDED b", "DELETED b"]);
    }
    // Besides, each watcher asks once whether he may.
    assert_eq!(cloud.count("watch=1"), 1 + 4, "the view's, and each watcher asks whether he may");
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_one_may_watch_is_asked_of_any_state_so_that_no_api_server_waits_for_its_newest() {
    let cloud = Cloud::start().await;
    cloud.config_map("a", "1").await;
    let node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let mut lines = node.watch(&Who::Token(&token), &format!("{MAPS}?watch=1")).await;
    assert_eq!(lines.brief().await, "ADDED a");
    assert_eq!(cloud.count("watch=1&timeoutSeconds=1&resourceVersion=0"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_are_of_the_view_and_what_leaves_them_is_deleted() {
    let cloud = Cloud::start().await;
    cloud.config_map("a", "1").await;
    cloud.config_map("b", "1").await;
    let node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    let mut lines = node.watch(&who, &format!("{MAPS}?watch=1&labelSelector=app%3Da")).await;
    assert_eq!(lines.brief().await, "ADDED a");
    update(&cloud, "b", "2").await;
    update(&cloud, "a", "2").await;
    assert_eq!(lines.brief().await, "MODIFIED a");
    let object = json!({ "metadata": { "name": "a", "labels": { "app": "z" } } });
    cloud.admin("PUT", &format!("{MAPS}/a"), object).await;
    assert_eq!(lines.brief().await, "DELETED a");
    update(&cloud, "a", "3").await;
    assert_eq!(lines.brief().await, "ADDED a");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_during_a_cut_come_once_after_it() {
    let cloud = Cloud::start().await;
    cloud.config_map("a", "1").await;
    let node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    let mut lines = node.watch(&who, &format!("{MAPS}?watch=1")).await;
    assert_eq!(lines.brief().await, "ADDED a");
    cloud.cut();
    update(&cloud, "a", "2").await;
    cloud.config_map("b", "1").await;
    let mut late = node.watch(&who, &format!("{MAPS}?watch=1")).await;
    assert_eq!(late.brief().await, "ADDED a", "the view stands still");
    cloud.mend();
    for lines in [&mut lines, &mut late] {
        assert_eq!([lines.brief().await, lines.brief().await], ["MODIFIED a", "ADDED b"]);
    }
    update(&cloud, "b", "2").await;
    for lines in [&mut lines, &mut late] {
        assert_eq!(lines.brief().await, "MODIFIED b");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_over_a_restart_that_has_no_cloud() {
    let cloud = Cloud::start().await;
    cloud.config_map("a", "1").await;
    let mut node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    let mut lines = node.watch(&who, &format!("{MAPS}?watch=1")).await;
    let (_, object) = lines.next().await.unwrap();
    cloud.cut();
    node.stop().await;
    assert_eq!(lines.brief().await, "");
    node.begin().await;
    let mut again = node.watch(&who, &format!("{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")).await;
    let (kind, same) = again.next().await.unwrap();
    assert_eq!((kind.as_str(), &same), ("ADDED", &object));
    let (kind, end) = again.next().await.unwrap();
    assert_eq!(
        (kind.as_str(), &end["metadata"]["annotations"]["k8s.io/initial-events-end"]),
        ("BOOKMARK", &json!("true"))
    );
    let seen = end["metadata"]["resourceVersion"].as_str().unwrap();
    let mut from = node.watch(&who, &format!("{MAPS}?watch=1&resourceVersion={seen}")).await;
    let mut old = node.watch(&who, &format!("{MAPS}?watch=1&resourceVersion=1")).await;
    assert_eq!(old.brief().await, "ERROR 410", "not retained");
    update(&cloud, "a", "2").await;
    cloud.mend();
    for lines in [&mut again, &mut from] {
        assert_eq!(lines.brief().await, "MODIFIED a");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_in_the_middle_of_a_list_leaves_the_state_before() {
    let cloud = Cloud::start().await;
    for number in 0..40 {
        cloud.config_map(&format!("m{number:02}"), &"x".repeat(2000)).await;
    }
    let node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    let before = node.get(&who, MAPS).await;
    cloud.config_map("new", "1").await;
    cloud.cut_after(40_000);
    let cut = node.get(&who, MAPS).await;
    cloud.is_cut().await;
    assert_eq!(cut.body, before.body);
    assert!(!cut.warnings.is_empty());
    assert_eq!(node.get(&who, MAPS).await.body, before.body);
    // The same for a view, which lists in pages.
    cloud.mend();
    let everywhere = "/api/v1/namespaces/shop/configmaps?watch=1&labelSelector=app";
    cloud.cut_after(40_000);
    let told = node.get(&who, &format!("{everywhere}&timeoutSeconds=1")).await;
    cloud.is_cut().await;
    assert_eq!(told.code, 200, "from the list without selectors: {}", told.body);
    cloud.mend();
    let mut lines = node.watch(&who, everywhere).await;
    let mut names = Vec::new();
    while names.len() < 41 {
        names.push(lines.brief().await);
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 41, "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_outlives_the_rights_of_him_who_began_it_and_shows_him_nothing_more() {
    let cloud = Cloud::start().await;
    cloud.bind("second").await;
    cloud.config_map("a", "1").await;
    let node = Node::start(&cloud).await;
    let (first, second) = (cloud.token("reader"), cloud.token("second"));
    let mut one = node.watch(&Who::Token(&first), &format!("{MAPS}?watch=1")).await;
    assert_eq!(one.brief().await, "ADDED a");
    let mut two = node.watch(&Who::Token(&second), &format!("{MAPS}?watch=1")).await;
    assert_eq!(two.brief().await, "ADDED a");
    cloud.unbind("reader").await;
    // The watch in the cloud is begun again, as one who may.
    cloud.cut();
    cloud.mend();
    update(&cloud, "a", "2").await;
    assert_eq!(two.brief().await, "MODIFIED a");
    assert_eq!(node.get(&Who::Token(&first), &format!("{MAPS}?watch=1")).await.code, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_lists_again_when_the_api_server_has_forgotten_and_so_do_its_watchers() {
    let cloud = Cloud::start().await;
    cloud.config_map("a", "1").await;
    let node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    let mut lines = node.watch(&who, &format!("{MAPS}?watch=1")).await;
    let (_, object) = lines.next().await.unwrap();
    let before = object["metadata"]["resourceVersion"].as_str().unwrap();
    cloud.cut();
    cloud.is_quiet().await;
    cloud.forgetful.store(true, std::sync::atomic::Ordering::SeqCst);
    let (code, _) = cloud.admin("DELETE", &format!("{MAPS}/a"), json!({})).await;
    assert_eq!(code, 200);
    cloud.config_map("b", "1").await;
    cloud.mend();
    assert_eq!(lines.brief().await, "", "what was missed cannot be told one by one");
    let mut from = node.watch(&who, &format!("{MAPS}?watch=1&resourceVersion={before}")).await;
    assert_eq!(from.brief().await, "ERROR 410");
    let mut again = node.watch(&who, &format!("{MAPS}?watch=1")).await;
    assert_eq!(again.brief().await, "ADDED b");
    cloud.config_map("c", "1").await;
    assert_eq!(again.brief().await, "ADDED c");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_way_to_the_api_server_could_not_tell_is_found_by_a_list_and_told() {
    let cloud = Cloud::start().await;
    for name in ["a", "b"] {
        cloud.config_map(name, "1").await;
    }
    let node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    let mut lines = node.watch(&who, &format!("{MAPS}?watch=1")).await;
    assert_eq!([lines.brief().await, lines.brief().await], ["ADDED a", "ADDED b"]);
    let (happened, untold) = tokio::sync::oneshot::channel();
    cloud.cut();
    *cloud.untold.lock().unwrap() = Some(untold);
    cloud.mend();
    cloud.config_map("c", "1").await;
    let (code, _) = cloud.admin("DELETE", &format!("{MAPS}/b"), json!({})).await;
    assert_eq!(code, 200);
    update(&cloud, "a", "2").await;
    happened.send(()).unwrap();
    let mut told = [lines.brief().await, lines.brief().await, lines.brief().await];
    told.sort();
    assert_eq!(told, ["ADDED c", "DELETED b", "MODIFIED a"]);
    // Nobody had to begin again.
    cloud.config_map("d", "1").await;
    assert_eq!(lines.brief().await, "ADDED d");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_ended_is_gone_on_from_without_another_list() {
    let cloud = Cloud::start().await;
    cloud.config_map("a", "1").await;
    let bounds = Bounds { idle: Duration::from_millis(1), ..Bounds::default() };
    let node = Node::start_with(&cloud, bounds, None).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    let mut lines = node.watch(&who, &format!("{MAPS}?watch=1")).await;
    assert_eq!(lines.brief().await, "ADDED a");
    drop(lines);
    // The view ends soon; whether it has does not matter to who watches next.
    for name in ["b", "c", "d"] {
        cloud.config_map(name, "1").await;
        let mut lines = node.watch(&who, &format!("{MAPS}?watch=1")).await;
        let mut last = String::new();
        while last != format!("ADDED {name}") {
            last = lines.brief().await;
        }
    }
    assert_eq!(cloud.count("limit=500"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_objects_come_through_to_the_byte() {
    let cloud = Cloud::start().await;
    for (name, kilobytes) in [("small", 31), ("large", 900)] {
        cloud.config_map(name, &"\u{e4}\"\\\n x".repeat(kilobytes * 128)).await;
    }
    let node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    let one = format!("{MAPS}/large");
    let theirs = [cloud.raw(MAPS).await, cloud.raw(&one).await];
    let ours = [node.raw(&who, MAPS).await, node.raw(&who, &one).await];
    assert!(ours[0] == theirs[0] && ours[1] == theirs[1], "online");
    let watch = format!("{MAPS}?watch=1&timeoutSeconds=1");
    let watched = node.raw(&who, &watch).await;
    cloud.cut();
    let stale = [node.raw(&who, MAPS).await, node.raw(&who, &one).await];
    assert!(stale[0] == theirs[0] && stale[1] == theirs[1], "cut off");
    assert!(node.raw(&who, &watch).await == watched, "the watch");
    let object = &theirs[1][..];
    assert!(watched.windows(object.len()).any(|part| part == object), "the object in the watch");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_list_and_not_watch_is_refused_a_watch() {
    let cloud = Cloud::start().await;
    let node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    let events = "/api/v1/namespaces/shop/events";
    assert_eq!(node.get(&who, events).await.code, 200);
    let refused = node.get(&who, &format!("{events}?watch=1")).await;
    assert_eq!((refused.code, refused.body["reason"].as_str()), (403, Some("Forbidden")), "{}", refused.body);
    assert_eq!(node.get(&who, events).await.code, 200, "that took no right away");
}
