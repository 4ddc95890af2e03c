//! Loops, as functions and as daemons: one acts at a time, and each ends cleanly.

use std::time::{Duration, Instant};

use aws_sdk_s3::primitives::ByteStream;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, eventually};
use crate::support::emulator::{Env, TIMEOUT_MS, World};
use crate::support::proxy::{Fault, Proxy};
use crate::support::runtime_api::Function;

/// Each second, whether or not there is something to do.
fn every_second(world: &World, endpoint: &str) -> Env {
    world.env(endpoint, &[("LOOP_INTERVAL", "1"), ("LOOP_MAX_INTERVAL", "1s"), ("SCALING_STEP_COUNT", "1")])
}

async fn holder(world: &World) -> Option<String> {
    Some(world.state().await?["lease"]["holder"].as_str()?.to_owned())
}

async fn desired_is(world: &World, count: i32) {
    eventually(&format!("{count} tasks"), async || (world.desired().await == count).then_some(())).await;
}

fn outcomes<'a>(records: &'a [Value], outcome: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["outcome"] == outcome).collect()
}

/// That each change was made once, by whomever: as many as there were calls, and each from where the one before led to.
#[track_caller]
fn each_change_was_made_once(records: &[Value], proxy: &Proxy, from: i64, to: i64) {
    let mut changes = outcomes(records, "changed");
    changes.sort_by_key(|record| record["at"].as_str());
    assert_eq!(proxy.count("UpdateService"), changes.len(), "{changes:#?}");
    let mut count = from;
    for record in &changes {
        assert_eq!(record["decision"]["current"], count, "{changes:#?}");
        count = record["decision"]["desired"].as_i64().expect("a number");
    }
    assert_eq!(count, to);
    assert!(outcomes(records, "conflict").is_empty());
}

fn records_of(function: &Function) -> Vec<Value> {
    function.json_lines().iter().filter_map(|line| line.get("record")).cloned().collect()
}

async fn is_on_standby(loops: &Daemon, of: &str) {
    let names_it = |record: &Value| record["outcome"] == "standby" && record["lease"]["holder"] == of;
    eventually("standby", async || loops.records().last().filter(|last| names_it(last)).map(drop)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_ends_before_the_deadline_after_several_ticks_and_one_change() {
    let world = World::ministack(10).await;
    world.rest().await;
    world.send(5_000).await;
    let proxy = Proxy::start(world.address).await;
    let function = world.function(&every_second(&world, &proxy.url())).await;
    let answer = function.invoke(json!({}), 10_000).await.expect_ok();
    let ticks = answer["ticks"].as_u64().expect("it says how many");
    assert!(3 <= ticks, "{answer}");
    assert_eq!(answer["records"][0]["outcome"], "held", "{answer}");
    let records = records_of(&function);
    assert_eq!(records.len() as u64, ticks, "every tick is in the log");
    assert_eq!(outcomes(&records, "changed").len(), 1);
    assert_eq!((proxy.count("UpdateService"), world.desired().await), (1, 60));
    let state = world.state().await.expect("there is a state");
    assert_eq!(state["lease"], Value::Null, "it was given back: {state}");
    // The document was sent once, and then only asked after.
    let unsent = proxy.calls().iter().filter(|call| call.status == Some(304)).count() as u64;
    assert_eq!(unsent, ticks - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_one_tick_fails_the_whole_invocation() {
    let world = World::ministack(50).await;
    world.rest().await;
    let proxy = Proxy::start(world.address).await;
    proxy.fail("GetQueueAttributes", 1, Fault::json(400, "QueueDoesNotExist"));
    let function = world.function(&every_second(&world, &proxy.url())).await;
    let (error_type, message) = function.invoke(json!({}), 10_000).await.expect_error();
    assert_eq!(error_type, "NotFound", "{message}");
    assert!(message.starts_with("in ") && message.contains("QueueDoesNotExist"), "{message}");
}

/// Moves the end of a lease, as time does: the daemons' own lasts for half a minute.
async fn shorten_lease(world: &World, by_secs: i64) {
    let mut state = world.state().await.expect("there is a state");
    let until = Timestamp::now() + SignedDuration::from_secs(by_secs);
    state["lease"]["until"] = until.to_string().into();
    state["seq"] = (state["seq"].as_u64().expect("a number") + 1).into();
    let body = ByteStream::from(serde_json::to_vec(&state).expect("it serializes"));
    let put = world.s3.put_object().bucket(&world.name).key(world.state_key()).body(body).send().await;
    put.expect("the state can be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_loops_one_acts_at_a_time_and_nothing_is_stepped_twice() {
    let world = World::ministack(10).await;
    world.rest().await;
    let proxy = Proxy::start(world.address).await;
    let env = every_second(&world, &proxy.url());
    let function = world.function(&env).await;
    let invocation = function.start(json!({}), TIMEOUT_MS);
    let first = eventually("a lease", async || holder(&world).await).await;
    assert!(first.starts_with("function/"), "{first}");
    let mut daemons = [Daemon::start(&env, &[]), Daemon::start(&env, &[])];
    for daemon in &daemons {
        is_on_standby(daemon, &first).await;
    }
    world.send(5_000).await;
    desired_is(&world, 60).await;
    let is_logged = |record: &Value| record["decision"]["desired"] == 60 && record["outcome"] == "changed";
    eventually("its record", async || records_of(&function).iter().find(|record| is_logged(record)).map(drop)).await;
    // The holder dies. Nobody acts while its lease runs, and one of the others does when it has run out.
    function.kill().await;
    drop(invocation);
    world.send(5_000).await;
    for daemon in &daemons {
        let before = daemon.records().len();
        eventually("two more ticks", async || (before + 2 <= daemon.records().len()).then_some(())).await;
        is_on_standby(daemon, &first).await;
    }
    assert_eq!(world.desired().await, 60);
    shorten_lease(&world, 1).await;
    desired_is(&world, 110).await;
    let second = eventually("a lease", async || holder(&world).await).await;
    let holders =
        [daemons[0].said("the loop begins", "holder").await, daemons[1].said("the loop begins", "holder").await];
    let at = holders.iter().position(|holder| *holder == second).expect("one of the two");
    is_on_standby(&daemons[1 - at], &second).await;
    // The holder is told to end, and the other need not wait.
    daemons[at].signal("TERM").await;
    assert!(daemons[at].ended().await.success(), "{}", daemons[at].stderr());
    let released = Instant::now();
    eventually("the last loop's lease", async || holder(&world).await.filter(|found| *found == holders[1 - at])).await;
    assert!(released.elapsed() < Duration::from_secs(5), "after {:?}", released.elapsed());
    let of_daemons = daemons.iter().flat_map(Daemon::records);
    let records: Vec<_> = records_of(&function).into_iter().chain(of_daemons).collect();
    each_change_was_made_once(&records, &proxy, 10, 110);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_says_whether_it_can_do_its_work() {
    let world = World::ministack(10).await;
    world.rest().await;
    let config = tempfile::Builder::new().suffix(".json").tempfile().expect("a temporary file");
    let write = |text: &str| std::fs::write(config.path(), text).expect("it can be written");
    write(r#"{"max_tasks": 40}"#);
    let path = config.path().to_str().expect("a plain path");
    let env = world.env(&world.url(), &[("CONFIG", path), ("LOOP_INTERVAL", "1"), ("LOOP_MAX_INTERVAL", "1")]);
    let mut daemon = Daemon::start(&env, &["--listen", "127.0.0.1:0"]);
    eventually("readiness", async || (daemon.get("/readyz").await.0 == 200).then_some(())).await;
    assert_eq!(daemon.get("/healthz").await.0, 200);
    // What becomes wrong scales nothing, is said, and can be mended.
    write(r#"{"max_tasks": 5}"#);
    world.send(5_000).await;
    let problem = async || Some(daemon.get("/readyz").await).filter(|(status, _)| *status == 503);
    let (_, body) = eventually("no readiness", problem).await;
    assert!(body["problems"].to_string().contains("max_tasks"), "{body}");
    assert_eq!(daemon.get("/healthz").await.0, 200);
    write(r#"{"max_tasks": 30}"#);
    desired_is(&world, 30).await;
    let ready = async || Some(daemon.get("/readyz").await).filter(|(status, _)| *status == 200);
    assert_eq!(eventually("readiness again", ready).await.1, json!({ "status": "ready" }));
    daemon.signal("INT").await;
    assert!(daemon.ended().await.success(), "{}", daemon.stderr());
    assert_eq!(holder(&world).await, None);
    assert_eq!(world.desired().await, 30, "counts are left as they are");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_with_a_wrong_configuration_does_not_begin() {
    let world = World::ministack(10).await;
    let env = world.env(&world.url(), &[("LOOP_INTERVAL", "0"), ("MIN_TASKS", "many")]);
    let mut daemon = Daemon::start(&env, &[]);
    assert_eq!(daemon.ended().await.code(), Some(2));
    let said = daemon.stderr();
    assert!(said.contains("LOOP_INTERVAL") && said.contains("MIN_TASKS"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_closed_while_the_process_stood_still_costs_nothing() {
    let world = World::ministack(10).await;
    world.rest().await;
    world.send(100).await;
    let proxy = Proxy::start(world.address).await;
    let daemon = Daemon::start(&every_second(&world, &proxy.url()), &[]);
    eventually("a tick", async || daemon.records().first().map(drop)).await;
    for _ in 0..3 {
        daemon.signal("STOP").await;
        proxy.hang_up();
        // Longer than an interval, so that the next tick comes at once.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let before = daemon.records().len();
        daemon.signal("CONT").await;
        eventually("another tick", async || (before < daemon.records().len()).then_some(())).await;
    }
    world.send(5_000).await;
    desired_is(&world, 61).await;
    let last = || daemon.records().last().map(|last| last["decision"]["current"].clone());
    eventually("the next record", async || last().filter(|current| *current == 61).map(drop)).await;
    let records = daemon.records();
    assert!(records.iter().all(|record| record["failures"] == json!([])), "{records:#?}");
    each_change_was_made_once(&records, &proxy, 10, 61);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_restores_what_it_found_and_announces_it() {
    let world = World::ministack(10).await;
    world.rest().await;
    world.send(5_000).await;
    let proxy = Proxy::start(world.address).await;
    let mut daemon = Daemon::start(&every_second(&world, &proxy.url()), &["--on-exit", "restore"]);
    desired_is(&world, 60).await;
    daemon.signal("TERM").await;
    assert!(daemon.ended().await.success(), "{}", daemon.stderr());
    assert_eq!((proxy.count("UpdateService"), world.desired().await), (2, 10));
    let state = world.state().await.expect("there is a state");
    let service = state["services"].as_object().and_then(|all| all.values().next()).expect("one service");
    assert_eq!((&service["last_in"]["from"], &service["last_in"]["to"]), (&json!(60), &json!(10)), "{state}");
    assert_eq!((&service["pending"], &state["lease"]), (&Value::Null, &Value::Null), "{state}");
}
