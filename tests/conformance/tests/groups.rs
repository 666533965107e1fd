//! All cases on the embedded API server, a test for each group.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use conformance::{Embedded, Known, Verdict, load, run};

/// Cases that run beside one another.
const BESIDE: usize = 8;

async fn passes(name: &str) {
    let known = Known::load().unwrap();
    let groups: Vec<_> = load(None).unwrap().into_iter().filter(|group| group.name == name).collect();
    assert!(!groups.is_empty(), "there is no group {name}");
    let server = Embedded::start().await.unwrap();
    let outcomes = run(&server.cluster, &groups, BESIDE, &known).await;
    server.stop().await.unwrap();
    let mut wrong = Vec::new();
    for outcome in outcomes {
        match (&outcome.verdict, known.reason(name, &outcome.case)) {
            (Verdict::Failed(_), None) => wrong.push(outcome.to_string()),
            (Verdict::Passed, Some(_)) => wrong.push(format!("{outcome}: take it off known.yaml")),
            _ => {}
        }
        wrong.extend(outcome.left.map(|left| format!("{}: not cleaned up: {left}", outcome.case)));
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n\n"));
}

macro_rules! groups {
    ($($group:ident),+ $(,)?) => {
        const GROUPS: &[&str] = &[$(stringify!($group)),+];

        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $group() {
                passes(stringify!($group)).await;
            }
        )+
    };
}

groups! {
    apiservices, apply, clients, config, crds, create, delete, discovery, dryrun, fields, formats, identity, list, mutations, namespaces, nodes, objects,
    owners, patches, pods, policies, quotas, rbac, selectors, services, status, subresources, update, watch, workloads,
}

#[test]
fn every_file_of_cases_is_a_test_and_known_failures_are_cases() {
    let groups = load(None).unwrap();
    let files: BTreeSet<&str> = groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(files, GROUPS.iter().copied().collect());
    assert_eq!(Known::load().unwrap().strangers(&groups), Vec::<String>::new());
    assert!(groups.iter().map(|group| group.cases.len()).sum::<usize>() >= 250);
}
