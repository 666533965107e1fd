//! `cargo xtask bench NAME`: measures on release builds; prints a table and, last, `RESULT {json}`.

mod idle;

use anyhow::Result;
use clap::{Args, Subcommand};

#[derive(Args)]
pub struct Flags {
    #[command(subcommand)]
    name: Name,
}

#[derive(Subcommand)]
enum Name {
    /// Resident memory and binary sizes, idle with the demo's objects.
    Idle,
}

pub fn run(flags: &Flags) -> Result<()> {
    match flags.name {
        Name::Idle => idle::run(),
    }
}

/// One measured number.
struct Measured {
    key: &'static str,
    what: &'static str,
    value: u64,
    unit: &'static str,
}

fn print(results: &[Measured]) {
    println!();
    for result in results {
        println!("  {:<40} {:>8} {}", result.what, result.value, result.unit);
    }
    let keys = results.iter().map(|result| (result.key.to_owned(), serde_json::json!(result.value)));
    let json: serde_json::Map<String, serde_json::Value> = keys.collect();
    println!("\nRESULT {}", serde_json::Value::Object(json));
}
