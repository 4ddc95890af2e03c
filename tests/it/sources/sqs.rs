//! Amazon SQS, in two emulators of which one checks signatures and permissions.

use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};
use tidegate::error::ErrorKind;

use super::metrics::{minute, put};
use crate::support::emulator::World;
use crate::support::http::{HttpServer, Reply};
use crate::support::servers::{Relay, free_port};
use crate::support::source::{fails_in, read_in};

/// Five messages put, two of them taken, and one that is delayed.
async fn fill(world: &World) {
    world.send(5).await;
    let taken = world.sqs.receive_message().queue_url(&world.queue_url).max_number_of_messages(2);
    let mut taken_so_far = taken.send().await.expect("messages can be received").messages().len();
    while taken_so_far < 2 {
        let one = world.sqs.receive_message().queue_url(&world.queue_url).max_number_of_messages(1).send().await;
        taken_so_far += one.expect("messages can be received").messages().len();
    }
    let late = world.sqs.send_message().queue_url(&world.queue_url).message_body("late").delay_seconds(600);
    late.send().await.expect("messages can be sent");
}

async fn counts(world: &World, mut settings: Value) -> Value {
    settings["type"] = "sqs".into();
    let reading = read_in(&[("AWS_ENDPOINT_URL", &world.url())], settings).await;
    json!(reading.unwrap_or_else(|error| panic!("{error}")).amount)
}

#[tokio::test]
async fn an_sqs_queue_has_what_waits_what_is_taken_and_what_is_delayed() {
    for world in [World::ministack(1).await, World::moto(1).await] {
        let empty = json!({ "backlog": 0, "in_flight": 0, "delayed": 0 });
        assert_eq!(counts(&world, json!({ "queue": world.queue_url })).await, empty);
        fill(&world).await;
        let full = json!({ "backlog": 3, "in_flight": 2, "delayed": 1 });
        assert_eq!(counts(&world, json!({ "queue": world.queue_url })).await, full);
    }
}

#[tokio::test]
async fn queues_are_found_by_prefix_and_by_tag_and_added_up() {
    for world in [World::ministack(1).await, World::moto(1).await] {
        fill(&world).await;
        for (name, tag) in [("-second", "blue"), ("-third", "green")] {
            let made = world.sqs.create_queue().queue_name(format!("{}{name}", world.name)).tags("team", tag);
            let made = made.tags("run", &world.name).send().await.expect("a queue can be made");
            let url = made.queue_url().expect("it has a URL");
            world.sqs.send_message().queue_url(url).message_body("work").send().await.expect("it can be sent");
        }
        let sum = |backlog: u64, in_flight: u64, delayed: u64| json!({ "backlog": backlog, "in_flight": in_flight, "delayed": delayed });
        assert_eq!(counts(&world, json!({ "prefix": world.name })).await, sum(5, 2, 1));
        assert_eq!(counts(&world, json!({ "prefix": format!("{}-", world.name) })).await, sum(2, 0, 0));
        // One that is named and found counts once.
        let both = json!({ "queue": world.queue_url, "prefix": world.name });
        assert_eq!(counts(&world, both).await, sum(5, 2, 1));
        assert_eq!(counts(&world, json!({ "tag": format!("run={}", world.name) })).await, sum(2, 0, 0));
    }
}

#[tokio::test]
async fn what_was_deleted_of_all_queues_is_tallied_by_minutes_that_are_over() {
    let world = World::ministack(1).await;
    let second = format!("{}-second", world.name);
    world.sqs.create_queue().queue_name(&second).send().await.expect("a queue can be made");
    let now = jiff::Timestamp::now().as_second();
    let until = (now - 120).div_euclid(60) * 60;
    let since = until.div_euclid(10_800) * 10_800;
    // Of the minute that is over for less than two, and of those before the last turn of three hours, nothing counts.
    let values = [(2, 1_000.0), (3, 4.0), (4, 5.0), (9, 6.0), (200, 100.0)];
    for queue in [&world.name, &second] {
        put(&world, "AWS/SQS", "NumberOfMessagesDeleted", &[("QueueName", queue)], &values).await;
    }
    let counts = counts(&world, json!({ "prefix": world.name, "count_deleted": true })).await;
    // The minute may have turned since the values were put.
    if minute(2) == until {
        let counted = values[1..4].iter().filter(|(ago, _)| since <= minute(*ago));
        let messages = 2.0 * counted.map(|(_, value)| value).sum::<f64>();
        let time = |second| jiff::Timestamp::from_second(second).expect("a time");
        let tally = json!({ "messages": messages as u64, "since": time(since), "until": time(until) });
        assert_eq!(counts["tally"], tally);
    }
    assert_eq!(counts["backlog"], 0);
}

#[tokio::test]
async fn queues_of_which_there_are_none_are_not_an_empty_queue() {
    for world in [World::ministack(1).await, World::moto(1).await] {
        for found in [json!({ "prefix": format!("{}-none", world.name) }), json!({ "tag": "no-such-tag=none" })] {
            let mut settings = found;
            settings["type"] = "sqs".into();
            let error = read_in(&[("AWS_ENDPOINT_URL", &world.url())], settings).await.expect_err("there is none");
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
    }
}

#[tokio::test]
async fn a_missing_sqs_queue_is_not_found() {
    let world = World::ministack(1).await;
    let url = format!("{}-none", world.queue_url);
    let env = [("AWS_ENDPOINT_URL", world.url())];
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    fails_in(&env, "sqs", "missing", json!({ "type": "sqs", "queue": url })).await;
}

#[tokio::test]
async fn sqs_denies_whoever_may_not_read_the_queue() {
    let world = World::ministack(1).await;
    let policy = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*" },
    ] });
    let read = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["read", "type=sqs", &format!("queue={}", world.queue_url)])
        .envs(world.role(&policy).await)
        .env("AWS_ENDPOINT_URL", world.url())
        .output()
        .expect("the command can be run");
    let said = String::from_utf8_lossy(&read.stderr);
    assert_eq!(read.status.code(), Some(1), "{said}");
    assert!(said.contains("access denied (sqs:GetQueueAttributes"), "{said}");
}

#[tokio::test]
async fn an_sqs_endpoint_that_is_not_there_is_unavailable() {
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let queue = "https://sqs.us-east-1.amazonaws.com/123456789012/orders";
    let settings = json!({ "type": "sqs", "queue": queue });
    fails_in(&[("AWS_ENDPOINT_URL", &nobody)], "sqs", "port", settings).await;
}

#[tokio::test]
async fn an_sqs_endpoint_without_tls_is_not_asked_by_https() {
    let world = World::ministack(1).await;
    let https = world.url().replace("http://", "https://");
    let settings = json!({ "type": "sqs", "queue": world.queue_url });
    fails_in(&[("AWS_ENDPOINT_URL", &https)], "sqs", "tls", settings.clone()).await;
    // Nor is a certificate believed that nobody vouches for.
    let server = HttpServer::with_tls(Reply::json("{}")).await;
    let error = read_in(&[("AWS_ENDPOINT_URL", &server.url())], settings).await.expect_err("nobody vouches for it");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(!server.seen().contains("GetQueueAttributes"));
}

#[tokio::test]
async fn sqs_that_dies_while_it_answers_is_unavailable() {
    let world = World::ministack(1).await;
    let attributes = world.sqs.get_queue_attributes().queue_url(&world.queue_url);
    attributes.attribute_names(QueueAttributeName::All).send().await.expect("the queue is there");
    for bytes in [0, 10, 100, 150] {
        let relay = Relay::breaking_after(world.address, bytes).await;
        let endpoint = format!("http://{}", relay.address);
        let settings = json!({ "type": "sqs", "queue": world.queue_url });
        fails_in(&[("AWS_ENDPOINT_URL", &endpoint)], "sqs", "killed", settings).await;
    }
}
