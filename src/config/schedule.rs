//! Checks bounds by time: what the schema cannot say of them.

use serde::Deserialize;
use serde_json::Value;

use super::deployment::Deployment;
use super::origin::{Problems, Tree};
use crate::core::{Bounds, Edge, LocalTime, Zone};

const TIMEZONE: &str = "give the IANA's name, such as Europe/Berlin or UTC";
const LOCAL: &str = "give hours and minutes, such as 08:00";

/// Times and zones can be read, what begins ends, and no bound leaves the deployment's or crosses the other.
pub(super) fn schedule_fits(tree: &Tree, bounds: Bounds, deployment: &Deployment, problems: &mut Problems) {
    reads::<Zone>(tree, "/bounds_by_time/timezone", TIMEZONE, problems);
    for bound in ["min", "max"] {
        let at = format!("/bounds_by_time/{bound}");
        let times = tree.value.pointer(&at).and_then(Value::as_object);
        for (time, count) in times.into_iter().flatten() {
            let at = format!("{at}/{time}");
            if let Err(problem) = LocalTime::try_from(time.clone()) {
                problems.add(&tree.origin(&at), format!("is at {problem}"), LOCAL);
            }
            bounds_fit(tree, (bound, &at, count), bounds, deployment, problems);
        }
    }
    let count = tree.value["bounds_schedule"].as_array().map_or(0, Vec::len);
    for number in 0..count {
        item_fits(tree, &format!("/bounds_schedule/{number}"), bounds, deployment, problems);
    }
}

fn item_fits(tree: &Tree, at: &str, bounds: Bounds, deployment: &Deployment, problems: &mut Problems) {
    reads::<Zone>(tree, &format!("{at}/timezone"), TIMEZONE, problems);
    let remedy = "give a local time such as 08:00, or a moment such as 2026-11-27T08:00:00Z";
    let from = reads::<Edge>(tree, &format!("{at}/from"), remedy, problems);
    let to = reads::<Edge>(tree, &format!("{at}/to"), remedy, problems);
    let at_to = tree.origin(&format!("{at}/to"));
    match (from, to) {
        (Some(Edge::Once(from)), Some(Edge::Once(to))) if to <= from => {
            problems.add(&at_to, "is not after from", "exchange the two");
        }
        (Some(Edge::Once(_)), Some(Edge::At(_))) | (Some(Edge::At(_)), Some(Edge::Once(_))) => {
            problems.add(&at_to, "is of another form than from", "give two local times, or two moments");
        }
        _ => {}
    }
    let Some(item) = tree.value.pointer(at) else { return };
    if item["min"].is_null() && item["max"].is_null() {
        problems.add(&tree.origin(at), "sets no bound", "give min or max");
    }
    let both =
        Bounds { min: number(&item["min"]).unwrap_or(bounds.min), max: number(&item["max"]).unwrap_or(bounds.max) };
    if both.max < both.min {
        let problem = format!("has {} tasks at least and {} at most", both.min, both.max);
        problems.add(&tree.origin(at), problem, "keep min at or below max, or give both");
    }
    for bound in ["min", "max"] {
        bounds_fit(tree, (bound, &format!("{at}/{bound}"), &item[bound]), bounds, deployment, problems);
    }
}

/// Whatever a bound says at whatever time is within the deployment's hard bounds.
fn bounds_fit(
    tree: &Tree,
    (bound, at, count): (&str, &str, &Value),
    bounds: Bounds,
    deployment: &Deployment,
    problems: &mut Problems,
) {
    let Some(count) = number(count) else { return };
    let asked = if bound == "min" { Bounds { min: count, ..bounds } } else { Bounds { max: count, ..bounds } };
    let origin = tree.origin(at);
    deployment.narrow_bounds(asked, [&origin, &origin], problems);
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|count| u32::try_from(count).ok())
}

/// Reads a text as what it stands for. What is no text is the schema's to report.
fn reads<T: for<'de> Deserialize<'de>>(tree: &Tree, at: &str, remedy: &str, problems: &mut Problems) -> Option<T> {
    let text = tree.value.pointer(at).filter(|value| value.is_string())?;
    T::deserialize(text).map_err(|error| problems.add(&tree.origin(at), format!("is {error}"), remedy)).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::layer::read_scenario;
    use crate::config::origin::{Layer, Origin};

    /// What is wrong with settings of a service of 2 to 10 tasks in a deployment of at most 20.
    fn problems(settings: Value) -> Vec<String> {
        let mut problems = Problems::default();
        let mut layers = read_scenario(&json!({}), "nothing", &mut problems);
        layers.deployment.push(("hard_max_tasks", json!(20), Origin::new(&Layer::Environment, "HARD_MAX_TASKS")));
        let deployment = Deployment::read(&layers, &mut problems);
        let tree = Tree::from(settings, Origin::new(&Layer::Event, "config"));
        schedule_fits(&tree, Bounds { min: 2, max: 10 }, &deployment, &mut problems);
        problems.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_is_wrong_with_bounds_of_a_day_or_of_once_or_by_the_time_of_day() {
        let settings = json!({
            "bounds_by_time": { "timezone": "America/New_York", "min": { "8:00": 3, "20:00": 1 } },
            "bounds_schedule": [
                { "from": "22:00", "to": "06:00", "timezone": "Europe/Berlin", "min": 5 },
                { "from": "2026-11-27T08:00:00Z", "to": "2026-11-27T20:00:00+01:00", "max": 20 },
            ],
        });
        assert_eq!(problems(settings), [""; 0]);
    }

    #[test]
    fn hard_bounds_hold_at_every_time() {
        let hard = "above the hard upper bound 20 (environment HARD_MAX_TASKS)";
        let found = problems(json!({
            "bounds_by_time": { "max": { "08:00": 21 } },
            "bounds_schedule": [{ "from": "08:00", "to": "20:00", "min": 22, "max": 23 }],
        }));
        assert_eq!(found.len(), 3, "{found:?}");
        for (problem, (at, count)) in found.iter().zip([
            ("config.bounds_by_time.max.08:00", 21),
            ("config.bounds_schedule[0].min", 22),
            ("config.bounds_schedule[0].max", 23),
        ]) {
            assert!(problem.starts_with(&format!("{at} (event) is {count}, {hard}; keep")), "{problem}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_with_its_place() {
        let found = problems(json!({
            "bounds_by_time": { "timezone": "Mars/Olympus", "min": { "24:00": 3 } },
            "bounds_schedule": [
                { "from": "8", "to": "20:00", "timezone": "Europe/Atlantis", "min": 5 },
                { "from": "08:00", "to": "2026-11-27T08:00:00Z", "max": 1 },
            ],
        }));
        let places: Vec<_> = found.iter().filter_map(|problem| problem.split(" (").next()).collect();
        assert_eq!(
            places,
            [
                "config.bounds_by_time.timezone",
                "config.bounds_by_time.min.24:00",
                "config.bounds_schedule[0].timezone",
                "config.bounds_schedule[0].from",
                "config.bounds_schedule[1].to",
                "config.bounds_schedule[1]",
            ],
            "{found:?}"
        );
    }
}
