//! What is left to do of a stream of Amazon Kinesis: how far behind its consumer is, and about how many records that are.
//!
//! Kinesis counts no unread records, and a sequence number cannot be subtracted from another one. What there is are ages and
//! arrivals, so that the backlog is an estimate: *oldest age × mean arrivals per second*, over the time in which what
//! waits has arrived. For one shard that is nearly exact; for several, of which the slowest gives the age, it is an upper bound.
//!
//! The age comes from where the consumer leaves it:
//! - `GetRecords.IteratorAgeMilliseconds` of CloudWatch, for consumers that poll; of several, the slowest:
//!   <https://docs.aws.amazon.com/streams/latest/dev/monitoring-with-cloudwatch.html>;
//! - `SubscribeToShardEvent.MillisBehindLatest`, for one consumer with enhanced fan-out, by its name;
//! - the lease table of the Kinesis Client Library with `probe`, see [`leases`] and [`shards`]: for one application among
//!   several, and the only one that sees records which nobody reads, as with no task running. It sees them where the
//!   application begins at TRIM_HORIZON, or has checkpointed each shard once: until then a lease says LATEST or AT_TIMESTAMP
//!   however far behind the application is, so that what is left is unknown.
//!
//! KEDA's `aws-kinesis-stream` scales on the number of shards. StepScale took the arrivals of five minutes for the backlog, and
//! a stream without metrics for an empty one.

mod leases;
mod shards;

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_kinesis::types::StreamStatus;
use futures_util::future::try_join;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::aws::metrics::{ACTION as METRICS, Ask, Dimensions, Metrics, Point, Stat, Window, newest};
use crate::aws::{Account, AnswerLimit, failure};
use crate::clock::Clock;
use crate::core::{Amount, QueueDepth};
use crate::error::{Error, ErrorKind, Result};
use crate::iam::{Place, Statement, is_account, is_region};
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "kinesis",
    aliases: &[],
    about: "Amazon Kinesis: how far behind a stream's consumer is, and an estimate of the records that are left.",
    renamed: &[("stream_name", "stream")],
    env: &[("KINESIS_STREAM_NAME", "stream")],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions,
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// The settings of a `kinesis` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The stream, by name or ARN. One of another account takes its ARN, and credentials of an account that monitors that one
    /// (CloudWatch's cross-account observability).
    #[schemars(length(min = 1, max = 2048))]
    stream: String,
    /// The name of the consumer with enhanced fan-out whose lag is read, in place of the slowest one that polls.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = r"^[a-zA-Z0-9_.-]{1,128}$"))]
    consumer: Option<String>,
    /// The lease table of the Kinesis Client Library's application whose lag is read, by name. It takes `probe`. Of an
    /// application that begins at LATEST or AT_TIMESTAMP each shard must have been checkpointed once: before that, reading is
    /// an error, and no tasks are begun. To scale from 0 tasks, let it begin at TRIM_HORIZON.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = r"^[A-Za-z0-9_.-]{3,255}$"))]
    lease_table: Option<String>,
    /// Whether to read one record of each shard where its lease's checkpoint is, to find out how old it is. That takes one of
    /// the five reads a second that all consumers of a shard share, and shows in the stream's iterator age. An encrypted stream
    /// needs `kms:Decrypt` too, and a record above 700 KiB is not read.
    #[serde(default)]
    probe: bool,
    /// How long ago a minute must have ended, in seconds, for its metrics to be taken for complete.
    #[serde(default = "a_minute")]
    #[schemars(range(max = 3_600))]
    delay_secs: u32,
    /// How many minutes are looked at for the newest one in which the consumer's age is known.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 60))]
    periods: u32,
    /// The region of a stream that is given by name; that of an ARN is in it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    region: Option<String>,
}

fn a_minute() -> u32 {
    60
}

fn five() -> u32 {
    5
}

/// One stream, taken apart.
#[derive(Debug, Clone, PartialEq)]
struct Stream {
    region: String,
    /// The ARN and its account, where it was given by ARN.
    arn: Option<(String, String)>,
    name: String,
}

impl Stream {
    /// A name, or `arn:PARTITION:kinesis:REGION:ACCOUNT:stream/NAME`.
    fn parse(given: &str, region: &str) -> Option<Self> {
        let parts: Vec<_> = given.split(':').collect();
        let (region, account, name) = match parts[..] {
            [name] => (region, None, name),
            ["arn", _, "kinesis", region, account, rest] if is_account(account) => {
                (region, Some(account), rest.strip_prefix("stream/")?)
            }
            _ => return None,
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let is_name = (1..=128).contains(&name.len()) && name.bytes().all(plain);
        let arn = account.map(|account| (given.to_owned(), account.to_owned()));
        let stream = Self { region: region.to_owned(), arn, name: name.to_owned() };
        (is_name && is_region(&stream.region)).then_some(stream)
    }

    /// The name for a call, where there is no ARN.
    fn by_name(&self) -> Option<String> {
        self.arn.is_none().then(|| self.name.clone())
    }

    /// The ARN for a call.
    fn by_arn(&self) -> Option<String> {
        self.arn.as_ref().map(|(arn, _)| arn.clone())
    }
}

impl Settings {
    fn stream(&self, region: &str) -> Option<Stream> {
        Stream::parse(&self.stream, self.region.as_deref().unwrap_or(region))
    }
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems = Vec::new();
    let mut wrong = |is_wrong: bool, problem: &str, remedy: &str| {
        if is_wrong {
            problems.push((problem.to_owned(), remedy.to_owned()));
        }
    };
    let known = settings.region.as_deref().is_none_or(is_region);
    wrong(!known, "has a region that is none", "give one such as eu-west-1");
    let remedy = "give arn:aws:kinesis:REGION:ACCOUNT:stream/NAME or a name";
    wrong(Stream::parse(&settings.stream, "-").is_none(), "has a stream that is no ARN or name of Kinesis", remedy);
    let both = settings.consumer.is_some() && settings.lease_table.is_some();
    wrong(both, "has both consumer and lease_table", "keep the one whose lag is meant");
    let remedy = "set probe to true, which reads one record of each shard, or leave lease_table out";
    let unprobed = settings.lease_table.is_some() && !settings.probe;
    wrong(unprobed, "has a lease_table, whose checkpoints say nothing without a probe", remedy);
    let remedy = "give the lease_table that says where to probe";
    wrong(settings.lease_table.is_none() && settings.probe, "has probe and no lease_table", remedy);
    problems
}

fn identities(settings: &Value, region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let Some(Stream { region, arn, name }) = settings.stream(region) else { return Vec::new() };
    let consumer = settings.consumer.or(settings.lease_table);
    let path = [Some(name), consumer].into_iter().flatten().collect();
    vec![Identity { provider: KIND.name, region, account: arn.map(|(_, account)| account), path }]
}

fn permissions(settings: &Value, place: &Place) -> Result<Vec<Statement>> {
    let settings: Settings = parse(settings)?;
    let Some(stream) = settings.stream(&place.region) else { return Ok(Vec::new()) };
    let account = stream.arn.as_ref().map_or(&place.account, |(_, account)| account);
    let partition = Place::new(&stream.region, account).partition;
    let arn = format!("arn:{partition}:kinesis:{}:{account}:stream/{}", stream.region, stream.name);
    let metrics = Statement::allow("ReadMetrics", &[METRICS], vec!["*".to_owned()]);
    let Some(table) = settings.lease_table else {
        return Ok(vec![Statement::allow("FindStream", &["kinesis:DescribeStreamSummary"], vec![arn]), metrics]);
    };
    let actions = ["kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:ListShards"];
    let owner = &place.account;
    let table = format!("arn:{partition}:dynamodb:{}:{owner}:table/{table}", stream.region);
    Ok(vec![
        Statement::allow("ProbeShards", &actions, vec![arn]),
        Statement::allow("ReadLeases", &["dynamodb:Scan"], vec![table]),
        metrics,
    ])
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let settings: Settings = parse(settings)?;
    let invariant = || Error::new(ErrorKind::Bug, "building a source", "settings that were checked name no stream");
    let stream = settings.stream(&shared.region).ok_or_else(invariant)?;
    let sdk = shared.aws.sdk(&stream.region);
    let config = aws_sdk_kinesis::config::Builder::from(&sdk).interceptor(AnswerLimit).build();
    let tables = aws_sdk_dynamodb::config::Builder::from(&sdk).interceptor(AnswerLimit).build();
    Ok(Box::new(Kinesis {
        client: aws_sdk_kinesis::Client::from_conf(config),
        tables: aws_sdk_dynamodb::Client::from_conf(tables),
        metrics: shared.aws.metrics().clone(),
        account: shared.aws.account().clone(),
        clock: shared.clock.clone(),
        stream,
        settings,
    }))
}

#[derive(Debug)]
struct Kinesis {
    client: aws_sdk_kinesis::Client,
    tables: aws_sdk_dynamodb::Client,
    metrics: Metrics,
    account: Account,
    clock: Arc<dyn Clock>,
    stream: Stream,
    settings: Settings,
}

/// A period of the metrics, in seconds.
const MINUTE: u32 = 60;

#[async_trait]
impl Source for Kinesis {
    async fn read(&self) -> Result<Measurement> {
        match &self.settings.lease_table {
            Some(table) => self.probed(table).await,
            None => {
                let (_, behind) = try_join(self.exists(), self.behind()).await?;
                self.estimate(behind).await
            }
        }
    }
}

impl Kinesis {
    /// Fails where there is no such stream: its metrics would only be missing.
    async fn exists(&self) -> Result<()> {
        let during = || format!("looking for stream {:?}", self.stream.name);
        let request = self.client.describe_stream_summary().set_stream_name(self.stream.by_name());
        let answer = request.set_stream_arn(self.stream.by_arn()).send().await;
        let answer = answer.map_err(|error| failure("kinesis:DescribeStreamSummary", during(), error))?;
        match answer.stream_description_summary.map(|summary| summary.stream_status) {
            Some(StreamStatus::Active | StreamStatus::Updating) => Ok(()),
            Some(StreamStatus::Creating) => {
                Err(Error::new(ErrorKind::Unavailable, during(), "it is being created; the next tick tries again"))
            }
            Some(StreamStatus::Deleting) => Err(Error::new(ErrorKind::NotFound, during(), "it is being deleted")),
            _ => Err(Error::new(ErrorKind::Malformed, during(), "the answer has no status that is known")),
        }
    }

    /// How far behind the consumer was in the newest minute in which it read, in milliseconds.
    async fn behind(&self) -> Result<Option<Point>> {
        let window = self.window(self.clock.now(), self.settings.periods);
        let (metric, consumer) = match &self.settings.consumer {
            Some(name) => ("SubscribeToShardEvent.MillisBehindLatest", Some(("ConsumerName", name))),
            None => ("GetRecords.IteratorAgeMilliseconds", None),
        };
        let points = self.metric(window, metric, "Maximum", consumer).await?;
        Ok(newest(&points))
    }

    /// The last minutes that had ended `delay_secs` before a time.
    fn window(&self, at: Timestamp, minutes: u32) -> Window {
        Window::before(at, self.settings.delay_secs, MINUTE, minutes)
    }

    async fn metric(
        &self,
        window: Window,
        metric: &str,
        statistic: &str,
        more: Option<(&str, &String)>,
    ) -> Result<Vec<Point>> {
        let mut dimensions = Dimensions::from([("StreamName".to_owned(), self.stream.name.clone())]);
        dimensions.extend(more.map(|(name, value)| (name.to_owned(), value.clone())));
        let (namespace, metric, statistic) = ("AWS/Kinesis".to_owned(), metric.to_owned(), statistic.to_owned());
        let during = format!("reading {metric} of stream {:?}", self.stream.name);
        let account = self.stream.arn.as_ref().map(|(_, account)| account.as_str());
        let window = window.of(&self.stream.region, self.account.other(account).await?.as_deref());
        self.metrics.points(&window, Ask::Metric(Stat { namespace, metric, dimensions, statistic }), &during).await
    }

    /// What the consumer's age is worth in records.
    async fn estimate(&self, behind: Option<Point>) -> Result<Measurement> {
        let Some(behind) = behind else {
            return Err(self.wrong(ErrorKind::Missing, self.nobody_reads()));
        };
        if !behind.value.is_finite() || behind.value < 0.0 {
            return Err(self.wrong(ErrorKind::Malformed, format!("the consumer's age is {} ms", behind.value)));
        }
        let age_secs = behind.value / 1000.0;
        let waiting = match age_secs == 0.0 {
            true => 0.0,
            false => self.arrivals_per_sec(behind.end, age_secs).await? * age_secs,
        };
        let depth = depth(waiting, Some(age_secs));
        Ok(Measurement::from(Amount::Queue(depth)).taken(behind.ended()))
    }

    /// Mean arrivals a second, over the time before `end` in which what is so old has arrived. A minute without arrivals has
    /// no data, and nothing but such minutes contradicts the age.
    async fn arrivals_per_sec(&self, end: i64, age_secs: f64) -> Result<f64> {
        let window = arrivals(end, age_secs);
        let length = (window.end - window.start) as f64;
        let points = self.metric(window, "IncomingRecords", "Sum", None).await?;
        let sum: f64 = points.iter().map(|point| point.value).sum();
        let wrong = |kind, cause: &str| Err(self.wrong(kind, cause.to_owned()));
        match (points.is_empty(), points.iter().all(|point| 0.0 <= point.value) && sum.is_finite()) {
            (true, _) => wrong(
                ErrorKind::Missing,
                "the consumer is behind, and CloudWatch knows of no arrivals in that time (IncomingRecords); it may be \
                 late: raise `delay_secs`",
            ),
            (false, false) => wrong(ErrorKind::Malformed, "IncomingRecords has a value that is no count"),
            (false, true) => Ok(sum / length),
        }
    }

    fn nobody_reads(&self) -> String {
        match &self.settings.consumer {
            Some(consumer) => format!(
                "CloudWatch knows of no consumer {consumer:?} in the last {} minutes, so that how much is left is unknown; \
                 check `consumer`, which must be registered with the stream and subscribed",
                self.settings.periods
            ),
            None => format!(
                "nobody has read the stream in the last {} minutes, so that how much is left is unknown; keep one task, \
                 set `consumer` for enhanced fan-out, or `lease_table` and `probe` to look for oneself",
                self.settings.periods
            ),
        }
    }

    fn wrong(&self, kind: ErrorKind, cause: String) -> Error {
        Error::new(kind, format!("reading lag of stream {:?}", self.stream.name), cause)
    }
}

/// The window of arrivals for an age that was seen in the minute before `end`: what was read then is up to a minute older.
/// Its periods are the longer the older that is, so that an answer has at most 1,500 of them, and of lengths for which
/// CloudWatch keeps data for as long.
fn arrivals(end: i64, age_secs: f64) -> Window {
    const MOST: i64 = 1_500;
    let span = (age_secs + f64::from(MINUTE)).ceil() as i64;
    let long_enough = |period: &u32| span <= MOST * i64::from(*period);
    let period_secs = [MINUTE, 300, 3_600].into_iter().find(long_enough).unwrap_or(21_600);
    let length = i64::from(period_secs);
    let begin = |at: i64| at.div_euclid(length) * length;
    let end = begin(end);
    Window { region: String::new(), account: None, period_secs, start: begin(end - span), end }
}

/// The counts of a consumer that is behind.
fn depth(waiting: f64, oldest_age_secs: Option<f64>) -> QueueDepth {
    let oldest_age_secs = oldest_age_secs.map(|age| age as u64);
    QueueDepth {
        backlog: waiting.ceil() as u64,
        in_flight: None,
        delayed: None,
        oldest_age_secs,
        ..QueueDepth::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::{Contract, Reply, Request, Scene};

    pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

    fn settings(_endpoint: &str) -> Value {
        json!({ "stream": "orders" })
    }

    /// A consumer that is a minute behind: what waits is what arrives in a minute. The answers' form:
    /// <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_DescribeStreamSummary.html#API_DescribeStreamSummary_Examples>.
    fn reply(scene: Scene, request: &Request) -> Reply {
        let asks_for_arrivals = String::from_utf8_lossy(&request.body).contains("IncomingRecords");
        match (scene, request.operation()) {
            (Scene::Denied, Some("DescribeStreamSummary")) => {
                Reply::aws_error(400, "AccessDeniedException", "not authorized")
            }
            (Scene::Denied, _) => Reply::cbor_error(403, "AccessDenied", "User is not authorized"),
            (Scene::Throttled, Some("DescribeStreamSummary")) => {
                Reply::aws_error(400, "LimitExceededException", "Rate exceeded")
            }
            (Scene::Throttled, _) => Reply::cbor_error(400, "Throttling", "Rate exceeded"),
            (Scene::NotFound, Some("DescribeStreamSummary")) => Reply::aws_error(
                400,
                "ResourceNotFoundException",
                "Stream orders under account 123456789012 not found.",
            ),
            (_, Some("DescribeStreamSummary")) => Reply::aws_json(200, &summary()),
            (Scene::NotFound | Scene::Missing, _) => Reply::metric("Complete", &[]),
            (Scene::Malformed, _) => Reply::metric("Complete", &[-1.0; 3]),
            (Scene::Amount(waiting), _) if asks_for_arrivals => Reply::metric("Complete", &[waiting as f64; 3]),
            (Scene::Amount(_), _) => Reply::metric("Complete", &[60_000.0; 3]),
            (other, _) => panic!("{other:?} is not a scene of a source"),
        }
    }

    fn summary() -> Value {
        json!({ "StreamDescriptionSummary": {
            "StreamName": "orders", "StreamARN": "arn:aws:kinesis:us-east-1:123456789012:stream/orders",
            "StreamStatus": "ACTIVE", "RetentionPeriodHours": 24, "StreamCreationTimestamp": 1_700_000_000,
            "EnhancedMonitoring": [{ "ShardLevelMetrics": [] }], "OpenShardCount": 2,
        } })
    }

    #[tokio::test]
    async fn a_streams_metrics_are_those_of_its_account() {
        crate::aws::metrics::tests::asks_for_the_account(
            &KIND,
            |account| json!({ "stream": format!("arn:aws:kinesis:us-east-1:{account}:stream/orders") }),
        )
        .await;
    }

    #[test]
    fn arrivals_are_counted_over_the_time_in_which_what_waits_arrived() {
        let end = 1_700_000_040;
        for (age_secs, period, least) in
            [(5.0, 60, 65), (3_600.0, 60, 3_660), (200_000.0, 300, 200_060), (3e7, 21_600, 30_000_060)]
        {
            let window = arrivals(end, age_secs);
            let length = window.end - window.start;
            assert_eq!(window.period_secs, period, "{age_secs}");
            assert!(least <= length + end - window.end && length <= 1_500 * i64::from(period) + 2 * i64::from(period));
            assert!(window.end <= end && window.end % i64::from(period) == 0, "{window:?}");
        }
    }

    #[test]
    fn a_stream_is_known_by_name_and_arn() {
        let stream = |given: &str| Stream::parse(given, "us-east-1").map(|stream| (stream.region, stream.name));
        let expected = |region: &str, name: &str| Some((region.to_owned(), name.to_owned()));
        assert_eq!(stream("orders"), expected("us-east-1", "orders"));
        assert_eq!(stream("arn:aws:kinesis:eu-west-1:123456789012:stream/orders"), expected("eu-west-1", "orders"));
        for wrong in
            ["", "a/b", "*", "arn:aws:kinesis:eu-west-1:123456789012:orders", "arn:aws:sns:eu-west-1:123456789012:x"]
        {
            assert_eq!(stream(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_lease_table_takes_a_probe_and_its_permissions() {
        assert_eq!(check(&json!({ "stream": "orders", "lease_table": "app" })).len(), 1);
        assert_eq!(check(&json!({ "stream": "orders", "probe": true })).len(), 1);
        let settings = json!({ "stream": "orders", "lease_table": "app", "probe": true });
        assert_eq!(check(&settings), []);
        let allowed = permissions(&settings, &Place::new("us-east-1", "123456789012")).expect("valid settings");
        let actions: Vec<_> = allowed.into_iter().flat_map(|statement| statement.action).collect();
        let expected =
            ["kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:ListShards", "dynamodb:Scan", METRICS];
        assert_eq!(actions, expected);
    }
}
