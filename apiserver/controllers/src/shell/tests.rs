use apimachinery::kinds::lines;
use apimachinery::object::{integer, text};
use serde_json::{Value, json};

use super::*;
use crate::deployment::Deployments;
use crate::fake::Fake;
use crate::replicaset::ReplicaSets;

fn deployment() -> Value {
    json!({
        "metadata": {"name": "d", "namespace": "n"},
        "spec": {"replicas": 3, "progressDeadlineSeconds": 600, "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "1"}]}}},
    })
}

struct Site {
    fake: Arc<Fake>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Site {
    fn start() -> Site {
        let (fake, stop) = (Arc::new(Fake::default()), CancellationToken::new());
        let controllers: Vec<Box<dyn Controller>> = vec![Box::new(Deployments), Box::new(ReplicaSets)];
        let running = tokio::spawn(run(controllers, Arc::new(fake.clone()), stop.clone()));
        Site { fake, stop, running }
    }

    async fn pods(&self, count: usize) {
        let wait = self.fake.until(|fake| fake.all(&lines::Pod).len() == count);
        tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }
}

#[tokio::test]
async fn a_deployment_makes_exactly_its_pods_and_takes_them_away() {
    let site = Site::start();
    site.fake.put(&lines::Deployment, deployment());
    site.pods(3).await;
    site.fake.edit(&lines::Deployment, "n", "d", |deployment| deployment["spec"]["replicas"] = json!(1));
    site.pods(1).await;
    let told = |fake: &Fake| {
        let deployment = fake.find(&lines::Deployment, "n", "d").unwrap_or_default();
        integer(&deployment, "/status/replicas") == Some(1)
    };
    tokio::time::timeout(Duration::from_secs(30), site.fake.until(told)).await.unwrap();
    assert_eq!(site.fake.all(&lines::ReplicaSet).len(), 1);
    site.end().await;
}

#[tokio::test]
async fn a_pod_that_was_refused_is_made_later_and_the_failure_is_shown_meanwhile() {
    let site = Site::start();
    site.fake.refuse_next(&lines::Pod, Status::refused("", "pods", "p", "exceeded quota"));
    site.fake.put(&lines::Deployment, deployment());
    site.pods(3).await;
    let events = site.fake.all(&lines::Event);
    let failed: Vec<&Value> = events.iter().filter(|event| event["reason"] == "FailedCreate").collect();
    assert_eq!(failed.len(), 1);
    assert!(text(failed[0], "/message").contains("exceeded quota"));
    site.end().await;
}

#[tokio::test]
async fn a_pod_without_a_controller_is_adopted_instead_of_made() {
    let site = Site::start();
    let orphan =
        json!({"metadata": {"name": "orphan", "namespace": "n", "labels": {"app": "a"}}, "spec": {}});
    site.fake.put(&lines::Pod, orphan);
    let set = json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"replicas": 2,
        "selector": {"matchLabels": {"app": "a"}}, "template": {"metadata": {"labels": {"app": "a"}}, "spec": {}}}});
    site.fake.put(&lines::ReplicaSet, set);
    let adopted = |fake: &Fake| {
        let orphan = fake.find(&lines::Pod, "n", "orphan").unwrap_or_default();
        text(&orphan, "/metadata/ownerReferences/0/name") == "s" && fake.all(&lines::Pod).len() == 2
    };
    tokio::time::timeout(Duration::from_secs(30), site.fake.until(adopted)).await.unwrap();
    site.end().await;
}

#[tokio::test]
async fn a_forgotten_past_is_listed_again() {
    let fake = Arc::new(Fake::default());
    let store = Arc::new(crate::cache::Store::new(&lines::Pod));
    fake.put(&lines::Pod, json!({"metadata": {"name": "a", "namespace": "n"}}));
    store.replace(vec![], 0);
    fake.compact();
    let (sender, mut changes) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let running = tokio::spawn(informer::run(fake.clone(), store.clone(), sender, stop.clone()));
    assert_eq!(changes.recv().await.unwrap().key.name, "a");
    fake.put(&lines::Pod, json!({"metadata": {"name": "b", "namespace": "n"}}));
    assert_eq!(changes.recv().await.unwrap().key.name, "b");
    stop.cancel();
    running.await.unwrap();
}
