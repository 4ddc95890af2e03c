//! What each reason says to people.

use std::fmt;

use super::{Direction, Reason};

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
            Self::Forecast { period_mins, expects, error, persistence_error, rms, trusted } => {
                let counts = if *trusted { "counts" } else { "does not count" };
                let measure = if *rms { " (root mean squares)" } else { "" };
                write!(
                    f,
                    "the forecast by {period_mins} min expects {expects} tasks and {counts}: it is wrong by {error}, and no forecast by {persistence_error}{measure}"
                )
            }
            Self::RaisedToForecast { wanted, raised_to } => {
                write!(f, "{wanted} raised to {raised_to}, which the forecast expects")
            }
            Self::ForecastWouldRaise { wanted, to } => {
                write!(f, "{wanted} would be raised to {to} by the forecast, which only forecasts")
            }
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
            Self::WithinTolerance { wanted, tolerance } => {
                write!(f, "{wanted} is within the tolerance of {tolerance}")
            }
            Self::Stabilized { direction, wanted, limited_to, window_secs } => {
                let safest = if *direction == Direction::In { "most" } else { "fewest" };
                write!(f, "{direction} to {wanted} limited to {limited_to}, the {safest} wanted in {window_secs} s")
            }
            Self::RateLimited { direction, wanted, limited_to } => {
                write!(f, "{direction} to {wanted} limited to {limited_to} by its rates")
            }
            Self::DirectionDisabled { direction, wanted } => {
                write!(f, "no {direction} to {wanted}, since it is disabled")
            }
            Self::NotSettled { wanted, running, remaining_secs } => {
                write!(
                    f,
                    "no change to {wanted} for another {remaining_secs} s, or until as many run as are asked for instead of {running}"
                )
            }
            Self::SettlingTimedOut { running, for_secs } => {
                write!(
                    f,
                    "{running} tasks run, other than are asked for, for {for_secs} s, which is not waited for any longer"
                )
            }
            // A cooldown is over after its last second, not with it.
            Self::InCooldown { direction, wanted, remaining_secs: 0 } => {
                write!(f, "{direction} to {wanted} waits for the last moment of its cooldown")
            }
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
            Self::BoundsScheduled { min, max, by } => {
                write!(f, "the schedule has {min} to {max} tasks now ({})", by.join(", "))
            }
            Self::OutsideBounds { wanted, bounded_to } => write!(f, "{wanted} is outside the bounds, so {bounded_to}"),
            Self::AlreadyAtMaxCapacity { max } => write!(f, "already at the upper bound of {max}"),
            Self::AlreadyAtMinCapacity { min } => write!(f, "already at the lower bound of {min}"),
            Self::AlreadyAtDesiredCapacity => f.write_str("nothing to change"),
        }
    }
}
