//! The controllers and the scheduler, on this server's own API: which run, and as whom.

use std::sync::Arc;

use controllers::api::Api;
use controllers::shell::{self, Controller, Users};
use scheduler::Scheduler;
use tokio_util::sync::CancellationToken;

use crate::approving::Approver;
use crate::context::Context;
use crate::in_process::InProcess;

/// A name that no controller has.
#[derive(Debug, thiserror::Error)]
#[error("there is no controller {name:?}; there are: {all}")]
pub struct UnknownController {
    name: String,
    all: String,
}

/// Those that are to run.
pub(crate) type Chosen = Vec<Box<dyn Controller>>;

fn all() -> Chosen {
    let mut all = controllers::all();
    all.push(Box::new(Approver));
    all.push(Box::new(Scheduler::default()));
    all
}

/// Reads a list as kube-controller-manager reads `--controllers`: a name for one, `-` and a name for all but it, `*` for the rest.
pub(crate) fn choose(wanted: &[String]) -> Result<Chosen, UnknownController> {
    let all = all();
    let is_known = |name: &str| all.iter().any(|controller| controller.name() == name);
    for name in wanted.iter().map(|name| name.trim_start_matches('-')).filter(|name| *name != "*") {
        if !is_known(name) {
            let names: Vec<&str> = all.iter().map(|controller| controller.name()).collect();
            return Err(UnknownController { name: name.to_owned(), all: names.join(", ") });
        }
    }
    let has = |name: &str| wanted.iter().any(|one| one == name);
    let runs = |name: &str| has(name) || (has("*") && !has(&format!("-{name}")));
    Ok(all.into_iter().filter(|controller| runs(controller.name())).collect())
}

struct Accounts(kubeapi::Api<Context>);

impl Users for Accounts {
    fn api(&self, user: &str) -> Arc<dyn Api> {
        Arc::new(InProcess::new(self.0.clone(), user))
    }
}

/// Until `stop`.
pub(crate) async fn run(api: kubeapi::Api<Context>, chosen: Chosen, stop: CancellationToken) {
    if chosen.is_empty() {
        return stop.cancelled().await;
    }
    shell::run(chosen, Arc::new(Accounts(api)), stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(wanted: &[&str]) -> Vec<&'static str> {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        choose(&wanted).unwrap().iter().map(|controller| controller.name()).collect()
    }

    #[test]
    fn controllers_are_chosen_as_by_kube_controller_manager() {
        assert_eq!(names(&["*"]).len(), all().len());
        assert!(!names(&["*", "-deployment-controller"]).contains(&"deployment-controller"));
        assert_eq!(names(&["default-scheduler"]), ["default-scheduler"]);
        assert!(names(&[]).is_empty());
        let error = choose(&["-depl-controller".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("\"depl-controller\"") && error.contains("deployment-controller"), "{error}");
    }
}
