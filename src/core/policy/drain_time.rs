//! A promise about waiting: work waits at most so long. It learns the arrival rate, and how long a task works on a message.
//!
//! The busy tasks say how much arrives, whatever a message takes, since messages in flight are the arrival rate times the
//! service time (Little's law); what waits is drained in time for the promise, counting the tasks that are already on their way.
//! `docs/policies/drain_time.md` has the formulas and what they were measured to do.

mod estimate;
mod finished;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Because, Memory, Proposal, Situation};
pub use estimate::Estimate;
use estimate::Said;
pub use finished::Finished;

/// Holds a promise: work waits at most so long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainTime {
    /// How long work may wait before a task takes it, in seconds.
    #[schemars(range(min = 1, max = 86_400))]
    pub target_wait_secs: u32,
    /// How long a task works on one message, in seconds, above 0: where learning starts. Rather too long than too short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64", range(min = 0.001, max = 86_400.0))]
    pub service_secs: Option<f64>,
    /// How many messages one task works on at once; `in_flight_per_task` where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 1_000_000))]
    pub concurrency: Option<u32>,
    /// How long a task takes from being asked for to its first message, in seconds.
    #[serde(default = "one_minute")]
    #[schemars(range(max = 3_600))]
    pub lead_secs: u32,
    /// How many standard deviations of the arrival rate there are tasks for beyond its mean. More costs more and is late less.
    #[serde(default = "two_fifths")]
    #[schemars(range(min = 0.0, max = 10.0))]
    pub headroom: f64,
    /// For how long the largest wanted count is kept, and how much time is at least between two scale-ins, in seconds. About what
    /// starting a task costs.
    #[serde(default = "one_minute")]
    #[schemars(range(max = 3_600))]
    pub hold_secs: u32,
}

fn one_minute() -> u32 {
    60
}

fn two_fifths() -> f64 {
    0.4
}

/// The work of a service in one tick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// What waits: finite, at least 0.
    pub waiting: f64,
    /// What is being worked on, where every source can tell it.
    pub in_flight: Option<f64>,
    /// How much was finished since some time in the past, where every source counts it.
    pub completed: Option<f64>,
    /// What was finished up to a while ago, where every source has a tally of the same time.
    pub tally: Option<WorkTally>,
    /// When that was so.
    pub at: Timestamp,
    /// Whether all of it was read.
    pub part: Part,
    /// How many messages one task works on at once.
    pub in_flight_per_task: u32,
    /// When tasks were last removed.
    pub last_in: Option<Timestamp>,
}

/// Messages that were finished in a time that is over, by their sources' weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WorkTally {
    /// How many.
    pub messages: f64,
    /// From when on.
    pub since: Timestamp,
    /// Up to when.
    pub until: Timestamp,
}

/// How much of the work was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// Some source could not be read.
    Some,
}

/// What there is to work on, and the tasks that do, as numbers.
#[derive(Debug, Clone, Copy)]
struct Look {
    waiting: f64,
    in_flight: f64,
    /// Whether in flight may be what no task works on.
    has_strays: bool,
    completed: Option<f64>,
    tally: Option<WorkTally>,
    /// Tasks that run and stay.
    running: f64,
    /// Tasks that are asked for and do not run yet.
    coming: f64,
    /// Messages at work when every running task is busy.
    slots: f64,
    concurrency: f64,
    /// Tasks that are asked for.
    current: u32,
    /// Tasks that run, also those that are to stop.
    all_running: u32,
    at: Timestamp,
}

impl Look {
    /// Whether it tells how long messages take.
    fn tells_service(&self) -> bool {
        self.completed.is_some() || self.tally.is_some()
    }

    /// How many messages the tasks that run get done in a second.
    fn done_in_a_second(&self, estimate: &Estimate) -> f64 {
        self.slots / estimate.service_secs()
    }
}

/// Loads beyond this count as this, so that whatever is multiplied stays finite.
const LARGEST: f64 = 1e15;

/// Without a number of messages in flight, tasks in front of an empty queue count as busy to this part: a little less than all, so that
/// tasks go until something waits.
const BUSY_WITHOUT_BACKLOG: f64 = 0.85;

/// From how many times as many messages in flight as the tasks hold, with nothing waiting, most of them are none's work. Below that they may
/// be those of tasks that were just told to stop.
const STRAYS: f64 = 2.0;

/// How old counts of messages are on average, in seconds: those of SQS are of the last half minute, and their age is not said.
const AGE: f64 = 15.0;

/// How many messages wait for each task that starts while it is a guess how long one takes. Where that is guessed too long, too many tasks
/// seem to be needed, and those that run are done before they start.
const EACH_BY_GUESS: f64 = 2.0;

/// From how many finished messages on what they teach is no guess.
const LEAST_COUNTED: f64 = 20.0;

/// The part of the promise that work may wait for without any more tasks. What is left is for what is not known.
const STANDING: f64 = 0.6;

/// Over how long a backlog that is below what may stand is made up for by fewer tasks, in seconds.
const SLACK_SECS: f64 = 150.0;

impl DrainTime {
    pub(in crate::core) fn propose(
        &self,
        work: &Work,
        situation: Situation,
        memory: Option<&Memory>,
        now: Timestamp,
    ) -> (Proposal, Option<Memory>) {
        let (look, said) = (self.look(work, situation, now), self.said());
        let known = match memory {
            Some(Memory::Estimate(estimate)) if estimate.is_sound() => estimate.clone(),
            _ => Estimate::begin(&look, said.secs()),
        };
        let mut estimate = match work.part {
            Part::Whole => known.follow(&look, said),
            Part::Some => known,
        };
        let (needs, backlog) = self.needs(&look, &estimate);
        let keeps = match work.part {
            Part::Whole => self.keeps(work, &look, &mut estimate, needs, now),
            Part::Some => look.current,
        };
        let receivers = self.receivers(&look, &estimate);
        let most = look.all_running.saturating_add(receivers).max(look.current);
        let wants = match look.current {
            // Where nothing waits, more tasks would find nothing to do, and so would more that start than messages wait.
            current if current < needs && 0 < receivers => needs.min(most),
            current => keeps.min(current),
        };
        let because = Because::Drain {
            arrivals_per_sec: shown(estimate.rate()),
            deviation: shown(estimate.deviation()),
            service_secs: shown(estimate.service_secs()),
            learned_from: estimate.learned_from().map(shown),
            is_guessed: self.is_guess(&estimate),
            predicted_backlog: shown(backlog),
            needs,
            most: (look.current < needs && most < needs).then_some(most),
        };
        // A look at some of the work is not the first one.
        let is_begun = work.part == Part::Whole || memory.is_some();
        (Proposal { wants, because }, is_begun.then_some(Memory::Estimate(estimate)))
    }

    /// How many of the tasks there are have to stay, from what was wanted lately.
    fn keeps(&self, work: &Work, look: &Look, estimate: &mut Estimate, needs: u32, now: Timestamp) -> u32 {
        let held = estimate.hold(needs, self.hold_secs);
        let keeps = if self.may_scale_in(work, now) { held.most } else { look.current };
        let keeps = keeps.max(look.current - look.current / 2);
        // Those that run have done it before one that still starts could help, which is given up sooner.
        let is_soon_done = look.waiting <= self.standing_secs() * look.done_in_a_second(estimate);
        if is_soon_done { keeps.min(held.lately.max(look.all_running)) } else { keeps }
    }

    /// How many more tasks than run would receive something.
    fn receivers(&self, look: &Look, estimate: &Estimate) -> u32 {
        // What was done since the counts were made no longer waits.
        let age = (f64::from(self.target_wait_secs) / 4.0).clamp(1.0, AGE);
        let waits = (look.waiting - age * look.done_in_a_second(estimate)).max(0.0);
        let each = if self.is_guess(estimate) { EACH_BY_GUESS } else { 1.0 };
        (waits / (each * look.concurrency)).ceil() as u32
    }

    /// Whether nobody has said how long a message takes, and hardly any were counted.
    fn is_guess(&self, estimate: &Estimate) -> bool {
        self.service_secs.is_none() && estimate.learned_from().is_none_or(|messages| messages < LEAST_COUNTED)
    }

    /// How long a message takes: where the configuration does not say it, a quarter of the promise.
    fn said(&self) -> Said {
        match self.service_secs {
            Some(secs) => Said::Given(secs),
            None => Said::Guessed(f64::from(self.target_wait_secs) / 4.0),
        }
    }

    fn look(&self, work: &Work, situation: Situation, now: Timestamp) -> Look {
        let Situation { current, running, .. } = situation;
        let concurrency = f64::from(self.concurrency.unwrap_or(work.in_flight_per_task).max(1));
        let slots = concurrency * f64::from(running);
        let waiting = work.waiting.min(LARGEST);
        let in_flight = match work.in_flight {
            // More than the tasks can hold is what nobody works on: poison, or of tasks that are gone.
            Some(in_flight) => in_flight.min(slots),
            None if 0.0 < waiting => slots,
            None => slots * BUSY_WITHOUT_BACKLOG,
        };
        let has_strays = work.in_flight.is_none_or(|in_flight| waiting <= 0.0 && STRAYS * slots < in_flight);
        let completed = work.in_flight.and(work.completed).map(|count| count.min(LARGEST));
        let tally = work.in_flight.and(work.tally);
        let tally = tally.map(|tally| WorkTally { messages: tally.messages.min(LARGEST), ..tally });
        let (stay, coming) = (f64::from(running.min(current)), f64::from(current.saturating_sub(running)));
        Look {
            waiting,
            in_flight,
            has_strays,
            completed,
            tally,
            running: stay,
            coming,
            slots,
            concurrency,
            current,
            all_running: running,
            at: work.at.min(now),
        }
    }

    /// How many tasks there have to be, and the backlog when a task that is asked for now is ready.
    fn needs(&self, look: &Look, estimate: &Estimate) -> (u32, f64) {
        let (wait, lead) = (f64::from(self.target_wait_secs), f64::from(self.lead_secs) + AGE);
        let (rate, service_secs) = (estimate.rate(), estimate.service_secs());
        let of_one = look.concurrency / service_secs;
        let done = of_one * lead * (look.running + look.coming / 2.0);
        let backlog = (look.waiting + rate * lead - done).max(0.0);
        // A task cannot drain more in less time than one message takes.
        let drain_secs = (wait / 3.0).clamp(10.0, 60.0).max(service_secs);
        // No more may stand than that more arrivals always ask for more tasks.
        let standing_secs = self.standing_secs().min(lead + drain_secs).min(SLACK_SECS);
        let excess = backlog - standing_secs * rate;
        let correction = if 0.0 < excess { excess / drain_secs } else { excess / SLACK_SECS };
        let needed = (rate + self.headroom * estimate.deviation() + correction) / of_one;
        (needed.ceil().max(0.0) as u32, backlog)
    }

    /// For how long work may wait without any more tasks.
    fn standing_secs(&self) -> f64 {
        STANDING * f64::from(self.target_wait_secs)
    }

    fn may_scale_in(&self, work: &Work, now: Timestamp) -> bool {
        let hold = SignedDuration::from_secs(i64::from(self.hold_secs));
        work.last_in.is_none_or(|last| hold <= now.duration_since(last))
    }
}

/// A number as reasons have it: three digits behind the point.
fn shown(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests;
