//! Sources: where work waits. One file for each provider, one line for each in the table.

#[cfg(feature = "activemq")]
mod activemq;
#[cfg(feature = "azure_queue")]
mod azure_queue;
#[cfg(feature = "buildkite")]
mod buildkite;
#[cfg(feature = "cloudwatch")]
mod cloudwatch;
#[cfg(feature = "command")]
mod command;
#[cfg(test)]
mod contract;
#[cfg_attr(not(feature = "full"), allow(dead_code, reason = "not every adapter needs everything"))]
mod document;
#[cfg(feature = "github_actions")]
mod github_actions;
#[cfg(feature = "heroku_router")]
mod heroku_router;
#[cfg(feature = "http_json")]
mod http_json;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "kinesis")]
mod kinesis;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "nsq")]
mod nsq;
mod payload;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "prometheus")]
mod prometheus;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "response_time")]
mod response_time;
mod schedule;
#[cfg(feature = "sns")]
mod sns;
#[cfg(any(feature = "mysql", feature = "postgres"))]
#[cfg_attr(not(feature = "full"), allow(dead_code, unused_imports, reason = "not both of them need everything"))]
mod sql;
#[cfg(feature = "sqs")]
mod sqs;
#[cfg(feature = "temporal")]
mod temporal;

use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use crate::adapter::{Entry, Section, entry};
use crate::core::Amount;
use crate::error::Result;

/// Reads how much work is waiting.
///
/// # Contract
/// - A source that could not be read is `Err`; an empty one is `Ok` with zero. There is no default.
/// - What the provider cannot tell is `None`, never zero.
/// - Leaves no trace: receives nothing, joins no consumer group, calls nothing beyond the IAM actions of its `KIND`.
/// - One logical read; no retry, sleep or log; safe to drop at any await.
/// - Neither `Debug` nor error text carries a secret.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync {
    /// Returns how much work is waiting.
    ///
    /// # Errors
    /// `Denied`, `NotFound`, `Throttled`, `Timeout`, `Unavailable`, `Malformed`, or `Missing` where the answer is valid
    /// and the number is not in it.
    async fn read(&self) -> Result<Measurement>;
}

/// What a source answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// The number or numbers.
    pub amount: Amount,
    /// When the provider took it, where it says so.
    pub taken_at: Option<Timestamp>,
    /// What stood in the way of something that is not the amount.
    pub warnings: Vec<String>,
}

impl From<Amount> for Measurement {
    /// An amount of which the provider does not say when it was taken.
    fn from(amount: Amount) -> Self {
        Self { amount, taken_at: None, warnings: Vec::new() }
    }
}

impl Measurement {
    /// The same, taken when the provider says so.
    pub(crate) fn taken(self, taken_at: Option<Timestamp>) -> Self {
        Self { taken_at, ..self }
    }
}

/// What must hold for any bytes that a Kafka broker answers.
#[cfg(all(feature = "kafka", any(test, fuzzing)))]
pub(crate) fn kafka_holds_for(bytes: &[u8]) {
    kafka::protocol::holds_for(bytes);
}

/// Every source: registry, documentation index and test matrix at once.
pub static TABLE: &[Entry<dyn Source>] = &[
    entry!(sqs, "sqs"),
    entry!(activemq, "activemq", "amq"),
    entry!(kinesis, "kinesis"),
    entry!(kafka, "kafka", "msk"),
    entry!(rabbitmq, "rabbitmq", "amazonmq_rabbitmq"),
    entry!(redis, "redis", "valkey"),
    entry!(sns, "sns"),
    entry!(cloudwatch, "cloudwatch", "aws-cloudwatch"),
    entry!(prometheus, "prometheus", "promql"),
    entry!(nsq, "nsq"),
    entry!(azure_queue, "azure_queue", "azure-queue", "AzureQueue"),
    entry!(http_json, "http_json", "metrics-api"),
    entry!(response_time, "response_time"),
    entry!(heroku_router, "heroku_router"),
    entry!(temporal, "temporal"),
    entry!(payload),
    entry!(schedule),
    entry!(postgres, "postgres", "postgresql"),
    entry!(mysql, "mysql", "mariadb"),
    entry!(nats, "nats", "nats_jetstream"),
    entry!(github_actions, "github_actions", "github_runner", "github-runner"),
    entry!(buildkite, "buildkite"),
    entry!(command, "command", "exec"),
];

/// Whether a source reads the event that invokes the function.
pub(crate) fn reads_event(name: &str) -> bool {
    ["payload", "heroku_router"].contains(&name)
}

/// Puts what a source reads of an event into its settings, since it sees no event itself.
///
/// # Errors
/// [`ErrorKind::Bug`](crate::error::ErrorKind::Bug) where schema and type disagree. What is not in the event fails when it is read.
pub(crate) fn take_from_event(section: &mut Section<dyn Source>, event: &Value) -> Result<()> {
    match section.kind.name {
        "payload" => payload::take(&mut section.settings, event),
        #[cfg(feature = "heroku_router")]
        "heroku_router" => heroku_router::take(&mut section.settings, event),
        _ => Ok(()),
    }
}

/// Says when the event came that a source has read.
pub(crate) fn note_received(section: &mut Section<dyn Source>, at: Timestamp) {
    if reads_event(section.kind.name) {
        payload::event::note_received(&mut section.settings, at);
    }
}
