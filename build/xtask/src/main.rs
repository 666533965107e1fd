//! `cargo xtask`: the one front door for building, showing, testing and measuring.
#![allow(clippy::print_stdout)] // A tool for people at a terminal.

mod bench;
mod build;
mod chart;
mod clients;
mod conformance;
mod demo;
mod deps;
mod docs;
mod images;
mod install;
mod msrv;
mod packages;
mod protobuf;
mod schemas;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the main job on this machine: a pod and a device from kubectl to an edge node.
    Demo(demo::Flags),
    /// Run every check and test.
    Test(test::Flags),
    /// Measure; prints a table and a last line `RESULT {json}`.
    Bench(bench::Flags),
    /// Run cases of what a Kubernetes API server answers, on the embedded one or on a cluster; ends with `RESULT {json}`.
    Conformance(conformance::Flags),
    /// Train the compression dictionary of the native dialect.
    Dictionary {
        /// Where to write the dictionary.
        #[arg(long)]
        output: String,
    },
    /// Check who imports whom (ARCHITECTURE.md).
    Deps(deps::Flags),
    /// Check that citations and links lead somewhere; with --write, make the generated pages anew.
    Docs(docs::Flags),
    /// Check that manifests/cloudcore and the Helm chart are what common/manifests makes; with --write, make them anew.
    Chart(chart::Flags),
    /// Make the schemas of Kubernetes' kinds anew, from its OpenAPI document.
    Schemas(schemas::Flags),
    /// Make the table of Kubernetes' Protobuf messages anew, from a folder of its Go modules.
    Protobuf(protobuf::Flags),
    /// Make container images of the programs, as files.
    Images(images::Flags),
    /// Build the programs as release builds and install them.
    Install(install::Flags),
    /// Install the Debian packages that demo and test need.
    Setup,
    /// Install the clients of Kubernetes that the tests run: of Python and JavaScript, and five versions of kubectl.
    Clients,
}

fn main() -> ExitCode {
    let result = match Flags::parse().command {
        Command::Demo(flags) => demo::run(&flags),
        Command::Test(flags) => test::run(&flags),
        Command::Bench(flags) => bench::run(&flags),
        Command::Conformance(flags) => conformance::run(&flags),
        // Apart, so that this program is built fast: compression takes as long as all the rest of it.
        Command::Dictionary { output } => {
            build::cargo(&["run", "--quiet", "-p", "load", "--", "dictionary", "--output", &output])
        }
        Command::Install(flags) => install::run(&flags),
        Command::Deps(flags) => deps::run(&flags),
        Command::Docs(flags) => docs::run(&flags),
        Command::Chart(flags) => chart::run(&flags),
        Command::Schemas(flags) => schemas::run(&flags),
        Command::Protobuf(flags) => protobuf::run(&flags),
        Command::Images(flags) => images::run(&flags),
        Command::Setup => packages::ensure(),
        Command::Clients => clients::ensure(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nError: {error:#}");
            ExitCode::FAILURE
        }
    }
}
