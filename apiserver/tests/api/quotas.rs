//! Quotas under those who write at the same time.

use serde_json::{Value, json};

use crate::client::{MAPS, Server, config_map};

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

/// Waits until the quota says so of `count/configmaps`.
async fn until_used(server: &Server, wanted: &str) {
    let mut watch = server.watch(&format!("{QUOTAS}?watch=true")).await;
    while watch.next().await.unwrap()["object"]["status"]["used"]["count/configmaps"] != wanted {}
}

#[tokio::test]
async fn writers_at_the_same_time_never_use_more_than_a_quota_has() {
    let server = Server::start().await;
    // One is there already: the CA.
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"count/configmaps": "6"}}});
    server.create(QUOTAS, quota).await;
    until_used(&server, "1").await;
    let names: Vec<String> = (0..20).map(|at| format!("m{at}")).collect();
    let made = futures_util::future::join_all(names.iter().map(async |name| {
        let (code, answer) = server.post(MAPS, &config_map(name)).await;
        assert!(code == 201 || answer["message"].as_str().unwrap().contains("exceeded quota: q"), "{answer}");
        code == 201
    }))
    .await;
    assert_eq!(made.iter().filter(|made| **made).count(), 5);
    let (_, quota) = server.get(&format!("{QUOTAS}/q")).await;
    assert_eq!(quota["status"]["used"]["count/configmaps"], "6");
    let at = made.iter().position(|made| *made).unwrap();
    server.delete(&format!("{MAPS}/m{at}"), &Value::Null).await;
    until_used(&server, "5").await;
    server.create(MAPS, config_map("next")).await;
    server.stop().await;
}

#[tokio::test]
async fn what_was_charged_and_not_made_is_counted_anew_and_a_dry_run_is_charged_nothing() {
    let server = Server::start().await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"count/configmaps": "3"}}});
    server.create(QUOTAS, quota).await;
    until_used(&server, "1").await;
    server.create(MAPS, config_map("a")).await;
    assert_eq!(server.post(MAPS, &config_map("a")).await.0, 409);
    until_used(&server, "2").await;
    assert_eq!(server.post(&format!("{MAPS}?dryRun=All"), &config_map("b")).await.0, 201);
    server.create(MAPS, config_map("b")).await;
    assert_eq!(server.post(&format!("{MAPS}?dryRun=All"), &config_map("c")).await.0, 403);
    server.stop().await;
}
