//! Checks bounds by time: what the schema cannot say of them.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::deployment::Deployment;
use super::origin::{Problems, Tree};
use crate::core::{Bounds, Edge, LocalTime, ScheduledBounds, Zone};

const TIMEZONE: &str = "give the IANA's name, such as Europe/Berlin or UTC";
const LOCAL: &str = "give hours and minutes, such as 08:00";
const EDGE: &str = "give a local time such as 08:00, a moment such as 2026-11-27T08:00:00Z, or cron's minute (0-59), hour (0-23), day (1-31), \
                    month (1-12 or JAN-DEC) and weekday (0-7 or SUN-SAT), such as 0 8 * * MON-FRI";

/// Times and zones can be read, what begins ends, and no bound leaves the deployment's or crosses the other.
pub(super) fn schedule_fits(tree: &Tree, bounds: Bounds, deployment: &Deployment, problems: &mut Problems) {
    reads::<Zone>(tree, "/bounds_by_time/timezone", TIMEZONE, problems);
    for (bound, other) in [("min", "max"), ("max", "min")] {
        let at = format!("/bounds_by_time/{bound}");
        let times = tree.value.pointer(&at).and_then(Value::as_object);
        // Where both are by the time of day, the most tasks count.
        let is_alone = tree.value["bounds_by_time"][other].as_object().is_none_or(|times| times.is_empty());
        for (time, count) in times.into_iter().flatten() {
            let at = format!("{at}/{time}");
            if let Err(problem) = LocalTime::try_from(time.clone()) {
                problems.add(&tree.origin(&at), format!("is {problem}"), LOCAL);
            }
            bounds_fit(tree, (bound, &at, count), bounds, deployment, problems);
            if is_alone {
                do_not_cross(tree, &at, with(bounds, bound, count), problems);
            }
        }
    }
    let count = tree.value["bounds_schedule"].as_array().map_or(0, Vec::len);
    for number in 0..count {
        item_fits(tree, &format!("/bounds_schedule/{number}"), bounds, deployment, problems);
    }
}

fn item_fits(tree: &Tree, at: &str, bounds: Bounds, deployment: &Deployment, problems: &mut Problems) {
    let before = problems.0.len();
    reads::<Zone>(tree, &format!("{at}/timezone"), TIMEZONE, problems);
    let from = reads::<Edge>(tree, &format!("{at}/from"), EDGE, problems);
    let to = reads::<Edge>(tree, &format!("{at}/to"), EDGE, problems);
    let Some(item) = tree.value.pointer(at) else { return };
    forms_fit(tree, at, (from, to), problems);
    if item["min"].is_null() && item["max"].is_null() {
        problems.add(&tree.origin(at), "sets no bound", "give min or max");
    }
    // What is no window at all is the schema's to report.
    let window = ScheduledBounds::deserialize(item).ok().filter(|window| window.duration_secs != Some(0));
    if let Some(window) = window.filter(|_| before == problems.0.len()) {
        comes_and_goes(tree, at, &window, problems);
    }
    do_not_cross(tree, at, with(with(bounds, "min", &item["min"]), "max", &item["max"]), problems);
    for bound in ["min", "max"] {
        bounds_fit(tree, (bound, &format!("{at}/{bound}"), &item[bound]), bounds, deployment, problems);
    }
}

/// What begins a window and what ends it are of one form, and nothing is given that says nothing in that form.
fn forms_fit(tree: &Tree, at: &str, (from, to): (Option<Edge>, Option<Edge>), problems: &mut Problems) {
    let item = tree.value.pointer(at).unwrap_or(&Value::Null);
    let at_to = tree.origin(&format!("{at}/to"));
    match (!item["to"].is_null(), !item["duration_secs"].is_null()) {
        (true, true) => problems.add(&at_to, "is given beside duration_secs", "give one of the two"),
        (false, false) => problems.add(&tree.origin(at), "never ends", "give to, or duration_secs"),
        (true, false) | (false, true) => {}
    }
    match (&from, &to) {
        (Some(Edge::Once(from)), Some(Edge::Once(to))) if to <= from => {
            problems.add(&at_to, "is not after from", "exchange the two");
        }
        (Some(from), Some(to)) if std::mem::discriminant(from) != std::mem::discriminant(to) => {
            let remedy = "give two local times, two cron expressions or two moments";
            problems.add(&at_to, "is of another form than from", remedy);
        }
        _ => {}
    }
    let remedy = match from {
        Some(Edge::By(_)) => "give them as the weekday of the cron expression",
        Some(Edge::Once(_)) => "remove it: a moment comes once",
        Some(Edge::At(_)) | None => return,
    };
    if item["days"].as_array().is_some_and(|days| !days.is_empty()) {
        problems.add(&tree.origin(&format!("{at}/days")), "is for local times alone", remedy);
    }
}

/// A window begins, ends before it begins again, and lasts as long as its ramps take.
fn comes_and_goes(tree: &Tree, at: &str, window: &ScheduledBounds, problems: &mut Problems) {
    let pairs = || window.examples().zip(window.examples().skip(1));
    let lasts = |(from, to): (Timestamp, Timestamp)| to.duration_since(from).as_secs();
    let ramps = 2 * i64::from(window.ramp_secs);
    let again = window.duration_secs.and_then(|_| pairs().find(|((_, to), (next, _))| next < to));
    // What ends by an expression ends.
    let repeats = window.duration_secs.is_some() || matches!(window.from, Edge::At(_));
    if window.examples().next().is_none() {
        let remedy = "let to come at other times than from";
        return problems.add(&tree.origin(at), "is never in force, since it ends whenever it begins", remedy);
    }
    if let Some(((from, _), (next, _))) = again {
        let problem = format!("is more than the {} s until it begins again", lasts((from, next)));
        problems.add(&tree.origin(&format!("{at}/duration_secs")), problem, "give less");
    } else if repeats && pairs().next().is_some() && pairs().all(|((_, to), (next, _))| next <= to) {
        problems.add(&tree.origin(at), "is always in force", "give min_tasks and max_tasks, or bounds, in its place");
    }
    if 0 < ramps && window.examples().all(|example| lasts(example) < ramps) {
        let longest = window.examples().map(lasts).max().unwrap_or_default();
        let problem = format!("is more than half of the {longest} s that it is in force: its bounds are never reached");
        problems.add(&tree.origin(&format!("{at}/ramp_secs")), problem, format!("give at most {}", longest / 2));
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
    let origin = tree.origin(at);
    deployment.narrow_bounds(with(bounds, bound, count), [&origin, &origin], problems);
}

fn do_not_cross(tree: &Tree, at: &str, Bounds { min, max }: Bounds, problems: &mut Problems) {
    if max < min {
        let problem = format!("has {min} tasks at least and {max} at most");
        problems.add(&tree.origin(at), problem, "keep the least at or below the most, or give both");
    }
}

/// Bounds with one of them replaced, where there is a number for it.
fn with(bounds: Bounds, bound: &str, count: &Value) -> Bounds {
    match (bound, number(count)) {
        ("min", Some(min)) => Bounds { min, ..bounds },
        (_, Some(max)) => Bounds { max, ..bounds },
        (_, None) => bounds,
    }
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
                { "from": "0 8 * * MON-FRI", "to": "0 18 * * MON-FRI", "timezone": "Europe/Berlin", "min": 5, "ramp_secs": 18_000 },
                { "from": "0 8,12 * * *", "duration_secs": 14_399, "min": 5 },
                { "from": "03:00", "to": "02:30", "timezone": "Europe/Berlin", "min": 5 },
                { "from": "18:00", "days": ["fri"], "duration_secs": 208_800, "max": 5 },
                { "from": "00:00", "to": "00:00", "days": ["mon", "tue"], "max": 5 },
                { "from": "2026-11-27T08:00:00Z", "duration_secs": 600, "max": 20, "ramp_secs": 300 },
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

    /// A window of three settings, each of which may be null.
    fn window(from: &str, to: Value, duration_secs: Value) -> Value {
        let mut item = json!({ "from": from, "timezone": "Europe/Berlin", "min": 5 });
        for (name, value) in [("to", to), ("duration_secs", duration_secs)] {
            if !value.is_null() {
                item[name] = value;
            }
        }
        item
    }

    #[test]
    fn a_window_that_cannot_be_meant_is_refused() {
        let none = Value::Null;
        let mut with_days = window("0 8 * * *", json!("0 9 * * *"), none.clone());
        with_days["days"] = json!(["mon"]);
        let mut with_ramp = window("0 8 * * *", json!("0 9 * * *"), none.clone());
        with_ramp["ramp_secs"] = json!(1801);
        let mut by_day_with_ramp = window("08:00", json!("09:00"), none.clone());
        by_day_with_ramp["ramp_secs"] = json!(3600);
        let mut once_with_days = window("2026-11-27T08:00:00Z", none.clone(), json!(60));
        once_with_days["days"] = json!(["fri"]);
        for (item, at, expected) in [
            (window("0 8 * * *", json!("18:00"), none.clone()), ".to", "is of another form than from"),
            (window("08:00", json!("0 18 * * *"), none.clone()), ".to", "is of another form than from"),
            (window("0 8 * * *", json!("0 9 * * *"), json!(60)), ".to", "is given beside duration_secs"),
            (window("0 8 * * *", none.clone(), none.clone()), "", "never ends"),
            (window("0 25 * * *", json!("0 9 * * *"), none.clone()), ".from", "field 2, the hour, cannot be \"25\""),
            (window("0 8 * * *", json!("0 9 31 2 *"), none.clone()), ".to", "which never comes"),
            (window("0 8 * * MON", json!("0 8 * * *"), none.clone()), "", "is never in force"),
            (
                window("0 8,12 * * *", none.clone(), json!(14_401)),
                ".duration_secs",
                "the 14400 s until it begins again",
            ),
            (window("0 8 * * *", none.clone(), json!(86_400)), ".duration_secs", "the 82800 s until it begins again"),
            (window("08:00", none.clone(), json!(86_401)), ".duration_secs", "the 86400 s until it begins again"),
            (window("*/5 * * * *", none.clone(), json!(300)), "", "is always in force"),
            (window("00:00", json!("00:00"), none), "", "is always in force"),
            (with_days, ".days", "is for local times alone"),
            (once_with_days, ".days", "is for local times alone"),
            (with_ramp, ".ramp_secs", "is more than half of the 3600 s that it is in force"),
            (by_day_with_ramp, ".ramp_secs", "is more than half of the 3600 s that it is in force"),
        ] {
            let found = problems(json!({ "bounds_schedule": [item] }));
            let is_said = |problem: &String| {
                problem.starts_with(&format!("config.bounds_schedule[0]{at} (")) && problem.contains(expected)
            };
            assert!(found.len() == 1 && found.iter().all(is_said), "{item}: {found:?} is not {expected}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_with_its_place() {
        let found = problems(json!({
            "bounds_by_time": { "timezone": "Mars/Olympus", "min": { "24:00": 3, "8:00": 11 } },
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
                "config.bounds_by_time.min.8:00",
                "config.bounds_schedule[0].timezone",
                "config.bounds_schedule[0].from",
                "config.bounds_schedule[1].to",
                "config.bounds_schedule[1]",
            ],
            "{found:?}"
        );
    }
}
