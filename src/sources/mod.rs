//! Sources: where work waits. One file for each provider, one line for each in the table.

#[cfg(test)]
mod contract;
#[cfg(feature = "http_json")]
mod http_json;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod sql;
#[cfg(feature = "sqs")]
mod sqs;

use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::adapter::{Entry, entry};
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
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measurement {
    /// The number or numbers.
    pub amount: Amount,
    /// When the provider took it, where it says so.
    pub taken_at: Option<Timestamp>,
}

/// Every source: registry, documentation index and test matrix at once.
pub static TABLE: &[Entry<dyn Source>] = &[
    entry!(sqs, "sqs"),
    planned("activemq", &["amq"], &["AMQ_BROKER_ID", "AMQ_QUEUE_NAME", "AMQ_USERNAME", "AMQ_PASSWORD"]),
    planned("kinesis", &[], &["KINESIS_STREAM_NAME"]),
    planned("kafka", &["msk"], &["MSK_CLUSTER_ARN", "KAFKA_TOPIC", "KAFKA_BOOTSTRAP_SERVERS", "KAFKA_CONSUMER_GROUP"]),
    planned(
        "rabbitmq",
        &[],
        &[
            "RABBITMQ_HOST",
            "RABBITMQ_PORT",
            "RABBITMQ_VHOST",
            "RABBITMQ_QUEUE",
            "RABBITMQ_USERNAME",
            "RABBITMQ_PASSWORD",
        ],
    ),
    planned("redis", &[], &["REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD", "REDIS_QUEUE_KEY", "REDIS_QUEUE_TYPE"]),
    planned("sns", &[], &[]),
    planned("cloudwatch", &[], &[]),
    planned("prometheus", &[], &[]),
    planned("nsq", &[], &[]),
    planned("azure_queue", &[], &[]),
    entry!(http_json, "http_json"),
    planned("response_time", &[], &[]),
    planned("heroku_router", &[], &[]),
    planned("temporal", &[], &[]),
    planned("payload", &[], &[]),
    planned("schedule", &["cron"], &[]),
    entry!(postgres, "postgres"),
    entry!(mysql, "mysql"),
    planned("nats", &["nats_jetstream"], &[]),
    planned("github_actions", &["github_runner"], &[]),
    planned("buildkite", &[], &[]),
    planned("command", &["exec"], &[]),
];

const fn planned(
    name: &'static str,
    aliases: &'static [&'static str],
    env: &'static [&'static str],
) -> Entry<dyn Source> {
    Entry::Planned { name, aliases, env }
}
