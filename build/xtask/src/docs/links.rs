//! Links of Markdown pages to files and headings of this repository.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::headings;

/// Targets of all inline links with their lines, from 1: the `x` of `[text](x)`. Those in code are none.
pub(super) fn find(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in headings::outside_code(page) {
        // What is between backquotes is text.
        let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let mut rest = plain.as_str();
        while let Some(start) = rest.find("](") {
            rest = &rest[start + 2..];
            let end = rest.find([')', ' ']).unwrap_or(rest.len());
            found.push((number, rest[..end].to_owned()));
        }
    }
    found
}

/// Why a link of `page` leads nowhere; links to other hosts are not followed.
pub(super) fn fault(
    page: &Path,
    target: &str,
    files: &BTreeSet<PathBuf>,
    read: impl Fn(&Path) -> Option<String>,
) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let aim = match path {
        "" => page.to_owned(),
        path => resolved(page.parent().unwrap_or(Path::new("")), path),
    };
    let exists = files.contains(&aim) || files.iter().any(|file| file.starts_with(&aim));
    if !exists {
        return Some(format!("the link {target:?} leads to {}, which does not exist", aim.display()));
    }
    let anchor = anchor?;
    let text = read(&aim)?;
    let is_there = headings::of(&text).any(|heading| headings::anchor(heading) == anchor);
    (!is_there)
        .then(|| format!("the link {target:?} leads to a heading that {} does not have", aim.display()))
}

/// `path` as seen from `folder`, without `.` and `..`.
fn resolved(folder: &Path, path: &str) -> PathBuf {
    let mut found = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            Component::ParentDir => {
                found.pop();
            }
            Component::CurDir => {}
            part => found.push(part),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault_of(target: &str) -> Option<String> {
        let files = ["docs/a.md", "docs/b/c.md", "README.md"].map(PathBuf::from).into();
        fault(Path::new("docs/b/c.md"), target, &files, |_| Some("# The page\n".to_owned()))
    }

    #[test]
    fn links_lead_to_files_folders_and_headings() {
        for good in ["../a.md", "../../README.md", "c.md#the-page", "#the-page", "../b", "https://x.org/y"] {
            assert_eq!(fault_of(good), None, "{good}");
        }
        for bad in ["a.md", "../b/d.md", "#another-page", "c.md#page"] {
            assert!(fault_of(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn code_holds_no_links() {
        let page = "see [a](a.md) and [b](b.md \"title\")\n```\n[c](c.md)\n```\n`[d](d.md)` ![e](e.png)\n";
        let found: Vec<(usize, String)> = find(page);
        let expected = [(1, "a.md"), (1, "b.md"), (5, "e.png")];
        assert_eq!(found, expected.map(|(line, target)| (line, target.to_owned())));
    }
}
