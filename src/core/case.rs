//! One decision in the making: the guards, in the order in which [`decide`](super::decide) calls them.
//!
//! Here are its beginning, what earlier ticks left, and its end; [`proposals`] has what policies want, and [`limits`] and [`safety`] have
//! the guards between.

mod behavior;
mod forecast;
mod limits;
mod proposals;
mod safety;
mod work;

use jiff::{SignedDuration, Timestamp};

use super::combine::Combine;
use super::decision::{Decision, Direction};
use super::observation::{Amount, Answer, Computed, Observation, Sample, Unreadable};
use super::reason::Reason;
use super::rules::{Load, PriorityOverride, Rules};
use super::safety::Brake;
use super::state::{Action, Intent, Past, State, Zero};
use crate::error::ErrorKind;

/// How far two clocks may differ before a time in the future is taken for a fault. NTP keeps hosts within a second;
/// two minutes forgives a host that has just started.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(120);

pub(super) struct Case<'a> {
    rules: &'a Rules,
    seen: &'a Observation,
    past: &'a Past,
    now: Timestamp,
    state: State,
    /// An announced scale-out that was never made.
    unfinished: Option<Intent>,
    current: u32,
    wanted: u32,
    /// The loads of the sources that could be read, brakes aside.
    loads: Vec<(&'a str, f64)>,
    brakes: Vec<(&'a Brake, f64)>,
    all_read: bool,
    /// Whether a policy proposed a count for what was read now.
    is_proposed: bool,
    /// Whether a policy that looks at no load by itself asks for tasks.
    is_asked_for: bool,
    /// Whether one task more is asked for although others have not arrived.
    probes: bool,
    /// Whether the configuration orders a scale-in although nothing can be read.
    is_ordered_in: bool,
    reasons: Vec<Reason>,
}

impl<'a> Case<'a> {
    pub(super) fn open(rules: &'a Rules, seen: &'a Observation, past: &'a Past, now: Timestamp) -> Self {
        let mut reasons = Vec::new();
        let mut state = match past {
            Past::Absent => State::new(now),
            Past::Known(state) => state.clone(),
            Past::Unreadable { why, remembered } => {
                reasons.push(Reason::StateUnavailable { kind: why.kind, detail: why.detail.clone() });
                remembered.clone().unwrap_or_else(|| State::new(now))
            }
        };
        if let Some(ahead) = state.pull_back_to(now, CLOCK_TOLERANCE) {
            reasons.push(Reason::ClockSkew { ahead_secs: ahead.as_secs().unsigned_abs() });
        }
        let current = seen.status.desired;
        Self {
            rules,
            seen,
            past,
            now,
            state,
            unfinished: None,
            current,
            wanted: current,
            loads: Vec::new(),
            brakes: Vec::new(),
            all_read: true,
            is_proposed: false,
            is_asked_for: false,
            probes: false,
            is_ordered_in: false,
            reasons,
        }
    }

    /// Finds out what became of a change that an earlier tick announced: made, never made, or overtaken by somebody else.
    pub(super) fn recognize_announced_change(&mut self) {
        let Some(intent) = self.state.pending.take() else { return };
        // Whichever it is, the count that was left before it is no longer to be expected.
        self.state.count = None;
        if self.current == intent.to {
            self.state.note_change(&intent);
            self.state.count_readings_anew();
            self.reasons.push(Reason::IntentConfirmed { to: intent.to });
        } else if self.current != intent.from {
            self.reasons.push(Reason::IntentSuperseded { to: intent.to, found: self.current });
            self.note_change_by_others(intent.to);
        } else if self.current < intent.to && self.is_within(intent.at, self.rules.scale_out_cooldown_secs) {
            self.unfinished = Some(intent);
        } else {
            // An unfinished scale-in is dropped: its cooldown runs, and after that the facts decide anew.
            self.state.take_back_answers(intent.at);
        }
    }

    /// Respects a count that somebody else set since the last tick: it is where this decision starts from.
    pub(super) fn notice_what_others_changed(&mut self) {
        match self.state.count {
            Some(left) if left != self.current => {
                self.reasons.push(Reason::ChangedByOthers { from: left, to: self.current });
                self.note_change_by_others(left);
            }
            _ => {}
        }
    }

    /// Lets cooldowns run from somebody else's change as from one of our own, so that it is not undone at once. A scale-out
    /// counts as an answer to the load that waits.
    fn note_change_by_others(&mut self, left: u32) {
        let (at, from, to) = (self.now, left, self.current);
        let base = self.last_out_in_cooldown().map_or(left, |last| last.base.min(left));
        match Direction::between(left, self.current) {
            Some(Direction::Out) => self.state.last_out = Some(Action { at, from, to, base, tick: None }),
            Some(Direction::In) => self.state.last_in = Some(Action { at, from, to, base: to, tick: None }),
            None => {}
        }
    }

    pub(super) fn conclude(mut self) -> (Decision, State) {
        let (from, to, at) = (self.current, self.wanted, self.now);
        let action = |base| Some(Action { at, from, to, base, tick: self.seen.scheduled_for });
        match Direction::between(from, to) {
            Some(Direction::Out) => self.state.last_out = action(self.base()),
            Some(Direction::In) => self.state.last_in = action(from),
            None => {}
        }
        if from != to {
            self.tidy_changes();
            self.hand_over_answers();
            self.note_answered_alert();
        }
        if self.probes && from < to {
            self.state.shortfall.iter_mut().for_each(|shortfall| shortfall.probed = Some(at));
        }
        self.state.count = Some(to);
        self.state.pending = match from == to {
            // What was announced and not made stays announced, until it is made or its cooldown is over.
            true => self.unfinished,
            false => Some(Intent { at, from, to }),
        };
        if self.reasons.is_empty() {
            self.reasons.push(Reason::AlreadyAtDesiredCapacity);
        }
        (Decision { current: from, desired: to, reasons: self.reasons }, self.state)
    }

    /// What an announced change was to answer is answered by the one that makes it after all, and by no other.
    fn hand_over_answers(&mut self) {
        match &self.unfinished {
            Some(intent) if intent.to == self.wanted => self.state.date_answers(intent.at, self.now),
            Some(intent) => self.state.take_back_answers(intent.at),
            None => {}
        }
    }

    /// Where a relative step counts from: while the scale-out cooldown runs, the count before the scale-outs that it
    /// covers, which AWS calls credit:
    /// <https://docs.aws.amazon.com/autoscaling/application/userguide/step-scaling-policy-overview.html#step-scaling-cooldown>.
    fn base(&self) -> u32 {
        match (self.rules.priority_override, self.last_out_in_cooldown()) {
            (PriorityOverride::Always, _) => self.current,
            // What was asked for before is unknown: tasks that are still starting may be the answer to this load.
            (_, None) if *self.past == Past::Absent => self.seen.status.running.min(self.current),
            (_, None) => self.current,
            (_, Some(last)) => last.base.min(self.current),
        }
    }

    fn last_out_in_cooldown(&self) -> Option<&Action> {
        let last = self.state.last_out.as_ref()?;
        self.is_within(last.at, self.rules.scale_out_cooldown_secs).then_some(last)
    }

    fn scales_in(&self) -> bool {
        self.wanted < self.current
    }

    fn scales_out(&self) -> bool {
        self.current < self.wanted
    }

    fn hold(&mut self) -> u32 {
        std::mem::replace(&mut self.wanted, self.current)
    }

    fn is_within(&self, since: Timestamp, secs: u64) -> bool {
        self.now.duration_since(since) <= seconds(secs)
    }

    /// How long ago, in whole seconds; 0 for what lies ahead by less than the clocks' tolerance.
    fn secs_since(&self, since: Timestamp) -> u64 {
        u64::try_from(self.now.duration_since(since).as_secs()).unwrap_or(0)
    }

    fn remaining_secs(&self, since: Timestamp, secs: u64) -> u64 {
        let remaining = seconds(secs) - self.now.duration_since(since);
        remaining.as_secs().unsigned_abs() + u64::from(0 < remaining.subsec_nanos())
    }
}

/// Cooldowns are at most a week (see [`Rules`]); a longer one here saturates instead of wrapping.
fn seconds(count: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(count).unwrap_or(i64::MAX / 4))
}

/// Returns the number that one source brings to a decision, or why there is none: it could not be read, is too old, or is
/// from the future.
///
/// # Errors
/// Why there is none.
pub fn load_of(sample: &Sample, rules: &Rules, now: Timestamp) -> Result<f64, Unreadable> {
    let reading = match &sample.answer {
        Answer::Reading(reading) => reading,
        Answer::Unreadable(why) => return Err(why.clone()),
    };
    let age = now.duration_since(reading.taken_at);
    if seconds(rules.max_reading_age_secs) < age {
        return Err(stale(format!(
            "the reading is {} s old, more than {} s",
            age.as_secs(),
            rules.max_reading_age_secs
        )));
    }
    if age < -CLOCK_TOLERANCE {
        return Err(stale(format!("the reading is {} s in the future", -age.as_secs())));
    }
    match (reading.amount, rules.load) {
        (Amount::Gauge { value }, _) => Ok(value.get()),
        (Amount::Queue(depth), Load::Backlog) => Ok(depth.backlog as f64),
        (Amount::Queue(depth), Load::Combined) => match depth.in_flight {
            Some(in_flight) => Ok(depth.backlog as f64 + in_flight as f64),
            None => Err(Unreadable {
                kind: ErrorKind::Missing,
                detail: "the source cannot tell messages in flight, which the combined load needs".to_owned(),
            }),
        },
    }
}

fn stale(detail: String) -> Unreadable {
    Unreadable { kind: ErrorKind::Stale, detail }
}
