//! Live requests and their answers repeat themselves: a lease is renewed every few seconds and differs in two numbers. An
//! envelope is sent as the difference to the one sent before it, which both ends keep. Pure.

use crate::delta;
use crate::frames::Envelope;

/// Longer envelopes are sent whole and not kept, so that a connection costs no more than this.
const KEPT: usize = 4 * 1024;

/// One direction of one connection: what was sent, or received, last.
#[derive(Debug, Default)]
pub struct Envelopes {
    last: String,
}

/// An envelope that cannot be made of what was received before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the envelope is no text, or not made of the one before it")]
pub struct BadEnvelope;

impl Envelopes {
    /// The form to send. Every envelope of a direction goes through here, in the order it is sent.
    pub fn pack(&mut self, text: String) -> Envelope {
        if text.len() > KEPT {
            return Envelope { json: text.into_bytes(), delta: None };
        }
        let delta = delta::difference(&self.last, &text);
        let json = if delta.is_some() { Vec::new() } else { text.clone().into_bytes() };
        self.last = text;
        Envelope { json, delta }
    }

    /// The text of a received envelope; in the order they came.
    ///
    /// # Errors
    /// [`BadEnvelope`]: it refers to a text that did not come before, or is not readable.
    pub fn unpack(&mut self, envelope: Envelope) -> Result<String, BadEnvelope> {
        let text = match envelope.delta {
            None => String::from_utf8(envelope.json).map_err(|_| BadEnvelope)?,
            // A short difference could make much.
            Some(delta) if delta.size as usize > KEPT => return Err(BadEnvelope),
            Some(delta) => delta::apply(&self.last, &delta).map_err(|_| BadEnvelope)?,
        };
        if text.len() <= KEPT {
            self.last.clone_from(&text);
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn renewal(second: u32) -> String {
        let filler: Vec<String> = (0..40).map(|n| format!("\"field-{n}\":\"value {}\"", n * 7919)).collect();
        format!("{{\"renewTime\":\"2026-11-21T10:00:{second:02}Z\",{}}}", filler.join(","))
    }

    #[test]
    fn what_repeats_costs_little_and_reads_back_the_same() {
        let (mut near, mut far) = (Envelopes::default(), Envelopes::default());
        let long = "x".repeat(KEPT + 1);
        for (number, text) in [renewal(1), renewal(2), long, renewal(3)].into_iter().enumerate() {
            let envelope = near.pack(text.clone());
            assert_eq!(envelope.delta.is_some(), number % 2 == 1, "{number}");
            assert!(number % 2 == 0 || envelope.encoded_len() < 60, "{}", envelope.encoded_len());
            assert_eq!(far.unpack(envelope), Ok(text));
        }
        assert!(far.last.len() <= KEPT);
    }

    #[test]
    fn a_difference_to_something_else_or_to_much_is_refused() {
        let (mut near, mut far) = (Envelopes::default(), Envelopes::default());
        near.pack(renewal(1));
        let mut envelope = near.pack(renewal(2));
        assert_eq!(far.unpack(envelope.clone()), Err(BadEnvelope), "it never had the first");
        far.last = renewal(1);
        if let Some(delta) = &mut envelope.delta {
            delta.size = KEPT as u32 + 1;
        }
        assert_eq!(far.unpack(envelope), Err(BadEnvelope));
    }
}
