//! `sns`, against an emulator of CloudWatch, which sends no topic's metrics itself, so that the tests do.

use serde_json::{Value, json};

use super::metrics::{fails_at, has_another_tls, has_no_port, is_denied, is_killed, put, value};
use crate::support::emulator::World;

fn settings(topic: &str) -> Value {
    json!({ "type": "sns", "topic": topic })
}

async fn publish(world: &World, values: &[(i64, f64)]) {
    put(world, "AWS/SNS", "NumberOfMessagesPublished", &[("TopicName", &world.name)], values).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_to_a_topic_is_a_rate() {
    let world = World::ministack(1).await;
    // Alike in each minute, since the minute may turn while this runs.
    publish(&world, &[(1, 30.0), (2, 30.0), (2, 30.0), (1, 30.0), (3, 30.0), (3, 30.0)]).await;
    let url = world.url();
    assert_eq!(value(&url, settings(&world.name)).await, 60.0);
    let arn = format!("arn:aws:sns:us-east-1:{}:{}", world.account, world.name);
    assert_eq!(value(&url, json!({ "type": "sns", "topic_arn": arn, "per_secs": 1 })).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_to_which_nothing_was_published_in_a_minute_is_zero() {
    let world = World::ministack(1).await;
    publish(&world, &[(1, 0.0), (2, 0.0), (3, 0.0), (4, 9.0)]).await;
    assert_eq!(value(&world.url(), settings(&world.name)).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_nothing_is_known_of_is_an_error_unless_that_means_nothing_published() {
    let world = World::ministack(1).await;
    fails_at(&world.url(), "sns", "missing", settings("no-such-topic")).await;
    let zero = json!({ "type": "sns", "topic": "no-such-topic", "missing": "zero" });
    assert_eq!(value(&world.url(), zero).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_metrics_may_not_be_read_names_the_action() {
    is_denied("sns", settings("orders")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topics_metrics_that_are_not_there_are_unavailable() {
    has_no_port("sns", settings("orders")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topics_metrics_with_another_tls_are_unavailable() {
    has_another_tls("sns", settings("orders")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topics_metrics_that_break_off_are_no_rate() {
    is_killed("sns", settings("orders")).await;
}
