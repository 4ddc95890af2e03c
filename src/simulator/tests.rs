//! What must hold of the world, whoever decides.

use super::model::{Stream, stream};
use super::*;

fn constant(rate: f64, secs: usize) -> Workload {
    let (name, bins) = ("constant".to_owned(), vec![rate; secs]);
    Workload { name, bin_secs: 1.0, bins, service_secs: 1.0, ..Workload::default() }
}

fn fixed(count: u32) -> Model {
    Model { bounds: (count, count), ..Model::default() }
}

fn built_in(name: &str, model: &Model) -> Contender {
    Contender::built_in(name, model).expect("it is built in")
}

/// The mean wait in a queue with Poisson arrivals, exponential service and so many servers, by Erlang's formula.
fn erlang_c(servers: u32, load: f64, service: f64) -> f64 {
    let (mut term, mut sum) = (1.0, 1.0);
    for waiting in 1..servers {
        term *= load / f64::from(waiting);
        sum += term;
    }
    let last = term * load / f64::from(servers) / (1.0 - load / f64::from(servers));
    last / (sum + last) * service / (f64::from(servers) - load)
}

#[test]
fn mean_waits_are_those_of_erlang() {
    for (load, secs) in [(14.0, 40_000), (17.0, 60_000), (18.4, 150_000)] {
        let shape = Shape::Exponential;
        let model = Model { service: Service { mean_secs: 2.0, shape }, ..fixed(20) };
        let outcome = run(&built_in("static_mean", &model), &constant(load / 2.0, secs), &model, 1);
        let expected = erlang_c(20, load, 2.0);
        let ratio = outcome.wait_mean_secs / expected;
        assert!((0.95..=1.05).contains(&ratio), "load {load}: {} of {expected}", outcome.wait_mean_secs);
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_one_another() {
    let model = Model::default();
    let workload = Workload { service_secs: 5.0, ..constant(3.0, 3600) };
    for name in ["keda", "stepscale", "fly", "clairvoyant"] {
        let contender = built_in(name, &model);
        let first = run(&contender, &workload, &model, 1);
        assert_eq!(first, run(&contender, &workload, &model, 1), "{name}");
        assert_ne!(first, run(&contender, &workload, &model, 2), "{name}");
    }
}

#[test]
fn contenders_meet_the_same_messages() {
    let model = Model::default();
    let workload = constant(3.0, 1800);
    let arrived: Vec<_> = ["static_mean", "keda", "microscaling_queue"]
        .map(|name| run(&built_in(name, &model), &workload, &model, 7).arrived)
        .into();
    assert_eq!(arrived, vec![arrived[0]; 3]);
}

/// Any world, from small numbers.
fn any_world(chance: &mut impl FnMut(u64) -> u64) -> (Workload, Model) {
    let rate = [0.0, 0.05, 0.5, 2.0, 9.0];
    let bins = (0..10 + chance(50)).map(|_| 30.0 * rate[chance(5) as usize]).collect();
    let mean_secs = [0.2, 2.0, 12.0, 60.0][chance(4) as usize];
    let shape = [Shape::Fixed, Shape::Exponential, Shape::Lognormal { cv: 1.0 }][chance(3) as usize];
    let window = |from: u64, length: u64| Window { from: from as f64, to: (from + length) as f64 };
    let workload = Workload {
        name: "any".to_owned(),
        bin_secs: 30.0,
        bins,
        service_secs: mean_secs,
        unreadable: vec![window(chance(1000), chance(600))],
        slow: vec![(window(chance(1000), chance(600)), 3.0)],
        poison: vec![(chance(900) as f64, chance(30) as u32)],
    };
    let model = Model {
        service: Service { mean_secs, shape },
        per_task: 1 + chance(4) as u32,
        startup_secs: (chance(30) as f64, 30.0 + chance(90) as f64),
        stop_timeout_secs: chance(60) as f64,
        visibility_secs: Some(1.0 + chance(200) as f64),
        is_protected: chance(2) == 0,
        bounds: (chance(3) as u32, 3 + chance(40) as u32),
        ..Model::default()
    };
    (workload, model)
}

#[test]
fn messages_are_conserved_in_a_thousand_worlds() {
    let names: Vec<_> = Contender::names().collect();
    let (mut killed, mut protected_kills) = (0, 0);
    for seed in 0..1000 {
        let mut random = stream(seed, Stream::Tasks);
        let mut chance = |below: u64| rand::RngExt::random_range(&mut random, 0..below);
        let (workload, model) = any_world(&mut chance);
        let name = names[chance(names.len() as u64) as usize];
        let contender = Contender { interval_secs: 15.0, ..built_in(name, &model) };
        let outcome = run(&contender, &workload, &model, seed);
        let Outcome { arrived, done, waiting, in_flight, .. } = outcome;
        assert_eq!(arrived, done + waiting + in_flight, "seed {seed}, {name}");
        assert!(outcome.late <= arrived && outcome.cost_ratio.is_finite(), "seed {seed}, {name}: {outcome:?}");
        assert!(outcome.peak_tasks <= contender.bounds(&model).1, "seed {seed}, {name}: {outcome:?}");
        killed += outcome.killed;
        protected_kills += if model.is_protected { outcome.killed } else { 0 };
    }
    assert!(100 < killed, "{killed} messages were killed at work");
    assert_eq!(protected_kills, 0, "a protected task that works is not stopped");
}

#[test]
fn a_killed_message_comes_back_and_is_done_by_another_task() {
    let model = Model {
        service: Service { mean_secs: 100.0, shape: Shape::Fixed },
        stop_timeout_secs: 30.0,
        visibility_secs: Some(120.0),
        ..Model::default()
    };
    // Of two tasks one stops at 10 s, is killed at 40 s, and its message is visible again at 120 s; the other has been idle since 100 s.
    let workload = Workload { poison: Vec::new(), ..constant(0.0, 300) };
    let depth = |in_flight, completed| Depth { waiting: 0, in_flight, completed };
    let mut world = World::new(&workload, &model, 2, 1);
    world.take_in(0.0, 100.0);
    world.take_in(0.0, 100.0);
    world.set_desired(1, 10.0);
    assert_eq!((world.fleet.running(), world.depth()), (1, depth(2, 0)));
    world.advance(39.0);
    assert_eq!((world.measures.killed, world.fleet.task_secs(39.0)), (0, 78.0));
    world.advance(119.0);
    assert_eq!((world.measures.killed, world.measures.done, world.depth()), (1, 1, depth(1, 1)));
    assert_eq!(world.fleet.task_secs(119.0), 119.0 + 40.0);
    world.advance(219.0);
    assert_eq!(world.measures.done, 1);
    world.advance(220.0);
    assert_eq!((world.measures.done, world.measures.late(), world.depth()), (2, 1, depth(0, 2)));
}

#[test]
fn starting_tasks_are_cancelled_before_any_that_runs() {
    let (model, workload) = (Model::default(), constant(0.0, 300));
    let mut world = World::new(&workload, &model, 2, 1);
    world.set_desired(5, 0.0);
    world.advance(10.0);
    world.set_desired(2, 10.0);
    world.advance(200.0);
    assert_eq!((world.fleet.running(), world.fleet.starting()), (2, 0));
    assert_eq!(world.fleet.task_secs(200.0), 2.0 * 200.0 + 3.0 * 10.0);
}

#[test]
fn poison_is_never_done_and_stays_in_flight() {
    let model = fixed(2);
    let workload = Workload { poison: vec![(5.0, 2)], ..constant(0.0, 3600) };
    let outcome = run(&built_in("static_mean", &model), &workload, &model, 1);
    assert_eq!((outcome.arrived, outcome.done, outcome.waiting + outcome.in_flight), (2, 0, 2));
}

#[test]
fn a_formula_is_evaluated_for_each_count_and_time() {
    let idle = constant(0.0, 600);
    for (formula, peak) in [("min(current + 1, 7)", 7), ("int(now) % 3600 < 300 ? 2 : 9", 9)] {
        let rules = serde_json::json!({ "policies": [{ "type": "expression", "desired": formula }], "bounds": { "min": 1 }, "scale_out_cooldown_secs": 0 });
        let contender = Contender::from_config("mine", &rules).expect("it is valid");
        assert_eq!(run(&contender, &idle, &fixed(1), 1).peak_tasks, peak, "{formula}");
    }
}

#[test]
fn a_formula_that_has_no_value_here_is_refused() {
    for (formula, word) in [("orders / 10", "orders"), ("queue < 9 ? 1 : refunds", "refunds"), ("queue / * 2", "1:9")] {
        let rules = serde_json::json!({ "policies": [{ "type": "expression", "desired": formula }] });
        let error = Contender::from_config("mine", &rules).expect_err(formula);
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_state_that_is_stored_and_read_decides_as_one_that_is_kept() {
    let model = Model::default();
    let workload = Workload { service_secs: 5.0, ..PRESETS[0].workload() };
    for rival in RIVALS {
        let contender = Contender { interval_secs: 15.0, ..built_in(rival.name, &model) };
        let kept = run(&contender, &workload, &model, 3);
        let mut controller = Controller::new(&contender, &workload, &model, 3);
        controller.store_between_ticks();
        assert_eq!(play_with(controller, &contender, &workload, &model, 3, |_| {}), kept, "{}", rival.name);
    }
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    let model = Model::default();
    let window = Window { from: 600.0, to: 1800.0 };
    let workload = Workload { unreadable: vec![window], service_secs: 5.0, ..constant(5.0, 3600) };
    for rival in RIVALS.iter().filter(|rival| !rival.name.starts_with("aws")) {
        let mut counts = Vec::new();
        play(&built_in(rival.name, &model), &workload, &model, 1, |moment| {
            if window.contains(moment.at_secs) {
                counts.push(moment.desired);
            }
        });
        assert!(counts.iter().all(|count| *count == counts[0]), "{}: {counts:?}", rival.name);
    }
}

#[test]
fn a_small_comparison_is_as_it_was() {
    let preset = PRESETS.iter().find(|preset| preset.name == "azure_code").expect("it is built in");
    let (workload, model) = (preset.workload(), Model::default());
    let names = ["static_peak", "clairvoyant", "stepscale", "keda", "fly"];
    let contenders = names.map(|name| built_in(name, &model)).into();
    let plan = Plan { games: vec![Game { workload, model, contenders }], seeds: vec![1, 2] };
    let lines = compare(&plan, || {}).into_iter().map(|row| {
        let (late, cost) = (row.spread(|run| run.late_percent), row.spread(|run| run.cost_ratio));
        format!("{} {:.1} % {:.2}x", row.policy, late.mean, cost.mean)
    });
    let expected = [
        "static_peak 0.0 % 4.51x",
        "clairvoyant 0.0 % 1.80x",
        "stepscale 13.6 % 2.19x",
        "keda 6.4 % 3.49x",
        "fly 87.1 % 1.65x",
    ];
    assert_eq!(lines.collect::<Vec<_>>(), expected);
}

#[test]
fn keda_whose_window_begins_empty_costs_what_the_reference_measured() {
    for (name, reference) in [("azure_code", 3.87), ("azure_conv", 2.59), ("mooncake", 2.33)] {
        let preset = PRESETS.iter().find(|preset| preset.name == name).expect("it is built in");
        let (workload, model) = (preset.workload(), Model::default());
        let contenders = vec![built_in("keda_unseeded", &model)];
        let plan = Plan { games: vec![Game { workload, model, contenders }], seeds: (1..=5).collect() };
        let cost = compare(&plan, || {})[0].spread(|run| run.cost_ratio);
        assert!((cost.mean - reference).abs() < 0.25, "{name}: {cost:?} for {reference}");
    }
}

#[test]
fn drain_time_asks_for_all_tasks_only_where_they_have_something_to_do() {
    let ours = ["drain_time", "drain_time_told", "drain_time_counted", "drain_time_metered"];
    let promised = |model: &Model| Ok(ours.map(|name| built_in(name, model)).into());
    let game = |trial: &Trial| {
        let service = Service { mean_secs: trial.workload().service_secs, ..Model::default().service };
        trial.game::<std::convert::Infallible>(Model { service, ..Model::default() }, promised)
    };
    let games = TRIALS.iter().map(|trial| game(trial).unwrap_or_else(|never| match never {})).collect();
    let rows = compare(&Plan { games, seeds: vec![1, 2] }, || {});
    assert_eq!(rows.len(), ours.len() * TRIALS.len());
    for Row { policy, workload, runs } in rows {
        let needless: Vec<_> = runs.iter().map(|run| run.needless_runs_to_max).collect();
        assert_eq!(needless, [0, 0], "{policy} on {workload}: {runs:?}");
    }
}

#[test]
fn a_run_to_the_most_tasks_is_needless_where_little_waits() {
    let (model, workload) = (Model::default(), Workload { service_secs: 5.0, ..constant(2.0, 3600) });
    let runs = |tasks_per_message: f64| {
        let policy = serde_json::json!({ "type": "threshold", "scale_out_threshold": 5, "scale_in_threshold": 0, "tasks_per_message": tasks_per_message });
        let document = serde_json::json!({ "policies": [policy], "bounds": { "min": 1, "max": 30 } });
        let contender = Contender::from_config("steps", &document).expect("it is valid");
        let outcome = run(&contender, &workload, &model, 1);
        (outcome.runs_to_max, outcome.needless_runs_to_max)
    };
    let (all, needless) = runs(10.0);
    assert!(0 < needless && needless <= all, "30 tasks for a few messages: {needless} of {all}");
    let all = run(&Contender::built_in("keda", &model).expect("it is built in"), &workload, &model, 1).runs_to_max;
    assert_eq!(all, 0, "300 tasks are not asked for");
}

#[test]
fn workloads_are_read_from_csv_and_what_is_wrong_is_named() {
    let read = |text: &str| Workload::from_csv("work.csv", text, 5.0);
    let one = read("arrivals\n3\n0\n5\n").expect("one column");
    assert_eq!((one.bin_secs, one.bins), (1.0, vec![3.0, 0.0, 5.0]));
    let two = read("start,arrivals\n0,3\n300,0\n600,5\n").expect("two columns");
    assert_eq!((two.bin_secs, two.bins), (300.0, vec![3.0, 0.0, 5.0]));
    for (text, says) in [
        ("", "no arrivals"),
        ("a\nb\n", "line 2"),
        ("1\n-1\n", "line 2"),
        ("1\nNaN\n", "line 2"),
        ("1,2\n3\n", "line"),
        ("0,1\n60,1\n100,1\n", "even distances"),
        ("60,1\n0,1\n", "even distances"),
        ("1,2,3\n", "line 1"),
    ] {
        let error = read(text).expect_err(text).to_string();
        assert!(error.contains(says) && error.contains("work.csv"), "{text:?}: {error}");
    }
}

#[test]
fn presets_have_names_of_their_own_and_last_as_long_as_they_say() {
    let names: std::collections::BTreeSet<_> = PRESETS.iter().map(|preset| preset.name).collect();
    assert_eq!(names.len(), PRESETS.len());
    for preset in PRESETS {
        let workload = preset.workload();
        let hours = workload.duration() / 3600.0;
        let is_right = match preset.name {
            "twitter_amzn" => hours == 14.0 * 24.0,
            "year" => hours == 365.0 * 24.0,
            name if TRACES.contains(&name) => (0.95..=1.0).contains(&hours),
            _ => hours == 4.0,
        };
        assert!(is_right, "{}: {hours} h", preset.name);
    }
}

#[test]
fn a_forecast_makes_batches_by_the_clock_a_quarter_as_late_for_less() {
    let cron = PRESETS.iter().find(|preset| preset.name == "cron").expect("it is built in").workload();
    let model = Model { service: Service { mean_secs: 2.0, ..Model::default().service }, ..Model::default() };
    let play = |forecast: serde_json::Value| {
        let policy = serde_json::json!({ "type": "drain_time", "target_wait_secs": 60, "service_secs": 2 });
        let mut rules = serde_json::json!({ "policies": [policy], "bounds": { "min": 1, "max": 300 } });
        rules.as_object_mut().expect("an object").extend(forecast.as_object().cloned().unwrap_or_default());
        run(&Contender::from_config("forecast", &rules).expect("they are rules"), &cron, &model, 1)
    };
    let (with, without) = (play(serde_json::json!({ "forecast": {} })), play(serde_json::json!({})));
    assert!(4.0 * with.late_percent < without.late_percent, "{with:?} instead of {without:?}");
    assert!(with.cost_ratio < without.cost_ratio, "{with:?} instead of {without:?}");
}
