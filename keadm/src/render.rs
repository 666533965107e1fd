//! What the operator reads: results on standard output, progress and errors on standard error.
#![allow(clippy::print_stdout)]

/// A result that scripts may read.
pub(crate) fn result(text: &str) {
    println!("{text}");
}

/// Something that was done.
pub(crate) fn done(text: &str) {
    eprintln!("  {text}");
}

/// The next command to type.
pub(crate) fn next(text: &str) {
    eprintln!("\nNext:\n  {text}");
}

/// A word of a command as a shell must be given it.
pub(crate) fn word(text: &str) -> String {
    // Only a zero byte cannot be quoted, and no argument can hold one.
    shlex::try_quote(text).map_or_else(|_| text.to_owned(), |quoted| quoted.into_owned())
}

pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("Error: {error:#}");
}
