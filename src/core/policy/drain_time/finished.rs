//! How long a message takes, by a counter of those that were finished: what is in flight is how many are finished in a second times
//! how long each takes (Little's law).

mod tally;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Look;
use super::estimate::{Said, forgets, short};

/// What a counter of finished messages has taught of how long one takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Finished {
    /// The counter at the newest look, where it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<f64>,
    /// Messages in flight times seconds, while nothing or little was finished.
    #[serde(default)]
    pub open: f32,
    /// Messages in flight times seconds, while so many were finished.
    #[serde(default)]
    pub busy: f32,
    /// How many were finished, the latest counting most.
    #[serde(default)]
    pub done: f32,
    /// Up to when the newest tally goes of which it knows what was in flight since. `count` is that tally's then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Messages in flight times seconds of whole minutes, at most 15, with the one that is under way last: of those for which there is no tally yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub minutes: Vec<f32>,
}

/// Over how long what was finished is remembered, in seconds, and not below so many messages.
const OVER: f64 = 300.0;
const LEAST: f64 = 50.0;
/// How many finished messages the service time counts as that was said. A guess counts a fifth of that.
const SAID_COUNTS: f64 = 20.0;
const GUESSED_COUNTS: f64 = 4.0;
/// How many times as long as was said a message may be learned to take.
const LONGEST: f64 = 8.0;
/// How many times as long as was learned so far, or as many as the tasks can do, one look may tell. Messages that come to an end
/// after hours in which nothing did must not be taken for long ones, nor a queue that was emptied for quick ones.
const AT_ONCE: f64 = 4.0;
/// Over how many seconds what is in flight is kept for messages that are counted later: two looks of which the second is of hardly a later
/// time than the first show few as finished, and the next one many.
const REST_SECS: f64 = 45.0;
/// The part of what was said below which that is no measure of how long messages may be at once: what was learned of a queue that does not
/// show what is in flight is soon unlearned.
const LEAST_BELIEVED: f64 = 0.1;

impl Finished {
    /// Begins to count, with what was learned before.
    pub(super) fn begin(look: &Look, before: Option<Self>) -> Option<Self> {
        if before.is_none() && !look.tells_service() {
            return None;
        }
        let Self { busy, done, .. } = before.unwrap_or_default();
        Some(Self { count: look.completed, busy, done, ..Self::default() })
    }

    /// Takes in one more look, so many seconds after one with so much in flight.
    pub(super) fn follow(self, look: &Look, before: f64, secs: f64, said: Said) -> Self {
        let in_flight = match (before + look.in_flight) / 2.0 {
            // Tasks do not leave so much waiting that they have room for: not all that they work on is shown.
            shown if shown < look.slots / 2.0 && look.slots < look.waiting => look.slots,
            shown => shown,
        };
        match (look.tally, look.completed) {
            (Some(tally), _) => self.worked(look, in_flight, secs).tallied(look, tally, said),
            (None, None) if self.is_tallied() => self.worked(look, in_flight, secs),
            // What was tallied before is no counter's count.
            (None, _) if self.is_tallied() => Self { count: look.completed, ..self.forget_tallies() },
            (None, _) => self.counted(look, in_flight, secs, said),
        }
    }

    /// By a counter that is as new as the look.
    fn counted(self, look: &Look, in_flight: f64, secs: f64, said: Said) -> Self {
        let more = match (self.count, look.completed) {
            // Lower: counted anew. How many were finished in between is not known, and neither is it without a counter.
            (Some(count), Some(completed)) if count <= completed => completed - count,
            (_, count) => return Self { count, open: 0.0, ..self },
        };
        let open = f64::from(self.open) + in_flight * secs;
        Self { count: look.completed, ..self.learn(look, more, (open, in_flight), secs, said) }
    }

    /// Learns that so many were finished while so much was in flight, in messages times seconds, and of that so many messages now.
    fn learn(self, look: &Look, more: f64, (open, in_flight): (f64, f64), secs: f64, said: Said) -> Self {
        if more <= 0.0 {
            return Self { open: short(open), ..self };
        }
        let believed = self.service_secs(said);
        let done = more.min(AT_ONCE * 2.0 * (look.slots * secs / believed + 1.0));
        let at_most = if look.has_strays { 1.0 } else { AT_ONCE };
        let busy = open.min(at_most * believed.max(LEAST_BELIEVED * said.secs()) * done);
        let rest = if look.has_strays { 0.0 } else { (open - busy).min(REST_SECS * in_flight) };
        let keep = 1.0 - forgets(secs, OVER).min(done / LEAST);
        Self {
            open: short(rest),
            busy: short(f64::from(self.busy) * keep + busy),
            done: short(f64::from(self.done) * keep + done),
            ..self
        }
    }

    /// How many finished messages it has learned from, if any.
    pub(super) fn learned_from(&self) -> Option<f64> {
        (0.0 < self.done).then_some(f64::from(self.done))
    }

    /// How long a message takes, in seconds.
    pub(super) fn service_secs(&self, said: Said) -> f64 {
        let counts = match said {
            Said::Given(_) => SAID_COUNTS,
            Said::Guessed(_) => GUESSED_COUNTS,
        };
        let secs = (f64::from(self.busy) + counts * said.secs()) / (f64::from(self.done) + counts);
        secs.clamp(0.001, (LONGEST * said.secs()).min(86_400.0))
    }

    /// Whether it is what this wrote.
    pub(super) fn is_sound(&self) -> bool {
        let fits = |number: f32| (0.0..1e30).contains(&number);
        [self.open, self.busy, self.done].into_iter().chain(self.minutes.iter().copied()).all(fits)
            && self.count.is_none_or(|count| (0.0..1e30).contains(&count))
    }
}
