//! Checks the rules of one service: policies, bounds, and what they say to each other.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::NamedSource;
use super::deployment::Deployment;
use super::origin::{Layer, Origin, Problems, Tree};
use super::schedule::schedule_fits;
use super::schema::{self, did_you_mean, validate};
use crate::core::{Bounds, Combine, Fallback, POLICIES, Policy, Rules, Threshold, VARIABLES};
use crate::expression;

const HOW_TO_WRITE: &str = "write it in the Expr language, such as orders + 2 * refunds";

/// Reads the rules of a service.
pub(super) fn rules(tree: &Tree, deployment: &Deployment, problems: &mut Problems) -> Option<Rules> {
    let before = problems.0.len();
    policies(tree, problems);
    let bounds = bounds(tree, deployment, problems);
    schedule_fits(tree, bounds, deployment, problems);
    fallback_has_its_count(tree, problems);
    sleeps_no_higher_than_it_wakes(tree, problems);
    policies_can_be_combined(tree, problems);
    forecast_has_a_demand(tree, problems);
    let mut document = tree.value.clone();
    document.as_object_mut()?.retain(|key, _| !matches!(key.as_str(), "name" | "target" | "sources"));
    with_defaults_of_drain_time(document.as_object_mut()?);
    match Rules::deserialize(&document) {
        Ok(rules) => Some(Rules { bounds, ..rules }),
        // What the schema reported is reported; what it let through must not pass in silence.
        Err(error) => {
            if before == problems.0.len() {
                problems.add(
                    &tree.would_be(""),
                    format!("cannot be read: {error}"),
                    "compare it with `tidegate schema`",
                );
            }
            None
        }
    }
}

/// Where `drain_time` alone decides, it does not wait for cooldowns, since it counts tasks that are on their way and holds
/// what it wanted by itself, and a scale-in may go as far as it lets it. What the configuration says goes before.
fn with_defaults_of_drain_time(rules: &mut Map<String, Value>) {
    let is_drain_time = |policy: &Value| policy["type"] == "drain_time";
    let policies = rules.get("policies").and_then(Value::as_array);
    if !policies.is_some_and(|policies| !policies.is_empty() && policies.iter().all(is_drain_time)) {
        return;
    }
    if !rules.contains_key("scale_out_cooldown_secs") {
        rules.entry("priority_override").or_insert_with(|| "always".into());
    }
    rules.entry("scale_in_cooldown_secs").or_insert_with(|| 0.into());
    rules.entry("min_remaining_fraction").or_insert_with(|| 0.5.into());
}

/// Writes 5.0 as 5: JSON Schema and most writers of JSON take them for the same number.
pub(super) fn with_whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(whole) = number.as_f64().filter(|it| it.fract() == 0.0 && (0.0..9e15).contains(it)) {
                *value = Value::from(whole as u64);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(with_whole_numbers),
        Value::Object(object) => object.values_mut().for_each(with_whole_numbers),
        _ => {}
    }
}

fn policies(tree: &Tree, problems: &mut Problems) {
    let count = tree.value["policies"].as_array().map_or(0, Vec::len);
    for number in 0..count {
        let pointer = format!("/policies/{number}");
        let at_type = format!("{pointer}/type");
        let Some(asked) = tree.value.pointer(&at_type).and_then(Value::as_str) else { continue };
        match schema::policy(asked) {
            Some(schema) => {
                validate(tree, &pointer, &schema, problems);
                match asked {
                    "threshold" => thresholds_in_order(tree, &pointer, problems),
                    _ => settings_fit(tree, &pointer, problems),
                }
            }
            None => problems.add(
                &tree.origin(&at_type),
                format!("is {asked:?}, which is not known"),
                did_you_mean(asked, POLICIES),
            ),
        }
    }
}

/// What the schema cannot say, as the policy itself says it where it can be read at all.
fn settings_fit(tree: &Tree, pointer: &str, problems: &mut Problems) {
    let Some(Ok(policy)) = tree.value.pointer(pointer).map(Policy::deserialize) else { return };
    for found in policy.problems() {
        problems.add(&tree.origin(&format!("{pointer}{}", found.pointer)), found.problem, found.remedy);
    }
}

fn thresholds_in_order(tree: &Tree, pointer: &str, problems: &mut Problems) {
    let default = Threshold::default();
    let read = |key: &str, default: f64| {
        let at = format!("{pointer}/{key}");
        (tree.value.pointer(&at).and_then(Value::as_f64).unwrap_or(default), tree.origin(&at))
    };
    let (low, low_at) = read("scale_in_threshold", default.scale_in_threshold);
    let (high, high_at) = read("scale_out_threshold", default.scale_out_threshold);
    if low <= high {
        return;
    }
    let (at, problem) = match low_at.layer {
        Layer::Default => (&high_at, format!("is {high}, below the scale-in threshold {low} (default)")),
        _ => (&low_at, format!("is {low}, above the scale-out threshold {high} ({high_at})")),
    };
    problems.add(at, problem, "keep the scale-in threshold at or below the scale-out threshold");
}

fn fallback_has_its_count(tree: &Tree, problems: &mut Problems) {
    let Some(Ok(fallback)) = tree.value.get("fallback").map(Fallback::deserialize) else { return };
    if fallback.behavior.needs_count() && fallback.count.is_none() {
        let problem = format!("is {:?}, which needs a count", fallback.behavior.name());
        problems.add(&tree.origin("/fallback/behavior"), problem, "give fallback.count (FALLBACK_COUNT)");
    }
}

fn sleeps_no_higher_than_it_wakes(tree: &Tree, problems: &mut Problems) {
    let limit = |key: &str| tree.value["scale_to_zero"][key].as_f64().unwrap_or(0.0);
    let (sleep_at, wake_above) = (limit("sleep_at"), limit("wake_above"));
    if wake_above < sleep_at {
        let problem = format!("is {sleep_at}, above the load that wakes the service, {wake_above}");
        problems.add(&tree.origin("/scale_to_zero/sleep_at"), problem, "keep sleep_at at or below wake_above");
    }
}

/// Most policies want the count that is there where nothing is to change: a sum would add it to itself at each tick, and a mean go on
/// towards what another one wants. What an alert wants counts in one tick: as the least, it would hold the others back in that tick alone.
fn policies_can_be_combined(tree: &Tree, problems: &mut Problems) {
    let policies = tree.value["policies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_count = |policy: &Value| policy["type"] == "expression";
    let is_alert = |policy: &Value| policy["type"] == "alert_step";
    let (problem, remedy) = match tree.value["combine_policies"].as_str() {
        Some("sum" | "mean") if !policies.iter().all(is_count) => (
            "adds up policies that want what is there already",
            "have policies of the type expression alone, use max or min, or combine the loads of several sources (combine)",
        ),
        Some("min") if policies.iter().any(is_alert) => {
            ("is the least of what an alert and others want, and an alert counts in one tick alone", "use max")
        }
        _ => return,
    };
    problems.add(&tree.origin("/combine_policies"), problem, remedy);
}

/// What most policies want goes by the count that is there, so that a forecast of it would expect what it asked for itself.
fn forecast_has_a_demand(tree: &Tree, problems: &mut Problems) {
    let policies = tree.value["policies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_of = |name: &'static str| move |policy: &Value| policy["type"] == name;
    let says_demand = policies.iter().any(is_of("drain_time")) || policies.iter().all(is_of("target"));
    if !tree.value["forecast"].is_null() && !says_demand {
        let remedy = "use the policy drain_time, or target alone, or remove forecast";
        problems.add(&tree.origin("/forecast"), "has no policy that says what is asked for", remedy);
    }
}

/// Weights are those of the service's sources.
pub(super) fn weights_are_of_sources(tree: &Tree, rules: &Rules, sources: &[NamedSource], problems: &mut Problems) {
    let names: Vec<_> = sources.iter().map(|source| source.name.as_str()).collect();
    for name in rules.weights.keys().filter(|name| !names.contains(&name.as_str())) {
        let at = tree.origin(&format!("/weights/{name}"));
        problems.add(&at, "is the weight of none of the service's sources", did_you_mean(name, &names));
    }
}

/// Formulas can be read, and their variables are the service's sources.
pub(super) fn formulas_fit(tree: &Tree, rules: &Rules, sources: &[NamedSource], problems: &mut Problems) {
    let names: Vec<_> =
        sources.iter().map(|source| source.name.as_str()).filter(|name| !rules.is_brake(name)).collect();
    for (pointer, formula, known) in formulas(rules) {
        formula_fits(&tree.origin(&pointer), formula, &names, known, problems);
    }
}

/// Formulas can be read, where the names of the sources are not known.
pub(super) fn formulas_can_be_read(tree: &Tree, rules: &Rules, problems: &mut Problems) {
    for (pointer, formula, _) in formulas(rules) {
        if let Err(problem) = expression::check(formula) {
            problems.add(&tree.origin(&pointer), problem, HOW_TO_WRITE);
        }
    }
}

/// All formulas, each with where it is and the names that it may use beside the sources'.
fn formulas(rules: &Rules) -> impl Iterator<Item = (String, &str, &'static [&'static str])> {
    let combined = match &rules.combine {
        Combine::Formula(formula) => Some(("/combine/formula".to_owned(), formula.as_str(), [].as_slice())),
        Combine::Max | Combine::Min | Combine::Sum | Combine::Mean => None,
    };
    let of_policies = rules.policies.iter().enumerate().flat_map(|(number, policy)| {
        let at = move |setting| format!("/policies/{number}/{setting}");
        policy.formulas().map(move |(setting, formula)| (at(setting), formula, VARIABLES))
    });
    combined.into_iter().chain(of_policies)
}

/// Whether a formula can be read, and has no other variables than the sources' names and those that are `known` beside them.
fn formula_fits(at: &Origin, formula: &str, names: &[&str], known: &[&str], problems: &mut Problems) {
    if let Err(problem) = expression::check(formula) {
        return problems.add(at, problem, HOW_TO_WRITE);
    }
    for name in names.iter().filter(|name| !is_variable(name)) {
        let problem = format!("cannot have {name:?} as a variable");
        problems.add(at, problem, "give the source a name of letters, digits and _ that begins with a letter");
    }
    for name in names.iter().filter(|name| known.contains(name)) {
        let problem = format!("cannot have {name:?} as the name of a source, since it has a meaning of its own");
        problems.add(at, problem, "give the source another name");
    }
    let names = [names, known].concat();
    for unknown in expression::unknown_names(formula, &names) {
        let problem = format!("has {unknown} in it, which is none of the sources");
        problems.add(at, problem, did_you_mean(unknown, &names));
    }
}

fn is_variable(name: &str) -> bool {
    let of_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(of_word) && name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
}

fn bounds(tree: &Tree, deployment: &Deployment, problems: &mut Problems) -> Bounds {
    let read = |key: &str, default: u32| {
        let at = format!("/bounds/{key}");
        let count = tree.value.pointer(&at).and_then(Value::as_u64).and_then(|count| u32::try_from(count).ok());
        (count.unwrap_or(default), tree.origin(&at))
    };
    let default = Bounds::default();
    let ((min, min_at), (max, max_at)) = (read("min", default.min), read("max", default.max));
    if max < min {
        let (at, problem) = match min_at.layer {
            Layer::Default => (&max_at, format!("is {max}, below the least number of tasks, {min} (default)")),
            _ => (&min_at, format!("is {min}, above the most tasks, {max} ({max_at})")),
        };
        problems.add(at, problem, "keep the least number of tasks at or below the most");
    }
    deployment.narrow_bounds(Bounds { min, max }, [&min_at, &max_at], problems)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn completed(rules: &Value) -> Value {
        let mut document = rules.clone();
        with_defaults_of_drain_time(document.as_object_mut().expect("an object"));
        document
    }

    #[test]
    fn drain_time_alone_does_not_wait_for_cooldowns_unless_they_are_given() {
        let promise = json!({ "type": "drain_time", "target_wait_secs": 30 });
        let rules = completed(&json!({ "policies": [promise] }));
        assert_eq!(rules["priority_override"], "always");
        assert_eq!((&rules["scale_in_cooldown_secs"], &rules["min_remaining_fraction"]), (&json!(0), &json!(0.5)));
        let given = json!({
            "policies": [promise], "scale_out_cooldown_secs": 60, "scale_in_cooldown_secs": 90, "min_remaining_fraction": 0.9,
        });
        assert_eq!(completed(&given), given);
        for policies in [json!([]), json!([promise, { "type": "threshold" }]), json!([{ "type": "threshold" }])] {
            let others = json!({ "policies": policies });
            assert_eq!(completed(&others), others);
        }
    }

    #[test]
    fn what_the_schema_finds_and_what_the_policy_finds_is_said_at_once() {
        let policy = json!({ "type": "step", "adjustment_type": "change_in_capacity", "min_adjustment_magnitude": 0 });
        let refused = crate::config::load_rules(&json!({ "policies": [policy] }), "file").expect_err("it is refused");
        let problems = crate::error::Error::from(refused).to_string();
        assert!(problems.contains("policies[0].min_adjustment_magnitude (file) is 0"), "{problems}");
        assert!(problems.contains("policies[0] (file) has no steps"), "{problems}");
    }

    #[test]
    fn an_unknown_name_is_found_where_only_load_would_reach_it() {
        let mut problems = Problems::default();
        let at = Origin::new(&Layer::Event, "desired");
        formula_fits(&at, "orders > 100 ? refnds : current", &["orders", "refunds"], VARIABLES, &mut problems);
        let texts: Vec<_> = problems.0.iter().map(ToString::to_string).collect();
        assert!(texts.len() == 1 && texts[0].contains("refnds") && texts[0].contains("refunds?"), "{texts:?}");
    }

    #[test]
    fn a_forecast_needs_a_policy_that_says_what_is_asked_for() {
        let (drain, target) =
            (json!({ "type": "drain_time", "target_wait_secs": 30 }), json!({ "type": "target", "target": 5 }));
        let load =
            |policies: Value| crate::config::load_rules(&json!({ "policies": policies, "forecast": {} }), "file");
        for policies in [json!([drain]), json!([target, target]), json!([{ "type": "threshold" }, drain])] {
            assert!(load(policies.clone()).is_ok(), "{policies}");
        }
        for policies in [json!([{ "type": "threshold" }]), json!([target, { "type": "step" }])] {
            let problems = crate::error::Error::from(load(policies).expect_err("it is refused")).to_string();
            assert!(problems.contains("forecast (file) has no policy that says what is asked for"), "{problems}");
            assert!(problems.contains("use the policy drain_time, or target alone, or remove forecast"), "{problems}");
        }
    }
}
