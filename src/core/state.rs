//! What survives a tick.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forecast::History;
use super::history::{Change, Wanted};
use super::observation::Unreadable;
use super::policy::Memory;

/// What one service remembers. Everything but `since` may be absent, so that later versions read what earlier ones wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// When the service was first seen. The scale-in cooldown runs from here, since what happened before is unknown.
    pub since: Timestamp,
    /// The last scale-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_out: Option<Action>,
    /// The last scale-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_in: Option<Action>,
    /// A change that was announced and not yet seen to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Intent>,
    /// The desired count as the last tick left it, to see what others change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// The sources that read zero, by name, since they last read more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub zeros: BTreeMap<String, Zero>,
    /// Since when no source can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
    /// The last readings by source, kept where the fallback is `last_known`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub last_loads: BTreeMap<String, LastLoad>,
    /// Since when fewer tasks run than are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortfall: Option<Shortfall>,
    /// The last loads of the brakes that look at growth, by source.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub brake_loads: BTreeMap<String, BrakeLoad>,
    /// What policies remember, by the policy's place in the list and the load's name: `0/orders`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<String, Memory>,
    /// The counts that were wanted, kept where `behavior` has a window.
    #[serde(default, skip_serializing_if = "Wanted::is_empty")]
    pub wanted: Wanted,
    /// The changes that were made, oldest first, at most 64; kept where `behavior` has a rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<Change>>,
    /// Since when other than the desired number of tasks run, kept where that is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled: Option<Timestamp>,
    /// What the forecast has learned, kept where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<History>,
}

/// A source that reads zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Zero {
    /// When it read zero first.
    pub since: Timestamp,
    /// In how many ticks in a row, counted up to what a confirmation needs.
    pub seen: u32,
    /// When it was counted last, so that the same tick again counts nothing; absent where that was the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
}

/// A time in which no source can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Failing {
    /// The first such tick.
    pub since: Timestamp,
    /// How many of them there were, counted up to what the fallback needs.
    pub ticks: u32,
}

/// A load that was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LastLoad {
    /// The load: finite, at least 0.
    pub load: f64,
    /// When it was read.
    pub at: Timestamp,
}

/// The load of a brake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BrakeLoad {
    /// The highest load since it last fell below half of that: finite, at least 0.
    pub load: f64,
    /// When it last grew, if it was seen to grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grown: Option<Timestamp>,
}

/// A time in which fewer tasks run than are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shortfall {
    /// When more tasks than before were last seen running, or the shortfall began.
    pub since: Timestamp,
    /// The most tasks that were seen running in it.
    pub running: u32,
    /// When a probe was last asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probed: Option<Timestamp>,
}

/// One change of the desired count. Counts in tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// When it was decided.
    pub at: Timestamp,
    /// The desired count before.
    pub from: u32,
    /// The desired count after.
    pub to: u32,
    /// Where a further step counts from while this one's cooldown runs: the desired count before the first of the
    /// scale-outs that follow each other within a cooldown.
    pub base: u32,
    /// The scheduled time of the tick that decided it, where it was a scheduled one: the same or an earlier tick that is
    /// delivered after it is recognized by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tick: Option<Timestamp>,
}

/// A change that was announced before it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// When it was decided.
    pub at: Timestamp,
    /// The desired count it was decided on.
    pub from: u32,
    /// The desired count to set.
    pub to: u32,
}

/// What is known of earlier ticks.
#[derive(Debug, Clone, PartialEq)]
pub enum Past {
    /// Nothing was ever saved.
    Absent,
    /// The saved state.
    Known(State),
    /// There may be a state, but it could not be read.
    Unreadable {
        /// Why.
        why: Unreadable,
        /// The last state that this process saw, if it lived long enough to see one.
        remembered: Option<State>,
    },
}

impl State {
    /// The state of a service that is seen for the first time.
    pub fn new(since: Timestamp) -> Self {
        Self {
            since,
            last_out: None,
            last_in: None,
            pending: None,
            count: None,
            zeros: BTreeMap::new(),
            failing: None,
            last_loads: BTreeMap::new(),
            shortfall: None,
            brake_loads: BTreeMap::new(),
            policies: BTreeMap::new(),
            wanted: Wanted::default(),
            changes: None,
            unsettled: None,
            forecast: None,
        }
    }

    /// Records that the announced change was made.
    pub fn confirm(&mut self) {
        if let Some(intent) = self.pending.take() {
            self.note_change(&intent);
        }
        self.count_readings_anew();
    }

    /// Counts a change that was made among those of its period.
    pub(super) fn note_change(&mut self, made: &Intent) {
        self.changes.iter_mut().for_each(|changes| changes.push(Change::new(made.at, made.from, made.to)));
    }

    /// Forgets the readings that a change answered.
    pub(super) fn count_readings_anew(&mut self) {
        self.policies.retain(|_, memory| !memory.ends_with_a_change());
    }

    /// Takes back that alerts were answered by the change that was decided then.
    pub(super) fn take_back_answers(&mut self, at: Timestamp) {
        self.policies.retain(|_, memory| match memory {
            Memory::Alerts(answered) => {
                answered.retain(|it| it.at != at);
                !answered.is_empty()
            }
            _ => true,
        });
    }

    /// Has a later change answer the alerts of one that was decided before.
    pub(super) fn date_answers(&mut self, from: Timestamp, to: Timestamp) {
        let alerts = self.policies.values_mut().filter_map(|memory| match memory {
            Memory::Alerts(answered) => Some(answered),
            _ => None,
        });
        alerts.flatten().filter(|it| it.at == from).for_each(|it| it.at = to);
    }

    /// Records that the announced change cannot be made: it answered nothing.
    #[must_use]
    pub fn with_the_change_refused(mut self, current: u32) -> Self {
        if let Some(at) = self.pending.as_ref().map(|intent| intent.at) {
            self.take_back_answers(at);
        }
        self.without_the_change(current)
    }

    /// The same, of a decision that was not carried out: cooldowns run as if it had been, and the count is what it was.
    #[must_use]
    pub fn without_the_change(mut self, current: u32) -> Self {
        if self.pending.take().is_some() {
            self.count_readings_anew();
        }
        self.count = Some(current);
        self
    }

    /// Whether a tick scheduled for this time, or a later one, has already changed the count.
    pub(super) fn has_acted_on(&self, tick: Timestamp) -> bool {
        [&self.last_out, &self.last_in]
            .into_iter()
            .flatten()
            .any(|action| action.tick.is_some_and(|acted| tick <= acted))
    }

    /// Since when the scale-in cooldown runs: the latest of first sight, the last scale-in and the last scale-out.
    pub fn quiet_since(&self) -> Timestamp {
        [&self.last_out, &self.last_in].into_iter().flatten().map(|action| action.at).fold(self.since, Timestamp::max)
    }

    /// Moves times that lie after `now` by more than `tolerance` back to `now`, and returns by how much the farthest one was
    /// ahead, if any was.
    ///
    /// A cooldown then runs from first sight of the impossible time instead of until that time.
    pub(super) fn pull_back_to(&mut self, now: Timestamp, tolerance: SignedDuration) -> Option<SignedDuration> {
        for action in [&mut self.last_out, &mut self.last_in].into_iter().flatten() {
            // Until such a time every scheduled tick would count as one that has acted.
            action.tick = action.tick.filter(|tick| tick.duration_since(now) <= tolerance);
        }
        let actions = [&mut self.last_out, &mut self.last_in].into_iter().flatten().map(|action| &mut action.at);
        let intents = self.pending.iter_mut().map(|intent| &mut intent.at);
        let zeros = self.zeros.values_mut().flat_map(|zero| [&mut zero.since].into_iter().chain(&mut zero.last));
        let loads = self.last_loads.values_mut().map(|last| &mut last.at);
        let brakes = self.brake_loads.values_mut().filter_map(|last| last.grown.as_mut());
        let failing = self.failing.iter_mut().map(|failing| &mut failing.since);
        let shortfall =
            self.shortfall.iter_mut().flat_map(|short| [&mut short.since].into_iter().chain(&mut short.probed));
        let policies = self.policies.values_mut().flat_map(Memory::times);
        let behavior = self.wanted.times().chain(self.changes.iter_mut().flatten().flat_map(Change::times));
        let others = policies.chain(intents).chain(zeros).chain(loads).chain(brakes).chain(failing).chain(shortfall);
        let forecast = self.forecast.iter_mut().map(|history| &mut history.at);
        let others = others.chain(behavior).chain(&mut self.unsettled).chain(forecast);
        let mut farthest = None;
        for at in actions.chain(others).chain([&mut self.since]) {
            let ahead = at.duration_since(now);
            if tolerance < ahead {
                farthest = farthest.max(Some(ahead));
                *at = now;
            }
        }
        farthest
    }
}
