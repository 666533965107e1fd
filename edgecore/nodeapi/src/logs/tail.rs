//! Where the last lines of a log begin, over its files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::lines::ends_a_line;

/// A place in a list of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub file: usize,
    pub offset: u64,
}

const BLOCK: u64 = 64 * 1024;
/// Enough of a line to see whether it is a partial one.
const HEAD: usize = 128;

/// The beginning, or where the last `tail` lines begin. Lines the runtime split count as one. Blocks on the disk.
pub(super) fn start(files: &[File], tail: Option<u64>) -> io::Result<Start> {
    let Some(mut wanted) = tail else { return Ok(Start { file: 0, offset: 0 }) };
    for (index, file) in files.iter().enumerate().rev() {
        match within(file, &mut wanted)? {
            Some(offset) => return Ok(Start { file: index, offset }),
            None if index == 0 => break,
            None => {}
        }
    }
    Ok(Start { file: 0, offset: 0 })
}

/// Goes back line by line. Where the line before the wanted ones ends, if that is in this file; else `wanted` is what
/// is still to be found in earlier ones.
fn within(file: &File, wanted: &mut u64) -> io::Result<Option<u64>> {
    let length = file.metadata()?.len();
    let mut end = length;
    let mut block = Vec::new();
    // End of the physical line whose start is looked for.
    let mut line_end = length;
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        block.resize(usize::try_from(end - begin).unwrap_or_default(), 0);
        file.read_exact_at(&mut block, begin)?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let start = begin + at as u64 + 1;
            // The newline at the very end begins no line.
            if start < length && is_past(file, start, line_end, wanted)? {
                return Ok(Some(line_end));
            }
            line_end = start;
        }
        end = begin;
    }
    if length > 0 && is_past(file, 0, line_end, wanted)? {
        return Ok(Some(line_end));
    }
    Ok(None)
}

/// Counts the line that starts at `start`; true when it is the first one that is not wanted.
fn is_past(file: &File, start: u64, end: u64, wanted: &mut u64) -> io::Result<bool> {
    let mut head = [0; HEAD];
    let room = usize::try_from(end.saturating_sub(start)).unwrap_or(HEAD).min(HEAD);
    let count = file.read_at(head.get_mut(..room).unwrap_or_default(), start)?;
    if !ends_a_line(head.get(..count).unwrap_or_default()) {
        return Ok(false);
    }
    if *wanted == 0 {
        return Ok(true);
    }
    *wanted -= 1;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn line(text: &str) -> String {
        format!("2026-01-01T00:00:00Z stdout F {text}\n")
    }

    /// What is read from the start to the end of all files.
    fn rest(texts: &[String], tail: u64) -> String {
        let files: Vec<File> = texts.iter().map(|text| file(text)).collect();
        let start = start(&files, Some(tail)).unwrap();
        let from = usize::try_from(start.offset).unwrap();
        texts[start.file][from..].to_owned() + &texts[start.file + 1..].concat()
    }

    #[test]
    fn lines_are_counted_back_over_files_and_split_lines_count_once() {
        let split = format!("2026-01-01T00:00:00Z stdout P long\n{}", line("er"));
        let texts = [line("a") + &line("b"), line("c") + &split + &line("d")];
        assert_eq!(rest(&texts, 0), "");
        assert_eq!(rest(&texts, 1), line("d"));
        assert_eq!(rest(&texts, 2), split.clone() + &line("d"));
        assert_eq!(rest(&texts, 3), line("c") + &split + &line("d"));
        assert_eq!(rest(&texts, 4), line("b") + &texts[1]);
        assert_eq!(rest(&texts, 99), texts.concat());
        assert_eq!(rest(&[String::new()], 5), "");
    }

    #[test]
    fn blocks_are_crossed_without_losing_a_line() {
        let long = line(&"x".repeat(usize::try_from(BLOCK).unwrap()));
        let texts = [long.clone() + &line("a") + &long + &line("b") + &long];
        assert_eq!(rest(&texts, 2), line("b") + &long);
        assert_eq!(rest(&texts, 4), line("a") + &long + &line("b") + &long);
        let many: String = (0..5000).map(|number| line(&number.to_string())).collect();
        let expected: String = (1000..5000).map(|number| line(&number.to_string())).collect();
        assert_eq!(rest(&[many], 4000), expected);
    }
}
