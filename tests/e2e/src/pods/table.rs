//! All rows of a theme on one site.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::containerd;
use harness::images::Image;
use harness::programs::Programs;
use harness::site::Site;
use harness::wait;

use super::case::Case;
use super::facts::Eyes;
use super::row::Ground;
use super::watch::Watch;
use harness::wait::PATIENCE;

/// Rows under way at once: most of a row is waiting, but starting and probing so many containers is not.
const BESIDE: usize = 10;

const SLEEPS: &[&str] = &["sleep", "2147483647"];
/// Images of rows beside the one they have without asking: name, user, entrypoint, command.
type Written = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);
const IMAGES: &[Written] = &[
    ("number", "1234", &[], SLEEPS),
    ("named", "www", &[], SLEEPS),
    ("entry", "", &["echo", "entry"], &["image"]),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pods")
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// Each theme, with its rows.
pub fn themes() -> Result<Vec<(String, Vec<String>)>> {
    let rows = |theme: String| names(&folder().join(&theme)).map(|rows| (theme, rows));
    names(&folder())?.into_iter().map(rows).collect()
}

/// All rows as they are written.
pub fn rows() -> Result<Vec<Case>> {
    let mut rows = Vec::new();
    for (theme, files) in themes()? {
        let read = |file: &String| {
            Case::read(&folder().join(&theme).join(file), &format!("{theme}/{file}"), &any_port)
        };
        rows.extend(files.iter().map(read).collect::<Result<Vec<_>>>()?);
    }
    Ok(rows)
}

/// A row with some port for every peer.
fn any_port(text: &str) -> String {
    let mut parts = text.split("<peer:");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        filled.push('1');
        filled.push_str(part.split_once('>').map_or(part, |(_, rest)| rest));
    }
    filled
}

/// Runs the rows of a theme with EdgeCore's `settings`, and checks that nothing of them stays.
/// `peers` are ports of servers of the test, known in rows as `<peer:NAME>`.
pub fn run(theme: &str, settings: &[&str], peers: &[(&str, u16)]) -> Result<()> {
    let wanted = std::env::var("CAUSEWAY_PODS").unwrap_or_default();
    let files = names(&folder().join(theme))?;
    let files: Vec<String> =
        files.into_iter().filter(|file| format!("{theme}/{file}").contains(&wanted)).collect();
    if files.is_empty() {
        return Ok(());
    }
    let site = Site::start_with(&Programs::find()?, true, settings, |_| {})?;
    let scratch = site.folder().join("pods");
    std::fs::create_dir(&scratch)?;
    let fill = |text: &str| {
        let text = text.replace("<scratch>", &scratch.to_string_lossy());
        let text = text.replace("<root>", &site.edge.root.to_string_lossy());
        // What lies beside the root has a path without steps back, as Kubernetes wants it.
        let beside = site.edge.root.parent().unwrap_or(&site.edge.root);
        let text = text.replace("<beside>", &beside.to_string_lossy());
        peers
            .iter()
            .fold(text, |text, (name, port)| text.replace(&format!("<peer:{name}>"), &port.to_string()))
    };
    let cases: VecDeque<Case> = files
        .iter()
        .map(|file| Case::read(&folder().join(theme).join(file), &format!("{theme}/{file}"), &fill))
        .collect::<Result<_>>()?;
    let count = cases.len();
    for (name, user, entrypoint, command) in IMAGES {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        site.import(&Image {
            reference: format!("causeway.local/{name}:1"),
            user: (*user).to_owned(),
            entrypoint: words(entrypoint),
            command: words(command),
        })?;
    }
    site.node_ready()?;
    let eyes = eyes_on(&site)?;
    let watch = Watch::start(&site.kubectl())?;
    let ground = Ground { site: &site, watch: &watch, eyes: &eyes };
    let mut failures = all(&ground, cases);
    if let Err(error) = emptied(&ground) {
        failures.push(format!("{error:#}"));
    }
    if !failures.is_empty() {
        bail!("{} of {count} rows of {theme} do not hold:\n\n{}", failures.len(), failures.join("\n\n"));
    }
    Ok(())
}

fn eyes_on(site: &Site) -> Result<Eyes> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let cri = {
        let _entered = runtime.enter();
        cri::Runtime::new(&site.containerd()?.socket())?
    };
    Ok(Eyes { runtime, cri, pod_logs: site.edge.pod_logs() })
}

/// Runs all rows, some side by side; gives what failed.
fn all(ground: &Ground<'_>, cases: VecDeque<Case>) -> Vec<String> {
    let (queue, failures) = (Mutex::new(cases), Mutex::new(Vec::new()));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || {
        while let Some(case) = next() {
            let start = wait::now();
            let outcome = ground.run(&case);
            said(&case.name, start.elapsed(), outcome.is_ok());
            let cleared = ground.clear(&case);
            for error in [outcome, cleared].into_iter().filter_map(Result::err) {
                let text = format!("{}: {error:#}", case.name);
                failures.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..BESIDE {
            scope.spawn(work);
        }
    });
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort();
    failures
}

#[allow(clippy::print_stderr)] // The log of the test.
fn said(name: &str, time: Duration, held: bool) {
    eprintln!("{:>6.1} s  {}  {name}", time.as_secs_f32(), if held { "holds" } else { "FAILS" });
}

/// Nothing of a deleted pod stays: no object, container, mount or folder.
fn emptied(ground: &Ground<'_>) -> Result<()> {
    let site = ground.site;
    let pods = site.edge.root.join("var/lib/kubelet/pods");
    wait::for_true("the node is empty once its pods are deleted", PATIENCE, || {
        let present = ground.watch.present();
        ensure!(present.is_empty(), "the API still has {present:?}");
        let tasks = site.running_tasks()?;
        ensure!(tasks.is_empty(), "still running: {tasks:?}");
        let mounts = containerd::mounts_below(&site.edge.root);
        ensure!(mounts.is_empty(), "still mounted: {mounts:?}");
        let folders = names(&pods)?;
        ensure!(folders.is_empty(), "still in {}: {folders:?}", pods.display());
        Ok(true)
    })
}
