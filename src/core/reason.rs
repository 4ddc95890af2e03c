//! Why: one code for everything that a guard can say, with its numbers.

use std::fmt;

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

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proposed { source, load, because, wants, .. } => {
                write!(f, "load {load} of {source} ")?;
                because.describe(*wants, f)
            }
            Self::AlertAnswered { alert } => write!(f, "alert {alert} was answered already"),
            Self::CooldownCredit { base } => {
                write!(f, "steps count from {base}, since tasks of the last scale-out may still be starting")
            }
            Self::MetricUnreadable { source, kind, detail } => write!(f, "{source} is unreadable ({kind}): {detail}"),
            Self::ScaleInNeedsAllMetrics { wanted } => {
                write!(f, "no scale-in to {wanted} while a source is unreadable")
            }
            Self::ScaleInLimited { wanted, limited_to, fraction } => {
                write!(f, "scale-in to {wanted} limited to {limited_to}, since {fraction} must remain")
            }
            Self::ChangedByOthers { from, to } => {
                write!(f, "somebody else changed the desired count from {from} to {to}")
            }
            Self::FallbackActivated { behavior, wants } => {
                write!(f, "no source could be read for several ticks: fallback {behavior} begins and wants {wants}")
            }
            Self::FallbackActive { behavior, wants } => write!(f, "fallback {behavior} wants {wants}"),
            Self::FallbackCleared { after_secs } => write!(f, "sources can be read again after {after_secs} s"),
            Self::Woken { source, load } => write!(f, "load {load} of {source} wakes the service"),
            Self::Asleep { wake_above } => write!(f, "asleep until a load is above {wake_above}"),
            Self::KeptAwake { load, sleep_at } => write!(f, "kept awake by a load of {load}, above {sleep_at}"),
            Self::BudgetShared { budget, wanted, share } => {
                write!(f, "budget {budget:?} leaves {share} tasks to the service, which wants {wanted}")
            }
            Self::ZeroComesAfterOne => f.write_str("one task stays until the next step"),
            Self::BusyTasks { wanted, limited_to, in_flight, protected } => {
                write!(f, "scale-in to {wanted} limited to {limited_to}, since {in_flight} messages are in flight")?;
                protected.map_or(Ok(()), |tasks| write!(f, " and {tasks} tasks are protected"))
            }
            Self::NotDrained { wanted, messages } => {
                write!(f, "no scale-in to {wanted} before {messages} messages are done")
            }
            Self::ZeroNotConfirmed { source, seen, needs, for_secs, needs_secs } => write!(
                f,
                "no scale-in yet: {source} has read 0 in {seen} of {needs} ticks and for {for_secs} of {needs_secs} s"
            ),
            Self::TasksNotArriving { wanted, running, for_secs } => write!(
                f,
                "no scale-out to {wanted}: {running} tasks run, and no further one has arrived for {for_secs} s"
            ),
            Self::Probe { wanted } => write!(f, "one task more instead of {wanted}, to see whether tasks arrive again"),
            Self::BrakeApplied { wanted, source, load } => {
                write!(f, "no scale-out to {wanted} while {source} is at {load}")
            }
            Self::Paused { pause, wanted } => write!(f, "paused ({pause}), or {wanted} would be asked for"),
            Self::ManagedByAnother { by, wanted } => {
                write!(f, "{by} sets the count of this service, or {wanted} would be asked for; remove one of the two")
            }
            Self::DuplicateTick { scheduled_for, wanted } => {
                write!(f, "the tick of {scheduled_for} has acted already, or {wanted} would be asked for")
            }
            Self::FirstSeenRecently { wanted, remaining_secs } => {
                write!(f, "no scale-in to {wanted} for another {remaining_secs} s, since the service is new here")
            }
            Self::DeploymentInProgress { wanted } => write!(f, "no scale-in to {wanted} during a deployment"),
            Self::InCooldown { direction, wanted, remaining_secs } => {
                write!(f, "{direction} to {wanted} waits {remaining_secs} s for its cooldown")
            }
            Self::PriorityOverride { added } => write!(f, "{added} more tasks do not wait for the cooldown"),
            Self::StateUnavailable { kind, detail } => write!(f, "state is unreadable ({kind}): {detail}"),
            Self::ChangeNeedsState { wanted } => write!(f, "no change to {wanted} without readable state"),
            Self::IntentConfirmed { to } => write!(f, "the announced change to {to} was made"),
            Self::IntentReplayed { announced, to } => {
                write!(f, "the announced change to {announced} was not made, and {to} are asked for now")
            }
            Self::IntentSuperseded { to, found } => {
                write!(f, "the announced change to {to} was overtaken: the desired count is {found}")
            }
            Self::ClockSkew { ahead_secs } => {
                write!(f, "the state is {ahead_secs} s ahead of the clock; cooldowns run from now")
            }
            Self::OutsideBounds { wanted, bounded_to } => write!(f, "{wanted} is outside the bounds, so {bounded_to}"),
            Self::AlreadyAtMaxCapacity { max } => write!(f, "already at the upper bound of {max}"),
            Self::AlreadyAtMinCapacity { min } => write!(f, "already at the lower bound of {min}"),
            Self::AlreadyAtDesiredCapacity => f.write_str("nothing to change"),
        }
    }
}
