//! The queues of the real Celery, Sidekiq, RQ and BullMQ, read by a user who may only read.

use std::process::Command;

use serde_json::json;
use tidegate::core::QueueDepth;
use tidegate::error::ErrorKind;

use super::kit::{Redis, Worker, finish, tool, until};
use super::waiting;
use crate::support::source::{depth, read};

#[tokio::test]
async fn celery_tasks_of_every_priority_are_counted_and_so_are_those_in_workers_hands() {
    let redis = Redis::start().await;
    finish(tool("python").arg("tasks.py").env("BROKER", redis.url()));
    let settings = |keys: &[&str]| redis.reader(json!({ "queue_type": "celery", "keys": keys }));
    let counts = async |keys: &[&str]| {
        let found = depth(settings(keys)).await;
        (found.backlog, found.in_flight)
    };
    assert_eq!(counts(&["celery"]).await, (10, Some(0)));
    assert_eq!(counts(&["celery", "other"]).await, (12, Some(0)));
    // One process takes four tasks in advance, of whatever queues it works on.
    let mut command = tool("celery");
    command.args(["-A", "tasks", "worker", "-c", "1", "-Q", "celery,other"]).env("BROKER", redis.url());
    let _worker = Worker::start(&mut command);
    until("the worker has four tasks", async || redis.run("HLEN unacked").trim() == "4").await;
    let [celery, other] = [counts(&["celery"]).await, counts(&["other"]).await];
    assert_eq!(counts(&["celery", "other"]).await, (8, Some(4)));
    assert_eq!(celery.0 + celery.1.expect("known"), 10, "{celery:?}");
    assert_eq!(other.0 + other.1.expect("known"), 2, "{other:?}");
    assert!(celery.0 < 10, "{celery:?}");
}

#[tokio::test]
async fn celery_with_names_and_steps_of_its_own_is_counted() {
    let redis = Redis::start().await;
    let options = json!({ "global_keyprefix": "app:", "sep": ":", "priority_steps": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] });
    finish(tool("python").arg("tasks.py").env("BROKER", redis.url()).env("OPTIONS", options.to_string()));
    let settings = |steps: Vec<u8>| {
        redis.reader(json!({
            "queue_type": "celery", "queue_key": "celery", "key_prefix": "app:", "separator": ":", "priority_steps": steps
        }))
    };
    let expected = QueueDepth { in_flight: Some(0), ..waiting(10) };
    assert_eq!(depth(settings((0..10).collect())).await, expected);
    // Tasks that lie by an exchange whose bindings are not there are of nobody knows which queue.
    redis.cli(&["HSET", "app:unacked", "tag", r#"[{}, "", "celery"]"#]);
    assert_eq!(depth(settings((0..10).collect())).await.in_flight, Some(1));
    redis.cli(&["HSET", "app:unacked", "tag", r#"[{}, "celery", "celery"]"#]);
    redis.cli(&["SADD", "app:_kombu.binding.celery", "celery::celery"]);
    assert_eq!(depth(settings((0..10).collect())).await.in_flight, Some(1));
    redis.cli(&["HSET", "app:unacked", "tag", r#"[{}, "elsewhere", "celery"]"#]);
    assert_eq!(depth(settings((0..10).collect())).await.in_flight, None);
    redis.cli(&["HSET", "app:unacked", "tag", "no JSON"]);
    let error = read(settings(vec![0])).await.expect_err("it is no task");
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    let many = "for i=1,1001 do redis.call('HSET',KEYS[1],i,'[{},\"\",\"celery\"]') end";
    redis.cli(&["EVAL", many, "1", "app:unacked"]);
    assert_eq!(depth(settings(vec![0])).await.in_flight, None, "they are too many to be read");
}

#[tokio::test]
async fn rq_jobs_are_counted_by_where_they_are() {
    let redis = Redis::start().await;
    finish(tool("python").arg("fill_rq.py").arg(redis.url()));
    let settings = |queue: &str| redis.reader(json!({ "queue_type": "rq", "queue_key": queue }));
    let counts = async || {
        let found = depth(settings("orders")).await;
        assert!(found.oldest_age_secs.is_some_and(|age| age < 120), "{found:?}");
        (found.backlog, found.in_flight, found.delayed)
    };
    assert_eq!(counts().await, (7, Some(0), Some(2)));
    // A simple worker has no process of its own for the job, which would outlive this test.
    let simple = ["worker", "orders", "--worker-class", "rq.worker.SimpleWorker", "--url", &redis.url()];
    let _worker = Worker::start(tool("rq").args(simple));
    until("a job is begun", async || redis.run("ZCARD rq:wip:orders").trim() == "1").await;
    assert_eq!(counts().await, (6, Some(1), Some(2)));
    // A worker that is gone leaves its job behind, which is in nobody's hands.
    redis.run("ZADD rq:wip:orders 1000 gone:1");
    assert_eq!(counts().await, (6, Some(1), Some(2)));
    let error = read(settings("oders")).await.expect_err("there is no such queue");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("among others, orders"), "{error}");
}

#[tokio::test]
async fn bullmq_jobs_are_counted_by_where_they_are() {
    let redis = Redis::start().await;
    finish(tool("python").args(["fill_bullmq.py", "fill", &redis.url()]));
    let settings = |queue: &str| redis.reader(json!({ "queue_type": "bullmq", "queue_key": queue }));
    let counts = async |queue: &str| {
        let found = depth(settings(queue)).await;
        (found.backlog, found.in_flight, found.delayed)
    };
    assert_eq!(counts("orders").await, (8, Some(0), Some(1)));
    assert_eq!(counts("paused").await, (0, Some(0), Some(3)));
    let _worker = Worker::start(tool("python").args(["fill_bullmq.py", "work", &redis.url()]));
    until("a job is begun", async || redis.run("LLEN bull:orders:active").trim() == "1").await;
    assert_eq!(counts("orders").await, (7, Some(1), Some(1)));
    let error = read(settings("oders")).await.expect_err("there is no such queue");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn sidekiq_jobs_are_counted_by_where_they_are() {
    let redis = Redis::start().await;
    finish(Command::new("ruby").arg("jobs.rb").env("REDIS_URL", redis.url()));
    let settings = |queues: &[&str]| redis.reader(json!({ "queue_type": "sidekiq", "keys": queues }));
    let counts = async |queues: &[&str]| {
        let found = depth(settings(queues)).await;
        assert!(found.oldest_age_secs.is_some_and(|age| age < 120), "{found:?}");
        (found.backlog, found.in_flight, found.delayed)
    };
    assert_eq!(counts(&["orders"]).await, (6, Some(0), Some(1)));
    assert_eq!(counts(&["orders", "other"]).await, (7, Some(0), Some(2)));
    redis.run("ZREMRANGEBYRANK schedule 0 0");
    let mut command = Command::new("sidekiq");
    command.args(["-r", "./jobs.rb", "-c", "1", "-q", "orders"]).env("REDIS_URL", redis.url());
    let _worker = Worker::start(&mut command);
    until("a job is reported", async || depth(settings(&["orders"])).await.in_flight == Some(1)).await;
    assert_eq!(counts(&["orders"]).await, (4, Some(1), Some(1)));
    assert_eq!(counts(&["other"]).await, (1, Some(0), Some(1)));
    // A process that serves queues of others as well does not say for which it works.
    redis.cli(&["SADD", "processes", "both"]);
    redis.cli(&["HSET", "both", "busy", "1", "info", r#"{"queues": ["other", "third"]}"#]);
    assert_eq!(counts(&["other"]).await, (1, None, Some(1)));
    // What others have, now or for later, says nothing of a queue that is not there.
    for queues in [&["oders"][..], &["oders", "orders", "other"], &["orders", "other", "oders"]] {
        let error = read(settings(queues)).await.expect_err("there is no such queue");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{queues:?}: {error}");
        assert!(error.to_string().contains("\"oders\"") && error.to_string().contains("orders"), "{error}");
    }
}

#[tokio::test]
async fn a_sidekiq_queue_that_cannot_be_told_from_a_misspelt_one_is_missing() {
    let redis = Redis::start().await;
    let job = |queue: &str, number: u32| format!(r#"{{"queue":"{queue}","jid":"{number}"}}"#);
    let settings = |queues: &[&str]| redis.settings(json!({ "queue_type": "sidekiq", "keys": queues }));
    redis.cli(&["ZADD", "schedule", "99999999999", &job("later", 0)]);
    let counted = depth(settings(&["later"])).await;
    assert_eq!((counted.backlog, counted.delayed), (0, Some(1)));
    redis.run("SADD queues orders");
    let script = "for i=1,1000 do redis.call('ZADD',KEYS[1],'99999999999','{\"queue\":\"other\",\"jid\":'..i..'}') end";
    redis.cli(&["EVAL", script, "1", "schedule"]);
    let counted = depth(settings(&["orders"])).await;
    assert_eq!((counted.backlog, counted.delayed), (0, None));
    for queues in [&["later"][..], &["orders", "later"]] {
        let error = read(settings(queues)).await.expect_err("it may have jobs");
        assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
        assert!(error.to_string().contains("\"later\""), "{error}");
    }
    // One that is due is its own.
    redis.cli(&["ZADD", "retry", "1", &job("later", 1)]);
    let counted = depth(settings(&["orders", "later"])).await;
    assert_eq!((counted.backlog, counted.delayed), (1, None));
}
