//! Headings of a Markdown page: their section numbers, and the anchors that links name.

/// The headings in order, without their marks. Lines in code blocks are none.
pub(super) fn of(page: &str) -> impl Iterator<Item = &str> {
    outside_code(page).filter_map(|(_, line)| {
        let text = line.trim_start_matches('#');
        let marks = line.len() - text.len();
        ((1..=6).contains(&marks) && text.starts_with(' ')).then(|| text.trim())
    })
}

/// Lines with their numbers, from 1, that are not in a fenced code block.
pub(super) fn outside_code(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    page.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        (!in_code && !is_fence).then_some((index + 1, line))
    })
}

/// The number a heading begins with: `1.4` of `1.4 Resource path`, `2` of `2. Connection`.
pub(super) fn number(heading: &str) -> Option<&str> {
    let first = heading.split(' ').next().unwrap_or_default().trim_end_matches('.');
    let is_number = first.split('.').all(|part| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit()));
    is_number.then_some(first)
}

/// The anchor that GitHub gives a heading: lower case, without punctuation, words joined by hyphens.
pub(super) fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_in_code_are_none_and_numbers_are_read_with_and_without_a_dot() {
        let page =
            "# Page\n## 2. Connection\n```sh\n# 9 no heading\n```\n### 2.1 WebSocket, port 10000\n#hash\n";
        let headings: Vec<&str> = of(page).collect();
        assert_eq!(headings, ["Page", "2. Connection", "2.1 WebSocket, port 10000"]);
        let numbers: Vec<&str> = headings.into_iter().filter_map(number).collect();
        assert_eq!(numbers, ["2", "2.1"]);
    }

    #[test]
    fn anchors_are_githubs() {
        assert_eq!(anchor("Secrets on the disk of an edge"), "secrets-on-the-disk-of-an-edge");
        assert_eq!(anchor("`modules.edgeHub` (what, why)"), "modulesedgehub-what-why");
    }
}
