//! Policies that users know from elsewhere are equal to the number: the vectors of the systems they come from.

use jiff::Timestamp;
use serde_json::{Value, json};
use tidegate::cli::play;
use tidegate::core::budget::{Claim, Wants, microscaling};
use tidegate::core::{
    Action, Alert, Amount, Answer, Answered, Because, Bounds, Brake, Combine, ConfirmZero, Decision, Direction, Finite,
    Held, Memory, Past, Pause, Policy, Reading, Reason, Rules, Sample, Situation, State, decide,
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

/// A tick a so many seconds after noon, with this alert if any, and the state after it.
fn alert_at(current: u32, state: &State, secs: f64, direction: Option<Direction>) -> (Decision, State) {
    let rules = rules_of(json!({ "type": "alert_step" }), 1, 100);
    let mut seen = seen(current, vec![waiting("queue", 5)]);
    seen.alert = direction.map(|direction| Alert { id: "it".to_owned(), direction, by: Some(3) });
    decide_at(&rules, &seen, &Past::Known(state.clone()), noon_plus(secs))
}

#[test]
fn an_alert_whose_change_was_never_made_is_not_answered() {
    let long_ago = State::new(noon_plus(-86_400.0));
    for (direction, wanted) in [(Direction::Out, 13), (Direction::In, 7)] {
        let alert = Some(direction);
        let (first, announced) = alert_at(10, &long_ago, 0.0, alert);
        assert_eq!((first.desired, announced.policies.len()), (wanted, 1));
        // Nobody set it, and when the cooldown is over the alert still fires.
        let (_, dropped) = alert_at(10, &announced, 121.0, None);
        assert!(dropped.policies.is_empty(), "{dropped:?}");
        for state in [&dropped, &announced] {
            assert_eq!(alert_at(10, state, 200.0, alert).0.desired, wanted, "{direction:?}");
        }
        // The target refused it.
        let refused = announced.clone().with_the_change_refused(10);
        assert!(refused.policies.is_empty(), "{refused:?}");
        assert_eq!(alert_at(10, &refused, 200.0, alert).0.desired, wanted, "{direction:?}");
        // A rehearsal goes on as if it had been made.
        assert_eq!(announced.clone().without_the_change(10).policies, announced.policies);
    }
}

#[test]
fn an_alert_that_is_held_by_a_cooldown_is_not_answered() {
    // Nobody set what it asked for, and while the cooldown of the announced scale-in runs it fires again.
    let (_, announced) = alert_at(10, &State::new(noon_plus(-86_400.0)), 0.0, Some(Direction::In));
    let (held, state) = alert_at(10, &announced, 60.0, Some(Direction::In));
    assert_eq!((held.desired, state.policies.len()), (10, 0), "{held:?}");
    assert_eq!(alert_at(10, &state, 200.0, Some(Direction::In)).0.desired, 7);
    // The same after a scale-out of somebody else's.
    let mut after = State::new(noon_plus(-86_400.0));
    after.last_out = Some(Action { at: noon(), from: 5, to: 10, base: 10, tick: None });
    let (held, state) = alert_at(10, &after, 60.0, Some(Direction::Out));
    assert_eq!((held.desired, state.policies.len()), (10, 0), "{held:?}");
    assert_eq!(alert_at(10, &state, 200.0, Some(Direction::Out)).0.desired, 13);
}

#[test]
fn what_makes_an_announced_change_after_all_answers_its_alert() {
    let policies = json!([{ "type": "alert_step" }, { "type": "threshold", "scale_out_threshold": 100 }]);
    let policies = policies.as_array().expect("a list").iter().cloned().map(policy).collect();
    let rules = Rules { policies, min_remaining_fraction: 0.0, ..rules(1, 13) };
    let tick = |current: u32, state: &State, secs: f64, load: u64, is_alerted: bool| {
        let mut seen = seen(current, vec![waiting("queue", load)]);
        seen.alert = is_alerted.then(|| Alert { id: "it".to_owned(), direction: Direction::Out, by: Some(3) });
        decide_at(&rules, &seen, &Past::Known(state.clone()), noon_plus(secs))
    };
    let (_, announced) = tick(10, &State::new(noon_plus(-86_400.0)), 0.0, 99, true);
    // A crash; then the load alone asks for as much, and for more than is announced.
    let (again, state) = tick(10, &announced, 30.0, 5_000, false);
    assert_eq!(again.desired, 13, "{again:?}");
    let mut made = state.clone();
    made.confirm();
    let (answered, _) = tick(13, &made, 600.0, 99, true);
    assert!(answered.reasons.contains(&Reason::AlertAnswered { alert: "it".to_owned() }), "{answered:?}");
    // That was not made, either.
    let (_, dropped) = tick(10, &state, 600.0, 99, false);
    assert!(dropped.policies.is_empty(), "{dropped:?}");
}

#[test]
fn a_change_for_another_reason_does_not_answer_an_alert_anew() {
    let policies = [json!({ "type": "alert_step" }), json!({ "type": "threshold" })].map(policy).to_vec();
    let rules = Rules { policies, min_remaining_fraction: 0.0, ..rules(1, 100) };
    let mut seen = seen(10, vec![waiting("queue", 5_000)]);
    seen.alert = Some(Alert { id: "it".to_owned(), direction: Direction::Out, by: Some(3) });
    let mut state = State::new(noon_plus(-86_400.0));
    let answered = vec![Answered { alert: "it".to_owned(), at: noon_plus(-3_600.0) }];
    state.policies.insert("0/alert".to_owned(), Memory::Alerts(answered));
    let (decision, after) = decide(&rules, &seen, &Past::Known(state.clone()), noon());
    assert_eq!((decision.desired, after.policies), (60, state.policies));
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
    for settings in [
        json!({ "type": "streak", "high": 1000, "low": 400, "samples_in": 3 }),
        json!({ "type": "streak", "high": 1000, "low": 400, "average_of": 3 }),
    ] {
        let rules = rules_of(settings, 1, 10);
        let loads = [Some(9.0), Some(9.0), None, Some(9.0), Some(9.0), Some(9.0)];
        assert_eq!(counts(&rules, loads.map(|load| vec![load])), [5, 5, 5, 5, 5, 4], "{rules:?}");
    }
}

/// The desired counts of ticks with these loads of sources, of which none are readings that failed.
fn counts<const TICKS: usize>(rules: &Rules, ticks: [Vec<Option<f64>>; TICKS]) -> [u32; TICKS] {
    let (mut past, mut tick) = (rested(), 0.0);
    ticks.map(|loads| {
        let sample = |(source, load): (usize, Option<f64>)| {
            let broken = crate::support::unreadable("queue", tidegate::error::ErrorKind::Timeout);
            Sample { source: format!("queue-{source}"), ..load.map_or(broken, gauge) }
        };
        let seen = seen(5, loads.into_iter().enumerate().map(sample).collect());
        let (decision, state) = decide_at(rules, &seen, &past, noon_plus(tick));
        past = Past::Known(state);
        tick += 60.0;
        decision.desired
    })
}

#[test]
fn a_sum_without_all_its_parts_is_no_reading_of_the_sum() {
    let streak = json!({ "type": "streak", "high": 1000, "low": 400, "average_of": 2 });
    let rules = Rules { combine: Combine::Sum, ..rules_of(streak, 1, 10) };
    let ticks = [vec![Some(10.0), Some(900.0)], vec![Some(10.0), None], vec![Some(10.0), Some(600.0)]];
    // The first and the last are 760 on average, the last two would be 310.
    assert_eq!(counts(&rules, ticks), [5, 5, 5]);
}

#[test]
fn high_readings_count_where_others_fail() {
    let consecutive = json!({ "type": "streak", "high": 1000, "low": 400, "samples_out": 3 });
    let average = json!({ "type": "streak", "high": 1000, "low": 400, "average_of": 3 });
    for settings in [consecutive, average] {
        // One is down for long: what the other has is enough.
        let rules = Rules { combine: Combine::Sum, ..rules_of(settings.clone(), 1, 10) };
        let half = || vec![Some(2000.0), None];
        assert_eq!(counts(&rules, [half(), half(), half()]), [5, 5, 6], "{settings}");
        // It fails again and again.
        let rules = rules_of(settings.clone(), 1, 10);
        let ticks = [Some(2000.0), None, Some(2000.0), None, Some(2000.0)].map(|load| vec![load]);
        assert_eq!(counts(&rules, ticks), [5, 5, 5, 5, 6], "{settings}");
    }
}

#[test]
fn a_tick_that_is_delivered_again_is_no_further_reading() {
    let tick = |rules: &Rules, past: &Past, minute: f64, late: f64, load: f64| {
        let mut seen = seen(5, vec![gauge(load)]);
        seen.scheduled_for = Some(noon_plus(60.0 * minute));
        decide_at(rules, &seen, past, noon_plus(60.0 * minute + late))
    };
    let low = json!({ "type": "streak", "high": 1000, "low": 400, "samples_in": 3 });
    let average = json!({ "type": "streak", "high": 1000, "low": 400, "average_of": 3 });
    let pid = json!({ "type": "pid", "target_load": 50, "k_i": 0.1, "velocity_samples": 3 });
    for settings in [low, average, pid] {
        let rules = Rules { pause: Some(Pause::Hold(Held::Both)), ..rules_of(settings.clone(), 1, 10) };
        let mut past = rested();
        for minute in [0.0, 1.0] {
            let (_, once) = tick(&rules, &past, minute, 0.0, 100.0 + minute);
            let (_, again) = tick(&rules, &Past::Known(once.clone()), minute, 30.0, 200.0);
            assert_eq!(again.policies, once.policies, "{settings}");
            // An earlier one that comes late.
            let (_, earlier) = tick(&rules, &Past::Known(once.clone()), minute - 1.0, 100.0, 200.0);
            assert_eq!(earlier.policies, once.policies, "{settings}");
            past = Past::Known(once);
        }
        let (_, next) = tick(&rules, &past, 2.0, 0.0, 300.0);
        assert!(past != Past::Known(next), "{settings}: the next one counts");
    }
    // Nor does it confirm a zero.
    let mut rules = rules_of(json!({ "type": "threshold" }), 0, 10);
    rules.confirm_zero = ConfirmZero { readings: 3, secs: 0 };
    let (_, once) = tick(&rules, &rested(), 0.0, 0.0, 0.0);
    let (_, again) = tick(&rules, &Past::Known(once.clone()), 0.0, 30.0, 0.0);
    assert_eq!((once.zeros["queue"].seen, again.zeros), (1, once.zeros));
}

/// Ticks of a controller with an integral at this count of 1 to 10, and what it added up.
fn added_up(current: u32, loads: &[f64]) -> f64 {
    let rules = rules_of(json!({ "type": "pid", "target_load": 100, "k_i": 0.01 }), 1, 10);
    let (_, state) = history(&rules, current, loads).pop().expect("at least one tick");
    match state.policies.values().next() {
        Some(Memory::Course(course)) => course.sum,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_controller_adds_nothing_up_at_a_bound_that_it_pushes_towards() {
    assert_eq!(added_up(5, &[200.0, 200.0, 200.0]), 300.0);
    assert_eq!(added_up(10, &[200.0, 200.0, 200.0]), 0.0);
    assert_eq!(added_up(5, &[20.0, 20.0, 20.0]), -240.0);
    assert_eq!(added_up(1, &[20.0, 20.0, 20.0]), 0.0);
    // Away from the bound it does, and what is left from before is worked off.
    assert_eq!(added_up(10, &[20.0, 20.0]), -160.0);
    assert_eq!(added_up(10, &[20.0, 20.0, 150.0]), -110.0);
    assert_eq!(added_up(10, &[20.0, 500.0, 500.0]), 0.0);
    assert_eq!(added_up(1, &[200.0, 200.0, 20.0]), 120.0);
}

#[test]
fn only_loads_that_are_compared_are_remembered() {
    let streak = || policy(json!({ "type": "streak", "high": 1000, "low": 400 }));
    let alerts = policy(json!({ "type": "alert_step" }));
    let mut rules = Rules { policies: vec![streak(), alerts], ..rules(1, 10) };
    let mut past = rested();
    let mut names = |rules: &Rules, minute: f64| {
        let samples = ["orders", "sum", "dead"].map(|source| Sample { source: source.to_owned(), ..gauge(2000.0) });
        let (_, state) = decide_at(rules, &seen(5, samples.to_vec()), &past, noon_plus(minute * 60.0));
        past = Past::Known(state.clone());
        state.policies.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(&rules, 0.0), ["0/dead", "0/orders", "0/sum"]);
    rules.brakes = vec![Brake { source: "dead".to_owned(), stop_above: None, stop_on_growth: true }];
    assert_eq!(names(&rules, 1.0), ["0/orders", "0/sum"]);
    rules.combine = Combine::Mean;
    assert_eq!(names(&rules, 2.0), ["0/mean"]);
    rules.combine = Combine::Sum;
    assert_eq!(names(&rules, 3.0), ["0/sum"]);
    rules.policies.remove(0);
    assert!(names(&rules, 4.0).is_empty());
}
