//! `cargo xtask dictionary`: trains the compression dictionary of the native dialect on the recorded messages.
//!
//! The result is part of the protocol (`common/native/dictionary/1.zdict`): running this again makes another dialect.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::Args;
use native::frames::frame::Body;
use native::frames::{Change, Envelope, Objects, Row, Submit, change};
use prost::Message as _;

#[derive(Args)]
pub(crate) struct Flags {
    /// Where to write the dictionary.
    #[arg(long)]
    output: std::path::PathBuf,
}

/// Large enough for one of every usual object, small enough to be searched fast.
const SIZE: usize = 24 * 1024;
/// Copies of each message, with other numbers and identities.
const VARIANTS: u64 = 48;

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let mut samples = Vec::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../interop/golden");
    let mut files: Vec<_> = std::fs::read_dir(&golden)?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "json")) {
        samples.extend(of_file(file)?);
    }
    ensure!(samples.len() > 100, "only {} samples in {}", samples.len(), golden.display());
    let dictionary = native::train(&samples, SIZE).context("training")?;
    std::fs::write(&flags.output, &dictionary)?;
    println!("{} samples, {} bytes -> {}", samples.len(), dictionary.len(), flags.output.display());
    Ok(())
}

fn of_file(file: &Path) -> Result<Vec<Vec<u8>>> {
    #[derive(serde::Deserialize)]
    struct Recorded {
        message: Box<serde_json::value::RawValue>,
    }
    let recorded = serde_json::from_str::<Recorded>(&std::fs::read_to_string(file)?);
    let Ok(Recorded { message }) = recorded else { return Ok(Vec::new()) };
    let text = compact(message.get());
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut samples = Vec::new();
    for variant in 0..VARIANTS {
        let text = varied(&text, variant);
        let Ok(message) = message::decode(text.as_bytes()) else { return Ok(Vec::new()) };
        let body = if name.contains("-up-") {
            let envelope = message::encode(&message).into_bytes();
            Body::Submit(Submit { rows: vec![Row { seq: variant + 1, envelope }] })
        } else if message.route.operation == "response" {
            Body::Answer(Envelope { json: message::encode(&message).into_bytes(), delta: None })
        } else {
            let change = Change {
                ticket: variant + 1,
                resource: message.route.resource.clone(),
                version: message.header.resourceversion.clone(),
                source: message.route.source.clone(),
                body: Some(change::Body::Full(message.content.text().as_bytes().to_vec())),
                ..Change::default()
            };
            Body::Objects(Objects { changes: vec![change] })
        };
        samples.push(native::frames::Frame { body: Some(body) }.encode_to_vec());
    }
    Ok(samples)
}

/// JSON without white space outside strings, members in their order.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = move |c: &char| {
        let keep = in_string || !c.is_ascii_whitespace();
        match c {
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && *c == '\\' && !escaped;
        keep
    };
    json.chars().filter(keep).collect()
}

/// The text with every number and hexadecimal identity replaced, the same way for the same variant.
fn varied(text: &str, variant: u64) -> String {
    let mut state = variant.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut out = String::with_capacity(text.len());
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let hex = word.len() > 7
            && word
                .trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
                .bytes()
                .all(|b| b.is_ascii_hexdigit());
        let number = word.len() > 3 && word.bytes().next().is_some_and(|b| b.is_ascii_digit());
        for c in word.chars() {
            match c {
                '1'..='9' if hex || number => out.push(char::from(b'1' + next(9) as u8)),
                'a'..='f' if hex => out.push(char::from(b'a' + next(6) as u8)),
                _ => out.push(c),
            }
        }
    }
    out
}
