//! A queue that cannot be read is a gap and never a number.

use std::time::Duration;

use serde_json::{Value, json};

use super::{last, logged};
use crate::support::cloud::{Cloud, ORDERS};
use crate::support::emulator::TIMEOUT_MS;
use crate::support::proxy::Fault;

const READ: &str = "GetQueueAttributes";
const OTHER: &str = "other";

/// An empty queue, whose service would be scaled in, and a full one.
async fn two_services() -> Cloud {
    let cloud = Cloud::start(0, 50).await;
    cloud.add(OTHER, 5_000, 10);
    cloud.rest(&[ORDERS, OTHER]);
    cloud
}

fn reads_of_orders(cloud: &Cloud) -> usize {
    let url = cloud.queue_url(ORDERS);
    cloud.calls().iter().filter(|call| call.is(READ) && call.json()["QueueUrl"] == *url).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_queue_is_asked_again_and_then_never_scales_in_while_others_go_on() {
    let cloud = two_services().await;
    cloud.fail_about(READ, &cloud.queue_url(ORDERS), 100, Fault::json(400, "ThrottlingException"));
    let function = cloud.function_of_services(&[]).await;
    let payload = cloud.payload(&[ORDERS, OTHER]);
    let (error_type, message) = function.invoke(&payload, TIMEOUT_MS).await.expect_error();
    assert_eq!(error_type, "Throttled", "{message}");
    assert_eq!((cloud.desired(), cloud.desired_of(OTHER), reads_of_orders(&cloud)), (50, 60, 3));
    let record = last(&function, ORDERS);
    assert_eq!(record["decision"]["reasons"][0]["code"], "MetricUnreadable", "{record}");
    assert!(record["took_ms"].as_u64() < Some(8_000), "{record}");
    // Throttled once only, the same queue is read, and its emptiness is believed.
    cloud.reset();
    cloud.fail_about(READ, &cloud.queue_url(ORDERS), 1, Fault::json(400, "ThrottlingException"));
    function.invoke(&payload, TIMEOUT_MS).await.expect_ok();
    assert_eq!((cloud.desired(), reads_of_orders(&cloud)), (49, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_hangs_costs_its_own_service_the_tick_and_no_other() {
    let cloud = two_services().await;
    cloud.fail_about(READ, &cloud.queue_url(ORDERS), 100, Fault::Delay(Duration::from_secs(60)));
    let function = cloud.function_of_services(&[]).await;
    let (error_type, message) = function.invoke(cloud.payload(&[ORDERS, OTHER]), 20_000).await.expect_error();
    assert_eq!(error_type, "Timeout", "{message}");
    assert_eq!((cloud.desired(), cloud.desired_of(OTHER)), (50, 60));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_passes_within_the_tick_leaves_no_trace_but_its_time() {
    let cloud = Cloud::start(5_000, 10).await;
    cloud.rest(&[ORDERS]);
    cloud.fail(READ, 1, Fault::json(500, "InternalError"));
    cloud.fail(READ, 1, Fault::json(503, "ServiceUnavailable"));
    let answer = cloud.function(&[]).await.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
    let record = &answer["records"][0];
    assert_eq!((cloud.desired(), cloud.count(READ)), (60, 3));
    assert_eq!((&record["samples"][0]["reading"]["backlog"], &record["failures"]), (&json!(5_000), &json!([])));
    assert!(record["took_ms"].is_u64(), "{record}");
}

fn without_backlog(mut answer: Value) -> Value {
    answer["Attributes"].as_object_mut().expect("there are attributes").remove("ApproximateNumberOfMessages");
    answer
}

fn without_attributes(_: Value) -> Value {
    json!({})
}

fn negative(mut answer: Value) -> Value {
    answer["Attributes"]["ApproximateNumberOfMessages"] = "-1".into();
    answer
}

fn too_large(mut answer: Value) -> Value {
    answer["Attributes"]["ApproximateNumberOfMessages"] = "18446744073709551616".into();
    answer
}

fn empty(mut answer: Value) -> Value {
    answer["Attributes"]["ApproximateNumberOfMessages"] = "".into();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_the_number_is_missing_and_not_zero() {
    let cloud = Cloud::start(0, 50).await;
    cloud.rest(&[ORDERS]);
    let function = cloud.function(&[]).await;
    let alterations = [
        (Fault::Alter(without_backlog), "Missing"),
        (Fault::Alter(without_attributes), "Missing"),
        (Fault::Alter(negative), "Malformed"),
        (Fault::Alter(too_large), "Malformed"),
        (Fault::Alter(empty), "Malformed"),
    ];
    for (number, (alteration, kind)) in alterations.into_iter().enumerate() {
        cloud.fail(READ, 1, alteration);
        let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
        assert_eq!((error_type.as_str(), cloud.desired()), (kind, 50), "alteration {number}: {message}");
        assert_eq!(last(&function, ORDERS)["decision"]["reasons"][0]["kind"], kind);
    }
    // Unaltered, the same answer scales in.
    function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
    assert_eq!((cloud.desired(), logged(&function).len()), (49, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broken_source_of_two_lets_scale_out_and_not_in() {
    let cloud = Cloud::start(0, 50).await;
    cloud.add(OTHER, 0, 1);
    cloud.rest(&[ORDERS]);
    let mut payload = cloud.payload(&[ORDERS]);
    let second = json!({ "type": "sqs", "name": "second", "queue": cloud.queue_url(OTHER) });
    let sources = payload["config"]["services"][0]["sources"].as_array_mut().expect("a list");
    sources.push(second);
    sources[0]["name"] = "first".into();
    cloud.fail_about(READ, &cloud.queue_url(ORDERS), 100, Fault::json(500, "InternalError"));
    let function = cloud.function_of_services(&[]).await;
    let (error_type, message) = function.invoke(&payload, TIMEOUT_MS).await.expect_error();
    assert_eq!((error_type.as_str(), cloud.desired()), ("Unavailable", 50), "{message}");
    let reasons = last(&function, ORDERS)["decision"]["reasons"].to_string();
    assert!(reasons.contains("ScaleInNeedsAllMetrics"), "{reasons}");
    cloud.wait(OTHER, 5_000);
    let (error_type, message) = function.invoke(&payload, TIMEOUT_MS).await.expect_error();
    assert_eq!((error_type.as_str(), cloud.desired()), ("Unavailable", 100), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slow_queue_of_a_hundred_does_not_cost_the_others_the_tick() {
    let cloud = Cloud::start(0, 50).await;
    let names: Vec<_> = (0..100).map(|number| format!("tenant-{number:02}")).collect();
    // Work for every second one: fifty changes are what ECS takes at once.
    let backlog = |number| if number % 2 == 0 { 5_000 } else { 100 };
    names.iter().enumerate().for_each(|(number, name)| cloud.add(name, backlog(number), 10));
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    cloud.rest(&names);
    cloud.fail_about(READ, "tenant-42", 100, Fault::Delay(Duration::from_secs(30)));
    let function = cloud.function_of_services(&[]).await;
    let (error_type, message) = function.invoke(cloud.payload(&names), 50_000).await.expect_error();
    assert_eq!(error_type, "Timeout", "{message}");
    assert!(message.starts_with("1 of 100 services failed: tenant-42: "), "{message}");
    let changed = names.iter().filter(|name| cloud.desired_of(name) == 60).count();
    assert_eq!((changed, cloud.desired_of("tenant-42")), (49, 10));
    let slowest = logged(&function).iter().filter_map(|record| record["took_ms"].as_u64()).max();
    assert!(slowest < Some(20_000), "{slowest:?} ms");
}
