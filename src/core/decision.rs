//! What to do, and why.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::Because;
use crate::error::ErrorKind;

/// What to do and why. The direction is derived, so that it cannot disagree. Counts in tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The desired count as it is.
    pub current: u32,
    /// The desired count as it should be.
    pub desired: u32,
    /// Why, in the order in which the guards spoke. Never empty.
    pub reasons: Vec<Reason>,
}

/// Towards more tasks or fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More tasks.
    Out,
    /// Fewer tasks.
    In,
}

impl Direction {
    /// Returns the direction from one count to another, or nothing if they are equal.
    pub fn between(from: u32, to: u32) -> Option<Self> {
        match from.cmp(&to) {
            std::cmp::Ordering::Less => Some(Self::Out),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(Self::In),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Out => "scale-out",
            Self::In => "scale-in",
        })
    }
}

impl Decision {
    /// The direction of the change, or nothing where nothing changes.
    pub fn direction(&self) -> Option<Direction> {
        Direction::between(self.current, self.desired)
    }
}

/// Why, with the numbers. The codes contain AWS's own
/// [NotScaledReasons](https://docs.aws.amazon.com/autoscaling/application/APIReference/API_NotScaledReason.html)
/// as far as they can occur here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "code")]
pub enum Reason {
    /// A policy proposed a count for one source's load.
    Proposed {
        /// The policy's type.
        policy: String,
        /// The source's name.
        source: String,
        /// The number that was compared.
        load: f64,
        /// Which rule of the policy spoke.
        #[serde(flatten)]
        because: Because,
        /// The proposed count.
        wants: u32,
    },
    /// A step counts from the desired count before the last scale-out, whose tasks may still be starting.
    CooldownCredit {
        /// Where the step counts from.
        base: u32,
    },
    /// A source could not be read, or its reading is too old.
    MetricUnreadable {
        /// The source's name.
        source: String,
        /// The remedy it calls for.
        kind: ErrorKind,
        /// What was being done and what stood in the way.
        detail: String,
    },
    /// A scale-in was refused because not every source could be read.
    ScaleInNeedsAllMetrics {
        /// The refused count.
        wanted: u32,
    },
    /// A scale-in was limited to the fraction that must remain.
    ScaleInLimited {
        /// The count without the limit.
        wanted: u32,
        /// The count with it.
        limited_to: u32,
        /// The fraction that must remain.
        fraction: f64,
    },
    /// A scale-in was refused because a deployment is under way.
    DeploymentInProgress {
        /// The refused count.
        wanted: u32,
    },
    /// A change was refused because the cooldown of its direction still runs.
    InCooldown {
        /// The direction.
        direction: Direction,
        /// The refused count.
        wanted: u32,
        /// How long it still runs, in seconds, rounded up.
        remaining_secs: u64,
    },
    /// A scale-out was large enough not to wait for the cooldown.
    PriorityOverride {
        /// How many tasks it adds.
        added: u32,
    },
    /// The state could not be read, so that neither cooldowns nor unfinished changes are known.
    StateUnavailable {
        /// The remedy it calls for.
        kind: ErrorKind,
        /// What was being done and what stood in the way.
        detail: String,
    },
    /// A change was refused because the state could not be read.
    ChangeNeedsState {
        /// The refused count.
        wanted: u32,
    },
    /// An announced change was found done.
    IntentConfirmed {
        /// The count it set.
        to: u32,
    },
    /// An announced scale-out was found not done, and is done now as far as it is still wanted.
    IntentReplayed {
        /// The count that was announced.
        announced: u32,
        /// The count that is set.
        to: u32,
    },
    /// An announced change was found overtaken: somebody else set another count.
    IntentSuperseded {
        /// The count it would have set.
        to: u32,
        /// The count that was found.
        found: u32,
    },
    /// The state holds a time that lies in the future. Cooldowns run from now instead.
    ClockSkew {
        /// By how much, in seconds.
        ahead_secs: u64,
    },
    /// The count was moved into the bounds, or a proposal was cut to them.
    OutsideBounds {
        /// The count without the bounds.
        wanted: u32,
        /// The nearest count within them.
        bounded_to: u32,
    },
    /// More tasks are wanted than the bounds allow, and as many as they allow are asked for already.
    AlreadyAtMaxCapacity {
        /// The upper bound.
        max: u32,
    },
    /// Fewer tasks are wanted than the bounds allow, and as few as they allow are asked for already.
    AlreadyAtMinCapacity {
        /// The lower bound.
        min: u32,
    },
    /// Nothing to change.
    AlreadyAtDesiredCapacity,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proposed { source, load, because, wants, .. } => match because {
                Because::AboveThreshold { threshold } => {
                    write!(f, "load {load} of {source} is above {threshold}, which wants {wants}")
                }
                Because::BelowThreshold { threshold } => {
                    write!(f, "load {load} of {source} is below {threshold}, which wants {wants}")
                }
                Because::InsideBand { from, to } => write!(f, "load {load} of {source} is within {from} to {to}"),
            },
            Self::CooldownCredit { base } => {
                write!(f, "steps count from {base}, since tasks of the last scale-out may still be starting")
            }
            Self::MetricUnreadable { source, kind, detail } => write!(f, "{source} is unreadable ({kind}): {detail}"),
            Self::ScaleInNeedsAllMetrics { wanted } => {
                write!(f, "no scale-in to {wanted} while a source is unreadable")
            }
            Self::ScaleInLimited { wanted, limited_to, fraction } => {
                write!(f, "scale-in to {wanted} limited to {limited_to}, since {fraction} must remain")
            }
            Self::DeploymentInProgress { wanted } => write!(f, "no scale-in to {wanted} during a deployment"),
            Self::InCooldown { direction, wanted, remaining_secs } => {
                write!(f, "{direction} to {wanted} waits {remaining_secs} s for its cooldown")
            }
            Self::PriorityOverride { added } => write!(f, "{added} more tasks do not wait for the cooldown"),
            Self::StateUnavailable { kind, detail } => write!(f, "state is unreadable ({kind}): {detail}"),
            Self::ChangeNeedsState { wanted } => write!(f, "no change to {wanted} without readable state"),
            Self::IntentConfirmed { to } => write!(f, "the announced change to {to} was made"),
            Self::IntentReplayed { announced, to } => {
                write!(f, "the announced change to {announced} was not made, and {to} are asked for now")
            }
            Self::IntentSuperseded { to, found } => {
                write!(f, "the announced change to {to} was overtaken: the desired count is {found}")
            }
            Self::ClockSkew { ahead_secs } => {
                write!(f, "the state is {ahead_secs} s ahead of the clock; cooldowns run from now")
            }
            Self::OutsideBounds { wanted, bounded_to } => write!(f, "{wanted} is outside the bounds, so {bounded_to}"),
            Self::AlreadyAtMaxCapacity { max } => write!(f, "already at the upper bound of {max}"),
            Self::AlreadyAtMinCapacity { min } => write!(f, "already at the lower bound of {min}"),
            Self::AlreadyAtDesiredCapacity => f.write_str("nothing to change"),
        }
    }
}
