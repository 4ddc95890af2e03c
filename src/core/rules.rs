//! How one service is decided: its policies, its bounds and its guards.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::behavior::ScalingBehavior;
use super::budget::Budget;
use super::combine::{Combine, CombinePolicies};
use super::forecast::Forecast;
use super::policy::Policy;
use super::safety::{Brake, Breaker, ConfirmZero, Fallback, ScaleToZero};
use super::schedule::{BoundsByTime, ScheduledBounds, bounds_at, given_by};

/// How one service is decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// The policies, 1 to 16. Each proposes a count for each load (see `combine`); of the proposals the largest wins, or what
    /// `combine_policies` makes of them.
    #[schemars(length(min = 1, max = 16))]
    pub policies: Vec<Policy>,
    /// The bounds that nothing leaves.
    #[serde(default)]
    pub bounds: Bounds,
    /// Bounds by the time of day, in place of `bounds`.
    #[serde(default)]
    pub bounds_by_time: BoundsByTime,
    /// Bounds for some time, in place of `bounds` and of those by the time of day, at most 64; of those in force at once the last one
    /// counts, for the least and for the most tasks. Where the two cross, the most tasks count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub bounds_schedule: Vec<ScheduledBounds>,
    /// Quiet time after a scale-out before another one, in seconds, strictly: at exactly this age it still runs.
    /// Inside it a step counts from the count before, and a step of `scaling_step_count` tasks or more does not wait.
    #[serde(default = "two_minutes")]
    #[schemars(range(max = 604_800))]
    pub scale_out_cooldown_secs: u64,
    /// Quiet time after a scale-in, a scale-out or first sight of the service before a scale-in, in seconds, strictly.
    /// 0 where every policy is a `drain_time`, which has a hold of its own.
    #[serde(default = "two_minutes")]
    #[schemars(range(max = 604_800))]
    pub scale_in_cooldown_secs: u64,
    /// Which scale-outs do not wait for the scale-out cooldown: `step` those of at least `scaling_step_count` tasks,
    /// `always` all of them and without credit for tasks that are still starting, `never` none. `always` where every policy is a
    /// `drain_time` and neither this nor `scale_out_cooldown_secs` is given: it counts such tasks itself.
    #[serde(default)]
    pub priority_override: PriorityOverride,
    /// The smallest scale-out, in tasks, that does not wait for the scale-out cooldown.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub scaling_step_count: u32,
    /// The fraction of the desired count that must remain after one scale-in, 0 to 1; the product is truncated, so that
    /// below 1 at least one task can go. 0.5 where every policy is a `drain_time`.
    #[serde(default = "ninety_nine_hundredths")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_remaining_fraction: f64,
    /// How calmly the count follows what policies want, beside the cooldowns: windows, rates and tolerance for `scale_out` and
    /// `scale_in`, as in the `behavior` of Kubernetes' HPA.
    #[serde(default)]
    pub behavior: ScalingBehavior,
    /// Whether nothing is decided while other than the desired number of tasks run, as in Microscaling Engine. The bounds, and the first
    /// task of a service without any, do not wait.
    #[serde(default)]
    pub wait_until_settled: bool,
    /// How long that waits after the last change, or since another number runs, in seconds, 1 to 86,400; then decisions go on, since a
    /// task that never starts must not hold the service. Ten minutes: a large image and a slow health check fit.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub settle_timeout_secs: u64,
    /// Which messages of a queue count: `backlog` those that wait, `combined` those that wait or are in flight.
    #[serde(default)]
    pub load: Load,
    /// What policies compare where there are several sources: each source's load by itself, of which the largest proposal
    /// wins (`max`), or one load that is the least of them (`min`), their `sum` or their `mean`, or what a formula makes of them, in the Expr language
    /// (<https://expr-lang.org/docs/language-definition>) with the sources' names as variables:
    /// `{"formula": "orders + max(0, refunds - 100)"}`. A formula below 0 counts as 0; it has no value while a source cannot be read.
    #[serde(default)]
    pub combine: Combine,
    /// What becomes of several proposals, whether of several policies or for several loads: the largest (`max`), so that to add tasks comes
    /// before keeping them and that before removing some, as in Nomad; the smallest (`min`), or, of policies of the type `expression` alone, the `sum` or the `mean`, rounded up. A policy
    /// without a value is left out, and no task is removed then.
    #[serde(default)]
    pub combine_policies: CombinePolicies,
    /// By what a source's load is multiplied before it is compared, by the source's name; above 0, and 1 where it is left out.
    /// In a configuration, give it as `weight` of the source. What wakes a service, and when a zero is believed, goes by
    /// the load itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, f64>", extend("additionalProperties" = {"type": "number", "exclusiveMinimum": 0.0, "maximum": 1e6}))]
    pub weights: BTreeMap<String, f64>,
    /// How many messages one task works on at once, at least 1. No scale-in leaves fewer tasks than the messages in flight
    /// keep busy at that.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub in_flight_per_task: u32,
    /// Whether a scale-in waits until nothing waits or is in flight in any source.
    #[serde(default)]
    pub drain_first: bool,
    /// When a reading of zero after one that was not zero is believed.
    #[serde(default)]
    pub confirm_zero: ConfirmZero,
    /// When a service whose lower bound is 0 goes to sleep and wakes.
    #[serde(default)]
    pub scale_to_zero: ScaleToZero,
    /// How long after first sight of a service no task is removed, in seconds, beside the scale-in cooldown.
    #[serde(default)]
    #[schemars(range(max = 604_800))]
    pub first_scale_in_after_secs: u64,
    /// What to do when no source could be read for several ticks; hold where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Fallback")]
    pub fallback: Option<Fallback>,
    /// Raises the least count before demand that comes back with the clock, as far as its own score against no forecast allows; none where
    /// it is left out. It needs a `drain_time`, or every policy to be a `target`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Forecast")]
    pub forecast: Option<Forecast>,
    /// When to stop asking for tasks that do not arrive.
    #[serde(default)]
    pub breaker: Breaker,
    /// Sources that stop scale-out instead of asking for tasks, such as a dead-letter queue. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub brakes: Vec<Brake>,
    /// Which changes to hold back (`in`, `out`, `both`), or how many tasks to keep whatever is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Pause")]
    pub pause: Option<Pause>,
    /// The service's part in a budget that several services share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Budget")]
    pub budget: Option<Budget>,
    /// How old a reading may be, in seconds, before it counts as unreadable.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub max_reading_age_secs: u64,
    /// Whether to scale out although the state cannot be read. Another invocation's step may then be repeated, up to the bounds.
    #[serde(default)]
    pub allow_scale_out_without_state: bool,
}

impl Rules {
    /// The bounds of a time, by the schedule.
    pub fn bounds_at(&self, now: Timestamp) -> Bounds {
        bounds_at(self.bounds, &self.bounds_by_time, &self.bounds_schedule, now)
    }

    /// The settings that give the bounds of a time, where the schedule does.
    pub(super) fn bounds_given_by(&self, now: Timestamp) -> Vec<String> {
        given_by(&self.bounds_by_time, &self.bounds_schedule, now)
    }

    /// By what a source's load is multiplied before it is compared.
    pub fn weight(&self, source: &str) -> f64 {
        self.weights.get(source).copied().unwrap_or(1.0)
    }

    /// Whether a source stops scale-out instead of asking for tasks.
    pub fn is_brake(&self, source: &str) -> bool {
        self.brakes.iter().any(|brake| brake.source == source)
    }
}

/// The least and the most tasks, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// The least tasks; 0 allows scaling to zero. The most is what ECS takes.
    #[serde(default = "ten")]
    #[schemars(range(max = 2_147_483_647))]
    pub min: u32,
    /// The most tasks; at least `min`.
    #[serde(default = "three_hundred")]
    #[schemars(range(max = 2_147_483_647))]
    pub max: u32,
}

impl Bounds {
    /// Returns the nearest count within the bounds.
    pub fn clamp(self, count: u32) -> u32 {
        // Not `Ord::clamp`, which panics on bounds that cross; configuration refuses those, and `max` wins here.
        count.max(self.min).min(self.max)
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self { min: ten(), max: three_hundred() }
    }
}

/// Which scale-outs do not wait for the scale-out cooldown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "explained at `Rules::priority_override`; docs here would split the schema's list of values"
)]
pub enum PriorityOverride {
    #[default]
    Step,
    Always,
    Never,
}

/// What does not change while a service is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Pause {
    /// No change in a direction, or in both.
    Hold(Held),
    /// This many tasks, within the bounds, at once and until the pause is over.
    At(u32),
}

/// Which changes a pause holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "explained at `Rules::pause`; docs here would split the schema's list of values")]
pub enum Held {
    In,
    Out,
    Both,
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hold(Held::In) => f.write_str("in"),
            Self::Hold(Held::Out) => f.write_str("out"),
            Self::Hold(Held::Both) => f.write_str("both"),
            Self::At(count) => write!(f, "at {count}"),
        }
    }
}

impl FromStr for Pause {
    type Err = String;

    /// Reads `in`, `out`, `both` or a number of tasks, as environment variables and tags give them.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "in" => Ok(Self::Hold(Held::In)),
            "out" => Ok(Self::Hold(Held::Out)),
            "both" => Ok(Self::Hold(Held::Both)),
            number => match number.parse() {
                Ok(count) => Ok(Self::At(count)),
                Err(_) => Err("neither in, out, both nor a number of tasks".to_owned()),
            },
        }
    }
}

/// Which messages of a queue count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "explained at `Rules::load`; docs here would split the schema's list of values")]
pub enum Load {
    #[default]
    Backlog,
    Combined,
}

fn one() -> u32 {
    1
}

fn ten() -> u32 {
    10
}

fn three_hundred() -> u32 {
    300
}

fn five() -> u32 {
    5
}

fn two_minutes() -> u64 {
    120
}

fn ten_minutes() -> u64 {
    600
}

fn five_minutes() -> u64 {
    300
}

fn ninety_nine_hundredths() -> f64 {
    0.99
}
