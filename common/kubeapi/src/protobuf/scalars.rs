//! Values that have a form of their own in JSON: times, amounts, durations.

use apimachinery::messages::Kind;
use jiff::Timestamp;

use super::wire::{Parts, VARINT, Wire, put_bytes, put_tag, put_varint};

/// Go's zero time, of which nothing is written (`metav1.Time.Size`).
const ZERO_TIME: i64 = -62_135_596_800;

/// Appends the message of a time; `None` if it does not read as RFC 3339.
pub(super) fn put_time(out: &mut Vec<u8>, text: &str, kind: Kind) -> Option<()> {
    let time: Timestamp = text.parse().ok()?;
    // Rounded down, where Go counts nanoseconds up from.
    let nanos = time.as_nanosecond();
    let (seconds, below) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let seconds = i64::try_from(seconds).ok()?;
    let below = match kind {
        Kind::MicroTime => u64::try_from(below / 1_000 * 1_000).ok()?,
        _ => 0,
    };
    if (seconds, below) != (ZERO_TIME, 0) {
        put_tag(out, 1, VARINT);
        put_varint(out, seconds.cast_unsigned());
        put_tag(out, 2, VARINT);
        put_varint(out, below);
    }
    Some(())
}

/// The text of a time's message, or `None` for the zero time; an error names what is wrong.
pub(super) fn time(bytes: &[u8], kind: Kind) -> Result<Option<String>, String> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut parts = Parts(bytes);
    while let Some(part) = parts.next().map_err(|error| error.to_string())? {
        match part {
            (1, Wire::Varint(value)) => seconds = value.cast_signed(),
            // As Go: what is above 32 bits is cut off.
            (2, Wire::Varint(value)) => nanos = value as i32,
            (1 | 2, _) => return Err("its wire type is not that of a time".to_owned()),
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    let out_of_range = || format!("{seconds} seconds and {nanos} nanoseconds are no time");
    let time = match kind {
        Kind::MicroTime if (0..1_000_000_000).contains(&nanos) => {
            Timestamp::new(seconds, nanos / 1_000 * 1_000)
        }
        Kind::MicroTime => return Err(out_of_range()),
        _ => Timestamp::from_second(seconds),
    };
    let time = time.map_err(|_| out_of_range())?;
    if (seconds, nanos) == (ZERO_TIME, 0) {
        return Ok(None);
    }
    let text = match kind {
        Kind::MicroTime => daemon::clock::rfc3339_micro(time),
        _ => daemon::clock::rfc3339(time),
    };
    // Go's JSON has no other years than those of four digits.
    match text.as_bytes().get(4) {
        Some(b'-') => Ok(Some(text)),
        _ => Err(out_of_range()),
    }
}

/// Appends the message of an amount.
pub(super) fn put_quantity(out: &mut Vec<u8>, text: &str) {
    let canonical = apimachinery::quantity::canonical(text.trim());
    put_bytes(out, 1, canonical.as_deref().unwrap_or(text).as_bytes());
}

/// Go's text of a duration in nanoseconds: `1h2m3.5s`, `1.5ms`, `0s` (`time.Duration.String`).
pub(super) fn duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let digits = unit.ilog10() as usize;
        let rest = format!("{:0digits$}", value % unit);
        let rest = rest.trim_end_matches('0');
        if unit == 1 || rest.is_empty() {
            (value / unit).to_string()
        } else {
            format!("{}.{rest}", value / unit)
        }
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{nanos}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", fraction(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", fraction(nanos, 1_000_000)),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = fraction(nanos % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// Nanoseconds of Go's text of a duration.
pub(super) fn nanos(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(end);
        let end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        // What is below a nanosecond is cut off; more digits than an i128 has are no duration.
        let scale = 10_i128.checked_pow(u32::try_from(part.len()).ok()?)?;
        let digits: i128 = format!("{whole}{part}").parse().ok()?;
        total = total.checked_add(digits.checked_mul(unit)? / scale)?;
        rest = behind;
    }
    (!text.is_empty()).then(|| i64::try_from(sign * total).ok())?
}
