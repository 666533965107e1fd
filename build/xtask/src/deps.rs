//! Who imports whom: crates by floors, and the rooms inside each crate without circles (ARCHITECTURE.md).

mod crates;
mod graph;
mod imports;
mod modules;
mod table;

use anyhow::{Result, bail};

use crate::build;
use table::Row;

/// What is to be done about the table of rooms in ARCHITECTURE.md.
#[derive(clap::Args, Default)]
pub(crate) struct Flags {
    /// Write it anew instead of checking it.
    #[arg(long)]
    write: bool,
}

/// Prints the table of rooms; fails on imports that point up, on circles of rooms, and if ARCHITECTURE.md tells of others.
pub(crate) fn run(flags: &Flags) -> Result<()> {
    let packages = crates::packages()?;
    let floors = crates::check(&packages)?;
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for package in &packages {
        let module = modules::read(&package.name, &build::root().join(&package.source))?;
        for street in module.all() {
            let graph = imports::between_children(&module, street);
            if street.path == module.path && graph.rooms() > 1 {
                rows.push(Row { street: street.path.clone(), rooms: graph.rooms(), imports: graph.edges() });
            }
            problems.extend(graph.circles().into_iter().map(|circle| format!("{}: {circle}", street.path)));
        }
    }
    println!("{:<20} {:>6} {:>8}", "crate", "rooms", "imports");
    rows.iter().for_each(|Row { street, rooms, imports }| println!("{street:<20} {rooms:>6} {imports:>8}"));
    if !problems.is_empty() {
        bail!("rooms that import each other in a circle:\n  {}", problems.join("\n  "));
    }
    let rooms: usize = rows.iter().map(|row| row.rooms).sum();
    println!("imports: {floors} crates, {rooms} rooms, 0 circles; all arrows point down");
    table::keep(&rows, flags.write)
}
