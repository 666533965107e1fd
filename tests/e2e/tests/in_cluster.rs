//! CloudCore as a pod, with the rights of its roles alone: whatever it asks an API server for beside that is found here, and so is a
//! right that it does not need.

use anyhow::{Context, Result, ensure};
use e2e::in_cluster::Lab;

#[test]
fn cloudcore_does_its_work_as_a_pod_with_the_rights_of_its_roles_and_needs_each_of_them() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let mut lab = Lab::start()?;
    let done = lab.work();
    let log = std::fs::read_to_string(&lab.cloudcore.log)?;
    let (refused, unused) = (lab.judge.refused(), lab.judge.unused());
    ensure!(refused.is_empty(), "no role gives CloudCore {refused:#?}\n{log}");
    done.with_context(|| format!("nobody asked for {unused:#?}\n{log}"))?;
    ensure!(unused.is_empty(), "nobody needs {unused:#?}");
    Ok(())
}
