//! What happens to a whole tick: no time, no credentials, a broken adapter, closed connections and outputs.

use std::collections::BTreeMap;
use std::process::{Command as StdCommand, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tidegate::adapter::Kind;
use tidegate::call::Call;
use tidegate::clock::Clock;
use tidegate::config::{Input, load};
use tidegate::handler::Invocation;
use tidegate::run::{Memory, Tick, run};
use tidegate::shared::Shared;
use tidegate::sources::{Measurement, Source};
use tokio::process::Command;

use super::logged;
use crate::support::Moved;
use crate::support::cloud::{ACCOUNT, CLUSTER, Cloud, ORDERS};
use crate::support::emulator::{REGION, TIMEOUT_MS};
use crate::support::proxy::Fault;
use crate::support::runtime_api::RuntimeApi;

#[tokio::test(flavor = "multi_thread")]
async fn missed_ticks_are_not_caught_up_with() {
    let cloud = Cloud::start(0, 50).await;
    cloud.rest(&[ORDERS]);
    let clock = Arc::new(Moved::at_noon());
    let host = cloud.host(clock.clone(), &[("MAX_SCALE_DOWN_FACTOR", "0.9")]);
    // Half an hour without a tick, and then two in the same second.
    for (at, desired) in [(0, 45), (1_800, 40), (1_800, 40), (1_860, 40), (1_921, 36)] {
        clock.to(at);
        host.handle(&json!({}), Invocation::default()).await.expect("nothing fails");
        assert_eq!(cloud.desired(), desired, "{at} s after noon");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn near_the_deadline_nothing_is_begun_and_everything_is_listed() {
    let cloud = Cloud::start(0, 50).await;
    let names: Vec<_> = (0..50).map(|number| format!("service-{number:02}")).collect();
    names.iter().for_each(|name| cloud.add(name, 5_000, 10));
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let function = cloud.function_of_services(&[]).await;
    let (payload, mut dry) = (cloud.payload(&names), cloud.payload(&names));
    dry["config"]["dry_run"] = true.into();
    function.invoke(&dry, TIMEOUT_MS).await.expect_ok();
    // The Runtime API kills a process that overruns its deadline, and the answer would be another. Four seconds are enough to
    // read fifty services on a busy machine, and too few to begin a change.
    let (error_type, message) = function.invoke(&payload, 4_000).await.expect_error();
    assert_eq!((error_type.as_str(), cloud.mutating().len()), ("Timeout", 0), "{message}");
    assert!(message.starts_with("50 of 50 services failed: "), "{message}");
    let unnamed = names.iter().find(|name| !message.contains(&format!("{name}: ")));
    assert_eq!(unnamed, None, "{message}");
    function.invoke(&payload, TIMEOUT_MS).await.expect_ok();
    assert!(names.iter().all(|name| cloud.desired_of(name) == 60));
}

fn signal(name: &str, pid: u32) {
    let status = StdCommand::new("kill").args([name, &pid.to_string()]).status().expect("kill runs");
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_were_closed_between_ticks_are_made_anew() {
    let cloud = Cloud::start(90, 10).await;
    cloud.rest(&[ORDERS]);
    let function = cloud.function(&[]).await;
    for frozen in [false, true] {
        function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
        // Lambda freezes a process between invocations, so that it cannot notice.
        if frozen {
            signal("-STOP", function.pid());
        }
        cloud.hang_up();
        if frozen {
            signal("-CONT", function.pid());
        }
    }
    cloud.wait(ORDERS, 5_000);
    let answer = function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
    let record = &answer["records"][0];
    assert_eq!((cloud.desired(), &record["failures"], &record["warnings"]), (60, &json!([]), &json!([])));
}

#[derive(Debug)]
struct Panics;

#[async_trait]
impl Source for Panics {
    async fn read(&self) -> tidegate::error::Result<Measurement> {
        panic!("expected in this test")
    }
}

static PANICS: Kind<dyn Source> = Kind {
    name: "panics",
    aliases: &[],
    about: "Panics.",
    renamed: &[],
    env: &[],
    schema: || json!({}),
    check: |_| Vec::new(),
    identities: |_, _| Vec::new(),
    permissions: |_, _| Ok(Vec::new()),
    build: |_, _| Ok(Box::new(Panics)),
};

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_panics_fails_its_own_service_in_every_tick_and_no_other() {
    let cloud = Cloud::start(0, 50).await;
    cloud.add("other", 5_000, 10);
    cloud.rest(&[ORDERS, "other"]);
    let vars: BTreeMap<_, _> = cloud.env_without_service(&[]).into_iter().collect();
    let event = cloud.payload(&[ORDERS, "other"]);
    let mut config =
        load(Input { vars: &vars, event: &event, in_lambda: true, remote: None }).expect("a valid configuration");
    config.services[0].sources[0].section.kind = &PANICS;
    let (shared, memory) = (Shared::new(&config, Arc::new(vars.clone()), None).await, Memory::default());
    for number in 0..2 {
        let call = Call::within(Duration::from_secs(30));
        let (now, name) = (Moved::at_noon().now(), "tick");
        let (config, shared, memory) = (&config, &shared, &memory);
        let tick = Tick { config, shared, memory, notifiers: &[], scheduled_for: None, now, call, name, term: None };
        let records = run(&tick).await;
        let broken = &records[0].failures[0];
        assert_eq!((broken.kind.name(), cloud.desired()), ("Bug", 50), "tick {number}: {broken:?}");
        assert!(records[1].failures.is_empty(), "{:?}", records[1]);
        assert_eq!(cloud.desired_of("other"), 60, "tick {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_full_or_broken_output_is_no_reason_to_fail() {
    let bootstrap = env!("CARGO_BIN_EXE_bootstrap");
    let closed = || {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec \"$0\" >&-", bootstrap]);
        (command, None)
    };
    let full = || {
        let file = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        (Command::new(bootstrap), Some(Stdio::from(file)))
    };
    let broken = || {
        let (_, writer) = std::io::pipe().expect("a pipe can be made");
        (Command::new(bootstrap), Some(Stdio::from(writer)))
    };
    for (number, (command, output)) in [closed(), full(), broken()].into_iter().enumerate() {
        let cloud = Cloud::start(5_000, 10).await;
        cloud.rest(&[ORDERS]);
        let arn = format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:tidegate");
        let function = RuntimeApi::start().await.with_arn(&arn).run(command, &cloud.env(&[]), output);
        for _ in 0..2 {
            let answer = function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
            assert_eq!(answer["records"][0]["failures"], json!([]), "output {number}: {answer}");
        }
        assert_eq!(cloud.desired(), 60, "output {number}");
        assert!(!function.stderr().contains("panicked"), "output {number}: {}", function.stderr());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_credentials_fail_the_tick_with_nothing_half_done() {
    for (action, fault) in [
        ("GetQueueAttributes", Fault::json(400, "ExpiredTokenException")),
        ("DescribeServices", Fault::json(400, "ExpiredTokenException")),
        ("S3.GetObject", Fault::xml(400, "ExpiredToken")),
        ("S3.PutObject", Fault::xml(400, "ExpiredToken")),
        ("UpdateService", Fault::json(400, "ExpiredTokenException")),
    ] {
        let cloud = Cloud::start(5_000, 10).await;
        cloud.rest(&[ORDERS]);
        cloud.fail(action, 2, fault);
        let function = cloud.function(&[]).await;
        // Twice is always for a while, and then the platform has renewed them.
        for _ in 0..2 {
            let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
            assert_eq!((error_type.as_str(), cloud.desired()), ("Denied", 10), "{action}: {message}");
            assert!(message.contains("ExpiredToken"), "{message}");
        }
        function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
        assert_eq!((cloud.desired(), &cloud.remembered(ORDERS)["pending"]), (60, &Value::Null), "{action}");
        assert_eq!(logged(&function).len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_cannot_be_asked_for_fails_only_services_that_do_not_state_theirs() {
    let cloud = Cloud::start(5_000, 10).await;
    cloud.add("stated", 5_000, 10);
    let mut event = cloud.payload(&[ORDERS, "stated"]);
    let arn = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service/{CLUSTER}/stated");
    event["config"]["services"][1]["target"]["service"] = arn.into();
    cloud.fail("GetCallerIdentity", 100, Fault::xml(403, "AccessDenied"));
    let vars: BTreeMap<_, _> = cloud.env_without_service(&[]).into_iter().collect();
    let host = tidegate::handler::Host::new(Arc::new(vars), Arc::new(Moved::at_noon()), true);
    let failed = host.handle(&event, Invocation::default()).await.expect_err("one of two fails");
    assert_eq!(failed.error_type, "Denied", "{}", failed.message);
    assert!(failed.message.contains("sts:GetCallerIdentity"), "{}", failed.message);
    assert_eq!((cloud.desired(), cloud.desired_of("stated")), (10, 60));
}
