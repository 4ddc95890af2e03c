//! Connections that are refused, reset, slow, endless or lead elsewhere.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;

use super::last;
use crate::support::cloud::{Cloud, ORDERS};
use crate::support::emulator::TIMEOUT_MS;
use crate::support::proxy::Fault;
use crate::support::runtime_api::Function;

const READS: [&str; 3] = ["GetQueueAttributes", "DescribeServices", "S3.GetObject"];

/// The most memory that a process ever had, in KiB.
fn peak_kib(function: &Function) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", function.pid())).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}

/// An address at which nothing listens.
async fn refusing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    listener.local_addr().expect("it is bound")
}

/// An address that resets every connection: what is closed before it was read is answered with RST.
async fn resetting() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            _ = stream.readable().await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_refused_or_reset_are_told_apart_from_empty_queues() {
    let cloud = Cloud::start(0, 50).await;
    // A reset that comes while the request is being sent is a connection that was closed.
    for (address, causes) in [(refusing().await, ["refused"; 2]), (resetting().await, ["reset", "closed"])] {
        let endpoint = format!("http://{address}");
        let function = cloud.function(&[("AWS_ENDPOINT_URL", &endpoint)]).await;
        let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
        assert_eq!(error_type, "Unavailable", "{message}");
        assert!(causes.iter().any(|cause| message.contains(cause)), "{message}");
        let sample = &last(&function, ORDERS)["samples"][0];
        assert_eq!(sample["unreadable"]["kind"], "Unavailable", "{sample}");
    }
    cloud.rest(&[ORDERS]);
    cloud.fail("GetQueueAttributes", 100, Fault::DropRequest);
    let function = cloud.function(&[]).await;
    let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
    assert_eq!((error_type.as_str(), cloud.desired()), ("Unavailable", 50), "{message}");
    assert_eq!(last(&function, ORDERS)["samples"][0]["unreadable"]["kind"], "Unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_drip_are_given_up_before_the_deadline() {
    let cloud = Cloud::start(0, 50).await;
    cloud.rest(&[ORDERS]);
    READS.iter().for_each(|action| cloud.fail(action, 100, Fault::Drip(Duration::from_secs(1))));
    let function = cloud.function(&[]).await;
    let (error_type, message) = function.invoke(json!({}), 15_000).await.expect_error();
    assert_eq!((error_type.as_str(), cloud.mutating().len()), ("Timeout", 0), "{message}");
    // One by one, each is enough to keep the count.
    for action in READS {
        cloud.reset();
        cloud.fail(action, 100, Fault::CutAfter(1));
        let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
        assert!(["Unavailable", "Malformed"].contains(&error_type.as_str()), "{action}: {error_type}: {message}");
        assert_eq!(cloud.mutating().len(), 0, "{action}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_end_are_refused_within_64_mib() {
    let cloud = Cloud::start(0, 50).await;
    cloud.rest(&[ORDERS]);
    let function = cloud.function(&[]).await;
    for action in READS {
        cloud.fail(action, 100, Fault::Endless);
        let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
        assert!(["Malformed", "Unavailable"].contains(&error_type.as_str()), "{action}: {error_type}: {message}");
        cloud.reset();
    }
    READS.iter().for_each(|action| cloud.fail(action, 100, Fault::Endless));
    function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
    assert_eq!(cloud.desired(), 50);
    let peak = peak_kib(&function);
    println!("the most memory that the process had: {peak} KiB");
    assert!(peak < 64 * 1024, "{peak} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_account_is_not_asked_for_without_end() {
    // Without a function's ARN, as in the command, the account is asked for.
    let cloud = Cloud::start(0, 50).await;
    cloud.rest(&[ORDERS]);
    cloud.fail("GetCallerIdentity", 100, Fault::Endless);
    let host = cloud.host(std::sync::Arc::new(crate::support::Moved::at_noon()), &[]);
    let failed = host.handle(&json!({}), tidegate::handler::Invocation::default()).await.expect_err("it has no end");
    assert!(["Malformed", "Unavailable"].contains(&failed.error_type.as_str()), "{}", failed.message);
    assert_eq!(cloud.desired(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirections_are_not_followed() {
    let (cloud, elsewhere) = (Cloud::start(5_000, 10).await, Cloud::start(0, 10).await);
    cloud.rest(&[ORDERS]);
    let function = cloud.function(&[]).await;
    for action in [READS[0], READS[1], READS[2], "S3.PutObject", "UpdateService"] {
        cloud.fail(action, 100, Fault::redirect(&elsewhere.url()));
        let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
        assert_eq!((error_type.as_str(), cloud.desired()), ("Config", 10), "{action}: {message}");
        cloud.reset();
    }
    assert_eq!(elsewhere.calls().len(), 0, "credentials went to another host");
}
