//! Fly Machines: a fake of ours behind Prism with the description that Fly publishes.

mod fake;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use tidegate::config::load_target;
use tidegate::core::TargetStatus;
use tidegate::error::ErrorKind;
use tidegate::shared::Shared;

use self::fake::{Api, machine};
use crate::support::proxy::Fault;
use crate::support::target::{look_on_through, rehearse, set, status};

fn group<T: for<'de> Deserialize<'de>>(name: &str) -> Vec<T> {
    let mut vectors: Value = serde_json::from_str(include_str!("../vectors/fly.json")).expect("the vectors are JSON");
    serde_json::from_value(vectors[name]["rows"].take()).expect("the rows have this form")
}

async fn seen(api: &Api, more: Value) -> TargetStatus {
    status(&[], api.target(more)).await.expect("it can be read").status
}

fn counts(status: &TargetStatus) -> (u32, u32, u32) {
    (status.desired, status.running, status.pending)
}

/// What became of a tick: its outcome, the kind of the first failure and its message.
fn became(record: &Value) -> (&str, &str, &str) {
    let failure = &record["failures"][0];
    (
        record["outcome"].as_str().unwrap_or_default(),
        failure["kind"].as_str().unwrap_or_default(),
        failure["message"].as_str().unwrap_or_default(),
    )
}

#[derive(Debug, Deserialize)]
struct Row {
    machines: Vec<String>,
    #[serde(default)]
    min_created: Option<u32>,
    #[serde(default)]
    min_started: Option<u32>,
    action: String,
    #[serde(default)]
    fail: Vec<String>,
    #[serde(default)]
    n: usize,
    #[serde(default)]
    clone_of: String,
    #[serde(default)]
    ids: Vec<String>,
    #[serde(default)]
    tried: Vec<String>,
    #[serde(default)]
    ok: Value,
    #[serde(default)]
    failed: usize,
}

#[tokio::test]
async fn fly_reconcile_is_equal_to_the_machine() {
    let rows: Vec<Row> = group("fly_reconcile");
    assert_eq!(rows.len(), 5);
    let api = Api::start(&[]).await;
    for row in rows {
        let states: Vec<_> = row.machines.iter().map(|state| state.split('(').next().expect("a state")).collect();
        api.become_(&states);
        for (id, _) in (1..).zip(&row.machines).filter(|(_, state)| state.contains("host not ok")) {
            api.change(&id.to_string(), |machine| machine["host_status"] = json!("unreachable"));
        }
        api.change(if row.clone_of.is_empty() { "1" } else { &row.clone_of }, |machine| {
            machine["config"]["env"]["FIRST"] = json!("it is")
        });
        api.with(|state| state.stuck.extend(row.fail.iter().cloned()));
        let (mode, wanted) = match (row.min_created, row.min_started) {
            (Some(created), _) => ("create_destroy", created),
            (None, started) => ("start_stop", started.expect("a row is about one of them")),
        };
        let mut target = api.target(json!({ "mode": mode }));
        if row.action == "create" {
            // fly-autoscaler leaves alone what is off.
            target["initial_state"] = json!("stopped");
        }
        let record = set(&[], target, wanted).await;
        assert_eq!(record["outcome"], "changed", "{row:?}: {record}");
        let tried = match &row.ok {
            Value::Array(ok) => {
                ok.iter().filter_map(Value::as_str).map(str::to_owned).chain(row.fail.clone()).collect()
            }
            _ if row.ids.is_empty() => row.tried.clone(),
            _ => row.ids.clone(),
        };
        let mut expected: Vec<_> = match row.n {
            0 => tried.iter().map(|id| format!("{} {id}", row.action)).collect(),
            number => vec![row.action.clone(); number],
        };
        expected.sort();
        assert_eq!(api.steps(), expected, "{row:?}");
        assert!(row.ok.is_null() || expected.len() == row.failed + row.ok.as_u64().map_or(2, |ok| ok as usize));
        let copies = api
            .with(|state| state.machines.iter().filter(|machine| machine["config"]["env"]["FIRST"] == "it is").count());
        assert!(row.clone_of.is_empty() || copies == 1 + row.n, "{row:?}");
    }
    api.was_right();
}

#[tokio::test]
async fn fly_wildcard_finds_the_same_apps() {
    let rows: Vec<(String, String)> = group("fly_wildcard");
    let names = ["my-app", "my-app-", "my-app-2", "my-other-app", "my--app", "xmy-app", "my-appx", "orders"];
    let api = Api::start(&[]).await;
    api.with(|state| _ = state.apps.insert("personal", names.into_iter().rev().collect()));
    for (name, pattern) in rows {
        // The regular expressions of the rows have nothing in them but anchors and `.*`.
        let fits = |app: &&str| match pattern.trim_matches(['^', '$']).split_once(".*") {
            Some((before, after)) => {
                before.len() + after.len() <= app.len() && app.starts_with(before) && app.ends_with(after)
            }
            None => *app == &pattern[1..pattern.len() - 1],
        };
        let mut expected: Vec<_> = names.iter().copied().filter(|app| fits(app)).collect();
        expected.sort_unstable();
        // An app that has no name is written as `*` here.
        let app = if name.is_empty() { "*" } else { &name };
        let org = app.contains('*').then_some("personal");
        let mut settings = api.target(json!({ "app": app, "process_group": "worker" }));
        settings["org"] = json!(org);
        settings.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        let found = discover(settings.clone()).await;
        match org {
            None => assert_eq!((found.expect_err("it is one app"), expected), (ErrorKind::Refused, vec!["my-app"])),
            Some(_) => {
                let found = found.expect("they can be listed");
                let apps: Vec<_> = found.iter().map(|settings| settings["app"].as_str().expect("a name")).collect();
                assert_eq!(apps, expected, "{name}");
                for found in &found {
                    assert_eq!((&found["process_group"], found.get("org")), (&json!("worker"), None));
                    let mut complete = found.clone();
                    complete["type"] = json!("fly");
                    load_target(complete, "a test", &vars()).expect("they are complete");
                }
                let error = status(&[], settings).await.expect_err("which of them?");
                assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            }
        }
    }
    api.was_right();
}

fn vars() -> BTreeMap<String, String> {
    ["ALLOW_LOCAL_ADDRESSES", "ALLOW_PLAIN_HTTP"].map(|name| (name.to_owned(), "true".to_owned())).into()
}

async fn discover(settings: Value) -> Result<Vec<Value>, ErrorKind> {
    let (config, section, _) = load_target(settings, "a test", &vars()).expect("the settings are right");
    let shared = Shared::new(&config, Arc::new(vars()), None).await;
    section.build(&shared).expect("it can be built").discover().await.map_err(|error| error.kind())
}

#[tokio::test]
async fn machines_are_started_and_stopped_to_the_count() {
    let api = Api::start(&["started", "stopped", "stopped", "suspended"]).await;
    api.with(|state| {
        let mut other = machine("7", "started");
        other["config"]["metadata"]["fly_process_group"] = json!("web");
        state.machines.insert(0, other);
        state.machines[1]["config"]["metadata"] = json!({ "process_group": "app" });
    });
    assert_eq!(counts(&seen(&api, json!({})).await), (1, 1, 0));
    assert_eq!(set(&[], api.target(json!({})), 1).await["outcome"], "held");
    assert_eq!(api.steps(), [""; 0]);
    // fly-autoscaler's test of its pool: 0, 2, 4, 10, 0 with four machines.
    assert_eq!(set(&[], api.target(json!({})), 0).await["outcome"], "changed");
    assert_eq!(api.steps(), ["stop 1"]);
    assert_eq!(counts(&seen(&api, json!({})).await), (0, 0, 0));
    api.front.reset();
    assert_eq!(set(&[], api.target(json!({})), 2).await["outcome"], "changed");
    assert_eq!(api.steps(), ["start 1", "start 2"]);
    assert_eq!(counts(&seen(&api, json!({})).await), (2, 0, 2));
    assert_eq!(counts(&seen(&api, json!({})).await), (2, 2, 0));
    assert_eq!(set(&[], api.target(json!({})), 4).await["outcome"], "changed");
    let record = set(&[], api.target(json!({ "process_group": "app" })), 10).await;
    let (outcome, kind, message) = became(&record);
    assert_eq!((outcome, kind), ("failed", "Refused"));
    assert!(message.contains("0 of 6 started: no more machines are there"), "{message}");
    let later = json!({ "signal": "SIGTERM", "timeout_secs": 90, "order": "newest" });
    api.front.reset();
    assert_eq!(set(&[], api.target(later), 3).await["outcome"], "changed");
    assert_eq!(api.steps(), ["stop 4"]);
    let body = api.front.calls().into_iter().find(|call| call.method == "POST").expect("one was stopped").json();
    assert_eq!(body, json!({ "signal": "SIGTERM", "timeout": "90s" }));
    assert_eq!(counts(&seen(&api, json!({ "process_group": "web" })).await), (1, 1, 0));
    api.was_right();
}

#[tokio::test]
async fn machines_are_suspended_and_resumed() {
    let api = Api::start(&["started", "started", "stopped"]).await;
    let suspend = || api.target(json!({ "mode": "suspend" }));
    assert_eq!(set(&[], suspend(), 1).await["outcome"], "changed");
    assert_eq!(api.steps(), ["suspend 1"]);
    assert_eq!(counts(&seen(&api, json!({})).await), (1, 1, 0));
    api.front.reset();
    assert_eq!(set(&[], suspend(), 2).await["outcome"], "changed");
    assert_eq!(api.steps(), ["start 1"], "what was suspended is quicker");
    api.was_right();
}

#[tokio::test]
async fn machines_are_created_where_the_fewest_are_and_as_the_first_one_is() {
    let api = Api::start(&["started", "stopped"]).await;
    api.change("1", |machine| machine["config"]["standbys"] = json!(["2"]));
    let target = || {
        api.target(json!({ "mode": "create_destroy", "regions": ["fra", "ams", "lhr"], "initial_state": "stopped" }))
    };
    assert_eq!(counts(&status(&[], target()).await.expect("it can be read").status), (2, 1, 0));
    assert_eq!(set(&[], target(), 6).await["outcome"], "changed");
    let sent: Vec<_> =
        api.front.calls().into_iter().filter(|call| call.method == "POST").map(|call| call.json()).collect();
    let regions: Vec<_> = sent.iter().map(|body| body["region"].as_str().expect("a region")).collect();
    assert_eq!(regions, ["fra", "lhr", "fra", "lhr"], "two are in ams");
    let mut copy = machine("2", "stopped")["config"].clone();
    copy["image"] = json!("registry.fly.io/orders:v7@sha256:c0ffee");
    for body in &sent {
        assert_eq!(*body, json!({ "config": copy, "region": body["region"], "skip_launch": true }));
    }
    assert_eq!((api.count("stopped"), api.count("started")), (5, 1));
    api.change("2", |machine| machine["config"]["mounts"] = json!([{ "path": "/data", "volume": "vol_1" }]));
    api.front.reset();
    let record = set(&[], target(), 7).await;
    assert_eq!((became(&record).0, became(&record).1), ("failed", "Refused"), "{record}");
    assert!(became(&record).2.contains("has a volume"), "{record}");
    assert_eq!(api.steps(), [""; 0]);
    api.was_right();
}

#[tokio::test]
async fn the_last_machine_is_destroyed_only_where_that_is_asked_for() {
    let api = Api::start(&["started", "created", "stopped"]).await;
    let target = |more: Value| {
        let mut target = api.target(more);
        target["mode"] = json!("create_destroy");
        target
    };
    let record = set(&[], target(json!({})), 0).await;
    assert_eq!((became(&record).0, became(&record).1), ("failed", "Refused"), "{record}");
    assert!(became(&record).2.contains("the last machine stays"), "{record}");
    assert_eq!(api.steps(), ["destroy 2", "destroy 3"]);
    api.front.reset();
    assert_eq!(set(&[], target(json!({ "destroy_last": true, "kill": true })), 0).await["outcome"], "changed");
    assert_eq!(api.steps(), ["destroy 1"]);
    assert_eq!(
        counts(&status(&[], target(json!({ "destroy_last": true }))).await.expect("none is a number").status),
        (0, 0, 0)
    );
    let record = set(&[], target(json!({ "destroy_last": true })), 1).await;
    assert!(became(&record).2.contains("no machine is left that could be copied"), "{record}");
    let error = status(&[], target(json!({}))).await.expect_err("none is there");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    api.was_right();
}

#[tokio::test]
async fn a_machine_that_runs_stops_in_its_own_time_before_it_is_destroyed() {
    let api = Api::start(&["started", "started"]).await;
    let target = || api.target(json!({ "mode": "create_destroy", "timeout_secs": 30 }));
    assert_eq!(set(&[], target(), 1).await["outcome"], "changed");
    assert_eq!(api.steps(), ["destroy 1", "stop 1"]);
    api.become_(&["started", "started"]);
    api.with(|state| state.slowness = 1000);
    let record = set(&[], target(), 1).await;
    assert_eq!(
        (became(&record).0, became(&record).1),
        ("failed", "Unavailable"),
        "it is no longer as it was: {record}"
    );
    assert_eq!(api.steps(), ["stop 1"], "it is asked once, and nothing takes its place");
    api.with(|state| state.slowness = 0);
    assert_eq!(set(&[], target(), 1).await["outcome"], "changed");
    assert_eq!(api.steps(), ["destroy 1", "stop 1"]);
    api.was_right();
}

#[tokio::test]
async fn a_create_that_fails_ends_the_tick() {
    let api = Api::start(&["started"]).await;
    api.with(|state| state.room = Some(2));
    let record = set(&[], api.target(json!({ "mode": "create_destroy" })), 6).await;
    assert_eq!((became(&record).0, became(&record).1), ("failed", "Throttled"), "{record}");
    assert!(became(&record).2.contains("2 of 5 created"), "{record}");
    assert_eq!(api.steps(), ["create", "create", "create"]);
    api.with(|state| state.room = None);
    assert_eq!(set(&[], api.target(json!({ "mode": "create_destroy" })), 6).await["outcome"], "changed");
    assert_eq!(api.steps().len(), 6, "the next tick goes on");
    api.was_right();
}

#[tokio::test]
async fn every_machine_is_counted_over_all_pages() {
    let api = Api::start(&["started"; 120]).await;
    assert_eq!(seen(&api, json!({})).await.desired, 120);
    assert_eq!(api.front.calls().len(), 3);
    api.was_right();
}

#[tokio::test]
async fn each_error_of_fly_has_its_kind() {
    let api = Api::start(&["started", "stopped"]).await;
    let kind = |result: Result<_, tidegate::error::Error>| {
        result.map(|_: tidegate::cli::TargetReading| ()).map_err(|error| error.kind())
    };
    for (more, expected) in [
        (json!({ "app": "other" }), Err(ErrorKind::NotFound)),
        (json!({ "process_group": "other" }), Err(ErrorKind::NotFound)),
        (json!({ "token": "canary-wrong" }), Err(ErrorKind::Denied)),
        (json!({ "token": "FlyV1 canary-token" }), Ok(())),
    ] {
        assert_eq!(kind(status(&[], api.target(more.clone())).await), expected, "{more}");
    }
    for (code, reading, setting) in [
        (400, "Refused", "Refused"),
        (401, "Denied", "Denied"),
        (403, "Denied", "Denied"),
        (404, "NotFound", "NotFound"),
        (408, "Timeout", "Timeout"),
        (409, "Locked", "Locked"),
        (412, "Locked", "Locked"),
        (422, "Refused", "Refused"),
        (429, "Throttled", "Throttled"),
        (500, "Unavailable", "Unavailable"),
        (503, "Unavailable", "Unavailable"),
    ] {
        let fault = || Fault::Status { status: code, headers: Vec::new(), body: r#"{"error":"canary"}"#.to_owned() };
        api.front.fail("*", 1, fault());
        let error = status(&[], api.target(json!({}))).await.expect_err("it is refused");
        assert_eq!(error.kind().name(), reading, "{code}: {error}");
        api.front.fail_about("*", "/start", 4, fault());
        let record = set(&[], api.target(json!({})), 2).await;
        assert_eq!((became(&record).0, became(&record).1), ("failed", setting), "{code}: {record}");
        api.front.reset();
    }
    api.was_right();
}

#[tokio::test]
async fn a_lost_reply_of_fly_makes_no_second_step() {
    let api = Api::start(&[]).await;
    for (mode, states, wanted, about, steps) in [
        ("start_stop", &["stopped", "stopped"][..], 1, "/start", &["start 1"][..]),
        ("start_stop", &["started", "started"], 1, "/stop", &["stop 1"]),
        ("suspend", &["started", "started"], 1, "/suspend", &["suspend 1"]),
        ("create_destroy", &["stopped", "stopped"], 1, "/machines/1", &["destroy 1"]),
    ] {
        api.become_(states);
        api.front.fail_about("*", about, 1, Fault::DropReply);
        let target = || api.target(json!({ "mode": mode }));
        assert_eq!(set(&[], target(), wanted).await["outcome"], "changed", "{about}: it is looked for");
        assert_eq!(set(&[], target(), wanted).await["outcome"], "held", "{about}");
        assert_eq!(api.steps(), steps);
    }
    // What was created has no name that it could be looked for by: the next tick counts it.
    api.become_(&["started"]);
    api.front.fail_about("*", "skip_launch", 1, Fault::DropReply);
    let target = || api.target(json!({ "mode": "create_destroy" }));
    let record = set(&[], target(), 3).await;
    assert_eq!((became(&record).0, became(&record).1), ("failed", "Unavailable"), "{record}");
    assert_eq!(api.steps(), ["create"]);
    assert_eq!(set(&[], target(), 3).await["outcome"], "changed");
    assert_eq!(api.steps(), ["create", "create"]);
    api.was_right();
}

#[tokio::test]
async fn nothing_more_is_tried_where_nobody_knows_what_became_of_a_machine() {
    let api = Api::start(&["stopped", "stopped", "stopped"]).await;
    api.front.fail_about("*", "/machines/1", 2, Fault::DropReply);
    let record = set(&[], api.target(json!({})), 1).await;
    assert_eq!((became(&record).0, became(&record).1), ("failed", "Unavailable"), "{record}");
    assert_eq!(api.steps(), ["start 1"]);
    api.was_right();
}

#[tokio::test]
async fn a_machine_that_is_shown_late_is_started_once_and_no_other_in_its_place() {
    let api = Api::start(&["stopped", "stopped"]).await;
    api.with(|state| state.lags = 1);
    api.front.fail_about("*", "/start", 1, Fault::DropReply);
    let record = set(&[], api.target(json!({})), 1).await;
    assert_eq!((became(&record).0, became(&record).1), ("failed", "Unavailable"), "{record}");
    assert_eq!(api.steps(), ["start 1"]);
    assert_eq!(set(&[], api.target(json!({})), 1).await["outcome"], "held");
    api.was_right();
}

#[tokio::test]
async fn nothing_is_locked_once_a_machine_was_changed() {
    let api = Api::start(&[]).await;
    for (mode, states, wanted, steps) in [
        ("start_stop", &["stopped", "stopped"][..], 2, ["start 1", "start 2"]),
        ("start_stop", &["started", "started"], 0, ["stop 1", "stop 2"]),
        ("create_destroy", &["stopped", "stopped", "stopped"], 1, ["destroy 1", "destroy 2"]),
    ] {
        api.become_(states);
        api.with(|state| _ = state.stuck.insert("2".to_owned()));
        let record = set(&[], api.target(json!({ "mode": mode })), wanted).await;
        assert_eq!((became(&record).0, became(&record).1), ("failed", "Unavailable"), "{mode}: {record}");
        assert_eq!(api.steps(), steps, "{mode}: {record}");
    }
    api.was_right();
}

#[tokio::test]
async fn machines_that_are_off_are_started_before_others_are_created() {
    let api = Api::start(&["started", "stopped", "suspended", "stopped"]).await;
    api.change("4", |machine| machine["config"]["standbys"] = json!(["1"]));
    let target = |more: Value| {
        let mut target = api.target(more);
        target["mode"] = json!("create_destroy");
        target
    };
    let found = status(&[], target(json!({}))).await.expect("it can be read").status;
    assert_eq!(counts(&found), (4, 1, 0));
    assert!(matches!(&found.warnings[..], [one] if one.starts_with("2 machines that are off")), "{:?}", found.warnings);
    let left = status(&[], target(json!({ "initial_state": "stopped" }))).await.expect("it can be read").status;
    assert_eq!(left.warnings, [""; 0], "somebody else starts them");
    api.with(|state| _ = state.stuck.insert("2".to_owned()));
    assert_eq!(set(&[], target(json!({})), 5).await["outcome"], "changed");
    assert_eq!(
        api.steps(),
        ["create", "start 2", "start 3"],
        "one that cannot be started keeps nothing from being created"
    );
    api.was_right();
}

#[tokio::test]
async fn a_release_under_way_is_seen_in_leases_and_states() {
    let api = Api::start(&["started", "replacing"]).await;
    let lease =
        json!({ "owner": "canary@tokens.fly.io", "expires_at": 4_000_000_000_u64, "description": "deployment" });
    let released = seen(&api, json!({})).await;
    assert_eq!((counts(&released), released.rolling_out), ((2, 1, 1), true));
    api.become_(&["started", "stopped"]);
    api.change("2", |machine| machine["lease"] = lease);
    assert!(seen(&api, json!({})).await.rolling_out);
    for mode in ["create_destroy", "start_stop"] {
        let record = set(&[], api.target(json!({ "mode": mode })), 3).await;
        assert_eq!((became(&record).0, became(&record).1), ("failed", "Locked"), "{mode}: {record}");
        assert_eq!(api.steps(), [""; 0], "{mode}");
    }
    api.was_right();
}

#[tokio::test]
async fn a_rehearsal_asks_fly_for_nothing_but_its_machines() {
    let api = Api::start(&["started", "stopped", "stopped"]).await;
    for (mode, wanted) in
        [("start_stop", 3), ("start_stop", 0), ("suspend", 0), ("create_destroy", 9), ("create_destroy", 1)]
    {
        let record = rehearse(&[], api.target(json!({ "mode": mode })), wanted).await;
        assert_eq!(
            (&record["outcome"], &record["would_have"]["desired"]),
            (&json!("dry_run"), &json!(wanted)),
            "{mode}"
        );
    }
    assert_eq!(api.steps(), [""; 0]);
    api.was_right();
}

#[tokio::test]
async fn a_rehearsal_beside_others_asks_fly_for_nothing_but_its_machines() {
    let api = Api::start(&[]).await;
    for mode in ["start_stop", "suspend", "create_destroy"] {
        let machines = |count| (1..=count).map(|id: u32| machine(&id.to_string(), "started")).collect();
        let others = async |count| api.with(|state| state.machines = machines(count));
        look_on_through(&api.front, &[], api.target(json!({ "mode": mode })), others).await;
    }
    api.was_right();
}
