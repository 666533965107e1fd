//! What may name an image: `[host[:port]/]path[:tag][@digest]`, as registries define it.

/// Why a text cannot name an image; none if it can.
pub(super) fn fault(image: &str) -> Option<&'static str> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let last = name.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match name[last..].find(':') {
        Some(at) => (&name[..last + at], Some(&name[last + at + 1..])),
        None => (name, None),
    };
    let path = match name.split_once('/') {
        Some((host, path)) if is_host(host) => path,
        _ => name,
    };
    if !path.split('/').all(is_component) {
        let upper = path.chars().any(|c| c.is_ascii_uppercase());
        return Some(if upper { "repository name must be lowercase" } else { "invalid repository name" });
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Some("invalid tag");
    }
    digest.is_some_and(|digest| !is_digest(digest)).then_some("invalid digest")
}

/// The first part is a host, and not a folder of the default registry, if it could be no folder there.
fn is_host(part: &str) -> bool {
    let has_mark =
        part.contains(['.', ':']) || part == "localhost" || part.chars().any(|c| c.is_ascii_uppercase());
    has_mark && part.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c))
}

/// Lower case letters and digits, with separators (`.`, `_`, `__`, dashes) between them.
fn is_component(part: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = part.split(is_word).filter(|gap| !gap.is_empty());
    let ends = part.starts_with(is_word) && part.ends_with(is_word);
    ends && separators.into_iter().all(|gap| matches!(gap, "." | "_" | "__") || gap.chars().all(|c| c == '-'))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128 && tag.starts_with(is_word) && tag.chars().all(|c| is_word(c) || c == '.' || c == '-')
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    !algorithm.is_empty() && hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_from_what_names_no_image() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for good in ["a", "a/b_c/d-e__f:1", "host:5000/a:V1.2", "LOCAL/a", "[::1]:5000/a", "x.y/a", &digest] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in
            ["", "A", "NOT/Valid::name", "a:", "a:b c", "a//b", "-a", "a_-b", "a@sha256:1", "a b", "x.y/"]
        {
            assert!(fault(bad).is_some(), "{bad}");
        }
    }
}
