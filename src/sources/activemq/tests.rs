//! What the settings mean, and the provider's answers for the contract.

use serde_json::json;

use super::*;
use crate::wire::{Contract, Reply, Request, Scene};

pub(super) const CONTRACT: Contract = Contract::Wire { settings: contract_settings, reply };

fn contract_settings(endpoint: &str) -> Value {
    json!({ "url": endpoint, "queue": "orders", "username": "scaler", "password": "canary-password" })
}

/// The answers' form: ActiveMQ 5.17.2 and Jolokia 1.7.1, in `tests/it/sources/activemq.rs` by a real one.
fn reply(scene: Scene, request: &Request) -> Reply {
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/api/jolokia"));
    assert!(request.headers.contains_key("origin"), "{:?}", request.headers);
    let text = |answers: Value| Reply::new(200, answers.to_string()).header("content-type", "text/plain;charset=utf-8");
    let read = |value: Value| {
        let mbean = "org.apache.activemq:brokerName=localhost,destinationName=orders,destinationType=Queue,type=Broker";
        text(json!([{ "value": { mbean: value }, "timestamp": 1_795_308_603, "status": 200 }]))
    };
    match scene {
        Scene::Amount(waiting) => read(json!({ "Name": "orders", "QueueSize": waiting + 3, "InFlightCount": 3 })),
        Scene::Malformed => read(json!({ "Name": "orders", "QueueSize": 2, "InFlightCount": 3 })),
        Scene::Missing => read(json!({ "Name": "orders", "InFlightCount": 3 })),
        Scene::Denied => Reply::new(401, "<html>canary</html>"),
        Scene::NotFound => {
            let kind = "javax.management.InstanceNotFoundException";
            text(json!([{ "error_type": kind, "error": "canary", "status": 404 }]))
        }
        Scene::Throttled => Reply::new(429, "canary"),
        other => panic!("{other:?} is not a scene of a source"),
    }
}

fn problems(settings: Value) -> Vec<String> {
    check(&settings).into_iter().map(|(problem, _)| problem).collect()
}

#[test]
fn what_contradicts_itself_is_refused() {
    let broker = json!({ "broker_id": "b-1", "queue": "q", "username": "u", "password": "p" });
    let with = |more: Value| {
        let mut all = broker.clone();
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        problems(all)
    };
    assert_eq!(with(json!({})), [""; 0]);
    assert_eq!(with(json!({ "fallback": "cloudwatch" })), [""; 0]);
    assert_eq!(with(json!({ "url": "https://broker:8162" })).len(), 1);
    assert_eq!(with(json!({ "via": "cloudwatch", "queues": ["orders.*"] })).len(), 1);
    assert_eq!(with(json!({ "via": "cloudwatch", "fallback": "cloudwatch" })).len(), 1);
    assert_eq!(with(json!({ "broker_id": "b/1" })).len(), 1);
    assert_eq!(with(json!({ "queues": ["q"] })).len(), 1);
    assert_eq!(with(json!({ "broker_name": "a,b" })).len(), 1);
    assert_eq!(problems(json!({})).len(), 3);
    assert_eq!(
        problems(json!({ "url": "https://u:canary@h", "queue": "q", "username": "u", "password": "p" })).len(),
        1
    );
    assert_eq!(problems(json!({ "broker_id": "b-1", "via": "cloudwatch", "queue": "q" })), [""; 0]);
}

#[test]
fn a_broker_is_named_by_its_id_in_policies_and_lists() {
    let place = Place::new("eu-west-1", "123456789012");
    let statements = |settings: Value| permissions(&settings, &place).expect("valid settings");
    let of_id = statements(json!({ "broker_id": "b-1", "queue": "q", "fallback": "cloudwatch" }));
    assert_eq!(of_id[0].resource, ["arn:aws:mq:eu-west-1:123456789012:broker:*:b-1"]);
    assert_eq!(of_id[1].action, ["cloudwatch:GetMetricData"]);
    let arn = "arn:aws:mq:us-east-2:210987654321:broker:orders:b-2";
    let of_arn = statements(json!({ "broker_id": arn, "queue": "q" }));
    assert_eq!(of_arn[0].resource, [arn]);
    assert_eq!(of_arn.len(), 1);
    let named = identities(&json!({ "broker_id": arn, "queue": "q" }), "eu-west-1");
    assert_eq!(named[0].to_string(), "activemq:us-east-2/210987654321/b-2/q");
    let named = identities(&json!({ "url": "https://broker:8162/api/jolokia", "queue": "q" }), "eu-west-1");
    assert_eq!(named[0].to_string(), "activemq:-/-/broker:8162/q");
}
