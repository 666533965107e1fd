use serde_json::json;

use super::*;

fn deployment(replicas: i64, image: &str) -> Value {
    json!({
        "metadata": {"name": "d", "namespace": "n", "uid": "d", "generation": 1, "annotations": {"note": "x", REVISION: "1"}},
        "spec": {"replicas": replicas, "revisionHistoryLimit": 1, "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": {"app": "a"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": image}]}}},
    })
}

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

/// As the ReplicaSet controller leaves it: all pods available.
fn settled(mut set: Value, at: usize) -> Value {
    let size = set["spec"]["replicas"].clone();
    set["metadata"]["uid"] = json!(format!("{}", object::name(&set)));
    set["metadata"]["creationTimestamp"] = json!(format!("2026-01-01T00:00:{at:02}Z"));
    set["status"] = json!({"replicas": size, "readyReplicas": size, "availableReplicas": size});
    set
}

/// Carries a decision out on the sets.
fn follow(deployment: &mut Value, sets: &mut Vec<Value>, decision: Decision) {
    for updated in decision.update {
        let at = sets.iter().position(|set| object::uid(set) == object::uid(&updated)).unwrap();
        sets[at] = settled(updated, at);
    }
    let at = sets.len();
    sets.extend(decision.create.map(|new| settled(new, at)));
    sets.retain(|set| !decision.delete.iter().any(|gone| object::uid(gone) == object::uid(set)));
    if let Some(revision) = decision.revision {
        deployment["metadata"]["annotations"][REVISION] = json!(revision.to_string());
    }
    deployment["status"] = decision.status;
}

/// Rounds until nothing is to be done, with the most and the least pods on the way.
fn roll(deployment: &mut Value, sets: &mut Vec<Value>) -> (i64, i64) {
    let (mut most, mut least) = (0, i64::MAX);
    for _ in 0..50 {
        let decision = decide(deployment, sets.clone(), false, now());
        let is_done = decision.create.is_none() && decision.update.is_empty() && decision.delete.is_empty();
        let same = deployment["status"] == decision.status;
        follow(deployment, sets, decision);
        let total = sets.iter().map(numbers::size).sum();
        (most, least) = (most.max(total), least.min(total));
        if is_done && same {
            return (most, least);
        }
    }
    panic!("it does not end: {sets:#?}");
}

#[test]
fn a_rollout_keeps_to_surge_and_availability_and_ends_complete() {
    let (mut deployment, mut sets) = (deployment(3, "1"), vec![]);
    roll(&mut deployment, &mut sets);
    assert_eq!(sets.len(), 1);
    assert_eq!(sets[0]["metadata"]["annotations"]["note"], "x");
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!("2");
    let (most, least) = roll(&mut deployment, &mut sets);
    assert_eq!((most, least), (4, 3));
    let sizes: Vec<i64> = sets.iter().map(numbers::size).collect();
    assert_eq!(sizes, [0, 3]);
    assert_eq!(deployment["metadata"]["annotations"][REVISION], "2");
    let progressing = conditions::find(&deployment["status"], "Progressing").unwrap();
    assert_eq!(
        (&progressing["status"], &progressing["reason"]),
        (&json!("True"), &json!("NewReplicaSetAvailable"))
    );
    assert_eq!(deployment["status"]["updatedReplicas"], 3);
    assert!(deployment["status"].get("unavailableReplicas").is_none());
}

#[test]
fn going_back_takes_up_the_old_set_under_a_new_revision() {
    let (mut deployment, mut sets) = (deployment(2, "1"), vec![]);
    roll(&mut deployment, &mut sets);
    for image in ["2", "1"] {
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        roll(&mut deployment, &mut sets);
    }
    assert_eq!(sets.len(), 2);
    assert_eq!(deployment["metadata"]["annotations"][REVISION], "3");
    assert_eq!(sets[0]["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"], "1");
    assert_eq!(numbers::size(&sets[0]), 2);
}

#[test]
fn the_history_keeps_as_many_sets_as_it_says() {
    let (mut deployment, mut sets) = (deployment(1, "1"), vec![]);
    for image in ["1", "2", "3", "4"] {
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        roll(&mut deployment, &mut sets);
    }
    let revisions: Vec<i64> = sets.iter().map(numbers::revision).collect();
    assert_eq!(revisions, [3, 4]);
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let (mut deployment, mut sets) = (deployment(2, "1"), vec![]);
    deployment["spec"]["strategy"] = json!({"type": "Recreate"});
    roll(&mut deployment, &mut sets);
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!("2");
    let first = decide(&deployment, sets.clone(), true, now());
    assert!(first.create.is_none() && numbers::size(&first.update[0]) == 0);
    follow(&mut deployment, &mut sets, first);
    let second = decide(&deployment, sets.clone(), true, now());
    assert!(second.create.is_none() && second.update.is_empty());
    let third = decide(&deployment, sets.clone(), false, now());
    assert_eq!(third.create.as_ref().map(numbers::size), Some(2));
}

#[test]
fn a_paused_deployment_is_scaled_but_not_rolled_out() {
    let (mut deployment, mut sets) = (deployment(2, "1"), vec![]);
    roll(&mut deployment, &mut sets);
    deployment["spec"]["paused"] = json!(true);
    deployment["spec"]["replicas"] = json!(5);
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!("2");
    roll(&mut deployment, &mut sets);
    assert_eq!(sets.iter().map(numbers::size).collect::<Vec<_>>(), [5]);
    let progressing = conditions::find(&deployment["status"], "Progressing").unwrap();
    assert_eq!(progressing["reason"], "DeploymentPaused");
}

#[test]
fn a_rollout_without_progress_is_given_up_at_its_deadline() {
    let (mut deployment, mut sets) = (deployment(1, "1"), vec![]);
    let decision = decide(&deployment, vec![], false, now());
    let mut new = decision.create.clone().unwrap();
    assert_eq!(decision.again, Some(Duration::from_secs(601)));
    follow(&mut deployment, &mut sets, decision);
    new["metadata"]["uid"] = json!("x");
    new["status"] = json!({"replicas": 1});
    let moved = decide(&deployment, vec![new.clone()], false, time_at(600));
    deployment["status"] = moved.status;
    let late = decide(&deployment, vec![new], false, time_at(1300));
    let progressing = conditions::find(&late.status, "Progressing").unwrap();
    assert_eq!(
        (&progressing["status"], &progressing["reason"]),
        (&json!("False"), &json!("ProgressDeadlineExceeded"))
    );
}

fn time_at(seconds: i64) -> Timestamp {
    crate::time::after(now(), seconds)
}

#[test]
fn another_size_in_the_middle_of_a_rollout_is_shared_out_in_proportion() {
    let (mut deployment, mut sets) = (deployment(10, "1"), vec![]);
    deployment["spec"]["strategy"]["rollingUpdate"] = json!({"maxSurge": 3, "maxUnavailable": 2});
    roll(&mut deployment, &mut sets);
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!("2");
    let decision = decide(&deployment, sets.clone(), false, now());
    follow(&mut deployment, &mut sets, decision);
    sets[0]["spec"]["replicas"] = json!(8);
    sets[1]["spec"]["replicas"] = json!(5);
    sets[1]["status"] = json!({"replicas": 5});
    deployment["spec"]["replicas"] = json!(15);
    let decision = decide(&deployment, sets.clone(), false, now());
    let sizes: i64 = decision.update.iter().map(numbers::size).sum();
    assert_eq!(sizes, 18, "15 and a surge of 3");
    let of = |uid: &str| decision.update.iter().find(|set| object::uid(set) == uid).map(numbers::size);
    assert_eq!((of(object::uid(&sets[0])), of(object::uid(&sets[1]))), (Some(11), Some(7)));
}
