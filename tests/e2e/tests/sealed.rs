//! Secrets that lie sealed on the edge's disk: pods start from them without a link, and come by them again when the key is lost.

use std::path::Path;

use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harness::programs::Programs;
use harness::site::Site;
use harness::wait;
use harness::wait::PATIENCE;
use rusqlite::{Connection, OpenFlags};

const FIRST: &str = "first-word-of-the-badge";
const SECOND: &str = "second-word-of-the-badge";

fn set_badge(site: &Site, word: &str) -> Result<()> {
    let patch = format!("{{\"stringData\":{{\"number\":\"{word}\"}}}}");
    site.kubectl().run(&["patch", "secret", "badge", "-p", &patch]).map(|_| ())
}

/// What is stored of the secret: its version and its value.
fn stored(site: &Site) -> Result<(String, String)> {
    let database = Connection::open_with_flags(site.edge.database(), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    database.busy_timeout(PATIENCE)?;
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    Ok(database.query_row("SELECT version, value FROM meta WHERE key = 'default/secret/badge'", [], row)?)
}

/// Waits for the newest version to be stored, and answers which key it is sealed with.
fn key_of_newest(site: &Site) -> Result<String> {
    let newest = site.kubectl().field("secret", "badge", ".metadata.resourceVersion")?;
    wait::until("the secret, sealed", PATIENCE, || {
        let Ok((version, value)) = stored(site) else { return Ok(None) };
        let key = value.strip_prefix("\"sealed:v1:").and_then(|rest| rest.split_once(':'));
        Ok(key.filter(|_| version == newest).map(|(key, _)| key.to_owned()))
    })
}

/// Whether a file beside the database holds the word, or its base64.
fn is_on_disk(database: &Path, word: &str) -> Result<bool> {
    for file in std::fs::read_dir(database.parent().unwrap_or(Path::new("/")))?.flatten() {
        let bytes = if file.file_type()?.is_file() { std::fs::read(file.path())? } else { Vec::new() };
        for text in [word.to_owned(), STANDARD.encode(word)] {
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[test]
fn a_pod_starts_without_a_link_from_a_sealed_secret_and_with_one_after_the_key_is_lost() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let elsewhere = tempfile::tempdir()?;
    let key = elsewhere.path().join("secrets.key");
    let setting = format!("database.secretsKeyFile={}", key.display());
    let site = Site::start_with(&Programs::find()?, true, &[&setting], |_| {})?;
    site.node_ready()?;
    site.apply_greeter()?;
    site.pod_running()?;
    set_badge(&site, FIRST)?;
    let first = key_of_newest(&site)?;
    ensure!(!is_on_disk(&site.edge.database(), FIRST)?, "the secret is on the disk in plain text");

    site.relay.cut();
    site.edge.kill9()?;
    site.remove_all_containers()?;
    site.edge.start()?;
    site.log_line(FIRST)?;

    site.edge.kill9()?;
    std::fs::remove_file(&key)?;
    site.relay.heal();
    set_badge(&site, SECOND)?;
    site.edge.start()?;
    ensure!(key_of_newest(&site)? != first, "the former key was made again");
    // Made again, its containers have the new word in their environment.
    site.edge.kill9()?;
    site.remove_all_containers()?;
    site.edge.start()?;
    site.log_line(SECOND)?;
    ensure!(!is_on_disk(&site.edge.database(), SECOND)?, "the secret is on the disk in plain text");
    Ok(())
}
