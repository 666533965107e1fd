//! Informers of several clients over interruptions: each has to tell of every change once, and of nothing else.

mod follow;
mod ledger;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::clients::Installed;
use harness::wait;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use follow::Follower;
use ledger::Ledger;
pub use ledger::Verdict;

const NAMESPACE: &str = "informers";
/// Objects that change.
const OBJECTS: usize = 20;
/// Changes while all are connected, and while all are cut off.
const CHANGES: usize = 10;
/// Time for a client to have heard of everything.
const SETTLE: Duration = Duration::from_secs(120);

/// What the clients follow, and how they are interrupted.
pub trait Ground {
    /// An administrator's, which is never interrupted for long.
    fn administrator(&self) -> &Path;

    /// The clients'.
    fn clients(&self) -> &Path;

    /// Begins an interruption; changes follow if it is true.
    ///
    /// # Errors
    /// It could not be done.
    fn interrupt(&mut self, at: usize) -> Result<bool>;

    /// Ends it.
    ///
    /// # Errors
    /// What was interrupted does not come back.
    fn resume(&mut self, at: usize) -> Result<()>;
}

/// What one client told.
#[derive(Clone, Debug)]
pub struct Told {
    pub client: &'static str,
    pub verdict: Verdict,
}

/// Runs the informers of Python, JavaScript and kube-rs over `times` interruptions with `pause` after each. There are changes before, during (if the
/// ground says so) and after each.
///
/// # Errors
/// A client could not be started, or did not come to the end within two minutes.
pub fn run<G: Ground>(
    ground: &mut G,
    installed: &Installed,
    times: usize,
    pause: Duration,
) -> Result<Vec<Told>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let administrator = ground.administrator().to_owned();
    let mut work =
        Work { client: runtime.block_on(connect(&administrator))?, ledger: Ledger::default(), next: 0 };
    runtime.block_on(work.begin())?;
    let mut python = installed.python("informer.py");
    python.arg(NAMESPACE).env("KUBECONFIG", ground.clients());
    let mut node = installed.node("informer.mjs")?;
    node.arg(NAMESPACE).env("KUBECONFIG", ground.clients());
    let rust = runtime.block_on(connect(ground.clients()))?;
    let followers = [
        Follower::of_program("Python", python)?,
        Follower::of_program("JavaScript", node)?,
        Follower::of_kube(&runtime, rust, NAMESPACE),
    ];
    for follower in &followers {
        wait::for_true(follower.client, SETTLE, || Ok(follower.told()?.len() >= OBJECTS))?;
    }
    for at in 0..times {
        runtime.block_on(work.change(CHANGES))?;
        if ground.interrupt(at)? {
            runtime.block_on(work.change(CHANGES))?;
        }
        ground.resume(at)?;
        // The connections of before may be gone.
        work.client = runtime.block_on(connect(&administrator))?;
        wait::pause(pause);
    }
    let last = runtime.block_on(work.end())?;
    let mut all = Vec::new();
    for follower in &followers {
        let heard = || Ok(follower.told()?.iter().any(|told| told.version == last));
        wait::for_true(follower.client, SETTLE, heard).with_context(|| {
            format!("{}: {:?}", follower.client, work.ledger.judge(&follower.told().unwrap_or_default()))
        })?;
        all.push(Told { client: follower.client, verdict: work.ledger.judge(&follower.told()?) });
    }
    Ok(all)
}

async fn connect(kubeconfig: &Path) -> Result<Client> {
    let config = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Who changes objects, and writes down what he did.
struct Work {
    client: Client,
    ledger: Ledger,
    next: usize,
}

impl Work {
    fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn begin(&mut self) -> Result<()> {
        let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
        Api::<Namespace>::all(self.client.clone()).create(&PostParams::default(), &namespace).await?;
        for at in 0..OBJECTS {
            self.create(at).await?;
        }
        Ok(())
    }

    async fn create(&mut self, at: usize) -> Result<()> {
        let name = format!("o-{at}");
        let map = json!({"metadata": {"name": name, "labels": {"of": "informers"}}, "data": {"round": "0"}});
        let made = self.maps().create(&PostParams::default(), &serde_json::from_value(map)?).await?;
        self.ledger.added(&name, made.metadata.resource_version.unwrap_or_default());
        Ok(())
    }

    /// Every fifth change deletes an object and makes it again; the others change one.
    async fn change(&mut self, times: usize) -> Result<()> {
        for _ in 0..times {
            self.next += 1;
            let at = self.next * 7 % OBJECTS;
            let name = format!("o-{at}");
            if self.next.is_multiple_of(5) {
                self.maps().delete(&name, &DeleteParams::default()).await?;
                self.ledger.deleted(&name);
                self.create(at).await?;
                continue;
            }
            let patch = Patch::Merge(json!({"data": {"round": self.next.to_string()}}));
            let made = self.maps().patch(&name, &PatchParams::default(), &patch).await?;
            self.ledger.modified(&name, made.metadata.resource_version.unwrap_or_default());
        }
        Ok(())
    }

    /// The last change; gives its version.
    async fn end(&mut self) -> Result<String> {
        let patch = Patch::Merge(json!({"data": {"round": "last"}}));
        let made = self.maps().patch("o-0", &PatchParams::default(), &patch).await?;
        let version = made.metadata.resource_version.unwrap_or_default();
        self.ledger.modified("o-0", version.clone());
        Ok(version)
    }
}
