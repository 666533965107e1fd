//! What others said, as it goes into a line: it ends no line, moves no cursor, and is not longer than it may be.

use std::fmt::{Debug, Result, Write};

/// Most bytes of one field.
const LONGEST: usize = 1024;

/// Writes `value` with everything escaped that a terminal or a reader of lines would obey, and cut after 1 KiB.
pub(super) fn put(writer: &mut dyn Write, value: &dyn Debug) -> Result {
    let mut field = Field { writer, left: LONGEST, cut: 0 };
    write!(field, "{value:?}")?;
    match field.cut {
        0 => Ok(()),
        cut => write!(field.writer, "... ({cut} bytes more)"),
    }
}

struct Field<'a> {
    writer: &'a mut dyn Write,
    /// Bytes that may still be written.
    left: usize,
    /// Bytes that were not.
    cut: usize,
}

impl Write for Field<'_> {
    fn write_str(&mut self, text: &str) -> Result {
        let mut plain = 0;
        for (at, c) in text.char_indices() {
            let end = at + c.len_utf8();
            if end > self.left {
                self.writer.write_str(&text[plain..at])?;
                self.cut += text.len() - at;
                self.left = 0;
                return Ok(());
            }
            if is_obeyed(c) {
                self.writer.write_str(&text[plain..at])?;
                write!(self.writer, "{}", c.escape_default())?;
                plain = end;
            }
        }
        self.writer.write_str(&text[plain..])?;
        self.left -= text.len();
        Ok(())
    }
}

/// C0 and C1 controls, line and paragraph separators, and what changes the direction of text (Unicode UAX 9) or is not
/// seen.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{61c}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: &dyn Debug) -> String {
        let mut line = String::new();
        put(&mut line, value).unwrap();
        line
    }

    #[test]
    fn what_is_obeyed_is_escaped_and_everything_else_is_as_it_was() {
        assert_eq!(written(&format_args!("Grüße, 7 °C")), "Grüße, 7 °C");
        assert_eq!(written(&"a\nb"), r#""a\nb""#);
        assert_eq!(
            written(&format_args!("a\n\u{1b}[2J\u{9b}\u{202e}\u{2028}")),
            r"a\n\u{1b}[2J\u{9b}\u{202e}\u{2028}"
        );
    }

    #[test]
    fn a_cut_never_splits_a_letter_and_counts_what_is_missing() {
        let text = "ü".repeat(LONGEST);
        assert_eq!(
            written(&format_args!("x{text}")),
            format!("x{}... ({} bytes more)", "ü".repeat(511), LONGEST + 2)
        );
        let parts = written(&format_args!("{}{}", "a".repeat(LONGEST), "b"));
        assert!(parts.ends_with("a... (1 bytes more)"), "{parts}");
    }
}
