//! Windows, rates and tolerance as in Kubernetes' HPA, and waiting until a change has settled.

use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate::core::{
    Amount, Answer, Bounds, Change, Decision, Direction, Finite, Observation, Past, RatePolicy, RateType, Reading,
    Reason, Rules, Sample, ScalingBehavior, ScalingRules, SelectPolicy, State, decide,
};
use tidegate::error::ErrorKind;

use crate::support::{noon, noon_plus, seen, unreadable};

fn vectors(name: &str) -> Vec<Value> {
    let text = include_str!("vectors/hpa.json");
    let mut vectors: Value = serde_json::from_str(text).expect("the vectors are JSON");
    serde_json::from_value(vectors[name].take()).expect("a list")
}

/// Rules that want as many tasks as the load says, and leave all limits to `behavior`.
fn following(behavior: &Value, min: u32, max: u32) -> Rules {
    let rules = json!({
        "policies": [{ "type": "target", "target": 1, "scale_out_tolerance": 0, "scale_in_tolerance": 0 }],
        "scale_out_cooldown_secs": 0, "scale_in_cooldown_secs": 0, "priority_override": "always",
        "min_remaining_fraction": 0.0, "confirm_zero": { "readings": 1, "secs": 0 }, "breaker": { "stuck_secs": 0 },
        "behavior": behavior,
    });
    Rules { bounds: Bounds { min, max }, ..serde_json::from_value(rules).expect("they are rules") }
}

fn wanting(current: u32, wanted: u32, now: Timestamp) -> Observation {
    let value = Finite::try_from(f64::from(wanted)).expect("it is finite");
    let answer = Answer::Reading(Reading { taken_at: now, amount: Amount::Gauge { value } });
    seen(current, vec![Sample { source: "queue".to_owned(), answer }])
}

fn number(value: &Value) -> u32 {
    u32::deserialize(value).expect("a count")
}

fn old() -> State {
    State::new(noon_plus(-1e6))
}

/// One tick after another, each carried out and confirmed: the count after each, and the last state.
fn course(rules: &Rules, mut current: u32, ticks: &[(f64, u32)]) -> (Vec<u32>, State) {
    let (mut state, mut counts) = (old(), Vec::new());
    for &(at, wanted) in ticks {
        let now = noon_plus(at);
        let (decision, next) = decide(rules, &wanting(current, wanted, now), &Past::Known(state), now);
        state = next;
        state.confirm();
        current = decision.desired;
        counts.push(current);
    }
    (counts, state)
}

#[test]
fn hpa_rates_are_equal_to_the_number() {
    let rows = vectors("rates");
    for row in &rows {
        let rules = following(&row["behavior"], number(&row["bounds"]["min"]), number(&row["bounds"]["max"]));
        let changes = row["changes"].as_array().into_iter().flatten().map(|change| {
            let at = noon_plus(-change[0].as_f64().expect("an age"));
            let by = change[1].as_i64().expect("tasks");
            let tasks = u32::try_from(by.unsigned_abs()).expect("few");
            let (added, removed) = if 0 < by { (tasks, 0) } else { (0, tasks) };
            Change { first: at, last: at, added, removed }
        });
        let state = State { changes: Some(changes.collect()), ..old() };
        let seen = wanting(number(&row["current"]), number(&row["wanted"]), noon());
        let (decision, _) = decide(&rules, &seen, &Past::Known(state), noon());
        assert_eq!(decision.desired, number(&row["desired"]), "{row}: {decision:?}");
    }
    assert_eq!(rows.len(), 45);
}

#[test]
fn hpa_windows_are_equal_to_the_number() {
    let rows = vectors("windows");
    for row in &rows {
        let window = |name: &str| json!({ "stabilization_window_secs": row[name] });
        let behavior = json!({ "scale_out": window("scale_out"), "scale_in": window("scale_in") });
        let rules = following(&behavior, 1, 1000);
        let mut state = old();
        for earlier in row["recommendations"].as_array().expect("a list") {
            let (now, count) = (noon_plus(-earlier[0].as_f64().expect("an age")), number(&earlier[1]));
            state = decide(&rules, &wanting(count, count, now), &Past::Known(state), now).1;
            state.count = None;
        }
        let seen = wanting(number(&row["current"]), number(&row["wanted"]), noon());
        let (decision, _) = decide(&rules, &seen, &Past::Known(state), noon());
        assert_eq!(decision.desired, number(&row["desired"]), "{row}: {decision:?}");
    }
    assert_eq!(rows.len(), 12);
}

#[test]
fn a_first_look_with_a_window_removes_nothing_until_the_window_is_over() {
    let rules = following(&json!({ "scale_in": { "stabilization_window_secs": 300 } }), 1, 100);
    let ticks: Vec<_> = (0..24).map(|tick| (f64::from(tick) * 15.0, 5)).collect();
    let (counts, _) = course(&rules, 20, &ticks);
    assert_eq!(counts.iter().position(|&count| count == 5), Some(20), "{counts:?}");
}

#[test]
fn a_count_that_stays_wanted_is_not_written_again() {
    let behavior = json!({
        "scale_in": { "stabilization_window_secs": 300, "policies": [{ "type": "percent", "value": 50, "period_secs": 60 }] },
        "scale_out": { "stabilization_window_secs": 60 },
    });
    let rules = following(&behavior, 1, 100);
    let (_, mut state) = course(&rules, 20, &[(0.0, 20), (15.0, 20)]);
    for tick in 2..1000 {
        let now = noon_plus(f64::from(tick) * 15.0);
        let (_, next) = decide(&rules, &wanting(20, 20, now), &Past::Known(state.clone()), now);
        assert_eq!(next, state, "tick {tick} wrote");
    }
    // What was not written again is remembered all the same.
    let now = noon_plus(15_000.0);
    let (_, next) = decide(&rules, &wanting(20, 4, now), &Past::Known(state), now);
    state = next;
    for (secs, desired) in [(15_285.0, 20), (15_300.0, 10)] {
        let now = noon_plus(secs);
        let (decision, _) = decide(&rules, &wanting(20, 4, now), &Past::Known(state.clone()), now);
        assert_eq!(decision.desired, desired, "{decision:?}");
    }
}

#[test]
fn a_tick_that_could_not_be_read_wants_nothing() {
    let windows = json!({
        "scale_in": { "stabilization_window_secs": 300 }, "scale_out": { "stabilization_window_secs": 300 },
    });
    let rules = following(&windows, 1, 100);
    let (_, before) = course(&rules, 20, &[(0.0, 20), (15.0, 20)]);
    let mut state = before;
    // One source alone, which says 5; all may want 40.
    let mut gap = |secs: f64, wanted: Option<u32>| {
        let now = noon_plus(secs);
        let mut seen = wanting(20, wanted.unwrap_or(0), now);
        if wanted.is_none() {
            seen.samples.clear();
        }
        seen.samples.push(unreadable("other", ErrorKind::Timeout));
        let (decision, next) = decide(&rules, &seen, &Past::Known(state.clone()), now);
        assert_eq!(decision.desired, 20, "{decision:?}");
        state = next;
        state.wanted.clone()
    };
    let ended = gap(30.0, Some(5));
    assert_eq!((ended.most.len(), ended.least.len()), (1, 1), "{ended:?}");
    assert_eq!(gap(45.0, None), ended, "nothing more is written");
    assert_eq!(gap(60.0, Some(5)), ended);
    // After the gap: what was wanted before it is older than the window, and holds nothing back.
    for wanted in [5, 40] {
        let now = noon_plus(331.0);
        let (decision, _) = decide(&rules, &wanting(20, wanted, now), &Past::Known(state.clone()), now);
        assert_eq!(decision.desired, wanted, "{decision:?}");
    }
}

#[test]
fn a_change_that_was_announced_and_not_made_uses_up_no_rate() {
    let behavior = json!({ "scale_out": { "policies": [{ "type": "tasks", "value": 4, "period_secs": 600 }] } });
    let rules = following(&behavior, 1, 100);
    let (first, announced) = decide(&rules, &wanting(10, 50, noon()), &Past::Known(old()), noon());
    assert_eq!(first.desired, 14);
    let mut made = announced.clone();
    made.confirm();
    let later = noon_plus(60.0);
    for (name, current, state, desired) in [
        ("crashed before it was made", 10, announced.clone(), 14),
        ("failed", 10, announced.clone().without_the_change(10), 14),
        ("made, and found made", 14, announced, 14),
        ("made", 14, made, 14),
    ] {
        let (decision, next) = decide(&rules, &wanting(current, 50, later), &Past::Known(state), later);
        assert_eq!(decision.desired, desired, "{name}: {decision:?}");
        let is_counted = next.changes.is_some_and(|changes| !changes.is_empty());
        assert_eq!(is_counted, current == 14, "{name}");
    }
}

#[test]
fn changes_that_are_remembered_as_one_allow_no_more_than_each_by_itself() {
    let behavior = json!({ "scale_out": { "policies": [{ "type": "tasks", "value": 10, "period_secs": 1800 }] } });
    let rules = following(&behavior, 1, 100);
    // The first two are half a minute apart at most; the third has them made one.
    let ticks = [(0.0, 15), (20.0, 25), (60.0, 26)];
    let (counts, state) = course(&rules, 20, &ticks);
    assert_eq!((counts.as_slice(), state.changes.as_ref().map_or(0, Vec::len)), ([15, 25, 26].as_slice(), 2));
    // Half an hour after the first of them, the second is still of the period: 11 tasks were added in it.
    let now = noon_plus(1810.0);
    let (decision, _) = decide(&rules, &wanting(26, 100, now), &Past::Known(state), now);
    assert_eq!(decision.desired, 26, "{decision:?}");
}

#[test]
fn the_bounds_wait_for_no_window_and_no_rate() {
    let calm = json!({
        "stabilization_window_secs": 3600, "select": "disabled", "tolerance": 1.0,
        "policies": [{ "type": "tasks", "value": 1, "period_secs": 1800 }],
    });
    let rules = following(&json!({ "scale_out": calm, "scale_in": calm }), 20, 40);
    for (current, wanted, desired) in [(10, 10, 20), (10, 100, 20), (60, 60, 40), (60, 0, 40)] {
        let seen = wanting(current, wanted, noon());
        let (decision, _) = decide(&rules, &seen, &Past::Known(old()), noon());
        assert_eq!(decision.desired, desired, "{decision:?}");
    }
}

#[test]
fn a_service_without_tasks_is_woken_whatever_the_percentage() {
    let percent = json!({ "policies": [{ "type": "percent", "value": 100, "period_secs": 60 }] });
    let rules = following(&json!({ "scale_out": percent }), 0, 100);
    let (counts, _) = course(&rules, 0, &[(0.0, 50), (30.0, 50), (60.0, 50), (120.0, 50)]);
    assert_eq!(counts, [1, 1, 2, 4]);
    let never = following(&json!({ "scale_out": { "select": "disabled" } }), 0, 100);
    assert_eq!(course(&never, 0, &[(0.0, 50)]).0, [0], "switched off is switched off");
}

#[test]
fn a_tolerance_is_of_the_desired_count_and_inclusive() {
    let tolerance = json!({ "scale_out": { "tolerance": 0.1 }, "scale_in": { "tolerance": 0.2 } });
    let rules = following(&tolerance, 0, 200);
    for (wanted, desired) in [(110, 100), (111, 111), (80, 100), (79, 79)] {
        let (decision, _) = decide(&rules, &wanting(100, wanted, noon()), &Past::Known(old()), noon());
        assert_eq!(decision.desired, desired, "{decision:?}");
    }
    assert_eq!(course(&rules, 0, &[(0.0, 1)]).0, [1], "any task is more than none");
}

fn settling(running: u32, at: f64, state: &State) -> (Decision, State) {
    let rules = Rules { wait_until_settled: true, ..following(&json!({}), 0, 100) };
    let now = noon_plus(at);
    let mut seen = wanting(20, 40, now);
    seen.status.running = running;
    decide(&rules, &seen, &Past::Known(state.clone()), now)
}

#[test]
fn nothing_is_decided_until_as_many_tasks_run_as_are_asked_for() {
    let (decision, waits) = settling(19, 0.0, &old());
    assert_eq!(decision.desired, 20, "{decision:?}");
    assert!(decision.reasons.contains(&Reason::NotSettled { wanted: 40, running: 19, remaining_secs: 600 }));
    let (decision, settled) = settling(20, 15.0, &waits);
    assert_eq!((decision.desired, settled.unsettled), (40, None), "{decision:?}");
    assert_eq!(settling(21, 0.0, &old()).0.desired, 20, "tasks that are still stopping are waited for as well");
}

#[test]
fn a_task_that_never_starts_does_not_hold_the_service_for_ever() {
    let (_, mut state) = settling(19, 0.0, &old());
    let begun = state.clone();
    for at in [15.0, 300.0, 600.0] {
        let (decision, next) = settling(19, at, &state);
        assert_eq!(decision.desired, 20, "{decision:?}");
        assert_eq!(next, begun, "waiting is written once");
        state = next;
    }
    let (decision, next) = settling(19, 601.0, &state);
    assert_eq!(decision.desired, 40, "{decision:?}");
    assert!(decision.reasons.contains(&Reason::SettlingTimedOut { running: 19, for_secs: 601 }), "{decision:?}");
    // The next change waits as long again.
    let failed = next.without_the_change(20);
    assert_eq!(settling(19, 1201.0, &failed).0.desired, 20);
    assert_eq!(settling(19, 1202.0, &failed).0.desired, 40);
}

prop_compose! {
    fn any_rate()(is_tasks in any::<bool>(), value in 1..150_u32, period_secs in 1..400_u64) -> RatePolicy {
        let of = if is_tasks { RateType::Tasks } else { RateType::Percent };
        RatePolicy { of, value, period_secs }
    }
}

prop_compose! {
    fn any_scaling_rules()(
        stabilization_window_secs in prop_oneof![Just(0), 1..400_u64],
        policies in vec(any_rate(), 0..4),
        select in prop_oneof![
            4 => Just(SelectPolicy::Max), 4 => Just(SelectPolicy::Min), 1 => Just(SelectPolicy::Disabled),
        ],
        tolerance in prop_oneof![Just(0.0), 0.0..=1.0_f64],
    ) -> ScalingRules {
        ScalingRules { stabilization_window_secs, policies, select, tolerance }
    }
}

pub fn any_behavior() -> impl Strategy<Value = ScalingBehavior> {
    (any_scaling_rules(), any_scaling_rules()).prop_map(|(scale_out, scale_in)| ScalingBehavior { scale_out, scale_in })
}

/// What becomes of a change that was announced.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Made,
    MadeAndNotConfirmed,
    NeverMade,
    Failed,
}

prop_compose! {
    fn any_tick()(
        later in 1..120_u32,
        wanted in 0..200_u32,
        is_read in prop::bool::weighted(0.9),
        fate in prop_oneof![
            6 => Just(Fate::Made), 1 => Just(Fate::MadeAndNotConfirmed), 1 => Just(Fate::NeverMade), 1 => Just(Fate::Failed),
        ],
    ) -> (u32, u32, bool, Fate) {
        (later, wanted, is_read, fate)
    }
}

/// The count of a course at a time: the last that was set by then.
fn count_at(course: &[(f64, u32)], at: f64) -> u32 {
    course.iter().take_while(|(when, _)| *when <= at).last().unwrap_or(&course[0]).1
}

/// What the rates of a direction allow, by the documentation's words.
fn allowed(rules: &ScalingRules, direction: Direction, course: &[(f64, u32)], now: f64) -> Option<u32> {
    let limits = rules.policies.iter().map(|rate| {
        let start = f64::from(count_at(course, now - rate.period_secs as f64));
        let value = f64::from(rate.value);
        let limit = match (rate.of, direction) {
            (RateType::Tasks, Direction::Out) => start + value,
            (RateType::Tasks, Direction::In) => start - value,
            (RateType::Percent, Direction::Out) => (start * (1.0 + value / 100.0)).ceil(),
            (RateType::Percent, Direction::In) => (start * (1.0 - value / 100.0)).trunc(),
        };
        limit.max(0.0) as u32
    });
    match (direction, rules.select) {
        (Direction::Out, SelectPolicy::Max) | (Direction::In, SelectPolicy::Min) => limits.max(),
        _ => limits.min(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_period_has_more_changes_than_its_rates_allow(
        behavior in any_behavior(),
        first in 0..200_u32,
        ticks in vec(any_tick(), 1..60),
    ) {
        let rules = Rules { behavior, ..following(&json!({}), 0, 150) };
        let (mut state, mut current, mut now) = (old(), first.min(150), 0.0);
        let mut course = vec![(-1e9, current)];
        for (later, wanted, is_read, fate) in ticks {
            now += f64::from(later);
            let at = noon_plus(now);
            let mut seen = wanting(current, wanted, at);
            if !is_read {
                seen.samples = vec![unreadable("queue", ErrorKind::Timeout)];
            }
            let (decision, next) = decide(&rules, &seen, &Past::Known(state), at);
            let written = serde_json::to_string(&next).expect("it can be written");
            state = serde_json::from_str(&written).expect("it can be read");
            prop_assert_eq!(&state, &next, "a restart forgets something");
            if let Some(direction) = decision.direction() {
                let in_direction = rules.behavior.of(direction);
                prop_assert!(in_direction.select != SelectPolicy::Disabled, "{decision:?}");
                prop_assert!(is_read, "{decision:?}");
                let limit = allowed(in_direction, direction, &course, now);
                let is_allowed = match direction {
                    Direction::Out => limit.is_none_or(|limit| decision.desired <= limit.max(u32::from(current == 0))),
                    Direction::In => limit.is_none_or(|limit| limit <= decision.desired),
                };
                prop_assert!(is_allowed, "{limit:?} of {course:?} at {now}: {decision:?}");
            }
            let is_made = matches!(fate, Fate::Made | Fate::MadeAndNotConfirmed);
            match fate {
                Fate::Made => state.confirm(),
                Fate::Failed => state = state.without_the_change(current),
                Fate::MadeAndNotConfirmed | Fate::NeverMade => {}
            }
            if is_made && decision.desired != current {
                current = decision.desired;
                course.push((now, current));
            }
        }
    }

    #[test]
    fn a_window_holds_as_long_as_hpas_and_no_longer_than_one_tick_more(
        window_secs in 1..600_u64,
        first in 1..100_u32,
        ticks in vec((1..60_u32, 1..6_u32, prop::bool::weighted(0.9)), 1..60),
    ) {
        let window = json!({ "stabilization_window_secs": window_secs });
        let rules = following(&json!({ "scale_in": window, "scale_out": window }), 1, 100);
        let (mut state, mut current, mut now) = (old(), first, 0.0);
        // What was wanted, from when, and until when at the latest.
        let mut all: Vec<(f64, f64, u32)> = Vec::new();
        for (later, tens, is_read) in ticks {
            now += f64::from(later);
            let (at, wanted) = (noon_plus(now), tens * 10);
            all.last_mut().into_iter().filter(|it| it.1 == f64::INFINITY).for_each(|it| it.1 = now);
            let mut seen = wanting(current, wanted, at);
            if all.is_empty() {
                all.push((now, now, current));
            }
            match is_read {
                true => all.push((now, f64::INFINITY, wanted)),
                false => seen.samples = vec![unreadable("queue", ErrorKind::Timeout)],
            }
            let (decision, next) = decide(&rules, &seen, &Past::Known(state), at);
            let part = (window_secs as f64 / 61.0).ceil();
            let within = |age: f64, slack: f64| age < window_secs as f64 + slack;
            let sampled = all.iter().filter(|it| within(now - it.0, 0.0)).map(|it| it.2);
            let lasting = all.iter().filter(|it| within(now - it.1.min(now), part)).map(|it| it.2);
            let stabilized = |counts: Vec<u32>| {
                let (least, most) = (counts.iter().min().copied(), counts.iter().max().copied());
                if is_read { current.max(least.unwrap_or(current)).min(most.unwrap_or(current)) } else { current }
            };
            let (soonest, latest) = (stabilized(sampled.collect()), stabilized(lasting.collect()));
            let (low, high) = (soonest.min(latest), soonest.max(latest));
            prop_assert!((low..=high).contains(&decision.desired), "{low} to {high}: {decision:?} after {all:?}");
            prop_assert!(current.abs_diff(decision.desired) <= current.abs_diff(soonest), "sooner than HPA: {decision:?}");
            state = next;
            state.confirm();
            current = decision.desired;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_remembered_is_bounded_however_often_ticks_come(
        (window_secs, period_secs) in (1..=3600_u64, 1..=1800_u64),
        step_ms in 1..60_000_u32,
        rises in any::<bool>(),
    ) {
        let calm = json!({
            "stabilization_window_secs": window_secs,
            "policies": [{ "type": "tasks", "value": 1_000_000, "period_secs": period_secs }],
        });
        let rules = following(&json!({ "scale_in": calm, "scale_out": calm }), 0, 1000);
        let mut state = old();
        for tick in 0..300_u32 {
            let now = noon_plus(f64::from(tick) * f64::from(step_ms) / 1000.0);
            let wanted = if rises { 100 + tick } else { 900 - tick };
            let (_, mut next) = decide(&rules, &wanting(wanted, wanted, now), &Past::Known(state), now);
            next.count = None;
            next.pending = Some(tidegate::core::Intent { at: now, from: wanted, to: wanted + 1 });
            next.confirm();
            let (decision, tidied) = decide(&rules, &wanting(1001, wanted, now), &Past::Known(next), now);
            prop_assert!(decision.desired <= 1000);
            let changes = tidied.changes.as_ref().map_or(0, Vec::len);
            prop_assert!(tidied.wanted.most.len() <= 64 && tidied.wanted.least.len() <= 64 && changes <= 64);
            state = tidied.without_the_change(wanted);
            state.count = None;
        }
    }
}
