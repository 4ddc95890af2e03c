//! The count itself as a formula, over the loads and what is known of the service.
//!
//! Formulas are evaluated where what was seen is put together (`src/formula.rs`), and their numbers are part of it. A part of a task is
//! a task: the number is rounded up. One below 0 is 0; what is no finite number proposes nothing and lets no task go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Because, Proposal};

/// The names that a policy's formula may use beside those of the sources.
pub const VARIABLES: &[&str] = &["current", "running", "min", "max", "now"];

/// The count as a formula.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expression {
    /// The wanted count in tasks, in the Expr language (<https://expr-lang.org/docs/language-definition>), rounded up. Variables are the
    /// sources' names, `current` and `running` (tasks), `min` and `max` (the bounds) and `now` (seconds since 1970, UTC):
    /// `orders / 20 + (refunds ?? 0)`. A source that cannot be read is `nil`, which `??` may replace; no task is removed then all the same.
    #[schemars(length(min = 1, max = 1024))]
    pub desired: String,
}

impl Expression {
    /// Returns the wanted count, where the formula has a value.
    pub(in crate::core) fn propose(&self, value: impl Fn(&str) -> Option<f64>) -> Option<Proposal> {
        let value = value(&self.desired)?;
        // A cast saturates.
        Some(Proposal { wants: value.ceil() as u32, because: Because::Formula { value } })
    }
}
