//! Messages published to a topic of Amazon SNS, which is a rate of arrivals and no backlog: a topic keeps nothing.
//!
//! It is `NumberOfMessagesPublished` of CloudWatch: <https://docs.aws.amazon.com/sns/latest/dg/sns-monitoring-using-cloudwatch.html>.
//! SNS sends it for topics that are in use, and about every five minutes, so that a reading may be some minutes old; raise
//! `max_reading_age_secs` to 600 if readings are refused as stale. What waits is in the queues that subscribe: scale on those
//! where there are any.
//!
//! StepScale added up five minutes of it and called that the backlog, and took a topic without data for an empty one. A topic of
//! which nothing was ever heard and one whose name is misspelled look alike to CloudWatch, so that no data is an error here,
//! unless `missing` says that it means nothing published.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::cloudwatch::{Absent, a_minute, measure, permission};
use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::aws::Account;
use crate::aws::metrics::{Ask, Dimensions, Metrics, Stat, Window};
use crate::clock::Clock;
use crate::core::{Amount, Finite};
use crate::error::{Error, ErrorKind, Result};
use crate::iam::{is_account, is_region};
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "sns",
    aliases: &[],
    about: "Amazon SNS: messages published to a topic in a time, which is a rate and no backlog.",
    renamed: &[("topic_arn", "topic")],
    env: &[],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(vec![permission()]),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// The settings of an `sns` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The topic, by ARN or name. One of another account takes its ARN, and credentials of an account that monitors that one
    /// (CloudWatch's cross-account observability).
    #[schemars(length(min = 1, max = 512))]
    topic: String,
    /// The time that messages are counted for, in seconds: with 60 the number is messages per minute.
    #[serde(default = "a_minute")]
    #[schemars(range(min = 1, max = 86_400))]
    per_secs: u32,
    /// The length of the period over which they are counted, in seconds; a multiple of 60.
    #[serde(default = "a_minute")]
    #[schemars(range(min = 60, max = 86_400))]
    period_secs: u32,
    /// How long ago a period must have ended, in seconds, for its number to be taken for complete.
    #[serde(default = "a_minute")]
    #[schemars(range(max = 86_400))]
    delay_secs: u32,
    /// How many periods are looked at for the newest one that has a number.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 1_000))]
    periods: u32,
    /// What it means that no period has a number: `error`, or `zero` for nothing published. With `zero` a misspelled name
    /// reads as nothing published for ever.
    #[serde(default)]
    missing: Absent,
    /// The region of a topic that is given by name; that of an ARN is in it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    region: Option<String>,
}

fn ten() -> u32 {
    10
}

/// One topic, taken apart.
#[derive(Debug, Clone, PartialEq)]
struct Topic {
    region: String,
    account: Option<String>,
    name: String,
}

impl Topic {
    fn parse(given: &str, region: &str) -> Option<Self> {
        let parts: Vec<_> = given.split(':').collect();
        let (region, account, name) = match parts[..] {
            [name] => (region, None, name),
            ["arn", _, "sns", region, account, name] if is_account(account) => (region, Some(account), name),
            _ => return None,
        };
        let topic = Self { region: region.to_owned(), account: account.map(str::to_owned), name: name.to_owned() };
        (is_topic_name(name) && is_region(&topic.region)).then_some(topic)
    }
}

/// Up to 256 letters, digits, hyphens and underscores, and `.fifo` at the end of some:
/// <https://docs.aws.amazon.com/sns/latest/api/API_CreateTopic.html>.
fn is_topic_name(name: &str) -> bool {
    let stem = name.strip_suffix(".fifo").unwrap_or(name);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    name.len() <= 256 && !stem.is_empty() && stem.bytes().all(plain)
}

impl Settings {
    fn topic(&self, region: &str) -> Option<Topic> {
        Topic::parse(&self.topic, self.region.as_deref().unwrap_or(region))
    }
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems = Vec::new();
    if !settings.region.as_deref().is_none_or(is_region) {
        problems.push(("has a region that is none".to_owned(), "give one such as eu-west-1".to_owned()));
    }
    if Topic::parse(&settings.topic, "-").is_none() {
        let remedy = "give arn:aws:sns:REGION:ACCOUNT:NAME or a name";
        problems.push(("has a topic that is no ARN or name of SNS".to_owned(), remedy.to_owned()));
    }
    if !settings.period_secs.is_multiple_of(60) {
        let remedy = "give a multiple of 60, since SNS counts by the minute";
        problems.push(("has a period_secs that SNS does not know".to_owned(), remedy.to_owned()));
    }
    problems
}

fn identities(settings: &Value, region: &str) -> Vec<Identity> {
    let topic = parse::<Settings>(settings).ok().and_then(|settings| settings.topic(region));
    let identity =
        |Topic { region, account, name }| Identity { provider: KIND.name, region, account, path: vec![name] };
    topic.map(identity).into_iter().collect()
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let settings: Settings = parse(settings)?;
    let invariant = || Error::new(ErrorKind::Bug, "building a source", "settings that were checked name no topic");
    let topic = settings.topic(&shared.region).ok_or_else(invariant)?;
    let (metrics, account) = (shared.aws.metrics().clone(), shared.aws.account().clone());
    Ok(Box::new(Sns { metrics, account, clock: shared.clock.clone(), topic, settings }))
}

#[derive(Debug)]
struct Sns {
    metrics: Metrics,
    account: Account,
    clock: Arc<dyn Clock>,
    topic: Topic,
    settings: Settings,
}

#[async_trait]
impl Source for Sns {
    async fn read(&self) -> Result<Measurement> {
        let Settings { per_secs, period_secs, delay_secs, periods, missing, .. } = self.settings;
        let window = Window::before(self.clock.now(), delay_secs, period_secs, periods);
        let ask = Ask::Metric(Stat {
            namespace: "AWS/SNS".to_owned(),
            metric: "NumberOfMessagesPublished".to_owned(),
            dimensions: Dimensions::from([("TopicName".to_owned(), self.topic.name.clone())]),
            statistic: "Sum".to_owned(),
        });
        let during = format!("reading what is published to topic {:?}", self.topic.name);
        let account = self.account.other(self.topic.account.as_deref()).await?;
        let window = window.of(&self.topic.region, account.as_deref());
        let (published, taken_at) = measure(&self.metrics, &window, ask, missing, &during).await?;
        let rate = published.get() * f64::from(per_secs) / f64::from(period_secs);
        let value = Finite::try_from(rate).map_err(|problem| Error::new(ErrorKind::Malformed, during, problem))?;
        Ok(Measurement::from(Amount::Gauge { value }).taken(taken_at))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::{Contract, Reply, Request, Scene};

    pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

    fn settings(_endpoint: &str) -> Value {
        json!({ "topic": "orders" })
    }

    fn reply(scene: Scene, _: &Request) -> Reply {
        crate::sources::cloudwatch::tests::canned(scene)
    }

    #[tokio::test]
    async fn a_topics_metrics_are_those_of_its_account() {
        crate::aws::metrics::tests::asks_for_the_account(
            &KIND,
            |account| json!({ "topic": format!("arn:aws:sns:us-east-1:{account}:orders") }),
        )
        .await;
    }

    #[test]
    fn a_topic_is_known_by_name_and_arn() {
        let topic = |given: &str| Topic::parse(given, "us-east-1").map(|topic| (topic.region, topic.name));
        let expected = |region: &str, name: &str| Some((region.to_owned(), name.to_owned()));
        assert_eq!(topic("orders.fifo"), expected("us-east-1", "orders.fifo"));
        assert_eq!(topic("arn:aws:sns:eu-west-1:123456789012:orders"), expected("eu-west-1", "orders"));
        for wrong in
            ["", "a/b", "*", ".fifo", "arn:aws:sqs:eu-west-1:123456789012:orders", "arn:aws:sns:x/:123456789012:a"]
        {
            assert_eq!(topic(wrong), None, "{wrong}");
        }
    }
}
