//! The table of rooms in ARCHITECTURE.md.

use anyhow::{Context, Result, bail};

use crate::build;

const PAGE: &str = "ARCHITECTURE.md";
/// The lines between which the table stands.
const BEGIN: &str = "<!-- rooms: cargo xtask deps --write -->\n";
const END: &str = "<!-- end of rooms -->";

/// A module with rooms: its path, how many it has, how many imports there are between them.
pub(super) struct Row {
    pub street: String,
    pub rooms: usize,
    pub imports: usize,
}

fn render(rows: &[Row]) -> String {
    let line = |row: &Row| format!("| {} | {} | {} |\n", row.street, row.rooms, row.imports);
    let lines: String = rows.iter().map(line).collect();
    format!("\n| crate | rooms | imports between them |\n|---|---|---|\n{lines}\n")
}

/// The page with this table in place of its own; `None` if it has no place for one.
fn replaced(page: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{table}{END}{after}"))
}

/// Checks that the page tells of the rooms as they are, or makes it so.
pub(super) fn keep(rows: &[Row], write: bool) -> Result<()> {
    let path = build::root().join(PAGE);
    let page = std::fs::read_to_string(&path).with_context(|| format!("reading {PAGE}"))?;
    let new = replaced(&page, &render(rows)).with_context(|| format!("{PAGE} has no line {BEGIN:?}"))?;
    if write {
        std::fs::write(&path, new).with_context(|| format!("writing {PAGE}"))?;
    } else if new != page {
        bail!("the table of rooms in {PAGE} is not what the sources say: cargo xtask deps --write");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_one_before() {
        let rows = [Row { street: "house".to_owned(), rooms: 3, imports: 2 }];
        let page = format!("a\n{BEGIN}old\n{END}\nb\n");
        let new = replaced(&page, &render(&rows)).unwrap();
        assert!(
            new.starts_with("a\n") && new.ends_with("\nb\n") && new.contains("| house | 3 | 2 |"),
            "{new}"
        );
        assert!(!new.contains("old"));
        assert_eq!(replaced(&new, &render(&rows)), Some(new));
        assert_eq!(replaced("no table", ""), None);
    }
}
