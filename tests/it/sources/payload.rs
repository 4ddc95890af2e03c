use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate::config::{Config, Input, Problems, load};
use tidegate::core::{Amount, QueueDepth};
use tidegate::error::Error;
use tidegate::shared::Shared;
use tidegate::sources::Measurement;

use crate::support::source::{depth, fails_as, gauge};

/// The configuration of a deployment with this source, or of a payload with it, for an event.
fn configured(of_deployment: Option<Value>, env: &[(&str, &str)], event: &Value) -> Result<Config, Problems> {
    let mut vars: BTreeMap<_, _> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    for (name, value) in [("ECS_CLUSTER", "prod"), ("SERVICE_NAME", "orders"), ("S3_CONFIG_BUCKET", "state")] {
        vars.insert(name.to_owned(), value.to_owned());
    }
    if let Some(source) = of_deployment {
        vars.insert("CONFIG".to_owned(), json!({ "queue_type": "payload", "queue_config": source }).to_string());
    }
    load(Input { vars: &vars, event, in_lambda: true, remote: None })
}

async fn read(config: Result<Config, Problems>) -> Result<Measurement, Error> {
    let config = config.map_err(Error::from)?;
    let shared = Shared::new(&config, Arc::new(tidegate::config::Environment), None).await;
    config.services[0].sources[0].section.build(&shared)?.read().await
}

fn number(measurement: &Measurement) -> f64 {
    match measurement.amount {
        Amount::Queue(depth) => depth.backlog as f64,
        Amount::Gauge { value } => value.get(),
    }
}

#[tokio::test]
async fn a_payload_says_itself_how_much_waits() {
    assert_eq!(gauge(json!({ "type": "payload", "value": 120 })).await, 120.0);
    assert_eq!(gauge(json!({ "type": "payload", "value": 0 })).await, 0.0);
    let counts = json!({ "type": "payload", "backlog": 5, "in_flight": 2 });
    assert_eq!(depth(counts).await, QueueDepth { backlog: 5, in_flight: Some(2), ..QueueDepth::default() });
    let event = json!({ "config": { "queue_type": "payload", "queue_config": { "value": 120 } } });
    let measurement = read(configured(None, &[], &event)).await.expect("the payload has it");
    assert_eq!((number(&measurement), measurement.taken_at), (120.0, None));
    fails_as("payload", "missing", json!({ "type": "payload", "pointer": "/detail/waiting" })).await;
}

#[tokio::test]
async fn a_deployments_source_finds_its_number_in_events_of_aws() {
    let waiting = json!({ "waiting": 9 }).to_string();
    // As in AWS's own examples of each.
    let of_eventbridge = json!({
        "version": "0", "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa", "detail-type": "Queue Depth", "source": "orders",
        "account": "123456789012", "time": "2026-11-22T12:00:00Z", "region": "us-east-1", "resources": [],
        "detail": { "waiting": 9 },
    });
    let of_sns = json!({ "Records": [{ "EventVersion": "1.0", "EventSource": "aws:sns", "Sns": {
        "Type": "Notification", "Message": waiting, "Timestamp": "2026-11-22T12:00:00.000Z",
    } }] });
    let of_a_url = json!({
        "version": "2.0", "routeKey": "$default", "rawPath": "/", "headers": { "content-type": "application/json" },
        "requestContext": { "http": { "method": "POST" }, "timeEpoch": 1_795_348_800_000_i64 },
        "body": waiting, "isBase64Encoded": false,
    });
    let of_an_alarm = json!({
        "source": "aws.cloudwatch", "alarmArn": "arn:aws:cloudwatch:us-east-1:123456789012:alarm:depth",
        "accountId": "123456789012", "time": "2026-11-22T12:00:00.000+0000", "region": "us-east-1",
        "alarmData": { "state": { "value": "ALARM", "reasonData": json!({ "recentDatapoints": [9.0] }).to_string() } },
    });
    for (pointer, event) in [
        ("/detail/waiting", of_eventbridge),
        ("/Records/0/Sns/Message/waiting", of_sns),
        ("/body/waiting", of_a_url),
        ("/alarmData/state/reasonData/recentDatapoints/0", of_an_alarm),
    ] {
        let measurement = read(configured(Some(json!({ "pointer": pointer })), &[], &event)).await;
        let measurement = measurement.unwrap_or_else(|error| panic!("{event}: {error}"));
        assert_eq!(number(&measurement), 9.0, "{event}");
        let taken_at = measurement.taken_at.expect("the event says when").to_string();
        assert_eq!(taken_at, "2026-11-22T12:00:00Z", "{event}");
    }
}

#[test]
fn an_event_of_another_shape_is_refused_where_nothing_looks_into_it() {
    let event = json!({ "body": "{}", "requestContext": {} });
    let sqs = [("SQS_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/123456789012/orders")];
    let problems = configured(None, &sqs, &event).expect_err("nothing looks into it");
    assert_eq!(problems.0.len(), 2, "{problems:?}");
    // Nor does a payload's own source open the way for its own event.
    let own = json!({ "body": "{}", "config": { "queue_type": "payload", "queue_config": { "pointer": "/body/n" } } });
    assert_eq!(configured(None, &sqs, &own).expect_err("the deployment has none").0.len(), 1);
    // A setting in the wrong place is one everywhere.
    let misplaced = json!({ "body": "{}", "max_tasks": 5 });
    let problems = configured(Some(json!({ "pointer": "/body/n" })), &[], &misplaced).expect_err("it is misplaced");
    assert!(problems.0[0].remedy.contains("config.max_tasks"), "{problems:?}");
}

#[test]
fn a_number_in_the_deployment_is_refused_since_it_would_never_change() {
    let problems = configured(Some(json!({ "value": 5 })), &[], &json!({})).expect_err("it never changes");
    assert!(problems.0[0].problem.contains("never change"), "{problems:?}");
    let unlisted = json!({ "config": { "queue_type": "payload", "queue_config": { "value": 5 } } });
    let problems = configured(None, &[("ALLOWED_SOURCES", r#"["sqs:*"]"#)], &unlisted).expect_err("it is not listed");
    assert!(problems.0[0].problem.contains("payload:-/-/value"), "{problems:?}");
    let forged = json!({ "config": { "queue_type": "payload", "queue_config": { "pointer": "/n", "found": {} } } });
    assert!(configured(None, &[], &forged).is_err(), "what was found is not for users to say");
}
