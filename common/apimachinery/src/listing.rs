//! The options of lists and watches: which state is asked for, and what may not be asked for together.
//!
//! As kube-apiserver 1.36 reads them: `apimachinery/pkg/apis/meta/internalversion/validation` (what goes together),
//! `apiserver/pkg/storage` (resource versions and continue tokens); see "API concepts", "Resource versions".

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Value, json};

use crate::object::text;
use crate::{Cause, Status};

/// Reads tokens with and without padding.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const FORM: &str = "meta.k8s.io/v1";

/// Which state a list is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The newest, which must be at least of this revision; 0: of any.
    NotOlderThan(i64),
    /// That of this revision and no other.
    Exactly(i64),
}

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continue {
    /// The revision of the first page; `None`: the client takes what is there now.
    pub revision: Option<i64>,
    /// Namespace (empty for cluster-scoped resources and lists of one namespace) and name of the last item.
    pub after: (String, String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOptions {
    pub state: State,
    /// 0 for all.
    pub limit: usize,
    pub continued: Option<Continue>,
}

/// How a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// After this revision.
    After(i64),
    /// With the current objects as additions; `mark_end` adds the bookmark that ends a streaming list.
    Everything { mark_end: bool },
    /// With the next change.
    Now,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    pub start: Start,
    pub bookmarks: bool,
    /// Seconds; `None` if the client leaves it to the server.
    pub timeout: Option<u64>,
}

/// A query parameter's value; `None` if it is not there.
pub trait Asked {
    fn value(&self, name: &str) -> Option<&str>;

    /// As upstream reads a boolean: there and not `false` or `0`.
    fn flag(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| !value.eq_ignore_ascii_case("false") && value != "0")
    }

    fn text(&self, name: &str) -> &str {
        self.value(name).unwrap_or_default()
    }

    /// # Errors
    /// 400: it is no number.
    fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
            }),
        }
    }
}

const MATCH: &str = "resourceVersionMatch";
const INITIAL: &str = "sendInitialEvents";

fn refused(causes: Vec<Cause>) -> Result<(), Status> {
    if causes.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "ListOptions", "", causes)) }
}

/// `resourceVersion`; 0 if it is not there.
///
/// # Errors
/// Why it is none.
pub fn revision(text: &str) -> Result<i64, String> {
    match text {
        "" => Ok(0),
        text => text.parse::<u64>().ok().and_then(|version| i64::try_from(version).ok()).ok_or_else(|| {
            let why = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
            let cause = Cause::invalid("resourceVersion", &json!(text), &why);
            format!("resourceVersion: {}", cause.message)
        }),
    }
}

impl ListOptions {
    /// # Errors
    /// 400 or 422: an option cannot be read, or does not go with another.
    pub fn read(asked: &impl Asked) -> Result<ListOptions, Status> {
        let (version, matching) = (asked.text("resourceVersion"), asked.text(MATCH));
        let token = asked.text("continue");
        let limit = usize::try_from(asked.number("limit")?.unwrap_or(0)).unwrap_or(0);
        asked.number("timeoutSeconds")?;
        let mut causes = Vec::new();
        if !matching.is_empty() {
            if version.is_empty() {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                causes.push(Cause::forbidden(MATCH, why));
            }
            if !token.is_empty() {
                causes.push(Cause::forbidden(
                    MATCH,
                    "resourceVersionMatch is forbidden when continue is provided",
                ));
            }
            if !matches!(matching, "Exact" | "NotOlderThan") {
                causes.push(Cause::unsupported(MATCH, &json!(matching), &["Exact", "NotOlderThan", ""]));
            }
            if matching == "Exact" && version == "0" {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                causes.push(Cause::forbidden(MATCH, why));
            }
        }
        if asked.value(INITIAL).is_some() {
            causes.push(Cause::forbidden(INITIAL, "sendInitialEvents is forbidden for list"));
        }
        refused(causes)?;
        let revision = revision(version)
            .map_err(|why| Status::bad_request(format!("invalid resource version: {why}")))?;
        let continued = if token.is_empty() { None } else { Some(Continue::read(token)?) };
        let state = match (&continued, matching) {
            (Some(_), _) if revision > 0 => {
                let why = "specifying resource version is not allowed when using continue";
                return Err(Status::bad_request(why));
            }
            (Some(Continue { revision: Some(revision), .. }), _) => State::Exactly(*revision),
            (None, "Exact") => State::Exactly(revision),
            // As of old, before there was a choice.
            (None, "") if limit > 0 && revision > 0 => State::Exactly(revision),
            _ => State::NotOlderThan(revision),
        };
        Ok(ListOptions { state, limit, continued })
    }
}

impl WatchOptions {
    /// # Errors
    /// 400, 422 or 500 (as upstream, for a resource version that is no number): an option cannot be read, or does not
    /// go with another.
    pub fn read(asked: &impl Asked) -> Result<WatchOptions, Status> {
        let (initial, matching) = (asked.value(INITIAL), asked.text(MATCH));
        let timeout = asked.number("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
        let mut causes = Vec::new();
        if initial.is_some() && matching != "NotOlderThan" {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            causes.push(Cause::forbidden(MATCH, why));
        }
        if !matching.is_empty() {
            if initial.is_none() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                causes.push(Cause::forbidden(MATCH, why));
            }
            if matching != "NotOlderThan" {
                causes.push(Cause::unsupported(MATCH, &json!(matching), &["NotOlderThan"]));
            }
            if !asked.text("continue").is_empty() {
                causes.push(Cause::forbidden(
                    MATCH,
                    "resourceVersionMatch is forbidden when continue is provided",
                ));
            }
        }
        refused(causes)?;
        let revision = revision(asked.text("resourceVersion")).map_err(|why| Status {
            code: 500,
            message: why,
            ..Status::default()
        })?;
        let bookmarks = asked.flag("allowWatchBookmarks");
        let start = match (initial.map(|_| asked.flag(INITIAL)), revision) {
            (Some(true), _) => Start::Everything { mark_end: bookmarks },
            (None, 0) => Start::Everything { mark_end: bookmarks },
            (Some(false), 0) => Start::Now,
            (_, revision) => Start::After(revision),
        };
        Ok(WatchOptions { start, bookmarks, timeout: timeout.filter(|seconds| *seconds > 0) })
    }
}

/// Why a token cannot be read.
fn unreadable(why: impl std::fmt::Display) -> Status {
    Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
}

impl Continue {
    /// # Errors
    /// 400: it is no token of an API server.
    pub fn read(token: &str) -> Result<Continue, Status> {
        let bytes = ENGINE.decode(token).map_err(unreadable)?;
        let token: Value = serde_json::from_slice(&bytes).map_err(unreadable)?;
        if text(&token, "/v") != FORM {
            return Err(unreadable(format!("server does not recognize this encoded version {}", token["v"])));
        }
        let revision = token["rv"].as_i64().filter(|revision| *revision != 0);
        let revision = revision.ok_or_else(|| unreadable("incorrect encoded start resourceVersion"))?;
        let start = text(&token, "/start").trim_end_matches('\0');
        let (namespace, name) = start.rsplit_once('/').unwrap_or(("", start));
        if name.is_empty() || namespace.contains('/') {
            return Err(unreadable("it names no object to continue after"));
        }
        let after = (namespace.to_owned(), name.to_owned());
        Ok(Continue { revision: Some(revision).filter(|revision| *revision > 0), after })
    }

    /// The token that a client sends back.
    pub fn token(&self) -> String {
        let (namespace, name) = &self.after;
        let slash = if namespace.is_empty() { "" } else { "/" };
        let start = format!("{namespace}{slash}{name}\0");
        ENGINE.encode(json!({"v": FORM, "rv": self.revision.unwrap_or(-1), "start": start}).to_string())
    }

    /// What a client is told whose list began at a revision that is not there any more; the Status has a token to go on with
    /// what is there now.
    pub fn expired(&self) -> (Status, String) {
        let status = Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
             the continue parameter, or use the continue token in this response to retrieve the remainder of the results. \
             Continuing with the provided token results in an inconsistent list - objects that were created, modified, or \
             deleted between the time the first chunk was returned and now may show up in the list.",
        );
        (status, Continue { revision: None, after: self.after.clone() }.token())
    }
}

#[cfg(test)]
mod tests;
