//! Amazon SQS queues, by the queue's own attributes.
//!
//! `ApproximateNumberOfMessages` is the backlog, `…NotVisible` is in-flight, `…Delayed` is delayed:
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html>. All three are
//! approximate, and "may not achieve consistency until at least 1 minute after the producers stop sending messages".

#[cfg(feature = "cloudwatch")]
mod deleted;
mod find;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName::{
    self, ApproximateNumberOfMessages, ApproximateNumberOfMessagesDelayed, ApproximateNumberOfMessagesNotVisible,
};
use futures_util::future::{join, try_join_all};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use self::find::{Finder, Found};
use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::aws::{AnswerLimit, Known, failure};
use crate::core::{Amount, QueueDepth, Tally};
use crate::error::{Error, ErrorKind, Result};
use crate::iam::{Place, Statement, is_account, is_region};
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "sqs",
    aliases: &[],
    about: "Amazon SQS: messages that wait, are in flight and are delayed, summed over the queues.",
    renamed: &[("queue_url", "queue")],
    env: &[("SQS_QUEUE_URL", "queue"), ("SQS_COUNT_DELETED", "count_deleted")],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions,
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// Stands for the region of what states none.
const ANY_REGION: &str = "-";

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
    /// All queues of the account and region whose names begin so, at most 100, found anew at every tick. None at all is an
    /// error. With `${service}` in it, the queues of one service.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 80))]
    prefix: Option<String>,
    /// All queues of the account and region with this tag, `KEY=VALUE`, or `KEY` with any value; at most 100, found anew at
    /// every tick. None at all is an error.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 385))]
    tag: Option<String>,
    /// The region of queues that are given by name; that of a URL or an ARN is in it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    region: Option<String>,
    /// Whether CloudWatch is asked how many messages were deleted, by which `drain_time` learns how long one takes. It is a metric a
    /// minute for each queue, and needs the action `cloudwatch:GetMetricData`. Where that fails, the reading has a warning.
    #[serde(default)]
    count_deleted: bool,
}

impl Settings {
    /// What is found anew at every tick.
    fn found(&self, region: &str) -> Vec<Found> {
        let region = self.region.as_deref().unwrap_or(region);
        let by_prefix = self.prefix.iter().map(|prefix| Found::by_prefix(prefix, region));
        by_prefix.chain(self.tag.iter().map(|tag| Found::by_tag(tag, region))).collect()
    }

    fn queues(&self, region: &str) -> Vec<Queue> {
        let region = self.region.as_deref().unwrap_or(region);
        self.queue.iter().chain(&self.queues).filter_map(|given| Queue::parse(given, region)).collect()
    }
}

/// One queue, taken apart. Calls use what is put together from the parts, so that no text means one queue to an allow-list
/// and another to SQS.
#[derive(Debug, Clone, PartialEq)]
struct Queue {
    url: Option<String>,
    region: String,
    account: Option<String>,
    name: String,
}

impl Queue {
    fn parse(given: &str, region: &str) -> Option<Self> {
        let queue = match given.contains(':') {
            true if given.starts_with("arn:") => Self::by_arn(given)?,
            true => Self::by_url(given, region)?,
            false => Self { url: None, region: region.to_owned(), account: None, name: given.to_owned() },
        };
        (is_queue_name(&queue.name) && is_region(&queue.region)).then_some(queue)
    }

    fn identity(&self) -> Identity {
        let Self { region, account, name, .. } = self.clone();
        Identity { provider: KIND.name, region, account, path: vec![name] }
    }

    /// `arn:PARTITION:sqs:REGION:ACCOUNT:NAME`
    fn by_arn(given: &str) -> Option<Self> {
        let [_, _, "sqs", region, account, name] = given.split(':').collect::<Vec<_>>()[..] else { return None };
        let account = is_account(account).then(|| account.to_owned())?;
        Some(Self { url: None, region: region.to_owned(), account: Some(account), name: name.to_owned() })
    }

    /// `https://sqs.REGION.amazonaws.com/ACCOUNT/NAME`, or the same path at an endpoint of one's own.
    fn by_url(given: &str, region: &str) -> Option<Self> {
        let url = url::Url::parse(given).ok()?;
        let (host, path) = (url.host_str()?, url.path().strip_prefix('/')?);
        let (account, name) = path.split_once('/')?;
        // Nothing beside the two names, and nothing that the parser had to clean up first.
        let plain = format!("{}/{account}/{name}", url.origin().ascii_serialization());
        if plain != given || !is_account(account) {
            return None;
        }
        let region = region_of_host(host).unwrap_or(region).to_owned();
        Some(Self { url: Some(plain), region, account: Some(account.to_owned()), name: name.to_owned() })
    }
}

/// The region in a host of SQS: `sqs.REGION.amazonaws.com`, `sqs-fips.REGION…`, `vpce-….sqs.REGION.vpce…` and the old
/// `REGION.queue.amazonaws.com`: <https://docs.aws.amazon.com/general/latest/gr/sqs-service.html>.
fn region_of_host(host: &str) -> Option<&str> {
    let labels: Vec<_> = host.split('.').collect();
    let of_aws = labels.iter().any(|label| *label == "amazonaws" || *label == "vpce");
    let after = labels.iter().position(|label| matches!(*label, "sqs" | "sqs-fips")).map(|at| at + 1);
    let before = labels.iter().position(|label| *label == "queue").and_then(|at| at.checked_sub(1));
    after.or(before).filter(|_| of_aws).and_then(|at| labels.get(at).copied())
}

/// Up to 80 letters, digits, hyphens and underscores, and `.fifo` at the end of some:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html>.
fn is_queue_name(name: &str) -> bool {
    let stem = name.strip_suffix(".fifo").unwrap_or(name);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=80).contains(&name.len()) && !stem.is_empty() && stem.bytes().all(plain)
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems = Vec::new();
    let given: Vec<_> = settings.queue.iter().chain(&settings.queues).collect();
    if settings.prefix.as_deref().is_some_and(|prefix| !is_queue_name(prefix)) {
        let remedy = "give letters, digits, hyphens and underscores";
        problems.push(("has a prefix that no queue's name can have".to_owned(), remedy.to_owned()));
    }
    if given.is_empty() && settings.prefix.is_none() && settings.tag.is_none() {
        let remedy =
            "set SQS_QUEUE_URL, or queue_config.queue_url in the payload, or queue, prefix or tag of the source";
        problems.push(("names no queue".to_owned(), remedy.to_owned()));
    }
    if settings.count_deleted && cfg!(not(feature = "cloudwatch")) {
        let remedy = "build with the feature cloudwatch, or leave count_deleted out";
        problems.push(("counts deleted messages, for which this build lacks CloudWatch".to_owned(), remedy.to_owned()));
    }
    if !settings.region.as_deref().is_none_or(is_region) {
        problems.push(("has a region that is none".to_owned(), "give one such as eu-west-1".to_owned()));
        return problems;
    }
    let queues = settings.queues(ANY_REGION);
    if queues.len() != given.len() {
        let remedy = "give https://sqs.REGION.amazonaws.com/ACCOUNT/NAME, arn:aws:sqs:REGION:ACCOUNT:NAME or a name";
        problems.push(("has a queue that is no URL, ARN or name of SQS".to_owned(), remedy.to_owned()));
    }
    let is_twin =
        |(at, queue): (usize, &Queue)| queues[..at].iter().any(|other| other.identity().may_be(&queue.identity()));
    if queues.iter().enumerate().any(is_twin) {
        problems.push(("names a queue twice, whose messages would count twice".to_owned(), "name it once".to_owned()));
    }
    problems
}

fn identities(settings: &Value, region: &str) -> Vec<Identity> {
    let queues = parse::<Settings>(settings).map(|settings| settings.queues(region)).unwrap_or_default();
    let found = parse::<Settings>(settings).map(|settings| settings.found(region)).unwrap_or_default();
    queues.iter().map(Queue::identity).chain(found.iter().map(Found::identity)).collect()
}

fn permissions(settings: &Value, place: &Place) -> Result<Vec<Statement>> {
    let mut statements = Vec::new();
    for found in parse::<Settings>(settings)?.found(&place.region) {
        statements.extend(found.permissions(place));
    }
    if parse::<Settings>(settings)?.count_deleted {
        statements.push(Statement::allow("ReadMetrics", &["cloudwatch:GetMetricData"], vec!["*".to_owned()]));
    }
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
    let settings = parse::<Settings>(settings)?;
    let queues = settings.queues(&shared.region).into_iter().map(connect).collect();
    let found = settings.found(&shared.region).into_iter().map(|found| found.finder(shared)).collect();
    #[cfg(feature = "cloudwatch")]
    let deleted = settings.count_deleted.then(|| deleted::Deleted::new(shared));
    Ok(Box::new(Sqs {
        queues,
        found,
        known,
        #[cfg(feature = "cloudwatch")]
        deleted,
    }))
}

#[derive(Debug)]
struct Sqs {
    queues: Vec<(Client, Queue)>,
    found: Vec<Finder>,
    known: Known<String>,
    #[cfg(feature = "cloudwatch")]
    deleted: Option<deleted::Deleted>,
}

#[async_trait]
impl Source for Sqs {
    async fn read(&self) -> Result<Measurement> {
        let found = try_join_all(self.found.iter().map(Finder::queues)).await?;
        let mut queues = self.queues.clone();
        for (client, queue) in found.into_iter().flatten() {
            // One that is named and found counts once.
            if !queues.iter().any(|(_, other)| other.identity().may_be(&queue.identity())) {
                queues.push((client, queue));
            }
        }
        let depths = try_join_all(queues.iter().map(|(client, queue)| self.depth(client, queue)));
        let (depths, deleted) = join(depths, self.deleted(&queues)).await;
        let mut sum = QueueDepth { backlog: 0, in_flight: Some(0), delayed: Some(0), ..QueueDepth::default() };
        for depth in depths? {
            sum.backlog = sum.backlog.saturating_add(depth.backlog);
            sum.in_flight = sum.in_flight.zip(depth.in_flight).map(|(one, other)| one.saturating_add(other));
            sum.delayed = sum.delayed.zip(depth.delayed).map(|(one, other)| one.saturating_add(other));
        }
        let (tally, warnings) = match deleted.transpose() {
            Ok(tally) => (tally, Vec::new()),
            // How much waits is known all the same.
            Err(error) => (None, vec![error.to_string()]),
        };
        Ok(Measurement { warnings, ..Measurement::from(Amount::Queue(QueueDepth { tally, ..sum })) })
    }
}

impl Sqs {
    /// What was deleted, where it is to be counted.
    #[cfg(feature = "cloudwatch")]
    async fn deleted(&self, queues: &[(Client, Queue)]) -> Option<Result<Tally>> {
        let deleted = self.deleted.as_ref()?;
        Some(deleted.tally(queues.iter().map(|(_, queue)| queue)).await)
    }

    #[cfg(not(feature = "cloudwatch"))]
    async fn deleted(&self, _: &[(Client, Queue)]) -> Option<Result<Tally>> {
        None
    }

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
            ..QueueDepth::default()
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
            let queue = Queue::parse(given, "us-east-1").expect("it names a queue");
            (queue.region, queue.account.unwrap_or_default(), queue.name, queue.url.is_some())
        };
        let eu = |url: bool| ("eu-west-1".to_owned(), "123456789012".to_owned(), "orders".to_owned(), url);
        for host in ["sqs.eu-west-1", "sqs-fips.eu-west-1", "eu-west-1.queue"] {
            assert_eq!(parse(&format!("https://{host}.amazonaws.com/123456789012/orders")), eu(true));
        }
        assert_eq!(parse("https://vpce-1.sqs.eu-west-1.vpce.amazonaws.com/123456789012/orders"), eu(true));
        assert_eq!(parse("arn:aws:sqs:eu-west-1:123456789012:orders"), eu(false));
        assert_eq!(parse("orders.fifo"), ("us-east-1".to_owned(), String::new(), "orders.fifo".to_owned(), false));
        let local = parse("http://127.0.0.1:4566/000000000000/orders");
        assert_eq!(local, ("us-east-1".to_owned(), "000000000000".to_owned(), "orders".to_owned(), true));
    }

    #[test]
    fn a_text_that_could_mean_two_queues_means_none() {
        let url = "https://sqs.us-east-1.amazonaws.com";
        for given in [
            format!("{url}/999999999999/secret/123456789012/orders"),
            format!("{url}/123456789012/secret/../orders"),
            format!("{url}/123456789012/orders?/123456789012/secret"),
            format!("{url}/123456789012/orders#/123456789012/secret"),
            format!("{url}/123456789012/orders/"),
            format!("{url}/123456789012/or%64ers"),
            format!("{url}//123456789012/orders"),
            "https://user:canary@sqs.us-east-1.amazonaws.com/123456789012/orders".to_owned(),
            "HTTPS://SQS.us-east-1.amazonaws.com/123456789012/orders".to_owned(),
            "arn:aws:sns:us-east-1:123456789012:orders".to_owned(),
            "arn:aws:sqs:us-west-2".to_owned(),
            "arn:aws:sqs:example.com/:123456789012:orders".to_owned(),
            "a/b".to_owned(),
            "*".to_owned(),
            "or ders".to_owned(),
            ".fifo".to_owned(),
        ] {
            assert_eq!(Queue::parse(&given, "us-east-1"), None, "{given}");
        }
    }

    #[test]
    fn a_region_that_would_change_the_host_is_refused() {
        for region in ["example.com/", "us-east-1/x", "US", "a b"] {
            assert_eq!(check(&json!({ "queue": "orders", "region": region })).len(), 1, "{region}");
        }
        assert_eq!(check(&json!({ "queue": "orders", "region": "eu-west-1" })), []);
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
