//! State that cannot be read or written stops what depends on it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tidegate::handler::{Host, Invocation};

use super::last;
use crate::support::Moved;
use crate::support::cloud::{Cloud, ORDERS};
use crate::support::emulator::TIMEOUT_MS;
use crate::support::proxy::{Fault, When};

async fn tick(host: &Host, clock: &Moved, at: i64) -> Result<Value, String> {
    clock.to(at);
    let answer = host.handle(&json!({}), Invocation { id: format!("at-{at}"), ..Invocation::default() }).await;
    answer.map(|answer| json!(answer.records[0])).map_err(|failed| failed.error_type)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_run_creates_its_state_and_scales_in_after_one_whole_cooldown() {
    let cloud = Cloud::start(0, 50).await;
    let clock = Arc::new(Moved::at_noon());
    let host = cloud.host(clock.clone(), &[]);
    for at in [0, 60, 120] {
        let record = tick(&host, &clock, at).await.expect("nothing fails");
        assert_eq!((cloud.desired(), &record["outcome"]), (50, &json!("held")), "{at} s after noon");
    }
    let created = cloud.calls().into_iter().find(|call| call.is("S3.PutObject")).expect("the state was created");
    assert_eq!((created.if_none_match.as_deref(), created.if_match), (Some("*"), None));
    // The cooldown is strict: at 120 s it still ran.
    tick(&host, &clock, 121).await.expect("nothing fails");
    assert_eq!(cloud.desired(), 49);
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_state_never_scales_in_and_scales_out_once_where_that_is_allowed() {
    for (fault, kind, ticks) in
        [(Fault::xml(500, "InternalError"), "Unavailable", 2), (Fault::Delay(Duration::from_secs(60)), "Timeout", 1)]
    {
        let cloud = Cloud::start(0, 50).await;
        cloud.rest(&[ORDERS]);
        cloud.fail("S3.GetObject", 100, fault.clone());
        let function = cloud.function(&[("ALLOW_SCALE_OUT_WITHOUT_STATE", "true")]).await;
        let (error_type, message) = function.invoke(json!({}), 20_000).await.expect_error();
        assert_eq!((error_type.as_str(), cloud.desired()), (kind, 50), "{message}");
        assert!(message.contains("reading state"), "{message}");
        // The second tick remembers the step of the first.
        cloud.wait(ORDERS, 5_000);
        for _ in 0..ticks {
            function.invoke(json!({}), 20_000).await.expect_error();
            assert_eq!((cloud.desired(), cloud.count("UpdateService")), (100, 1), "{fault:?}");
        }
        assert_eq!(cloud.count("S3.PutObject"), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_switch_unreadable_state_changes_nothing() {
    for waiting in [0, 5_000] {
        let cloud = Cloud::start(waiting, 50).await;
        cloud.rest(&[ORDERS]);
        cloud.fail("S3.GetObject", 100, Fault::xml(503, "SlowDown"));
        let function = cloud.function(&[]).await;
        let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
        assert_eq!((error_type.as_str(), cloud.mutating().len()), ("Throttled", 0), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_state_names_what_to_allow() {
    // Without s3:ListBucket, S3 answers so for an object that is not there yet.
    let cloud = Cloud::start(0, 50).await;
    cloud.with(|state| state.buckets.values_mut().for_each(|bucket| bucket.unlisted = true));
    let function = cloud.function(&[]).await;
    let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
    assert_eq!((error_type.as_str(), cloud.mutating().len()), ("Denied", 0), "{message}");
    assert!(message.contains("s3:GetObject"), "{message}");
    let reasons = last(&function, ORDERS)["decision"]["reasons"].clone();
    assert_eq!((&reasons[0]["code"], &reasons[0]["kind"]), (&json!("StateUnavailable"), &json!("Denied")));
    // The key of an encrypted bucket may be what is denied.
    cloud.rest(&[ORDERS]);
    cloud.fail("S3.GetObject", 1, Fault::xml(403, "KMS.DisabledException"));
    let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
    assert!(error_type == "Denied" && message.contains("KMS.DisabledException"), "{message}");
    assert_eq!(cloud.desired(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_writers_in_each_of_fifty_races_one_acts() {
    let cloud = Cloud::start(5_000, 10).await;
    let clock = Arc::new(Moved::at_noon());
    let hosts: Vec<_> = (0..8).map(|_| cloud.host(clock.clone(), &[])).collect();
    for race in 1..=50 {
        cloud.rest(&[ORDERS]);
        cloud.service(ORDERS, |service| service.desired = 10);
        cloud.barrier("S3.GetObject", hosts.len(), When::After);
        cloud.barrier("DescribeServices", hosts.len(), When::After);
        let records = join_all(hosts.iter().map(|host| tick(host, &clock, 0))).await;
        let outcomes: Vec<_> = records.into_iter().map(|record| record.expect("losing is no failure")).collect();
        let count = |outcome: &str| outcomes.iter().filter(|record| record["outcome"] == outcome).count();
        assert_eq!((count("changed"), count("conflict")), (1, hosts.len() - 1), "race {race}");
        assert_eq!((cloud.count("UpdateService"), cloud.desired()), (race, 60));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_meets_another_one_under_way_stops_for_this_tick() {
    let cloud = Cloud::start(5_000, 10).await;
    cloud.rest(&[ORDERS]);
    cloud.fail("S3.PutObject", 1, Fault::xml(409, "ConditionalRequestConflict"));
    let function = cloud.function(&[]).await;
    let answer = function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
    assert_eq!(answer["records"][0]["outcome"], "conflict", "{answer}");
    assert_eq!((cloud.desired(), cloud.count("S3.PutObject"), cloud.count("UpdateService")), (10, 1, 0));
    function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
    assert_eq!(cloud.desired(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_whose_reply_is_lost_is_found_and_acted_on() {
    for fault in [Fault::DropReply, Fault::xml(412, "PreconditionFailed")] {
        let cloud = Cloud::start(5_000, 10).await;
        cloud.rest(&[ORDERS]);
        let is_ours = matches!(fault, Fault::DropReply);
        cloud.fail("S3.PutObject", 1, fault);
        let clock = Arc::new(Moved::at_noon());
        let record = tick(&cloud.host(clock.clone(), &[]), &clock, 0).await.expect("nothing fails");
        // A reply that was lost is not the same as a write that was refused.
        let expected = if is_ours { ("changed", 60) } else { ("conflict", 10) };
        assert_eq!((record["outcome"].as_str(), cloud.desired()), (Some(expected.0), expected.1), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_a_later_form_is_neither_overwritten_nor_acted_on() {
    let cloud = Cloud::start(5_000, 10).await;
    cloud.rest(&[ORDERS]);
    let key = Cloud::key_of(ORDERS);
    let ours = String::from_utf8(cloud.objects()[&key].to_vec()).expect("it is text");
    let later = ours.replace("\"schema_version\":1", "\"schema_version\":2,\"something\":\"new\"");
    assert_ne!(ours, later);
    cloud.put(&key, Some(&later));
    let function = cloud.function(&[]).await;
    for waiting in [5_000, 0] {
        cloud.wait(ORDERS, waiting);
        let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
        assert_eq!((error_type.as_str(), cloud.mutating().len()), ("Malformed", 0), "{message}");
        assert!(message.contains("it is of form 2"), "{message}");
    }
    assert_eq!(cloud.objects()[&key], later);
    // A document that the later version replaces between our reading and our writing is not overwritten either.
    cloud.put(&key, Some(&ours));
    cloud.wait(ORDERS, 5_000);
    let hold = cloud.hold("S3.GetObject", When::After);
    let invocation = function.start(json!({}), TIMEOUT_MS);
    hold.reached().await;
    cloud.put(&key, Some(&later));
    hold.release();
    invocation.answer().await.expect_error();
    assert_eq!((&cloud.objects()[&key][..], cloud.desired()), (later.as_bytes(), 10));
}
