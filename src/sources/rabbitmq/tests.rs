//! What the settings mean, and how the management interface's answers are read.

use serde_json::json;

use super::*;
use crate::iam;
use crate::wire::{Contract, Reply, Request, Scene};

pub(super) const CONTRACT: Contract = Contract::Wire { settings: contract_settings, reply };

fn contract_settings(endpoint: &str) -> Value {
    json!({ "url": endpoint, "queue": "orders", "username": "scaler", "password": "canary-password" })
}

/// The answers' form: RabbitMQ 3.10.8's own, in `tests/it/sources/rabbitmq.rs` by a real one.
fn reply(scene: Scene, request: &Request) -> Reply {
    assert!(request.path.starts_with("/api/queues/%2F/orders?"), "{}", request.path);
    let queue = |ready: Value| {
        let queue = json!({
            "name": "orders", "type": "classic", "state": "running",
            "messages_ready": ready, "messages_unacknowledged": 3, "head_message_timestamp": null,
        });
        Reply::new(200, queue.to_string())
    };
    match scene {
        Scene::Amount(ready) => queue(ready.into()),
        Scene::Malformed => queue((-1).into()),
        Scene::Missing => Reply::new(200, r#"{"name":"orders","type":"classic"}"#),
        Scene::Denied => Reply::new(401, r#"{"error":"not_authorized","reason":"Login failed"}"#),
        Scene::NotFound => Reply::new(404, r#"{"error":"Object Not Found","reason":"Not Found"}"#),
        Scene::Throttled => Reply::new(429, "canary"),
        other => panic!("{other:?} is not a scene of a source"),
    }
}

fn settings(more: Value) -> Value {
    let mut all = json!({ "host": "broker", "queue": "orders", "username": "u", "password": "p" });
    let object = all.as_object_mut().expect("an object");
    object.extend(more.as_object().expect("an object").clone());
    object.retain(|_, value| !value.is_null());
    all
}

fn server(more: Value) -> Option<Server> {
    parse::<Settings>(&settings(more)).expect("valid settings").server()
}

#[test]
fn the_broker_is_where_host_or_url_say() {
    let amqp = |port, tls| Some(Server::Amqp { host: "broker".to_owned(), port, tls });
    let http = |url: &str| Some(Server::Http { url: url.to_owned() });
    assert_eq!(server(json!({})), amqp(5671, true));
    assert_eq!(server(json!({ "use_ssl": false })), amqp(5672, false));
    assert_eq!(server(json!({ "port": 7 })), amqp(7, true));
    assert_eq!(server(json!({ "protocol": "http" })), http("https://broker:15671"));
    assert_eq!(server(json!({ "protocol": "http", "use_ssl": false })), http("http://broker:15672"));
    assert_eq!(server(json!({ "host": null, "url": "amqps://broker" })), amqp(5671, true));
    assert_eq!(server(json!({ "host": null, "url": "amqp://broker:7/mail" })), amqp(7, false));
    assert_eq!(server(json!({ "host": null, "url": "https://broker/rabbit" })), http("https://broker/rabbit"));
    assert_eq!(server(json!({ "host": null, "broker_id": "b-1" })), None);
    let v6 = server(json!({ "host": "::1", "protocol": "http" }));
    assert_eq!(v6, http("https://[::1]:15671"));
}

#[test]
fn the_vhost_is_the_urls_or_its_own_setting() {
    let vhost = |more: Value| parse::<Settings>(&settings(more)).expect("valid settings").vhost();
    assert_eq!(vhost(json!({})), "/");
    assert_eq!(vhost(json!({ "vhost": "mail" })), "mail");
    for (url, expected) in
        [("amqps://h", "/"), ("amqps://h/", "/"), ("amqps://h/mail", "mail"), ("amqps://h/a%2Fb", "a/b")]
    {
        assert_eq!(vhost(json!({ "host": null, "url": url })), expected, "{url}");
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let problems = |more: Value| check(&settings(more)).into_iter().map(|(problem, _)| problem).collect::<Vec<_>>();
    assert_eq!(problems(json!({})), [""; 0]);
    assert_eq!(problems(json!({ "host": null, "broker_id": "b-1" })), [""; 0]);
    for (wrong, expected) in [
        (json!({ "host": null }), "names no broker"),
        (json!({ "url": "amqps://h" }), "has more than one of host, url and broker_id"),
        (json!({ "host": "broker/x" }), "has a host that is none"),
        (json!({ "host": null, "broker_id": "b-1", "use_ssl": false }), "has port or use_ssl without host"),
        (json!({ "host": null, "url": "amqps://u:canary@h" }), "has a credential in its URL"),
        (json!({ "host": null, "url": "amqps://h/a/b" }), "is no URL of AMQP"),
        (json!({ "host": null, "url": "ftp://h" }), "is no URL of https or http"),
        (json!({ "host": null, "url": "amqps://h", "protocol": "http" }), "has a protocol that is not its URL's"),
        (json!({ "host": null, "url": "amqps://h/a", "vhost": "b" }), "has a vhost beside that of its URL"),
        (json!({ "host": null, "broker_id": "b/1" }), "has a broker_id that is none"),
        (json!({ "queue": null }), "names no queue"),
        (json!({ "queue_regex": ".", "protocol": "http" }), "has queue_regex beside a queue"),
        (json!({ "queue": null, "queue_regex": "." }), "has queue_regex, which AMQP does not know"),
        (json!({ "queues": ["orders"] }), "names a queue twice, whose messages would count twice"),
        (json!({ "queue": "..", "protocol": "http" }), "has a name that cannot be in a URL"),
        (json!({ "password": null }), "has no username or no password"),
        (json!({ "insecure_tls": true }), "has insecure_tls, which is for http"),
    ] {
        assert_eq!(problems(wrong.clone()), [expected], "{wrong}");
    }
}

#[test]
fn a_broker_is_named_in_policies_and_lists() {
    let named = |more: Value| identities(&settings(more), "eu-west-1")[0].to_string();
    assert_eq!(named(json!({})), "rabbitmq:-/-/broker:5671///orders");
    assert_eq!(named(json!({ "protocol": "http", "vhost": "mail" })), "rabbitmq:-/-/broker:15671/mail/orders");
    let arn = "arn:aws:mq:us-east-2:210987654321:broker:orders:b-2";
    let managed = json!({ "host": null, "broker_id": arn, "vhost": "mail" });
    assert_eq!(named(managed.clone()), "rabbitmq:us-east-2/210987654321/b-2/mail/orders");
    let place = iam::Place::new("eu-west-1", "123456789012");
    let statements = permissions(&settings(managed), &place).expect("valid settings");
    assert_eq!(
        (statements[0].action.as_slice(), statements[0].resource.as_slice()),
        (&["mq:DescribeBroker"][..], &[arn.to_owned()][..])
    );
    assert!(permissions(&settings(json!({})), &place).expect("valid settings").is_empty());
}

#[test]
fn what_queues_finished_is_their_sum_where_their_depth_is() {
    let depth = |completed| QueueDepth { in_flight: Some(1), completed, ..QueueDepth::default() };
    let both = [depth(Some(40)), depth(Some(2))];
    assert_eq!(combined(&both, Combine::Sum).completed, Some(42));
    assert_eq!(combined(&both, Combine::Mean).completed, Some(21));
    assert_eq!(combined(&both, Combine::Max).completed, None, "what is in flight may be of the other");
    assert_eq!(combined(&[both[0], depth(None)], Combine::Sum).completed, None);
}

#[test]
fn what_is_unknown_of_one_queue_is_unknown_of_all() {
    let depth = |backlog, in_flight, oldest_age_secs| QueueDepth {
        backlog,
        in_flight,
        delayed: None,
        oldest_age_secs,
        ..QueueDepth::default()
    };
    let both = [depth(4, Some(1), Some(10)), depth(7, Some(2), Some(20))];
    assert_eq!(combined(&both, Combine::Sum), depth(11, Some(3), Some(20)));
    assert_eq!(combined(&both, Combine::Max), depth(7, Some(2), Some(20)));
    assert_eq!(combined(&both, Combine::Mean), depth(6, Some(2), Some(20)));
    assert_eq!(combined(&[depth(4, None, None), both[1]], Combine::Sum), depth(11, None, None));
    assert_eq!(combined(&[depth(0, Some(1), None), both[1]], Combine::Sum), depth(7, Some(3), Some(20)));
    assert_eq!(combined(&[depth(u64::MAX, Some(1), None), both[1]], Combine::Sum).backlog, u64::MAX);
}

/// Two pages of 500, the second with one queue, unless one went meanwhile.
fn pages(scene: Scene, request: &Request) -> Reply {
    let queue = |number: usize| json!({ "name": format!("q{number}"), "type": "quorum", "messages_ready": 2, "messages_unacknowledged": 1 });
    let page = |items: Vec<Value>| {
        let page = json!({ "filtered_count": 501, "page_count": 2, "items": items });
        Reply::new(200, page.to_string())
    };
    let is_first = request.path.contains("page=1&");
    match scene {
        _ if is_first => page((0..500).map(queue).collect()),
        Scene::Amount(_) => page(vec![queue(500)]),
        _ => page(Vec::new()),
    }
}

#[tokio::test]
async fn all_pages_are_read_or_none() {
    for scene in [Scene::Amount(1002), Scene::Missing] {
        let wire = crate::wire::Wire::play(scene, pages).await;
        let more = json!({ "host": null, "queue": null, "url": wire.endpoint, "queue_regex": "^q" });
        let source = build(&settings(more), &Shared::for_wire(&wire.endpoint)).expect("valid settings");
        match (scene, source.read().await) {
            (Scene::Amount(ready), Ok(Measurement { amount: Amount::Queue(depth), .. })) => {
                assert_eq!((depth.backlog, depth.in_flight), (ready, Some(501)));
            }
            (Scene::Missing, Err(error)) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
            (_, other) => panic!("{other:?}"),
        }
        assert_eq!(wire.requests().len(), 2);
    }
}
