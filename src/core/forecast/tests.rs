use super::*;
use crate::core::{Amount, Answer, Decision, Finite, Observation, Past, Reading, Reason, Rules, Sample, State, decide};

const START: i64 = 1_767_225_600;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(START + secs).expect("a time in 2026")
}

/// A service whose load is the tasks that it needs.
fn rules(forecast: serde_json::Value) -> Rules {
    let target =
        serde_json::json!({ "type": "target", "target": 1, "scale_out_tolerance": 0, "scale_in_tolerance": 0 });
    serde_json::from_value(serde_json::json!({
        "policies": [target], "bounds": { "min": 0, "max": 300 }, "forecast": forecast, "priority_override": "always",
        "scale_in_cooldown_secs": 0, "min_remaining_fraction": 0, "scale_to_zero": { "sleep_at": 0 },
    }))
    .expect("they are rules")
}

fn quarter_hours() -> Rules {
    rules(serde_json::json!({ "periods_mins": [15] }))
}

fn seen(load: Option<f64>, count: u32, now: Timestamp) -> Observation {
    let answer = match load {
        Some(load) => {
            let value = Finite::try_from(load).expect("it is finite");
            Answer::Reading(Reading { taken_at: now, amount: Amount::Gauge { value } })
        }
        None => {
            serde_json::from_value(serde_json::json!({ "unreadable": { "kind": "Timeout", "detail": "no answer" } }))
                .expect("it is an answer")
        }
    };
    let status = serde_json::json!({ "desired": count, "running": count, "pending": 0, "rolling_out": false });
    let mut seen: Observation =
        serde_json::from_value(serde_json::json!({ "samples": [], "status": status })).expect("it is an observation");
    seen.samples.push(Sample { source: "load".to_owned(), answer });
    seen
}

struct Service {
    rules: Rules,
    past: Past,
    count: u32,
}

impl Service {
    fn new(rules: Rules) -> Self {
        Self { rules, past: Past::Absent, count: 0 }
    }

    fn tick(&mut self, load: Option<f64>, now: Timestamp) -> Decision {
        let (decision, mut state) = decide(&self.rules, &seen(load, self.count, now), &self.past, now);
        state.confirm();
        self.count = decision.desired;
        self.past = Past::Known(state);
        decision
    }

    /// Ticks twice a minute, and returns the decisions by their second.
    fn play(&mut self, minutes: std::ops::Range<i64>, load: impl Fn(i64) -> Option<f64>) -> Vec<(i64, Decision)> {
        let secs = (minutes.start * 60..minutes.end * 60).step_by(30);
        secs.map(|secs| (secs, self.tick(load(secs / 60), at(secs)))).collect()
    }

    fn state(&self) -> &State {
        match &self.past {
            Past::Known(state) => state,
            past => panic!("{past:?}"),
        }
    }

    fn history(&self) -> &History {
        self.state().forecast.as_ref().expect("it has a forecast")
    }
}

/// Sixty tasks in the first two minutes of each quarter of an hour, and two in the others.
fn batches(minute: i64) -> Option<f64> {
    Some(if minute % 15 < 2 { 60.0 } else { 2.0 })
}

/// No pattern, but the same in each run.
fn chance(minute: i64) -> Option<f64> {
    let mixed = (minute as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Some(((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 58) as f64)
}

fn raises(decisions: &[(i64, Decision)]) -> usize {
    let is_raise = |reason: &Reason| matches!(reason, Reason::RaisedToForecast { .. });
    decisions.iter().filter(|(_, decision)| decision.reasons.iter().any(is_raise)).count()
}

#[test]
fn the_floor_rises_before_demand_that_comes_back() {
    let mut service = Service::new(quarter_hours());
    let first = service.play(0..26, batches);
    assert_eq!(raises(&first), 0, "nothing is believed before it was scored for most of a period");
    let later = service.play(26..75, batches);
    for (secs, decision) in later.into_iter().skip(4) {
        match secs % 900 {
            // While it is there, and 90 s before it; what comes between two looks counts as half there.
            0..120 | 810..900 => assert_eq!(decision.desired, 60, "{secs}: {decision:?}"),
            750..810 => assert_eq!(decision.desired, 31, "{secs}: {decision:?}"),
            _ => assert_eq!(decision.desired, 2, "{secs}: {decision:?}"),
        }
    }
}

#[test]
fn the_forecast_never_lowers_a_count() {
    for load in [batches, chance] {
        let mut service = Service::new(quarter_hours());
        let without = Rules { forecast: None, ..service.rules.clone() };
        for secs in (0..7200).step_by(30) {
            let (now, load) = (at(secs), load(secs / 60));
            let (plain, _) = decide(&without, &seen(load, service.count, now), &service.past, now);
            let decision = service.tick(load, now);
            assert!(plain.desired <= decision.desired, "{secs}: {decision:?} instead of {plain:?}");
        }
    }
}

#[test]
fn the_floor_is_never_above_the_most_tasks() {
    let mut service = Service::new(quarter_hours());
    service.rules.bounds.max = 40;
    let mut raised = 0;
    for (_, decision) in service.play(0..75, batches) {
        assert!(decision.desired <= 40, "{decision:?}");
        for reason in decision.reasons {
            if let Reason::RaisedToForecast { raised_to, .. } = reason {
                assert!(raised_to <= 40, "{raised_to}");
                raised = raised_to.max(raised);
            }
        }
    }
    assert_eq!(raised, 40);
}

#[test]
fn forecast_only_changes_nothing_and_says_what_it_would() {
    let mut only = Service::new(rules(serde_json::json!({ "mode": "forecast_only", "periods_mins": [15] })));
    let mut without = Service::new(Rules { forecast: None, ..only.rules.clone() });
    let (only, without) = (only.play(0..75, batches), without.play(0..75, batches));
    for ((_, only), (_, without)) in only.iter().zip(&without) {
        assert_eq!(only.desired, without.desired, "{only:?}");
    }
    let would = |reason: &Reason| matches!(reason, Reason::ForecastWouldRaise { wanted: 2, to: 60 });
    assert!(only.iter().any(|(_, decision)| decision.reasons.iter().any(would)));
    assert_eq!(raises(&only), 0);
}

#[test]
fn a_forecast_that_is_worse_than_none_is_switched_off_and_comes_back_when_it_earns_it() {
    let mut service = Service::new(quarter_hours());
    assert!(0 < raises(&service.play(0..75, batches)));
    let noise = service.play(75..150, chance);
    let (soon, later) = noise.split_at(60);
    assert!(0 < raises(soon), "it had been right so far");
    assert_eq!(raises(later), 0, "half an hour of chance later");
    let back = service.play(150..225, batches);
    assert!(0 < raises(&back[90..]));
}

#[test]
fn noise_is_not_believed() {
    let mut service = Service::new(rules(serde_json::json!({})));
    assert_eq!(raises(&service.play(0..1440, chance)), 0);
    assert_eq!(raises(&Service::new(rules(serde_json::json!({}))).play(0..300, |_| Some(7.0))), 0);
}

#[test]
fn one_batch_a_day_is_expected_however_uneven_the_rest_of_the_day_is() {
    let day = |minute: i64| if minute % 1_440 < 10 { Some(200.0) } else { chance(minute / 5).map(|tasks| tasks / 8.0) };
    let mut service = Service::new(rules(serde_json::json!({ "periods_mins": [1440] })));
    assert_eq!(
        raises(&service.play(0..2_580, day)),
        0,
        "nothing is believed before it was scored for most of a period"
    );
    let third = service.play(2_580..3 * 1_440 + 20, day);
    let before = |secs: i64| (3 * 86_400 - 60..3 * 86_400).contains(&secs);
    for (secs, decision) in third.iter().filter(|(secs, _)| before(*secs)) {
        assert_eq!(decision.desired, 200, "{secs}: {decision:?}");
    }
}

#[test]
fn every_record_has_the_forecasts_error_once_it_has_one() {
    let mut service = Service::new(quarter_hours());
    let decisions = service.play(0..75, batches);
    let published = |decision: &Decision| {
        decision.reasons.iter().find_map(|reason| match *reason {
            Reason::Forecast { period_mins: 15, error, persistence_error, trusted, .. } => {
                Some((error, persistence_error, trusted))
            }
            _ => None,
        })
    };
    assert_eq!(published(&decisions[40].1), None);
    assert!(decisions[60..].iter().all(|(_, decision)| published(decision).is_some()));
    let (error, persistence_error, trusted) = published(&decisions[149].1).expect("it was scored");
    assert!(error < 0.1 && 5.0 < persistence_error && trusted, "{error} {persistence_error}");
}

#[test]
fn expected_demand_alone_adds_no_task() {
    let mut service = Service::new(quarter_hours());
    service.play(0..42, batches);
    let count = service.count;
    assert_eq!(count, 2);
    // The next batch is due.
    for (_, decision) in service.play(42..46, |_| None) {
        assert_eq!(decision.desired, count, "{decision:?}");
    }
}

#[test]
fn nothing_is_learned_of_what_was_not_seen() {
    let mut service = Service::new(quarter_hours());
    service.play(0..70, batches);
    let known = service.history().seasons.clone();
    service.play(70..85, |_| None);
    assert_eq!(service.history().seasons, known);
    // The first look after a gap says nothing of the time before.
    service.tick(Some(200.0), at(85 * 60));
    service.tick(Some(2.0), at(500 * 60));
    let (before, after) = (&known[0], &service.history().seasons[0]);
    assert_eq!((&before.tasks, before.scored, before.error), (&after.tasks, after.scored, after.error));
}

#[test]
fn a_clock_that_goes_back_teaches_nothing() {
    let mut service = Service::new(quarter_hours());
    service.play(0..70, batches);
    let known = service.history().seasons[0].tasks.clone();
    service.tick(Some(250.0), at(70 * 60 - 20));
    service.tick(Some(250.0), at(7 * 60));
    service.tick(Some(2.0), at(7 * 60 + 20));
    assert_eq!(service.history().seasons[0].tasks, known);
    assert_eq!(service.history().at, at(7 * 60 + 20));
}

#[test]
fn a_sleeping_service_wakes_before_its_batch() {
    let mut service = Service::new(quarter_hours());
    let daily = |minute| batches(minute).map(|load| if load < 60.0 { 0.0 } else { load });
    service.play(0..42, daily);
    assert_eq!(service.count, 0);
    service.play(42..44, daily);
    assert_eq!(service.count, 60);
}

#[test]
fn demand_that_grows_is_expected_to_grow() {
    let mut service = Service::new(quarter_hours());
    let size = |minute: i64| 60.0 * 1.1_f64.powi((minute / 15) as i32);
    let decisions = service.play(0..150, |minute| batches(minute).map(|load| load / 60.0 * size(minute)));
    let early = decisions.iter().find(|(secs, _)| *secs == 9 * 900 - 60).map(|(_, decision)| decision.desired);
    // Two thirds of what growth adds in the two periods that the profile is behind.
    assert!(early.is_some_and(|early| 120 < early && early < 170), "{early:?} for {}", size(9 * 15));
}

#[test]
fn the_state_stays_small_and_is_absent_without_a_forecast() {
    let mut service = Service::new(rules(serde_json::json!({})));
    service.play(0..3000, |minute| batches(minute).map(|load| load * 4.3));
    let text = serde_json::to_string(service.history()).expect("it can be written");
    assert!(text.len() < 3_000, "{}", text.len());
    assert_eq!(&serde_json::from_str::<History>(&text).expect("it can be read"), service.history());
    service.rules.forecast = None;
    service.tick(Some(1.0), at(3000 * 60));
    assert_eq!(service.state().forecast, None);
    assert!(!serde_json::to_string(service.state()).expect("it can be written").contains("forecast"));
}

#[test]
fn the_largest_state_is_under_ten_kilobytes() {
    let mut history = History::begin(at(0));
    let forecast: Forecast = serde_json::from_value(serde_json::json!({ "periods_mins": [288, 1440, 10_080, 864] }))
        .expect("it is a forecast");
    history.fit(&forecast);
    history.seasons.iter_mut().for_each(|season| season.tasks.fill(Some(12_345.6)));
    let text = serde_json::to_string(&history).expect("it can be written");
    assert!(text.len() < 10_000, "{}", text.len());
}

#[test]
fn a_profile_that_somebody_else_changed_is_begun_anew() {
    let forecast = quarter_hours().forecast.expect("it has one");
    let mut service = Service::new(quarter_hours());
    service.play(0..75, batches);
    let sound = service.history().clone();
    let mut kept = sound.clone();
    kept.fit(&forecast);
    assert_eq!(kept, sound);
    for (field, value) in [
        ("tasks", serde_json::json!([1.0])),
        ("error", serde_json::json!(-1.0)),
        ("persistence_error", serde_json::json!(1e300)),
        ("rms_errors", serde_json::json!([-1.0, 2.0])),
        ("recent", serde_json::json!([1e300])),
        ("period_mins", serde_json::json!(0)),
    ] {
        let mut damaged = serde_json::json!(sound);
        damaged["seasons"][0][field] = value;
        let mut history: History = serde_json::from_value(damaged).expect("it can be read");
        history.fit(&forecast);
        assert_eq!(history.seasons, [Season::new(15)], "{field}");
    }
}

#[test]
fn demand_is_what_arrives_and_not_what_waits() {
    let forecast = quarter_hours().forecast.expect("it has one");
    let mut history = History::begin(at(0));
    history.fit(&forecast);
    // A backlog of 1,000 that ten busy tasks do not get smaller: what arrives keeps ten tasks busy.
    for secs in (0..=180).step_by(15) {
        history.note(Demand::Work { messages: 1010.0, task_secs: 5.0, busy: 10.0 }, &forecast, at(secs));
    }
    assert_eq!(history.seasons[0].tasks[..3], [Some(10.0); 3]);
    // 120 messages more in a minute, of 5 s each, are ten further tasks.
    for secs in (195..=240).step_by(15) {
        let messages = 1010.0 + 2.0 * f64::from(secs - 180);
        history.note(Demand::Work { messages, task_secs: 5.0, busy: 10.0 }, &forecast, at(i64::from(secs)));
    }
    assert_eq!(history.seasons[0].tasks[3], Some(20.0));
}

#[test]
fn a_day_has_slots_of_five_minutes_and_a_week_of_thirty_five() {
    for (period, slots, mins) in
        [(5, 5, 1), (15, 15, 1), (288, 288, 1), (289, 145, 2), (1440, 288, 5), (10_080, 288, 35)]
    {
        let season = Season::new(period);
        assert_eq!((season.tasks.len(), season.slot_mins()), (slots, mins), "{period}");
        for minute in -20_000..20_000 {
            assert!(season.place(minute) < slots);
        }
    }
}

#[test]
fn a_single_burst_is_no_trend() {
    let mut service = Service::new(quarter_hours());
    service.play(0..62, batches);
    service.play(62..64, |_| Some(300.0));
    service.play(64..70, batches);
    let trend = service.history().seasons[0].trend();
    assert!((1.0..1.25).contains(&trend), "{trend}: {:?}", service.history());
}

#[test]
fn any_rules_and_any_state_are_decided_and_nothing_is_lowered() {
    let mut number = 1_u64;
    let mut any = || {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        number >> 11
    };
    let mut raised = 0;
    for _ in 0..5_000 {
        // Mostly what could be, and sometimes any number that JSON can hold.
        let mut size = || match any() % 64 {
            0 => Some(f64::from_bits(any() << 11)).filter(|size| size.is_finite()).unwrap_or(-1.0),
            _ => (any() % 3000) as f64 / 10.0,
        };
        let tasks: Vec<_> = (0..15).map(|_| size()).collect();
        let (slot, minute, errors, trend) =
            ((2, size()), (size(), size()), (size(), size()), (size().abs(), size().abs()));
        let load = size().abs();
        let periods: Vec<_> = (0..any() % 6).map(|_| [0, 15, 15, 60, u32::MAX][any() as usize % 5]).collect();
        let (lead_secs, min_skill) = ([0, 60, u32::MAX][any() as usize % 3], (any() % 3) as f64 / 2.0);
        let mut rules = quarter_hours();
        rules.bounds.max = (any() % 400) as u32;
        let mode = ForecastMode::ForecastAndScale;
        rules.forecast = Some(Forecast { mode, lead_secs, periods_mins: periods, min_skill });
        let season = serde_json::json!({
            "period_mins": 15, "tasks": tasks, "slot": slot, "recent": tasks[..3], "scored": any() as u32, "trend": trend,
            "error": errors.0, "persistence_error": errors.1, "rms_errors": [errors.1, errors.0],
        });
        let now = at((any() % 100_000) as i64);
        let last = at((any() % 100_000) as i64 - 100);
        let history = serde_json::json!({ "at": last, "messages": minute.0, "minute": minute, "seasons": [season] });
        let past: State =
            serde_json::from_value(serde_json::json!({ "since": at(-86_400), "forecast": history })).expect("a state");
        let (seen, past) = (seen(Some(load), (any() % 400) as u32, now), Past::Known(past));
        let (with, state) = decide(&rules, &seen, &past, now);
        let (without, _) = decide(&Rules { forecast: None, ..rules.clone() }, &seen, &past, now);
        assert!(without.desired <= with.desired && with.desired <= rules.bounds.max, "{with:?}");
        raised += u32::from(without.desired < with.desired);
        let text = serde_json::to_string(&state).expect("it can be written");
        assert_eq!(serde_json::from_str::<State>(&text).expect("it can be read"), state);
    }
    assert!(100 < raised, "{raised}");
}
