//! What is configured: names, defaults, layers, bounds of the deployment, and what is refused.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidegate::config::{Config, Input, Problems, load};
use tidegate::core::{Bounds, Load, Policy, PriorityOverride, Threshold};
use tidegate::error::{Error, ErrorKind};

const URL: &str = "https://sqs.us-east-1.amazonaws.com/123456789012/orders";

fn load_with(env: &[(&str, &str)], event: Value) -> Result<Config, Problems> {
    load_in(env, event, false)
}

fn load_in(env: &[(&str, &str)], event: Value, in_lambda: bool) -> Result<Config, Problems> {
    let vars: BTreeMap<_, _> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load(Input { vars: &vars, event: &event, in_lambda, remote: None })
}

const MINIMAL: &[(&str, &str)] = &[("ECS_CLUSTER", "prod"), ("SERVICE_NAME", "orders"), ("SQS_QUEUE_URL", URL)];

fn minimal_and(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    MINIMAL.iter().chain(more).copied().collect()
}

#[track_caller]
fn problems(env: &[(&str, &str)], event: Value) -> Vec<(String, String)> {
    let problems = load_with(env, event).map(|config| format!("{config:?}")).expect_err("the configuration is refused");
    problems.0.into_iter().map(|problem| (problem.path, problem.origin)).collect()
}

fn at(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(path, origin)| ((*path).to_owned(), (*origin).to_owned())).collect()
}

#[test]
fn defaults_are_stepscales() {
    let config = load_with(MINIMAL, json!(null)).expect("it is complete");
    let service = &config.services[0];
    let rules = &service.rules;
    assert_eq!((service.name.as_str(), service.target.kind.name), ("orders", "ecs"));
    assert_eq!((service.sources[0].name.as_str(), service.sources[0].section.kind.name), ("sqs", "sqs"));
    assert_eq!(rules.bounds, Bounds { min: 10, max: 300 });
    let threshold = Threshold { scale_out_threshold: 100.0, scale_in_threshold: 99.0, tasks_per_message: 0.01 };
    assert_eq!(rules.policies, [Policy::Threshold(threshold)]);
    assert_eq!((rules.min_remaining_fraction, rules.scaling_step_count), (0.99, 5));
    assert_eq!((rules.scale_out_cooldown_secs, rules.scale_in_cooldown_secs), (120, 120));
    assert_eq!((rules.load, rules.priority_override), (Load::Backlog, PriorityOverride::Step));
    assert!(!rules.allow_scale_out_without_state && !config.dry_run);
    assert_eq!((config.region.as_str(), config.state.kind.name), ("us-east-1", "file"));
}

#[test]
fn every_flat_setting_takes_effect_from_environment_and_payload() {
    let env = [
        ("ECS_CLUSTER", "prod"),
        ("SERVICE_NAME", "orders"),
        ("MIN_TASKS", "0"),
        ("MAX_TASKS", "7"),
        ("QUEUE_TYPE", "SQS"),
        ("SQS_QUEUE_URL", URL),
        ("USE_COMBINED_MESSAGES", "on"),
        ("SCALE_UP_THRESHOLD", "20.5"),
        ("SCALE_DOWN_THRESHOLD", "0"),
        ("TASKS_PER_MESSAGE", "0.5"),
        ("MAX_SCALE_DOWN_FACTOR", "0"),
        ("SCALE_OUT_COOLDOWN", "0"),
        ("SCALE_IN_COOLDOWN", "0"),
        ("SCALING_STEP_COUNT", "9"),
        ("PRIORITY_OVERRIDE", "Always"),
        ("AWS_REGION", "eu-west-1"),
        ("S3_CONFIG_BUCKET", "state"),
        ("SSO_PROFILE", "work"),
    ];
    let payload = json!({ "config": {
        "cluster_name": "prod", "service_name": "orders", "min_tasks": 0, "max_tasks": 7, "queue_type": "SQS",
        "queue_config": { "queue_url": URL }, "use_combined_messages": true, "scale_up_threshold": 20.5,
        "scale_down_threshold": 0, "tasks_per_message": 0.5, "max_scale_down_factor": 0, "scale_out_cooldown": 0,
        "scale_in_cooldown": 0, "scaling_step_count": 9, "priority_override": "always", "region": "eu-west-1",
        "s3_config_bucket": "state", "sso_profile": "work",
    } });
    let by_env = load_with(&env, json!({})).expect("it is complete");
    let by_payload = load_with(&[], payload).expect("it is complete");
    for config in [&by_env, &by_payload] {
        let rules = &config.services[0].rules;
        assert_eq!((rules.bounds, rules.load), (Bounds { min: 0, max: 7 }, Load::Combined));
        let threshold = Threshold { scale_out_threshold: 20.5, scale_in_threshold: 0.0, tasks_per_message: 0.5 };
        assert_eq!(rules.policies, [Policy::Threshold(threshold)]);
        assert_eq!((rules.min_remaining_fraction, rules.scaling_step_count), (0.0, 9));
        assert_eq!((rules.scale_out_cooldown_secs, rules.scale_in_cooldown_secs), (0, 0));
        assert_eq!(rules.priority_override, PriorityOverride::Always);
        assert_eq!((config.region.as_str(), config.profile.as_deref()), ("eu-west-1", Some("work")));
        assert_eq!((config.state.kind.name, &config.state.settings["bucket"]), ("s3", &json!("state")));
    }
    assert_eq!(by_env.services[0].rules, by_payload.services[0].rules);
    assert_eq!(by_env.services[0].sources[0].section.settings, by_payload.services[0].sources[0].section.settings);
}

#[test]
fn bounds_by_time_are_settings_of_the_short_form_too() {
    let by_time = r#"{"timezone": "Europe/Berlin", "min": {"8:00": 3, "20:00": 1}}"#;
    let schedule = r#"[{"from": "0 6 * * MON-FRI", "to": "0 18 * * MON-FRI", "max": 12}]"#;
    let env = minimal_and(&[("MIN_TASKS", "1"), ("BOUNDS_BY_TIME", by_time), ("BOUNDS_SCHEDULE", schedule)]);
    let read = |text: &str| serde_json::from_str::<Value>(text).expect("it is JSON");
    let payload = json!({ "config": {
        "min_tasks": 1, "bounds_by_time": read(by_time), "bounds_schedule": read(schedule),
    } });
    let by_env = load_with(&env, json!({})).expect("it is complete");
    let by_payload = load_with(MINIMAL, payload).expect("it is complete");
    for config in [&by_env, &by_payload] {
        let monday = "2026-11-23T07:00:00Z".parse().expect("a time");
        assert_eq!(config.services[0].rules.bounds_at(monday), Bounds { min: 3, max: 12 });
    }
    assert_eq!(by_env.services[0].rules, by_payload.services[0].rules);
}

#[test]
fn a_promise_alone_is_a_whole_policy() {
    let config = load_with(&minimal_and(&[("TARGET_WAIT_SECS", "30")]), json!(null)).expect("it is complete");
    let rules = &config.services[0].rules;
    let [Policy::DrainTime(policy)] = &rules.policies[..] else { panic!("{:?}", rules.policies) };
    assert_eq!((policy.target_wait_secs, policy.service_secs), (30, None));
    assert_eq!((rules.priority_override, rules.scale_out_cooldown_secs), (PriorityOverride::Always, 120));
    assert_eq!((rules.scale_in_cooldown_secs, rules.min_remaining_fraction), (0, 0.5));
    let by_payload = json!({ "config": { "target_wait_secs": 30, "service_secs": 2.5, "scale_in_cooldown": 90 } });
    let config = load_with(MINIMAL, by_payload).expect("it is complete");
    let rules = &config.services[0].rules;
    let [Policy::DrainTime(policy)] = &rules.policies[..] else { panic!("{:?}", rules.policies) };
    assert_eq!((policy.target_wait_secs, policy.service_secs), (30, Some(2.5)));
    assert_eq!((rules.scale_in_cooldown_secs, rules.min_remaining_fraction), (90, 0.5));
    let two_policies = minimal_and(&[("TARGET_WAIT_SECS", "30"), ("SCALE_UP_THRESHOLD", "5")]);
    let refused = load_with(&two_policies, json!(null)).map(|_| ()).expect_err("there are two policies");
    assert_eq!((refused.0.len(), refused.0[0].path.as_str()), (1, "SCALE_UP_THRESHOLD"), "{refused:?}");
}

#[test]
fn three_mistakes_are_three_problems_in_one_answer() {
    let event = json!({ "config": {
        "cluster_name": "prod", "service_name": "orders",
        "min_tasks": 50, "max_tasks": 5, "queue_typ": "sqs", "scale_in_cooldown": "soon",
    } });
    let refused = load_with(&[], event).map(|config| config.services.len()).expect_err("it is refused");
    let shown: Vec<_> = refused.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "config.queue_typ (event) is not a known setting; did you mean queue_type?",
            "config.scale_in_cooldown (event) is the text \"soon\"; give a whole number of seconds of at least 0",
            "config.min_tasks (event) is 50, above the most tasks, 5 (event config.max_tasks); keep the least number of tasks at or below the most",
        ]
    );
    let error = Error::from(refused);
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn later_layers_override_earlier_ones() {
    let file =
        r#"{"defaults": {"bounds": {"min": 1, "max": 50}, "scale_in_cooldown_secs": 60}, "cluster_name": "prod"}"#;
    let env = [("CONFIG", file), ("SERVICE_NAME", "orders"), ("SQS_QUEUE_URL", URL), ("MAX_TASKS", "40")];
    let config = load_with(&env, json!({ "config": { "scale_in_cooldown": 0 } })).expect("it is complete");
    let rules = &config.services[0].rules;
    assert_eq!((rules.bounds, rules.scale_in_cooldown_secs), (Bounds { min: 1, max: 40 }, 0));
}

#[test]
fn a_payloads_source_replaces_the_environments_whole() {
    let event = json!({ "config": { "queue_config": { "queues": ["a", "b"] } } });
    let config = load_with(MINIMAL, event).expect("it is complete");
    assert_eq!(config.services[0].sources[0].section.settings, json!({ "queues": ["a", "b"] }));
    // Between file and environment the environment wins, as everywhere.
    let file = ("CONFIG", r#"{"queue_config": {"queue_url": "in-the-file"}}"#);
    let from_file = load_with(&[MINIMAL[0], MINIMAL[1], file], json!({})).expect("it is complete");
    assert_eq!(from_file.services[0].sources[0].section.settings, json!({ "queue": "in-the-file" }));
    let from_env = load_with(&minimal_and(&[file]), json!({})).expect("it is complete");
    assert_eq!(from_env.services[0].sources[0].section.settings, json!({ "queue": URL }));
    // As in StepScale, an empty one says nothing.
    let config = load_with(MINIMAL, json!({ "config": { "queue_config": {} } })).expect("it is complete");
    assert_eq!(config.services[0].sources[0].section.settings, json!({ "queue": URL }));
}

#[test]
fn documents_come_inline_and_from_files() {
    let yaml = format!(
        "config:\n  services:\n    - name: a\n      target: {{type: ecs, cluster: prod, service: a}}\n      \
         sources: [{{type: sqs, queue: {URL}}}]\n      policies: [{{type: threshold}}]\n      bounds: {{min: 0, max: 3}}\n"
    );
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a temporary file");
    std::fs::write(file.path(), yaml).expect("it is writable");
    let path = file.path().to_str().expect("a plain path").to_owned();
    let config = load_with(&[("CONFIG", &path)], json!({})).expect("it is complete");
    assert_eq!(config.services[0].rules.bounds, Bounds { min: 0, max: 3 });
    // An environment variable is a default for every service; what a service says itself stands.
    let config = load_with(&[("CONFIG", &path), ("MAX_TASKS", "9"), ("SCALE_IN_COOLDOWN", "7")], json!({}))
        .expect("it is complete");
    assert_eq!((config.services[0].rules.bounds.max, config.services[0].rules.scale_in_cooldown_secs), (3, 7));
    std::fs::write(file.path(), "config: [").expect("it is writable");
    assert_eq!(problems(&[("CONFIG", &path)], json!({}))[0], ("CONFIG".to_owned(), "environment".to_owned()));
}

#[test]
fn events_of_every_sender_are_taken() {
    let with_confg = json!({ "detail-type": "Scheduled Event", "source": "aws.events", "confg": {} });
    for event in [json!({ "region": "eu-west-1" }), with_confg] {
        assert!(load_with(MINIMAL, event.clone()).is_err(), "{event}");
    }
    for event in [
        json!(null),
        json!({}),
        json!({ "config": null }),
        json!({ "config": {} }),
        json!({ "config": {}, "scheduled_time": "2026-11-22T12:00:00Z" }),
        json!({ "version": "0", "id": "a", "detail-type": "Scheduled Event", "source": "aws.events", "detail": {} }),
        json!({ "scheduled_time": "2026-11-22T12:00:00Z" }),
    ] {
        assert!(load_with(MINIMAL, event.clone()).is_ok(), "{event}");
    }
    for event in
        [json!([]), json!("go"), json!(5), json!({ "confg": {} }), json!({ "min_tasks": 5 }), json!({ "config": [] })]
    {
        assert!(load_with(MINIMAL, event.clone()).is_err(), "{event}");
    }
}

#[test]
fn hard_bounds_are_never_exceeded() {
    let hard = minimal_and(&[("HARD_MIN_TASKS", "2"), ("HARD_MAX_TASKS", "20")]);
    let bounds = |event: Value| {
        load_with(&hard, event).map(|config| config.services[0].rules.bounds).map_err(|problems| problems.0.len())
    };
    // Built-in defaults give way.
    assert_eq!(bounds(json!({})), Ok(Bounds { min: 10, max: 20 }));
    assert_eq!(bounds(json!({ "config": { "min_tasks": 2, "max_tasks": 20 } })), Ok(Bounds { min: 2, max: 20 }));
    assert_eq!(bounds(json!({ "config": { "max_tasks": 21 } })), Err(1));
    assert_eq!(bounds(json!({ "config": { "min_tasks": 1 } })), Err(1));
    // A payload narrows them and never widens them.
    let narrower = json!({ "config": { "hard_max_tasks": 15, "hard_min_tasks": 3, "min_tasks": 3 } });
    assert_eq!(bounds(narrower), Ok(Bounds { min: 3, max: 15 }));
    assert_eq!(bounds(json!({ "config": { "hard_max_tasks": 21 } })), Err(1));
    assert_eq!(bounds(json!({ "config": { "hard_min_tasks": 1 } })), Err(1));
    let crossed = minimal_and(&[("HARD_MIN_TASKS", "5"), ("HARD_MAX_TASKS", "4")]);
    assert!(problems(&crossed, json!({})).contains(&("HARD_MIN_TASKS".to_owned(), "environment".to_owned())));
}

#[test]
fn allow_lists_hold_for_every_layer() {
    let listed =
        minimal_and(&[("ALLOWED_TARGETS", "ecs:*/prod/*"), ("ALLOWED_SOURCES", "sqs:us-east-1/123456789012/orders")]);
    assert!(load_with(&listed, json!({})).is_ok());
    let elsewhere = json!({ "config": { "cluster_name": "test" } });
    assert_eq!(problems(&listed, elsewhere), at(&[("config.cluster_name", "event")]));
    let other_queue = json!({ "config": { "queue_config": { "queue_url": "https://sqs.us-east-1.amazonaws.com/999999999999/orders" } } });
    assert_eq!(problems(&listed, other_queue), at(&[("config.queue_config.queue_url", "event")]));
    // A payload's own list narrows further and cannot let in what the deployment does not.
    let wider = json!({ "config": { "allowed_targets": "*", "cluster_name": "test" } });
    assert_eq!(problems(&listed, wider).len(), 1);
    let narrower = json!({ "config": { "allowed_targets": ["ecs:*/prod/other"] } });
    assert_eq!(problems(&listed, narrower).len(), 1);
}

#[test]
fn the_states_place_belongs_to_the_deployment() {
    let deployed = minimal_and(&[("S3_CONFIG_BUCKET", "state")]);
    assert!(load_with(&deployed, json!({ "config": { "s3_config_bucket": "state" } })).is_ok());
    let other = json!({ "config": { "s3_config_bucket": "elsewhere" } });
    assert_eq!(problems(&deployed, other.clone()), at(&[("config.s3_config_bucket", "event")]));
    let by_file = minimal_and(&[("CONFIG", r#"{"state": {"type": "s3", "bucket": "state"}}"#)]);
    assert_eq!(problems(&by_file, other), at(&[("config.s3_config_bucket", "event")]));
    assert_eq!(
        problems(MINIMAL, json!({ "config": { "state": { "type": "memory" } } })),
        at(&[("config.state", "event")])
    );
    let refused = load_in(MINIMAL, json!({}), true).map(|_| ()).expect_err("a function's files do not last");
    assert!(refused.0[0].remedy.contains("S3_CONFIG_BUCKET"), "{refused:?}");
    for kind in ["file", "memory"] {
        let document = format!(r#"{{"state": {{"type": "{kind}"}}}}"#);
        let mut env = minimal_and(&[]);
        env.push(("CONFIG", &document));
        assert!(load_in(&env, json!({}), false).is_ok());
        assert!(load_in(&env, json!({}), true).is_err(), "{kind}");
    }
    let twice =
        minimal_and(&[("CONFIG", r#"{"state": {"type": "s3", "bucket": "one"}}"#), ("S3_CONFIG_BUCKET", "two")]);
    assert_eq!(problems(&twice, json!({})), at(&[("S3_CONFIG_BUCKET", "environment")]));
    // A payload for another region does not move the state.
    let elsewhere = load_with(&deployed, json!({ "config": { "region": "eu-west-1" } })).expect("it is complete");
    assert_eq!(elsewhere.region, "eu-west-1");
    let deployed = minimal_and(&[("S3_CONFIG_BUCKET", "state"), ("AWS_REGION", "us-west-2")]);
    let elsewhere = load_with(&deployed, json!({ "config": { "region": "eu-west-1" } })).expect("it is complete");
    assert_eq!(elsewhere.state.settings["region"], "us-west-2");
    let table = r#"{"state": {"type": "dynamodb", "table": "state"}}"#;
    let deployed = minimal_and(&[("CONFIG", table), ("AWS_REGION", "us-west-2")]);
    let elsewhere = load_with(&deployed, json!({ "config": { "region": "eu-west-1" } })).expect("it is complete");
    assert_eq!((elsewhere.state.kind.name, &elsewhere.state.settings["region"]), ("dynamodb", &json!("us-west-2")));
    for config in [
        r#"{"state": {"type": "dynamodb"}}"#,
        r#"{"state": {"type": "dynamodb", "table": "ab"}}"#,
        r#"{"state": {"type": "dynamodb", "table": "arn:aws:dynamodb:us-east-1:123456789012:table/state"}}"#,
    ] {
        assert_eq!(problems(&minimal_and(&[("CONFIG", config)]), json!({})).len(), 1, "{config}");
    }
}

#[test]
fn a_dry_run_cannot_be_called_off_by_a_payload() {
    let deployed = minimal_and(&[("DRY_RUN", "true")]);
    assert!(load_with(&deployed, json!({ "config": { "dry_run": false } })).expect("it is complete").dry_run);
    assert!(load_with(MINIMAL, json!({ "config": { "dry_run": true } })).expect("it is complete").dry_run);
}

#[test]
fn what_is_not_known_says_what_it_may_be() {
    let refused =
        load_with(MINIMAL, json!({ "config": { "queue_type": "sqss" } })).map(|_| ()).expect_err("it is unknown");
    assert_eq!(refused.0[0].remedy, "did you mean sqs?");
    assert_eq!(Error::from(refused).kind(), ErrorKind::Config);
}

fn service(name: &str) -> Value {
    json!({
        "name": name, "target": { "type": "ecs", "cluster": "prod", "service": name },
        "sources": [{ "type": "sqs", "queue": URL }], "policies": [{ "type": "threshold" }],
    })
}

#[test]
fn the_full_form_says_every_problem_with_its_place() {
    let mut broken = service("a");
    broken["sources"][0]["colour"] = json!(1);
    broken["policies"] =
        json!([{ "type": "threshold", "scale_out_threshold": 5 }, { "type": "expression" }, { "type": "treshold" }]);
    broken["bounds"] = json!({ "min": 1, "max": "x" });
    broken["scale_in_cooldown_sec"] = json!(5);
    broken["min_remaining_fraction"] = json!(1.5);
    let mut no_target = service("b");
    no_target.as_object_mut().expect("an object").remove("target");
    let event = json!({ "config": { "services": [broken, no_target] } });
    let mut found = problems(&[], event);
    found.sort();
    assert_eq!(
        found,
        at(&[
            ("config.services[0].bounds.max", "event"),
            ("config.services[0].min_remaining_fraction", "event"),
            ("config.services[0].policies[0].scale_out_threshold", "event"),
            ("config.services[0].policies[1].desired", "event"),
            ("config.services[0].policies[2].type", "event"),
            ("config.services[0].scale_in_cooldown_sec", "event"),
            ("config.services[0].sources[0].colour", "event"),
            ("config.services[1].target", "event"),
        ])
    );
}

#[test]
fn names_and_targets_are_unique() {
    let mut twin = service("b");
    twin["target"]["service"] = json!("arn:aws:ecs:us-east-1:123456789012:service/prod/b");
    let twice = |one: Value, other: Value| problems(&[], json!({ "config": { "services": [one, other] } }));
    assert_eq!(twice(service("a"), service("a")).len(), 2, "the name and the target");
    let mut same_target = service("b");
    same_target["target"]["service"] = json!("a");
    assert_eq!(twice(service("a"), same_target), at(&[("config.services[1].target", "event")]));
    assert!(load_with(&[], json!({ "config": { "services": [service("a"), twin.clone()] } })).is_ok());
    // By name and by ARN it is the same target.
    twin["name"] = json!("c");
    assert_eq!(twice(service("b"), twin), at(&[("config.services[1].target", "event")]));
}

#[test]
fn the_two_forms_do_not_mix_silently() {
    let mixed = json!({ "config": { "services": [service("a")], "scale_up_threshold": 5 } });
    assert_eq!(problems(&[], mixed), at(&[("config.scale_up_threshold", "event")]));
    // Rules of the short form are defaults for every service.
    let rules = json!({ "config": { "services": [service("a")], "max_tasks": 50 } });
    assert_eq!(load_with(&[], rules).expect("it is complete").services[0].rules.bounds.max, 50);
}

#[test]
fn every_offender_is_named_when_the_forms_mix() {
    let env = [("ECS_CLUSTER", "prod"), ("SQS_QUEUE_URL", URL), ("REDIS_PASSWORD", "for a reference")];
    let found = problems(&env, json!({ "config": { "services": [service("a")] } }));
    assert_eq!(found, at(&[("ECS_CLUSTER", "environment"), ("SQS_QUEUE_URL", "environment")]));
}

#[test]
fn no_value_makes_a_service_vanish() {
    let values = [
        json!(0),
        json!(1),
        json!(1.0),
        json!(5.5),
        json!(-1),
        json!(1e15),
        json!(4294967296_u64),
        json!(u64::MAX),
        json!("1"),
        json!(""),
        json!(true),
        json!(null),
        json!([]),
        json!([1]),
        json!({}),
        json!({ "a": 1 }),
        json!("x".repeat(5000)),
    ];
    let flat = [
        "min_tasks",
        "max_tasks",
        "scaling_step_count",
        "scale_out_cooldown",
        "scale_up_threshold",
        "tasks_per_message",
        "max_scale_down_factor",
        "priority_override",
        "region",
        "cluster_name",
        "service_name",
        "queue_type",
        "queue_config",
        "hard_min_tasks",
        "hard_max_tasks",
        "allowed_targets",
        "services",
        "defaults",
        "max_reading_age",
        "dry_run",
    ];
    for value in &values {
        for key in flat {
            let loaded = load_with(MINIMAL, json!({ "config": { key: value } }));
            match loaded {
                Ok(config) => assert_eq!(config.services.len(), 1, "{key}: {value}"),
                Err(problems) => assert!(!problems.0.is_empty(), "{key}: {value} is refused without a word"),
            }
        }
        for key in [
            "name",
            "target",
            "sources",
            "policies",
            "bounds",
            "scale_in_cooldown_secs",
            "scaling_step_count",
            "load",
            "min_remaining_fraction",
            "max_reading_age_secs",
            "allow_scale_out_without_state",
        ] {
            let mut service = service("a");
            service[key] = value.clone();
            match load_with(&[], json!({ "config": { "services": [service] } })) {
                Ok(config) => assert_eq!(config.services.len(), 1, "{key}: {value}"),
                Err(problems) => assert!(!problems.0.is_empty(), "{key}: {value} is refused without a word"),
            }
        }
    }
    let mut whole = service("a");
    whole["bounds"] = json!({ "min": 1.0, "max": 5.0 });
    let config = load_with(&[], json!({ "config": { "services": [whole] } })).expect("1.0 is 1");
    assert_eq!(config.services[0].rules.bounds, Bounds { min: 1, max: 5 });
}

#[test]
fn defaults_are_rules_and_nothing_else() {
    for defaults in
        [json!({ "target": { "region": "eu-west-1" } }), json!({ "name": "x" }), json!({ "bounds/max": 5000 })]
    {
        let event = json!({ "config": { "services": [service("a")], "defaults": defaults } });
        assert_eq!(problems(&[], event).len(), if defaults.get("bounds/max").is_some() { 4 } else { 1 }, "{defaults}");
    }
}

#[test]
fn a_pattern_with_many_stars_takes_no_time() {
    let stars = "*a".repeat(200) + "b";
    let name = "a".repeat(200);
    let event = json!({ "config": { "service_name": name, "allowed_targets": [stars] } });
    assert_eq!(problems(MINIMAL, event).len(), 1);
    let matching = json!({ "config": { "service_name": name, "allowed_targets": ["*a*a*a*a*"] } });
    assert!(load_with(MINIMAL, matching).is_ok());
}

#[test]
fn hard_bounds_are_named_where_they_are_in_the_way() {
    let blamed = |env: &[(&'static str, &'static str)]| {
        let refused = load_with(&minimal_and(env), json!({})).map(|_| ()).expect_err("it is refused");
        refused.0.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        blamed(&[("HARD_MIN_TASKS", "50"), ("MAX_TASKS", "20")]),
        [
            "MAX_TASKS (environment) is 20, below the hard lower bound 50 (environment HARD_MIN_TASKS); keep bounds.max within the hard bounds",
        ]
    );
    assert_eq!(
        blamed(&[("HARD_MAX_TASKS", "5"), ("MIN_TASKS", "8")]),
        [
            "MIN_TASKS (environment) is 8, above the hard upper bound 5 (environment HARD_MAX_TASKS); keep bounds.min within the hard bounds",
        ]
    );
}

#[test]
fn the_older_name_of_the_step_is_known() {
    let older = [("COOLDOWN_OVERRIDE_THRESHOLD", "7")];
    let steps = |env: &[(&'static str, &'static str)]| {
        load_with(&minimal_and(env), json!({})).expect("it is complete").services[0].rules.scaling_step_count
    };
    assert_eq!(steps(&older), 7);
    assert_eq!(steps(&[older[0], ("SCALING_STEP_COUNT", "9")]), 9);
}

#[test]
fn documents_that_cannot_be_read_show_nothing_of_what_is_in_them() {
    let file = |ending: &str, text: &str| {
        let file = tempfile::Builder::new().suffix(ending).tempfile().expect("a temporary file");
        std::fs::write(file.path(), text).expect("it is writable");
        file
    };
    let yaml = file(".yaml", "services:\n  - {type: redis, password: canary-secret, host: h\n");
    let toml = file(".toml", "[redis]\npassword = \"canary-secret\"\nport = \n");
    let json = file(".json", "{\"password\": \"canary-secret\", ");
    let nan = file(".toml", "hard_max_tasks = nan\n");
    let path = |file: &tempfile::NamedTempFile| file.path().to_str().expect("a plain path").to_owned();
    let inline = "services: [{password: canary-secret}]".to_owned();
    for config in
        [path(&yaml), path(&toml), path(&json), path(&nan), inline, "{\"password\": \"canary-secret\"".to_owned()]
    {
        let mut env = minimal_and(&[]);
        env.push(("CONFIG", &config));
        let refused = load_with(&env, json!({})).map(|_| ()).expect_err("it cannot be read");
        let shown = Error::from(refused.clone()).to_string();
        assert!(!shown.contains("canary"), "{shown}");
        assert_eq!(refused.0.len(), 1, "{shown}");
    }
}

#[test]
fn secrets_are_not_echoed() {
    for event in [
        json!({ "config": { "queue_config": { "password": "canary" } } }),
        json!({ "config": { "password": "canary" } }),
        json!({ "password": "canary" }),
        json!({ "config": { "services": [{ "password": "canary" }] } }),
        json!({ "config": { "queue_config": "redis://:canary@host" } }),
        json!({ "config": { "min_tasks": "redis://:canary@host" } }),
        json!({ "config": { "queue_config": { "queue_url": "https://user:canary@sqs.us-east-1.amazonaws.com/123456789012/a" } } }),
    ] {
        let refused = load_with(MINIMAL, event).map(|_| ()).expect_err("it is refused");
        let shown = format!("{refused:?} {} {}", json!(refused), Error::from(refused.clone()));
        assert!(!shown.contains("canary"), "{shown}");
    }
}

#[test]
fn an_empty_variable_is_not_set() {
    let config =
        load_with(&minimal_and(&[("MIN_TASKS", ""), ("HARD_MAX_TASKS", " ")]), json!({})).expect("it is complete");
    assert_eq!(config.services[0].rules.bounds.min, 10);
}

#[test]
fn a_variable_that_is_a_number_is_one() {
    let env = [
        ("ECS_CLUSTER", "prod"),
        ("SERVICE_NAME", "orders"),
        ("QUEUE_TYPE", "rabbitmq"),
        ("RABBITMQ_HOST", "broker"),
        ("RABBITMQ_PORT", "5673"),
        ("RABBITMQ_QUEUE", "7"),
        ("RABBITMQ_USERNAME", "tidegate"),
        ("RABBITMQ_PASSWORD", "12345"),
    ];
    let config = load_with(&env, json!(null)).expect("it is complete");
    let settings = &config.services[0].sources[0].section.settings;
    assert_eq!((&settings["port"], &settings["queue"]), (&json!(5673), &json!("7")));
}
