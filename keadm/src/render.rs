//! What the operator reads: results on standard output, progress and errors on standard error.
#![allow(clippy::print_stdout)]

/// A result that scripts may read.
pub fn result(text: &str) {
    println!("{text}");
}

/// Something that was done.
pub fn done(text: &str) {
    eprintln!("  {text}");
}

/// The next command to type.
pub fn next(text: &str) {
    eprintln!("\nNext:\n  {text}");
}

pub fn error(error: &anyhow::Error) {
    eprintln!("Error: {error:#}");
}
