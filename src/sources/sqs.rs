//! Amazon SQS queues, by the queue's own attributes.
//!
//! `ApproximateNumberOfMessages` is the backlog, `…NotVisible` is in-flight, `…Delayed` is delayed:
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html>. All three are
//! approximate, and "may not achieve consistency until at least 1 minute after the producers stop sending messages".

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName::{
    self, ApproximateNumberOfMessages, ApproximateNumberOfMessagesDelayed, ApproximateNumberOfMessagesNotVisible,
};
use futures_util::future::try_join_all;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::aws::{AnswerLimit, account_of, failure, region_of};
use crate::core::{Amount, QueueDepth};
use crate::error::{Error, ErrorKind, Result};
use crate::iam::{Place, Statement};
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "sqs",
    aliases: &[],
    about: "Amazon SQS: messages that wait, are in flight and are delayed, summed over the queues.",
    renamed: &[("queue_url", "queue")],
    env: &[("SQS_QUEUE_URL", "queue")],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions,
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// The settings of an `sqs` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The queue, by URL, name or ARN. By URL it takes one call less and one IAM action less.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    queue: Option<String>,
    /// Several queues, whose messages are added up; by URL, name or ARN.
    #[serde(default)]
    #[schemars(inner(length(min = 1)))]
    queues: Vec<String>,
    /// The region of queues that are given by name; that of a URL or an ARN is in it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    region: Option<String>,
}

impl Settings {
    fn queues(&self, region: &str) -> Vec<Queue> {
        let region = self.region.as_deref().unwrap_or(region);
        self.queue.iter().chain(&self.queues).map(|given| Queue::parse(given, region)).collect()
    }
}

/// One queue, taken apart.
#[derive(Debug, Clone)]
struct Queue {
    url: Option<String>,
    region: String,
    account: Option<String>,
    name: String,
}

impl Queue {
    fn parse(given: &str, region: &str) -> Self {
        if given.starts_with("arn:") {
            let name = given.rsplit(':').next().unwrap_or_default().to_owned();
            let region = region_of(given).unwrap_or(region).to_owned();
            return Self { url: None, region, account: account_of(given).map(str::to_owned), name };
        }
        match url::Url::parse(given) {
            // https://sqs.REGION.amazonaws.com/ACCOUNT/NAME, and whatever an endpoint of one's own looks like.
            Ok(url) if url.has_host() => {
                let host = url.host_str().unwrap_or_default();
                let from_host = host.strip_prefix("sqs.").filter(|host| host.contains(".amazonaws."));
                let region = from_host.and_then(|host| host.split('.').next()).unwrap_or(region).to_owned();
                let path: Vec<_> = url.path_segments().into_iter().flatten().filter(|part| !part.is_empty()).collect();
                let name = path.last().copied().unwrap_or_default().to_owned();
                let account = path.iter().rev().nth(1).map(|account| (*account).to_owned());
                Self { url: Some(given.to_owned()), region, account, name }
            }
            _ => Self { url: None, region: region.to_owned(), account: None, name: given.to_owned() },
        }
    }
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems = Vec::new();
    if settings.queue.is_none() && settings.queues.is_empty() {
        let remedy = "set SQS_QUEUE_URL, or queue_config.queue_url in the payload, or queue of the source";
        problems.push(("names no queue".to_owned(), remedy.to_owned()));
    }
    if settings.queues("").iter().any(|queue| queue.name.is_empty() || queue.name.contains(char::is_whitespace)) {
        problems.push(("has a queue without a valid name".to_owned(), "give its URL, name or ARN".to_owned()));
    }
    problems
}

fn identities(settings: &Value, region: &str) -> Vec<Identity> {
    let queues = parse::<Settings>(settings).map(|settings| settings.queues(region)).unwrap_or_default();
    let identity = |queue: Queue| Identity {
        provider: KIND.name,
        region: queue.region,
        account: queue.account,
        path: vec![queue.name],
    };
    queues.into_iter().map(identity).collect()
}

fn permissions(settings: &Value, place: &Place) -> Result<Vec<Statement>> {
    let mut statements = Vec::new();
    for queue in parse::<Settings>(settings)?.queues(&place.region) {
        let account = queue.account.as_deref().unwrap_or(&place.account);
        let partition = Place::new(&queue.region, account).partition;
        let arn = format!("arn:{partition}:sqs:{}:{account}:{}", queue.region, queue.name);
        let actions: &[&str] = match queue.url {
            Some(_) => &["sqs:GetQueueAttributes"],
            None => &["sqs:GetQueueAttributes", "sqs:GetQueueUrl"],
        };
        statements.push(Statement::allow("ReadQueue", actions, vec![arn]));
    }
    Ok(statements)
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let connect = |queue: Queue| {
        let sdk = shared.aws.sdk(&queue.region);
        let config = aws_sdk_sqs::config::Builder::from(&sdk).interceptor(AnswerLimit).build();
        (Client::from_conf(config), queue)
    };
    let known = shared.aws.queue_urls().clone();
    let queues = parse::<Settings>(settings)?.queues(&shared.region).into_iter().map(connect).collect();
    Ok(Box::new(Sqs { queues, known }))
}

#[derive(Debug)]
struct Sqs {
    queues: Vec<(Client, Queue)>,
    known: crate::aws::QueueUrls,
}

#[async_trait]
impl Source for Sqs {
    async fn read(&self) -> Result<Measurement> {
        let depths = try_join_all(self.queues.iter().map(|(client, queue)| self.depth(client, queue))).await?;
        let mut sum = QueueDepth { backlog: 0, in_flight: Some(0), delayed: Some(0), oldest_age_secs: None };
        for depth in depths {
            sum.backlog = sum.backlog.saturating_add(depth.backlog);
            sum.in_flight = sum.in_flight.zip(depth.in_flight).map(|(one, other)| one.saturating_add(other));
            sum.delayed = sum.delayed.zip(depth.delayed).map(|(one, other)| one.saturating_add(other));
        }
        Ok(Measurement { amount: Amount::Queue(sum), taken_at: None })
    }
}

impl Sqs {
    async fn depth(&self, client: &Client, queue: &Queue) -> Result<QueueDepth> {
        let during = || format!("reading depth of queue {:?}", queue.name);
        let url = self.url(client, queue).await?;
        let names =
            [ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible, ApproximateNumberOfMessagesDelayed];
        let answer =
            client.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec())).send().await;
        let answer = answer.map_err(|error| failure("sqs:GetQueueAttributes", during(), error))?;
        let number = |name: QueueAttributeName| {
            let missing = || Error::new(ErrorKind::Missing, during(), format!("the answer has no {name}"));
            let text = answer.attributes().and_then(|all| all.get(&name)).ok_or_else(missing)?;
            let malformed = |_| Error::new(ErrorKind::Malformed, during(), format!("{name} is no whole number"));
            text.parse::<u64>().map_err(malformed)
        };
        Ok(QueueDepth {
            backlog: number(ApproximateNumberOfMessages)?,
            in_flight: Some(number(ApproximateNumberOfMessagesNotVisible)?),
            delayed: Some(number(ApproximateNumberOfMessagesDelayed)?),
            oldest_age_secs: None,
        })
    }

    /// The queue's URL: as given, or asked for once in the life of the process.
    async fn url(&self, client: &Client, queue: &Queue) -> Result<String> {
        if let Some(url) = &queue.url {
            return Ok(url.clone());
        }
        let account = queue.account.as_deref().unwrap_or("-");
        let key = format!("{}/{account}/{}", queue.region, queue.name);
        if let Some(url) = self.known.get(&key) {
            return Ok(url);
        }
        let during = || format!("looking up queue {:?}", queue.name);
        let owner = queue.account.clone();
        let answer = client.get_queue_url().queue_name(&queue.name).set_queue_owner_aws_account_id(owner).send().await;
        let answer = answer.map_err(|error| failure("sqs:GetQueueUrl", during(), error))?;
        let url =
            answer.queue_url().ok_or_else(|| Error::new(ErrorKind::Malformed, during(), "the answer has no URL"))?;
        self.known.put(key, url.to_owned());
        Ok(url.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::{Contract, Reply, Request, Scene};

    pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

    fn settings(_endpoint: &str) -> Value {
        json!({ "queue": "orders" })
    }

    /// The answers' form: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html#API_GetQueueAttributes_Examples>.
    fn reply(scene: Scene, request: &Request) -> Reply {
        let counts = |backlog: u64| {
            let attributes = json!({ "Attributes": {
                "ApproximateNumberOfMessages": backlog.to_string(),
                "ApproximateNumberOfMessagesNotVisible": "3",
                "ApproximateNumberOfMessagesDelayed": "2",
            } });
            Reply::aws_json(200, &attributes)
        };
        match scene {
            Scene::Amount(_) | Scene::Malformed | Scene::Missing if request.action() == "AmazonSQS.GetQueueUrl" => {
                Reply::aws_json(200, &json!({ "QueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/orders" }))
            }
            Scene::Amount(backlog) => counts(backlog),
            Scene::Malformed => {
                Reply::aws_json(200, &json!({ "Attributes": { "ApproximateNumberOfMessages": "many" } }))
            }
            Scene::Missing => {
                let attributes = json!({ "Attributes": {
                    "ApproximateNumberOfMessagesNotVisible": "3", "ApproximateNumberOfMessagesDelayed": "2",
                } });
                Reply::aws_json(200, &attributes)
            }
            Scene::Denied => Reply::aws_error(403, "AccessDeniedException", "User is not authorized"),
            Scene::NotFound => Reply::aws_error(400, "QueueDoesNotExist", "The specified queue does not exist."),
            Scene::Throttled => Reply::aws_error(400, "RequestThrottled", "Rate exceeded"),
            other => panic!("{other:?} is not a scene of a source"),
        }
    }

    #[test]
    fn a_queue_is_known_by_url_name_and_arn() {
        let parse = |given: &str| {
            let queue = Queue::parse(given, "us-east-1");
            (queue.region, queue.account.unwrap_or_default(), queue.name, queue.url.is_some())
        };
        let eu = |url: bool| ("eu-west-1".to_owned(), "123456789012".to_owned(), "orders".to_owned(), url);
        assert_eq!(parse("https://sqs.eu-west-1.amazonaws.com/123456789012/orders"), eu(true));
        assert_eq!(parse("arn:aws:sqs:eu-west-1:123456789012:orders"), eu(false));
        assert_eq!(parse("orders"), ("us-east-1".to_owned(), String::new(), "orders".to_owned(), false));
        let local = parse("http://127.0.0.1:4566/000000000000/orders");
        assert_eq!(local, ("us-east-1".to_owned(), "000000000000".to_owned(), "orders".to_owned(), true));
    }

    #[test]
    fn a_queue_by_url_needs_one_action_less() {
        let place = Place::new("us-east-1", "123456789012");
        let actions =
            |queue: &str| permissions(&json!({ "queue": queue }), &place).expect("valid settings")[0].action.clone();
        assert_eq!(actions("https://sqs.us-east-1.amazonaws.com/123456789012/orders"), ["sqs:GetQueueAttributes"]);
        assert_eq!(actions("orders"), ["sqs:GetQueueAttributes", "sqs:GetQueueUrl"]);
    }
}
