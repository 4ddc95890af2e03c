//! A load per task, or a ratio to hold: the rule of Kubernetes' Horizontal Pod Autoscaler for external metrics, which is also
//! KEDA's.
//!
//! Source: <https://github.com/kubernetes/kubernetes/blob/master/pkg/controller/podautoscaler/replica_calculator.go>. Numbers
//! are compared in thousandths, as there. What differs: within the tolerance the desired count stays, where HPA returns the
//! tasks that exist and drifts during rollouts (<https://github.com/kubernetes/kubernetes/issues/138505>); and the
//! ratio holds the count where no task runs, and removes none where it is above 1.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Because, Proposal, Situation};

/// A load per task, or a ratio to hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The load to hold: for each task with `average_value`, in all with `value`. From 0.001.
    #[schemars(range(min = 0.001, max = 1e15))]
    pub target: f64,
    /// `average_value` wants as many tasks as the load has targets in it, as for a queue; `value` changes the running tasks by the ratio
    /// of load and target, as for a latency.
    #[serde(default)]
    pub metric_type: MetricType,
    /// How far the ratio of load and target may be above 1 before tasks are added, 0 to 1. HPA's default, with which ten tasks
    /// of four messages each never become eleven for the 41st; 0 adds a task for it.
    #[serde(default = "tenth")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub scale_out_tolerance: f64,
    /// How far the ratio of load and target may be below 1 before tasks are removed, 0 to 1. HPA's default.
    #[serde(default = "tenth")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub scale_in_tolerance: f64,
}

/// What the load is compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "explained at `Target::metric_type`; docs here would split the schema's list of values")]
pub enum MetricType {
    #[default]
    AverageValue,
    Value,
}

fn tenth() -> f64 {
    0.1
}

impl Target {
    pub(super) fn propose(&self, situation: Situation) -> Proposal {
        let Situation { load, current, base, running, .. } = situation;
        let (load, target) = (thousandths(load), thousandths(self.target).max(1.0));
        let shared_by = match self.metric_type {
            MetricType::AverageValue => f64::from(current),
            MetricType::Value => 1.0,
        };
        // Of nothing by no tasks there is no ratio, and nothing is wanted either.
        let ratio = if load == 0.0 { 0.0 } else { (load / (target * shared_by)).min(f64::MAX) };
        let is_within = 1.0 - self.scale_in_tolerance <= ratio && ratio <= 1.0 + self.scale_out_tolerance;
        if is_within && current != 0 {
            return Proposal { wants: current, because: Because::WithinTolerance { ratio } };
        }
        // While tasks are starting, the ratio is that of those before.
        let running = running.min(base);
        let wants = match self.metric_type {
            MetricType::AverageValue => (load / target).ceil() as u32,
            MetricType::Value if current == 0 => ratio.ceil() as u32,
            MetricType::Value if running == 0 => current,
            MetricType::Value => {
                let wants = (ratio * f64::from(running)).ceil() as u32;
                if 1.0 < ratio { wants.max(current) } else { wants }
            }
        };
        Proposal { wants, because: Because::OutsideTolerance { ratio } }
    }
}

fn thousandths(number: f64) -> f64 {
    (number * 1000.0).round().min(f64::MAX)
}
