//! Lines of a log file, as the runtime writes them, to what the client reads.
//!
//! `<RFC 3339 time> <stdout|stderr> <P|F>[:more] <text>`; the text of a P line goes on in the next line. Bytes pass
//! through as they come, so a line may be of any length. What is no such line is left out, as the kubelet does.

use jiff::Timestamp;

use super::options::{Options, Stream};

/// No head of a line is longer.
const HEAD: usize = 128;

pub(super) struct Lines {
    timestamps: bool,
    since: Option<Timestamp>,
    stream: Stream,
    /// Bytes the client still wants.
    left: u64,
    place: Place,
    /// The head of the line, as far as it was read.
    head: Vec<u8>,
    /// The line goes on where the one before it ended.
    is_continued: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Head,
    Text {
        is_partial: bool,
    },
    /// To the end of the line.
    Skipped,
}

struct Head<'a> {
    time: &'a str,
    stream: &'a str,
    is_partial: bool,
}

impl Lines {
    pub(super) fn new(options: &Options) -> Lines {
        Lines {
            timestamps: options.timestamps,
            since: options.since,
            stream: options.stream,
            left: options.limit.unwrap_or(u64::MAX),
            place: Place::Head,
            head: Vec::new(),
            is_continued: false,
        }
    }

    /// The client has all it wanted.
    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }

    /// What `bytes` say to the client.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while !rest.is_empty() && self.left > 0 {
            rest = match self.place {
                Place::Head => self.read_head(rest, &mut out),
                Place::Text { is_partial } => self.read_text(rest, is_partial, &mut out),
                Place::Skipped => {
                    let (_, after, ended) = until_newline(rest);
                    if ended {
                        self.place = Place::Head;
                    }
                    after
                }
            };
        }
        out
    }

    fn read_text<'a>(&mut self, rest: &'a [u8], is_partial: bool, out: &mut Vec<u8>) -> &'a [u8] {
        let (text, after, ended) = until_newline(rest);
        self.say(text, out);
        if ended {
            if !is_partial {
                self.say(b"\n", out);
            }
            self.is_continued = is_partial;
            self.place = Place::Head;
        }
        after
    }

    /// Reads byte for byte up to the third space: heads are short.
    fn read_head<'a>(&mut self, rest: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let Some((byte, after)) = rest.split_first() else { return rest };
        let is_end = *byte == b'\n';
        if !is_end {
            self.head.push(*byte);
        }
        let spaces = self.head.iter().filter(|byte| **byte == b' ').count();
        if !is_end && spaces < 3 && self.head.len() < HEAD {
            return after;
        }
        let head = std::mem::take(&mut self.head);
        let wanted = parse(&head).filter(|head| self.wants(head));
        self.place = match &wanted {
            Some(head) => Place::Text { is_partial: head.is_partial },
            None if is_end => Place::Head,
            None => Place::Skipped,
        };
        if let Some(head) = wanted {
            if self.timestamps && !self.is_continued {
                self.say(head.time.as_bytes(), out);
                self.say(b" ", out);
            }
            if is_end {
                return self.read_text(rest, head.is_partial, out);
            }
        }
        self.head = reuse(head);
        after
    }

    fn wants(&self, head: &Head<'_>) -> bool {
        let of_stream = match self.stream {
            Stream::All => true,
            Stream::Stdout => head.stream == "stdout",
            Stream::Stderr => head.stream == "stderr",
        };
        let in_time =
            self.since.is_none_or(|since| head.time.parse::<Timestamp>().is_ok_and(|at| at >= since));
        of_stream && in_time
    }

    fn say(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(text.len());
        out.extend_from_slice(text.get(..wanted).unwrap_or_default());
        self.left -= wanted as u64;
    }
}

fn reuse(mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    buffer
}

/// The bytes before the newline, those after it, and whether there is one.
fn until_newline(bytes: &[u8]) -> (&[u8], &[u8], bool) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => (bytes.get(..at).unwrap_or_default(), bytes.get(at + 1..).unwrap_or_default(), true),
        None => (bytes, &[], false),
    }
}

fn parse(head: &[u8]) -> Option<Head<'_>> {
    let mut words = std::str::from_utf8(head).ok()?.split(' ');
    let (time, stream, tags) = (words.next()?, words.next()?, words.next()?);
    let is_partial = match tags.split(':').next()? {
        "P" => true,
        "F" => false,
        _ => return None,
    };
    let is_known = matches!(stream, "stdout" | "stderr") && time.as_bytes().first()?.is_ascii_digit();
    is_known.then_some(Head { time, stream, is_partial })
}

/// Whether the physical line that starts with `bytes` ends a line of the program. Lines that are none count as ends.
pub(super) fn ends_a_line(bytes: &[u8]) -> bool {
    let line = until_newline(bytes).0;
    let third = line.split(|byte| *byte == b' ').nth(2);
    third.is_none_or(|tags| tags.split(|byte| *byte == b':').next() != Some(b"P"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:01.5Z stdout F one\n2026-01-01T00:00:02+01:00 stderr F two\nnoise\n\
        2026-01-01T00:00:03Z stdout P thr\n2026-01-01T00:00:03.1Z stdout F ee\n2026-01-01T00:00:04Z stdout F \n\
        2026-01-01T00:00:05Z stdout F:x five\n";

    fn options() -> Options {
        Options {
            follow: false,
            previous: false,
            timestamps: false,
            tail: None,
            since: None,
            limit: None,
            stream: Stream::All,
        }
    }

    /// Whatever the pieces the bytes come in.
    fn read(options: &Options) -> String {
        let whole = Lines::new(options).feed(LOG.as_bytes());
        for size in [1, 2, 7, 40] {
            let mut lines = Lines::new(options);
            let pieces: Vec<u8> = LOG.as_bytes().chunks(size).flat_map(|piece| lines.feed(piece)).collect();
            assert_eq!(pieces, whole, "pieces of {size}");
        }
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn split_lines_are_joined_and_noise_is_left_out() {
        assert_eq!(read(&options()), "one\ntwo\nthree\n\nfive\n");
    }

    #[test]
    fn times_stand_before_lines_not_before_their_parts() {
        let text = read(&Options { timestamps: true, stream: Stream::Stdout, ..options() });
        assert_eq!(
            text,
            "2026-01-01T00:00:01.5Z one\n2026-01-01T00:00:03Z three\n2026-01-01T00:00:04Z \n2026-01-01T00:00:05Z five\n"
        );
    }

    #[test]
    fn times_streams_and_limits_choose() {
        // The second line was written an hour earlier: its offset counts.
        let since = Some("2026-01-01T00:00:01.5Z".parse().unwrap());
        assert_eq!(read(&Options { since, ..options() }), "one\nthree\n\nfive\n");
        assert_eq!(read(&Options { stream: Stream::Stderr, ..options() }), "two\n");
        assert_eq!(read(&Options { limit: Some(6), ..options() }), "one\ntw");
        let mut lines = Lines::new(&Options { limit: Some(6), ..options() });
        lines.feed(LOG.as_bytes());
        assert!(lines.is_full());
    }

    #[test]
    fn only_partial_lines_do_not_end_a_line() {
        assert!(!ends_a_line(b"2026-01-01T00:00:03Z stdout P thr\n2026 stdout F ee\n"));
        assert!(ends_a_line(b"2026-01-01T00:00:03Z stdout F thr\n") && ends_a_line(b"noise"));
    }
}
