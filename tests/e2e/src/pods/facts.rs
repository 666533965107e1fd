//! Looking inside and beside containers: through the runtime, in log files, on the host.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::case::{Command, Fact};

const EXEC_LIMIT: Duration = Duration::from_secs(20);

/// Where facts are looked for.
pub struct Eyes {
    pub runtime: tokio::runtime::Runtime,
    pub cri: cri::Runtime,
    pub pod_logs: PathBuf,
}

/// What a command in a container did.
pub struct Ran {
    pub exit: i32,
    pub output: String,
}

impl Eyes {
    /// Runs a command in a container of the pod.
    pub fn exec(&self, pod: &Value, container: &str, command: &Command) -> Result<Ran> {
        let id = container_id(pod, container).with_context(|| format!("container {container} has no id"))?;
        let words = command.words();
        let answer = self
            .runtime
            .block_on(self.cri.exec_sync(&id, words.clone(), EXEC_LIMIT))
            .with_context(|| format!("{words:?} in {container}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ran { exit: answer.exit_code, output: text(&answer.stdout) + &text(&answer.stderr) })
    }

    /// Why the fact does not hold; none if it does.
    pub fn contradiction(
        &self,
        pod: &Value,
        first: &str,
        fact: &Fact,
        fill: &impl Fn(&str) -> String,
    ) -> Option<String> {
        let (exit, text) = match self.look(pod, first, fact, fill) {
            Ok(seen) => seen,
            Err(error) => return Some(format!("{}: {error:#}", place(fact))),
        };
        let text = text.trim_end_matches('\n');
        let shown = || format!("got {text:?} (exit code {exit})");
        if fact.exec.is_some() && exit != fact.exit.unwrap_or(0) {
            return Some(format!(
                "{}: expected exit code {}, {}",
                place(fact),
                fact.exit.unwrap_or(0),
                shown()
            ));
        }
        if let Some(wanted) = fact.prints.as_ref().map(|wanted| fill(wanted))
            && wanted.trim_end_matches('\n') != text
        {
            return Some(format!("{}: expected {wanted:?}, {}", place(fact), shown()));
        }
        if let Some(part) = fact.contains.iter().map(|part| fill(part)).find(|part| !text.contains(part)) {
            return Some(format!("{}: expected {part:?} in it, {}", place(fact), shown()));
        }
        let unwanted = fact.lacks.iter().map(|part| fill(part)).find(|part| text.contains(part))?;
        Some(format!("{}: expected no {unwanted:?} in it, {}", place(fact), shown()))
    }

    fn look(
        &self,
        pod: &Value,
        first: &str,
        fact: &Fact,
        fill: &impl Fn(&str) -> String,
    ) -> Result<(i32, String)> {
        if let Some(command) = &fact.exec {
            let ran = self.exec(pod, fact.container.as_deref().unwrap_or(first), &filled(command, fill))?;
            return Ok((ran.exit, ran.output));
        }
        if let Some(container) = &fact.log {
            return Ok((0, self.log(pod, container)?));
        }
        if let Some(file) = &fact.file {
            let file = fill(file);
            return Ok((0, std::fs::read_to_string(&file).with_context(|| file)?));
        }
        if let Some(server) = &fact.get {
            return Ok((0, get(&fill(server))?));
        }
        let folder = fill(fact.folder.as_deref().context("a fact that looks nowhere")?);
        let mut names: Vec<String> = std::fs::read_dir(&folder)
            .with_context(|| folder)?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        Ok((0, names.join("\n")))
    }

    fn log(&self, pod: &Value, container: &str) -> Result<String> {
        let field = |name: &str| pod["metadata"][name].as_str().unwrap_or_default().to_owned();
        let folder = format!("{}_{}_{}", field("namespace"), field("name"), field("uid"));
        let folder = self.pod_logs.join(folder).join(container);
        let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
            .with_context(|| format!("logs of {container}"))?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        files.sort();
        let texts: Vec<String> = files.iter().map(|file| log_text(file)).collect::<Result<_>>()?;
        Ok(texts.concat())
    }
}

fn get(server: &str) -> Result<String> {
    let limit = Duration::from_secs(5);
    let address = server.parse().with_context(|| format!("{server:?} is no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn filled(command: &Command, fill: &impl Fn(&str) -> String) -> Command {
    Command::Words(command.words().iter().map(|word| fill(word)).collect())
}

/// Lines without time, stream and tag.
fn log_text(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file)?;
    Ok(text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).map(|line| format!("{line}\n")).collect())
}

fn container_id(pod: &Value, name: &str) -> Option<String> {
    let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    let mut statuses = lists.iter().flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
    let status = statuses.find(|status| status["name"] == name)?;
    Some(status["containerID"].as_str()?.rsplit('/').next()?.to_owned())
}

fn place(fact: &Fact) -> String {
    let words = fact.exec.as_ref().map(|command| command.words().join(" "));
    let log = fact.log.as_ref().map(|container| format!("log of {container}"));
    words.or(log).or(fact.file.clone()).or(fact.folder.clone()).or(fact.get.clone()).unwrap_or_default()
}
