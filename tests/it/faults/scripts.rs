//! Every fault in every call of a tick: no scale-in follows from a reading that failed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tidegate::call::Call as Time;
use tidegate::config::{Input, load};
use tidegate::run::{Memory, Tick, run};
use tidegate::shared::Shared;

use crate::support::cloud::{Cloud, ORDERS};
use crate::support::noon;
use crate::support::proxy::{Call, Fault};

/// Far above what an empty queue needs, and within what a full one wants.
const DESIRED: i64 = 50;

/// How many scripts run at once, few enough that none of them runs into a timeout of the SDK's.
const AT_ONCE: usize = 8;

/// One script: the fault from the nth call on, once or for good, before a queue that is full or empty.
#[derive(Debug, Clone)]
struct Script {
    /// When the two ticks, or the one, take place, in seconds after noon.
    ticks: &'static [i64],
    action: &'static str,
    nth: usize,
    times: usize,
    fault: Fault,
    is_full: bool,
}

/// What may happen to any call.
fn common(action: &str) -> Vec<Fault> {
    let is_xml = action.starts_with("S3.") || action == "GetCallerIdentity";
    let error = |status: u16, code: &str| if is_xml { Fault::xml(status, code) } else { Fault::json(status, code) };
    let mut faults = vec![
        error(500, "InternalError"),
        error(if is_xml { 503 } else { 400 }, if is_xml { "SlowDown" } else { "ThrottlingException" }),
        error(400, "AccessDeniedException"),
        error(403, "ExpiredToken"),
        error(404, "NoSuchKey"),
        error(304, "NotModified"),
        error(409, "ConditionalRequestConflict"),
        error(412, "PreconditionFailed"),
        Fault::redirect("http://127.0.0.1:9/"),
        Fault::Truncate(0),
        Fault::Truncate(20),
        Fault::CutAfter(10),
        Fault::DropReply,
        Fault::DropRequest,
        Fault::Endless,
    ];
    faults.extend(["", "{}", "null", "[]", "<html>oops</html>"].map(Fault::body));
    faults
}

/// What takes longer than anybody waits.
fn slow() -> Vec<Fault> {
    vec![Fault::Delay(Duration::from_secs(60)), Fault::Drip(Duration::from_millis(500))]
}

/// Answers that are well-formed and lack what was asked for, or have nonsense in its place.
fn lies(action: &str) -> Vec<Fault> {
    let alterations: &[fn(Value) -> Value] = match action {
        "GetQueueAttributes" => &[
            |answer| without(answer, &["Attributes"], "ApproximateNumberOfMessages"),
            |answer| without(answer, &["Attributes"], "ApproximateNumberOfMessagesNotVisible"),
            |answer| with(answer, &["Attributes"], "ApproximateNumberOfMessages", json!("-1")),
            |answer| with(answer, &["Attributes"], "ApproximateNumberOfMessages", json!("NaN")),
            |answer| with(answer, &["Attributes"], "ApproximateNumberOfMessages", json!("")),
            |answer| with(answer, &["Attributes"], "ApproximateNumberOfMessages", json!("1e400")),
            |answer| with(answer, &["Attributes"], "ApproximateNumberOfMessages", json!(null)),
            |answer| with(answer, &[], "Attributes", json!(null)),
            |answer| with(answer, &[], "Attributes", json!({})),
        ],
        "DescribeServices" => &[
            |answer| with(answer, &[], "services", json!([])),
            |answer| with(answer, &[], "services", json!(null)),
            |answer| with(answer, &[], "services", json!([{}])),
            |answer| without(answer, &["services", "0"], "desiredCount"),
            |answer| without(answer, &["services", "0"], "runningCount"),
            |answer| without(answer, &["services", "0"], "status"),
            |answer| without(answer, &["services", "0"], "serviceArn"),
            |answer| without(answer, &["services", "0"], "deployments"),
            |answer| with(answer, &["services", "0"], "desiredCount", json!(-1)),
            |answer| with(answer, &["services", "0"], "desiredCount", json!("50")),
            |answer| with(answer, &["services", "0"], "desiredCount", json!(99_999_999_999_u64)),
            |answer| with(answer, &["services", "0"], "status", json!("DRAINING")),
            |answer| with(answer, &["services", "0"], "serviceArn", json!("arn:aws:ecs:us-east-1:1:service/a/b")),
        ],
        "S3.GetObject" => &[
            |answer| with(answer, &[], "schema_version", json!(2)),
            |answer| without(answer, &[], "services"),
            |answer| with(answer, &[], "services", json!([])),
            |answer| with(answer, &[], "seq", json!(-1)),
        ],
        "ListTasks" => {
            &[|answer| without(answer, &[], "taskArns"), |answer| with(answer, &[], "taskArns", json!(null))]
        }
        "GetTaskProtection" => &[
            |answer| without(answer, &[], "protectedTasks"),
            |answer| without(answer, &["protectedTasks", "0"], "protectionEnabled"),
            |answer| with(answer, &[], "protectedTasks", json!([])),
        ],
        "GetQueueUrl" => {
            &[|answer| without(answer, &[], "QueueUrl"), |answer| with(answer, &[], "QueueUrl", json!(""))]
        }
        _ => &[],
    };
    alterations.iter().copied().map(Fault::Alter).collect()
}

fn at<'a>(answer: &'a mut Value, path: &[&str]) -> &'a mut Value {
    let pointer: String = path.iter().map(|part| format!("/{part}")).collect();
    answer.pointer_mut(&pointer).expect("the answer has this part")
}

fn without(mut answer: Value, path: &[&str], name: &str) -> Value {
    let removed = at(&mut answer, path).as_object_mut().and_then(|members| members.remove(name));
    assert!(removed.is_some(), "the answer has no {name}");
    answer
}

fn with(mut answer: Value, path: &[&str], name: &str, value: Value) -> Value {
    at(&mut answer, path)[name] = value;
    answer
}

/// Every fault in the first call or the second, once or from there on.
fn scripts(action: &'static str) -> Vec<Script> {
    let mut scripts = Vec::new();
    for fault in common(action).into_iter().chain(lies(action)) {
        for (nth, times) in [(1, 1), (2, 1), (1, usize::MAX), (2, usize::MAX)] {
            for is_full in [false, true] {
                // The cooldown of a first scale-in is over at the second tick, which tells nothing new where all fails.
                let ticks: &[_] = if (nth, times) == (1, usize::MAX) { &[0] } else { &[0, 180] };
                scripts.push(Script { ticks, action, nth, times, fault: fault.clone(), is_full });
            }
        }
    }
    scripts
}

/// The same with faults that need time, which all run at once.
fn slow_scripts(action: &'static str) -> Vec<Script> {
    let mut scripts = Vec::new();
    for fault in slow() {
        for (times, is_full) in [(1, false), (1, true), (usize::MAX, false), (usize::MAX, true)] {
            scripts.push(Script { ticks: &[0], action, nth: 1, times, fault: fault.clone(), is_full });
        }
    }
    scripts
}

/// Returns the calls of each tick.
async fn play(script: &Script) -> (Cloud, Vec<Vec<Call>>) {
    let cloud = Cloud::start(if script.is_full { 5_000 } else { 0 }, DESIRED).await;
    cloud.rest(&[ORDERS]);
    let tasks = (0..DESIRED).map(|number| (format!("{number:032}"), false)).collect();
    cloud.service(ORDERS, |service| service.tasks = tasks);
    cloud.fail_from(script.action, script.nth, script.times, script.fault.clone());
    let vars: BTreeMap<_, _> = cloud.env(&[("SQS_QUEUE_URL", ORDERS)]).into_iter().collect();
    let config =
        load(Input { vars: &vars, event: &Value::Null, in_lambda: true, remote: None }).expect("a valid configuration");
    let (shared, memory) = (Shared::new(&config, Arc::new(vars.clone()), None).await, Memory::default());
    let mut ticks = Vec::new();
    for &secs in script.ticks {
        let seen = cloud.calls().len();
        let (now, call) = (noon() + SignedDuration::from_secs(secs), Time::within(Duration::from_secs(40)));
        let tick = Tick {
            config: &config,
            shared: &shared,
            memory: &memory,
            notifiers: &[],
            scheduled_for: None,
            now,
            call,
            name: "tick",
            term: None,
        };
        Box::pin(run(&tick)).await;
        ticks.push(cloud.calls().split_off(seen));
    }
    (cloud, ticks)
}

/// Whether a call was answered by the provider, and the answer arrived as it was.
fn is_sound(call: &Call) -> bool {
    !call.faulted && call.status.is_some_and(|status| (200..300).contains(&status))
}

/// How many requests for fewer tasks were sent, each of which is checked to rest on sound readings.
fn scale_ins(script: &Script, ticks: &[Vec<Call>]) -> usize {
    let (mut desired, mut found) = (DESIRED, 0);
    for calls in ticks {
        for (number, call) in calls.iter().enumerate().filter(|(_, call)| call.is("UpdateService")) {
            let asked = call.json()["desiredCount"].as_i64().expect("a count is asked for");
            if asked < desired {
                let sound = |action: &str, least: usize| {
                    let read = calls[..number].iter().filter(|call| call.is(action) && is_sound(call)).count();
                    assert!(least <= read, "{script:?}: {asked} tasks without a sound {action}: {calls:#?}");
                };
                assert!(!script.is_full, "{script:?}: {asked} tasks for a full queue: {calls:#?}");
                sound("GetQueueAttributes", 1);
                sound("DescribeServices", 2);
                sound("S3.GetObject", 1);
                sound("ListTasks", 1);
                sound("GetTaskProtection", 1);
                let announced = calls[..number].iter().any(|call| call.is("S3.PutObject") && call.status == Some(200));
                assert!(announced, "{script:?}: {asked} tasks without an announcement: {calls:#?}");
                found += 1;
            }
            // Also a request whose reply was lost has set the count.
            if call.status == Some(200) && !matches!(script.fault, Fault::Status { .. }) || is_sound(call) {
                desired = asked;
            }
        }
    }
    found
}

async fn a_fault_never_scales_in(action: &'static str) {
    let play = |script: Script| async move {
        let (cloud, ticks) = play(&script).await;
        (scale_ins(&script, &ticks), DESIRED < cloud.desired())
    };
    let slow = join_all(slow_scripts(action).into_iter().map(play));
    let quick = stream::iter(scripts(action)).map(play).buffer_unordered(AT_ONCE).collect::<Vec<_>>();
    let (slow, quick) = futures_util::join!(slow, quick);
    let played = [slow, quick].concat();
    let (number, ins) = (played.len(), played.iter().filter(|(scale_ins, _)| 0 < *scale_ins).count());
    let outs = played.iter().filter(|(_, is_out)| *is_out).count();
    println!("{action}: {number} scripts; {ins} with a scale-in that rests on sound readings, {outs} with a scale-out");
    // The promise is not kept by doing nothing.
    assert!(number < 10 * ins && number < 10 * outs, "{ins} and {outs} of {number}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_in_looking_up_a_queue_scales_in() {
    a_fault_never_scales_in("GetQueueUrl").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_in_reading_a_queue_scales_in() {
    a_fault_never_scales_in("GetQueueAttributes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_in_asking_for_the_account_scales_in() {
    a_fault_never_scales_in("GetCallerIdentity").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_in_reading_a_status_scales_in() {
    a_fault_never_scales_in("DescribeServices").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_in_listing_tasks_scales_in() {
    a_fault_never_scales_in("ListTasks").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_in_reading_task_protection_scales_in() {
    a_fault_never_scales_in("GetTaskProtection").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_in_reading_the_state_scales_in() {
    a_fault_never_scales_in("S3.GetObject").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_in_writing_the_state_scales_in() {
    a_fault_never_scales_in("S3.PutObject").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_in_setting_a_count_scales_in_once_more() {
    a_fault_never_scales_in("UpdateService").await;
}
