//! Runs cases beside one another.

use futures_util::{StreamExt as _, stream};

use crate::case::{Case, Group};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::ground::Ground;
use crate::known::Known;
use crate::outcome::{Outcome, Verdict};
use crate::step::{Watches, take};

/// Runs all cases of the groups, `beside` of them at a time; outcomes come by group. What is known to fail is not waited for
/// long.
pub async fn run(cluster: &Cluster, groups: &[Group], beside: usize, known: &Known) -> Vec<Outcome> {
    let cases = groups.iter().flat_map(|group| group.cases.iter().map(move |case| (group, case)));
    let ran: Vec<(Outcome, Option<Ground>)> = stream::iter(cases)
        .map(|(group, case)| async move {
            let hurry = known.reason(&group.name, &case.name).is_some();
            let (verdict, left, ground) = one(cluster, case, hurry).await;
            let (group, name, source) = (group.name.clone(), case.name.clone(), case.source.clone());
            (Outcome { group, case: name, source, verdict, left }, ground)
        })
        .buffer_unordered(beside.max(1))
        .collect()
        .await;
    let (mut outcomes, mut grounds) = (Vec::new(), Vec::new());
    for (outcome, ground) in ran {
        outcomes.push(outcome);
        grounds.extend(ground);
    }
    // That a namespace cannot be deleted shows in the cases of namespaces.
    stream::iter(grounds)
        .map(|mut ground| async move { ground.leave().await.ok() })
        .buffer_unordered(beside.max(1))
        .collect::<Vec<_>>()
        .await;
    outcomes.sort_by(|a, b| a.group.cmp(&b.group));
    outcomes
}

async fn one(cluster: &Cluster, case: &Case, hurry: bool) -> (Verdict, Option<String>, Option<Ground>) {
    if case.since > cluster.minor {
        return (Verdict::Skipped, None, None);
    }
    let mut ground = Ground::new(Client::new(cluster), case);
    ground.hurry = hurry;
    let verdict = match steps(&mut ground, case).await {
        Ok(()) => Verdict::Passed,
        Err(why) => Verdict::Failed(why),
    };
    let left = ground.clear().await.err().map(|error| format!("{error:#}"));
    // Its namespace is left later; connections that do nothing until then take places of others.
    ground.client.close();
    (verdict, left, Some(ground))
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
            format!(
                "step {}, {doing}{}: {error:#}",
                number + 1,
                body.map(|body| format!(" {body}")).unwrap_or_default()
            )
        })?;
    }
    Ok(())
}
