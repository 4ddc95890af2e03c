//! The pure middle: from what was seen and remembered to what to do, and why.
//!
//! Total and deterministic: no clock, environment, log, SDK type, async or feature flag. A test holds this line.

mod behavior;
pub mod budget;
mod case;
mod combine;
mod decision;
mod forecast;
mod history;
mod observation;
mod policy;
mod reason;
mod rules;
mod safety;
mod schedule;
mod state;

use jiff::Timestamp;

use case::Case;
pub use case::load_of;

pub use behavior::{RatePolicy, RateType, ScalingBehavior, ScalingRules, SelectPolicy};
pub use combine::{Combine, CombinePolicies};
pub use decision::{Decision, Direction};
pub use forecast::{Forecast, ForecastMode, History, Season};
pub use history::{Change, Recommendation, Wanted};
pub use observation::{
    Alert, Amount, Answer, Asked, Computed, Finite, Observation, Protected, QueueDepth, Reading, Sample, Share, Tally,
    TargetStatus, Unreadable,
};
pub use policy::{
    AdjustmentType, Alarm, AlertStep, Answered, Band, Because, Course, DrainTime, Estimate, Expression, Finished,
    Level, Loads, Memory, MetricType, OneByOne, POLICIES, Part, Pid, Policy, Proposal, Run, Situation, Step,
    StepScaling, Streak, Target, Threshold, VARIABLES, Work, WorkTally,
};
pub use reason::Reason;
pub use rules::{Bounds, Held, Load, Pause, PriorityOverride, Rules};
pub use safety::{Behavior, Brake, Breaker, ConfirmZero, Fallback, ScaleToZero};
pub use schedule::{BoundsByTime, Cron, Day, Edge, LocalTime, ScheduledBounds, Zone};
pub use state::{Action, BrakeLoad, Failing, Intent, LastLoad, Past, Shortfall, State, Zero};

/// Decides one service: what to set, why, and what to remember.
///
/// The guards speak in this order, each on what the one before left, and each that changes or refuses something leaves
/// a reason. `behavior` speaks before the cooldowns, which wait with what its windows and rates leave; a count that is ordered by a
/// pause or by the bounds waits for none of them, and counts as a change of its period. The returned state holds the change as announced ([`State::pending`]); saving it before acting is the caller's part.
pub fn decide(rules: &Rules, seen: &Observation, past: &Past, now: Timestamp) -> (Decision, State) {
    let bounds = rules.bounds_at(now);
    let scheduled = (bounds != rules.bounds).then(|| Rules { bounds, ..rules.clone() });
    let mut case = Case::open(scheduled.as_ref().unwrap_or(rules), seen, past, now);
    case.note_scheduled_bounds(rules.bounds);
    case.recognize_announced_change();
    case.notice_what_others_changed();
    case.let_policies_propose();
    case.fall_back_when_nothing_is_read();
    case.raise_to_forecast();
    case.tolerate_small_differences();
    case.stabilize();
    case.wait_until_settled();
    case.wake_and_sleep();
    case.keep_to_budget();
    case.limit_rates();
    case.keep_fraction_on_scale_in();
    case.keep_busy_tasks();
    case.hold_scale_in_during_deployment();
    case.stop_asking_for_tasks_that_do_not_arrive();
    case.obey_brakes();
    case.hold_scale_in_until_zero_is_confirmed();
    case.wait_for_cooldown();
    case.hold_scale_in_unless_all_is_read();
    case.keep_paused_count();
    case.stay_within_bounds();
    case.hold_while_paused();
    case.leave_it_to_the_other_autoscaler();
    case.act_once_for_each_scheduled_time();
    case.refuse_without_state();
    case.conclude()
}
