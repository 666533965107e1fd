//! Schedules of five fields: minute, hour, day of the month, month, day of the week; `*`, lists, ranges, steps, names and `@daily`.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};

/// What is wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("a schedule has five fields (minute, hour, day, month, weekday), not {found}: {text:?}")]
    Fields { found: usize, text: String },
    #[error("{text:?} is no {field} of a schedule")]
    Field { field: &'static str, text: String },
    #[error("unknown time zone {name:?}")]
    Zone { name: String },
}

/// A set of small numbers.
type Set = u64;

#[derive(Clone, Debug)]
pub struct Schedule {
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    /// Sunday is 0.
    weekdays: Set,
    /// The days of both fields count if both are given, as in cron.
    either_day: bool,
    zone: TimeZone,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Nothing later is looked for: there is a 29 February within it.
const DAYS: usize = 366 * 9;

fn bit(number: u32) -> Set {
    1 << number
}

impl Schedule {
    /// Reads a schedule for a time zone by its name; empty: UTC.
    ///
    /// # Errors
    /// Which field cannot be read, or that the zone is unknown.
    pub fn parse(text: &str, zone: &str) -> Result<Schedule, ScheduleError> {
        let unknown = |_| ScheduleError::Zone { name: zone.to_owned() };
        let zone = if zone.is_empty() { TimeZone::UTC } else { TimeZone::get(zone).map_err(unknown)? };
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(ScheduleError::Fields { found: fields.len(), text: text.to_owned() });
        };
        let weekdays = field("weekday", weekdays, (0, 7), &WEEKDAYS)?;
        let is_any = |text: &str| text.starts_with('*') || text == "?";
        Ok(Schedule {
            minutes: field("minute", minutes, (0, 59), &[])?,
            hours: field("hour", hours, (0, 23), &[])?,
            days: field("day", days, (1, 31), &[])?,
            months: field("month", months, (1, 12), &MONTHS)?,
            // 7 is Sunday, too.
            weekdays: weekdays | (weekdays >> 7 & 1),
            either_day: !is_any(days) && !is_any(fields[4]),
            zone,
        })
    }

    /// The first time after `from`; `None`: there is none in nine years.
    pub fn next(&self, from: Timestamp) -> Option<Timestamp> {
        let start = from.to_zoned(self.zone.clone()).datetime();
        let mut date = start.date();
        for _ in 0..DAYS {
            if self.has(date) {
                for time in self.times(date) {
                    // A time that the clock passes over in spring is no time.
                    let found = self.zone.to_ambiguous_zoned(time);
                    if matches!(found.offset(), AmbiguousOffset::Gap { .. }) {
                        continue;
                    }
                    if let Ok(found) = found.compatible()
                        && found.timestamp() > from
                    {
                        return Some(found.timestamp());
                    }
                }
            }
            date = date.checked_add(Span::new().days(1)).ok()?;
        }
        None
    }

    fn has(&self, date: Date) -> bool {
        let day = self.days & bit(u32::from(date.day().unsigned_abs())) != 0;
        let weekday =
            self.weekdays & bit(u32::from(date.weekday().to_sunday_zero_offset().unsigned_abs())) != 0;
        let month = self.months & bit(u32::from(date.month().unsigned_abs())) != 0;
        month && if self.either_day { day || weekday } else { day && weekday }
    }

    fn times(&self, date: Date) -> impl Iterator<Item = DateTime> + '_ {
        let hours = (0..24_i8).filter(|hour| self.hours & bit(u32::from(hour.unsigned_abs())) != 0);
        hours.flat_map(move |hour| {
            let minutes =
                (0..60_i8).filter(|minute| self.minutes & bit(u32::from(minute.unsigned_abs())) != 0);
            minutes.map(move |minute| date.at(hour, minute, 0, 0))
        })
    }
}

/// `1,3-5,*/10,mon-fri`
fn field(
    name: &'static str,
    text: &str,
    (least, most): (u32, u32),
    names: &[&str],
) -> Result<Set, ScheduleError> {
    let bad = || ScheduleError::Field { field: name, text: text.to_owned() };
    // Months are named from 1 on, days of the week from 0.
    let number = |text: &str| {
        let named = names.iter().position(|known| text.eq_ignore_ascii_case(known));
        let named = named.and_then(|at| u32::try_from(at).ok()).map(|at| at + least);
        named.or_else(|| text.parse().ok()).filter(|number| (least..=most).contains(number))
    };
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let (from, to) = match (range, range.split_once('-')) {
            ("*" | "?", _) => (least, if name == "weekday" { 6 } else { most }),
            (_, Some((from, to))) => (number(from).ok_or_else(bad)?, number(to).ok_or_else(bad)?),
            (one, None) => {
                let from = number(one).ok_or_else(bad)?;
                (from, if step.is_some() { most } else { from })
            }
        };
        let step: u32 = step.map_or(Ok(1), str::parse).ok().filter(|step| *step > 0).ok_or_else(bad)?;
        if from > to {
            return Err(bad());
        }
        (from..=to).step_by(step as usize).for_each(|number| set |= bit(number));
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, zone: &str, from: &str) -> String {
        let schedule = Schedule::parse(schedule, zone).unwrap();
        schedule.next(from.parse().unwrap()).map_or_else(|| "never".to_owned(), |at| at.to_string())
    }

    #[test]
    fn the_next_time_is_after_the_last_one() {
        for (schedule, from, wanted) in [
            ("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            ("*/15 8-9 * * *", "2026-01-01T08:50:00Z", "2026-01-01T09:00:00Z"),
            ("30 2 * * mon-fri", "2026-01-02T03:00:00Z", "2026-01-05T02:30:00Z"),
            ("0 0 1 jan *", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("@hourly", "2026-01-01T00:30:00Z", "2026-01-01T01:00:00Z"),
            ("0 0 * * 7", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            ("0 0 31 2 *", "2026-01-01T00:00:00Z", "never"),
        ] {
            assert_eq!(next(schedule, "", from), wanted, "{schedule}");
        }
    }

    #[test]
    fn times_are_those_of_the_zone_and_a_time_that_is_passed_over_is_left_out() {
        assert_eq!(next("0 8 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z"), "2026-07-01T06:00:00Z");
        assert_eq!(next("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z"), "2026-03-30T00:30:00Z");
        assert!(matches!(Schedule::parse("* * * * *", "Mars/Olympus"), Err(ScheduleError::Zone { .. })));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for bad in ["", "* * * *", "60 * * * *", "* * 0 * *", "*/0 * * * *", "5-1 * * * *", "x * * * *"] {
            assert!(Schedule::parse(bad, "").is_err(), "{bad}");
        }
    }
}
