//! One step of a case.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::Request;
use serde_json::Value;

use crate::case::{Codes, Expected, Seen, Step};
use crate::client::{Answer, DEADLINE, Who, unhex};
use crate::compare::{at, plain, problem, problems, short};
use crate::ground::Ground;
use crate::watch::Watch;

/// Between two tries of a request that is repeated.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest wait of a case that is known to fail.
const HURRY: Duration = Duration::from_secs(2);

/// Watches by name.
pub(crate) type Watches = HashMap<String, Watch>;

/// Does a step. The error says what was expected and what came.
pub(crate) async fn take(ground: &mut Ground, watches: &mut Watches, step: &Step) -> Result<()> {
    if let Some(path) = &step.watch {
        let request = built(ground, step, "GET", path)?;
        let who = who(ground, step)?;
        let answer = ground.client.stream(&who, request).await?;
        if answer.status() != 200 {
            bail!("expected a watch, got {}", answer.status());
        }
        watches.insert(step.name.clone(), Watch::new(answer.into_body()));
        return Ok(());
    }
    if let Some(name) = &step.events {
        let watch = watches.get_mut(name).with_context(|| format!("there is no watch {name}"))?;
        return events(ground, watch, step).await;
    }
    let end = tokio::time::Instant::now() + within(ground, step);
    loop {
        match request(ground, step).await {
            Err(error) if step.eventually && tokio::time::Instant::now() < end => {
                drop(error);
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

fn within(ground: &Ground, step: &Step) -> Duration {
    let within = step.within.map_or(DEADLINE, Duration::from_secs);
    if ground.hurry { within.min(HURRY) } else { within }
}

fn who(ground: &Ground, step: &Step) -> Result<Who> {
    let Some(who) = &step.who else { return Ok(Who::Admin) };
    if who == "anonymous" {
        return Ok(Who::Anonymous);
    }
    if let Some(token) = who.strip_prefix("token:") {
        return Ok(Who::Token(ground.words.fill(token)));
    }
    let token = ground.words.get(&format!("token_{who}"));
    Ok(Who::Token(token.with_context(|| format!("there is no account {who}"))?.to_owned()))
}

fn built(ground: &Ground, step: &Step, method: &str, path: &str) -> Result<Request<Bytes>> {
    let words = &ground.words;
    let mut request = Request::builder().method(method).uri(words.fill(path).replace(' ', "%20"));
    let body = match (&step.body, &step.hex) {
        (_, Some(digits)) => Some(Bytes::from(unhex(&words.fill(digits))?)),
        (Some(Value::String(text)), None) => Some(Bytes::from(words.fill(text))),
        (Some(value), None) => Some(Bytes::from(words.fill_value(value).to_string())),
        (None, None) => None,
    };
    let content = match step.content.as_deref() {
        Some("merge") => "application/merge-patch+json",
        Some("json") => "application/json-patch+json",
        Some("strategic") => "application/strategic-merge-patch+json",
        Some("apply") => "application/apply-patch+yaml",
        Some("yaml") => "application/yaml",
        Some("protobuf") => "application/vnd.kubernetes.protobuf",
        Some(other) => other,
        None => "application/json",
    };
    if body.is_some() && !content.is_empty() {
        request = request.header("content-type", content);
    }
    for (name, value) in &step.headers {
        request = request.header(name, words.fill(value));
    }
    request.body(body.unwrap_or_default()).context("building the request")
}

async fn request(ground: &mut Ground, step: &Step) -> Result<()> {
    let line = step.request.as_deref().unwrap_or_default();
    let (method, path) = line.split_once(' ').context("a request is METHOD PATH")?;
    let request = built(ground, step, method, path)?;
    let who = who(ground, step)?;
    let answer = ground.client.send(&who, request, within(ground, step)).await?;
    let path = ground.words.fill(path);
    ground.note(method, &path, &answer);
    let wanted = match &step.status {
        Some(Codes::One(code)) => vec![*code],
        Some(Codes::Several(codes)) => codes.clone(),
        None if method == "POST" => vec![201],
        None => vec![200],
    };
    let value = answer.value();
    let mut wrong = Vec::new();
    if !wanted.contains(&answer.code) {
        wrong.push(format!("expected {wanted:?}, got {}", answer.code));
    }
    for (name, wanted) in &step.answer {
        let got = answer.header(name).map(Value::String);
        let wanted = ground.words.fill_value(wanted);
        let found = match &wanted {
            Value::Null => got.map(|got| format!("expected none, got {got}")),
            wanted => problem(wanted, got.as_ref()),
        };
        wrong.extend(found.map(|found| format!("header {name}: {found}")));
    }
    wrong.extend(problems(&step.body_of_answer, &value, &ground.words));
    if !wrong.is_empty() {
        bail!("{}; the answer: {} {}", wrong.join("; "), answer.code, short(&value));
    }
    capture(ground, &step.body_of_answer, &value, Some(&answer))
}

fn capture(ground: &mut Ground, expected: &Expected, value: &Value, answer: Option<&Answer>) -> Result<()> {
    for (name, place) in &expected.capture {
        let place = ground.words.fill(place);
        let found = match (place.strip_prefix('#'), answer) {
            (Some(header), Some(answer)) => answer.header(header),
            _ => at(value, &place).map(plain),
        };
        ground
            .words
            .set(name, found.with_context(|| format!("nothing to capture at {place}: {}", short(value)))?);
    }
    Ok(())
}

async fn events(ground: &mut Ground, watch: &mut Watch, step: &Step) -> Result<()> {
    for (number, seen) in step.see.iter().enumerate() {
        let number = number + 1;
        let event = loop {
            let event = watch
                .next(within(ground, step))
                .await
                .with_context(|| format!("event {number}: expected {}", seen.kind))?;
            let event =
                event.with_context(|| format!("event {number}: expected {}, got the end", seen.kind))?;
            if event["type"] != "BOOKMARK" || seen.kind == "BOOKMARK" {
                break event;
            }
        };
        let Seen { expect, present, absent, capture: captured, .. } = seen.clone();
        let expected = Expected { expect, present, absent, capture: captured };
        let mut wrong = Vec::new();
        if event["type"] != seen.kind {
            wrong.push(format!("expected {}", seen.kind));
        }
        wrong.extend(problems(&expected, &event["object"], &ground.words));
        if !wrong.is_empty() {
            bail!("event {number}: {}; the event: {}", wrong.join("; "), short(&event));
        }
        capture(ground, &expected, &event["object"], None)?;
    }
    if step.end { ended(ground, watch, step).await } else { Ok(()) }
}

/// Reads a watch to its end, on which nothing but bookmarks may come.
async fn ended(ground: &Ground, watch: &mut Watch, step: &Step) -> Result<()> {
    loop {
        match watch.next(within(ground, step)).await.context("expected the end of the watch")? {
            None => return Ok(()),
            Some(event) if event["type"] == "BOOKMARK" => {}
            Some(event) => bail!("expected the end of the watch, got {}", short(&event)),
        }
    }
}
