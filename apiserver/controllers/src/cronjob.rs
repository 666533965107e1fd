//! CronJobs: a Job at each time of a schedule (`pkg/controller/cronjob`).

mod plan;
mod schedule;

use apimachinery::Status;
use apimachinery::kinds::lines;
use apimachinery::object;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::api::{Key, Kind};
use crate::cache::{Cache, Change};
use crate::shell::{Again, Controller, Work};
use crate::touched;

pub use plan::{Plan, plan};
pub use schedule::{Schedule, ScheduleError};

const KIND: Kind = &lines::CronJob;
const JOB: Kind = &lines::Job;

/// The controller.
pub struct CronJobs;

impl Controller for CronJobs {
    fn name(&self) -> &'static str {
        "cronjob-controller"
    }

    fn user(&self) -> &'static str {
        "system:serviceaccount:kube-system:cronjob-controller"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![KIND, JOB]
    }

    fn touched(&self, _: &Cache, change: &Change) -> Vec<Key> {
        if change.kind == KIND { vec![change.key.clone()] } else { touched::owners(KIND, change) }
    }

    fn reconcile<'a>(&'a self, work: &'a Work, key: &'a Key) -> BoxFuture<'a, Result<Again, Status>> {
        reconcile(work, key).boxed()
    }
}

async fn reconcile(work: &Work, key: &Key) -> Result<Again, Status> {
    let Some(cron) = work.cache.store(KIND).get(key).filter(|cron| !object::deleting(cron)) else {
        return Ok(None);
    };
    let jobs = work.cache.store(JOB).owned_by(object::uid(&cron));
    let plan = plan(&cron, &jobs, (work.now)());
    for job in &plan.delete {
        work.client.delete(JOB, job).await?;
        let message = format!("Deleted job {}", object::name(job));
        work.client.event(KIND, &cron, ("Normal", "SuccessfulDelete", &message)).await;
    }
    for (severity, reason, message) in &plan.events {
        work.client.event(KIND, &cron, (severity, reason, message)).await;
    }
    let mut status = plan.status;
    if let Some(job) = &plan.create {
        match work.client.create(JOB, job).await {
            Ok(made) => {
                let message = format!("Created job {}", object::name(&made));
                work.client.event(KIND, &cron, ("Normal", "SuccessfulCreate", &message)).await;
                plan::note_active(&mut status, &made);
            }
            // Made by a round that could not write the status.
            Err(told) if told.reason == "AlreadyExists" => {}
            Err(told) => {
                let message = format!("Error creating job: {}", told.message);
                work.client.event(KIND, &cron, ("Warning", "FailedCreate", &message)).await;
                return Err(told);
            }
        }
    }
    work.client.update_status(KIND, &cron, status).await?;
    Ok(plan.again)
}
