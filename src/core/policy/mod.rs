//! Policies turn a load into a wanted count. They know no cooldowns or failures: those are guards, and come after.

mod alert_step;
mod band;
mod because;
mod drain_time;
mod expression;
mod memory;
mod pid;
mod step;
mod streak;
mod target;
mod threshold;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use alert_step::AlertStep;
pub use band::Band;
pub use because::Because;
pub use drain_time::{DrainTime, Estimate, Finished, Part, Work, WorkTally};
pub use expression::{Expression, VARIABLES};
pub use memory::{Answered, Course, Level, Loads, Memory, Run};
pub use pid::{OneByOne, Pid};
pub use step::{AdjustmentType, Alarm, Step, StepScaling};
pub use streak::Streak;
pub use target::{MetricType, Target};
pub use threshold::Threshold;

use super::rules::Bounds;

/// The closed set of policies; `type` names one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Policy {
    /// Adds tasks in proportion to the load above one threshold, and removes them below another.
    Threshold(Threshold),
    /// Adds and removes tasks in steps by how far the load is beyond a threshold, as AWS step scaling does.
    Step(StepScaling),
    /// Holds a load per task, or a ratio, as Kubernetes' Horizontal Pod Autoscaler and KEDA do.
    Target(Target),
    /// Adds or removes tasks after several readings in a row, or by their average, as autoscalebot does.
    Streak(Streak),
    /// Holds the length of a queue by control theory, as Microscaling Engine's `Queue` does.
    Pid(Pid),
    /// Adds or removes one task at a time, as Microscaling Engine's `SimpleQueue` does.
    OneByOne(OneByOne),
    /// Keeps the count between two formulas over the loads, as fly-autoscaler does.
    Band(Band),
    /// Adds or removes tasks for each alert, as docker-scaler does.
    AlertStep(AlertStep),
    /// Holds a promise that work waits at most so long, by learning how much arrives and how long a message takes.
    DrainTime(DrainTime),
    /// Wants what a formula gives, over all loads and what is known of the service.
    Expression(Expression),
}

/// The names that `type` takes, in the order of the documentation.
pub const POLICIES: &[&str] =
    &["threshold", "step", "target", "streak", "pid", "one_by_one", "band", "alert_step", "drain_time", "expression"];

/// What a policy looks at.
#[derive(Debug, Clone, Copy)]
pub struct Situation {
    /// The number to compare: finite, at least 0.
    pub load: f64,
    /// The desired count now, in tasks.
    pub current: u32,
    /// Where a relative step counts from, in tasks: the current count, or less while a scale-out is still under way.
    pub base: u32,
    /// How many tasks run.
    pub running: u32,
    /// The bounds, for policies that refuse to leave them.
    pub bounds: Bounds,
}

/// What a policy wants, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proposal {
    /// The wanted count in tasks, not yet bounded.
    pub wants: u32,
    /// Which rule of the policy spoke.
    pub because: Because,
}

/// What is wrong with a policy's settings, which the schema cannot say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, as a JSON Pointer from the policy on.
    pub pointer: String,
    /// The end of a sentence that begins with the setting.
    pub problem: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

fn problem(pointer: &str, problem: &'static str, remedy: &'static str) -> Problem {
    Problem { pointer: pointer.to_owned(), problem, remedy }
}

impl Policy {
    /// Returns the wanted count for one load, and what to remember of it. Nothing is wanted by policies that look at no
    /// load by itself: `band`, `drain_time` and `expression`, which are about all of them, and `alert_step`.
    pub fn propose(
        &self,
        situation: Situation,
        memory: Option<Memory>,
        now: Timestamp,
    ) -> Option<(Proposal, Option<Memory>)> {
        let proposal = match self {
            Self::Threshold(policy) => policy.propose(situation),
            Self::Step(policy) => policy.propose(situation),
            Self::Target(policy) => policy.propose(situation),
            Self::OneByOne(policy) => policy.propose(situation),
            Self::Streak(policy) => return Some(policy.propose(situation, memory, now)),
            Self::Pid(policy) => return Some(policy.propose(situation, memory, now)),
            Self::Band(_) | Self::AlertStep(_) | Self::DrainTime(_) | Self::Expression(_) => return None,
        };
        Some((proposal, None))
    }

    /// Its formulas, by the setting that each is. What they give is part of what is seen.
    pub fn formulas(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let (band, expression) = match self {
            Self::Band(band) => (Some(band), None),
            Self::Expression(expression) => (None, Some(("desired", expression.desired.as_str()))),
            _ => (None, None),
        };
        band.into_iter().flat_map(Band::formulas).chain(expression)
    }

    /// Whether it remembers anything.
    pub(super) fn remembers(&self) -> bool {
        matches!(self, Self::Streak(_) | Self::Pid(_) | Self::AlertStep(_) | Self::DrainTime(_))
    }

    /// What is wrong with the settings, which the schema cannot say. Of `threshold` the configuration knows more.
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Self::Step(policy) => policy.problems(),
            Self::Streak(policy) => policy.problems(),
            Self::Band(policy) => policy.problems(),
            Self::Threshold(_)
            | Self::Target(_)
            | Self::Pid(_)
            | Self::OneByOne(_)
            | Self::AlertStep(_)
            | Self::DrainTime(_)
            | Self::Expression(_) => Vec::new(),
        }
    }

    /// The policy's name, as in `type`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Threshold(_) => "threshold",
            Self::Step(_) => "step",
            Self::Target(_) => "target",
            Self::Streak(_) => "streak",
            Self::Pid(_) => "pid",
            Self::OneByOne(_) => "one_by_one",
            Self::Band(_) => "band",
            Self::AlertStep(_) => "alert_step",
            Self::DrainTime(_) => "drain_time",
            Self::Expression(_) => "expression",
        }
    }
}
