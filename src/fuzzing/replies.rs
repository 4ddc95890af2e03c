//! Answers of the providers as bytes: what an adapter says was said, or it is an error.
//!
//! An input is a reply as it comes over the wire, with `\n` for the ends of lines: a status line, headers, an empty line and the body.
//! Another parser of the same body says what is in it.

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};

use super::wait_for;
use crate::adapter::find;
use crate::core::Amount;
use crate::shared::Shared;
use crate::sources::{self, Source};
use crate::stores::{self, Expect, Found, LONGEST_DOCUMENT, Store, Version};
use crate::targets::{self, Applied, Target};

/// `GetQueueAttributes`.
pub fn sqs(bytes: &[u8]) {
    let Some(reply) = Reply::parse(bytes) else { return };
    let kind = find(sources::TABLE, "sqs").expect("it is built in");
    let settings = json!({ "queue": "https://sqs.us-east-1.amazonaws.com/123456789012/orders" });
    let source: Box<dyn Source> = (kind.build)(&settings, &reply.shared()).expect("settings are valid");
    let Ok(measurement) = wait_for(source.read()) else { return };
    let Amount::Queue(depth) = measurement.amount else { panic!("a queue has a depth: {measurement:?}") };
    let attributes = &reply.json()["Attributes"];
    let said = |name: &str| attributes[name].as_str().and_then(|text| text.parse::<u64>().ok());
    assert!(reply.is_success(), "a number from an error: {depth:?}");
    assert_eq!(Some(depth.backlog), said("ApproximateNumberOfMessages"));
    assert_eq!(depth.in_flight, said("ApproximateNumberOfMessagesNotVisible"));
    assert_eq!(depth.delayed, said("ApproximateNumberOfMessagesDelayed"));
    assert_eq!(depth.oldest_age_secs, None);
}

/// `DescribeServices` and `UpdateService`.
pub fn ecs(bytes: &[u8]) {
    let Some(reply) = Reply::parse(bytes) else { return };
    let kind = find(targets::TABLE, "ecs").expect("it is built in");
    let settings = json!({ "cluster": "prod", "service": "orders" });
    let target: Box<dyn Target> = (kind.build)(&settings, &reply.shared()).expect("settings are valid");
    let answer = reply.json();
    let mut statuses = wait_for(target.statuses(&["orders".to_owned()]));
    assert_eq!(statuses.len(), 1, "one answer for each service");
    if let Some(Ok(status)) = statuses.pop() {
        let is_it = |service: &&Value| {
            service["serviceArn"].as_str().is_some_and(|arn| arn.rsplit('/').next() == Some("orders"))
        };
        let listed = answer["services"].as_array();
        let service = listed.and_then(|all| all.iter().find(is_it)).unwrap_or(&Value::Null);
        let said = |count: &str| service[count].as_u64();
        assert!(reply.is_success() && service["status"] == "ACTIVE", "{status:?} of {service}");
        assert_eq!(Some(u64::from(status.desired)), said("desiredCount"));
        assert_eq!(Some(u64::from(status.running)), said("runningCount"));
        assert_eq!(Some(u64::from(status.pending)), said("pendingCount"));
    }
    if let Ok(applied) = wait_for(target.set_desired("orders", 5)) {
        assert!(reply.is_success() && answer["service"]["desiredCount"] == 5, "{applied:?}: {answer}");
        assert_eq!(applied, Applied::Set);
    }
}

/// `GetObject` and `PutObject`.
pub fn s3(bytes: &[u8]) {
    let Some(reply) = Reply::parse(bytes) else { return };
    let kind = find(stores::TABLE, "s3").expect("it is built in");
    let store: Box<dyn Store> =
        (kind.build)(&json!({ "bucket": "state" }), &reply.shared()).expect("settings are valid");
    let said = |version: &Version| reply.header("etag").is_some_and(|etag| etag.trim() == version.0);
    match wait_for(store.load("any.json", None)) {
        Ok(Found::Document(document, version)) => {
            assert!(reply.is_success() && said(&version), "{version:?}");
            assert_eq!(document, reply.body);
            assert!(document.len() <= LONGEST_DOCUMENT);
        }
        Ok(Found::Absent) => assert!(!reply.is_success(), "an object was taken for none"),
        Ok(Found::Unchanged) => assert_eq!(reply.status, 304),
        Err(_) => {}
    }
    for expect in [Expect::Absent, Expect::At(Version("\"v1\"".to_owned()))] {
        if let Ok(version) = wait_for(store.save("any.json", b"{}".to_vec(), &expect)) {
            assert!(reply.is_success() && said(&version), "{version:?}");
        }
    }
}

/// `GetCallerIdentity`.
pub fn sts(bytes: &[u8]) {
    let Some(reply) = Reply::parse(bytes) else { return };
    let Ok(account) = wait_for(reply.shared().account()) else { return };
    assert!(reply.is_success(), "an account from an error: {account:?}");
    assert!(crate::iam::is_account(&account), "{account:?} is no account");
}

/// One answer of a provider.
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(2).position(|window| window == b"\n\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let pairs = lines.filter_map(|line| line.split_once(':'));
        let headers = pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        let reply = Self { status, headers, body: bytes[end + 2..].to_vec() };
        // What is no reply of HTTP never reaches an adapter.
        reply.response().map(|_| reply)
    }

    fn response(&self) -> Option<HttpResponse> {
        let status = self.status.try_into().ok().filter(|_| 200 <= self.status)?;
        let mut response = HttpResponse::new(status, SdkBody::from(self.body.clone()));
        for (name, value) in &self.headers {
            response.headers_mut().try_append(name.clone(), value.clone()).ok()?;
        }
        Some(response)
    }

    /// Shares in which every request is answered so.
    fn shared(&self) -> Shared {
        let canned = Self { status: self.status, headers: self.headers.clone(), body: self.body.clone() };
        let connector = SharedHttpConnector::new(canned);
        let client: SharedHttpClient = http_client_fn(move |_, _| connector.clone());
        Shared::for_client(client)
    }

    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reply({})", self.status)
    }
}

impl HttpConnector for Reply {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(Ok(self.response().expect("it was one when it was parsed")))
    }
}
