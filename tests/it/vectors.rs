//! Equal to StepScale's `fast-autoscaler` 0.2.0, number for number.

use serde::Deserialize;
use serde_json::{Value, json};
use tidegate::core::{Action, Direction, Past, Reason, State, Threshold, decide};

use crate::support::{noon, noon_plus, rested, rules, rules_with, seen, waiting};

#[derive(Debug, Deserialize)]
struct Row {
    current: u32,
    messages: u64,
    min: u32,
    max: u32,
    up: f64,
    down: f64,
    tasks_per_message: f64,
    max_scale_down_factor: f64,
    bounded: u32,
    direction: String,
}

fn group<T: for<'de> Deserialize<'de>>(name: &str) -> Vec<T> {
    let text = include_str!("vectors/stepscale.json");
    let mut vectors: Value = serde_json::from_str(text).expect("the vectors are JSON");
    serde_json::from_value(vectors[name]["rows"].take()).expect("the rows have this form")
}

#[test]
fn stepscale_target_is_equal_to_the_number() {
    let rows: Vec<Row> = group("stepscale_target");
    let mut equal = 0;
    for row in &rows {
        if row.max < row.min || row.up < row.down {
            continue;
        }
        let threshold = Threshold {
            scale_out_threshold: row.up,
            scale_in_threshold: row.down,
            tasks_per_message: row.tasks_per_message,
        };
        let mut rules = rules_with(row.min, row.max, threshold);
        rules.min_remaining_fraction = row.max_scale_down_factor;
        let seen = seen(row.current, vec![waiting("queue", row.messages)]);
        let (decision, _) = decide(&rules, &seen, &rested(), noon());
        let direction = match decision.direction() {
            Some(Direction::Out) => "up",
            Some(Direction::In) => "down",
            None => "none",
        };
        assert_eq!(
            (decision.desired, direction),
            (row.bounded, row.direction.as_str()),
            "{row:?}: {:?}",
            decision.reasons
        );
        equal += 1;
    }
    assert_eq!((rows.len(), equal), (28, 25), "every row but the three that contradict themselves was compared");
}

#[test]
fn stepscale_rows_that_contradict_themselves_are_refused() {
    let rows: Vec<Row> = group("stepscale_target");
    let contradictory: Vec<_> = rows.iter().filter(|row| row.max < row.min || row.up < row.down).collect();
    assert_eq!(contradictory.len(), 3);
    for row in contradictory {
        let config = json!({
            "min_tasks": row.min, "max_tasks": row.max, "scale_up_threshold": row.up, "scale_down_threshold": row.down,
        });
        let problems = tidegate::config::load_rules(&config, "vectors").expect_err("the row contradicts itself");
        assert_eq!(problems.0.len(), 1, "{problems:?}");
    }
}

#[derive(Debug, Deserialize)]
struct CooldownRow {
    action: String,
    elapsed: f64,
    cooldown: u64,
    current: u32,
    allowed: bool,
}

#[test]
fn stepscale_cooldown_is_strict_to_the_millisecond() {
    let rows: Vec<CooldownRow> = group("stepscale_cooldown");
    assert_eq!(rows.len(), 4);
    for row in rows {
        assert_eq!(row.action, "down");
        let mut rules = rules(1, 300);
        rules.scale_in_cooldown_secs = row.cooldown;
        rules.min_remaining_fraction = 0.5;
        let mut state = State::new(noon_plus(-86_400.0));
        let at = noon_plus(-row.elapsed);
        state.last_in = Some(Action { at, from: row.current + 1, to: row.current, base: row.current + 1, tick: None });
        let seen = seen(row.current, vec![waiting("queue", 0)]);
        let (decision, _) = decide(&rules, &seen, &Past::Known(state), noon());
        let waits = decision.reasons.iter().any(|reason| matches!(reason, Reason::InCooldown { .. }));
        assert_eq!((decision.desired < row.current, !waits), (row.allowed, row.allowed), "{row:?}: {decision:?}");
    }
}
