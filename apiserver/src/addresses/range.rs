//! The range of service addresses.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// IPv4 addresses `base/prefix`. The first and the last are nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceRange {
    base: u32,
    prefix: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no range of service addresses: give one of IPv4 such as 10.96.0.0/16, of 8 to 65536 addresses"
)]
pub struct NotARange(String);

impl Default for ServiceRange {
    fn default() -> ServiceRange {
        ServiceRange { base: u32::from(Ipv4Addr::new(10, 96, 0, 0)), prefix: 16 }
    }
}

impl FromStr for ServiceRange {
    type Err = NotARange;

    fn from_str(text: &str) -> Result<ServiceRange, NotARange> {
        let read = || {
            let (base, prefix) = text.split_once('/')?;
            let (base, prefix) = (u32::from(base.parse::<Ipv4Addr>().ok()?), prefix.parse::<u32>().ok()?);
            let range = ServiceRange { base, prefix };
            ((16..=29).contains(&prefix) && base & (range.size() - 1) == 0).then_some(range)
        };
        read().ok_or_else(|| NotARange(text.to_owned()))
    }
}

impl fmt::Display for ServiceRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

impl ServiceRange {
    fn size(self) -> u32 {
        1 << (32 - self.prefix)
    }

    pub(super) fn first(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    pub(super) fn holds(self, address: u32) -> bool {
        (self.base + 1..self.base + self.size() - 1).contains(&address)
    }

    /// One that is free, above the lowest sixteenth, which is left to those who choose theirs, while there are others.
    pub(super) fn free(self, is_free: impl Fn(u32) -> bool) -> Option<u32> {
        let chosen = (self.size() / 16).clamp(2, 256);
        let (low, high) =
            (self.base + 1..self.base + chosen, self.base + chosen..self.base + self.size() - 1);
        from_anywhere(high, &is_free).or_else(|| from_anywhere(low, &is_free))
    }
}

/// The next free one after a random place.
fn from_anywhere(range: std::ops::Range<u32>, is_free: &impl Fn(u32) -> bool) -> Option<u32> {
    let size = range.end.saturating_sub(range.start).max(1);
    let start = uuid::Uuid::new_v4().as_u128() as u32 % size;
    let at = |place: u32| range.start + (start + place) % size;
    (0..size).map(at).find(|number| range.contains(number) && is_free(*number))
}

/// A free port.
pub(super) fn some_port(range: RangeInclusive<u16>, is_free: impl Fn(u16) -> bool) -> Option<u16> {
    let range = u32::from(*range.start())..u32::from(*range.end()) + 1;
    let found = from_anywhere(range, &|number| u16::try_from(number).is_ok_and(&is_free));
    found.and_then(|number| u16::try_from(number).ok())
}
