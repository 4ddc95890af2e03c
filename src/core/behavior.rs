//! How calmly the count follows what policies want: windows, rates and tolerance of each direction, as in the `behavior` of
//! Kubernetes' Horizontal Pod Autoscaler.
//!
//! Source: `stabilizeRecommendationWithBehaviors` and `convertDesiredReplicasWithBehaviorRate` of
//! <https://github.com/kubernetes/kubernetes/blob/master/pkg/controller/podautoscaler/horizontal.go>, whose rounding is kept
//! with its floating point. What differs: everything is off by default and survives a restart; the tolerance is of the count and
//! not of a metric (that of HPA's ratio belongs to the policy `target`); and a service without tasks may always get one, as with KEDA.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decision::Direction;

/// How the count follows what policies want, by direction.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScalingBehavior {
    /// How tasks are added.
    pub scale_out: ScalingRules,
    /// How tasks are removed.
    pub scale_in: ScalingRules,
}

/// How the count follows in one direction.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScalingRules {
    /// How long a wanted count is remembered, in seconds, 0 to 3,600: a scale-out goes no further than the least count that was
    /// wanted in this time, a scale-in no further than the most. 0, the default, follows at once; HPA's own scale-in has 300.
    #[schemars(range(max = 3_600))]
    pub stabilization_window_secs: u64,
    /// How much the count may change in a time, at most 8 of them; without limit where there is none.
    #[schemars(length(max = 8))]
    pub policies: Vec<RatePolicy>,
    /// Which of `policies` counts: `max` the one that allows most, `min` the one that allows least, `disabled` none: nothing
    /// changes in this direction but to come back into the bounds.
    pub select: SelectPolicy,
    /// How far the wanted count may be from the desired count, as a fraction of it, before the count changes in this
    /// direction, 0 to 1, inclusive. 0, the default, follows every difference.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub tolerance: f64,
}

/// How much the count may change in a time. It counts from the desired count at the beginning of that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RatePolicy {
    /// What the value is: `tasks`, or `percent` of the count at the beginning, of which a fraction of a task is a whole one.
    #[serde(rename = "type")]
    pub of: RateType,
    /// How many tasks or percent, at least 1.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub value: u32,
    /// The time, in seconds, 1 to 1,800 as in HPA.
    #[schemars(range(min = 1, max = 1_800))]
    pub period_secs: u64,
}

/// What the value of a rate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "explained at `RatePolicy::of`; docs here would split the schema's list of values")]
pub enum RateType {
    Tasks,
    Percent,
}

/// Which of several rates counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "explained at `ScalingRules::select`; docs here would split the schema's list of values"
)]
pub enum SelectPolicy {
    #[default]
    Max,
    Min,
    Disabled,
}

impl ScalingBehavior {
    /// The rules of a direction.
    pub fn of(&self, direction: Direction) -> &ScalingRules {
        match direction {
            Direction::Out => &self.scale_out,
            Direction::In => &self.scale_in,
        }
    }

    /// The longest time that a rate looks back, in seconds, or nothing where there is no rate.
    pub(super) fn longest_period_secs(&self) -> Option<u64> {
        let policies = self.scale_out.policies.iter().chain(&self.scale_in.policies);
        policies.map(|policy| policy.period_secs).max()
    }
}

impl ScalingRules {
    /// The farthest count that the rates allow, or nothing where there is no rate. `begun_with` gives the count at the beginning of a
    /// period; it is below 0 where others removed what was added.
    pub(super) fn limit(&self, direction: Direction, begun_with: impl Fn(u64) -> i64) -> Option<u32> {
        let limits = self.policies.iter().map(|policy| policy.limit(direction, begun_with(policy.period_secs)));
        match (direction, self.select) {
            (Direction::Out, SelectPolicy::Max) | (Direction::In, SelectPolicy::Min) => limits.max(),
            (Direction::Out, SelectPolicy::Min) | (Direction::In, SelectPolicy::Max) => limits.min(),
            (_, SelectPolicy::Disabled) => None,
        }
    }
}

impl RatePolicy {
    fn limit(self, direction: Direction, start: i64) -> u32 {
        let (value, factor) = (i64::from(self.value), f64::from(self.value) / 100.0);
        let limit = match (self.of, direction) {
            (RateType::Tasks, Direction::Out) => start + value,
            (RateType::Tasks, Direction::In) => start - value,
            (RateType::Percent, Direction::Out) => (start as f64 * (1.0 + factor)).ceil() as i64,
            (RateType::Percent, Direction::In) => (start as f64 * (1.0 - factor)) as i64,
        };
        u32::try_from(limit.max(0)).unwrap_or(u32::MAX)
    }
}
