//! As whom a view asks: as one of those who watch it. Pure.

use crate::caller::Caller;

#[derive(Default)]
pub(super) struct Callers {
    /// With the number of the watch.
    watching: Vec<(u64, Caller)>,
    /// Of the last watch that ended, for as long as the view outlives it.
    last: Option<Caller>,
    next: u64,
}

impl Callers {
    pub(super) fn join(&mut self, caller: Caller) -> u64 {
        self.next += 1;
        self.watching.push((self.next, caller));
        self.next
    }

    pub(super) fn leave(&mut self, watch: u64) {
        if let Some(at) = self.watching.iter().position(|(number, _)| *number == watch) {
            self.last = Some(self.watching.remove(at).1);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.watching.is_empty()
    }

    /// The one who came last of those whose token is good.
    pub(super) fn pick(&self, now: i64) -> Option<Caller> {
        let mut all = self.watching.iter().rev().map(|(_, caller)| caller).chain(&self.last);
        all.find(|caller| caller.is_good(now)).cloned()
    }

    /// The cloud refuses him: nothing is asked with what he showed any more.
    pub(super) fn refuse(&mut self, refused: &Caller) {
        self.watching.retain(|(_, caller)| caller != refused);
        self.last = self.last.take().filter(|caller| caller != refused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_asks_as_the_newest_watcher_whom_the_cloud_has_not_refused() {
        let (one, two) = (Caller::node("one".into()), Caller::node("two".into()));
        let mut callers = Callers::default();
        let first = callers.join(one.clone());
        callers.join(two.clone());
        assert_eq!(callers.pick(0).unwrap().name, "two");
        callers.refuse(&two);
        assert_eq!(callers.pick(0).unwrap().name, "one");
        callers.leave(first);
        assert!(callers.is_empty());
        assert_eq!(callers.pick(0).unwrap().name, "one", "for a while after the last one left");
        callers.refuse(&one);
        assert!(callers.pick(0).is_none());
    }
}
