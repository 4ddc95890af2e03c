//! Policies turn a load into a wanted count. They know no bounds, cooldowns or failures: those are guards, and come after.

mod threshold;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use threshold::Threshold;

/// The closed set of policies; `type` names one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Policy {
    /// Adds tasks in proportion to the load above one threshold, and removes them below another.
    Threshold(Threshold),
}

/// The names that `type` takes, in the order of the documentation.
pub const POLICIES: &[&str] = &["threshold"];

/// Policies that are known by name and not part of this version.
pub const PLANNED_POLICIES: &[&str] =
    &["drain_time", "step", "target", "streak", "pid", "one_by_one", "expression", "band", "schedule", "alert_step"];

/// What a policy looks at.
#[derive(Debug, Clone, Copy)]
pub struct Situation {
    /// The number to compare: finite, at least 0.
    pub load: f64,
    /// The desired count now, in tasks.
    pub current: u32,
    /// Where a relative step counts from, in tasks: the current count, or less while a scale-out is still under way.
    pub base: u32,
}

/// What a policy wants, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proposal {
    /// The wanted count in tasks, not yet bounded.
    pub wants: u32,
    /// Which rule of the policy spoke.
    pub because: Because,
}

/// Which rule of a policy spoke.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum Because {
    /// The load is above the scale-out threshold.
    AboveThreshold {
        /// The threshold.
        threshold: f64,
    },
    /// The load is below the scale-in threshold.
    BelowThreshold {
        /// The threshold.
        threshold: f64,
    },
    /// The load is on or between the two thresholds.
    InsideBand {
        /// The scale-in threshold.
        from: f64,
        /// The scale-out threshold.
        to: f64,
    },
}

impl Policy {
    /// Returns the wanted count for one load.
    pub fn propose(&self, situation: Situation) -> Proposal {
        match self {
            Self::Threshold(threshold) => threshold.propose(situation),
        }
    }

    /// The policy's name, as in `type`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Threshold(_) => "threshold",
        }
    }
}
