//! Above one threshold add tasks in proportion to the load, below another remove them: StepScale's rule.
//!
//! Reproduces `fast-autoscaler` 0.2.0 number for number, truncation of the `f64` product included, except that a step
//! counts from [`Situation::base`], so that a standing backlog is not answered again while tasks are still starting.
//! Source: <https://github.com/stepscale/fast-autoscaler>.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Because, Proposal, Situation};

/// Above one threshold add tasks in proportion to the load, below another remove them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// Scale out when the load is above this many messages (strictly). At least 0. The original's default.
    #[serde(default = "hundred")]
    #[schemars(range(min = 0.0))]
    pub scale_out_threshold: f64,
    /// Scale in when the load is below this many messages (strictly). From 0 to the scale-out threshold. The original's default.
    #[serde(default = "ninety_nine")]
    #[schemars(range(min = 0.0))]
    pub scale_in_threshold: f64,
    /// Tasks per message: how many tasks to add for each waiting message above the threshold (at least one task in all),
    /// and how many to keep for each below it. At least 0. The original's default, one task for a hundred messages.
    #[serde(default = "hundredth")]
    #[schemars(range(min = 0.0))]
    pub tasks_per_message: f64,
}

fn hundred() -> f64 {
    100.0
}

fn ninety_nine() -> f64 {
    99.0
}

fn hundredth() -> f64 {
    0.01
}

impl Default for Threshold {
    fn default() -> Self {
        Self { scale_out_threshold: hundred(), scale_in_threshold: ninety_nine(), tasks_per_message: hundredth() }
    }
}

impl Threshold {
    pub(super) fn propose(&self, situation: Situation) -> Proposal {
        let Situation { load, current, base, .. } = situation;
        // A float-to-integer cast truncates and saturates, as the original's int() does within its range.
        let share = (load * self.tasks_per_message) as u32;
        if self.scale_out_threshold < load {
            let wants = base.saturating_add(share.max(1)).max(current);
            return Proposal { wants, because: Because::AboveThreshold { threshold: self.scale_out_threshold } };
        }
        if load < self.scale_in_threshold {
            // The original lets this exceed the current count; so do we.
            return Proposal { wants: share, because: Because::BelowThreshold { threshold: self.scale_in_threshold } };
        }
        let because = Because::InsideBand { from: self.scale_in_threshold, to: self.scale_out_threshold };
        Proposal { wants: current, because }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Bounds;

    fn at(load: f64, current: u32, base: u32) -> Situation {
        Situation { load, current, base, running: base, bounds: Bounds::default() }
    }

    fn wants(load: f64, current: u32, base: u32) -> u32 {
        Threshold::default().propose(at(load, current, base)).wants
    }

    #[test]
    fn step_is_the_truncated_product_and_at_least_one() {
        assert_eq!(wants(101.0, 10, 10), 11);
        assert_eq!(wants(199.0, 10, 10), 11);
        assert_eq!(wants(200.0, 10, 10), 12);
        let small = Threshold { tasks_per_message: 0.0, ..Threshold::default() };
        assert_eq!(small.propose(at(500.0, 3, 3)).wants, 4);
    }

    #[test]
    fn both_thresholds_are_strict() {
        assert_eq!(wants(100.0, 10, 10), 10);
        assert_eq!(wants(99.0, 10, 10), 10);
        assert_eq!(wants(98.9, 10, 10), 0);
    }

    #[test]
    fn credit_never_turns_a_step_out_into_a_step_in() {
        assert_eq!(wants(5000.0, 60, 10), 60);
        assert_eq!(wants(500.0, 60, 10), 60);
        assert_eq!(wants(8000.0, 60, 10), 90);
    }

    #[test]
    fn an_absurd_load_saturates() {
        assert_eq!(wants(1e300, 10, 10), u32::MAX);
    }
}
