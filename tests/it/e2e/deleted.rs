//! What CloudWatch counts as deleted, and what is learned of it, tick by tick on AWS interfaces.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum};
use jiff::Timestamp;
use serde_json::{Value, json};
use tidegate::handler::{Host, Invocation};

use crate::support::emulator::{TIMEOUT_MS, World};
use crate::support::proxy::{Fault, Proxy};
use crate::support::{Moved, noon};

/// Longer than a reading waits for CloudWatch.
const PAST_PATIENCE: Duration = Duration::from_secs(60);

const PROMISE: [(&str, &str); 2] = [("TARGET_WAIT_SECS", "60"), ("SQS_COUNT_DELETED", "true")];

/// A turn of three hours, at which the count begins anew. It is one of today: what is older than two weeks is forgotten.
fn turn() -> i64 {
    Timestamp::now().as_second().div_euclid(10_800) * 10_800
}

/// So many messages deleted in each minute from an hour before the turn to an hour after it.
async fn deleted(world: &World, turn: i64, a_minute: f64) {
    let client = aws_sdk_cloudwatch::Client::new(&world.sdk());
    let queue = Dimension::builder().name("QueueName").value(&world.name).build();
    let of_minute = |minute: i64| {
        let datum = MetricDatum::builder().metric_name("NumberOfMessagesDeleted").dimensions(queue.clone());
        datum.timestamp(DateTime::from_secs(turn + 60 * minute + 5)).value(a_minute).build()
    };
    for minutes in (-60..60).collect::<Vec<_>>().chunks(20) {
        let data = minutes.iter().copied().map(of_minute).collect();
        let request = client.put_metric_data().namespace("AWS/SQS").set_metric_data(Some(data));
        request.send().await.expect("metrics can be put");
    }
}

/// Ten messages that somebody works on.
async fn take_ten(world: &World) {
    world.send(10).await;
    let mut taken = 0;
    while taken < 10 {
        let some = world.sqs.receive_message().queue_url(&world.queue_url).max_number_of_messages(10);
        taken += some.visibility_timeout(3_600).send().await.expect("messages can be received").messages().len();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_a_message_takes_is_learned_of_what_was_deleted() {
    let world = World::ministack(20).await;
    world.rest().await;
    take_ten(&world).await;
    // Ten in flight and two a second deleted: five seconds each, of which nobody said anything.
    let turn = turn();
    deleted(&world, turn, 120.0).await;
    let proxy = Proxy::start(world.address).await;
    let vars: BTreeMap<_, _> = world.env(&proxy.url(), &PROMISE).into_iter().collect();
    let clock = Arc::new(Moved::at_noon());
    let host = Host::new(Arc::new(vars), clock.clone(), true);
    proxy.rewrite_response("DescribeServices", |mut answer: Value| {
        answer["services"][0]["runningCount"] = answer["services"][0]["desiredCount"].clone();
        answer["services"][0]["pendingCount"] = 0.into();
        answer
    });
    let (mut learned, mut slow) = (Vec::new(), 0);
    for tick in 0..60 {
        clock.to(turn - noon().as_second() + 15 * tick);
        let invocation = Invocation { id: format!("tick-{tick}"), ..Invocation::default() };
        let answer = host.handle(&json!({}), invocation).await.expect("the tick succeeds");
        let record = json!(answer.records[0]);
        // On a busy machine an answer may be late, and the next tick asks again.
        let warnings = record["warnings"].as_array().expect("a list");
        assert!(warnings.iter().all(|warning| warning.to_string().contains("no answer in 2 s")), "{record}");
        slow += warnings.len();
        let reason = record["decision"]["reasons"][0].clone();
        learned.push((reason["service_secs"].as_f64().expect("a number"), reason["learned_from"].as_f64()));
    }
    // A quarter of the promise until there is a tally of minutes that were seen, the first of which has to be over for two more.
    assert_eq!(learned[..12].iter().find(|(_, messages)| messages.is_some()), None, "{learned:?}");
    assert_eq!(learned[0].0, 15.0);
    let (secs, messages) = learned[59];
    assert!((4.5..5.6).contains(&secs) && messages.is_some_and(|messages| 300.0 < messages), "{learned:?}");
    // A minute is asked for once, however many ticks there are in it; at the turn of three hours there is nothing to ask for.
    assert!((14..=14 + 2 * slow).contains(&proxy.count("GetMetricData")), "{}", proxy.count("GetMetricData"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_counted_is_warned_of_and_the_queue_is_read_all_the_same() {
    let world = World::ministack(10).await;
    world.rest().await;
    world.send(5_000).await;
    let proxy = Proxy::start(world.address).await;
    let function = world.function(&world.env(&proxy.url(), &PROMISE)).await;
    let denied = Fault::json(403, "AccessDenied");
    for (fault, says) in [(denied, "cloudwatch:GetMetricData"), (Fault::Delay(PAST_PATIENCE), "no answer in 2 s")] {
        proxy.reset();
        proxy.fail("GetMetricData", 100, fault);
        let mut said = String::new();
        // On a busy machine a refusal may be too late to be heard at first.
        for _ in 0..3 {
            let answer = function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
            let record = &answer["records"][0];
            said = record["warnings"].to_string();
            assert!(said.contains("NumberOfMessagesDeleted"), "{record}");
            let reading = &record["samples"][0]["reading"];
            assert_eq!((&reading["backlog"], &reading["tally"]), (&json!(5_000), &Value::Null), "{record}");
            if said.contains(says) {
                break;
            }
        }
        assert!(said.contains(says), "{said}");
    }
    assert!(10 < world.desired().await);
}
