//! One target: its status as `tidegate status` reads it, and whole ticks that set a count, as `tidegate invoke` makes them.

#![allow(dead_code, reason = "a kit: not every test uses every tool of it")]

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate::cli::{TargetReading, read_target};
use tidegate::clock::System;
use tidegate::error::Error;
use tidegate::handler::{Host, Invocation};

use super::proxy::Proxy;

/// What the environment permits: this machine and plain http.
const USUAL: [(&str, &str); 2] = [("ALLOW_LOCAL_ADDRESSES", "true"), ("ALLOW_PLAIN_HTTP", "true")];

fn vars(more: &[(&str, &str)]) -> BTreeMap<String, String> {
    USUAL.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Reads the status of a target in an environment that permits this machine, plain http and what is given.
pub async fn status(env: &[(&str, &str)], settings: Value) -> Result<TargetReading, Error> {
    let reading = read_target(settings, "a test", Arc::new(vars(env))).await;
    if let Err(error) = &reading {
        assert!(!error.to_string().contains("canary"), "the error shows a secret: {error}");
    }
    reading
}

/// Ticks with one service that is paused at a count, so that the tick sets exactly that, and returns its record. Each tick has
/// a state of its own.
pub async fn set(env: &[(&str, &str)], settings: Value, count: u32) -> Value {
    tick(env, settings, count, false).await
}

/// The same as a dry run.
pub async fn rehearse(env: &[(&str, &str)], settings: Value, count: u32) -> Value {
    tick(env, settings, count, true).await
}

/// Looks on in one process while others set a count of 2, 5 and 3, where this one would set 3, and shows that it saw that. The last
/// look meets what the others began to stop.
pub async fn look_on(env: &[(&str, &str)], settings: Value, others: impl AsyncFn(u32)) {
    let host = host(env, settings, 3);
    for (count, compared) in [(2, [1, 0, 0]), (5, [1, 0, 1]), (3, [1, 1, 1])] {
        others(count).await;
        let record = record(&host, true).await;
        let [more, same, fewer] = compared;
        let would_have = json!({ "desired": 3, "compared": { "more": more, "same": same, "fewer": fewer } });
        assert_eq!((&record["would_have"], &record["status"]["desired"]), (&would_have, &json!(count)), "{record}");
    }
}

/// The same through a proxy, which shows that nothing was asked for that changes something.
pub async fn look_on_through(proxy: &Proxy, env: &[(&str, &str)], settings: Value, others: impl AsyncFn(u32)) {
    look_on(env, settings, others).await;
    assert!(!proxy.calls().is_empty(), "nothing was asked");
    assert_eq!(proxy.mutating(), []);
}

async fn tick(env: &[(&str, &str)], settings: Value, count: u32, dry_run: bool) -> Value {
    record(&host(env, settings, count), dry_run).await
}

fn host(env: &[(&str, &str)], settings: Value, count: u32) -> Host {
    let document = json!({
        "state": { "type": "memory" },
        "services": [{
            "name": "it", "target": settings, "sources": [{ "type": "command", "program": ["echo", "0"] }],
            "bounds": { "min": 0, "max": 1000 }, "pause": count, "policies": [{ "type": "threshold" }],
        }],
    });
    let mut vars = vars(env);
    vars.insert("CONFIG".to_owned(), document.to_string());
    Host::new(Arc::new(vars), Arc::new(System), false)
}

async fn record(host: &Host, dry_run: bool) -> Value {
    let invocation = Invocation { id: "it".to_owned(), dry_run, ..Invocation::default() };
    let answer = match host.handle(&Value::Null, invocation).await {
        Ok(answer) => answer,
        Err(failed) => *failed.answer.clone().unwrap_or_else(|| panic!("{}: {}", failed.error_type, failed.message)),
    };
    let answer = json!(answer);
    assert!(!answer.to_string().contains("canary"), "the record shows a secret: {answer}");
    answer["records"][0].clone()
}
