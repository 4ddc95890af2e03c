//! ActiveMQ against a real one with Jolokia, filled over STOMP.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde_json::{Value, json};
use tidegate::core::{Amount, QueueDepth};
use tidegate::error::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::http::{CA, HttpServer, Reply};
use crate::support::servers::{Relay, free_port, started};
use crate::support::source::{depth, fails_as, read, read_in};

const REGION: &str = "eu-central-1";

fn jolokia() -> SocketAddr {
    started("TIDEGATE_TEST_ACTIVEMQ_HTTP")
}

/// Settings for a queue, with more in them; null takes one out.
fn settings(queue: &str, more: Value) -> Value {
    let mut all = json!({
        "type": "activemq", "url": format!("http://{}", jolokia()), "queue": queue, "username": "admin", "password": "admin",
    });
    let object = all.as_object_mut().expect("an object");
    object.extend(more.as_object().expect("an object").clone());
    object.retain(|_, value| !value.is_null());
    all
}

/// A queue's name that is this test run's own, since the server may be older than that.
fn own(name: &str) -> String {
    let now = Timestamp::now().as_nanosecond();
    format!("{name}-{}-{now}", std::process::id())
}

/// A few frames of STOMP 1.2: <https://stomp.github.io/stomp-specification-1.2.html>.
struct Stomp(TcpStream, Vec<u8>);

impl Stomp {
    async fn connect() -> Self {
        let stream = TcpStream::connect(started("TIDEGATE_TEST_ACTIVEMQ")).await.expect("connecting");
        let mut stomp = Self(stream, Vec::new());
        stomp.send("CONNECT\naccept-version:1.2\nhost:localhost\n\n").await;
        assert!(stomp.frame().await.starts_with("CONNECTED"));
        stomp
    }

    async fn send(&mut self, frame: &str) {
        self.0.write_all(format!("{frame}\0").as_bytes()).await.expect("sending");
    }

    async fn frame(&mut self) -> String {
        loop {
            if let Some(end) = self.1.iter().position(|byte| *byte == 0) {
                let frame: Vec<u8> = self.1.drain(..=end).collect();
                return String::from_utf8_lossy(&frame).trim_start().to_owned();
            }
            assert_ne!(self.0.read_buf(&mut self.1).await.expect("receiving"), 0, "the broker hung up");
        }
    }

    /// Sends so many messages, the last of which the broker confirms.
    async fn put(&mut self, queue: &str, messages: usize) {
        for number in 1..=messages {
            let receipt = if number == messages { "receipt:all\n" } else { "" };
            self.send(&format!("SEND\ndestination:/queue/{queue}\n{receipt}\nwork")).await;
        }
        if 0 < messages {
            assert!(self.frame().await.starts_with("RECEIPT"));
        }
    }

    /// Takes so many messages and acknowledges none.
    async fn take(&mut self, queue: &str, messages: usize) {
        let prefetch = format!("activemq.prefetchSize:{messages}");
        self.send(&format!("SUBSCRIBE\nid:0\ndestination:/queue/{queue}\nack:client-individual\n{prefetch}\n\n")).await;
        for _ in 0..messages {
            assert!(self.frame().await.starts_with("MESSAGE"));
        }
    }

    /// Takes a message and acknowledges it, so that its queue is there and empty.
    async fn drain(&mut self, queue: &str) {
        self.send(&format!("SUBSCRIBE\nid:1\ndestination:/queue/{queue}\nack:client\n\n")).await;
        let message = self.frame().await;
        let ack =
            message.lines().find_map(|line| line.strip_prefix("ack:")).expect("it is to be acknowledged").to_owned();
        self.send(&format!("ACK\nid:{ack}\nreceipt:acked\n\n")).await;
        assert!(self.frame().await.starts_with("RECEIPT"));
    }
}

#[tokio::test]
async fn activemq_counts_what_waits_apart_from_what_is_in_flight() {
    let (mut producer, mut consumer) = (Stomp::connect().await, Stomp::connect().await);
    let queue = &own("counts");
    producer.put(queue, 20).await;
    consumer.take(queue, 5).await;
    let expected = QueueDepth { backlog: 15, in_flight: Some(5), ..QueueDepth::default() };
    let reading = read(settings(queue, json!({}))).await.expect("it is read");
    assert_eq!(reading.amount, Amount::Queue(expected));
    let taken_at = reading.taken_at.expect("Jolokia says when");
    assert!(taken_at.duration_until(Timestamp::now()).as_secs().abs() < 60, "{taken_at}");
    assert_eq!(depth(settings(queue, json!({ "broker_name": "tidegate" }))).await, expected);
    let error = read(settings(queue, json!({ "broker_name": "another" }))).await.expect_err("another broker");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn an_empty_activemq_queue_is_zero() {
    let mut stomp = Stomp::connect().await;
    let queue = &own("empty");
    stomp.put(queue, 1).await;
    stomp.drain(queue).await;
    let depth = depth(settings(queue, json!({}))).await;
    assert_eq!((depth.backlog, depth.in_flight), (0, Some(0)));
}

#[tokio::test]
async fn a_missing_activemq_queue_is_not_found_although_http_says_200() {
    fails_as("activemq", "missing", settings("nowhere", json!({}))).await;
    fails_as("activemq", "missing", settings("nowhere.*", json!({}))).await;
    // One of several is as bad, and reading made none of them.
    fails_as("activemq", "missing", settings("nowhere", json!({ "queues": ["nowhere.else"] }))).await;
    // As it was recorded, status and all.
    let recorded: Value = serde_json::from_str(include_str!("recorded/activemq-jolokia-missing.json")).expect("JSON");
    assert_eq!(recorded["status"], 200);
    let server = HttpServer::start(Reply::json(json!([recorded["body"]]))).await;
    let url = format!("http://{}", server.address);
    fails_as("activemq", "missing", settings("none", json!({ "url": url }))).await;
}

#[tokio::test]
async fn a_wrong_activemq_password_is_denied_with_the_users_name() {
    fails_as("activemq", "password", settings("any", json!({ "password": "canary" }))).await;
}

#[tokio::test]
async fn an_activemq_that_does_not_like_the_origin_says_so() {
    let body = json!({ "error": "java.lang.Exception : Origin null is not allowed to call this agent", "status": 403 });
    let server = HttpServer::start(Reply::json(body)).await;
    let url = format!("http://{}", server.address);
    let refused = settings("any", json!({ "url": url, "origin": "http://localhost" }));
    let error = read(refused).await.expect_err("it is strict");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("set origin"), "{error}");
    assert!(server.seen().contains("origin: http://localhost\r\n"), "{}", server.seen());
}

#[tokio::test]
async fn a_wrong_activemq_port_is_unavailable() {
    let url = format!("http://127.0.0.1:{}", free_port());
    fails_as("activemq", "port", settings("any", json!({ "url": url }))).await;
    // A path at which nothing is.
    let path = format!("http://{}/nothing/here", jolokia());
    let error = read(settings("any", json!({ "url": path }))).await.expect_err("there is nothing");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn activemq_with_tls_is_verified_and_a_mismatch_is_said_to_be_one() {
    let mut stomp = Stomp::connect().await;
    let queue = &own("tls");
    stomp.put(queue, 3).await;
    let port = started("TIDEGATE_TEST_ACTIVEMQ_HTTPS").port();
    let tls = settings(queue, json!({ "url": format!("https://localhost:{port}") }));
    fails_as("activemq", "tls", tls.clone()).await;
    let mut trusted = tls;
    trusted["ca"] = json!(CA);
    assert_eq!(depth(trusted).await.backlog, 3);
    let url = format!("https://localhost:{}", jolokia().port());
    let error = read(settings(queue, json!({ "url": url }))).await.expect_err("no TLS there");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
    let url = format!("http://localhost:{port}");
    let error = read(settings(queue, json!({ "url": url }))).await.expect_err("it wants TLS");
    assert!(error.to_string().contains("may be https://"), "{error}");
}

#[tokio::test]
async fn an_activemq_that_dies_while_it_answers_is_no_number() {
    let mut stomp = Stomp::connect().await;
    let queue = &own("killed");
    stomp.put(queue, 3).await;
    for bytes in [0, 40, 300, 500] {
        let relay = Relay::breaking_after(jolokia(), bytes).await;
        let url = format!("http://{}", relay.address);
        fails_as("activemq", "killed", settings(queue, json!({ "url": url }))).await;
    }
}

#[tokio::test]
async fn activemq_queues_are_named_as_they_are_and_added_up() {
    let mut stomp = Stomp::connect().await;
    // What has a meaning in names of MBeans, in Jolokia's paths or in URLs.
    let sum = own("sum");
    for (name, messages) in [("eu!1", 4), ("us=2", 7), ("b%2F", 1), ("ü", 2), ("dot.c", 3)] {
        let name = &format!("{sum}/{name}");
        stomp.put(name, messages).await;
        assert_eq!(depth(settings(name, json!({}))).await.backlog, messages as u64, "{name}");
    }
    assert_eq!(depth(settings(&format!("{sum}/*"), json!({}))).await.backlog, 17);
    let two = settings(&format!("{sum}/eu!1"), json!({ "queues": [format!("{sum}/us=2")] }));
    assert_eq!(depth(two).await.backlog, 11);
}

/// What Amazon MQ answers of a broker: <https://docs.aws.amazon.com/amazon-mq/latest/api-reference/brokers-broker-id.html>.
fn broker(consoles: &[String]) -> Reply {
    let instances: Vec<_> = consoles
        .iter()
        .map(|console| json!({ "consoleURL": console, "endpoints": ["ssl://localhost:61617", "amqp+ssl://localhost:5671"] }))
        .collect();
    let broker = json!({
        "brokerId": "b-1", "brokerName": "orders", "engineType": "ACTIVEMQ", "brokerState": "RUNNING",
        "deploymentMode": "ACTIVE_STANDBY_MULTI_AZ", "brokerInstances": instances,
    });
    Reply::json(broker)
}

fn managed(queue: &str, more: Value) -> Value {
    let mut all = settings(queue, json!({ "url": null, "broker_id": "b-1", "ca": CA }));
    all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    all
}

#[tokio::test]
async fn of_an_active_and_a_standby_broker_the_active_one_is_read() {
    let mut stomp = Stomp::connect().await;
    let queue = &own("managed");
    stomp.put(queue, 3).await;
    let active = format!("https://localhost:{}", started("TIDEGATE_TEST_ACTIVEMQ_HTTPS").port());
    let standby = || format!("https://localhost:{}", free_port());
    let aws = HttpServer::start(broker(&[standby(), active.clone()])).await;
    let endpoint = format!("http://{}", aws.address);
    let env = [("AWS_ENDPOINT_URL", endpoint.as_str()), ("AWS_REGION", "eu-west-1")];
    for consoles in [vec![standby(), active.clone()], vec![active.clone(), standby()], vec![active]] {
        aws.answer(broker(&consoles));
        let reading = read_in(&env, managed(queue, json!({}))).await.expect("one of them answers");
        assert!(matches!(reading.amount, Amount::Queue(depth) if depth.backlog == 3), "{reading:?}");
        assert_eq!(reading.reads, [format!("activemq:eu-west-1/-/b-1/{queue}")]);
    }
    // A wrong password is not tried on the next one.
    let error = read_in(&env, managed(queue, json!({ "password": "canary" }))).await.expect_err("denied");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    aws.answer(broker(&[standby(), standby()]));
    let error = read_in(&env, managed(queue, json!({}))).await.expect_err("none answers");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(error.to_string().matches("Connection refused").count(), 2, "{error}");
}

/// A broker in an emulator that is made for a test: the settings of the emulator's clients, and the broker's id.
async fn emulated(endpoint: &str, name: &str) -> (aws_config::SdkConfig, String) {
    let keys = aws_sdk_sts::config::Credentials::new("123456789012", "emulator", None, None, "test");
    let sdk = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .region(REGION)
        .endpoint_url(endpoint)
        .credentials_provider(keys)
        .load()
        .await;
    let user = aws_sdk_mq::types::User::builder().username("admin").password("adminadmin123").build();
    let made = aws_sdk_mq::Client::new(&sdk)
        .create_broker()
        .broker_name(name)
        .engine_type(aws_sdk_mq::types::EngineType::Activemq)
        .engine_version("5.18")
        .deployment_mode(aws_sdk_mq::types::DeploymentMode::SingleInstance)
        .host_instance_type("mq.t3.micro")
        .publicly_accessible(false)
        .auto_minor_version_upgrade(true)
        .users(user)
        .send()
        .await
        .expect("a broker can be made");
    (sdk, made.broker_id().expect("it has an id").to_owned())
}

#[tokio::test]
async fn an_amazon_mq_console_is_where_amazon_mq_says_it_is() {
    let endpoint = std::env::var("TIDEGATE_TEST_MOTO").expect("scripts/test starts moto");
    let (_, id) = emulated(&endpoint, &format!("console-{}", std::process::id())).await;
    let env = [("AWS_ENDPOINT_URL", endpoint.as_str()), ("AWS_REGION", REGION)];
    let error = read_in(&env, managed("orders", json!({ "broker_id": id }))).await.expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains(".amazonaws.com:8162"), "{error}");
    let error = read_in(&env, managed("orders", json!({ "broker_id": "b-none" }))).await.expect_err("no such broker");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

/// CBOR of the few kinds that an answer of CloudWatch has in it: <https://www.rfc-editor.org/rfc/rfc8949>.
mod cbor {
    fn head(major: u8, length: u64) -> Vec<u8> {
        [&[major << 5 | 27][..], &length.to_be_bytes()].concat()
    }

    pub fn text(text: &str) -> Vec<u8> {
        [head(3, text.len() as u64), text.as_bytes().to_vec()].concat()
    }

    pub fn list(items: &[Vec<u8>]) -> Vec<u8> {
        [head(4, items.len() as u64), items.concat()].concat()
    }

    pub fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let pairs_of = pairs.iter().flat_map(|(key, value)| [text(key), value.clone()].concat());
        [head(5, pairs.len() as u64), pairs_of.collect()].concat()
    }

    pub fn double(number: f64) -> Vec<u8> {
        [&[0xfb][..], &number.to_be_bytes()].concat()
    }

    pub fn time(second: i64) -> Vec<u8> {
        [vec![0xc1], double(second as f64)].concat()
    }
}

/// What CloudWatch answers to the two queries of a queue.
fn metrics(status: &str, size: &[(i64, f64)], in_flight: &[(i64, f64)]) -> Vec<u8> {
    let result = |id: &str, values: &[(i64, f64)]| {
        cbor::map(&[
            ("Id", cbor::text(id)),
            ("StatusCode", cbor::text(status)),
            ("Timestamps", cbor::list(&values.iter().map(|(at, _)| cbor::time(*at)).collect::<Vec<_>>())),
            ("Values", cbor::list(&values.iter().map(|(_, value)| cbor::double(*value)).collect::<Vec<_>>())),
        ])
    };
    let results = [result("q0b1queuesize", size), result("q0b1inflightcount", in_flight)];
    cbor::map(&[("MetricDataResults", cbor::list(&results))])
}

/// Amazon MQ with one broker and CloudWatch with these metrics, one request for each connection.
async fn aws(broker: Value, metrics: Vec<u8>) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepting");
            let mut request = vec![0; 16_384];
            let read = stream.read(&mut request).await.expect("a request");
            let asks_for_metrics = String::from_utf8_lossy(&request[..read]).contains("/operation/GetMetricData ");
            let (kind, body) = match asks_for_metrics {
                true => ("application/cbor\r\nsmithy-protocol: rpc-v2-cbor", metrics.clone()),
                false => ("application/json", broker.to_string().into_bytes()),
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
            );
            stream.write_all(&[head.as_bytes(), &body].concat()).await.expect("answering");
        }
    });
    (endpoint, server)
}

#[tokio::test]
async fn amazon_mqs_metrics_are_read_where_they_are_asked_for_and_nowhere_else() {
    let console = format!("https://localhost:{}", free_port());
    let broker = json!({
        "brokerId": "b-1", "brokerName": "orders", "engineType": "ACTIVEMQ", "brokerInstances": [{ "consoleURL": console }],
    });
    let read_of = async |metrics: Vec<u8>, more: Value| {
        let (endpoint, _server) = aws(broker.clone(), metrics).await;
        let env = [("AWS_ENDPOINT_URL", endpoint.as_str()), ("AWS_REGION", REGION)];
        read_in(&env, managed("orders", more)).await
    };
    let both = || metrics("Complete", &[(180, 30.0), (120, 20.0), (60, 9.0)], &[(120, 5.0), (60, 1.0)]);
    let expected = QueueDepth { backlog: 15, in_flight: Some(5), ..QueueDepth::default() };
    for more in [json!({ "via": "cloudwatch" }), json!({ "fallback": "cloudwatch" })] {
        let reading = read_of(both(), more.clone()).await.unwrap_or_else(|error| panic!("{more}: {error}"));
        assert_eq!(reading.amount, Amount::Queue(expected), "{more}");
        assert_eq!(reading.taken_at.map(Timestamp::as_second), Some(120), "{more}");
        let actions: Vec<_> = reading.permissions.into_iter().collect();
        assert_eq!(actions, ["cloudwatch:GetMetricData", "mq:DescribeBroker"]);
    }
    let error = read_of(both(), json!({})).await.expect_err("no console, and no fallback");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    for (answer, kind) in [
        (metrics("Complete", &[], &[]), ErrorKind::Missing),
        (metrics("Complete", &[(120, 20.0)], &[]), ErrorKind::Missing),
        (metrics("PartialData", &[(120, 20.0)], &[(120, 5.0)]), ErrorKind::Unavailable),
        (metrics("Forbidden", &[], &[]), ErrorKind::Denied),
    ] {
        let error = read_of(answer, json!({ "via": "cloudwatch" })).await.expect_err("no number");
        assert_eq!(error.kind(), kind, "{error}");
    }
}
