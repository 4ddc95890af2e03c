//! What the sources of CloudWatch's metrics need: metrics in an emulator, and ways to fail to reach it.

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum};
use jiff::Timestamp;
use serde_json::Value;
use tidegate::cli::SourceReading;
use tidegate::core::Amount;
use tidegate::error::Error;

use crate::support::emulator::{REGION, World};
use crate::support::http::HttpServer;
use crate::support::servers::{Relay, free_port};
use crate::support::source::{fails_in, read_in};

/// The beginning of a minute that was over so many minutes ago. With 60 s of delay, two is the newest one that is read.
pub fn minute(ago: i64) -> i64 {
    (Timestamp::now().as_second() / 60 - ago) * 60
}

/// Puts values into minutes, each so many minutes ago.
pub async fn put(world: &World, namespace: &str, metric: &str, dimensions: &[(&str, &str)], values: &[(i64, f64)]) {
    let dimensions = dimensions.iter().map(|(name, value)| Dimension::builder().name(*name).value(*value).build());
    let dimensions: Vec<_> = dimensions.collect();
    let datum = |(ago, value): &(i64, f64)| {
        let datum = MetricDatum::builder().metric_name(metric).set_dimensions(Some(dimensions.clone()));
        datum.timestamp(DateTime::from_secs(minute(*ago) + 10)).value(*value).build()
    };
    let client = Client::new(&world.sdk());
    let request = client.put_metric_data().namespace(namespace);
    let request = request.set_metric_data(Some(values.iter().map(datum).collect()));
    request.send().await.expect("metrics can be put");
}

/// Reads a source at an endpoint.
pub async fn read_at(endpoint: &str, settings: Value) -> Result<SourceReading, Error> {
    read_in(&[("AWS_ENDPOINT_URL", endpoint), ("AWS_REGION", REGION)], settings).await
}

/// The number of a source that reads one.
pub async fn value(endpoint: &str, settings: Value) -> f64 {
    let reading = read_at(endpoint, settings).await.unwrap_or_else(|error| panic!("{error}"));
    match reading.amount {
        Amount::Gauge { value } => value.get(),
        Amount::Queue(depth) => panic!("it is a queue: {depth:?}"),
    }
}

/// Compares an error with the cell of the matrix.
pub async fn fails_at(endpoint: &str, source: &str, cell: &str, settings: Value) {
    fails_in(&[("AWS_ENDPOINT_URL", endpoint), ("AWS_REGION", REGION)], source, cell, settings).await;
}

/// Nobody listens.
pub async fn has_no_port(source: &str, settings: Value) {
    fails_at(&format!("http://127.0.0.1:{}", free_port()), source, "port", settings).await;
}

/// TLS against a port without, and none against one with it.
pub async fn has_another_tls(source: &str, settings: Value) {
    let world = World::ministack(1).await;
    fails_at(&world.url().replace("http:", "https:"), source, "tls", settings.clone()).await;
    let server = HttpServer::with_tls(crate::support::http::Reply::json("{}")).await;
    let endpoint = format!("http://localhost:{}", server.address.port());
    let error = read_at(&endpoint, settings).await.expect_err("it speaks TLS");
    assert_eq!(error.kind().name(), "Unavailable", "{error}");
}

/// The connection breaks while the answer comes.
pub async fn is_killed(source: &str, settings: Value) {
    let world = World::ministack(1).await;
    let relay = Relay::breaking_after(world.address, 40).await;
    fails_at(&format!("http://{}", relay.address), source, "killed", settings).await;
    assert!(0 < relay.connections());
}

/// Who has the wrong secret is denied, and the message says what was not allowed. The emulator judges no policies of CloudWatch.
pub async fn is_denied(source: &str, settings: Value) {
    let world = World::ministack(1).await;
    let nothing = serde_json::json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*" }
    ] });
    let mut keys = world.role(&nothing).await;
    for (name, value) in &mut keys {
        if name == "AWS_SECRET_ACCESS_KEY" {
            "canary".clone_into(value);
        }
    }
    // The SDK reads credentials from the process's environment, so that this takes a process of its own.
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["read", &settings.to_string()])
        .envs([("AWS_ENDPOINT_URL", world.url().as_str()), ("AWS_REGION", REGION)])
        .envs(keys)
        .output()
        .await
        .expect("the command runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let path = format!("{}/tests/matrix/{source}.json", env!("CARGO_MANIFEST_DIR"));
    let matrix: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("it is there")).expect("it is JSON");
    let cell = &matrix["cells"]["password"];
    assert!(!error.contains("canary"), "{error}");
    assert_eq!(cell["kind"], "Denied");
    assert!(!output.status.success() && error.contains(cell["says"].as_str().expect("it says something")), "{error}");
}
