//! Which outbox messages are out and which come next. Pure: rows and time come from outside.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use message::MessageId;
use tokio::time::Instant;

/// Outbox messages that may wait for their answer at once. The cloud works through them in order.
pub(super) const WINDOW: usize = 64;
/// An answer that takes longer is asked for again.
const ANSWER_AFTER: Duration = Duration::from_secs(30);
/// A message the cloud could not carry out now is sent again after this.
const RETRY_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct InFlight {
    sent: HashMap<MessageId, (i64, Instant)>,
    /// (when, seq) of messages to send once more.
    retries: BTreeSet<(Instant, i64)>,
    /// Highest sequence sent in this session.
    pub cursor: i64,
}

impl InFlight {
    pub fn room(&self) -> usize {
        WINDOW.saturating_sub(self.sent.len())
    }

    pub fn sent(&mut self, id: MessageId, seq: i64, now: Instant) {
        self.sent.insert(id, (seq, now));
        self.cursor = self.cursor.max(seq);
    }

    /// The cloud answered: the row is done.
    pub fn done(&mut self, id: &MessageId) -> Option<i64> {
        self.sent.remove(id).map(|(seq, _)| seq)
    }

    /// The cloud answered that it cannot now.
    pub fn postponed(&mut self, id: &MessageId, now: Instant) {
        if let Some((seq, _)) = self.sent.remove(id) {
            self.retries.insert((now + RETRY_AFTER, seq));
        }
    }

    /// Sequences to send once more.
    pub fn due(&mut self, now: Instant) -> Vec<i64> {
        let late: Vec<MessageId> = self
            .sent
            .iter()
            .filter(|(_, (_, at))| now >= *at + ANSWER_AFTER)
            .map(|(id, _)| id.clone())
            .collect();
        let mut due: Vec<i64> = late.iter().filter_map(|id| self.done(id)).collect();
        while let Some(&(at, seq)) = self.retries.first() {
            if at > now {
                break;
            }
            self.retries.pop_first();
            due.push(seq);
        }
        due.sort_unstable();
        due
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let answers = self.sent.values().map(|(_, at)| *at + ANSWER_AFTER);
        answers.chain(self.retries.first().map(|(at, _)| *at)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unanswered_message_is_due_again_and_an_answered_one_is_not() {
        let mut flight = InFlight::default();
        let now = Instant::now();
        flight.sent(MessageId("a".into()), 1, now);
        flight.sent(MessageId("b".into()), 2, now);
        assert_eq!(flight.done(&MessageId("a".into())), Some(1));
        assert_eq!(flight.due(now), Vec::<i64>::new());
        assert_eq!(flight.due(now + ANSWER_AFTER), [2]);
        assert_eq!(flight.next_deadline(), None);
    }

    #[test]
    fn a_postponed_message_waits_its_turn() {
        let mut flight = InFlight::default();
        let now = Instant::now();
        flight.sent(MessageId("a".into()), 7, now);
        flight.postponed(&MessageId("a".into()), now);
        assert!(flight.due(now).is_empty());
        assert_eq!(flight.due(now + RETRY_AFTER), [7]);
        assert_eq!(flight.cursor, 7);
    }
}
