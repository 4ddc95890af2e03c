//! Guards that let the count follow calmly: tolerance, windows, rates, and waiting until a change has settled.

use super::{Case, Direction, Reason};
use crate::core::behavior::SelectPolicy;
use crate::core::history::Change;

impl Case<'_> {
    /// Keeps the count where a policy wants nearly the same.
    pub(in crate::core) fn tolerate_small_differences(&mut self) {
        let Some(direction) = Direction::between(self.current, self.wanted) else { return };
        let tolerance = self.rules.behavior.of(direction).tolerance;
        let difference = f64::from(self.current.abs_diff(self.wanted));
        if difference <= tolerance * f64::from(self.current) {
            let wanted = self.hold();
            self.reasons.push(Reason::WithinTolerance { wanted, tolerance });
        }
    }

    /// Goes no further than the safest count that was wanted within the direction's window. A tick without a proposal wants none,
    /// and neither does one with a gap that wants no more tasks: more may be wanted where nothing was read.
    pub(in crate::core) fn stabilize(&mut self) {
        let count = self.rules.bounds.clamp(self.wanted);
        let is_known = self.is_proposed && (self.all_read || self.scales_out());
        let heading = Direction::between(self.current, self.wanted);
        for direction in [Direction::In, Direction::Out] {
            let window_secs = self.rules.behavior.of(direction).stabilization_window_secs;
            self.state.wanted.begin(direction, window_secs, self.current, self.now);
            if heading == Some(direction) {
                self.stay_behind_what_was_wanted(direction, window_secs);
            }
            self.state.wanted.note(direction, window_secs, is_known.then_some(count), self.now);
        }
    }

    fn stay_behind_what_was_wanted(&mut self, direction: Direction, window_secs: u64) {
        let Some(limit) = self.state.wanted.limit(direction, window_secs, self.now) else { return };
        let count = self.rules.bounds.clamp(self.wanted);
        let limited_to = match direction {
            Direction::In if count < limit => limit.min(self.current),
            Direction::Out if limit < count => limit.max(self.current),
            Direction::In | Direction::Out => return,
        };
        let wanted = std::mem::replace(&mut self.wanted, limited_to);
        self.reasons.push(Reason::Stabilized { direction, wanted, limited_to, window_secs });
    }

    /// Decides nothing while other than the desired number of tasks run, for a while.
    pub(in crate::core) fn wait_until_settled(&mut self) {
        let running = self.seen.status.running;
        if !self.rules.wait_until_settled || running == self.current {
            self.state.unsettled = None;
            return;
        }
        let changes = [&self.state.last_out, &self.state.last_in].into_iter().flatten().map(|action| action.at);
        let unsettled = *self.state.unsettled.get_or_insert(self.now);
        let since = changes.fold(unsettled, jiff::Timestamp::max);
        if self.wanted == self.current {
            return;
        }
        if self.is_within(since, self.rules.settle_timeout_secs) {
            let remaining_secs = self.remaining_secs(since, self.rules.settle_timeout_secs);
            let wanted = self.hold();
            self.reasons.push(Reason::NotSettled { wanted, running, remaining_secs });
        } else {
            self.reasons.push(Reason::SettlingTimedOut { running, for_secs: self.secs_since(since) });
        }
    }

    /// Changes the count by no more than the direction's rates allow.
    pub(in crate::core) fn limit_rates(&mut self) {
        let behavior = &self.rules.behavior;
        match (behavior.longest_period_secs(), &mut self.state.changes) {
            (None, changes) => *changes = None,
            (Some(_), Some(_)) => {}
            (Some(_), changes) => *changes = Some(Vec::new()),
        }
        let Some(direction) = Direction::between(self.current, self.wanted) else { return };
        let rules = behavior.of(direction);
        if rules.select == SelectPolicy::Disabled {
            let wanted = self.hold();
            self.reasons.push(Reason::DirectionDisabled { direction, wanted });
            return;
        }
        let changes = self.state.changes.as_deref().unwrap_or_default();
        let begun_with = |period| Change::count_before(changes, (self.current, direction), period, self.now);
        let Some(limit) = rules.limit(direction, begun_with) else { return };
        let limited_to = match direction {
            // No percentage of nothing wakes a service.
            Direction::Out => limit.max(self.current).max(1).min(self.wanted),
            Direction::In => limit.min(self.current).max(self.wanted),
        };
        if limited_to != self.wanted {
            let wanted = std::mem::replace(&mut self.wanted, limited_to);
            self.reasons.push(Reason::RateLimited { direction, wanted, limited_to });
        }
    }

    /// Keeps as many changes as rates look back on.
    pub(super) fn tidy_changes(&mut self) {
        let longest = self.rules.behavior.longest_period_secs().unwrap_or(0);
        let now = self.now;
        self.state.changes.iter_mut().for_each(|changes| Change::tidy(changes, longest, now));
    }
}
