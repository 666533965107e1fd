//! `keadm`: the operator's tool. Every command says what it did and what to type next.

mod address;
mod cgroups;
mod cluster;
mod commands;
mod labels;
mod layout;
mod mounts;
mod pods;
mod ports;
mod program;
mod refused;
mod render;
mod script;
mod set;
mod undo;

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
    /// Install CloudCore into a cluster, or set it up on this machine.
    Init(Box<commands::init::Flags>),
    /// Replace the CA without any node joining again.
    Ca(commands::ca::Flags),
    /// Print the manifests of a CloudCore in a cluster.
    Manifest(Box<commands::manifest::Flags>),
    /// Put nodes out and let them in again.
    Node(commands::node::Flags),
    /// Print the token nodes join with.
    Gettoken(commands::gettoken::Flags),
    /// Join this machine to the cloud side as an edge node.
    Join(Box<commands::join::Flags>),
    /// Take back what init or join did: programs and files of this machine, or CloudCore of a cluster.
    Reset(commands::reset::Flags),
    /// Print the version.
    Version(commands::version::Flags),
}

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let flags = Flags::try_parse().unwrap_or_else(|error| refused::explain(error, &command).exit());
    pki::install_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Err(error) => Err(error.into()),
        Ok(runtime) => runtime.block_on(async {
            match flags.command {
                Command::Init(flags) => commands::init::run(&flags).await,
                Command::Ca(flags) => commands::ca::run(flags).await,
                Command::Manifest(flags) => commands::manifest::run(&flags),
                Command::Node(flags) => commands::node::run(flags).await,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_kubeedge_are_taken_or_refused_with_what_to_do_instead() {
        let join = "join -e a:1 -t x";
        for (words, expected) in [
            ("init --kubeedge-version=v1.20.0 --advertise-address 10.0.0.5", None),
            (
                "init --profile version=v1.20.0 --kube-config=/k --image-repository r --print-final-values -d --force",
                None,
            ),
            ("init --set cloudCore.replicaCount=1 --wait=false --timeout 2m", None),
            ("init --manifests a.yaml,folder", None),
            ("init -f a.yaml --files b.yaml", None),
            ("init --external-helm-root /charts", Some("helm install")),
            ("init --standalone --process", Some("cannot be used with")),
            (&format!("{join} --image-repository r"), Some("mirrors are a setting")),
            (&format!("{join} --tarballpath=/tmp"), Some("nothing is downloaded")),
            ("manifest generate --advertise-address a --kubeedge-version v1 --skip-crds", None),
            ("manifest generate --external-helm-root /charts", Some("helm install")),
            ("manifest generate --kube-config x", Some("nothing is asked of a cluster")),
            ("reset cloud --kube-config /root/.kube/config --force --keep-ca", None),
            ("reset edge --force --remote-runtime-endpoint unix:///x --pre-run a --post-run b", None),
            ("reset --no-such-flag", Some("unexpected argument")),
        ] {
            let words: Vec<&str> = words.split_whitespace().collect();
            let parsed = Flags::try_parse_from([&["keadm"], &words[..]].concat());
            match (parsed.map_err(|error| refused::explain(error, words[0]).to_string()), expected) {
                (Ok(_), None) => {}
                (Err(said), Some(part)) => assert!(said.contains(part), "{words:?}: {said}"),
                (other, _) => panic!("{words:?}: {:?}", other.err()),
            }
        }
    }
}
