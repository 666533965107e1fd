//! Pings of clients, held back while the runtime's output waits.
//!
//! Runtimes close a session's socket when its program has ended, with what nobody has read yet still in it. That is sent all
//! the same, unless something arrives for the closed socket: then the kernel resets the connection and drops it. Clients ping
//! every few seconds; where output is read more slowly than it is made, as through a thin link, its end was lost.

/// How a client's bytes are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Spdy,
    WebSocket,
    /// Nothing is held back.
    Unknown,
}

impl Framing {
    /// `upgrade` is the value of the client's header of this name.
    pub fn of(upgrade: &str) -> Framing {
        match upgrade.to_ascii_lowercase().as_str() {
            "spdy/3.1" => Framing::Spdy,
            "websocket" => Framing::WebSocket,
            _ => Framing::Unknown,
        }
    }

    /// Bytes of the frame that begins here, whether it is a ping; `None` while too little of it is there.
    fn frame(self, bytes: &[u8]) -> Option<(u64, bool)> {
        match self {
            Framing::Spdy => {
                let head = bytes.first_chunk::<8>()?;
                let length = u32::from_be_bytes([0, head[5], head[6], head[7]]);
                // A control frame of the type 6.
                let is_ping = head[0] & 0x80 != 0 && head[2..4] == [0, 6];
                Some((8 + u64::from(length), is_ping))
            }
            Framing::WebSocket => {
                let head = bytes.first_chunk::<2>()?;
                let mask = if head[1] & 0x80 == 0 { 0 } else { 4 };
                let (more, length) = match head[1] & 0x7f {
                    126 => (2, u64::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
                    127 => (8, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
                    short => (0, u64::from(short)),
                };
                Some((length.saturating_add(2 + more + mask), head[0] & 0x0f == 0x09))
            }
            Framing::Unknown => None,
        }
    }
}

/// The longest ping: what is longer is none.
const PING: u64 = 2 + 4 + 125;

/// Takes pings out of what a client says.
#[derive(Debug)]
pub(crate) struct Pings {
    framing: Framing,
    /// Of a frame that has begun and is handed on as it comes.
    rest: u64,
    /// The beginning of a frame, not known yet or a ping that is not complete.
    begun: Vec<u8>,
    /// The last ping.
    held: Option<Vec<u8>>,
}

impl Pings {
    pub(crate) fn new(framing: Framing) -> Pings {
        Pings { framing, rest: 0, begun: Vec::new(), held: None }
    }

    /// What of these bytes goes on at once, in their order.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        if self.framing == Framing::Unknown {
            return bytes.to_vec();
        }
        let mut onward = Vec::with_capacity(bytes.len());
        while !bytes.is_empty() {
            if self.rest > 0 {
                let count = usize::try_from(self.rest).unwrap_or(usize::MAX).min(bytes.len());
                let (part, left) = bytes.split_at(count);
                onward.extend_from_slice(part);
                self.rest -= count as u64;
                bytes = left;
                continue;
            }
            let (first, left) = bytes.split_at(1);
            self.begun.extend_from_slice(first);
            bytes = left;
            let Some((length, is_ping)) = self.framing.frame(&self.begun) else { continue };
            let missing = length.saturating_sub(self.begun.len() as u64);
            match is_ping && length <= PING {
                true if missing > 0 => {}
                true => self.held = Some(std::mem::take(&mut self.begun)),
                false => {
                    self.rest = missing;
                    onward.append(&mut self.begun);
                }
            }
        }
        onward
    }

    /// True if a ping waits and none of the client's frames is under way: it can go between two of them.
    pub(crate) fn may_go(&self) -> bool {
        self.held.is_some() && self.rest == 0 && self.begun.is_empty()
    }

    /// The ping that waits.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        self.held.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPDY_PING: &[u8] = &[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1];
    const SPDY_DATA: &[u8] = &[0, 0, 0, 1, 0, 0, 0, 3, b'a', b'b', b'c'];
    const WEB_PING: &[u8] = &[0x89, 0x81, 1, 2, 3, 4, 9];
    const WEB_DATA: &[u8] = &[0x82, 0x83, 1, 2, 3, 4, b'a', b'b', b'c'];

    #[test]
    fn pings_wait_and_all_else_goes_on_however_it_is_cut() {
        for (framing, ping, data) in
            [(Framing::Spdy, SPDY_PING, SPDY_DATA), (Framing::WebSocket, WEB_PING, WEB_DATA)]
        {
            let said = [data, ping, data, ping, data].concat();
            for size in 1..said.len() {
                let mut pings = Pings::new(framing);
                let onward: Vec<u8> = said.chunks(size).flat_map(|part| pings.feed(part)).collect();
                assert_eq!(onward, [data, data, data].concat(), "{framing:?} in pieces of {size}");
                assert!(pings.may_go());
                assert_eq!(pings.take().as_deref(), Some(ping));
                assert!(!pings.may_go() && pings.take().is_none());
            }
        }
    }

    #[test]
    fn a_ping_does_not_go_into_the_middle_of_a_frame() {
        let mut pings = Pings::new(Framing::Spdy);
        let (begin, end) = SPDY_DATA.split_at(9);
        assert_eq!(pings.feed(&[SPDY_PING, begin].concat()), begin);
        assert!(!pings.may_go());
        assert_eq!(pings.feed(end), end);
        assert!(pings.may_go());
    }

    #[test]
    fn long_frames_and_unknown_ones_go_on_as_they_come() {
        let long = [&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], &vec![7; 65_536]].concat();
        let mut pings = Pings::new(Framing::WebSocket);
        assert_eq!(pings.feed(&long), long);
        assert_eq!(pings.feed(WEB_PING), b"");
        let mut unknown = Pings::new(Framing::of("h2c"));
        assert_eq!(unknown.feed(SPDY_PING), SPDY_PING);
        // A length nobody can send.
        let absurd = [0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255];
        let mut pings = Pings::new(Framing::of("WebSocket"));
        assert_eq!(pings.feed(&[&absurd[..], WEB_PING].concat()), [&absurd[..], WEB_PING].concat());
    }
}
