//! The docker target on real Docker Engines.

use hyper::Method;
use serde_json::{Value, json};
use tidegate::core::{Asked, Held, Pause};
use tidegate::error::ErrorKind;

use super::engine::{Engine, IMAGE, Relay, Trick, WORKS, Work, certificate, until};
use crate::support::http::CA;
use crate::support::target::{look_on, rehearse, set, status};

fn settings(host: &str, more: Value) -> Value {
    let mut settings = json!({
        "type": "docker", "host": host, "service": "orders", "image": IMAGE, "command": WORKS, "network": "none",
        "pull": "never", "stop_grace_secs": 5,
    });
    settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    settings
}

async fn counts(settings: &Value) -> (u32, u32, u32) {
    let status = status(&[], settings.clone()).await.expect("it can be read").status;
    (status.desired, status.running, status.pending)
}

/// Ticks until there are this many containers, whatever their state.
async fn leaves(engine: &Engine, settings: &Value, count: u32) {
    until("what was told to stop is gone", async || {
        set(&[], settings.clone(), count).await;
        (engine.containers().await.len() == count as usize).then_some(())
    })
    .await;
}

/// The name of the only container.
async fn name(engine: &Engine) -> String {
    let only = engine.containers().await.pop().expect("there is one");
    only["Names"][0].as_str().expect("it has a name").trim_start_matches('/').to_owned()
}

#[track_caller]
fn is(record: &Value, outcome: &str) {
    assert_eq!(record["outcome"], outcome, "{record:#}");
}

#[tokio::test]
async fn containers_are_started_and_stopped_until_there_are_as_many_as_asked_for() {
    let engine = Engine::start(&[]).await;
    let settings = settings(&engine.host(), json!({}));
    assert_eq!(counts(&settings).await, (0, 0, 0));
    is(&set(&[], settings.clone(), 3).await, "changed");
    let three = engine.running().await;
    assert_eq!(three.len(), 3, "they really run");
    assert_eq!(counts(&settings).await, (3, 3, 0));
    is(&set(&[], settings.clone(), 3).await, "held");
    assert_eq!(engine.running().await, three, "the same count changes nothing");
    is(&set(&[], settings.clone(), 4).await, "changed");
    let four = engine.running().await;
    assert_eq!(four[..3], three[..], "those that were there stay");
    // Which of two is newer is told in seconds, so that the first three may be of one age.
    is(&set(&[], settings.clone(), 3).await, "changed");
    is(&set(&[], settings.clone(), 0).await, "changed");
    assert_eq!(counts(&settings).await, (0, 0, 0), "what was told to stop counts nowhere");
    leaves(&engine, &settings, 0).await;
}

#[tokio::test]
async fn the_newest_containers_go_first() {
    let engine = Engine::start(&[]).await;
    let settings = settings(&engine.host(), json!({}));
    set(&[], settings.clone(), 2).await;
    let two = engine.running().await;
    let age = engine.containers().await.iter().filter_map(|container| container["Created"].as_i64()).max();
    until("the next second", async || {
        let now = engine.get("/info").await["SystemTime"].as_str()?.parse::<jiff::Timestamp>().ok()?;
        (age.expect("there are containers") < now.as_second()).then_some(())
    })
    .await;
    set(&[], settings.clone(), 4).await;
    is(&set(&[], settings.clone(), 2).await, "changed");
    leaves(&engine, &settings, 2).await;
    assert_eq!(engine.running().await, two);
}

#[tokio::test]
async fn the_binary_scales_containers_by_a_redis_list_within_the_images_labels() {
    let labels = ["com.microscaling.min-containers=1", "com.microscaling.max-containers=3"];
    let (engine, work) = (Engine::start(&labels).await, Work::start().await);
    let settings = settings(&engine.host(), json!({ "follow_labels": true }));
    let reading = status(&[], settings.clone()).await.expect("it can be read").status;
    assert_eq!(reading.asked, Some(Asked { min: Some(1), max: Some(3) }));
    work.waits(2);
    let record = work.invoke(&settings).await;
    is(&record, "changed");
    assert_eq!(engine.running().await.len(), 2, "{record:#}");
    work.waits(9);
    let record = work.invoke(&settings).await;
    assert_eq!(engine.running().await.len(), 3, "the image asks for no more: {record:#}");
    work.waits(0);
    until("one container", async || {
        work.invoke(&settings).await;
        (engine.containers().await.len() == 1).then_some(())
    })
    .await;
    assert_eq!(counts(&settings).await.0, 1, "the image asks for no fewer");
}

#[tokio::test]
async fn labels_of_the_settings_come_before_the_images() {
    let engine = Engine::start(&["tidegate.max=3", "tidegate.pause=out"]).await;
    let read = async |more| status(&[], settings(&engine.host(), more)).await.map(|reading| reading.status);
    let followed = json!({ "follow_labels": true, "labels": { "tidegate.max": "7", "tidegate.min": "2" } });
    let reading = read(followed).await.expect("it can be read");
    assert_eq!(reading.asked, Some(Asked { min: Some(2), max: Some(7) }));
    assert_eq!(reading.pause, Some(Pause::Hold(Held::Out)));
    let reading = read(json!({})).await.expect("it can be read");
    assert_eq!((reading.asked, reading.pause), (None, None));
    let error =
        read(json!({ "follow_labels": true, "labels": { "tidegate.max": "many" } })).await.expect_err("no number");
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("tidegate.max"), "{error}");
    let error =
        read(json!({ "follow_labels": true, "image": "it/absent:1" })).await.expect_err("its labels are unknown");
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("follow_labels"), "{error}");
}

#[tokio::test]
async fn another_owners_containers_are_untouched() {
    let engine = Engine::start(&[]).await;
    let settings = settings(&engine.host(), json!({}));
    set(&[], settings.clone(), 1).await;
    let mine = engine.running().await.pop().expect("there is one");
    // A commit of a container of ours has its labels, and who runs it inherits them.
    engine.post(&format!("/commit?container={mine}&repo=it/commit&tag=1"), json!({})).await;
    let bills = json!({ "service": "bills" });
    let others = [
        engine.somebodys("plain", IMAGE, json!({})).await,
        engine.somebodys("orders-9", IMAGE, json!({ "tidegate.service": "orders" })).await,
        engine.somebodys("committed", "it/commit:1", json!({})).await,
        engine.somebodys("microscaled", IMAGE, json!({ "com.microscaling.microscaling-in-a-box": "orders" })).await,
    ];
    let mut settings_of_bills = settings.clone();
    settings_of_bills.as_object_mut().expect("an object").extend(bills.as_object().expect("an object").clone());
    set(&[], settings_of_bills.clone(), 1).await;
    let reading = status(&[], settings.clone()).await.expect("it can be read").status;
    assert_eq!((reading.desired, reading.running), (1, 1));
    assert_eq!(reading.warnings.len(), 2, "{:?}", reading.warnings);
    set(&[], settings.clone(), 3).await;
    is(&set(&[], settings.clone(), 0).await, "changed");
    let left = until("ours are gone", async || {
        set(&[], settings.clone(), 0).await;
        let left = engine.running().await;
        (left.len() == others.len() + 1).then_some(left)
    })
    .await;
    assert!(others.iter().all(|id| left.contains(id)), "{left:?}");
    assert_eq!(counts(&settings_of_bills).await, (1, 1, 0));
}

#[tokio::test]
async fn a_dry_run_asks_the_engine_to_change_nothing() {
    let engine = Engine::start(&[]).await;
    let relay = Relay::before(&engine);
    let settings = settings(relay.host(), json!({ "follow_labels": true, "busy_file": "/tmp/busy" }));
    is(&rehearse(&[], settings.clone(), 3).await, "dry_run");
    assert!(0 < relay.requests());
    assert_eq!(relay.mutations(), Vec::<String>::new());
    set(&[], settings.clone(), 2).await;
    let made = relay.mutations();
    assert_eq!(made.len(), 4, "{made:?}");
    is(&rehearse(&[], settings, 0).await, "dry_run");
    assert_eq!(relay.mutations(), made);
    assert_eq!(engine.running().await.len(), 2);
}

#[tokio::test]
async fn a_rehearsal_beside_others_asks_the_engine_to_change_nothing() {
    let engine = Engine::start(&[]).await;
    let relay = Relay::before(&engine);
    let others = async |count| {
        set(&[], settings(&engine.host(), json!({})), count).await;
        // Those that have ended are to be removed by the next tick, and not by one that only looks on.
        until("the others have ended", async || (engine.running().await.len() == count as usize).then_some(())).await;
    };
    let settings = settings(relay.host(), json!({ "follow_labels": true, "busy_file": "/tmp/busy" }));
    look_on(&[], settings, others).await;
    assert!(0 < relay.requests());
    assert_eq!(relay.mutations(), Vec::<String>::new());
    assert_eq!(engine.containers().await.len(), 5);
}

#[tokio::test]
async fn a_start_whose_reply_is_lost_is_not_made_twice() {
    let engine = Engine::start(&[]).await;
    let relay = Relay::before(&engine);
    let settings = settings(relay.host(), json!({}));
    relay.plays("/start", Trick::Lose);
    let record = set(&[], settings.clone(), 3).await;
    is(&record, "failed");
    assert!(record.to_string().contains("2 of 3 started"), "{record:#}");
    assert_eq!(engine.running().await.len(), 3, "the engine did it");
    is(&set(&[], settings.clone(), 3).await, "held");
    // A container whose making was not answered never starts. Until that is sure it counts; then the next change removes it.
    relay.plays("/containers/create", Trick::Lose);
    is(&set(&[], settings.clone(), 5).await, "failed");
    assert_eq!(counts(&settings).await, (5, 4, 1));
    until("it is sure", async || (counts(&settings).await == (4, 4, 0)).then_some(())).await;
    assert_eq!(engine.containers().await.len(), 5);
    is(&set(&[], settings.clone(), 5).await, "changed");
    assert_eq!((engine.running().await.len(), engine.containers().await.len()), (5, 5));
    relay.plays("/kill", Trick::Lose);
    is(&set(&[], settings.clone(), 2).await, "failed");
    assert_eq!(counts(&settings).await.0, 2);
    leaves(&engine, &settings, 2).await;
    assert_eq!(counts(&settings).await, (2, 2, 0), "none was stopped in place of the one whose reply was lost");
}

#[tokio::test]
async fn of_two_that_start_containers_at_once_the_engine_lets_one() {
    let engine = Engine::start(&[]).await;
    let relay = Relay::before(&engine);
    let settings = settings(relay.host(), json!({}));
    let labels = json!({ "tidegate.service": "orders", "tidegate.id": "1" });
    let made = json!({ "Image": IMAGE, "Cmd": WORKS, "Labels": labels, "HostConfig": { "NetworkMode": "none" } });
    relay.plays("/containers/create", Trick::After("/containers/create?name=orders-1".to_owned(), made));
    let record = set(&[], settings.clone(), 1).await;
    is(&record, "superseded");
    assert!(record["warnings"].to_string().contains("already in use"), "{record:#}");
    assert_eq!(engine.containers().await.len(), 1, "what the other made is about to start");
    engine.post("/containers/orders-1/start", Value::Null).await;
    engine.somebodys("orders-2", IMAGE, json!({})).await;
    is(&set(&[], settings.clone(), 2).await, "changed");
    assert_eq!(counts(&settings).await, (2, 2, 0), "a name that somebody else has is left to them");
    let both = async || tokio::join!(set(&[], settings.clone(), 8), set(&[], settings.clone(), 8));
    both().await;
    assert!(counts(&settings).await.0 <= 8);
}

#[tokio::test]
async fn a_container_that_does_not_start_leaves_nothing_behind() {
    let engine = Engine::start(&[]).await;
    let record = set(&[], settings(&engine.host(), json!({ "command": ["/absent"] })), 2).await;
    is(&record, "failed");
    assert!(record.to_string().contains("0 of 2 started"), "{record:#}");
    assert!(record.to_string().contains("/absent"), "the engine's own words: {record:#}");
    assert_eq!(engine.containers().await, Vec::<Value>::new());
}

#[tokio::test]
async fn what_has_ended_counts_nowhere_and_is_removed_when_the_count_is_set() {
    let engine = Engine::start(&[]).await;
    let ends = settings(&engine.host(), json!({ "command": ["true"] }));
    is(&set(&[], ends.clone(), 2).await, "changed");
    until("both have ended", async || engine.running().await.is_empty().then_some(())).await;
    assert_eq!(engine.containers().await.len(), 2, "their logs can still be read");
    assert_eq!(counts(&ends).await, (0, 0, 0));
    let settings = settings(&engine.host(), json!({}));
    set(&[], settings.clone(), 1).await;
    assert_eq!((engine.running().await.len(), engine.containers().await.len()), (1, 1));
    let only = engine.running().await.pop().expect("there is one");
    engine.post(&format!("/containers/{only}/pause"), Value::Null).await;
    assert_eq!(counts(&settings).await, (1, 0, 0), "a paused one is still meant to run");
}

#[tokio::test]
async fn a_container_that_works_is_never_stopped() {
    let engine = Engine::start(&[]).await;
    let settings = settings(&engine.host(), json!({ "busy_file": "/tmp/busy" }));
    set(&[], settings.clone(), 4).await;
    let four = engine.running().await;
    // The newest work, which would be the first to go.
    for id in &four[2..] {
        engine.exec(id, &["touch", "/tmp/busy"]).await;
    }
    let reading = status(&[], settings.clone()).await.expect("it can be read");
    assert_eq!(reading.protected, Some(2));
    let record = set(&[], settings.clone(), 1).await;
    assert!(record.to_string().contains("2 of 3 stopped"), "{record:#}");
    let runs = async |expected: &[String]| {
        until("the idle ones are gone", async || (engine.running().await == expected).then_some(())).await;
    };
    runs(&four[2..]).await;
    engine.exec(&four[3], &["rm", "/tmp/busy"]).await;
    is(&set(&[], settings, 1).await, "changed");
    runs(&four[2..3]).await;
}

#[tokio::test]
async fn a_container_that_begins_to_work_after_it_was_chosen_is_spared() {
    let engine = Engine::start(&[]).await;
    let relay = Relay::before(&engine);
    let settings = settings(relay.host(), json!({ "busy_file": "/tmp/busy" }));
    set(&[], settings.clone(), 1).await;
    let only = engine.running().await;
    let touch = json!({ "Cmd": ["touch", "/tmp/busy"], "AttachStdout": true });
    let begins = engine.post(&format!("/containers/{}/exec", only[0]), touch).await;
    let begins = format!("/exec/{}/start", begins["Id"].as_str().expect("it has an ID"));
    relay.plays("/pause", Trick::After(begins, json!({ "Detach": false })));
    let record = set(&[], settings.clone(), 0).await;
    is(&record, "failed");
    assert!(record.to_string().contains("0 of 1 stopped"), "{record:#}");
    assert_eq!((engine.running().await, counts(&settings).await), (only.clone(), (1, 1, 0)));
    assert!(!relay.mutations().iter().any(|request| request.contains("/kill")), "{:?}", relay.mutations());
    engine.exec(&only[0], &["rm", "/tmp/busy"]).await;
    is(&set(&[], settings.clone(), 0).await, "changed");
    leaves(&engine, &settings, 0).await;
}

#[tokio::test]
async fn a_404_that_no_engine_gave_does_not_say_that_a_container_is_idle() {
    let engine = Engine::start(&[]).await;
    let relay = Relay::before(&engine);
    let settings = settings(relay.host(), json!({ "busy_file": "/tmp/busy" }));
    set(&[], settings.clone(), 1).await;
    for _ in 0..2 {
        relay.plays("/archive", Trick::Answer(404));
    }
    let record = set(&[], settings.clone(), 0).await;
    is(&record, "failed");
    assert!(record.to_string().contains("something before it"), "{record:#}");
    assert_eq!(counts(&settings).await, (1, 1, 0));
}

#[tokio::test]
async fn a_stop_that_broke_off_is_gone_on_with_by_the_next_tick() {
    let engine = Engine::start(&[]).await;
    let settings = settings(&engine.host(), json!({ "busy_file": "/tmp/busy" }));
    set(&[], settings.clone(), 1).await;
    let id = engine.running().await.pop().expect("there is one");
    let breaks_off = async || {
        let marked = format!("orders-1-{}-leaving", &id[..12]);
        engine.post(&format!("/containers/{id}/rename?name={marked}"), Value::Null).await;
        engine.post(&format!("/containers/{id}/pause"), Value::Null).await;
        assert_eq!(counts(&settings).await, (0, 0, 0));
    };
    engine.exec(&id, &["touch", "/tmp/busy"]).await;
    breaks_off().await;
    set(&[], settings.clone(), 0).await;
    assert_eq!(counts(&settings).await, (1, 1, 0), "one that works is woken and counts again");
    engine.exec(&id, &["rm", "/tmp/busy"]).await;
    breaks_off().await;
    leaves(&engine, &settings, 0).await;
}

#[tokio::test]
async fn a_container_is_drained_before_it_is_stopped() {
    let engine = Engine::start(&[]).await;
    let relay = Relay::before(&engine);
    let draining = |program: Value| settings(relay.host(), json!({ "drain": program }));
    set(&[], draining(json!(["true"])), 2).await;
    for fails in [json!(["sh", "-c", "exit 3"]), json!(["/absent"])] {
        let settings = draining(fails);
        until("drain has failed", async || {
            let record = set(&[], settings.clone(), 1).await;
            record.to_string().contains("drain ended with").then_some(())
        })
        .await;
        assert_eq!(counts(&settings).await, (2, 2, 0), "none is stopped that is not drained");
    }
    assert!(relay.mutations().iter().all(|request| !request.contains("/kill")));
    let settings = draining(json!(["true"]));
    is(&set(&[], settings.clone(), 1).await, "changed");
    leaves(&engine, &settings, 1).await;
    let made = relay.mutations();
    let [.., make, note, run, tell, mark, remove] = &made[..] else { panic!("{made:?}") };
    assert!(make.ends_with("/exec") && run.starts_with("POST /exec/"), "{made:?}");
    assert!(note.contains("-draining-") && mark.contains("-stopping-"), "{made:?}");
    assert!(tell.contains("/kill?signal=SIGTERM") && remove.starts_with("DELETE "), "{made:?}");
}

#[tokio::test]
async fn a_drain_may_take_many_ticks_and_never_runs_twice() {
    let engine = Engine::start(&[]).await;
    let relay = Relay::before(&engine);
    let drain = ["sh", "-c", "while [ ! -e /tmp/drained ]; do sleep 0.05; done"];
    let settings = settings(relay.host(), json!({ "drain": drain }));
    set(&[], settings.clone(), 1).await;
    let only = engine.running().await;
    is(&set(&[], settings.clone(), 0).await, "changed");
    for _ in 0..3 {
        is(&set(&[], settings.clone(), 0).await, "held");
    }
    assert_eq!((engine.running().await, counts(&settings).await), (only.clone(), (0, 0, 0)));
    let drains = relay.mutations().iter().filter(|request| request.contains("/exec/")).count();
    assert_eq!(drains, 1, "{:?}", relay.mutations());
    engine.exec(&only[0], &["touch", "/tmp/drained"]).await;
    leaves(&engine, &settings, 0).await;
}

#[tokio::test]
async fn a_container_that_does_not_heed_sigterm_is_killed_after_its_grace() {
    let engine = Engine::start(&[]).await;
    let deaf = json!({ "command": ["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"], "stop_grace_secs": 1 });
    let settings = settings(&engine.host(), deaf);
    set(&[], settings.clone(), 1).await;
    is(&set(&[], settings.clone(), 0).await, "changed");
    leaves(&engine, &settings, 0).await;
}

#[tokio::test]
async fn a_container_that_ends_slowly_is_neither_waited_for_nor_killed() {
    let engine = Engine::start(&[]).await;
    let ends = "trap 'while [ ! -e /tmp/done ]; do sleep 0.05; done; exit 7' TERM; while :; do sleep 0.05; done";
    let slow = json!({ "command": ["sh", "-c", ends], "stop_grace_secs": 3600 });
    let settings = settings(&engine.host(), slow);
    set(&[], settings.clone(), 1).await;
    let only = engine.running().await;
    is(&set(&[], settings.clone(), 0).await, "changed");
    // Another takes its place, and its name.
    is(&set(&[], settings.clone(), 1).await, "changed");
    is(&set(&[], settings.clone(), 1).await, "held");
    assert_eq!((counts(&settings).await, engine.running().await.len()), ((1, 1, 0), 2));
    engine.exec(&only[0], &["touch", "/tmp/done"]).await;
    let state = until("its end", async || {
        let state = engine.get(&format!("/containers/{}/json", only[0])).await["State"].clone();
        (state["Running"] == false).then_some(state)
    });
    assert_eq!(state.await["ExitCode"], 7, "it was killed");
    leaves(&engine, &settings, 1).await;
    assert_eq!(name(&engine).await, "orders-1");
}

#[tokio::test]
async fn a_container_is_told_by_the_signal_of_its_image() {
    let engine = Engine::start(&[]).await;
    let relay = Relay::before(&engine);
    let base = engine.somebodys("base", IMAGE, json!({})).await;
    let commit = format!("/commit?container={base}&repo=it/signal&tag=1");
    engine.post(&commit, json!({ "StopSignal": "SIGUSR1" })).await;
    engine.post(&format!("/containers/{base}/rename?name=other"), Value::Null).await;
    let command = ["sh", "-c", "trap 'exit 0' USR1; trap '' TERM; while :; do sleep 0.05; done"];
    let settings =
        settings(relay.host(), json!({ "image": "it/signal:1", "command": command, "stop_grace_secs": 3600 }));
    set(&[], settings.clone(), 1).await;
    is(&set(&[], settings.clone(), 0).await, "changed");
    assert!(relay.mutations().iter().any(|request| request.ends_with("/kill?signal=SIGUSR1")));
    until("its end", async || {
        set(&[], settings.clone(), 0).await;
        (engine.running().await == [base.clone()] && engine.containers().await.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_container_has_the_variables_that_are_listed_and_no_others() {
    let engine = Engine::start(&["tier=gold"]).await;
    let env = json!({ "TOKEN": "env:WORKERS_TOKEN", "PLAIN": "canary-plain" });
    let settings = settings(&engine.host(), json!({ "env": env, "labels": { "team": "blue" } }));
    let vars = [("WORKERS_TOKEN", "canary-token"), ("OURS", "canary-ours")];
    is(&set(&vars, settings.clone(), 1).await, "changed");
    let id = engine.running().await.pop().expect("there is one");
    let about = engine.get(&format!("/containers/{id}/json")).await;
    let mut variables: Vec<_> =
        about["Config"]["Env"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    variables.retain(|variable| !variable.starts_with("PATH="));
    variables.sort_unstable();
    assert_eq!(variables, ["PLAIN=canary-plain", "TOKEN=canary-token"]);
    let labels = &about["Config"]["Labels"];
    assert_eq!((&labels["team"], &labels["tier"]), (&json!("blue"), &json!("gold")));
    assert_eq!(labels["tidegate.service"], "orders");
    assert_eq!(about["HostConfig"]["NetworkMode"], "none");
    let record = set(&[], settings, 2).await;
    is(&record, "failed");
    assert!(record.to_string().contains("WORKERS_TOKEN"), "{record:#}");
}

#[tokio::test]
async fn an_image_is_pulled_as_the_settings_say() {
    let engine = Engine::start(&[]).await;
    let relay = Relay::before(&engine);
    let pull = async |image: &str, pull: &str| {
        let record = set(&[], settings(relay.host(), json!({ "image": image, "pull": pull })), 1).await;
        (record["outcome"].as_str().unwrap_or_default().to_owned(), record.to_string())
    };
    let pulls = || relay.mutations().iter().filter(|request| request.contains("/images/create")).count();
    let (outcome, text) = pull("it/absent:1", "never").await;
    assert!(outcome == "failed" && text.contains("NotFound"), "{text}");
    assert_eq!(pulls(), 0);
    let (outcome, text) = pull("127.0.0.1:1/it/absent", "missing").await;
    assert!(outcome == "failed" && text.contains("pulling image"), "{text}");
    let asked = relay.mutations().into_iter().rfind(|request| request.contains("/images/create"));
    assert!(asked.is_some_and(|request| request.ends_with("&tag=latest")), "all tags would be pulled");
    let (outcome, text) = pull(IMAGE, "missing").await;
    assert_eq!((outcome.as_str(), pulls()), ("changed", 1), "it is there: {text}");
    assert_eq!(engine.containers().await.len(), 1);
}

#[tokio::test]
async fn an_engine_that_cannot_be_reached_is_an_error_that_says_why() {
    let folder = tempfile::tempdir().expect("creating a folder");
    let absent = format!("unix://{}", folder.path().join("absent.sock").display());
    let error = status(&[], settings(&absent, json!({}))).await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("check host"), "{error}");
    let error = status(&[("ALLOW_PLAIN_HTTP", "false")], settings("http://127.0.0.1:1", json!({}))).await;
    let error = error.expect_err("it is not encrypted");
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("ALLOW_PLAIN_HTTP"), "{error}");
    let error = status(&[("ALLOW_LOCAL_ADDRESSES", "false")], settings("https://127.0.0.1:1", json!({}))).await;
    let error = error.expect_err("it is this machine");
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("ALLOW_LOCAL_ADDRESSES"), "{error}");
}

#[tokio::test]
async fn an_engine_with_tls_is_verified_and_lets_in_whom_it_knows() {
    let folder = tempfile::tempdir().expect("creating a folder");
    let (known, key) = certificate(folder.path(), "known");
    let (stranger, its_key) = certificate(folder.path(), "stranger");
    let engine = Engine::with_tls(&known).await;
    let host = format!("https://localhost:{}", engine.port);
    let client = |certificate: &std::path::Path, key: &std::path::Path| json!({ "ca": CA, "cert": certificate, "key": format!("file:{}", key.display()) });
    let known_settings = settings(&host, client(&known, &key));
    is(&set(&[], known_settings.clone(), 1).await, "changed");
    assert_eq!(engine.running().await.len(), 1);
    assert_eq!(counts(&known_settings).await, (1, 1, 0));
    let fails = async |host: &str, more| status(&[], settings(host, more)).await.expect_err("it is not let in");
    let error = fails(&host, json!({ "ca": CA })).await;
    assert!(error.kind() == ErrorKind::Denied && error.to_string().contains("give cert and key"), "{error}");
    let error = fails(&host, client(&stranger, &its_key)).await;
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    let error = fails(&host, json!({ "cert": known, "key": format!("file:{}", key.display()) })).await;
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("as ca"), "{error}");
    let by_address = format!("https://127.0.0.1:{}", engine.port);
    let error = fails(&by_address, client(&known, &key)).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "the certificate is for another name: {error}");
    let error = fails(&host, client(&known, &its_key)).await;
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("not that of"), "{error}");
    let error = fails(&host, json!({ "ca": CA, "cert": known, "key": "canary-key" })).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let (status, _) = engine.api(Method::GET, "/_ping", Value::Null).await;
    assert_eq!(status, 200);
}
