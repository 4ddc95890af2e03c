//! The load that a formula makes of several sources, and the numbers of policies' formulas. The core decides on it and does not evaluate it: an evaluation takes a
//! thread and may run out of time, and what it gave belongs to what was seen.

use jiff::Timestamp;
use serde_json::Value;

use crate::core::{Combine, Computed, Finite, Observation, Policy, Rules, Sample, Unreadable, VARIABLES, load_of};
use crate::error::ErrorKind;
use crate::expression;

/// Evaluates the formula of the rules and those of their policies, if they have any, over the loads that were seen.
pub fn evaluate(rules: &Rules, seen: &mut Observation, now: Timestamp) {
    seen.formula = match &rules.combine {
        Combine::Formula(formula) => Some(computed(formula, rules, seen, now)),
        Combine::Max | Combine::Min | Combine::Sum | Combine::Mean => None,
    };
    let used = rules.policies.iter().flat_map(Policy::formulas);
    seen.policy_formulas = used.map(|(_, text)| (text.to_owned(), of_policy(text, rules, seen, now))).collect();
}

/// The one load. A formula may say itself what stands for what is absent; that a source cannot be read is not for it to say.
fn computed(formula: &str, rules: &Rules, seen: &Observation, now: Timestamp) -> Computed {
    let (variables, unread) = loads(rules, seen, now);
    match unread {
        Some(why) => Computed::Unreadable(why),
        None => value(formula, &variables).unwrap_or_else(Computed::Unreadable),
    }
}

/// A policy's number, over more than the loads. What cannot be read is nothing, which the formula may do without: tasks are
/// removed only where all was read.
fn of_policy(formula: &str, rules: &Rules, seen: &Observation, now: Timestamp) -> Computed {
    let (mut variables, unread) = loads(rules, seen, now);
    let (status, bounds) = (&seen.status, rules.bounds_at(now));
    let known = [
        f64::from(status.desired),
        f64::from(status.running),
        f64::from(bounds.min),
        f64::from(bounds.max),
        now.as_second() as f64,
    ];
    variables.extend(VARIABLES.iter().copied().zip(known.map(Value::from)));
    value(formula, &variables).unwrap_or_else(|why| Computed::Unreadable(unread.unwrap_or(why)))
}

/// The loads by their sources' names, and why one of them could not be read.
fn loads<'a>(rules: &Rules, seen: &'a Observation, now: Timestamp) -> (Vec<(&'a str, Value)>, Option<Unreadable>) {
    let mut unread = None;
    let samples = seen.samples.iter().filter(|sample| !rules.is_brake(&sample.source));
    let load = |sample: &'a Sample| match load_of(sample, rules, now) {
        Ok(load) => (sample.source.as_str(), Value::from(load * rules.weight(&sample.source))),
        Err(why) => {
            unread.get_or_insert(why);
            (sample.source.as_str(), Value::Null)
        }
    };
    (samples.map(load).collect(), unread)
}

fn value(formula: &str, variables: &[(&str, Value)]) -> Result<Computed, Unreadable> {
    let number = match expression::evaluate(formula, variables) {
        // A backlog less what is always there may be less than nothing.
        Ok(number) => number.max(0.0),
        Err(error) => return Err(Unreadable { kind: error.kind(), detail: error.to_string() }),
    };
    let finite = Finite::try_from(number);
    finite.map(Computed::Value).map_err(|detail| Unreadable { kind: ErrorKind::Malformed, detail })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bounds_in_a_formula_are_those_of_the_time() {
        let rules = json!({
            "policies": [{ "type": "expression", "desired": "min" }], "bounds": { "min": 1, "max": 20 },
            "bounds_schedule": [{ "from": "08:00", "to": "09:00", "min": 5 }],
        });
        let rules: Rules = serde_json::from_value(rules).expect("they are rules");
        let seen =
            json!({ "samples": [], "status": { "desired": 1, "running": 1, "pending": 0, "rolling_out": false } });
        let mut seen: Observation = serde_json::from_value(seen).expect("it is an observation");
        let mut least_at = |time: &str| {
            evaluate(&rules, &mut seen, time.parse().expect("it is a time"));
            match seen.policy_formulas.get("min") {
                Some(Computed::Value(value)) => value.get(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([least_at("2026-11-22T07:00:00Z"), least_at("2026-11-22T08:30:00Z")], [1.0, 5.0]);
    }
}
