//! What policies remember from tick to tick, as part of the state: bounded, and written only where it changes.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Estimate;

/// What one policy remembers of one load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// `streak`: readings in a row.
    Run(Run),
    /// `streak` of an average: the readings.
    Loads(Loads),
    /// `pid`: where the load comes from.
    Course(Course),
    /// `alert_step`: alerts that were answered.
    Alerts(Vec<Answered>),
    /// `drain_time`: what it has learned.
    Estimate(Estimate),
}

/// Readings in a row that are high or low.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Which.
    pub level: Level,
    /// How many, counted up to what a step needs.
    pub seen: u32,
    /// When one was counted last, so that the same tick again counts nothing.
    pub last: Timestamp,
}

/// Where a reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Above the upper limit.
    High,
    /// Below the lower limit.
    Low,
}

/// The most recent readings, the newest last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Loads {
    /// The loads, at most 60: finite, at least 0.
    pub loads: Vec<f64>,
    /// When they changed last.
    pub last: Timestamp,
}

/// Where a controlled load comes from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Course {
    /// The last load.
    pub load: f64,
    /// By how much it grew in each of the last ticks, at most 60, the newest last.
    pub velocities: Vec<f64>,
    /// In how many ticks it was seen, counted up to what the derivative needs.
    pub ticks: u32,
    /// Whether the target was ever reached or crossed.
    pub has_crossed: bool,
    /// The distances from the target, added up.
    #[serde(default)]
    pub sum: f64,
    /// When anything of this changed last.
    pub last: Timestamp,
}

/// An alert that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// The alert.
    pub alert: String,
    /// When.
    pub at: Timestamp,
}

impl Memory {
    /// Whether it holds readings that count anew after each change of the desired count.
    pub(in crate::core) fn ends_with_a_change(&self) -> bool {
        matches!(self, Self::Run(_) | Self::Loads(_))
    }

    /// Whether it is a run of low readings, which a reading that failed breaks.
    pub(in crate::core) fn is_low_run(&self) -> bool {
        matches!(self, Self::Run(Run { level: Level::Low, .. }))
    }

    pub(in crate::core) fn times(&mut self) -> Vec<&mut Timestamp> {
        match self {
            Self::Run(run) => vec![&mut run.last],
            Self::Loads(loads) => vec![&mut loads.last],
            Self::Course(course) => vec![&mut course.last],
            Self::Estimate(estimate) => vec![&mut estimate.last],
            Self::Alerts(answered) => answered.iter_mut().map(|it| &mut it.at).collect(),
        }
    }
}
