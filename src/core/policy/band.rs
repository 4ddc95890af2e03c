//! A least and a most count, each a formula over the loads: fly-autoscaler's rule for started machines.
//!
//! Source: <https://github.com/superfly/fly-autoscaler>. The formulas are evaluated where what was seen is put together, and
//! their numbers are part of it. They are rounded half away from zero, below 0 they are 0, and one that is no finite number
//! changes nothing, all as there. What differs: where the least is above the most, the least counts, so that the count does not
//! move to and fro.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Because, Problem, Proposal, problem};

/// A least and a most count, each a formula over the loads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// The least tasks, as a formula in the Expr language over the sources' names, such as `ceil(orders / 20)`. With `max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    pub min: Option<String>,
    /// The most tasks, as a formula. With `min`; a count between the two stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    pub max: Option<String>,
    /// The count itself, as a formula, in place of `min` and `max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    pub count: Option<String>,
}

impl Band {
    /// The formulas, by the setting that each is.
    pub fn formulas(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [("min", &self.min), ("max", &self.max), ("count", &self.count)];
        all.into_iter().filter_map(|(name, formula)| Some((name, formula.as_deref()?)))
    }

    /// Returns the wanted count, where the formulas have values.
    pub(in crate::core) fn propose(&self, current: u32, value: impl Fn(&str) -> Option<f64>) -> Option<Proposal> {
        let count = |formula: &Option<String>| {
            let formula = formula.as_ref().or(self.count.as_ref())?;
            // A cast truncates and saturates what is rounded.
            Some(value(formula)?.round() as u32)
        };
        let (min, max) = (count(&self.min)?, count(&self.max)?);
        let max = max.max(min);
        let wants = current.max(min).min(max);
        let (from, to) = (f64::from(min), f64::from(max));
        let because = match wants == current {
            true => Because::InsideBand { from, to },
            false => Because::OutsideBand { from, to },
        };
        Some(Proposal { wants, because })
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        match (&self.min, &self.max, &self.count) {
            (Some(_), Some(_), None) | (None, None, Some(_)) => Vec::new(),
            _ => vec![problem("", "does not say in one way which counts it allows", "give min and max, or count")],
        }
    }
}
