//! Steps by how far the load is beyond a threshold: AWS step scaling, with its steps, sides, types and rounding.
//!
//! Source: <https://docs.aws.amazon.com/autoscaling/application/userguide/step-scaling-policy-overview.html>. The two alarms
//! are one policy here, since each of two policies would hold what the other removes. The threshold itself breaches, as with
//! `GreaterThanOrEqualToThreshold`; where both do, the scale-out speaks. The cooldown and its credit are the rules', and a
//! step counts from [`Situation::base`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Because, Problem, Proposal, Situation, problem};

/// Steps by how far the load is beyond a threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepScaling {
    /// What an adjustment is: tasks to add or remove (`change_in_capacity`), the count itself (`exact_capacity`), or percent of
    /// the count (`percent_change_in_capacity`), of which fractions above 1 are cut and below 1 are one task.
    pub adjustment_type: AdjustmentType,
    /// The least tasks that a percentage adds or removes, at least 1. One where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 2_147_483_647))]
    pub min_adjustment_magnitude: Option<u32>,
    /// The steps at and above a threshold. None where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Alarm")]
    pub scale_out: Option<Alarm>,
    /// The steps at and below a threshold, which is not above that of `scale_out`. None where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Alarm")]
    pub scale_in: Option<Alarm>,
}

/// What an adjustment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "explained at `StepScaling::adjustment_type`; docs here would split the schema's list of values"
)]
pub enum AdjustmentType {
    ChangeInCapacity,
    ExactCapacity,
    PercentChangeInCapacity,
}

/// A threshold and the steps beyond it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    /// The load at which the steps begin. At least 0.
    #[schemars(range(min = 0.0))]
    pub threshold: f64,
    /// The steps, 1 to 20, in any order, without overlap or gap, the farthest of them open.
    #[schemars(length(min = 1, max = 20))]
    pub steps: Vec<Step>,
}

/// What to do while the load is within an interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The lower bound as a difference from the threshold: inclusive in `scale_out`, exclusive in `scale_in`. Open where it is
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub lower_bound: Option<f64>,
    /// The upper bound as a difference from the threshold: exclusive in `scale_out`, inclusive in `scale_in`. Open where it is
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub upper_bound: Option<f64>,
    /// Tasks or percent, by the type: not below 0 in `scale_out` and for a count, not above 0 in `scale_in`.
    #[schemars(range(min = -2_147_483_647, max = 2_147_483_647))]
    pub adjustment: i32,
}

impl Step {
    fn lower(&self) -> f64 {
        self.lower_bound.unwrap_or(f64::NEG_INFINITY)
    }

    fn upper(&self) -> f64 {
        self.upper_bound.unwrap_or(f64::INFINITY)
    }
}

impl StepScaling {
    pub(super) fn propose(&self, situation: Situation) -> Proposal {
        let Situation { load, current, .. } = situation;
        let beyond = |alarm: &Option<Alarm>, fits: fn(&Step, f64) -> bool| {
            let alarm = alarm.as_ref()?;
            let breach = load - alarm.threshold;
            alarm.steps.iter().find(|step| fits(step, breach)).map(|step| (breach, step.adjustment))
        };
        let above = |step: &Step, breach: f64| 0.0 <= breach && step.lower() <= breach && breach < step.upper();
        let below = |step: &Step, breach: f64| breach <= 0.0 && step.lower() < breach && breach <= step.upper();
        let (found, from) = match beyond(&self.scale_out, above) {
            Some(found) => (Some(found), situation.base),
            None => (beyond(&self.scale_in, below), current),
        };
        match found {
            Some((breach, adjustment)) => {
                let wants = self.adjusted(from, adjustment);
                let is_relative = self.adjustment_type != AdjustmentType::ExactCapacity;
                let wants = if is_relative && 0 <= adjustment { wants.max(current) } else { wants };
                Proposal { wants, because: Because::Step { breach, adjustment } }
            }
            None => {
                let side = |alarm: &Option<Alarm>, open| alarm.as_ref().map_or(open, |alarm| alarm.threshold);
                let (from, to) = (side(&self.scale_in, 0.0), side(&self.scale_out, f64::MAX));
                Proposal { wants: current, because: Because::InsideBand { from, to } }
            }
        }
    }

    fn adjusted(&self, from: u32, adjustment: i32) -> u32 {
        match self.adjustment_type {
            AdjustmentType::ChangeInCapacity => from.saturating_add_signed(adjustment),
            AdjustmentType::ExactCapacity => u32::try_from(adjustment).unwrap_or(0),
            AdjustmentType::PercentChangeInCapacity if adjustment == 0 => from,
            AdjustmentType::PercentChangeInCapacity => {
                let percent = u64::from(from) * u64::from(adjustment.unsigned_abs());
                // Of nothing, the least step: AWS scales out from zero by that.
                let least = self.min_adjustment_magnitude.unwrap_or(1).max(1);
                let tasks = u32::try_from(percent / 100).unwrap_or(u32::MAX).max(least);
                if 0 < adjustment { from.saturating_add(tasks) } else { from.saturating_sub(tasks) }
            }
        }
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match (&self.scale_out, &self.scale_in) {
            (None, None) => problems.push(problem("", "has no steps", "give scale_out or scale_in")),
            (Some(out), Some(inward)) if out.threshold < inward.threshold => problems.push(problem(
                "/scale_in/threshold",
                "is above the scale-out threshold",
                "keep the scale-in threshold at or below the scale-out threshold",
            )),
            _ => {}
        }
        for (name, alarm) in [("scale_out", &self.scale_out), ("scale_in", &self.scale_in)] {
            problems.extend(alarm.iter().flat_map(|alarm| self.problems_of(name, alarm)));
        }
        problems
    }

    fn problems_of(&self, name: &str, alarm: &Alarm) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |what, remedy| problems.push(problem(&format!("/{name}/steps"), what, remedy));
        let mut steps = alarm.steps.clone();
        steps.sort_by(|one, other| one.lower().total_cmp(&other.lower()));
        if steps.iter().any(|step| step.upper() <= step.lower()) {
            add("has a step whose upper bound is not above its lower bound", "exchange the two");
        }
        if steps.windows(2).any(|pair| pair[0].upper() != pair[1].lower()) {
            add("has steps that overlap or leave a gap", "let each step begin where the one before ends");
        }
        let is_out = name == "scale_out";
        let farthest = if is_out {
            steps.last().and_then(|it| it.upper_bound)
        } else {
            steps.first().and_then(|it| it.lower_bound)
        };
        if farthest.is_some() {
            add("ends before the farthest load", "leave out the bound of the farthest step");
        }
        let is_beside = |step: &Step| if is_out { step.upper() <= 0.0 } else { 0.0 <= step.lower() };
        if steps.iter().any(is_beside) {
            add("has a step on the other side of the threshold", "give it to the other of scale_out and scale_in");
        }
        let is_count = self.adjustment_type == AdjustmentType::ExactCapacity;
        let is_wrong = |step: &Step| if is_out || is_count { step.adjustment < 0 } else { 0 < step.adjustment };
        if steps.iter().any(is_wrong) {
            add("has an adjustment of the wrong sign", "give scale_out and counts 0 or more, scale_in 0 or less");
        }
        problems
    }
}
