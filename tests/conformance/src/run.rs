//! Runs cases beside one another.

use futures_util::{StreamExt as _, stream};

use crate::case::{Case, Group};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::ground::Ground;
use crate::outcome::{Outcome, Verdict};
use crate::step::{Watches, take};

/// Runs all cases of the groups, `beside` of them at a time; outcomes come in the order of the cases.
pub async fn run(cluster: &Cluster, groups: &[Group], beside: usize) -> Vec<Outcome> {
    let cases = groups.iter().flat_map(|group| group.cases.iter().map(move |case| (group, case)));
    stream::iter(cases)
        .map(|(group, case)| async move {
            let (verdict, left) = one(cluster, case).await;
            Outcome { group: group.name.clone(), case: case.name.clone(), source: case.source.clone(), verdict, left }
        })
        .buffered(beside.max(1))
        .collect()
        .await
}

async fn one(cluster: &Cluster, case: &Case) -> (Verdict, Option<String>) {
    if case.since > cluster.minor {
        return (Verdict::Skipped, None);
    }
    let mut ground = Ground::new(Client::new(cluster), case);
    let verdict = match steps(&mut ground, case).await {
        Ok(()) => Verdict::Passed,
        Err(why) => Verdict::Failed(why),
    };
    let left = ground.clear().await.err().map(|error| format!("{error:#}"));
    (verdict, left)
}

async fn steps(ground: &mut Ground, case: &Case) -> Result<(), String> {
    ground.prepare(case).await.map_err(|error| format!("preparing: {error:#}"))?;
    let mut watches = Watches::new();
    for (number, step) in case.steps.iter().enumerate() {
        let doing = match (&step.request, &step.watch, &step.events) {
            (Some(request), _, _) => ground.words.fill(request),
            (_, Some(path), _) => format!("watch {}", ground.words.fill(path)),
            (_, _, name) => format!("events of {}", name.as_deref().unwrap_or_default()),
        };
        let body = step.body.as_ref().map(|body| crate::compare::short(&ground.words.fill_value(body)));
        take(ground, &mut watches, step).await.map_err(|error| {
            format!("step {}, {doing}{}: {error:#}", number + 1, body.map(|body| format!(" {body}")).unwrap_or_default())
        })?;
    }
    Ok(())
}
