//! Every source against a real server, or against what its provider publishes. What each must show is in `tests/matrix`.

mod activemq;
mod azure_queue;
mod buildkite;
mod by_url;
mod cloudwatch;
mod command;
mod github_actions;
mod kafka;
mod kinesis;
mod matrix;
mod metrics;
mod mysql;
mod nats;
mod nsq;
mod payload;
mod postgres;
mod prometheus;
mod rabbitmq;
mod redis;
mod schedule;
mod sns;
mod sqs;
mod temporal;
