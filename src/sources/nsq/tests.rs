use serde_json::json;

use super::*;
use crate::wire::{Contract, Reply, Request, Scene};

pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

fn settings(endpoint: &str) -> Value {
    json!({ "nsqd_address": endpoint, "topic": "orders", "channel": "worker" })
}

fn stats(topics: &Value) -> Value {
    json!({ "version": "1.3.0", "health": "OK", "start_time": 1_760_000_000, "topics": topics, "producers": null })
}

fn topic(depth: u64, channels: &Value) -> Value {
    json!({ "topic_name": "orders", "channels": channels, "depth": depth, "backend_depth": 0, "paused": false })
}

fn channel(name: &str, depth: u64) -> Value {
    json!({ "channel_name": name, "depth": depth, "in_flight_count": 12, "deferred_count": 3, "paused": true, "clients": null })
}

/// The form is read from <https://github.com/nsqio/nsq/blob/v1.3.0/nsqd/http.go>.
fn reply(scene: Scene, request: &Request) -> Reply {
    assert_eq!(request.path, "/stats?format=json&topic=orders&include_clients=false&include_mem=false");
    let answer = |topics: Value| Reply::new(200, stats(&topics).to_string());
    match scene {
        Scene::Amount(waiting) => {
            answer(json!([topic(0, &json!([channel("archive", 9), channel("worker", waiting)]))]))
        }
        Scene::Malformed => answer(json!([topic(0, &json!([{ "channel_name": "worker", "depth": -1 }]))])),
        Scene::Missing => {
            answer(json!([topic(0, &json!([{ "channel_name": "worker", "depth": 1, "in_flight_count": 0 }]))]))
        }
        Scene::Denied => Reply::new(403, "canary"),
        Scene::NotFound => answer(Value::Null),
        Scene::Throttled => Reply::new(429, "canary"),
        other => panic!("{other:?} is not a scene of a source"),
    }
}

fn depth(nsqd: &[Value]) -> Result<QueueDepth, (ErrorKind, String)> {
    let topics: Vec<Topic> = nsqd.iter().map(|topic| Topic::deserialize(topic).expect("it is a topic")).collect();
    parse::<Settings>(&settings("https://a")).expect("they are valid").depth(&topics)
}

#[test]
fn messages_of_the_channel_and_on_their_way_to_it_are_summed_over_the_nsqd() {
    let two = [
        topic(7, &json!([channel("worker", 340), channel("archive", 1000)])),
        topic(0, &json!([channel("worker", 2)])),
    ];
    let expected = QueueDepth { backlog: 349, in_flight: Some(24), delayed: Some(6), ..QueueDepth::default() };
    assert_eq!(depth(&two), Ok(expected));
    let elsewhere = [topic(7, &json!([channel("archive", 1000)])), topic(0, &json!([channel("worker", 2)]))];
    assert_eq!(depth(&elsewhere).expect("one has it").backlog, 9);
}

#[test]
fn a_topic_that_no_channel_was_made_for_keeps_its_messages_itself() {
    let expected =
        QueueDepth { backlog: 12, in_flight: Some(0), delayed: Some(0), completed: Some(0), ..QueueDepth::default() };
    assert_eq!(depth(&[topic(7, &json!([])), topic(5, &json!([]))]), Ok(expected));
}

#[test]
fn what_a_channel_got_and_has_no_more_is_finished_unless_the_count_began_anew() {
    let with = |count: Value| {
        let mut worker = channel("worker", 340);
        worker["message_count"] = count;
        depth(&[topic(0, &json!([worker]))]).expect("it is there").completed
    };
    assert_eq!(with(1200.into()), Some(845));
    assert_eq!(with(354.into()), None, "fewer than it has: the rest was on disk when nsqd started");
    assert_eq!(with(Value::Null), None);
}

#[test]
fn what_no_nsqd_has_is_not_found_and_what_is_left_out_is_missing() {
    for (nsqd, kind) in [
        (vec![], ErrorKind::NotFound),
        (vec![topic(7, &json!([channel("archive", 1)]))], ErrorKind::NotFound),
        (vec![json!({ "topic_name": "orders", "channels": [channel("worker", 1)] })], ErrorKind::Missing),
        (
            vec![topic(7, &json!([{ "channel_name": "worker", "in_flight_count": 1, "deferred_count": 1 }]))],
            ErrorKind::Missing,
        ),
        (vec![topic(7, &json!([{ "channel_name": "worker", "depth": 1, "deferred_count": 1 }]))], ErrorKind::Missing),
        (
            vec![topic(7, &json!([{ "channel_name": "worker", "depth": 1, "in_flight_count": null }]))],
            ErrorKind::Missing,
        ),
    ] {
        assert_eq!(depth(&nsqd).expect_err("there is no number").0, kind, "{nsqd:?}");
    }
}

#[test]
fn what_nsqlookupd_names_becomes_a_server_and_nothing_else() {
    let url = |host: &str| url_of("https", host, 4152).map(String::from);
    assert_eq!(url("q1.internal").as_deref(), Some("https://q1.internal:4152/"));
    assert_eq!(url("10.0.0.5").as_deref(), Some("https://10.0.0.5:4152/"));
    assert_eq!(url("fd00::5").as_deref(), Some("https://[fd00::5]:4152/"));
    for host in ["", "a/b", "a?b", "a#b", "user@a", "a:80", "a b"] {
        assert_eq!(url(host), None, "{host}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let with = |more: Value| {
        let mut settings = json!({ "topic": "orders", "channel": "worker#ephemeral" });
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        check(&settings)
    };
    for right in [
        json!({ "nsqd_address": "127.0.0.1:4151", "use_ssl": false }),
        json!({ "nsqd_addresses": ["a:4151", "http://b:4151/"] }),
        json!({ "lookupd_addresses": ["a:4161", "b:4161"], "nsqd_port": 4152 }),
    ] {
        assert_eq!(with(right.clone()), [], "{right}");
    }
    for wrong in [
        json!({}),
        json!({ "nsqd_address": "a:4151", "lookupd_addresses": ["b:4161"] }),
        json!({ "nsqd_address": "a:4151", "nsqd_addresses": ["https://a:4151"] }),
        json!({ "nsqd_address": "a:4151", "nsqd_port": 4152 }),
        json!({ "nsqd_address": "a:4151/stats" }),
        json!({ "nsqd_address": "user:canary@a:4151" }),
        json!({ "nsqd_address": "a:4151", "topic": "a b" }),
        json!({ "nsqd_address": "a:4151", "channel": "#ephemeral" }),
    ] {
        let problems = with(wrong.clone());
        assert_eq!(problems.len(), 1, "{wrong}: {problems:?}");
        assert!(!format!("{problems:?}").contains("canary"), "{problems:?}");
    }
}
