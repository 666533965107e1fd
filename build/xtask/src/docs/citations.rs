//! Citations of `docs/protocol`: `docs/protocol/transport.md 1.4, 3.3`, `... section 2`, `... 6.5 to 6.7 and 7`.

use std::path::{Path, PathBuf};

use super::headings;

/// Where the cited pages are.
const PAGES: &str = "docs/protocol/";

/// A page and the sections of it that are meant; none: the page as a whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Citation {
    pub page: PathBuf,
    pub sections: Vec<String>,
}

/// All citations of a text with their lines, from 1. A citation does not go on after the end of its line.
pub(super) fn find(text: &str) -> Vec<(usize, Citation)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let starts = line.match_indices(PAGES).map(|(start, _)| start);
        found.extend(starts.filter_map(|start| read(&line[start..])).map(|citation| (index + 1, citation)));
    }
    found
}

/// Pages that comments once cited in a folder that is not in the repository, `spec`.
const FORMER: &[&str] = &["transport", "devices", "edge-runtime"];

/// Lines, from 1, that still cite it.
pub(super) fn strays(text: &str) -> impl Iterator<Item = usize> {
    let former: Vec<String> = FORMER.iter().map(|page| format!("spec/{page}.md")).collect();
    let is_stray = move |line: &str| former.iter().any(|page| line.contains(page));
    text.lines().enumerate().filter(move |(_, line)| is_stray(line)).map(|(index, _)| index + 1)
}

fn read(text: &str) -> Option<Citation> {
    let end = text.find(".md")? + ".md".len();
    let page = &text[..end];
    let is_name = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
    if !page.chars().all(is_name) {
        return None;
    }
    Some(Citation { page: PathBuf::from(page), sections: sections(&text[end..]) })
}

/// The numbers that follow, as long as nothing but commas and small words is between them.
fn sections(rest: &str) -> Vec<String> {
    let mut found = Vec::new();
    for word in rest.split_whitespace() {
        if ["section", "sections", "and", "to"].contains(&word) {
            continue;
        }
        let number: String = word.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let after = &word[number.len()..];
        let number = number.trim_end_matches('.');
        if number.is_empty() || !rest.starts_with(' ') {
            break;
        }
        found.push(number.to_owned());
        if !(after.is_empty() || after == ",") {
            break;
        }
    }
    found
}

/// What is wrong with a citation; `page` gives the text of a page.
pub(super) fn faults(citation: &Citation, page: impl Fn(&Path) -> Option<String>) -> Vec<String> {
    let name = citation.page.display();
    let Some(text) = page(&citation.page) else { return vec![format!("there is no page {name}")] };
    let numbers: Vec<&str> = headings::of(&text).filter_map(headings::number).collect();
    let missing = citation.sections.iter().filter(|section| !numbers.contains(&section.as_str()));
    missing.map(|section| format!("{name} has no section {section}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `@` stands for the folder of pages, so that this file cites none.
    fn found(text: &str) -> Vec<Citation> {
        find(&text.replace('@', PAGES)).into_iter().map(|(_, citation)| citation).collect()
    }

    #[test]
    fn every_form_of_a_citation_is_read() {
        let table: [(&str, &[&str]); 8] = [
            ("//! Names (@transport.md 1.4).", &["1.4"]),
            ("/// of any size (@transport.md 2.1): nothing", &["2.1"]),
            ("//! @devices.md section 4 (upstream blocks)", &["4"]),
            ("//! @edge-runtime.md 6.5 to 6.7 and 7.", &["6.5", "6.7", "7"]),
            ("//! (@transport.md 7.2, 7.3; the kubelet's of 1.22)", &["7.2", "7.3"]),
            ("//! (@edge-runtime.md 5.6, rule 5)", &["5.6"]),
            ("//! (@a.md 2.1, @b.md 3.3)", &["2.1", "3.3"]),
            ("//! see @transport.md", &[]),
        ];
        for (text, expected) in table {
            let sections: Vec<String> =
                found(text).into_iter().flat_map(|citation| citation.sections).collect();
            assert_eq!(sections, expected, "{text}");
        }
    }

    #[test]
    fn a_citation_of_what_is_not_here_is_told() {
        let text = format!("//! Names (spec/{}.md 1.4).\n//! (@{}.md 1.4)\n", FORMER[0], FORMER[0]);
        assert_eq!(strays(&text.replace('@', PAGES)).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_page_and_a_section_that_are_not_there_are_told() {
        let page = PathBuf::from(format!("{PAGES}a.md"));
        let pages = |path: &Path| (path == page).then(|| "## 1. One\n".to_owned());
        let told = |text: &str| found(text).iter().flat_map(|cited| faults(cited, pages)).collect::<Vec<_>>();
        assert!(told("@a.md 1").is_empty());
        assert_eq!(told("@a.md 1, 1.1"), [format!("{PAGES}a.md has no section 1.1")]);
        assert_eq!(told("@b.md 1"), [format!("there is no page {PAGES}b.md")]);
    }
}
