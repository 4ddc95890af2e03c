//! `kinesis`, against an emulator: streams, records and leases are its own, metrics are put by the tests, since it sends none.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{ShardIteratorType, StreamStatus};
use serde_json::{Value, json};
use tidegate::cli::SourceReading;
use tidegate::core::{Amount, QueueDepth};
use tidegate::error::{Error, ErrorKind};

use super::metrics::{fails_at, has_another_tls, has_no_port, is_denied, is_killed, minute, put, read_at};
use crate::support::emulator::World;

const NAMESPACE: &str = "AWS/Kinesis";

fn settings(stream: &str) -> Value {
    json!({ "type": "kinesis", "stream_name": stream })
}

fn depth(reading: Result<SourceReading, Error>) -> QueueDepth {
    match reading.unwrap_or_else(|error| panic!("{error}")).amount {
        Amount::Queue(depth) => depth,
        Amount::Gauge { value } => panic!("it is a number: {value:?}"),
    }
}

/// A stream of the world's name.
async fn stream(world: &World, shards: i32) -> Client {
    let client = Client::new(&world.sdk());
    let request = client.create_stream().stream_name(&world.name).shard_count(shards);
    request.send().await.expect("a stream can be made");
    is_active(&client, world).await;
    client
}

async fn is_active(client: &Client, world: &World) {
    for _ in 0..200 {
        let answer = client.describe_stream_summary().stream_name(&world.name).send().await.expect("it is there");
        let summary = answer.stream_description_summary.expect("it has a summary");
        if summary.stream_status == StreamStatus::Active {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the stream did not become active");
}

async fn arrive(world: &World, values: &[(i64, f64)]) {
    put(world, NAMESPACE, "IncomingRecords", &[("StreamName", &world.name)], values).await;
}

/// A consumer's age in the newest minutes.
async fn fall_behind(world: &World, ms: f64) {
    let values = [(1, ms), (2, ms), (3, ms)];
    put(world, NAMESPACE, "GetRecords.IteratorAgeMilliseconds", &[("StreamName", &world.name)], &values).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_its_consumers_age_and_what_arrives_in_that_time() {
    let world = World::ministack(1).await;
    stream(&world, 2).await;
    fall_behind(&world, 300_000.0).await;
    // 120 a minute, for longer than the age.
    arrive(&world, &(1..12).map(|ago| (ago, 120.0)).collect::<Vec<_>>()).await;
    let before = minute(1);
    let reading = read_at(&world.url(), settings(&world.name)).await.expect("it can be read");
    if minute(1) == before {
        assert_eq!(reading.taken_at.map(jiff::Timestamp::as_second), Some(before));
    }
    let expected = QueueDepth {
        backlog: 600,
        in_flight: None,
        delayed: None,
        oldest_age_secs: Some(300),
        ..QueueDepth::default()
    };
    assert_eq!(depth(Ok(reading)), expected);
    let arn = format!("arn:aws:kinesis:us-east-1:{}:stream/{}", world.account, world.name);
    assert_eq!(depth(read_at(&world.url(), json!({ "type": "kinesis", "stream": arn })).await), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_with_enhanced_fan_out_has_an_age_of_its_own() {
    let world = World::ministack(1).await;
    stream(&world, 1).await;
    fall_behind(&world, 0.0).await;
    arrive(&world, &(1..8).map(|ago| (ago, 60.0)).collect::<Vec<_>>()).await;
    let dimensions = [("StreamName", world.name.as_str()), ("ConsumerName", "billing")];
    let values = [(1, 60_000.0), (2, 60_000.0), (3, 60_000.0)];
    put(&world, NAMESPACE, "SubscribeToShardEvent.MillisBehindLatest", &dimensions, &values).await;
    let of = |consumer: &str| json!({ "type": "kinesis", "stream": world.name, "consumer": consumer });
    assert_eq!(depth(read_at(&world.url(), of("billing")).await).backlog, 60);
    assert_eq!(depth(read_at(&world.url(), settings(&world.name)).await).backlog, 0);
    let error = read_at(&world.url(), of("biling")).await.expect_err("nobody is called so");
    assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_read_to_its_end_is_empty() {
    let world = World::ministack(1).await;
    stream(&world, 1).await;
    fall_behind(&world, 0.0).await;
    let expected =
        QueueDepth { backlog: 0, in_flight: None, delayed: None, oldest_age_secs: Some(0), ..QueueDepth::default() };
    assert_eq!(depth(read_at(&world.url(), settings(&world.name)).await), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_reads_is_unknown_and_never_empty() {
    let world = World::ministack(1).await;
    stream(&world, 1).await;
    arrive(&world, &[(1, 60.0), (2, 60.0)]).await;
    let error = read_at(&world.url(), settings(&world.name)).await.expect_err("nobody reads it");
    assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
    assert!(error.to_string().contains("nobody has read the stream"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_behind_arrivals_that_are_not_known_is_unknown() {
    let world = World::ministack(1).await;
    stream(&world, 1).await;
    fall_behind(&world, 300_000.0).await;
    let error = read_at(&world.url(), settings(&world.name)).await.expect_err("what arrived is unknown");
    assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
    assert!(error.to_string().contains("IncomingRecords"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_missing_is_not_found() {
    let world = World::ministack(1).await;
    fails_at(&world.url(), "kinesis", "missing", settings("no-such-stream")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_may_not_be_read_names_the_action() {
    is_denied("kinesis", settings("orders")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kinesis_that_is_not_there_is_unavailable() {
    has_no_port("kinesis", settings("orders")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kinesis_with_another_tls_is_unavailable() {
    has_another_tls("kinesis", settings("orders")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kinesis_that_dies_while_it_answers_gives_no_number() {
    is_killed("kinesis", settings("orders")).await;
}

/// The lease table of an application: items as `DynamoDBLeaseSerializer` of the Kinesis Client Library writes them.
async fn lease(world: &World, checkpoints: &[(&str, &str)]) {
    let key = KeySchemaElement::builder().attribute_name("leaseKey").key_type(KeyType::Hash).build();
    let text = AttributeDefinition::builder().attribute_name("leaseKey").attribute_type(ScalarAttributeType::S).build();
    let request = world.dynamodb.create_table().table_name(&world.name).billing_mode(BillingMode::PayPerRequest);
    let request = request.key_schema(key.expect("valid")).attribute_definitions(text.expect("valid"));
    let _there_already = request.send().await;
    let (text, number) = (|text: &str| AttributeValue::S(text.to_owned()), |n: &str| AttributeValue::N(n.to_owned()));
    for (shard, checkpoint) in checkpoints {
        let item = world.dynamodb.put_item().table_name(&world.name).item("leaseKey", text(shard));
        let item = item.item("checkpoint", text(checkpoint)).item("checkpointSubSequenceNumber", number("0"));
        let item = item.item("leaseCounter", number("7")).item("leaseOwner", text("worker-1"));
        item.item("ownerSwitchesSinceCheckpoint", number("0")).send().await.expect("an item can be put");
    }
    // Since 3.5 the table may have items of other kinds.
    let other = world.dynamodb.put_item().table_name(&world.name).item("leaseKey", text("worker-1"));
    other.item("entityType", text("WORKER_METRICS")).send().await.expect("an item can be put");
}

fn probing(world: &World) -> Value {
    json!({ "type": "kinesis", "stream": world.name, "lease_table": world.name, "probe": true })
}

/// The sequence numbers of the records of a shard.
async fn numbers(client: &Client, world: &World, shard: &str) -> Vec<String> {
    let request = client.get_shard_iterator().stream_name(&world.name).shard_id(shard);
    let iterator = request.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.expect("an iterator");
    let answer = client.get_records().set_shard_iterator(iterator.shard_iterator).send().await.expect("records");
    answer.records().iter().map(|record| record.sequence_number().to_owned()).collect()
}

async fn shards(client: &Client, world: &World) -> Vec<String> {
    let answer = client.list_shards().stream_name(&world.name).send().await.expect("shards can be listed");
    answer.shards().iter().map(|shard| shard.shard_id().to_owned()).collect()
}

async fn send(client: &Client, world: &World, records: usize) {
    for number in 0..records {
        let data = aws_sdk_kinesis::primitives::Blob::new("work");
        let request = client.put_record().stream_name(&world.name).partition_key(number.to_string()).data(data);
        request.send().await.expect("a record can be put");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_table_says_where_its_application_is_even_if_nobody_reads() {
    let world = World::ministack(1).await;
    let client = stream(&world, 2).await;
    send(&client, &world, 20).await;
    arrive(&world, &(1..8).map(|ago| (ago, 600.0)).collect::<Vec<_>>()).await;
    let shards = shards(&client, &world).await;
    let (first, second) = (numbers(&client, &world, &shards[0]).await, numbers(&client, &world, &shards[1]).await);
    let last = |numbers: &[String]| numbers.last().expect("there are records").clone();
    // At the end of both.
    lease(&world, &[(&shards[0], &last(&first)), (&shards[1], &last(&second))]).await;
    let expected =
        QueueDepth { backlog: 0, in_flight: None, delayed: None, oldest_age_secs: Some(0), ..QueueDepth::default() };
    assert_eq!(depth(read_at(&world.url(), probing(&world)).await), expected);
    // After the first record of one shard, and not begun in the other.
    lease(&world, &[(&shards[0], &first[0]), (&shards[1], "TRIM_HORIZON")]).await;
    let found = depth(read_at(&world.url(), probing(&world)).await);
    assert!(2 <= found.backlog && found.backlog < 600, "{found:?}");
    assert!(found.oldest_age_secs < Some(60), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_seen_to_wait_count_before_their_arrival_is_known() {
    let world = World::ministack(1).await;
    let client = stream(&world, 1).await;
    send(&client, &world, 3).await;
    lease(&world, &[("shardId-000000000000", "TRIM_HORIZON")]).await;
    assert_eq!(depth(read_at(&world.url(), probing(&world)).await).backlog, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_has_no_checkpoint_yet_has_an_unknown_lag() {
    let world = World::ministack(1).await;
    let client = stream(&world, 1).await;
    send(&client, &world, 3).await;
    lease(&world, &[("shardId-000000000000", "LATEST")]).await;
    let error = read_at(&world.url(), probing(&world)).await.expect_err("a worker may be behind");
    assert!(error.kind() == ErrorKind::Missing && error.to_string().contains("no checkpoint yet"), "{error}");
    lease(&world, &[("shardId-000000000000", "SHARD_END")]).await;
    let error = read_at(&world.url(), probing(&world)).await.expect_err("the shard is open");
    assert!(error.kind() == ErrorKind::Missing && error.to_string().contains("is open"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_resharded_has_what_is_left_of_old_and_new_shards() {
    let world = World::ministack(1).await;
    let client = stream(&world, 1).await;
    send(&client, &world, 5).await;
    let old = shards(&client, &world).await;
    let request = client.split_shard().stream_name(&world.name).shard_to_split(&old[0]);
    let middle = (1_u128 << 127).to_string();
    request.new_starting_hash_key(middle).send().await.expect("it can be split");
    is_active(&client, &world).await;
    arrive(&world, &(1..8).map(|ago| (ago, 600.0)).collect::<Vec<_>>()).await;
    let new: Vec<_> = shards(&client, &world).await.into_iter().filter(|shard| !old.contains(shard)).collect();
    assert!(!new.is_empty());
    send(&client, &world, 8).await;
    // The application is still in the old shard, and has no leases for the new ones yet. The emulator has dropped the old one,
    // as Kinesis does when what is in it has expired.
    lease(&world, &[(&old[0], "TRIM_HORIZON")]).await;
    let found = depth(read_at(&world.url(), probing(&world)).await);
    assert!(0 < found.backlog, "{found:?}");
    // It is through with all.
    lease(&world, &[(&old[0], "SHARD_END")]).await;
    for shard in &new {
        let last = numbers(&client, &world, shard).await.pop();
        lease(&world, &[(shard, last.as_deref().unwrap_or("TRIM_HORIZON"))]).await;
    }
    assert_eq!(depth(read_at(&world.url(), probing(&world)).await).backlog, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_table_that_is_none_is_an_error() {
    let world = World::ministack(1).await;
    stream(&world, 1).await;
    let error = read_at(&world.url(), probing(&world)).await.expect_err("there is no table");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    lease(&world, &[]).await;
    let error = read_at(&world.url(), probing(&world)).await.expect_err("nobody has begun");
    assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
    lease(&world, &[("shardId-000000000000", "yesterday")]).await;
    let error = read_at(&world.url(), probing(&world)).await.expect_err("it is no checkpoint");
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
}
