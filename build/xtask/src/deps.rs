//! Who imports whom: crates by floors, and the rooms inside each crate without circles (ARCHITECTURE.md).

mod crates;
mod graph;
mod imports;
mod modules;

use anyhow::{Result, bail};

use crate::build;

/// Modules whose children are rooms of their own. The modules at the root of a crate always are.
const STREETS: &[&str] = &["edgecore::edged"];

/// Prints the table of rooms; fails on imports that point up, and on circles of rooms.
pub fn run() -> Result<()> {
    let packages = crates::packages()?;
    let floors = crates::check(&packages)?;
    let mut rows = vec![("crate", "rooms", "imports")];
    let mut counts = Vec::new();
    let mut problems = Vec::new();
    for package in &packages {
        let (name, root) = (package.name.clone(), build::root().join(&package.source));
        let module = modules::read(&name, &root)?;
        let streets = STREETS.iter().filter_map(|path| module.find(path));
        for street in std::iter::once(&module).chain(streets) {
            let graph = imports::between_children(&module, street);
            if graph.rooms() > 1 {
                counts.push((street.path.clone(), graph.rooms().to_string(), graph.edges().to_string()));
            }
            problems.extend(graph.circles().into_iter().map(|circle| format!("{}: {circle}", street.path)));
        }
    }
    rows.extend(counts.iter().map(|(name, rooms, edges)| (name.as_str(), rooms.as_str(), edges.as_str())));
    for (name, rooms, edges) in rows {
        println!("{name:<20} {rooms:>6} {edges:>8}");
    }
    if !problems.is_empty() {
        bail!("rooms that import each other in a circle:\n  {}", problems.join("\n  "));
    }
    println!("imports: {floors} crates, all arrows point down; no circle of rooms");
    Ok(())
}
