//! ActiveMQ queues, by the Jolokia interface of the web console, or by the metrics of Amazon MQ where that is asked for.
//!
//! Jolokia reads the queue's MBean (<https://jolokia.org/reference/html/manual/jolokia_protocol.html>). `QueueSize` counts what
//! is in flight too, so that the backlog is what is left without `InFlightCount`; KEDA takes `QueueSize`, and StepScale puts a
//! message into the work queue to get an answer. Nothing is put into any queue here.
//!
//! Of an active and a standby broker only the active one answers: they are asked in the order in which Amazon MQ lists them,
//! until one does. The metrics in CloudWatch (<https://docs.aws.amazon.com/amazon-mq/latest/developer-guide/activemq-logging-monitoring.html>)
//! are minutes old, which the reading says.

mod cloudwatch;
mod jolokia;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_mq::types::{BrokerInstance, EngineType};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use self::jolokia::Jolokia;
use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::aws::AnswerLimit;
use crate::aws::mq::{Broker, BrokerId};
use crate::clock::Clock;
use crate::config::{Reference, Secret};
use crate::core::{Amount, QueueDepth};
use crate::error::{Error, ErrorKind, Result};
use crate::iam::{Place, Statement, is_region};
use crate::net::{self, Endpoint, Http, Tls};
use crate::secrets::Secrets;
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "activemq",
    aliases: &["amq"],
    about: "ActiveMQ queues by Jolokia, Amazon MQ's too: waiting and in flight, summed over the queues.",
    renamed: &[("queue_name", "queue")],
    env: &[
        ("AMQ_BROKER_ID", "broker_id"),
        ("AMQ_QUEUE_NAME", "queue"),
        ("AMQ_USERNAME", "username"),
        ("AMQ_PASSWORD", "password"),
    ],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions,
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// The settings of an `activemq` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The broker by its id or ARN in Amazon MQ. It is looked up at each reading.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 512))]
    broker_id: Option<String>,
    /// The region of `broker_id`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    region: Option<String>,
    /// The web console's URL in place of `broker_id`, `https://HOST:8162`, or where else Jolokia is, with its path.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 2048))]
    url: Option<String>,
    /// The broker's own name, where more than one runs in the same process. Any, unless it is given.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 255))]
    broker_name: Option<String>,
    /// The queue. A `*` in it stands for any text, and what matches is added up.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    queue: Option<String>,
    /// Several queues, whose messages are added up, at most 100.
    #[serde(default)]
    #[schemars(length(max = 100), inner(length(min = 1, max = 1024)))]
    queues: Vec<String>,
    /// The user to be in the web console.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    username: Option<String>,
    /// The password; a reference such as `env:NAME` or `secretsmanager:NAME#key`, or the password itself.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    password: Option<Reference>,
    /// The `Origin` to send, which `jolokia-access.xml` may be strict about. The console's own unless it is given.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 255))]
    origin: Option<String>,
    /// How to ask: `jolokia` (the default), or `cloudwatch`, the metrics of Amazon MQ, which take no password.
    #[serde(default)]
    via: Via,
    /// `cloudwatch` to read the metrics of Amazon MQ where no console can be reached.
    #[serde(default)]
    #[schemars(with = "Fallback")]
    fallback: Option<Fallback>,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    insecure_tls: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Via {
    #[default]
    Jolokia,
    Cloudwatch,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Fallback {
    Cloudwatch,
}

impl Settings {
    fn broker(&self, region: &str) -> Option<BrokerId> {
        BrokerId::parse(self.broker_id.as_deref()?, self.region.as_deref().unwrap_or(region))
    }

    fn queues(&self) -> Vec<String> {
        self.queue.iter().chain(&self.queues).cloned().collect()
    }

    fn reads_metrics(&self) -> bool {
        self.via == Via::Cloudwatch || self.fallback.is_some()
    }
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems: Vec<_> = settings.url.iter().filter_map(|url| net::parse(url).err()).collect();
    let mut refuse = |wrong: bool, problem: &str, remedy: &str| {
        if wrong {
            problems.push((problem.to_owned(), remedy.to_owned()));
        }
    };
    let Settings { broker_id, region, url, broker_name, username, password, via, .. } = &settings;
    let nowhere = broker_id.is_none() && url.is_none();
    refuse(nowhere, "names no broker", "set AMQ_BROKER_ID, or broker_id or url of the source");
    refuse(broker_id.is_some() && url.is_some(), "has both broker_id and url", "keep one of them");
    let no_broker = broker_id.is_some() && settings.broker("-").is_none();
    refuse(
        no_broker,
        "has a broker_id that is none",
        "give an id such as b-1234a5b6-78cd-901e-2fgh-3i45j6k178l9, or the ARN",
    );
    let wrong_region = !region.as_deref().is_none_or(is_region);
    refuse(wrong_region, "has a region that is none", "give one such as eu-west-1");
    let no_name = broker_name.as_deref().is_some_and(|name| name.contains(['*', '?', ',', '=', ':', '"']));
    refuse(no_name, "has a broker_name that is none", "give the brokerName of activemq.xml");
    let queues = settings.queues();
    refuse(queues.is_empty(), "names no queue", "set AMQ_QUEUE_NAME, or queue or queues of the source");
    let twin = queues.iter().enumerate().any(|(at, name)| queues[..at].contains(name));
    refuse(twin, "names a queue twice, whose messages would count twice", "name it once");
    let login = *via == Via::Jolokia && (username.is_none() || password.is_none());
    refuse(login, "has no username or no password", "set AMQ_USERNAME and AMQ_PASSWORD, or both settings");
    let metrics = settings.reads_metrics();
    refuse(metrics && broker_id.is_none(), "reads CloudWatch without a broker_id", "give broker_id in place of url");
    let any = metrics && queues.iter().any(|queue| queue.contains('*'));
    refuse(any, "has a * in a queue, which CloudWatch does not know", "name each queue");
    let twice = *via == Via::Cloudwatch && settings.fallback.is_some();
    refuse(twice, "has a fallback to what it reads anyway", "leave fallback out");
    problems
}

fn identities(settings: &Value, region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let url = settings.url.as_deref().and_then(|url| net::parse(url).ok());
    let (region, account, place) = match (url, settings.broker(region)) {
        (Some(url), _) => ("-".to_owned(), None, net::host_and_port(&url)),
        (None, Some(broker)) => (broker.region, broker.account, broker.id),
        (None, None) => return Vec::new(),
    };
    let identity = |queue| Identity {
        provider: KIND.name,
        region: region.clone(),
        account: account.clone(),
        path: vec![place.clone(), queue],
    };
    settings.queues().into_iter().map(identity).collect()
}

fn permissions(settings: &Value, place: &Place) -> Result<Vec<Statement>> {
    let settings: Settings = parse(settings)?;
    let broker = settings.broker(&place.region);
    let mut statements: Vec<_> = broker.iter().map(|broker| broker.statement(place)).collect();
    if settings.reads_metrics() {
        // Metrics cannot be named in a policy: <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoncloudwatch.html>.
        statements.push(Statement::allow("ReadMetrics", &["cloudwatch:GetMetricData"], vec!["*".to_owned()]));
    }
    Ok(statements)
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let settings: Settings = parse(settings)?;
    let managed = settings.broker(&shared.region).map(|id| {
        let sdk = shared.aws.sdk(&id.region);
        let metrics = aws_sdk_cloudwatch::config::Builder::from(&sdk).interceptor(AnswerLimit).build();
        Managed { client: id.client(&shared.aws), metrics: aws_sdk_cloudwatch::Client::from_conf(metrics), id }
    });
    let source = ActiveMq {
        http: shared.http.clone(),
        secrets: shared.secrets().clone(),
        clock: shared.clock.clone(),
        managed,
        settings,
    };
    if let Some(url) = &source.settings.url {
        source.endpoint(url)?;
    }
    Ok(Box::new(source))
}

struct ActiveMq {
    http: Arc<Http>,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
    managed: Option<Managed>,
    settings: Settings,
}

/// A broker of Amazon MQ.
struct Managed {
    id: BrokerId,
    client: aws_sdk_mq::Client,
    metrics: aws_sdk_cloudwatch::Client,
}

impl fmt::Debug for ActiveMq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActiveMq({:?})", self.settings.queues())
    }
}

#[async_trait]
impl Source for ActiveMq {
    async fn read(&self) -> Result<Measurement> {
        let Some(managed) = &self.managed else {
            let url = self.settings.url.as_deref().unwrap_or_default();
            return self.by_jolokia(&[url]).await;
        };
        let broker = managed.id.describe(&managed.client, &EngineType::Activemq).await?;
        if self.settings.via == Via::Cloudwatch {
            return self.by_metrics(managed, &broker).await;
        }
        let consoles: Vec<_> = broker.instances.iter().filter_map(BrokerInstance::console_url).collect();
        match self.by_jolokia(&consoles).await {
            Err(error) if self.settings.fallback.is_some() && is_unreachable(&error) => {
                let metrics = self.by_metrics(managed, &broker).await;
                metrics.map_err(|second| Error::new(second.kind(), "", format!("{error}; then {second}")))
            }
            answer => answer,
        }
    }
}

fn is_unreachable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

impl ActiveMq {
    fn endpoint(&self, url: &str) -> Result<Endpoint> {
        let Settings { ca, insecure_tls, .. } = &self.settings;
        let endpoint = self.http.endpoint(url, Tls { ca: ca.clone(), insecure: *insecure_tls })?;
        Ok(match endpoint.url().path() {
            "" | "/" => endpoint.below(&["api", "jolokia"]),
            _ => endpoint,
        })
    }

    /// Asks the first console that can be reached.
    async fn by_jolokia(&self, consoles: &[&str]) -> Result<Measurement> {
        let Settings { username, password, origin, broker_name, .. } = &self.settings;
        let (Some(user), Some(password)) = (username, password) else {
            return Err(Error::new(ErrorKind::Config, "logging in", "there is no username or no password"));
        };
        let mut failed = Vec::new();
        for console in consoles {
            let endpoint = self.endpoint(console)?;
            let read = |password| {
                let endpoint = endpoint.clone();
                let (origin, broker) = (origin.as_deref(), broker_name.as_deref().unwrap_or("*"));
                let jolokia = Jolokia { http: &self.http, endpoint, user, password, origin, broker };
                async move { jolokia.measurement(&self.settings.queues()).await }
            };
            match self.secrets.with(password, read).await {
                Err(error) if is_unreachable(&error) => failed.push(error),
                answer => return answer,
            }
        }
        let kind = failed.last().map_or(ErrorKind::Malformed, Error::kind);
        let texts: Vec<_> = failed.iter().map(ToString::to_string).collect();
        let cause = if texts.is_empty() { "the broker has no console".to_owned() } else { texts.join("; then ") };
        Err(Error::new(kind, "", cause))
    }

    async fn by_metrics(&self, managed: &Managed, broker: &Broker) -> Result<Measurement> {
        let Some(name) = &broker.name else {
            let during = format!("looking up broker {:?}", managed.id.id);
            return Err(Error::new(ErrorKind::Malformed, during, "the answer has no name of it"));
        };
        let now = self.clock.now();
        cloudwatch::measurement(&managed.metrics, name, broker.instances.len(), &self.settings.queues(), now).await
    }
}

/// The depth of a queue by its two numbers, of which the first counts the second too.
fn depth(during: &str, size: u64, in_flight: u64) -> Result<QueueDepth> {
    let cause = || format!("QueueSize is {size} and InFlightCount {in_flight}, which it should count too");
    let backlog = size.checked_sub(in_flight);
    let backlog = backlog.ok_or_else(|| Error::new(ErrorKind::Malformed, during.to_owned(), cause()))?;
    Ok(QueueDepth { backlog, in_flight: Some(in_flight), ..QueueDepth::default() })
}

/// The sum of several depths.
fn summed(depths: impl IntoIterator<Item = QueueDepth>) -> Amount {
    let mut sum = QueueDepth { backlog: 0, in_flight: Some(0), ..QueueDepth::default() };
    for depth in depths {
        sum.backlog = sum.backlog.saturating_add(depth.backlog);
        sum.in_flight = sum.in_flight.zip(depth.in_flight).map(|(one, other)| one.saturating_add(other));
    }
    Amount::Queue(sum)
}

#[cfg(test)]
mod tests;
