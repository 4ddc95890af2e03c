//! Why: one code for everything that a guard can say, with its numbers.

mod words;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decision::Direction;
use super::policy::Because;
use crate::error::ErrorKind;

/// Why, with the numbers. The codes contain AWS's own
/// [NotScaledReasons](https://docs.aws.amazon.com/autoscaling/application/APIReference/API_NotScaledReason.html)
/// as far as they can occur here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "code")]
pub enum Reason {
    /// A policy proposed a count for one source's load.
    Proposed {
        /// The policy's type.
        policy: String,
        /// The source's name.
        source: String,
        /// The number that was compared.
        load: f64,
        /// Which rule of the policy spoke.
        #[serde(flatten)]
        because: Because,
        /// The proposed count.
        wants: u32,
    },
    /// An alert was delivered that was answered already.
    AlertAnswered {
        /// The alert.
        alert: String,
    },
    /// A step counts from the desired count before the last scale-out, whose tasks may still be starting.
    CooldownCredit {
        /// Where the step counts from.
        base: u32,
    },
    /// A source could not be read, or its reading is too old.
    MetricUnreadable {
        /// The source's name.
        source: String,
        /// The remedy it calls for.
        kind: ErrorKind,
        /// What was being done and what stood in the way.
        detail: String,
    },
    /// A scale-in was refused because not every source could be read.
    ScaleInNeedsAllMetrics {
        /// The refused count.
        wanted: u32,
    },
    /// A scale-in was limited to the fraction that must remain.
    ScaleInLimited {
        /// The count without the limit.
        wanted: u32,
        /// The count with it.
        limited_to: u32,
        /// The fraction that must remain.
        fraction: f64,
    },
    /// Somebody else changed the desired count since the last tick. Cooldowns run from it as from a change of our own.
    ChangedByOthers {
        /// The count that was left.
        from: u32,
        /// The count that was found.
        to: u32,
    },
    /// No source could be read for several ticks, and the fallback begins.
    FallbackActivated {
        /// What it does.
        behavior: String,
        /// The count that it wants.
        wants: u32,
    },
    /// No source can be read, and the fallback goes on.
    FallbackActive {
        /// What it does.
        behavior: String,
        /// The count that it wants.
        wants: u32,
    },
    /// A source can be read again, and the fallback is over.
    FallbackCleared {
        /// How long no source could be read, in seconds.
        after_secs: u64,
    },
    /// A service without tasks gets one, since something waits.
    Woken {
        /// The source in which it waits.
        source: String,
        /// How much.
        load: f64,
    },
    /// A service without tasks stays without, since no source is above the load that wakes it.
    Asleep {
        /// The load that has to be exceeded.
        wake_above: f64,
    },
    /// The last task stays, since a source is above the load at which the service may sleep.
    KeptAwake {
        /// The highest load of a source.
        load: f64,
        /// The load up to which it may sleep.
        sleep_at: f64,
    },
    /// What the forecast expects, and its score.
    Forecast {
        /// After how many minutes the demand comes back.
        period_mins: u32,
        /// The most tasks that are expected to be needed until the end of the lead.
        expects: f64,
        /// The forecast's mean error over about a period, in tasks, or its root mean square.
        error: f64,
        /// The same of expecting what there was before, in tasks.
        persistence_error: f64,
        /// Whether they are root mean squares, by which large errors weigh more.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        rms: bool,
        /// Whether that is enough for it to count.
        trusted: bool,
    },
    /// The count was raised to what the forecast expects.
    RaisedToForecast {
        /// The count without it.
        wanted: u32,
        /// The count with it.
        raised_to: u32,
    },
    /// The count would have been raised to what the forecast expects, which only forecasts.
    ForecastWouldRaise {
        /// The count that is wanted.
        wanted: u32,
        /// The count that it would be.
        to: u32,
    },
    /// The budget that the service shares leaves another count to it than it wants.
    BudgetShared {
        /// The budget's name.
        budget: String,
        /// The count that the service wants.
        wanted: u32,
        /// The count that is left to it now.
        share: u32,
    },
    /// A scale-in to zero goes by way of one task.
    ZeroComesAfterOne,
    /// A scale-in was limited to the tasks that are at work.
    BusyTasks {
        /// The count without the limit.
        wanted: u32,
        /// The count with it.
        limited_to: u32,
        /// Messages in flight, as far as the sources can tell.
        in_flight: u64,
        /// Tasks that the target protects, where it can tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        protected: Option<u32>,
    },
    /// A scale-in was refused because it has to wait until everything is drained.
    NotDrained {
        /// The refused count.
        wanted: u32,
        /// What waits or is in flight.
        messages: u64,
    },
    /// A scale-in was refused because a reading of zero is not confirmed yet.
    ZeroNotConfirmed {
        /// The source that reads zero.
        source: String,
        /// In how many ticks in a row.
        seen: u32,
        /// How many it needs.
        needs: u32,
        /// For how long, in seconds.
        for_secs: u64,
        /// How long it needs, in seconds.
        needs_secs: u64,
    },
    /// A scale-out was refused because tasks that were asked for do not arrive.
    TasksNotArriving {
        /// The refused count.
        wanted: u32,
        /// How many run.
        running: u32,
        /// Since when no further one runs, in seconds.
        for_secs: u64,
    },
    /// One task more is asked for, to see whether tasks arrive again.
    Probe {
        /// The count without the breaker.
        wanted: u32,
    },
    /// A scale-out was refused because of a source that says stop.
    BrakeApplied {
        /// The refused count.
        wanted: u32,
        /// The source.
        source: String,
        /// Its load.
        load: f64,
    },
    /// The service is paused.
    Paused {
        /// How: `in`, `out`, `both` or `at` a count.
        pause: String,
        /// The count that would have been set.
        wanted: u32,
    },
    /// Another autoscaler sets the same count, so that nothing is changed.
    ManagedByAnother {
        /// The other autoscaler.
        by: String,
        /// The count that would have been set.
        wanted: u32,
    },
    /// A tick that was scheduled for this time, or for a later one, has acted already.
    DuplicateTick {
        /// The scheduled time.
        scheduled_for: Timestamp,
        /// The count that would have been set.
        wanted: u32,
    },
    /// A scale-in was refused because the service was first seen only recently.
    FirstSeenRecently {
        /// The refused count.
        wanted: u32,
        /// How long scale-in still waits, in seconds, rounded up.
        remaining_secs: u64,
    },
    /// A scale-in was refused because a deployment is under way.
    DeploymentInProgress {
        /// The refused count.
        wanted: u32,
    },
    /// Nearly the count that there is was wanted.
    WithinTolerance {
        /// The refused count.
        wanted: u32,
        /// How far the wanted count may be from the desired count, as a fraction of it.
        tolerance: f64,
    },
    /// A change was limited to the safest count that was wanted within a time.
    Stabilized {
        /// The direction.
        direction: Direction,
        /// The count without the limit.
        wanted: u32,
        /// The count with it.
        limited_to: u32,
        /// How long ago a count may have been wanted to count, in seconds.
        window_secs: u64,
    },
    /// A change was limited to what the rates of its direction allow.
    RateLimited {
        /// The direction.
        direction: Direction,
        /// The count without the limit.
        wanted: u32,
        /// The count with it.
        limited_to: u32,
    },
    /// A change was refused because its direction is switched off.
    DirectionDisabled {
        /// The direction.
        direction: Direction,
        /// The refused count.
        wanted: u32,
    },
    /// A change was refused because other than the desired number of tasks run.
    NotSettled {
        /// The refused count.
        wanted: u32,
        /// How many run.
        running: u32,
        /// How long that is still waited for, in seconds, rounded up.
        remaining_secs: u64,
    },
    /// Other than the desired number of tasks have been running for so long that decisions go on.
    SettlingTimedOut {
        /// How many run.
        running: u32,
        /// For how long, in seconds.
        for_secs: u64,
    },
    /// A change was refused because the cooldown of its direction still runs.
    InCooldown {
        /// The direction.
        direction: Direction,
        /// The refused count.
        wanted: u32,
        /// How long it still runs, in seconds, rounded up.
        remaining_secs: u64,
    },
    /// A scale-out was large enough not to wait for the cooldown.
    PriorityOverride {
        /// How many tasks it adds.
        added: u32,
    },
    /// The state could not be read, so that neither cooldowns nor unfinished changes are known.
    StateUnavailable {
        /// The remedy it calls for.
        kind: ErrorKind,
        /// What was being done and what stood in the way.
        detail: String,
    },
    /// A change was refused because the state could not be read.
    ChangeNeedsState {
        /// The refused count.
        wanted: u32,
    },
    /// An announced change was found done.
    IntentConfirmed {
        /// The count it set.
        to: u32,
    },
    /// An announced scale-out was found not done, and is done now as far as it is still wanted.
    IntentReplayed {
        /// The count that was announced.
        announced: u32,
        /// The count that is set.
        to: u32,
    },
    /// An announced change was found overtaken: somebody else set another count.
    IntentSuperseded {
        /// The count it would have set.
        to: u32,
        /// The count that was found.
        found: u32,
    },
    /// The state holds a time that lies in the future. Cooldowns run from now instead.
    ClockSkew {
        /// By how much, in seconds.
        ahead_secs: u64,
    },
    /// The bounds are those of the schedule.
    BoundsScheduled {
        /// The least tasks now.
        min: u32,
        /// The most tasks now.
        max: u32,
        /// The settings that say so, such as `bounds_by_time` and `bounds_schedule[1]`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        by: Vec<String>,
    },
    /// The count was moved into the bounds, or a proposal was cut to them.
    OutsideBounds {
        /// The count without the bounds.
        wanted: u32,
        /// The nearest count within them.
        bounded_to: u32,
    },
    /// More tasks are wanted than the bounds allow, and as many as they allow are asked for already.
    AlreadyAtMaxCapacity {
        /// The upper bound.
        max: u32,
    },
    /// Fewer tasks are wanted than the bounds allow, and as few as they allow are asked for already.
    AlreadyAtMinCapacity {
        /// The lower bound.
        min: u32,
    },
    /// Nothing to change.
    AlreadyAtDesiredCapacity,
}
