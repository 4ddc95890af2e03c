//! RabbitMQ against a real one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use tidegate::core::{Amount, QueueDepth};
use tidegate::error::ErrorKind;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::http::{CA, HttpServer, Reply};
use crate::support::servers::{Relay, free_port, started};
use crate::support::source::{depth, fails_as, read, read_in};

/// Statistics come within five seconds, on a busy machine later.
const PATIENCE: Duration = Duration::from_secs(40);

fn amqp() -> SocketAddr {
    started("TIDEGATE_TEST_RABBITMQ")
}

fn management() -> SocketAddr {
    started("TIDEGATE_TEST_RABBITMQ_HTTP")
}

/// Settings for a queue by AMQP, without TLS.
fn by_amqp(queue: &str) -> Value {
    with(json!({ "host": "127.0.0.1", "port": amqp().port(), "use_ssl": false }), json!({ "queue": queue }))
}

/// The same by the management interface.
fn by_http(queue: &str) -> Value {
    with(json!({ "url": format!("http://{}", management()) }), json!({ "queue": queue }))
}

/// Settings with more in them; null takes one out.
fn with(settings: Value, more: Value) -> Value {
    let mut all = json!({ "type": "rabbitmq", "username": "guest", "password": "guest" });
    let object = all.as_object_mut().expect("an object");
    for part in [settings, more] {
        object.extend(part.as_object().expect("an object").clone());
    }
    object.retain(|_, value| !value.is_null());
    all
}

/// Asks the broker to do something, as its administrator.
async fn administer(method: &str, path: &str, body: Value) {
    let url = format!("http://{}/api/{path}", management());
    let method = method.parse().expect("a method");
    let request = reqwest::Client::new().request(method, url).basic_auth("guest", Some("guest")).body(body.to_string());
    let answer = request.send().await.expect("the broker answers");
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
}

async fn channel(vhost: &str) -> (Connection, Channel) {
    let uri = format!("amqp://guest:guest@{}/{vhost}", amqp());
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await.expect("connecting");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

/// A queue of the test's own with so many messages.
async fn queue(channel: &Channel, name: &str, messages: usize) {
    let gone = QueueDeclareOptions { auto_delete: false, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), gone, FieldTable::default()).await.expect("declaring");
    channel.queue_purge(name.into(), Default::default()).await.expect("purging");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirming");
    // Two hours before the test's servers were made.
    let properties = BasicProperties::default().with_timestamp(1_700_000_000);
    for _ in 0..messages {
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish("".into(), name.into(), options, b"work", properties.clone()).await;
        sent.expect("publishing").await.expect("confirmed");
    }
}

/// Reads until the statistics are there and say what is expected of them.
async fn until(settings: Value, expected: impl Fn(&QueueDepth) -> bool) -> QueueDepth {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let seen = read(settings.clone()).await;
        match &seen {
            Ok(reading) => match reading.amount {
                Amount::Queue(depth) if expected(&depth) => return depth,
                _ => {}
            },
            Err(error) => assert_eq!(error.kind(), ErrorKind::Missing, "{error}"),
        }
        assert!(Instant::now() < give_up, "{seen:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn rabbitmq_counts_what_waits_and_by_http_what_is_in_flight() {
    let (_connection, channel) = channel("%2F").await;
    // A queue counts what was acknowledged as long as it lives, so that each run takes another.
    let name = format!("counts-{}", std::process::id());
    queue(&channel, &name, 22).await;
    for number in 0..7 {
        let got = channel.basic_get(name.as_str().into(), BasicGetOptions::default()).await.expect("getting");
        let got = got.expect("a message");
        if number < 2 {
            got.ack(BasicAckOptions::default()).await.expect("acknowledging");
        }
    }
    let ready = QueueDepth { backlog: 15, ..QueueDepth::default() };
    assert_eq!(depth(by_amqp(&name)).await, ready);
    // The queue and its channels tell the broker at times of their own, so that a look in between has some of it.
    let is_old = |depth: &QueueDepth| depth.oldest_age_secs.is_some_and(|age| 7200 < age);
    let is_all = |depth: &QueueDepth| depth.in_flight == Some(5) && depth.completed == Some(2) && is_old(depth);
    let both = until(by_http(&name), is_all).await;
    assert_eq!((both.backlog, both.delayed), (15, None));
}

#[tokio::test]
async fn an_empty_rabbitmq_queue_is_zero() {
    let (_connection, channel) = channel("%2F").await;
    queue(&channel, "empty", 0).await;
    assert_eq!(depth(by_amqp("empty")).await.backlog, 0);
    let both = until(by_http("empty"), |depth| depth.backlog == 0).await;
    assert_eq!((both.in_flight, both.oldest_age_secs), (Some(0), None));
}

#[tokio::test]
async fn a_missing_rabbitmq_queue_or_vhost_is_not_found_and_is_not_made() {
    for settings in [by_amqp("nowhere"), by_http("nowhere")] {
        fails_as("rabbitmq", "missing", settings.clone()).await;
        let error = read(with(settings, json!({ "vhost": "no-such" }))).await.expect_err("there is no vhost");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("no such vhost"), "{error}");
    }
    // A second look finds as little as the first.
    fails_as("rabbitmq", "missing", by_amqp("nowhere")).await;
}

#[tokio::test]
async fn a_wrong_rabbitmq_password_is_denied_with_the_users_name() {
    for settings in [by_amqp("any"), by_http("any")] {
        fails_as("rabbitmq", "password", with(settings, json!({ "password": "canary" }))).await;
    }
}

#[tokio::test]
async fn a_rabbitmq_user_without_permission_is_denied() {
    administer("PUT", "users/stranger", json!({ "password": "canary", "tags": "monitoring" })).await;
    administer("PUT", "users/nobody", json!({ "password": "canary", "tags": "" })).await;
    let (_connection, channel) = channel("%2F").await;
    queue(&channel, "private", 0).await;
    for (settings, user, says) in [
        (by_amqp("private"), "stranger", "may not use this vhost"),
        (by_http("private"), "stranger", "user \"stranger\""),
        (by_http("private"), "nobody", "give it monitoring"),
    ] {
        let error =
            read(with(settings, json!({ "username": user, "password": "canary" }))).await.expect_err("no permission");
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_rabbitmq_port_is_an_error() {
    fails_as("rabbitmq", "port", with(by_amqp("any"), json!({ "port": free_port() }))).await;
    let url = format!("http://127.0.0.1:{}", free_port());
    fails_as("rabbitmq", "port", with(by_http("any"), json!({ "url": url }))).await;
    // Each protocol at the other's port.
    let error = read(with(by_amqp("any"), json!({ "port": management().port() }))).await.expect_err("it is HTTP");
    assert!(matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Unavailable), "{error}");
    let error =
        read(with(by_http("any"), json!({ "url": format!("http://{}", amqp()) }))).await.expect_err("it is AMQP");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn rabbitmq_with_tls_is_verified_and_a_mismatch_is_said_to_be_one() {
    let (_connection, channel) = channel("%2F").await;
    queue(&channel, "tls", 3).await;
    let amqps = started("TIDEGATE_TEST_RABBITMQ_TLS").port();
    let https = started("TIDEGATE_TEST_RABBITMQ_HTTPS").port();
    // Nobody vouches for the broker's CA.
    let tls = with(json!({ "host": "localhost", "port": amqps }), json!({ "queue": "tls" }));
    fails_as("rabbitmq", "tls", tls.clone()).await;
    assert_eq!(depth(with(tls.clone(), json!({ "ca": CA }))).await.backlog, 3);
    // The certificate is the host's of another name.
    let error = read(with(tls.clone(), json!({ "ca": CA, "host": "127.0.0.1" }))).await.expect_err("another name");
    assert!(error.to_string().contains("certificate"), "{error}");
    // The same by HTTP.
    let url = format!("https://localhost:{https}");
    let by_https = with(by_http("tls"), json!({ "url": url }));
    fails_as("rabbitmq", "tls", by_https.clone()).await;
    until(with(by_https, json!({ "ca": CA })), |depth| depth.backlog == 3).await;
    // TLS where there is none, and none where there is TLS.
    let error = read(with(tls.clone(), json!({ "ca": CA, "port": amqp().port() }))).await.expect_err("no TLS there");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
    let error = read(with(tls, json!({ "use_ssl": false }))).await.expect_err("it wants TLS");
    assert!(matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Unavailable), "{error}");
    assert!(error.to_string().contains("TLS"), "{error}");
    let url = format!("https://localhost:{}", management().port());
    let error = read(with(by_http("tls"), json!({ "url": url }))).await.expect_err("no TLS there");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
}

#[tokio::test]
async fn a_rabbitmq_that_dies_while_it_answers_is_no_number() {
    let (_connection, channel) = channel("%2F").await;
    queue(&channel, "killed", 3).await;
    until(by_http("killed"), |depth| depth.backlog == 3).await;
    for bytes in [0, 7, 400, 560] {
        let relay = Relay::breaking_after(amqp(), bytes).await;
        fails_as("rabbitmq", "killed", with(by_amqp("killed"), json!({ "port": relay.address.port() }))).await;
    }
    for bytes in [0, 40, 300] {
        let relay = Relay::breaking_after(management(), bytes).await;
        let url = format!("http://{}", relay.address);
        let error = read(with(by_http("killed"), json!({ "url": url }))).await.expect_err("it died");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}

#[tokio::test]
async fn a_fresh_rabbitmq_queue_without_statistics_is_missing_and_no_zero() {
    let recorded: Value = serde_json::from_str(include_str!("recorded/rabbitmq-queue-fresh.json")).expect("JSON");
    let server = HttpServer::start(Reply::json(&recorded["body"])).await;
    let url = format!("http://{}", server.address);
    let error = read(with(by_http("orders"), json!({ "url": url }))).await.expect_err("no statistics");
    assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
    // A real one: there is a moment in which it is so, which a busy machine may miss some times. What is there then may be from
    // before the message, since RabbitMQ takes statistics every few seconds.
    let (_connection, channel) = channel("%2F").await;
    for number in 0..200 {
        let name = format!("fresh-{number}");
        channel.queue_delete(name.as_str().into(), Default::default()).await.expect("deleting");
        queue(&channel, &name, 1).await;
        if let Err(error) = read(by_http(&name)).await {
            assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
            return;
        }
    }
    panic!("no queue of 200 was without statistics");
}

#[tokio::test]
async fn rabbitmq_queues_are_found_by_their_names_pattern_and_combined() {
    administer("PUT", "vhosts/pattern", json!({})).await;
    let (_connection, channel) = channel("pattern").await;
    for (name, messages) in [("orders.eu", 4), ("orders.us", 7), ("other", 100)] {
        queue(&channel, name, messages).await;
    }
    let regex = |regex: &str, more: Value| {
        let settings = with(by_http("x"), json!({ "queue": null, "queue_regex": regex, "vhost": "pattern" }));
        with(settings, more)
    };
    until(regex(r"^orders\.", json!({})), |depth| depth.backlog == 11).await;
    for (combine, backlog) in [("sum", 11), ("max", 7), ("mean", 6)] {
        assert_eq!(depth(regex(r"^orders\.", json!({ "combine": combine }))).await.backlog, backlog, "{combine}");
        let named =
            json!({ "queue": null, "queues": ["orders.eu", "orders.us"], "vhost": "pattern", "combine": combine });
        for settings in [by_amqp("x"), by_http("x")] {
            assert_eq!(depth(with(settings, named.clone())).await.backlog, backlog, "{combine}");
        }
    }
    let error = read(regex("^nothing", json!({}))).await.expect_err("no queue matches");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(depth(regex("^nothing", json!({ "allow_no_match": true }))).await.backlog, 0);
    let error = read(regex("[", json!({ "allow_no_match": true }))).await.expect_err("no expression");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    let error = read(regex(".", json!({ "vhost": "no-such" }))).await.expect_err("no vhost");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn a_rabbitmq_queue_of_another_connection_is_refused_by_amqp() {
    let (_connection, channel) = channel("%2F").await;
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("exclusive".into(), exclusive, FieldTable::default()).await.expect("declaring");
    let error = read(by_amqp("exclusive")).await.expect_err("it is locked");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("protocol http"), "{error}");
}

#[tokio::test]
async fn a_rabbitmq_stream_has_no_backlog() {
    administer("PUT", "queues/%2F/stream", json!({ "durable": true, "arguments": { "x-queue-type": "stream" } })).await;
    let give_up = Instant::now() + PATIENCE;
    loop {
        let error = read(by_http("stream")).await.expect_err("it is a stream");
        assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
        match error.to_string().contains("stream, which") {
            true => return,
            false => assert!(Instant::now() < give_up, "{error}"),
        }
    }
}

#[tokio::test]
async fn a_reading_that_is_dropped_ends_its_connection_to_rabbitmq() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let reading = tokio::spawn(read(with(by_amqp("any"), json!({ "port": port }))));
    let (mut stream, _) = listener.accept().await.expect("it connects");
    let mut header = [0; 8];
    stream.read_exact(&mut header).await.expect("it begins");
    assert_eq!(&header, b"AMQP\0\0\x09\x01");
    reading.abort();
    let rest = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut header)).await;
    assert_eq!(rest.expect("the connection ends").unwrap_or(0), 0);
}

#[tokio::test]
async fn a_broker_of_amazon_mq_is_looked_up_and_asked() {
    let (_connection, channel) = channel("%2F").await;
    queue(&channel, "managed", 3).await;
    let amqps = started("TIDEGATE_TEST_RABBITMQ_TLS").port();
    let https = started("TIDEGATE_TEST_RABBITMQ_HTTPS").port();
    // <https://docs.aws.amazon.com/amazon-mq/latest/api-reference/brokers-broker-id.html>
    let broker = |engine: &str| {
        json!({
            "brokerId": "b-1", "brokerName": "orders", "engineType": engine, "brokerState": "RUNNING",
            "brokerInstances": [{
                "consoleURL": format!("https://localhost:{https}"), "endpoints": [format!("amqps://localhost:{amqps}")],
            }],
        })
    };
    let aws = HttpServer::start(Reply::json(broker("RABBITMQ"))).await;
    let endpoint = format!("http://{}", aws.address);
    let env = [("AWS_ENDPOINT_URL", endpoint.as_str()), ("AWS_REGION", "eu-west-1")];
    let settings = |more: Value| with(json!({ "broker_id": "b-1", "queue": "managed", "ca": CA }), more);
    let reading = read_in(&env, settings(json!({}))).await.expect("it is found");
    assert!(matches!(reading.amount, Amount::Queue(depth) if depth.backlog == 3 && depth.in_flight.is_none()));
    assert_eq!(reading.reads, ["rabbitmq:eu-west-1/-/b-1///managed"]);
    assert_eq!(reading.permissions.into_iter().collect::<Vec<_>>(), ["mq:DescribeBroker"]);
    let give_up = Instant::now() + PATIENCE;
    while read_in(&env, settings(json!({ "protocol": "http" })))
        .await
        .is_err_and(|error| error.kind() == ErrorKind::Missing)
    {
        assert!(Instant::now() < give_up);
    }
    let reading = read_in(&env, settings(json!({ "protocol": "http" }))).await.expect("it is found");
    assert!(matches!(reading.amount, Amount::Queue(depth) if depth.in_flight == Some(0)));
    assert!(aws.seen().contains("GET /v1/brokers/b-1 "), "{}", aws.seen());
    aws.answer(Reply::json(broker("ACTIVEMQ")));
    let error = read_in(&env, settings(json!({}))).await.expect_err("another engine");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    aws.answer(Reply::Plain(403, "x-amzn-errortype: ForbiddenException\r\n".to_owned(), "{}".to_owned()));
    let error = read_in(&env, settings(json!({}))).await.expect_err("it is denied");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("mq:DescribeBroker"), "{error}");
}
