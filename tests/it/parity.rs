//! Policies that users know from elsewhere are equal to the number: the vectors of the systems they come from.

use jiff::Timestamp;
use serde_json::{Value, json};
use tidegate::cli::play;
use tidegate::core::budget::{Claim, Wants, microscaling};
use tidegate::core::{
    Alert, Amount, Answer, Because, Bounds, Decision, Direction, Finite, Held, Past, Pause, Policy, Reading, Reason,
    Rules, Sample, Situation, State, decide,
};

use crate::support::{decide_at, noon, noon_plus, rested, rules, seen, waiting};

fn group(file: &str, name: &str) -> Vec<Value> {
    let vectors: Value = serde_json::from_str(file).expect("the vectors are JSON");
    vectors[name]["rows"].as_array().unwrap_or_else(|| panic!("no group {name}")).clone()
}

fn policy(settings: Value) -> Policy {
    serde_json::from_value(settings).expect("a policy")
}

fn rules_of(settings: Value, min: u32, max: u32) -> Rules {
    Rules { policies: vec![policy(settings)], min_remaining_fraction: 0.0, ..rules(min, max) }
}

fn gauge(value: f64) -> Sample {
    let value = Finite::try_from(value).expect("a finite number");
    let reading = Reading { taken_at: noon(), amount: Amount::Gauge { value } };
    Sample { source: "queue".to_owned(), answer: Answer::Reading(reading) }
}

fn number(row: &Value, key: &str) -> u32 {
    let number = row[key].as_u64().unwrap_or_else(|| panic!("no {key} in {row}"));
    u32::try_from(number).expect("a count")
}

fn proposed(decision: &Decision) -> Option<(Because, u32)> {
    decision.reasons.iter().find_map(|reason| match reason {
        Reason::Proposed { because, wants, .. } => Some((*because, *wants)),
        _ => None,
    })
}

/// Ticks a minute apart, of which only the last may change anything.
fn history(rules: &Rules, current: u32, loads: &[f64]) -> Vec<(Decision, State)> {
    let mut past = rested();
    let mut ticks = Vec::new();
    for (tick, load) in loads.iter().enumerate() {
        let pause = (tick + 1 < loads.len()).then_some(Pause::Hold(Held::Both));
        let rules = Rules { pause, ..rules.clone() };
        let at = noon_plus(60.0 * tick as f64);
        let (decision, state) = decide_at(&rules, &seen(current, vec![gauge(*load)]), &past, at);
        past = Past::Known(state.clone());
        ticks.push((decision, state));
    }
    ticks
}

const MICROSCALING: &str = include_str!("vectors/microscaling.json");

#[test]
fn microscaling_pd_is_equal_to_the_number() {
    let rows = group(MICROSCALING, "microscaling_queue_pd");
    for row in &rows {
        let settings = json!({
            "type": "pid", "target_load": row["length"], "k_p": row["kP"], "k_i": row["kI"], "k_d": row["kD"],
            "velocity_samples": row["samples"],
        });
        let series: Vec<_> = row["series"].as_array().expect("a list").iter().filter_map(Value::as_f64).collect();
        let deltas =
            history(&rules_of(settings, 0, 1000), 100, &series).into_iter().map(|(decision, _)| {
                match proposed(&decision) {
                    Some((Because::Correction { delta }, _)) => delta,
                    other => panic!("{other:?}"),
                }
            });
        assert_eq!(json!(deltas.collect::<Vec<_>>()), row["delta"], "{row}");
    }
    assert_eq!(rows.len(), 3);
}

#[test]
fn microscaling_one_by_one_is_equal_to_the_number() {
    let rows = group(MICROSCALING, "microscaling_simple_queue");
    for row in &rows {
        let rules = rules_of(json!({ "type": "one_by_one", "target_load": row["length"] }), 0, 1000);
        let (decision, _) =
            decide(&rules, &seen(10, vec![gauge(f64::from(number(row, "current")))]), &rested(), noon());
        let (because, wants) = proposed(&decision).expect("a proposal");
        assert_eq!(i64::from(wants) - 10, row["delta"].as_i64().expect("a number"), "{row}");
        match because {
            Because::AboveThreshold { threshold } => assert_eq!(threshold, f64::from(number(row, "length"))),
            Because::BelowThreshold { threshold } | Because::InsideBand { from: threshold, .. } => {
                assert_eq!(threshold, f64::from(number(row, "min_length")), "{row}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rows.len(), 11);
}

#[test]
fn microscaling_scale_counts_are_equal_to_the_number() {
    let rows = group(MICROSCALING, "microscaling_scale_counts");
    for row in &rows {
        let mut claim = Claim {
            weight: 1,
            priority: 1,
            requested: number(row, "requested"),
            running: number(row, "requested"),
            min: row["min"].as_u64().map_or(1, |_| number(row, "min")),
            max: 5,
            max_delta: 2,
            is_scalable: row["scalable"] != false,
            wants: Wants::Remainder,
        };
        // The target is a queue of ten: above it is too much, and at seven there is room to spare.
        let wants = |is_needed: bool| Wants::Tasks(if is_needed { number(row, "ideal") } else { claim.requested });
        let out = match row["fn"].as_str().expect("a name") {
            "up" => {
                claim.wants = wants(10 < number(row, "metric"));
                i64::from(claim.to_add())
            }
            "down" => {
                claim.wants = wants(number(row, "metric") <= 7);
                -i64::from(claim.to_remove())
            }
            _ => i64::from(claim.to_spare()),
        };
        assert_eq!(out, row["out"].as_i64().expect("a number"), "{row}");
    }
    assert_eq!(rows.len(), 8);
}

#[test]
fn microscaling_allocation_is_equal_to_the_number() {
    let rows = group(MICROSCALING, "microscaling_allocation");
    for row in &rows {
        let tasks = row["tasks"].as_array().expect("a list");
        let claims: Vec<_> = tasks.iter().map(claim).collect();
        let allocation = microscaling(number(row, "max_containers"), &claims);
        assert_eq!(allocation.available, row["available"].as_i64().expect("a number"), "{row}");
        for (task, count) in tasks.iter().zip(&allocation.counts) {
            let name = task["name"].as_str().expect("a name");
            assert_eq!(json!(count), row["demand"][name], "{name} of {row}");
        }
        let is_changed = claims.iter().zip(&allocation.counts).any(|(claim, count)| claim.requested != *count);
        assert_eq!(row["changed"], is_changed, "{row}");
    }
    assert_eq!(rows.len(), 7);
}

/// What a service of Microscaling's claims: its rule's number, or the remainder.
fn claim(task: &Value) -> Claim {
    let (current, running) = (number(task, "requested"), number(task, "running"));
    let wants = match task["target"]["simple_queue"].as_u64() {
        None => Wants::Remainder,
        Some(length) => {
            let load = f64::from(number(task, "metric"));
            let situation = Situation { load, current, base: current, running, bounds: Bounds { min: 0, max: 1000 } };
            let one_by_one = policy(json!({ "type": "one_by_one", "target_load": length }));
            let (proposal, _) = one_by_one.propose(situation, None, noon()).expect("it looks at loads");
            Wants::Tasks(proposal.wants)
        }
    };
    Claim {
        weight: 1,
        priority: number(task, "priority"),
        requested: current,
        running,
        min: number(task, "min"),
        max: number(task, "max"),
        max_delta: number(task, "max_delta"),
        is_scalable: task["scalable"] == true,
        wants,
    }
}

#[test]
fn fly_expressions_are_equal_to_the_number() {
    let rows = group(include_str!("vectors/fly_expr.json"), "fly_expr");
    for row in &rows {
        let mut samples: Vec<_> = row["env"].as_object().expect("variables").iter().collect();
        let none = ("other".to_owned(), json!(7));
        if samples.is_empty() {
            samples.push((&none.0, &none.1));
        }
        let samples = samples.into_iter().map(
            |(name, value)| json!({ "source": name, "reading": { "taken_at": "2026-11-22T12:00:00Z", "value": value } }),
        );
        let scenario = json!({
            "config": { "policies": [{ "type": "band", "count": row["expr"] }], "bounds": { "min": 0, "max": 300 } },
            "observation": {
                "samples": Value::from_iter(samples),
                "status": { "desired": 9, "running": 9, "pending": 0, "rolling_out": false },
            },
            "state": { "since": "2026-11-01T00:00:00Z" },
            "now": "2026-11-22T12:00:00Z",
        });
        let answer = play(&scenario, "vector");
        if row["out"].is_null() {
            assert!(answer.is_err(), "an absent formula is left out, not empty");
            continue;
        }
        let decision = answer.expect("it is decided")["decision"].clone();
        match row["out"].is_number() {
            true => assert_eq!(decision["reasons"][0]["wants"], row["out"], "{row}: {decision}"),
            false => {
                assert_eq!(decision["desired"], 9, "{row}");
                assert_eq!(decision["reasons"][0]["code"], "MetricUnreadable", "{row}");
            }
        }
    }
    assert_eq!(rows.len(), 6);
}

const AUTOSCALEBOT: &str = include_str!("vectors/autoscalebot.json");

fn autoscalebot(min: u32) -> Rules {
    rules_of(json!({ "type": "streak", "high": 1000, "low": 400 }), min, 3)
}

#[test]
fn autoscalebot_consecutive_is_equal_to_the_number() {
    let rows = group(AUTOSCALEBOT, "autoscalebot_consecutive");
    for row in &rows {
        let current = number(row, "current");
        let loads: Vec<_> = row["history"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|it| if it == "high" { 2000.0 } else { 100.0 })
            .collect();
        let rules = autoscalebot(row["min"].as_u64().map_or(1, |_| number(row, "min")));
        let ticks = history(&rules, current, &loads);
        let (decision, state) = ticks.last().expect("at least one tick");
        if row.get("out").is_some() {
            assert_eq!(decision.desired, number(row, "out"), "{row}: {decision:?}");
        }
        if let Some(needs_up) = row["needs_up"].as_bool() {
            assert_eq!(current < decision.desired, needs_up, "{row}: {decision:?}");
        }
        if row["notify"] == "below_min" {
            assert!(decision.reasons.contains(&Reason::AlreadyAtMinCapacity { min: 2 }), "{decision:?}");
        }
        let mut done = state.clone();
        done.confirm();
        assert_eq!(state.policies.len(), 1, "a change that is only announced forgets nothing");
        assert!(done.policies.is_empty(), "the readings count anew");
    }
    assert_eq!(rows.len(), 7);
}

#[test]
fn autoscalebot_classify_is_equal() {
    let rows = group(AUTOSCALEBOT, "autoscalebot_classify");
    for row in &rows {
        let ticks = history(&autoscalebot(1), 2, &[f64::from(number(row, "ms"))]);
        let because = proposed(&ticks[0].0).expect("a proposal").0;
        let level = match because {
            Because::Counting { seen: 1, needs: 3 } => "high",
            Because::Counting { seen: 1, needs: 5 } => "low",
            Because::InsideBand { .. } => "right",
            other => panic!("{other:?}"),
        };
        assert_eq!(row["out"], level, "{row}");
    }
    assert_eq!(rows.len(), 2);
}

const SWARM: &str = include_str!("vectors/swarm.json");

fn alerted(rules: &Rules, current: u32, direction: Direction, by: Option<u32>) -> Decision {
    let mut seen = seen(current, vec![waiting("queue", 5)]);
    seen.alert = Some(Alert { id: "it".to_owned(), direction, by });
    decide(rules, &seen, &rested(), noon()).0
}

#[test]
fn swarm_jenkins_job_is_equal() {
    let rows = group(SWARM, "swarm_jenkins_job");
    for row in &rows {
        let (current, scale) = (number(row, "current"), row["scale"].as_i64().expect("a number"));
        let direction = if scale < 0 { Direction::In } else { Direction::Out };
        let by = u32::try_from(scale.unsigned_abs()).expect("a count");
        let rules =
            rules_of(json!({ "type": "alert_step", "refuse_outside": true }), number(row, "min"), number(row, "max"));
        let decision = alerted(&rules, current, direction, Some(by));
        match (row["out"].as_u64(), proposed(&decision)) {
            (Some(out), Some((Because::Alert { .. }, _))) => assert_eq!(u64::from(decision.desired), out, "{row}"),
            (None, Some((Because::RefusedOutside { refused }, wants))) => {
                assert_eq!((i64::from(refused), wants), (i64::from(current) + scale, current), "{row}");
                // A count outside its bounds is pulled into them, whatever an alert says.
                assert_eq!(decision.desired, rules.bounds.clamp(current), "{row}");
            }
            other => panic!("{row}: {other:?}"),
        }
    }
    assert_eq!(rows.len(), 5);
}

#[test]
fn docker_scaler_resolves_to_the_same_number() {
    let rows = group(SWARM, "docker_scaler_resolve");
    for row in &rows {
        let label = |key: &str, label: u32, default: u32| if row[key] == true { default } else { label };
        let settings = json!({
            "type": "alert_step", "by_out": label("no_up_by_label", 2, 3), "by_in": label("no_down_by_label", 1, 3),
        });
        let rules = rules_of(settings, label("no_min_label", 2, 1), label("no_max_label", 6, 10));
        let direction = if row["dir"] == "up" { Direction::Out } else { Direction::In };
        let by = Some(number(row, "by")).filter(|by| *by != 0);
        let decision = alerted(&rules, number(row, "current"), direction, by);
        assert_eq!(decision.desired, number(row, "out"), "{row}: {decision:?}");
        let is_at_bound = decision.reasons.iter().any(|reason| matches!(reason, Reason::AlreadyAtMaxCapacity { .. }));
        assert_eq!(is_at_bound, row["at_bound"] == true, "{row}");
    }
    assert_eq!(rows.len(), 7);
}

#[test]
fn an_alert_that_is_delivered_twice_steps_once() {
    let rules = rules_of(json!({ "type": "alert_step", "repeat_after_secs": 7200 }), 1, 100);
    let alert = Some(Alert { id: "print 2026-11-22T11:00:00Z".to_owned(), direction: Direction::Out, by: Some(3) });
    let tick = |current: u32, past: &State, at: Timestamp| {
        let mut seen = seen(current, vec![waiting("queue", 5)]);
        seen.alert.clone_from(&alert);
        decide_at(&rules, &seen, &Past::Known(past.clone()), at)
    };
    let (first, mut state) = tick(10, &State::new(noon_plus(-86_400.0)), noon());
    assert_eq!(first.desired, 13);
    // The crash: announced, never set, and the event is delivered again.
    assert_eq!(tick(10, &state, noon_plus(30.0)).0.desired, 13);
    state.confirm();
    // Long after the cooldown it still fires.
    let (again, kept) = tick(13, &state, noon_plus(3600.0));
    assert_eq!(again.desired, 13, "{again:?}");
    assert!(matches!(&again.reasons[..], [Reason::AlertAnswered { .. }]), "{again:?}");
    assert_eq!(kept.policies, state.policies);
    assert_eq!(tick(13, &state, noon_plus(7200.0)).0.desired, 16);
}

/// Idle services are not written at every tick: what is remembered of a steady load stays as it is.
#[test]
fn what_is_remembered_of_a_steady_load_is_not_written_again() {
    for settings in [
        json!({ "type": "streak", "high": 1000, "low": 400, "samples_in": 3 }),
        json!({ "type": "streak", "high": 1000, "low": 400, "average_of": 4 }),
        json!({ "type": "pid", "target_load": 50, "velocity_samples": 3 }),
    ] {
        for load in [50.0, 100.0, 2000.0] {
            let rules = Rules { pause: Some(Pause::Hold(Held::Both)), ..rules_of(settings.clone(), 1, 10) };
            let ticks = history(&rules, 5, &[load; 12]);
            let states: Vec<_> = ticks.into_iter().map(|(_, state)| state).collect();
            assert_ne!(states[0], states[1], "{settings}: it counts");
            // The last tick of a history is not paused, and changes the count.
            assert!(states[6..11].iter().all(|state| *state == states[5]), "{settings} at {load}");
        }
    }
}

#[test]
fn a_reading_that_failed_breaks_a_run_of_low_ones() {
    let rules = rules_of(json!({ "type": "streak", "high": 1000, "low": 400, "samples_in": 3 }), 1, 10);
    let mut past = rested();
    let mut desired = Vec::new();
    for (tick, load) in [Some(9.0), Some(9.0), None, Some(9.0), Some(9.0), Some(9.0)].into_iter().enumerate() {
        let broken = crate::support::unreadable("queue", tidegate::error::ErrorKind::Timeout);
        let seen = seen(5, vec![load.map_or(broken, gauge)]);
        let (decision, state) = decide_at(&rules, &seen, &past, noon_plus(60.0 * tick as f64));
        desired.push(decision.desired);
        past = Past::Known(state);
    }
    assert_eq!(desired, [5, 5, 5, 5, 5, 4]);
}
