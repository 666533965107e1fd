//! Which part of a log is wanted.

use jiff::{SignedDuration, Timestamp};

use crate::query::Query;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    All,
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    /// Lines from the end.
    pub tail: Option<u64>,
    /// Lines of this time and later.
    pub since: Option<Timestamp>,
    /// Bytes of the answer.
    pub limit: Option<u64>,
    pub stream: Stream,
}

impl Options {
    /// Errors in words for who asked.
    pub(super) fn parse(query: &Query, now: Timestamp) -> Result<Options, String> {
        let number = |name: &str, least: u64| match query.get(name).filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => match text.parse::<u64>() {
                Ok(number) if number >= least => Ok(Some(number)),
                _ => Err(format!("{name}: {text:?} is not a number of at least {least}")),
            },
        };
        let time = query.get("sinceTime").filter(|text| !text.is_empty()).map(|text| {
            text.parse::<Timestamp>().map_err(|_| format!("sinceTime: {text:?} is not an RFC 3339 time"))
        });
        let since = match (number("sinceSeconds", 1)?, time.transpose()?) {
            (Some(_), Some(_)) => {
                return Err("at most one of sinceTime or sinceSeconds may be specified".to_owned());
            }
            (Some(seconds), None) => {
                let back = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
                Some(now.checked_sub(back).unwrap_or(Timestamp::MIN))
            }
            (None, time) => time,
        };
        let stream = match query.get("stream") {
            None | Some("" | "All") => Stream::All,
            Some("Stdout") => Stream::Stdout,
            Some("Stderr") => Stream::Stderr,
            Some(other) => return Err(format!("stream: {other:?} is none of All, Stdout, Stderr")),
        };
        Ok(Options {
            follow: query.says("follow"),
            previous: query.says("previous"),
            timestamps: query.says("timestamps"),
            tail: number("tailLines", 0)?,
            since,
            limit: number("limitBytes", 1)?,
            stream,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, String> {
        Options::parse(&Query::parse(Some(text)), "2026-01-02T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn all_options_are_read() {
        let options = parse(
            "follow=true&previous=1&timestamps=true&tailLines=0&sinceSeconds=60&limitBytes=9&stream=Stderr",
        );
        let expected = Options {
            follow: true,
            previous: true,
            timestamps: true,
            tail: Some(0),
            since: Some("2026-01-01T23:59:00Z".parse().unwrap()),
            limit: Some(9),
            stream: Stream::Stderr,
        };
        assert_eq!(options, Ok(expected));
        assert_eq!(parse("sinceSeconds=9223372036854775807").unwrap().since, Some(Timestamp::MIN));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "tailLines=-1",
            "limitBytes=0",
            "sinceSeconds=0",
            "sinceTime=x",
            "stream=x",
            "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
