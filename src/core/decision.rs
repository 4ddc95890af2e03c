//! What to do, and why.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reason::Reason;

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
