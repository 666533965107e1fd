//! Labels of nodes as operators type them, checked as Kubernetes checks them. Pure.

/// Reads `key=value`.
pub(crate) fn read(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?}: wanted key=value"))?;
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let is_prefix = |text: &str| {
        text.len() <= 253
            && text.split('.').all(|part| {
                !part.is_empty()
                    && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                    && !part.starts_with('-')
                    && !part.ends_with('-')
            })
    };
    if !is_name(name) || !prefix.is_none_or(is_prefix) {
        return Err(format!(
            "{key:?} is not a label's key: at most 63 letters, digits, - _ . between letters or digits, after a DNS name and / if you like"
        ));
    }
    if !value.is_empty() && !is_name(value) {
        return Err(format!(
            "{value:?} is not a label's value: at most 63 letters, digits, - _ . between letters or digits"
        ));
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn is_name(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && ends(text.chars().next())
        && ends(text.chars().last())
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn labels_are_those_kubernetes_takes() {
        assert_eq!(read("example.com/rack=r-1"), Ok(("example.com/rack".into(), "r-1".into())));
        assert_eq!(read("on="), Ok(("on".into(), String::new())));
        for wrong in ["on", "=x", "a b=c", "a=b c", "A.com/x=1", "a/b/c=1", "-a=1", "a=-", "a=é"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read(&format!("a={}", "x".repeat(64))).is_err());
    }
}
