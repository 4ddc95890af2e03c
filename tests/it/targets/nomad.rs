//! Nomad: a fake of ours that keeps jobs as Nomad does, behind Prism with the published description of Nomad's API.

mod fake;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate::config::{Input, load};
use tidegate::error::ErrorKind;
use tidegate::shared::Shared;

use self::fake::{Nomad, TOKEN};
use crate::support::proxy::Fault;
use crate::support::target::{look_on_through, rehearse, set, status};

fn settings(nomad: &Nomad) -> Value {
    json!({
        "type": "nomad", "address": nomad.wire.url(), "job": "orders", "group": "workers", "token": "env:NOMAD_TOKEN",
    })
}

fn with(nomad: &Nomad, changes: Value) -> Value {
    let mut settings = settings(nomad);
    settings.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
    settings
}

const ENV: &[(&str, &str)] = &[("NOMAD_TOKEN", TOKEN)];

#[tokio::test]
async fn a_nomad_group_is_read_and_set_to_any_count_and_nothing_else_of_its_job_changes() {
    let nomad = Nomad::start(2).await;
    nomad.job("orders", |job| (job.placed, job.running) = (2, 1));
    let reading = status(ENV, settings(&nomad)).await.expect("it can be read");
    let counts = (reading.status.desired, reading.status.running, reading.status.pending, reading.status.rolling_out);
    assert_eq!(counts, (2, 1, 1, false));
    assert_eq!(reading.protected, None);
    let before = nomad.job("orders", |job| job.spec.clone());
    for count in [7, 1, 0, 3] {
        let record = set(ENV, settings(&nomad), count).await;
        assert_eq!(record["outcome"], "changed", "{record}");
        assert_eq!(nomad.count(), i64::from(count));
    }
    nomad.job("orders", |job| {
        let mut after = job.spec.clone();
        after["TaskGroups"][0]["Count"] = before["TaskGroups"][0]["Count"].clone();
        assert_eq!(after, before);
        assert_eq!((job.version, job.events.len()), (4, 4));
    });
    assert_eq!(nomad.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_nomad_group_that_is_there_already_is_not_asked_again() {
    let nomad = Nomad::start(3).await;
    let record = set(ENV, settings(&nomad), 3).await;
    assert_eq!(record["outcome"], "held", "{record}");
    assert_eq!(nomad.wire.mutating(), []);
    assert_eq!(nomad.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_nomad_group_whose_reply_is_lost_takes_no_second_step() {
    let nomad = Nomad::start(2).await;
    nomad.wire.fail_about("*", "\"Count\"", 1, Fault::DropReply);
    let record = set(ENV, settings(&nomad), 5).await;
    assert_eq!(record["failures"][0]["kind"], "Unavailable", "{record}");
    assert_eq!(nomad.wire.mutating().len(), 1, "what may have changed something is sent once");
    assert_eq!(nomad.count(), 5);
    set(ENV, settings(&nomad), 5).await;
    nomad.job("orders", |job| assert_eq!((job.count(), job.version), (5, 1)));
    assert_eq!(nomad.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_rehearsal_changes_nothing_at_nomad() {
    let nomad = Nomad::start(2).await;
    let record = rehearse(ENV, settings(&nomad), 9).await;
    assert_eq!(record["decision"]["desired"], 9, "{record}");
    assert_eq!(nomad.wire.mutating(), []);
    assert_eq!(nomad.count(), 2);
    assert_eq!(nomad.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_rehearsal_beside_others_changes_nothing_at_nomad() {
    let nomad = Nomad::start(1).await;
    let others = async |count: u32| nomad.job("orders", |job| job.put("/TaskGroups/0/Count", count.into()));
    look_on_through(&nomad.wire, ENV, settings(&nomad), others).await;
    assert_eq!(nomad.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_nomad_deployment_under_way_is_waited_for_and_never_overridden() {
    let nomad = Nomad::start(2).await;
    nomad.job("orders", |job| job.deployment = Some("running"));
    assert!(status(ENV, settings(&nomad)).await.expect("it can be read").status.rolling_out);
    let record = set(ENV, settings(&nomad), 5).await;
    assert_eq!(record["failures"][0]["kind"], "Locked", "{record}");
    assert_eq!((nomad.count(), nomad.wire.mutating().len()), (2, 4), "three times again within the tick");
    nomad.with(|state| state.refusals_to_end = Some(1));
    let record = set(ENV, settings(&nomad), 5).await;
    assert_eq!(record["outcome"], "changed", "{record}");
    assert_eq!((nomad.count(), nomad.wire.mutating().len()), (5, 6));
    assert_eq!(nomad.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn nomad_refuses_in_words_what_the_scaling_block_does_not_take() {
    let nomad = Nomad::start(3).await;
    nomad.job("orders", |job| job.put("/TaskGroups/0/Scaling", json!({ "Min": 2, "Max": 6, "Enabled": true })));
    for (count, words) in [(1, "another least, 2"), (7, "another most, 6")] {
        let record = set(ENV, settings(&nomad), count).await;
        assert_eq!(record["failures"][0]["kind"], "Refused", "{record}");
        assert!(record["failures"][0]["message"].as_str().is_some_and(|message| message.contains(words)), "{record}");
    }
    assert_eq!(nomad.count(), 3);
    assert_eq!(nomad.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn nomads_own_bounds_are_followed_where_the_settings_say_so() {
    let nomad = Nomad::start(3).await;
    nomad.job("orders", |job| {
        job.put("/Meta", json!({ "tidegate_max": "9", "tidegate_pause": "out" }));
        job.put("/TaskGroups/0/Scaling", json!({ "Min": 2, "Max": 20, "Enabled": false }));
    });
    let reading = status(ENV, settings(&nomad)).await.expect("it can be read");
    assert_eq!((reading.status.asked, reading.status.pause), (None, None));
    let reading = status(ENV, with(&nomad, json!({ "follow_labels": true }))).await.expect("it can be read");
    assert_eq!(json!(reading.status.asked), json!({ "min": 2, "max": 9 }));
    assert!(reading.status.pause.is_some());
    nomad.job("orders", |job| job.put("/Meta", json!({ "tidegate_max": "many" })));
    let error = status(ENV, with(&nomad, json!({ "follow_labels": true }))).await.expect_err("it cannot be read");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("tidegate_max"), "{error}");
    assert_eq!(nomad.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn every_error_of_nomad_has_its_kind_and_never_a_count() {
    let nomad = Nomad::start(3).await;
    for (answer, kind) in [
        ((400, "whatever"), ErrorKind::Refused),
        ((403, "Permission denied"), ErrorKind::Denied),
        ((404, "job not found"), ErrorKind::NotFound),
        ((405, "Invalid method"), ErrorKind::Refused),
        ((429, "Too Many Requests"), ErrorKind::Throttled),
        ((500, "No cluster leader"), ErrorKind::Unavailable),
        ((500, "Enforcing job modify index 3: job exists with conflicting job modify index: 4"), ErrorKind::Locked),
        ((503, ""), ErrorKind::Unavailable),
    ] {
        nomad.with(|state| state.answer = Some(answer));
        let error = status(ENV, settings(&nomad)).await.expect_err("there is no status");
        assert_eq!(error.kind(), kind, "{answer:?}: {error}");
    }
    nomad.with(|state| state.answer = None);
    for (changes, kind) in [
        (json!({ "job": "gone" }), ErrorKind::NotFound),
        (json!({ "group": "gone" }), ErrorKind::NotFound),
        (json!({ "namespace": "gone" }), ErrorKind::NotFound),
        (json!({ "region": "gone" }), ErrorKind::NotFound),
        (json!({ "token": "canary-of-somebody-else" }), ErrorKind::Denied),
    ] {
        let error = status(ENV, with(&nomad, changes.clone())).await.expect_err("there is no status");
        assert_eq!(error.kind(), kind, "{changes}: {error}");
    }
    nomad.job("orders", |job| job.put("/Type", json!("system")));
    assert_eq!(status(ENV, settings(&nomad)).await.expect_err("no count").kind(), ErrorKind::Refused);
    nomad.job("orders", |job| job.put("/Type", json!("service")));
    nomad.job("orders", |job| job.put("/Stop", json!(true)));
    assert_eq!(status(ENV, settings(&nomad)).await.expect_err("stopped").kind(), ErrorKind::Refused);
    assert_eq!(nomad.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_job_whose_name_has_a_slash_is_one_job() {
    let nomad = Nomad::start(3).await;
    nomad.add("team/orders?x", "workers", 1);
    let record = set(ENV, with(&nomad, json!({ "job": "team/orders?x", "region": "global" })), 4).await;
    assert_eq!(record["outcome"], "changed", "{record}");
    assert_eq!((nomad.count(), nomad.job("team/orders?x", |job| job.count())), (3, 4));
    assert_eq!(nomad.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn nomad_without_acls_is_sent_no_token() {
    let nomad = Nomad::without_acls(3).await;
    let mut settings = settings(&nomad);
    settings.as_object_mut().expect("an object").remove("token");
    let record = set(&[], settings, 4).await;
    assert_eq!(record["outcome"], "changed", "{record}");
    assert_eq!(nomad.count(), 4);
}

#[tokio::test]
async fn jobs_of_nomad_are_found_on_all_pages_by_name_and_group() {
    let nomad = Nomad::start(3).await;
    for number in 0..250 {
        nomad.add(&format!("web-{number:03}"), "web", 1);
    }
    nomad.job("web-001", |job| job.put("/Stop", json!(true)));
    nomad.job("web-002", |job| job.put("/Type", json!("system")));
    nomad.job("web-003", |job| job.put("/Periodic", json!({ "Enabled": true })));
    nomad.job("web-004", |job| job.put("/TaskGroups/0/Name", json!("other")));
    let found = discovered(with(&nomad, json!({ "job": "web-*", "group": "web" }))).await;
    assert_eq!(found.len(), 246);
    assert_eq!(found[0], without_type(with(&nomad, json!({ "job": "web-000", "group": "web" }))));
    assert!(found.is_sorted_by_key(|settings| settings["job"].as_str().map(str::to_owned)));
    let groups = discovered(with(&nomad, json!({ "job": "*", "group": "*er*" }))).await;
    let names: Vec<_> = groups.iter().map(|settings| (&settings["job"], &settings["group"])).collect();
    assert_eq!(names, [(&json!("orders"), &json!("workers")), (&json!("web-004"), &json!("other"))]);
    assert_eq!(nomad.wire.mutating(), []);
    assert_eq!(nomad.violations(), Vec::<String>::new());
}

fn without_type(mut settings: Value) -> Value {
    settings.as_object_mut().expect("an object").remove("type");
    settings
}

async fn discovered(settings: Value) -> Vec<Value> {
    let document = json!({
        "state": { "type": "memory" },
        "services": [{
            "name": "it", "target": settings, "sources": [{ "type": "command", "program": ["echo", "0"] }],
            "policies": [{ "type": "threshold" }],
        }],
    });
    let env = [("ALLOW_LOCAL_ADDRESSES", "true"), ("ALLOW_PLAIN_HTTP", "true"), ("NOMAD_TOKEN", TOKEN)];
    let mut vars: BTreeMap<String, String> = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    vars.insert("CONFIG".to_owned(), document.to_string());
    let input = Input { vars: &vars, event: &Value::Null, in_lambda: false, remote: None };
    let config = load(input).expect("a valid configuration");
    let shared = Shared::new(&config, Arc::new(vars.clone()), None).await;
    let target = config.services[0].target.build(&shared).expect("it can be built");
    target.discover().await.expect("it can list")
}
