//! Reading one source as `tidegate read` does, and the matrix of what each source must show.

#![allow(dead_code, reason = "a kit: not every test uses every tool of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tidegate::cli::{SourceReading, read_source};
use tidegate::core::{Amount, QueueDepth};
use tidegate::error::Error;

/// Reads a source in an environment that permits this machine, plain http and nothing else.
pub async fn read(settings: Value) -> Result<SourceReading, Error> {
    read_in(&[], settings).await
}

/// The same with more in the environment.
pub async fn read_in(env: &[(&str, &str)], settings: Value) -> Result<SourceReading, Error> {
    let usual = [("ALLOW_LOCAL_ADDRESSES", "true"), ("ALLOW_PLAIN_HTTP", "true")];
    let vars = usual.iter().chain(env).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let reading = read_source(settings, "a test", Arc::new(vars.collect::<BTreeMap<_, _>>())).await;
    if let Err(error) = &reading {
        assert!(!error.to_string().contains("canary"), "the error shows a secret: {error}");
    }
    reading
}

/// The counts of a source that reads a queue.
pub async fn depth(settings: Value) -> QueueDepth {
    let reading = read(settings.clone()).await.unwrap_or_else(|error| panic!("{}: {error}", settings["type"]));
    match reading.amount {
        Amount::Queue(depth) => depth,
        Amount::Gauge { .. } => panic!("{}: it is no queue", settings["type"]),
    }
}

/// The value of a source that reads a number.
pub async fn gauge(settings: Value) -> f64 {
    let reading = read(settings.clone()).await.unwrap_or_else(|error| panic!("{}: {error}", settings["type"]));
    match reading.amount {
        Amount::Gauge { value } => value.get(),
        Amount::Queue(_) => panic!("{}: it is a queue", settings["type"]),
    }
}

/// Reads settings that must fail, and compares the error with the cell of the matrix in `tests/matrix/SOURCE.json`: what
/// the documentation says is what was seen.
pub async fn fails_as(source: &str, cell: &str, settings: Value) {
    fails_in(&[], source, cell, settings).await;
}

/// The same with more in the environment.
pub async fn fails_in(env: &[(&str, &str)], source: &str, cell: &str, settings: Value) {
    let error = read_in(env, settings).await.expect_err("it cannot be read");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/matrix/{source}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let matrix: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let expected = &matrix["cells"][cell];
    assert_eq!(expected["kind"].as_str(), Some(error.kind().name()), "{source}, {cell}: {error}");
    let says = expected["says"].as_str().unwrap_or_else(|| panic!("{source}, {cell}: nothing in `says`"));
    assert!(error.to_string().contains(says), "{source}, {cell}: {error}, and not {says:?}");
}
