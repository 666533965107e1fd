//! `cargo xtask conformance`: what a Kubernetes API server answers, on the embedded one or on any.

use anyhow::Result;
use clap::Args;

use crate::build;

/// Flags of the runner go to it as they are: --kubeconfig FILE, --only TEXT, --all, --beside N.
#[derive(Args)]
pub(crate) struct Flags {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<String>,
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let mut arguments = vec!["run", "--quiet", "-p", "conformance", "--"];
    arguments.extend(flags.flags.iter().map(String::as_str));
    build::cargo(&arguments)
}
