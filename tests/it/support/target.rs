//! One target: its status as `tidegate status` reads it, and whole ticks that set a count, as `tidegate invoke` makes them.

#![allow(dead_code, reason = "a kit: not every test uses every tool of it")]

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate::cli::{TargetReading, read_target};
use tidegate::clock::System;
use tidegate::error::Error;
use tidegate::handler::{Host, Invocation};

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

async fn tick(env: &[(&str, &str)], settings: Value, count: u32, dry_run: bool) -> Value {
    let document = json!({
        "state": { "type": "memory" },
        "services": [{
            "name": "it", "target": settings, "sources": [{ "type": "command", "program": ["echo", "0"] }],
            "bounds": { "min": 0, "max": 1000 }, "pause": count, "policies": [{ "type": "threshold" }],
        }],
    });
    let mut vars = vars(env);
    vars.insert("CONFIG".to_owned(), document.to_string());
    let host = Host::new(Arc::new(vars), Arc::new(System), false);
    let invocation = Invocation { id: "it".to_owned(), dry_run, ..Invocation::default() };
    let answer = match host.handle(&Value::Null, invocation).await {
        Ok(answer) => answer,
        Err(failed) => *failed.answer.clone().unwrap_or_else(|| panic!("{}: {}", failed.error_type, failed.message)),
    };
    let answer = json!(answer);
    assert!(!answer.to_string().contains("canary"), "the record shows a secret: {answer}");
    answer["records"][0].clone()
}
