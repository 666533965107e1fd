//! Informers over cuts and restarts of the embedded API server.

use std::time::Duration;

use anyhow::{Result, ensure};
use clients::informers::{self, Plan};
use clients::server::Server;
use harness::clients::Installed;
use harness::programs::Programs;

/// `cargo xtask bench informers` does the same for ten minutes.
#[test]
fn informers_of_three_clients_tell_of_every_change_once_over_cuts_and_kills() -> Result<()> {
    let mut server = Server::start(&Programs::find()?)?;
    let plan = Plan { cuts: 4, kills: 3, pause: Duration::from_secs(1) };
    for told in informers::run(&mut server, &Installed::find()?, plan)? {
        ensure!(told.verdict.is_right(), "{}: {:?}", told.client, told.verdict);
    }
    Ok(())
}
