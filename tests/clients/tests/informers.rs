//! Informers over interruptions of the embedded API server, and of a node's link.

use std::time::Duration;

use anyhow::{Result, ensure};
use clients::informers::{self, Ground};
use clients::node::Node;
use clients::server::Interrupted;
use harness::clients::Installed;
use harness::programs::Programs;

fn every_change_once<G: Ground>(mut ground: G, times: usize) -> Result<()> {
    for told in informers::run(&mut ground, &Installed::find()?, times, Duration::from_secs(1))? {
        ensure!(told.verdict.is_right(), "{}: {:?}", told.client, told.verdict);
    }
    Ok(())
}

/// `cargo xtask bench informers` does the same for ten minutes.
#[test]
fn informers_of_three_clients_tell_of_every_change_once_over_cuts_and_kills() -> Result<()> {
    every_change_once(Interrupted::start(&Programs::find()?)?, 6)
}

#[test]
fn informers_at_a_node_tell_of_every_change_once_over_cuts_of_its_link() -> Result<()> {
    every_change_once(Node::start(&Programs::find()?)?, 4)
}
