//! `keadm`: the operator's tool. Every command says what it did and what to type next.

mod address;
mod cgroups;
mod commands;
mod labels;
mod layout;
mod mounts;
mod pods;
mod ports;
mod program;
mod render;
mod set;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sets up the cloud side, joins nodes to it, and takes them away again.
#[derive(Parser)]
#[command(name = "keadm", version)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set up CloudCore on this machine.
    Init(commands::init::Flags),
    /// Replace the CA without any node joining again.
    Ca(commands::ca::Flags),
    /// Print the token nodes join with.
    Gettoken(commands::gettoken::Flags),
    /// Join this machine to the cloud side as an edge node.
    Join(Box<commands::join::Flags>),
    /// Stop what init or join started and remove its files.
    Reset(commands::reset::Flags),
    /// Print the version.
    Version(commands::version::Flags),
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    pki::install_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Err(error) => Err(error.into()),
        Ok(runtime) => runtime.block_on(async {
            match flags.command {
                Command::Init(flags) => commands::init::run(flags).await,
                Command::Ca(flags) => commands::ca::run(flags).await,
                Command::Gettoken(flags) => commands::gettoken::run(flags).await,
                Command::Join(flags) => commands::join::run(*flags).await,
                Command::Reset(flags) => commands::reset::run(flags).await,
                Command::Version(flags) => commands::version::run(&flags),
            }
        }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            render::error(&error);
            ExitCode::FAILURE
        }
    }
}
