//! The redis source against real servers, and against the real Celery, Sidekiq, RQ and BullMQ.

mod frameworks;
mod kit;
mod topology;

use serde_json::json;
use tidegate::core::QueueDepth;
use tidegate::error::ErrorKind;

use self::kit::Redis;
use crate::support::http::CA;
use crate::support::servers::{Relay, free_port};
use crate::support::source::{depth, fails_as, read, read_in};

fn waiting(backlog: u64) -> QueueDepth {
    QueueDepth { backlog, ..QueueDepth::default() }
}

#[tokio::test]
async fn a_list_has_what_waits_and_what_is_worked_on() {
    let redis = Redis::start().await;
    redis.run("RPUSH orders 1 2 3 4 5 6 7");
    redis.run("RPUSH urgent 1 2");
    assert_eq!(depth(redis.settings(json!({ "queue_key": "orders" }))).await, waiting(7));
    (0..3).for_each(|_| drop(redis.run("LMOVE orders working LEFT RIGHT")));
    let settings = |more| redis.settings(json!({ "queue_key": "orders", "keys": ["urgent"], "processing_key": more }));
    let expected = |taken| QueueDepth { in_flight: Some(taken), ..waiting(6) };
    assert_eq!(depth(settings("working")).await, expected(3));
    assert_eq!(depth(settings("nothing")).await, expected(0));
    redis.run("SADD set a b");
    redis.run("HSET hash a 1 b 2 c 3 d 4");
    redis.run("ZADD zset 1 a");
    redis.run("SET text a");
    for (key, taken) in [("set", 2), ("hash", 4), ("zset", 1)] {
        assert_eq!(depth(settings(key)).await, expected(taken), "{key}");
    }
    let error = read(settings("text")).await.expect_err("it counts nothing");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("\"text\" is a string"), "{error}");
}

#[tokio::test]
async fn a_list_that_is_not_there_is_an_empty_one() {
    let redis = Redis::start().await;
    redis.run("RPUSH orders 1");
    redis.run("LPOP orders");
    assert_eq!(depth(redis.settings(json!({ "queue_key": "orders" }))).await, waiting(0));
    let sorted = redis.settings(json!({ "queue_key": "orders", "queue_type": "sorted_set" }));
    assert_eq!(depth(sorted).await, waiting(0));
}

#[tokio::test]
async fn a_sorted_set_of_times_has_what_is_due_and_what_is_not() {
    let redis = Redis::start().await;
    let now: i64 = redis.run("TIME").lines().next().and_then(|now| now.parse().ok()).expect("it tells the time");
    let members = format!("{} a {} b {} c", now - 100, now - 1, now + 1000);
    redis.run(&format!("ZADD later {members}"));
    let settings = |more: serde_json::Value| {
        let mut settings = redis.settings(json!({ "queue_key": "later", "queue_type": "sorted_set" }));
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        settings
    };
    assert_eq!(depth(settings(json!({}))).await, waiting(3));
    let expected = QueueDepth { delayed: Some(1), ..waiting(2) };
    assert_eq!(depth(settings(json!({ "scores": "seconds" }))).await, expected);
    let past = QueueDepth { delayed: Some(0), ..waiting(3) };
    assert_eq!(depth(settings(json!({ "scores": "milliseconds" }))).await, past);
}

#[tokio::test]
async fn a_key_of_another_type_is_named_with_its_type() {
    let redis = Redis::start().await;
    redis.run("HSET orders a 1");
    for queue_type in ["list", "stream", "sorted_set"] {
        let settings = redis.settings(json!({ "queue_key": "orders", "queue_type": queue_type }));
        let error = read(settings).await.expect_err("it is a hash");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let text = error.to_string();
        assert!(text.contains("\"orders\"") && text.contains("it is a hash"), "{text}");
    }
    redis.run("ACL SETUSER counter on >canary-counter ~* +llen");
    let counter = json!({ "queue_key": "orders", "username": "counter", "password": "canary-counter" });
    let error = read(redis.settings(counter)).await.expect_err("it is a hash");
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("WRONGTYPE"), "{error}");
}

#[tokio::test]
async fn a_group_has_its_lag_and_what_it_has_not_acknowledged() {
    let redis = Redis::start().await;
    redis.run("XGROUP CREATE events workers 0 MKSTREAM");
    let settings =
        redis.settings(json!({ "queue_key": "events", "queue_type": "stream", "consumer_group": "workers" }));
    let empty = QueueDepth { in_flight: Some(0), ..QueueDepth::default() };
    assert_eq!(depth(settings.clone()).await, empty);
    let ids: Vec<String> = (0..10).map(|_| redis.run("XADD events * a 1").trim().to_owned()).collect();
    redis.run("XREADGROUP GROUP workers one COUNT 4 STREAMS events >");
    redis.run(&format!("XACK events workers {}", ids[0]));
    // What was acknowledged stays in the stream, so that its length says nothing of what waits.
    let found = depth(settings.clone()).await;
    assert_eq!((found.backlog, found.in_flight, found.completed), (6, Some(3), Some(1)));
    assert!(found.oldest_age_secs.is_some_and(|age| age < 60), "{found:?}");
    let whole = redis.settings(json!({ "queue_key": "events", "queue_type": "stream" }));
    let whole = depth(whole).await;
    assert_eq!((whole.backlog, whole.in_flight, whole.completed), (10, None, None));
    // Redis does not know the lag where entries between were deleted.
    redis.run(&format!("XDEL events {}", ids[7]));
    assert!(redis.run("XINFO GROUPS events").ends_with("lag\n\n"), "{}", redis.run("XINFO GROUPS events"));
    assert_eq!(depth(settings.clone()).await.backlog, 5);
    // Ids that are no times are no ages.
    redis.run("XADD old 1-1 a 1");
    let old = depth(redis.settings(json!({ "queue_key": "old", "queue_type": "stream" }))).await;
    assert_eq!((old.backlog, old.oldest_age_secs), (1, None));
}

#[tokio::test]
async fn a_group_that_is_wrongly_said_to_have_read_everything_is_counted() {
    let redis = Redis::start().await;
    let settings =
        redis.settings(json!({ "queue_key": "events", "queue_type": "stream", "consumer_group": "workers" }));
    (0..5).for_each(|_| drop(redis.run("XADD events * a 1")));
    redis.run("XGROUP CREATE events workers 0 ENTRIESREAD 5");
    assert!(redis.run("XINFO GROUPS events").ends_with("lag\n0\n"), "{}", redis.run("XINFO GROUPS events"));
    let found = depth(settings.clone()).await;
    assert_eq!((found.backlog, found.in_flight), (5, Some(0)));
    assert!(found.oldest_age_secs.is_some_and(|age| age < 60), "{found:?}");
    redis.run("XREADGROUP GROUP workers one STREAMS events >");
    let found = depth(settings).await;
    assert_eq!((found.backlog, found.in_flight, found.oldest_age_secs), (0, Some(5), None));
}

#[tokio::test]
async fn entries_that_cannot_be_counted_are_an_error() {
    let redis = Redis::start().await;
    redis.run("XGROUP CREATE events workers 0 MKSTREAM");
    let settings =
        redis.settings(json!({ "queue_key": "events", "queue_type": "stream", "consumer_group": "workers" }));
    let fill = |from: u32, to: u32| {
        let script = "for i=ARGV[1],ARGV[2] do redis.call('XADD',KEYS[1],i..'-1','a','1') end";
        redis.cli(&["EVAL", script, "1", "events", &from.to_string(), &to.to_string()]);
    };
    fill(1, 9_000);
    redis.run("XREADGROUP GROUP workers one COUNT 10 STREAMS events >");
    redis.run("XDEL events 500-1");
    assert_eq!(depth(settings.clone()).await.backlog, 8_989);
    fill(9_001, 12_000);
    let error = read(settings).await.expect_err("they are too many");
    assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
    assert!(error.to_string().contains("ENTRIESREAD"), "{error}");
}

#[tokio::test]
async fn a_group_or_stream_that_is_not_there_is_not_found() {
    let redis = Redis::start().await;
    redis.run("XGROUP CREATE events workers 0 MKSTREAM");
    let settings = json!({ "queue_key": "events", "queue_type": "stream", "consumer_group": "wrokers" });
    fails_as("redis", "missing", redis.settings(settings)).await;
    for group in [json!({}), json!({ "consumer_group": "workers" })] {
        let mut settings = redis.settings(json!({ "queue_key": "no-events", "queue_type": "stream" }));
        settings.as_object_mut().expect("an object").extend(group.as_object().expect("an object").clone());
        let error = read(settings).await.expect_err("there is none");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("no-events"), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_password_or_user_is_denied_and_never_shown() {
    let redis = Redis::start_with(&["--requirepass", "canary-right"]).await;
    redis.run("RPUSH orders 1 2");
    redis.run("ACL SETUSER reader on >canary-reader ~orders +@read");
    let settings = |more: serde_json::Value| {
        let mut settings = redis.settings(json!({ "queue_key": "orders" }));
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        settings
    };
    assert_eq!(depth(settings(json!({ "password": "canary-right" }))).await, waiting(2));
    let reader = json!({ "username": "reader", "password": "canary-reader" });
    assert_eq!(depth(settings(reader)).await, waiting(2));
    fails_as("redis", "password", settings(json!({ "password": "canary-wrong" }))).await;
    for (more, says) in [
        (json!({}), "set password"),
        (json!({ "username": "nobody", "password": "canary-reader" }), "\"nobody\""),
        (json!({ "username": "reader", "password": "canary-reader", "keys": ["other"] }), "NOPERM"),
        (json!({ "username": "reader", "password": "canary-reader", "db": 1 }), "NOPERM"),
    ] {
        let error = read(settings(more)).await.expect_err("it is denied");
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains(says), "{error}, and not {says}");
    }
    let open = Redis::start().await;
    let error = read(open.settings(json!({ "queue_key": "orders", "password": "canary" }))).await;
    let error = error.expect_err("there is no password");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let error = read(open.settings(json!({ "queue_key": "orders", "db": 99 }))).await.expect_err("there is no such db");
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("set db"), "{error}");
}

#[tokio::test]
async fn nobody_at_the_port_is_unavailable() {
    let settings =
        json!({ "type": "redis", "host": "127.0.0.1", "port": free_port(), "use_ssl": false, "queue_key": "q" });
    fails_as("redis", "port", settings).await;
    let http = crate::support::http::HttpServer::start(crate::support::http::Reply::json("7")).await;
    let settings = json!({ "type": "redis", "url": format!("redis://{}", http.address), "queue_key": "q" });
    let error = read(settings).await.expect_err("it is no Redis");
    assert!(matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Unavailable), "{error}");
}

#[tokio::test]
async fn tls_is_on_and_verified_and_a_mismatch_is_said() {
    let redis = Redis::with_tls().await;
    redis.run("RPUSH orders 1 2 3");
    let tls = |more: serde_json::Value| {
        let mut settings =
            json!({ "type": "redis", "host": "localhost", "port": redis.tls_port, "queue_key": "orders" });
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        settings
    };
    assert_eq!(depth(tls(json!({ "ca": CA }))).await, waiting(3));
    let url = format!("rediss://localhost:{}/0", redis.tls_port);
    assert_eq!(depth(json!({ "type": "redis", "url": url, "ca": CA, "queue_key": "orders" })).await, waiting(3));
    let insecure = read_in(&[("ALLOW_INSECURE_TLS", "true")], tls(json!({ "insecure_tls": true }))).await;
    assert!(insecure.is_ok(), "{insecure:?}");
    let plain_port = tls(json!({ "port": redis.server.port, "ca": CA }));
    for (settings, kind, says) in [
        (tls(json!({})), ErrorKind::Unavailable, "give the CA that issued it as ca"),
        (tls(json!({ "insecure_tls": true })), ErrorKind::Config, "ALLOW_INSECURE_TLS"),
        (tls(json!({ "host": "127.0.0.1", "ca": CA })), ErrorKind::Unavailable, "its certificate is refused"),
        (tls(json!({ "use_ssl": false })), ErrorKind::Unavailable, "if the port speaks TLS"),
        (tls(json!({ "ca": "-----BEGIN canary" })), ErrorKind::Config, "ca holds no certificate"),
        (plain_port.clone(), ErrorKind::Unavailable, "does not speak TLS"),
    ] {
        let error = read(settings).await.expect_err(says);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error}, and not {says}");
    }
    fails_as("redis", "tls", plain_port).await;
}

#[tokio::test]
async fn a_server_that_dies_while_it_answers_is_an_error() {
    let redis = Redis::start().await;
    redis.run("RPUSH orders 1 2 3 4 5 6 7 8 9 10 11 12");
    redis.run("RPUSH working 1");
    // Six bytes say `:12\r\n` and more; fewer are an answer of which the rest is missing.
    for bytes in 1..=5 {
        let relay = Relay::breaking_after(redis.server.address(), bytes).await;
        let settings = json!({
            "type": "redis", "host": "127.0.0.1", "port": relay.address.port(), "use_ssl": false,
            "queue_key": "orders", "processing_key": "working"
        });
        fails_as("redis", "killed", settings).await;
        assert_eq!(relay.connections(), 1, "nothing is tried again");
    }
}

#[tokio::test]
async fn a_server_that_cannot_tell_is_unavailable() {
    let replica = Redis::start_with(&["--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "no"]).await;
    let error = read(replica.settings(json!({ "queue_key": "orders" }))).await.expect_err("its master is gone");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("MASTERDOWN"), "{error}");
    let loading = Redis::loading().await;
    let error = read(loading.settings(json!({ "queue_key": "orders" }))).await.expect_err("it is loading");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("LOADING"), "{error}");
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_refused() {
    let base = json!({ "type": "redis", "queue_key": "q" });
    for (more, says) in [
        (json!({}), "give host, url or sentinel"),
        (json!({ "host": "h", "url": "redis://h" }), "keep one of them"),
        (json!({ "url": "redis://user:canary@h" }), "credential"),
        (json!({ "url": "http://h" }), "another scheme"),
        (json!({ "url": "redis://h/1", "db": 2 }), "keep one of them"),
        (json!({ "host": "h", "cluster": true, "db": 2 }), "take db out"),
        (json!({ "host": "h", "consumer_group": "g" }), "streams"),
        (json!({ "host": "h", "queue_type": "celery", "processing_key": "p" }), "lists and sorted sets"),
        (json!({ "host": "h", "username": "u" }), "give the password too"),
        (json!({ "host": "redis://h" }), "a URL is for url"),
    ] {
        let mut settings = base.clone();
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let error = read(settings).await.expect_err(says);
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(says), "{error}, and not {says}");
    }
}
