//! NSQ as its source says that it answers: `recorded/nsq*.json` are made from nsqio/nsq, tag v1.3.0 (f580340f), nsqd/http.go,
//! nsqd/stats.go and nsqlookupd/http.go, and the older form from tag v0.3.8 (c53f30f8).

use serde_json::{Value, json};
use tidegate::core::QueueDepth;
use tidegate::error::ErrorKind;

use crate::support::http::{CA, HttpServer, Reply};
use crate::support::servers::free_port;
use crate::support::source::{depth, fails_as, read};

const STATS: &str = include_str!("recorded/nsqd-stats.json");
const UNKNOWN_TOPIC: &str = include_str!("recorded/nsqd-stats-unknown-topic.json");
const OLD_STATS: &str = include_str!("recorded/nsqd-stats-pre1.json");
const LOOKUP: &str = include_str!("recorded/nsqlookupd-lookup.json");
const UNKNOWN_TO_LOOKUP: &str = include_str!("recorded/nsqlookupd-lookup-missing.json");

const WORKER: QueueDepth = QueueDepth {
    backlog: 340,
    in_flight: Some(12),
    delayed: Some(3),
    oldest_age_secs: None,
    completed: Some(845),
    tally: None,
};

fn body(recorded: &str) -> Value {
    let recorded: Value = serde_json::from_str(recorded).expect("it is JSON");
    recorded["body"].clone()
}

fn answer(recorded: &str) -> Reply {
    let document: Value = serde_json::from_str(recorded).expect("it is JSON");
    let status = document["status"].as_u64().and_then(|status| u16::try_from(status).ok()).expect("a status");
    Reply::Plain(status, "content-type: application/json; charset=utf-8\r\n".to_owned(), document["body"].to_string())
}

/// What nsqlookupd says of these nsqd.
fn producers(nsqd: &[&HttpServer]) -> Reply {
    let mut lookup = body(LOOKUP);
    let one = lookup["producers"][0].take();
    let at = |server: &&HttpServer| {
        let mut producer = one.clone();
        producer["broadcast_address"] = "127.0.0.1".into();
        producer["http_port"] = server.address.port().into();
        producer
    };
    lookup["producers"] = nsqd.iter().map(at).collect();
    Reply::json(lookup)
}

fn by(servers: Value) -> Value {
    let mut settings = json!({ "type": "nsq", "topic": "orders", "channel": "worker", "use_ssl": false });
    settings.as_object_mut().expect("an object").extend(servers.as_object().expect("an object").clone());
    settings
}

fn at(server: &HttpServer) -> Value {
    by(json!({ "nsqd_address": server.address.to_string() }))
}

fn looked_up(servers: &[&HttpServer]) -> Value {
    let addresses: Vec<_> = servers.iter().map(|server| server.address.to_string()).collect();
    by(json!({ "lookupd_addresses": addresses }))
}

async fn fails(settings: Value, kind: ErrorKind, says: &str) {
    let error = read(settings.clone()).await.expect_err("it cannot be read");
    assert_eq!(error.kind(), kind, "{settings}: {error}");
    assert!(error.to_string().contains(says), "{settings}: {error}");
}

#[tokio::test]
async fn a_channel_is_read_from_an_nsqd_of_either_form() {
    for recorded in [STATS, OLD_STATS] {
        let nsqd = HttpServer::start(answer(recorded)).await;
        assert_eq!(depth(at(&nsqd)).await, WORKER);
        let asked = "GET /stats?format=json&topic=orders&include_clients=false&include_mem=false HTTP/1.1";
        assert!(nsqd.seen().starts_with(asked), "{}", nsqd.seen());
        let old_names = json!({
            "type": "nsq", "topicName": "orders", "channelName": "worker", "nsqd_address": format!("http://{}", nsqd.address),
        });
        assert_eq!(depth(old_names).await, WORKER, "as in microscaling");
    }
}

#[tokio::test]
async fn a_channel_is_summed_over_every_nsqd_that_nsqlookupd_names() {
    let (one, other) = (HttpServer::start(answer(STATS)).await, HttpServer::start(answer(OLD_STATS)).await);
    let without = HttpServer::start(answer(UNKNOWN_TOPIC)).await;
    let lookupd = HttpServer::start(producers(&[&one, &other, &without])).await;
    let twin = HttpServer::start(producers(&[&other])).await;
    let stranger = HttpServer::start(answer(UNKNOWN_TO_LOOKUP)).await;
    let twice = QueueDepth {
        backlog: 680,
        in_flight: Some(24),
        delayed: Some(6),
        oldest_age_secs: None,
        completed: Some(1690),
        ..QueueDepth::default()
    };
    assert_eq!(depth(looked_up(&[&lookupd, &twin, &stranger])).await, twice, "each nsqd counts once");
    assert!(lookupd.seen().starts_with("GET /lookup?topic=orders HTTP/1.1"), "{}", lookupd.seen());
    let named = by(json!({ "nsqd_addresses": [one.address.to_string(), other.address.to_string()] }));
    assert_eq!(depth(named).await, twice);
}

#[tokio::test]
async fn an_nsqd_that_does_not_answer_leaves_no_number() {
    let (one, other) = (HttpServer::start(answer(STATS)).await, HttpServer::start(answer(STATS)).await);
    let lookupd = HttpServer::start(producers(&[&one, &other])).await;
    for (reply, kind) in [
        (Reply::status(500), ErrorKind::Unavailable),
        (Reply::Reset, ErrorKind::Unavailable),
        (Reply::json("{}"), ErrorKind::Malformed),
        (Reply::json("OK"), ErrorKind::Malformed),
        (
            Reply::json(json!({ "status_code": 500, "status_txt": "INTERNAL_ERROR", "data": null })),
            ErrorKind::Malformed,
        ),
    ] {
        other.answer(reply.clone());
        fails(looked_up(&[&lookupd]), kind, "").await;
    }
    let dead = HttpServer::start(Reply::status(500)).await;
    fails(looked_up(&[&lookupd, &dead]), ErrorKind::Unavailable, "it answered 500").await;
    lookupd.answer(producers(&[]));
    fails(looked_up(&[&lookupd]), ErrorKind::Unavailable, "no nsqd has it now").await;
}

#[tokio::test]
async fn what_nsqlookupd_names_passes_the_guard() {
    let lookupd = HttpServer::start(producers(&[])).await;
    for (host, kind, says) in [
        ("169.254.169.254", ErrorKind::Config, "link-local"),
        ("user:canary@10.0.0.5", ErrorKind::Malformed, "an address that is none"),
        ("10.0.0.5/canary?", ErrorKind::Malformed, "an address that is none"),
    ] {
        lookupd.answer(Reply::json(json!({ "producers": [{ "broadcast_address": host, "http_port": 80 }] })));
        fails(looked_up(&[&lookupd]), kind, says).await;
    }
}

#[tokio::test]
async fn a_channel_without_messages_is_zero_and_a_topic_without_channels_keeps_its_own() {
    let nsqd = HttpServer::start(answer(STATS)).await;
    let with = |key: &str, name: &str| {
        let mut settings = at(&nsqd);
        settings[key] = name.into();
        settings
    };
    let empty = QueueDepth { in_flight: Some(0), delayed: Some(0), ..QueueDepth::default() };
    let archive = QueueDepth { completed: Some(1200), ..empty };
    assert_eq!(depth(with("channel", "archive")).await, archive);
    let mail = QueueDepth { backlog: 7, completed: Some(0), ..empty };
    assert_eq!(depth(with("topic", "mail")).await, mail);
}

#[tokio::test]
async fn a_missing_topic_or_channel_is_named() {
    let nsqd = HttpServer::start(answer(STATS)).await;
    let mut misspelt = at(&nsqd);
    misspelt["channel"] = "wroker".into();
    fails_as("nsq", "missing", misspelt).await;
    for recorded in [UNKNOWN_TOPIC, OLD_STATS] {
        nsqd.answer(answer(recorded));
        let mut misspelt = at(&nsqd);
        misspelt["topic"] = "oders".into();
        fails(misspelt, ErrorKind::NotFound, "channel \"worker\" of topic \"oders\": no nsqd has the topic").await;
    }
    let lookupd = HttpServer::start(answer(UNKNOWN_TO_LOOKUP)).await;
    fails(looked_up(&[&lookupd]), ErrorKind::NotFound, "topic \"orders\": no nsqlookupd knows it").await;
    lookupd.answer(Reply::Plain(
        500,
        String::new(),
        r#"{"status_code":500,"status_txt":"TOPIC_NOT_FOUND","data":null}"#.to_owned(),
    ));
    fails(looked_up(&[&lookupd]), ErrorKind::NotFound, "no nsqlookupd knows it").await;
    lookupd.answer(Reply::status(404));
    fails(looked_up(&[&lookupd]), ErrorKind::NotFound, "it answered 404").await;
}

#[tokio::test]
async fn an_nsqd_that_is_not_there_is_unavailable() {
    fails_as("nsq", "port", by(json!({ "nsqd_address": format!("127.0.0.1:{}", free_port()) }))).await;
}

#[tokio::test]
async fn tls_of_nsqd_is_verified_and_its_absence_is_said() {
    let (encrypted, open) = (HttpServer::with_tls(answer(STATS)).await, HttpServer::start(answer(STATS)).await);
    let over_tls = |server: &HttpServer, ca: Option<&str>| {
        let mut settings =
            by(json!({ "use_ssl": true, "nsqd_address": format!("localhost:{}", server.address.port()) }));
        ca.into_iter().for_each(|ca| settings["ca"] = ca.into());
        settings
    };
    assert_eq!(depth(over_tls(&encrypted, Some(CA))).await, WORKER);
    fails(over_tls(&encrypted, None), ErrorKind::Unavailable, "give the CA that issued it as ca").await;
    fails_as("nsq", "tls", over_tls(&open, None)).await;
    // As servers in Go answer: <https://github.com/golang/go/blob/go1.21.0/src/net/http/server.go>, `conn.serve`.
    let says = "Client sent an HTTP request to an HTTPS server.\n";
    open.answer(Reply::Plain(400, String::new(), says.to_owned()));
    fails(at(&open), ErrorKind::Unavailable, "the port speaks TLS").await;
    // What nsqlookupd names has the port of plain HTTP, unless another is given.
    let lookupd = HttpServer::with_tls(producers(&[&open])).await;
    let mut found = by(json!({ "use_ssl": true, "ca": CA, "insecure_tls": false }));
    found["lookupd_addresses"] = json!([format!("localhost:{}", lookupd.address.port())]);
    fails(found.clone(), ErrorKind::Unavailable, "").await;
    let mut named = body(LOOKUP);
    named["producers"][0]["broadcast_address"] = "localhost".into();
    lookupd.answer(Reply::json(named));
    found["nsqd_port"] = encrypted.address.port().into();
    assert_eq!(depth(found).await, WORKER);
}

#[tokio::test]
async fn an_nsqd_that_dies_while_it_answers_is_an_error() {
    let nsqd = HttpServer::start(Reply::Half).await;
    fails_as("nsq", "killed", at(&nsqd)).await;
}
