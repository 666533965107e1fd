//! Which outbox messages are out and which come next. Pure: rows and time come from outside.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use message::MessageId;
use tokio::time::Instant;

/// Outbox messages that may wait for their answer at once. The cloud works through them in order.
pub const WINDOW: usize = 64;
/// An answer that takes longer is asked for again, after a rest of at least as long.
const ANSWER_AFTER: Duration = Duration::from_secs(30);
/// A message the cloud could not carry out now is sent again after this.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// A report that was passed over this often, while the cloud answered others, is given up: after ten minutes. A Go cloud
/// says nothing to reports about devices it does not know.
const PASSED_OVER: u32 = 5;

/// A report without an answer for this long is given up for a newer one of its device, if there is one.
const OVERTAKEN_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub struct InFlight {
    sent: HashMap<MessageId, Sent>,
    /// Unanswered messages that make room for others, and when they are sent once more.
    resting: HashMap<MessageId, (Instant, i64)>,
    /// (when, seq) of messages to send once more.
    retries: BTreeSet<(Instant, i64)>,
    /// Sequences the cloud passed over, and how often.
    passed_over: HashMap<i64, u32>,
    /// When the cloud answered anything last.
    heard: Option<Instant>,
    /// Highest sequence sent in this session.
    pub cursor: i64,
}

#[derive(Debug)]
struct Sent {
    seq: i64,
    at: Instant,
    report: bool,
}

/// What is to be done about messages without an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Sequences to send once more.
    pub again: Vec<i64>,
    /// Sequences the cloud will not answer.
    pub given_up: Vec<i64>,
}

impl InFlight {
    pub fn room(&self) -> usize {
        WINDOW.saturating_sub(self.sent.len())
    }

    /// `report`: it may be given up when the cloud passes it over again and again.
    pub fn sent(&mut self, id: MessageId, seq: i64, report: bool, now: Instant) {
        self.sent.insert(id, Sent { seq, at: now, report });
        self.cursor = self.cursor.max(seq);
    }

    /// The cloud answered something.
    pub fn heard(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// The message is done: answered, or of a kind that is not.
    pub fn done(&mut self, id: &MessageId) -> Option<i64> {
        let rested = self.resting.remove(id).inspect(|retry| {
            self.retries.remove(retry);
        });
        let seq = self.sent.remove(id).map(|sent| sent.seq).or(rested.map(|(_, seq)| seq))?;
        self.passed_over.remove(&seq);
        Some(seq)
    }

    /// The row of a message that was due is gone: merged into a newer one, or dropped.
    pub fn forget(&mut self, seq: i64) {
        self.passed_over.remove(&seq);
    }

    /// True if nothing waits for an answer.
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.resting.is_empty()
    }

    /// Sequences without an answer for so long that a newer report may take their place.
    pub fn slow(&self, now: Instant) -> Vec<i64> {
        let sent = self.sent.values().filter(|sent| sent.report && now >= sent.at + OVERTAKEN_AFTER);
        sent.map(|sent| sent.seq).chain(self.resting.values().map(|(_, seq)| *seq)).collect()
    }

    /// Their rows are gone: newer ones say more.
    pub fn overtaken(&mut self, seqs: &[i64]) {
        self.sent.retain(|_, sent| !seqs.contains(&sent.seq));
        self.resting.retain(|_, (_, seq)| !seqs.contains(seq));
        self.retries.retain(|(_, seq)| !seqs.contains(seq));
        self.passed_over.retain(|seq, _| !seqs.contains(seq));
    }

    /// The cloud answered that it cannot now.
    pub fn postponed(&mut self, id: &MessageId, now: Instant) {
        if let Some(sent) = self.sent.remove(id) {
            self.retries.insert((now + RETRY_AFTER, sent.seq));
        }
    }

    /// Messages without an answer make room for others, so that those the cloud never answers hold up nobody.
    pub fn due(&mut self, now: Instant) -> Due {
        let mut due = Due::default();
        let late = |(_, sent): &(&MessageId, &Sent)| now >= sent.at + ANSWER_AFTER;
        let late: Vec<MessageId> = self.sent.iter().filter(late).map(|(id, _)| id.clone()).collect();
        for id in late {
            let Some(sent) = self.sent.remove(&id) else { continue };
            let times = self.passed_over.entry(sent.seq).or_default();
            *times += u32::from(self.heard.is_some_and(|heard| heard > sent.at));
            if sent.report && *times >= PASSED_OVER {
                self.passed_over.remove(&sent.seq);
                due.given_up.push(sent.seq);
                continue;
            }
            let rest = ANSWER_AFTER * (1 << times.saturating_sub(1).min(4));
            self.resting.insert(id, (now + rest, sent.seq));
            self.retries.insert((now + rest, sent.seq));
        }
        while let Some(&(at, seq)) = self.retries.first()
            && at <= now
            && due.again.len() < self.room()
        {
            self.retries.pop_first();
            due.again.push(seq);
        }
        let again: BTreeSet<i64> = due.again.iter().copied().collect();
        self.resting.retain(|_, (_, seq)| !again.contains(seq));
        due.again.sort_unstable();
        due
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let answers = self.sent.values().map(|sent| sent.at + ANSWER_AFTER).min();
        let retry = self.retries.first().map(|(at, _)| *at).filter(|_| self.room() > 0);
        answers.into_iter().chain(retry).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: i64) -> MessageId {
        MessageId(number.to_string())
    }

    fn again(due: &Due) -> &[i64] {
        assert!(due.given_up.is_empty(), "{due:?}");
        &due.again
    }

    #[test]
    fn an_unanswered_message_is_due_again_and_an_answered_one_is_not() {
        let mut flight = InFlight::default();
        let now = Instant::now();
        flight.sent(id(1), 1, false, now);
        flight.sent(id(2), 2, false, now);
        assert_eq!(flight.done(&id(1)), Some(1));
        assert_eq!(flight.due(now), Due::default());
        assert_eq!(flight.due(now + ANSWER_AFTER), Due::default());
        assert_eq!(flight.next_deadline(), Some(now + ANSWER_AFTER * 2));
        assert_eq!(again(&flight.due(now + ANSWER_AFTER * 2)), [2]);
        assert_eq!(flight.next_deadline(), None);
    }

    #[test]
    fn a_report_that_was_overtaken_is_neither_slow_nor_due() {
        let mut flight = InFlight::default();
        let now = Instant::now();
        flight.sent(id(1), 1, true, now);
        flight.sent(id(2), 2, true, now);
        flight.sent(id(3), 3, false, now);
        assert!(flight.slow(now).is_empty());
        let mut slow = flight.slow(now + OVERTAKEN_AFTER);
        slow.sort_unstable();
        assert_eq!(slow, [1, 2], "states are sent again as they are");
        flight.due(now + ANSWER_AFTER);
        flight.overtaken(&[1, 3]);
        assert_eq!(flight.slow(now + ANSWER_AFTER), [2]);
        assert_eq!(again(&flight.due(now + ANSWER_AFTER * 2)), [2]);
        assert_eq!(flight.done(&id(1)), None);
    }

    #[test]
    fn a_postponed_message_waits_its_turn() {
        let mut flight = InFlight::default();
        let now = Instant::now();
        flight.sent(id(7), 7, true, now);
        flight.postponed(&id(7), now);
        assert_eq!(flight.due(now), Due::default());
        assert_eq!(again(&flight.due(now + RETRY_AFTER)), [7]);
        assert_eq!(flight.cursor, 7);
    }

    #[test]
    fn messages_the_cloud_never_answers_make_room_for_others() {
        let mut flight = InFlight::default();
        let now = Instant::now();
        for seq in 0..WINDOW as i64 {
            flight.sent(id(seq), seq, true, now);
        }
        assert_eq!(flight.room(), 0);
        assert_eq!(flight.due(now + ANSWER_AFTER), Due::default());
        assert_eq!(flight.room(), WINDOW);
        // A late answer is taken all the same.
        assert_eq!(flight.done(&id(3)), Some(3));
        assert_eq!(flight.due(now + ANSWER_AFTER * 2).again.len(), WINDOW - 1);
    }

    #[test]
    fn a_report_passed_over_is_given_up_while_the_cloud_answers_others_and_a_state_never_is() {
        for (report, talks) in [(true, true), (true, false), (false, true)] {
            let mut flight = InFlight::default();
            let mut now = Instant::now();
            let mut given_up = 0;
            flight.sent(id(1), 1, report, now);
            for _ in 0..20 {
                now += ANSWER_AFTER;
                if talks {
                    flight.heard(now - Duration::from_secs(1));
                }
                let due = flight.due(now);
                given_up += due.given_up.len();
                for seq in due.again {
                    flight.sent(id(seq), seq, report, now);
                }
            }
            assert_eq!(given_up, usize::from(report && talks), "{report} {talks}");
            assert!(flight.sent.len() + flight.resting.len() == 1 - given_up);
        }
    }
}
