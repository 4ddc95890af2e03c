//! The load that a formula makes of several sources. The core decides on it and does not evaluate it: an evaluation takes a
//! thread and may run out of time, and what it gave belongs to what was seen.

use jiff::Timestamp;
use serde_json::Value;

use crate::core::{Combine, Computed, Finite, Observation, Policy, Rules, Unreadable, load_of};
use crate::error::ErrorKind;
use crate::expression;

/// Evaluates the formula of the rules and those of their policies, if they have any, over the loads that were seen.
pub fn evaluate(rules: &Rules, seen: &mut Observation, now: Timestamp) {
    seen.formula = match &rules.combine {
        Combine::Formula(formula) => Some(computed(formula, rules, seen, now)),
        Combine::Max | Combine::Sum | Combine::Mean => None,
    };
    let used = rules.policies.iter().flat_map(Policy::formulas);
    seen.policy_formulas = used.map(|(_, text)| (text.to_owned(), computed(text, rules, seen, now))).collect();
}

fn computed(formula: &str, rules: &Rules, seen: &Observation, now: Timestamp) -> Computed {
    let mut variables = Vec::new();
    for sample in seen.samples.iter().filter(|sample| !rules.is_brake(&sample.source)) {
        match load_of(sample, rules, now) {
            Ok(load) => variables.push((sample.source.as_str(), Value::from(load * rules.weight(&sample.source)))),
            // A formula may say itself what stands for what is absent; that a source cannot be read is not for it to say.
            Err(why) => return Computed::Unreadable(why),
        }
    }
    let number = match expression::evaluate(formula, &variables) {
        // A backlog less what is always there may be less than nothing.
        Ok(number) if number < 0.0 => 0.0,
        Ok(number) => number,
        Err(error) => return Computed::Unreadable(Unreadable { kind: error.kind(), detail: error.to_string() }),
    };
    match Finite::try_from(number) {
        Ok(number) => Computed::Value(number),
        Err(detail) => Computed::Unreadable(Unreadable { kind: ErrorKind::Malformed, detail }),
    }
}
