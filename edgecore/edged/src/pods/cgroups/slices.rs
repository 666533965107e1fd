//! Slices: systemd is told their limits, because what is written past it does not last.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::{CgroupError, Limits};

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn set(slice: &str, limits: &Limits) -> Result<(), CgroupError> {
    let properties = limits.properties();
    if properties.is_empty() {
        return Ok(());
    }
    let failed = |source| CgroupError::Systemd { slice: slice.to_owned(), source };
    let mut command = Command::new("systemctl");
    command.args(["set-property", "--runtime", slice]).args(&properties);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match tokio::time::timeout(PATIENCE, output).await {
        Ok(output) => output.map_err(failed)?,
        Err(_) => return Err(failed(std::io::ErrorKind::TimedOut.into())),
    };
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr).trim().chars().take(256).collect();
    Err(CgroupError::Refused { slice: slice.to_owned(), reason })
}
