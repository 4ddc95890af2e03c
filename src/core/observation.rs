//! Everything one decision may look at, read once per tick.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decision::Direction;
use super::rules::Pause;
use crate::error::ErrorKind;

/// What was seen of one service in one tick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// One per configured source. A source that could not be read is present as `unreadable`: a gap, not a zero.
    pub samples: Vec<Sample>,
    /// What the target says of itself.
    pub status: TargetStatus,
    /// How many tasks the target says must not be stopped now. Asked for where a scale-in is wanted, of targets that can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<Protected>,
    /// What the rules' formula gave, if they have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formula: Option<Computed>,
    /// What the formulas of policies gave, by the formula.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policy_formulas: BTreeMap<String, Computed>,
    /// What an alert asks for, where the tick was invoked by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<Alert>,
    /// What the service's budget leaves to it now, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// The time that this tick was scheduled for, where a schedule says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_for: Option<Timestamp>,
}

/// What a budget leaves to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The most tasks that it may have now.
    pub tasks: u32,
    /// Whether it is to have just as many.
    #[serde(default)]
    pub fill: bool,
}

/// How many tasks must not be stopped, or why that is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protected {
    /// So many tasks.
    Tasks(u32),
    /// The target could not be asked.
    Unreadable(Unreadable),
}

/// What a formula gave, or why it gave nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Computed {
    /// The load.
    Value(#[schemars(with = "f64", range(min = 0.0))] Finite),
    /// It could not be evaluated, or needs a source that could not be read.
    Unreadable(Unreadable),
}

/// What an alert asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Which alert it is, the same each time that it is delivered.
    #[schemars(length(max = 256))]
    pub id: String,
    /// Whether it asks for more tasks or fewer.
    pub direction: Direction,
    /// How many, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub by: Option<u32>,
}

/// What one source answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// The source's name.
    pub source: String,
    /// The reading, or why there is none.
    #[serde(flatten)]
    pub answer: Answer,
}

/// A reading, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The source was read.
    Reading(Reading),
    /// The source could not be read.
    Unreadable(Unreadable),
}

/// How much work is waiting, and when that was true.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reading {
    /// When the provider took the number; the time of the call where the provider does not say.
    pub taken_at: Timestamp,
    /// The number or numbers.
    #[serde(flatten)]
    pub amount: Amount,
}

/// What a source can tell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Amount {
    /// A queue: messages by where they are.
    Queue(QueueDepth),
    /// A metric: one number.
    Gauge {
        /// The metric's value.
        #[schemars(with = "f64", range(min = 0.0))]
        value: Finite,
    },
}

/// Messages of a queue by where they are. An absent number means that the provider cannot tell it, never zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueDepth {
    /// Messages that wait and can be received now.
    pub backlog: u64,
    /// Messages received and not yet acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    /// Messages that wait and cannot be received yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delayed: Option<u64>,
    /// Age of the oldest waiting message in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_age_secs: Option<u64>,
    /// Messages that were finished since some time in the past: a counter, which only grows. One that is lower than the last was
    /// counted anew, and says nothing of the time between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<u64>,
    /// What was finished up to a while ago, where metrics tell it that come late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tally: Option<Tally>,
}

/// Messages that were finished in a time that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// How many.
    pub messages: u64,
    /// From when on. It stays the same over many looks, so that two tallies can be compared.
    pub since: Timestamp,
    /// Up to when.
    pub until: Timestamp,
}

/// A number that is neither NaN nor infinite nor negative.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Finite(f64);

impl Finite {
    /// The number as a float.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Finite {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        match value.is_finite() && 0.0 <= value {
            true => Ok(Self(value)),
            false => Err(format!("{value} is not a finite number of at least 0")),
        }
    }
}

impl From<Finite> for f64 {
    fn from(value: Finite) -> Self {
        value.0
    }
}

/// Why there is no number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unreadable {
    /// The remedy it calls for.
    pub kind: ErrorKind,
    /// What was being done, to what, and what stood in the way.
    pub detail: String,
}

/// What a target says of the service. All counts in tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetStatus {
    /// How many were asked for.
    pub desired: u32,
    /// How many run.
    pub running: u32,
    /// How many are being started.
    pub pending: u32,
    /// Whether a new version is being rolled out.
    pub rolling_out: bool,
    /// Whether something is left to be done of an earlier change, such as the end of a task that was told to stop.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
    /// A pause that is asked for at the target itself, such as by a tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// The bounds that the target itself asks for, such as by labels, where the configuration follows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// Another autoscaler that sets the same count, by name. Two of them would undo each other's work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_scaler: Option<String>,
    /// What could not be found out about the service, or is odd about it. Shown, and not decided on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Bounds that a target itself asks for. One that is absent is that of the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The least tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// The most tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}
