//! `cloudwatch`, against an emulator, and against the strict endpoint for what they forgive or cannot do.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate::error::ErrorKind;
use tidegate::handler::Invocation;

use super::metrics::{fails_at, has_another_tls, has_no_port, is_denied, is_killed, minute, put, read_at, value};
use crate::support::cloud::metrics::queries;
use crate::support::cloud::state::Metric;
use crate::support::cloud::{CLUSTER, Cloud};
use crate::support::emulator::World;
use crate::support::{Moved, noon};

const READ: &str = "GetMetricData";

fn settings(queue: &str) -> Value {
    json!({ "type": "cloudwatch", "namespace": "Shop", "metric_name": "Open", "dimensions": { "Queue": queue } })
}

fn with(settings: &Value, more: Value) -> Value {
    let mut settings = settings.clone();
    let all = settings.as_object_mut().expect("an object");
    all.extend(more.as_object().expect("an object").clone());
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metric_is_that_of_the_newest_minute_that_is_over() {
    let world = World::ministack(1).await;
    // Of the minute that is under way and the one that may not be complete yet nothing is read.
    let values = [(0, 999.0), (1, 998.0), (2, 40.0), (2, 2.0), (3, 7.0), (9, 5.0)];
    put(&world, "Shop", "Open", &[("Queue", &world.name)], &values).await;
    let (url, settings) = (world.url(), settings(&world.name));
    let before = minute(1);
    let reading = read_at(&url, settings.clone()).await.expect("it can be read");
    // The minute may have turned since the values were put.
    if minute(1) == before {
        assert_eq!(reading.taken_at.map(jiff::Timestamp::as_second), Some(before));
        assert_eq!(value(&url, settings.clone()).await, 21.0);
        assert_eq!(value(&url, with(&settings, json!({ "statistic": "Sum" }))).await, 42.0);
        assert_eq!(value(&url, with(&settings, json!({ "statistic": "Maximum" }))).await, 40.0);
    }
    // What is far back is found by those who look so far back.
    put(&world, "Shop", "Old", &[], &[(9, 5.0)]).await;
    let old = json!({ "type": "cloudwatch", "namespace": "Shop", "metric_name": "Old" });
    assert_eq!(read_at(&url, old.clone()).await.expect_err("five minutes are too few").kind(), ErrorKind::Missing);
    assert_eq!(value(&url, with(&old, json!({ "periods": 30 }))).await, 5.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metric_of_zero_is_zero() {
    let world = World::ministack(1).await;
    put(&world, "Shop", "Open", &[("Queue", &world.name)], &[(2, 0.0), (3, 7.0)]).await;
    assert_eq!(value(&world.url(), with(&settings(&world.name), json!({ "delay_secs": 0 }))).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metric_without_data_is_an_error_unless_that_means_no_work() {
    let world = World::ministack(1).await;
    fails_at(&world.url(), "cloudwatch", "missing", settings("no-such-queue")).await;
    let zero = with(&settings("no-such-queue"), json!({ "missing": "zero" }));
    assert_eq!(value(&world.url(), zero).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metric_that_may_not_be_read_names_the_action() {
    is_denied("cloudwatch", settings("orders")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cloudwatch_that_is_not_there_is_unavailable() {
    has_no_port("cloudwatch", settings("orders")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cloudwatch_with_another_tls_is_unavailable() {
    has_another_tls("cloudwatch", settings("orders")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cloudwatch_that_dies_while_it_answers_gives_no_metric() {
    is_killed("cloudwatch", settings("orders")).await;
}

/// A tick of services, each with a source.
fn payload(sources: &[(String, Value)]) -> Value {
    let service = |(name, source): &(String, Value)| {
        json!({
            "name": name, "target": { "type": "ecs", "cluster": CLUSTER, "service": name },
            "sources": [source], "policies": [{ "type": "threshold" }],
        })
    };
    json!({ "config": { "services": sources.iter().map(service).collect::<Vec<_>>() } })
}

/// A service whose metric had a value in the newest minute that is over at noon.
fn add(cloud: &Cloud, name: &str, value: f64) -> (String, Value) {
    cloud.add(name, 0, 10);
    let points = vec![(noon().as_second() - 120, value), (noon().as_second() - 180, 1.0)];
    let metric = Metric { points, ..Metric::default() };
    cloud.with(|state| state.metrics.insert(format!("Shop/Open/Queue={name}"), metric));
    (name.to_owned(), settings(name))
}

fn without_service(cloud: &Cloud) -> tidegate::handler::Host {
    let vars: std::collections::BTreeMap<_, _> = cloud.env_without_service(&[]).into_iter().collect();
    tidegate::handler::Host::new(Arc::new(vars), Arc::new(Moved::at_noon()), true)
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_metrics_of_one_tick_take_one_call_and_none_gets_anothers_number() {
    let cloud = Cloud::start(0, 50).await;
    let value = |number: usize| if number.is_multiple_of(3) { 5_000.0 } else { 200.0 };
    let sources: Vec<_> = (0..40).map(|number| add(&cloud, &format!("service-{number}"), value(number))).collect();
    let host = without_service(&cloud);
    host.handle(&payload(&sources), Invocation::default()).await.expect("nothing fails");
    let calls: Vec<_> = cloud.calls().into_iter().filter(|call| call.is(READ)).collect();
    assert_eq!(calls.iter().map(|call| queries(call).len()).collect::<Vec<_>>(), [40]);
    for number in 0..40 {
        let expected = if number % 3 == 0 { 60 } else { 12 };
        assert_eq!(cloud.desired_of(&format!("service-{number}")), expected, "service-{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_expression_fails_its_own_source_alone() {
    let cloud = Cloud::start(0, 50).await;
    let mut sources: Vec<_> = (0..7).map(|number| add(&cloud, &format!("service-{number}"), 5_000.0)).collect();
    let math = |text: &str| {
        json!({ "type": "cloudwatch", "expression": text, "queries": { "a": {
        "namespace": "Shop", "metric_name": "Open", "dimensions": { "Queue": "service-0" }
    } } })
    };
    cloud.add("wrong", 0, 10);
    cloud.add("right", 0, 10);
    sources.push(("wrong".to_owned(), math("a +")));
    sources.push(("right".to_owned(), math("a * 2")));
    let points = vec![(noon().as_second() - 120, 5_000.0)];
    let metric = Metric { points, ..Metric::default() };
    cloud.with(|state| state.metrics.insert("a * 2".to_owned(), metric));
    let failed = without_service(&cloud).handle(&payload(&sources), Invocation::default()).await;
    let failed = format!("{:?}", failed.expect_err("one fails"));
    assert!(failed.contains("ValidationError"), "{failed}");
    assert_eq!(cloud.desired_of("wrong"), 10);
    let others = (0..7).map(|number| format!("service-{number}")).chain(["right".to_owned()]);
    for service in others {
        assert_eq!(cloud.desired_of(&service), 60, "{service}: {failed}");
    }
    // Two expressions whose queries have the same ids do not share a call, and nothing is asked more often than it takes.
    assert!(cloud.count(READ) <= 8, "{}", cloud.count(READ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_result_fails_its_own_source_alone() {
    let cloud = Cloud::start(0, 50).await;
    let sources: Vec<_> = (0..4).map(|number| add(&cloud, &format!("service-{number}"), 5_000.0)).collect();
    for (number, status) in [(1, "PartialData"), (2, "Forbidden")] {
        let name = format!("Shop/Open/Queue=service-{number}");
        cloud.with(|state| state.metrics.get_mut(&name).expect("it is there").status = status);
    }
    let failed = without_service(&cloud).handle(&payload(&sources), Invocation::default()).await;
    let failed = format!("{:?}", failed.expect_err("two fail"));
    let desired: Vec<_> = (0..4).map(|number| cloud.desired_of(&format!("service-{number}"))).collect();
    assert_eq!((desired, cloud.count(READ)), (vec![60, 10, 10, 60], 1), "{failed}");
}

/// A metric of the strict endpoint with a value in each of the newest minutes.
fn give(cloud: &Cloud, metric: Metric) {
    let points = (0..5).map(|ago| (minute(ago), 40.0 + ago as f64)).collect();
    cloud.with(|state| state.metrics.insert("Shop/Open/Queue=orders".to_owned(), Metric { points, ..metric }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_not_complete_is_no_number() {
    let cloud = Cloud::start(0, 50).await;
    for (status, kind) in [
        ("PartialData", ErrorKind::Unavailable),
        ("InternalError", ErrorKind::Unavailable),
        ("Forbidden", ErrorKind::Denied),
    ] {
        give(&cloud, Metric { status, ..Metric::default() });
        let error = read_at(&cloud.url(), settings("orders")).await.expect_err("it is not complete");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(status), "{error}");
    }
    give(&cloud, Metric { lines: 2, ..Metric::default() });
    let error = read_at(&cloud.url(), settings("orders")).await.expect_err("they are two");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    cloud.with(|state| {
        let points = (1..5).map(|ago| (minute(ago), -1.0)).collect();
        state.metrics.insert("Shop/Open/Queue=orders".to_owned(), Metric { points, ..Metric::default() })
    });
    let error = read_at(&cloud.url(), settings("orders")).await.expect_err("it is no count");
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_pages_is_read_to_its_last_one() {
    let cloud = Cloud::start(0, 50).await;
    give(&cloud, Metric::default());
    cloud.with(|state| state.points_per_page = 1);
    let read = value(&cloud.url(), with(&settings("orders"), json!({ "periods": 3 }))).await;
    assert!([42.0, 41.0].contains(&read), "{read}");
    assert_eq!(cloud.count(READ), 3);
}
