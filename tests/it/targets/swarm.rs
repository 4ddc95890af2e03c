//! The swarm target on real Docker Engines.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::Method;
use serde_json::{Value, json};
use tidegate::adapter::find;
use tidegate::config::{Input, load};
use tidegate::core::Asked;
use tidegate::error::ErrorKind;
use tidegate::shared::Shared;
use tidegate::targets::TABLE;

use super::engine::{Engine, IMAGE, Relay, Trick, WORKS, Work, until};
use crate::support::target::{look_on, rehearse, set, status};

fn settings(host: &str, service: &str) -> Value {
    json!({ "type": "swarm", "host": host, "service": service })
}

/// A service's specification, with much that is none of our business.
fn spec(name: &str, replicas: u32, labels: Value) -> Value {
    json!({
        "Name": name, "Labels": labels, "Mode": { "Replicated": { "Replicas": replicas } },
        "TaskTemplate": {
            "ContainerSpec": { "Image": IMAGE, "Command": WORKS, "Env": ["A=b"], "StopGracePeriod": 1_000_000_000_u64,
                "Labels": { "inner": "label" }, "Init": false },
            "RestartPolicy": { "Condition": "any", "Delay": 50_000_000 },
            "Placement": { "Preferences": [{ "Spread": { "SpreadDescriptor": "node.labels.rack" } }] },
            "ForceUpdate": 0,
        },
        "UpdateConfig": { "Parallelism": 1, "Delay": 1, "FailureAction": "pause", "Monitor": 500_000_000,
            "MaxFailureRatio": 0.1, "Order": "stop-first" },
        "EndpointSpec": { "Mode": "dnsrr" },
    })
}

async fn create(engine: &Engine, spec: Value) -> String {
    engine.post("/services/create", spec).await["ID"].as_str().expect("it has an ID").to_owned()
}

async fn inspect(engine: &Engine, name: &str) -> Value {
    engine.get(&format!("/services/{name}")).await
}

/// The tasks of a service that run.
async fn tasks(engine: &Engine, name: &str) -> Vec<String> {
    let all = engine.get("/tasks").await;
    let id = inspect(engine, name).await["ID"].clone();
    let its = all.as_array().expect("a list").iter().filter(|task| task["ServiceID"] == id);
    let running = its.filter(|task| task["Status"]["State"] == "running" && task["DesiredState"] == "running");
    let mut running: Vec<_> = running.map(|task| task["ID"].as_str().expect("it has an ID").to_owned()).collect();
    running.sort_unstable();
    running
}

async fn run(engine: &Engine, name: &str, count: usize) -> Vec<String> {
    until(&format!("{count} tasks of {name} run"), async || {
        let running = tasks(engine, name).await;
        (running.len() == count).then_some(running)
    })
    .await
}

#[track_caller]
fn is(record: &Value, outcome: &str) {
    assert_eq!(record["outcome"], outcome, "{record:#}");
}

#[tokio::test]
async fn replicas_are_set_and_nothing_else() {
    let engine = Engine::swarm().await;
    create(&engine, spec("orders", 1, json!({ "team": "blue" }))).await;
    let first = run(&engine, "orders", 1).await;
    let before = inspect(&engine, "orders").await;
    let settings = settings(&engine.host(), "orders");
    is(&set(&[], settings.clone(), 3).await, "changed");
    let three = run(&engine, "orders", 3).await;
    assert!(three.contains(&first[0]), "the task that ran runs on: no rollout");
    let mut after = inspect(&engine, "orders").await;
    assert_eq!(after["Spec"]["Mode"]["Replicated"]["Replicas"], 3);
    assert_eq!(after["UpdateStatus"], Value::Null);
    after["Spec"]["Mode"]["Replicated"]["Replicas"] = json!(1);
    assert_eq!(after["Spec"], before["Spec"]);
    let reading = status(&[], settings.clone()).await.expect("it can be read").status;
    assert_eq!((reading.desired, reading.running, reading.pending, reading.rolling_out), (3, 3, 0, false));
    let version = after["Version"]["Index"].clone();
    is(&set(&[], settings.clone(), 3).await, "held");
    assert_eq!(inspect(&engine, "orders").await["Version"]["Index"], version, "the same count changes nothing");
    is(&set(&[], settings.clone(), 0).await, "changed");
    run(&engine, "orders", 0).await;
    until("no container is left", async || engine.running().await.is_empty().then_some(())).await;
    // A manager hears of a task's end from its node, a moment later.
    until("no task is counted", async || {
        let reading = status(&[], settings.clone()).await.expect("it can be read").status;
        assert_eq!(reading.desired, 0);
        (reading.running == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_binary_scales_a_service_by_a_redis_list_within_its_labels() {
    let (engine, work) = (Engine::swarm().await, Work::start().await);
    create(&engine, spec("orders", 1, json!({ "com.df.scaleMin": "1", "com.df.scaleMax": "3" }))).await;
    create(&engine, spec("other", 1, json!({}))).await;
    let (_, other) = (run(&engine, "orders", 1).await, run(&engine, "other", 1).await);
    let mut settings = settings(&engine.host(), "orders");
    settings["follow_labels"] = json!(true);
    let reading = status(&[], settings.clone()).await.expect("it can be read").status;
    assert_eq!(reading.asked, Some(Asked { min: Some(1), max: Some(3) }));
    work.waits(9);
    is(&work.invoke(&settings).await, "changed");
    run(&engine, "orders", 3).await;
    assert_eq!(
        inspect(&engine, "orders").await["Spec"]["Mode"]["Replicated"]["Replicas"],
        3,
        "its label asks for no more"
    );
    work.waits(0);
    until("one replica", async || {
        work.invoke(&settings).await;
        let replicas = inspect(&engine, "orders").await["Spec"]["Mode"]["Replicated"]["Replicas"].clone();
        (replicas == 1).then_some(())
    })
    .await;
    run(&engine, "orders", 1).await;
    assert_eq!(tasks(&engine, "other").await, other, "another service is left alone");
}

#[tokio::test]
async fn a_service_without_a_count_is_refused_and_one_that_is_not_there_is_named() {
    let engine = Engine::swarm().await;
    let mode = |name: &str, mode: Value| {
        let mut spec = spec(name, 1, json!({}));
        spec["Mode"] = mode;
        let object = spec.as_object_mut().expect("an object");
        object.remove("UpdateConfig");
        object["TaskTemplate"].as_object_mut().expect("an object").remove("RestartPolicy");
        spec
    };
    create(&engine, mode("everywhere", json!({ "Global": {} }))).await;
    create(&engine, mode("once", json!({ "ReplicatedJob": { "MaxConcurrent": 1, "TotalCompletions": 1 } }))).await;
    for (name, kind, words) in [
        ("everywhere", ErrorKind::Refused, "global service"),
        ("once", ErrorKind::Refused, "a job"),
        ("absent", ErrorKind::NotFound, "no service of this name"),
        ("every", ErrorKind::NotFound, "no service of this name"),
    ] {
        let error = status(&[], settings(&engine.host(), name)).await.expect_err(name);
        assert!(error.kind() == kind && error.to_string().contains(words), "{name}: {error}");
        let record = set(&[], settings(&engine.host(), name), 2).await;
        is(&record, "failed");
    }
}

#[tokio::test]
async fn an_engine_without_a_swarm_says_so() {
    let engine = Engine::start(&[]).await;
    let error = status(&[], settings(&engine.host(), "orders")).await.expect_err("it is no manager");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("give a manager's host"), "{error}");
}

#[tokio::test]
async fn an_update_that_comes_too_late_is_made_again_over_the_other() {
    let engine = Engine::swarm().await;
    let relay = Relay::before(&engine);
    let id = create(&engine, spec("orders", 1, json!({}))).await;
    let version = inspect(&engine, "orders").await["Version"]["Index"].clone();
    // Somebody labels the service between our look and our update.
    let labelled = spec("orders", 1, json!({ "owner": "somebody" }));
    relay.plays("/update?", Trick::After(format!("/services/{id}/update?version={version}"), labelled));
    let record = set(&[], settings(relay.host(), "orders"), 3).await;
    is(&record, "changed");
    let updates = relay.mutations();
    assert_eq!(updates.len(), 2, "the first was out of sequence: {updates:?}");
    let after = inspect(&engine, "orders").await;
    assert_eq!(after["Spec"]["Labels"]["owner"], "somebody", "the other's update is not undone");
    assert_eq!(after["Spec"]["Mode"]["Replicated"]["Replicas"], 3);
}

#[tokio::test]
async fn an_update_whose_reply_is_lost_is_recognized() {
    let engine = Engine::swarm().await;
    let relay = Relay::before(&engine);
    create(&engine, spec("orders", 1, json!({}))).await;
    let settings = settings(relay.host(), "orders");
    relay.plays("/update?", Trick::Lose);
    is(&set(&[], settings.clone(), 3).await, "failed");
    let version = inspect(&engine, "orders").await["Version"]["Index"].clone();
    is(&set(&[], settings, 3).await, "held");
    assert_eq!(relay.mutations().len(), 1, "it was sent once");
    assert_eq!(inspect(&engine, "orders").await["Version"]["Index"], version);
    run(&engine, "orders", 3).await;
}

#[tokio::test]
async fn a_dry_run_asks_the_swarm_to_change_nothing() {
    let engine = Engine::swarm().await;
    let relay = Relay::before(&engine);
    create(&engine, spec("orders", 1, json!({}))).await;
    let version = inspect(&engine, "orders").await["Version"]["Index"].clone();
    is(&rehearse(&[], settings(relay.host(), "orders"), 3).await, "dry_run");
    assert!(0 < relay.requests());
    assert_eq!(relay.mutations(), Vec::<String>::new());
    assert_eq!(inspect(&engine, "orders").await["Version"]["Index"], version);
}

#[tokio::test]
async fn a_rehearsal_beside_others_asks_the_swarm_to_change_nothing() {
    let engine = Engine::swarm().await;
    let relay = Relay::before(&engine);
    create(&engine, spec("orders", 1, json!({}))).await;
    let others = async |count| _ = set(&[], settings(&engine.host(), "orders"), count).await;
    look_on(&[], settings(relay.host(), "orders"), others).await;
    assert!(0 < relay.requests());
    assert_eq!(relay.mutations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_rollout_that_has_failed_is_not_resumed() {
    let engine = Engine::swarm().await;
    let id = create(&engine, spec("orders", 2, json!({}))).await;
    run(&engine, "orders", 2).await;
    let mut broken = spec("orders", 2, json!({}));
    broken["TaskTemplate"]["ContainerSpec"]["Command"] = json!(["/absent"]);
    let version = inspect(&engine, "orders").await["Version"]["Index"].clone();
    engine.post(&format!("/services/{id}/update?version={version}"), broken).await;
    let settings = settings(&engine.host(), "orders");
    until("the update is paused", async || {
        let state = inspect(&engine, "orders").await["UpdateStatus"]["State"].clone();
        let reading = status(&[], settings.clone()).await.expect("it can be read").status;
        // An update has no state before the engine has begun with it.
        assert!(state.is_null() || reading.rolling_out, "{state}");
        (state == "paused").then_some(())
    })
    .await;
    let reading = status(&[], settings.clone()).await.expect("it can be read").status;
    assert!(reading.warnings[0].contains("paused"), "{:?}", reading.warnings);
    let record = set(&[], settings, 3).await;
    is(&record, "failed");
    assert!(record.to_string().contains("would resume it"), "{record:#}");
    let after = inspect(&engine, "orders").await;
    assert_eq!(after["UpdateStatus"]["State"], "paused");
    assert_eq!(after["Spec"]["Mode"]["Replicated"]["Replicas"], 2);
}

#[tokio::test]
async fn services_with_a_label_are_found_also_later_ones() {
    let engine = Engine::swarm().await;
    let found = async |service: &str, more: Value| {
        let mut settings = settings(&engine.host(), service);
        settings.as_object_mut().expect("an object").remove("type");
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let vars: BTreeMap<String, String> = BTreeMap::new();
        let config = load(Input { vars: &config_vars(), event: &Value::Null, in_lambda: false, remote: None });
        let config = config.expect("it is valid");
        let shared = Shared::new(&config, Arc::new(vars), None).await;
        let kind = find(TABLE, "swarm").expect("it is built");
        (kind.build)(&settings, &shared).expect("settings are valid").discover().await.expect("they can be listed")
    };
    let notify = json!({ "com.df.notify": "true" });
    create(&engine, spec("web-b", 1, notify.clone())).await;
    create(&engine, spec("web-a", 0, notify.clone())).await;
    create(&engine, spec("job", 1, notify.clone())).await;
    create(&engine, spec("web-c", 1, json!({}))).await;
    let mut global = spec("web-d", 1, notify.clone());
    global["Mode"] = json!({ "Global": {} });
    create(&engine, global).await;
    let host = engine.host();
    let named = |name: &str| json!({ "host": host, "service": name, "follow_labels": true });
    let label = json!({ "label": "com.df.notify=true", "follow_labels": true });
    assert_eq!(found("web-*", label.clone()).await, [named("web-a"), named("web-b")]);
    assert_eq!(found("*", label.clone()).await, [named("job"), named("web-a"), named("web-b")]);
    create(&engine, spec("api", 1, notify)).await;
    assert_eq!(found("*", label).await.len(), 4);
    let (status, _) = engine.api(Method::DELETE, "/services/api", Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(found("*", json!({})).await.len(), 4);
}

fn config_vars() -> BTreeMap<String, String> {
    let config = json!({
        "state": { "type": "memory" },
        "services": [{
            "name": "it", "target": { "type": "swarm", "service": "it" },
            "sources": [{ "type": "command", "program": ["echo", "0"] }], "policies": [{ "type": "threshold" }],
        }],
    });
    BTreeMap::from([("CONFIG".to_owned(), config.to_string())])
}
