//! A service whose status cannot be believed is left alone, and what ECS refuses is not tried again and again.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate::handler::Invocation;

use super::{last, logged};
use crate::support::Moved;
use crate::support::cloud::state::Service;
use crate::support::cloud::{ACCOUNT, CLUSTER, Cloud, ORDERS};
use crate::support::emulator::TIMEOUT_MS;
use crate::support::proxy::{Fault, When};
use crate::support::runtime_api::Function;

async fn outcome(function: &Function) -> Result<Value, (String, String)> {
    match function.invoke(json!({}), TIMEOUT_MS).await {
        crate::support::runtime_api::Answer::Ok(mut answer) => Ok(answer["records"][0].take()),
        other => Err(other.expect_error()),
    }
}

/// Ticks in the test at a time after noon.
async fn tick(host: &tidegate::handler::Host, clock: &Moved, at: i64) -> Result<Value, String> {
    clock.to(at);
    let answer = host.handle(&json!({}), Invocation { id: format!("at-{at}"), ..Invocation::default() }).await;
    answer.map(|answer| json!(answer.records[0])).map_err(|failed| failed.error_type)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_missing_has_no_count_rather_than_none() {
    let cloud = Cloud::start(0, 50).await;
    let function = cloud.function(&[("SERVICE_NAME", "absent")]).await;
    let (error_type, message) = outcome(&function).await.expect_err("it is not there");
    assert_eq!(error_type, "NotFound", "{message}");
    let record = last(&function, "absent");
    assert_eq!((&record["outcome"], &record["status"]), (&json!("failed"), &Value::Null), "{record}");
    assert_eq!(cloud.mutating().len(), 0);
}

fn reversed(mut answer: Value) -> Value {
    answer["services"].as_array_mut().expect("a list").reverse();
    answer
}

fn without_first(mut answer: Value) -> Value {
    answer["services"].as_array_mut().expect("a list").remove(0);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_matched_by_name_and_those_left_out_are_errors() {
    let cloud = Cloud::start(5_000, 10).await;
    let names = ["a", "b", "c"];
    for (name, desired) in names.into_iter().zip([20, 30, 40]) {
        cloud.add(name, 5_000, desired);
    }
    cloud.fail("DescribeServices", 2, Fault::Alter(reversed));
    let function = cloud.function_of_services(&[]).await;
    function.invoke(cloud.payload(&names), TIMEOUT_MS).await.expect_ok();
    assert_eq!(names.map(|name| cloud.desired_of(name)), [70, 80, 90]);
    cloud.reset();
    names.iter().for_each(|name| cloud.wait(name, 50_000));
    cloud.fail("DescribeServices", 1, Fault::Alter(without_first));
    let (error_type, message) = function.invoke(cloud.payload(&names), TIMEOUT_MS).await.expect_error();
    assert!(message.starts_with("1 of 3 services failed: a: "), "{message}");
    assert!(message.contains("the answer does not mention the service"), "{message}");
    assert_eq!((error_type.as_str(), cloud.desired_of("a")), ("Malformed", 70), "{message}");
    assert_eq!((cloud.desired_of("b"), cloud.desired_of("c")), (300, 300), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_five_services_are_described_ten_at_a_time() {
    let cloud = Cloud::start(0, 10).await;
    let names: Vec<_> = (0..25).map(|number| format!("service-{number:02}")).collect();
    names.iter().for_each(|name| cloud.add(name, 90, 10));
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let function = cloud.function_of_services(&[("DRY_RUN", "true")]).await;
    function.invoke(cloud.payload(&names), TIMEOUT_MS).await.expect_ok();
    let asked = |call: &crate::support::proxy::Call| call.json()["services"].as_array().map_or(0, Vec::len);
    let calls = cloud.calls();
    let mut sizes: Vec<_> = calls.iter().filter(|call| call.is("DescribeServices")).map(asked).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [5, 10, 10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_has_no_count_to_set_is_refused_on_sight() {
    let cloud = Cloud::start(0, 50).await;
    cloud.rest(&[ORDERS]);
    let function = cloud.function(&[]).await;
    for (status, strategy, says) in
        [("DRAINING", "REPLICA", "DRAINING"), ("INACTIVE", "REPLICA", "INACTIVE"), ("ACTIVE", "DAEMON", "DAEMON")]
    {
        cloud.service(ORDERS, |service| (service.status, service.strategy) = (status, strategy));
        let (error_type, message) = outcome(&function).await.expect_err("it has no count to set");
        assert_eq!(error_type, "Refused", "{message}");
        assert!(message.contains(says), "{message}");
    }
    assert_eq!(cloud.mutating().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_lets_scale_out_and_not_in() {
    for deployments in [vec![Some("IN_PROGRESS")], vec![None, None], vec![Some("IN_PROGRESS"), Some("COMPLETED")]] {
        let cloud = Cloud::start(0, 50).await;
        cloud.rest(&[ORDERS]);
        cloud.service(ORDERS, |service| service.deployments = deployments.clone());
        let function = cloud.function(&[]).await;
        let record = outcome(&function).await.expect("nothing fails");
        let reasons = record["decision"]["reasons"].to_string();
        assert!(reasons.contains("DeploymentInProgress"), "{deployments:?}: {reasons}");
        assert_eq!(cloud.desired(), 50);
        cloud.wait(ORDERS, 5_000);
        outcome(&function).await.expect("nothing fails");
        assert_eq!(cloud.desired(), 100, "{deployments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_outlive_a_scale_in_for_hours_cause_no_second_one() {
    let cloud = Cloud::start(0, 11).await;
    cloud.rest(&[ORDERS]);
    let clock = Arc::new(Moved::at_noon());
    let host = cloud.host(clock.clone(), &[]);
    for minute in 0..100 {
        let record = tick(&host, &clock, minute * 60).await.expect("nothing fails");
        // What runs is protected and goes on running.
        assert_eq!((cloud.desired(), &record["status"]["running"]), (10, &json!(11)), "minute {minute}");
    }
    assert_eq!(cloud.count("UpdateService"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_scale_out_is_made_by_the_next_tick_and_a_throttled_scale_in_waits() {
    for (waiting, from, next, later) in [(5_000, 10, 60, 60), (0, 50, 50, 49)] {
        let cloud = Cloud::start(waiting, from).await;
        cloud.rest(&[ORDERS]);
        cloud.with(|state| state.updates_left = Some(0));
        let clock = Arc::new(Moved::at_noon());
        // No step is large enough not to wait, so that nothing but the recognized intent can finish it.
        let host = cloud.host(clock.clone(), &[("SCALING_STEP_COUNT", "1000")]);
        let error_type = tick(&host, &clock, 0).await.expect_err("it is throttled");
        assert_eq!((error_type.as_str(), cloud.desired(), cloud.count("UpdateService")), ("Throttled", from, 1));
        assert!(cloud.remembered(ORDERS)["pending"].is_object(), "the intent stays");
        cloud.with(|state| state.updates_left = None);
        tick(&host, &clock, 60).await.expect("nothing fails");
        assert_eq!(cloud.desired(), next, "from {from}");
        tick(&host, &clock, 121).await.expect("nothing fails");
        assert_eq!(cloud.desired(), later, "from {from}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scale_out_whose_reply_is_lost_is_recognized() {
    for fault in [Fault::DropReply, Fault::CutAfter(20), Fault::Truncate(20), Fault::Truncate(0)] {
        let cloud = Cloud::start(5_000, 10).await;
        cloud.rest(&[ORDERS]);
        cloud.fail("UpdateService", 1, fault.clone());
        let clock = Arc::new(Moved::at_noon());
        let host = cloud.host(clock.clone(), &[]);
        tick(&host, &clock, 0).await.expect_err("nobody heard that it was made");
        assert_eq!((cloud.desired(), cloud.count("UpdateService")), (60, 1), "{fault:?}");
        let record = tick(&host, &clock, 60).await.expect("nothing fails");
        assert!(record["decision"]["reasons"].to_string().contains("IntentConfirmed"), "{fault:?}: {record}");
        assert_eq!((cloud.desired(), cloud.count("UpdateService")), (60, 1), "{fault:?}");
        assert_eq!(cloud.remembered(ORDERS)["pending"], Value::Null, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_change_fails_and_damages_nothing() {
    let cloud = Cloud::start(5_000, 10).await;
    cloud.rest(&[ORDERS]);
    cloud.fail("UpdateService", 3, Fault::json(400, "AccessDeniedException"));
    let clock = Arc::new(Moved::at_noon());
    let host = cloud.host(clock.clone(), &[("SCALING_STEP_COUNT", "1000")]);
    for minute in 0..3 {
        let error_type = tick(&host, &clock, minute * 60).await.expect_err("it is denied");
        assert_eq!((error_type.as_str(), cloud.desired()), ("Denied", 10), "minute {minute}");
    }
    // Permitted, the very next tick makes the same step: the denied attempts have used up no cooldown and no credit.
    tick(&host, &clock, 180).await.expect("it is permitted");
    assert_eq!((cloud.desired(), &cloud.remembered(ORDERS)["last_out"]["base"]), (60, &json!(10)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_refused_for_good_is_not_announced_any_longer() {
    for code in ["ServiceNotActiveException", "InvalidParameterException", "ServiceNotFoundException"] {
        let cloud = Cloud::start(5_000, 10).await;
        cloud.rest(&[ORDERS]);
        cloud.fail("UpdateService", 1, Fault::json(400, code));
        let function = cloud.function(&[]).await;
        let (error_type, message) = outcome(&function).await.expect_err("it is refused");
        assert!(["Refused", "NotFound"].contains(&error_type.as_str()) && message.contains(code), "{message}");
        let remembered = cloud.remembered(ORDERS);
        assert_eq!((&remembered["pending"], &remembered["last_out"]["to"]), (&Value::Null, &json!(60)), "{code}");
        assert_eq!(last(&function, ORDERS)["outcome"], "failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_being_active_before_it_is_set_is_not_announced_any_longer() {
    let cloud = Cloud::start(5_000, 10).await;
    cloud.rest(&[ORDERS]);
    let hold = cloud.hold("S3.PutObject", When::After);
    let function = cloud.function(&[]).await;
    let invocation = function.start(json!({}), TIMEOUT_MS);
    hold.reached().await;
    cloud.service(ORDERS, |service| service.status = "DRAINING");
    hold.release();
    let (error_type, message) = invocation.answer().await.expect_error();
    assert_eq!((error_type.as_str(), cloud.count("UpdateService")), ("Refused", 0), "{message}");
    assert_eq!(cloud.remembered(ORDERS)["pending"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_that_is_reset_from_outside_is_restored_by_the_next_tick() {
    let cloud = Cloud::start(5_000, 10).await;
    cloud.rest(&[ORDERS]);
    let clock = Arc::new(Moved::at_noon());
    let host = cloud.host(clock.clone(), &[("MAX_TASKS", "60")]);
    for hour in 0..5 {
        tick(&host, &clock, hour * 3_600).await.expect("nothing fails");
        assert_eq!(cloud.desired(), 60, "hour {hour}");
        cloud.service(ORDERS, |service| *service = Service::new(10));
    }
    assert_eq!(cloud.count("UpdateService"), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_accounts_allowance_of_updates_leaves_out_is_done_by_the_next_ticks() {
    let cloud = Cloud::start(0, 10).await;
    let names: Vec<_> = (0..30).map(|number| format!("service-{number:02}")).collect();
    names.iter().for_each(|name| cloud.add(name, 5_000, 10));
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let changed = || names.iter().filter(|name| cloud.desired_of(name) == 60).count();
    // Deployments of the same account have used up the rest.
    cloud.with(|state| state.updates_left = Some(20));
    let function = cloud.function_of_services(&[("SCALING_STEP_COUNT", "1000")]).await;
    let (error_type, message) = function.invoke(cloud.payload(&names), TIMEOUT_MS).await.expect_error();
    assert_eq!((error_type.as_str(), changed()), ("Throttled", 20), "{message}");
    // Ten seconds and more later there are fifty again.
    cloud.with(|state| state.updates_left = Some(50));
    function.invoke(cloud.payload(&names), TIMEOUT_MS).await.expect_ok();
    assert_eq!((changed(), cloud.count("UpdateService"), logged(&function).len()), (30, 40, 60));
}

#[tokio::test(flavor = "multi_thread")]
async fn services_of_one_name_elsewhere_are_remembered_apart() {
    let cloud = Cloud::start(5_000, 10).await;
    let places: Vec<_> = ["us-east-1", "eu-west-1"]
        .into_iter()
        .flat_map(|region| [ACCOUNT, "999999999999"].map(|account| (region, account)))
        .flat_map(|(region, account)| [CLUSTER, "test"].map(|cluster| (region, account, cluster)))
        .collect();
    let mut services = Vec::new();
    for (number, (region, account, cluster)) in places.iter().enumerate() {
        let place = ((*region).to_owned(), (*account).to_owned(), (*cluster).to_owned());
        let service = Service::new(10 + i64::try_from(number).expect("a small number"));
        cloud.with(|state| state.clusters.entry(place).or_default().insert(ORDERS.to_owned(), service));
        let arn = |kind: &str, path: &str| format!("arn:aws:ecs:{region}:{account}:{kind}/{path}");
        services.push(json!({
            "name": format!("at-{number}"),
            "target": { "type": "ecs", "cluster": arn("cluster", cluster), "service": arn("service", &format!("{cluster}/{ORDERS}")) },
            "sources": [{ "type": "sqs", "queue": cloud.queue_url(ORDERS) }], "policies": [{ "type": "threshold" }],
        }));
    }
    let function = cloud.function_of_services(&[]).await;
    function.invoke(json!({ "config": { "services": services } }), TIMEOUT_MS).await.expect_ok();
    let mut bases = Vec::new();
    for content in cloud.objects().values() {
        let document: Value = serde_json::from_slice(content).expect("the state is JSON");
        let states = document["services"].as_object().expect("it has services");
        bases.extend(states.values().filter_map(|state| state["last_out"]["base"].as_i64()));
        assert_eq!(states.len(), 1, "{document}");
    }
    bases.sort_unstable();
    assert_eq!(bases, (10..18).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_begins_while_a_scale_in_is_announced_holds_it() {
    let cloud = Cloud::start(0, 50).await;
    cloud.rest(&[ORDERS]);
    let hold = cloud.hold("S3.PutObject", When::After);
    let function = cloud.function(&[]).await;
    let invocation = function.start(json!({}), TIMEOUT_MS);
    hold.reached().await;
    cloud.service(ORDERS, |service| service.deployments = vec![Some("IN_PROGRESS"), Some("COMPLETED")]);
    hold.release();
    let answer = invocation.answer().await.expect_ok();
    let record = &answer["records"][0];
    assert_eq!((&record["outcome"], cloud.count("UpdateService")), (&json!("superseded"), 0), "{record}");
    assert_eq!((&record["warnings"][0], cloud.desired()), (&json!("a deployment began meanwhile"), 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_above_the_bounds_moves_into_them_during_a_deployment_too() {
    let cloud = Cloud::start(0, 500).await;
    cloud.rest(&[ORDERS]);
    cloud.service(ORDERS, |service| service.deployments = vec![Some("IN_PROGRESS"), Some("COMPLETED")]);
    let record = outcome(&cloud.function(&[]).await).await.expect("nothing fails");
    assert_eq!((&record["outcome"], cloud.desired()), (&json!("changed"), 300), "{record}");
}
