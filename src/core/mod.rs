//! The pure middle: from what was seen and remembered to what to do, and why.
//!
//! Total and deterministic: no clock, environment, log, SDK type, async or feature flag. A test holds this line.

mod case;
mod decision;
mod observation;
mod policy;
mod rules;
mod state;

use jiff::Timestamp;

use case::Case;

pub use decision::{Decision, Direction, Reason};
pub use observation::{
    Amount, Answer, Finite, Observation, Protected, QueueDepth, Reading, Sample, TargetStatus, Unreadable,
};
pub use policy::{Because, PLANNED_POLICIES, POLICIES, Policy, Threshold};
pub use rules::{Bounds, Held, Load, Pause, PriorityOverride, Rules};
pub use state::{Action, Intent, Past, State};

/// Decides one service: what to set, why, and what to remember.
///
/// The guards speak in this order, each on what the one before left, and each that changes or refuses something leaves
/// a reason. The returned state holds the change as announced ([`State::pending`]); saving it before acting is the caller's part.
pub fn decide(rules: &Rules, seen: &Observation, past: &Past, now: Timestamp) -> (Decision, State) {
    let mut case = Case::open(rules, seen, past, now);
    case.recognize_announced_change();
    case.let_policies_propose();
    case.keep_fraction_on_scale_in();
    case.hold_scale_in_during_deployment();
    case.wait_for_cooldown();
    case.hold_scale_in_unless_all_is_read();
    case.stay_within_bounds();
    case.refuse_without_state();
    case.conclude()
}
