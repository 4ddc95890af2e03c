//! Which rule of a policy spoke, with its numbers.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::decision::Direction;

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
    /// The count is outside its band.
    OutsideBand {
        /// The least count.
        from: f64,
        /// The most.
        to: f64,
    },
    /// A formula gave this number.
    Formula {
        /// The number, not yet rounded.
        value: f64,
    },
    /// The load is in the interval of a step.
    Step {
        /// The load less the threshold.
        breach: f64,
        /// The step's adjustment.
        adjustment: i32,
    },
    /// The ratio of load and target is within the tolerance.
    WithinTolerance {
        /// The ratio.
        ratio: f64,
    },
    /// The ratio of load and target is outside the tolerance.
    OutsideTolerance {
        /// The ratio.
        ratio: f64,
    },
    /// More readings are needed before there is a step.
    Counting {
        /// How many there are.
        seen: u32,
        /// How many it needs.
        needs: u32,
    },
    /// The average of the last readings was compared.
    Average {
        /// The average.
        mean: f64,
        /// Of how many.
        of: u32,
    },
    /// The controller answers the load with a correction.
    Correction {
        /// Tasks more, or fewer where it is below 0.
        delta: i32,
    },
    /// Nothing new is decided while other than the desired number of tasks run.
    NotSettled {
        /// How many run.
        running: u32,
    },
    /// An alert asks for a step.
    Alert {
        /// The direction.
        direction: Direction,
        /// How many tasks.
        by: u32,
    },
    /// What arrives and what waits calls for so many tasks.
    Drain {
        /// Messages that arrive in a second, as learned.
        arrivals_per_sec: f64,
        /// The standard deviation of that.
        deviation: f64,
        /// How long a task works on one message, in seconds, as learned.
        service_secs: f64,
        /// From how many finished messages that was learned, where a counter tells them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        learned_from: Option<f64>,
        /// Whether nobody has said it and fewer than 20 messages were counted, so that the promise is kept for too much money, or broken.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_guessed: bool,
        /// What will wait when a task that is asked for now is ready.
        predicted_backlog: f64,
        /// How many tasks that takes, before anything is held.
        needs: u32,
        /// How many would receive something, where more are needed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        most: Option<u32>,
    },
    /// The step that an alert asks for would leave the bounds.
    RefusedOutside {
        /// The refused count.
        refused: u32,
    },
}

impl Because {
    /// Whether it is a step out, which counts from the count before the last scale-out while its tasks are starting.
    pub(in crate::core) fn is_step_out(self) -> bool {
        match self {
            Self::AboveThreshold { .. } => true,
            Self::Step { adjustment, .. } => 0 < adjustment,
            Self::Correction { delta } => 0 < delta,
            Self::Alert { direction, .. } => direction == Direction::Out,
            _ => false,
        }
    }

    /// Says it as the end of a sentence about a load, with the count that it wants.
    pub(in crate::core) fn describe(self, wants: u32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AboveThreshold { threshold } => write!(f, "is above {threshold}, which wants {wants}"),
            Self::BelowThreshold { threshold } => write!(f, "is below {threshold}, which wants {wants}"),
            Self::InsideBand { from, to } => write!(f, "is within {from} to {to}"),
            Self::Formula { value } => write!(f, "is to be {value} by its formula, which wants {wants}"),
            Self::OutsideBand { from, to } => write!(f, "is outside {from} to {to}, which wants {wants}"),
            Self::Step { breach, adjustment } => {
                write!(f, "is {breach} from its threshold, a step of {adjustment}, which wants {wants}")
            }
            Self::WithinTolerance { ratio } => write!(f, "is {ratio} of its target, within the tolerance"),
            Self::OutsideTolerance { ratio } => write!(f, "is {ratio} of its target, which wants {wants}"),
            Self::Counting { seen, needs } => write!(f, "counts as reading {seen} of {needs}"),
            Self::Average { mean, of } => write!(f, "makes an average of {mean} over {of}, which wants {wants}"),
            Self::Correction { delta } => write!(f, "calls for a correction of {delta}, which wants {wants}"),
            Self::NotSettled { running } => write!(f, "waits, since {running} tasks run"),
            Self::Alert { direction, by } => write!(f, "asks for a {direction} by {by}, which wants {wants}"),
            Self::Drain {
                arrivals_per_sec,
                deviation,
                service_secs,
                predicted_backlog,
                needs,
                is_guessed,
                most,
                ..
            } => {
                write!(
                    f,
                    "takes {needs} tasks at {arrivals_per_sec} ± {deviation} arrivals a second, {service_secs} s each{} and \
                 {predicted_backlog} waiting once a new task is ready, ",
                    if is_guessed { " (a guess: give service_secs)" } else { "" }
                )?;
                match most {
                    Some(most) => write!(f, "of which {most} would find work, which wants {wants}"),
                    None => write!(f, "which wants {wants}"),
                }
            }
            Self::RefusedOutside { refused } => {
                write!(f, "asks for {refused}, which is outside the bounds and refused")
            }
        }
    }
}
