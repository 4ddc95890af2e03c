//! The lag of a consumer group in Apache Kafka: records of its topics that it has not committed yet.
//!
//! For each partition the group's committed offset (`OffsetFetch`) is set against the partition's beginning and end
//! (`ListOffsets`), as <https://kafka.apache.org/protocol> describes them. The group is not joined, so that nothing is
//! rebalanced, and no topic is created.
//!
//! * KEDA counts a partition without a committed offset as none or one by default, and drops partitions that it cannot
//!   read (<https://keda.sh/docs/latest/scalers/apache-kafka/>). Here that is for `no_committed_offset` to say, and one
//!   partition that cannot be read is an error of the whole. KEDA's `excludePersistentLag` and `limitToPartitionsWithLag`
//!   need a memory or cap a policy's answer, and are left out.
//! * StepScale joined the group, summed the end offsets, and had a consumer group by default that nobody consumes with.
//! * The few requests are written here rather than by a client library: those resolve by themselves what a broker says of
//!   the others' addresses, and go there unchecked; they keep connections and tasks of their own, and retry.
//! * A connection without TLS takes `use_ssl: false`; certificates of clients are not supported.

mod cluster;
mod connection;
mod lag;
mod msk;
pub(in crate::sources) mod protocol;
mod sasl;
mod tls;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use self::cluster::Cluster;
use self::connection::{Dialer, Login};
use self::lag::{NoCommittedOffset, total};
use self::sasl::Hash;
use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::aws::AnswerLimit;
use crate::clock::Clock;
use crate::config::{Reference, Secret};
use crate::core::{Amount, QueueDepth};
use crate::error::{Error, ErrorKind, Result};
use crate::iam::is_region;
use crate::net::Tcp;
use crate::net::tls::client;
use crate::secrets::Secrets;
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "kafka",
    aliases: &["msk"],
    about: "Apache Kafka and Amazon MSK: the lag of a consumer group, summed over the topics' partitions.",
    renamed: &[],
    env: &[
        ("MSK_CLUSTER_ARN", "cluster_arn"),
        ("KAFKA_TOPIC", "topic"),
        ("KAFKA_BOOTSTRAP_SERVERS", "bootstrap_servers"),
        ("KAFKA_CONSUMER_GROUP", "consumer_group"),
    ],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |settings, place| Ok(msk::permissions(&parse(settings)?, place)),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// The settings of a `kafka` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Brokers to begin with, `HOST:PORT` between commas. They name the others, which are connected to as well.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 4096))]
    bootstrap_servers: Option<String>,
    /// The ARN of an Amazon MSK cluster, in place of brokers: `kafka:GetBootstrapBrokers` names those that fit `sasl`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 2048))]
    cluster_arn: Option<String>,
    /// The topic.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 249))]
    topic: Option<String>,
    /// Several topics of the group, whose lag is added up.
    #[serde(default)]
    #[schemars(length(max = 100), inner(length(min = 1, max = 249)))]
    topics: Vec<String>,
    /// The group that consumes the topics. It is not joined.
    #[schemars(length(min = 1, max = 1024))]
    consumer_group: String,
    /// The only partitions to read, as in `0,3,8-15`; without it all of them. Lag elsewhere is not seen.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    limit_to_partitions: Option<String>,
    /// What counts in a partition that holds records and for which the group has committed no offset: `error`,
    /// `earliest` (all of them) or `latest` (none), which should be what the group's `auto.offset.reset` is. By `error`,
    /// the default, the source cannot be read until the group has committed once.
    #[serde(default)]
    no_committed_offset: NoCommittedOffset,
    /// Whether to connect by TLS. On by default.
    #[serde(default = "yes")]
    use_ssl: bool,
    /// How to log in: `plain`, `scram-sha-256`, `scram-sha-512`, or `msk-iam` with the function's own credentials. Without it
    /// there is no login.
    #[serde(default)]
    #[schemars(with = "Sasl")]
    sasl: Option<Sasl>,
    /// The user to be.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    username: Option<String>,
    /// The user's password; a reference such as `env:NAME` or `file:PATH`, or the password itself.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    password: Option<Reference>,
    /// The region of brokers that are given by name, for `msk-iam`; that of an ARN is in it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    region: Option<String>,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    insecure_tls: bool,
}

fn yes() -> bool {
    true
}

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
enum Sasl {
    #[serde(rename = "plain")]
    Plain,
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
    #[serde(rename = "msk-iam")]
    MskIam,
}

impl Settings {
    fn topics(&self) -> Vec<&str> {
        self.topic.iter().chain(&self.topics).map(String::as_str).collect()
    }

    fn cluster(&self) -> Option<msk::Cluster> {
        self.cluster_arn.as_deref().and_then(msk::Cluster::parse)
    }

    fn servers(&self) -> Vec<(String, u16)> {
        self.bootstrap_servers.as_deref().and_then(servers).unwrap_or_default()
    }

    fn partitions(&self) -> BTreeSet<i32> {
        self.limit_to_partitions.as_deref().and_then(partitions).unwrap_or_default()
    }
}

/// `HOST:PORT` between commas.
fn servers(given: &str) -> Option<Vec<(String, u16)>> {
    let server = |text: &str| {
        let (host, port) = text.trim().rsplit_once(':')?;
        // What comes as a URL, or with a credential in it, has a host that is none.
        let host = url::Host::parse(host).ok()?.to_string();
        Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok().filter(|port| *port != 0)?))
    };
    given.split(',').map(server).collect()
}

/// `0,3,8-15`, up to 10,000 of them.
fn partitions(given: &str) -> Option<BTreeSet<i32>> {
    let mut all = BTreeSet::new();
    for part in given.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.trim().parse::<u16>().ok()?, to.trim().parse::<u16>().ok()?);
        all.extend((from..=to).map(i32::from));
        if to < from || 10_000 < all.len() {
            return None;
        }
    }
    Some(all)
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems = Vec::new();
    let mut problem = |is_so: bool, what: &str, remedy: &str| {
        if is_so {
            problems.push((what.to_owned(), remedy.to_owned()));
        }
    };
    let (brokers, arn) = (&settings.bootstrap_servers, &settings.cluster_arn);
    let both = "keep one of them; an ARN is enough to find the brokers";
    problem(brokers.is_some() && arn.is_some(), "has both bootstrap_servers and cluster_arn", both);
    let one = "set KAFKA_BOOTSTRAP_SERVERS or MSK_CLUSTER_ARN, or bootstrap_servers or cluster_arn of the source";
    problem(brokers.is_none() && arn.is_none(), "names no broker", one);
    let list = "give HOST:PORT, or several between commas, without a scheme or a credential";
    problem(brokers.is_some() && settings.servers().is_empty(), "has bootstrap_servers that are none", list);
    let form = "give arn:aws:kafka:REGION:ACCOUNT:cluster/NAME/UUID";
    problem(arn.is_some() && settings.cluster().is_none(), "has a cluster_arn that is none of MSK", form);
    let topics = settings.topics();
    problem(topics.is_empty(), "names no topic", "set KAFKA_TOPIC, or topic or topics of the source");
    let twice = topics.iter().collect::<BTreeSet<_>>().len() != topics.len();
    problem(twice, "names a topic twice, whose records would count twice", "name it once");
    let limited = settings.limit_to_partitions.is_some() && settings.partitions().is_empty();
    problem(limited, "has limit_to_partitions that are none", "give numbers and ranges, as in 0,3,8-15");
    let is_region = settings.region.as_deref().is_none_or(is_region);
    problem(!is_region, "has a region that is none", "give one such as eu-west-1");
    for (what, remedy) in settings.problems_of_login() {
        problem(true, what, remedy);
    }
    problems
}

impl Settings {
    fn problems_of_login(&self) -> Vec<(&'static str, &'static str)> {
        let has_user = self.username.is_some() && self.password.is_some();
        let has_part = self.username.is_some() || self.password.is_some();
        let on_msk = self.cluster_arn.is_some();
        let all = [
            match self.sasl {
                None if has_part => Some(("has a user and no way to log in", "set sasl, such as scram-sha-512")),
                Some(Sasl::MskIam) if has_part => Some((
                    "has a user, and msk-iam has the function's own credentials",
                    "leave username and password out",
                )),
                Some(Sasl::Plain | Sasl::ScramSha256 | Sasl::ScramSha512) if !has_user => {
                    Some(("has sasl without a user", "set username and password"))
                }
                _ => None,
            },
            match self.sasl {
                Some(Sasl::Plain | Sasl::ScramSha256) if on_msk => {
                    Some(("has a sasl that Amazon MSK does not have", "use msk-iam or scram-sha-512"))
                }
                Some(Sasl::MskIam) if !self.use_ssl => Some(("has msk-iam without TLS", "leave use_ssl out")),
                Some(Sasl::ScramSha512) if on_msk && !self.use_ssl => {
                    Some(("has a login at Amazon MSK without TLS", "leave use_ssl out"))
                }
                _ => None,
            },
        ];
        all.into_iter().flatten().collect()
    }
}

/// Each server with each topic, so that an allow-list has the last word on both.
fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let by_name = settings.servers().into_iter().map(|(host, port)| ("-".to_owned(), None, format!("{host}:{port}")));
    let by_arn = settings.cluster().map(|cluster| (cluster.region, Some(cluster.account), cluster.name));
    let mut all = Vec::new();
    for (region, account, place) in by_name.chain(by_arn) {
        for topic in settings.topics() {
            let path = vec![place.clone(), settings.consumer_group.clone(), topic.to_owned()];
            all.push(Identity { provider: KIND.name, region: region.clone(), account: account.clone(), path });
        }
    }
    all
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let settings: Settings = parse(settings)?;
    if settings.insecure_tls && !shared.tcp.network().insecure_tls {
        let cause = "insecure_tls takes ALLOW_INSECURE_TLS=true in the environment; better give its CA as ca";
        return Err(Error::new(ErrorKind::Config, "connecting to Kafka", cause));
    }
    let cluster = settings.cluster();
    let region = cluster.as_ref().map(|cluster| cluster.region.clone()).or_else(|| settings.region.clone());
    let region = region.unwrap_or_else(|| shared.region.clone());
    Ok(Box::new(Kafka {
        tcp: shared.tcp.clone(),
        secrets: shared.secrets().clone(),
        clock: shared.clock.clone(),
        sdk: shared.aws.sdk(&region),
        cluster,
        region,
        settings,
    }))
}

struct Kafka {
    tcp: Tcp,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
    sdk: SdkConfig,
    cluster: Option<msk::Cluster>,
    region: String,
    settings: Settings,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kafka({:?})", self.settings)
    }
}

#[async_trait]
impl Source for Kafka {
    async fn read(&self) -> Result<Measurement> {
        let servers = match &self.cluster {
            Some(cluster) => {
                let config = aws_sdk_kafka::config::Builder::from(&self.sdk).interceptor(AnswerLimit).build();
                cluster.servers(&aws_sdk_kafka::Client::from_conf(config), &self.settings).await?
            }
            None => self.settings.servers(),
        };
        let backlog = match &self.settings.password {
            Some(password) => {
                let read = async |password| self.lag(&servers, Some(password)).await;
                self.secrets.with(password, read).await?
            }
            None => self.lag(&servers, None).await?,
        };
        Ok(Measurement::from(Amount::Queue(QueueDepth { backlog, ..QueueDepth::default() })))
    }
}

impl Kafka {
    async fn lag(&self, servers: &[(String, u16)], password: Option<Secret<String>>) -> Result<u64> {
        let Settings { ca, insecure_tls, consumer_group, .. } = &self.settings;
        let tls = match self.settings.use_ssl {
            true => {
                let wrong = |cause| Error::new(ErrorKind::Config, "connecting to Kafka", cause);
                Some(client(ca.as_deref(), *insecure_tls).await.map_err(wrong)?)
            }
            false => None,
        };
        let dialer = Dialer { tcp: self.tcp.clone(), tls, login: self.login(password).await? };
        let (topics, only) = (self.settings.topics(), self.settings.partitions());
        let offsets = Cluster::find(&dialer, servers, &topics, &only).await?.offsets(consumer_group).await?;
        total(consumer_group, &offsets, self.settings.no_committed_offset)
    }

    async fn login(&self, password: Option<Secret<String>>) -> Result<Option<Login>> {
        let user = self.settings.username.clone();
        Ok(match (self.settings.sasl, user, password) {
            (Some(Sasl::MskIam), ..) => {
                let denied = |cause: String| Error::new(ErrorKind::Denied, "looking for AWS credentials", cause);
                let provider = self.sdk.credentials_provider().ok_or_else(|| denied("there are none".to_owned()))?;
                let credentials = provider.provide_credentials().await.map_err(|error| denied(error.to_string()))?;
                Some(Login::MskIam { credentials, region: self.region.clone(), now: self.clock.now() })
            }
            (Some(Sasl::Plain), Some(user), Some(password)) => Some(Login::Plain { user, password }),
            (Some(Sasl::ScramSha256), Some(user), Some(password)) => {
                Some(Login::Scram { hash: Hash::Sha256, user, password })
            }
            (Some(Sasl::ScramSha512), Some(user), Some(password)) => {
                Some(Login::Scram { hash: Hash::Sha512, user, password })
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::Contract;

    pub(super) const CONTRACT: Contract = Contract::Stream { settings };

    fn settings(host: &str, port: u16) -> Value {
        json!({
            "bootstrap_servers": format!("{host}:{port}"), "topic": "orders", "consumer_group": "billing",
            "use_ssl": false, "sasl": "plain", "username": "reader", "password": "canary-password",
        })
    }

    #[test]
    fn settings_that_cannot_be_are_refused_together() {
        let fine = json!({ "bootstrap_servers": "a.example:9092", "topic": "orders", "consumer_group": "billing" });
        assert_eq!(check(&fine), []);
        let arn = "arn:aws:kafka:eu-west-1:123456789012:cluster/orders/abcd1234-abcd-cafe-abab-9876543210ab-4";
        let by_arn = json!({ "bootstrap_servers": null, "cluster_arn": arn });
        let user = json!({ "username": "reader", "password": "canary" });
        let all = |more: &[&Value]| {
            let mut all = fine.as_object().expect("an object").clone();
            more.iter().for_each(|more| all.extend(more.as_object().expect("an object").clone()));
            all.retain(|_, value| !value.is_null());
            check(&Value::Object(all))
        };
        for fine in [
            &[&by_arn][..],
            &[&by_arn, &json!({ "sasl": "msk-iam" })],
            &[&by_arn, &user, &json!({ "sasl": "scram-sha-512" })],
            &[&user, &json!({ "sasl": "plain", "use_ssl": false })],
            &[&json!({ "bootstrap_servers": "a.example:9092, 10.0.0.7:9092,[fd00::7]:9092" })],
            &[&json!({ "limit_to_partitions": "0,3,8-15" })],
        ] {
            assert_eq!(all(fine), [], "{fine:?}");
        }
        for (wrong, count) in [
            (&[&json!({ "cluster_arn": arn })][..], 1),
            (&[&json!({ "bootstrap_servers": null })], 1),
            (&[&json!({ "bootstrap_servers": null, "topic": null })], 2),
            (&[&json!({ "bootstrap_servers": "a.example" })], 1),
            (&[&json!({ "bootstrap_servers": "SASL_SSL://a.example:9092" })], 1),
            (&[&json!({ "bootstrap_servers": "user:canary@a.example:9092" })], 1),
            (&[&json!({ "bootstrap_servers": "a.example:9092," })], 1),
            (&[&json!({ "bootstrap_servers": "a.example:0" })], 1),
            (&[&json!({ "bootstrap_servers": null, "cluster_arn": "arn:aws:kafka:eu-west-1:1:cluster/a/b" })], 1),
            (&[&json!({ "bootstrap_servers": null, "cluster_arn": format!("{arn}/c") })], 1),
            (&[&json!({ "topics": ["orders"] })], 1),
            (&[&json!({ "limit_to_partitions": "0-" })], 1),
            (&[&json!({ "limit_to_partitions": "3-1" })], 1),
            (&[&json!({ "limit_to_partitions": "0-20000" })], 1),
            (&[&json!({ "region": "eu west" })], 1),
            (&[&user], 1),
            (&[&json!({ "sasl": "scram-sha-512" })], 1),
            (&[&json!({ "sasl": "plain", "username": "reader" })], 1),
            (&[&user, &json!({ "sasl": "msk-iam" })], 1),
            (&[&json!({ "sasl": "msk-iam", "use_ssl": false })], 1),
            (&[&by_arn, &user, &json!({ "sasl": "plain" })], 1),
            (&[&by_arn, &user, &json!({ "sasl": "scram-sha-512", "use_ssl": false })], 1),
            (&[&by_arn, &json!({ "sasl": "scram-sha-256" })], 2),
        ] {
            let problems = all(wrong);
            assert_eq!(problems.len(), count, "{wrong:?}: {problems:?}");
            assert!(!format!("{problems:?}").contains("canary"));
        }
    }

    #[test]
    fn an_allow_list_sees_each_server_with_each_topic() {
        let texts = |settings: Value| -> Vec<_> {
            identities(&settings, "us-east-1").iter().map(ToString::to_string).collect()
        };
        let servers = json!({
            "bootstrap_servers": "a.example:9092,b.example:9092", "topics": ["orders", "returns"], "consumer_group": "g",
        });
        let expected = ["a.example:9092/g/orders", "a.example:9092/g/returns", "b.example:9092/g/orders"];
        assert_eq!(texts(servers)[..3], expected.map(|path| format!("kafka:-/-/{path}")));
        let arn = "arn:aws:kafka:eu-west-1:123456789012:cluster/shop/abcd-4";
        let cluster = json!({ "cluster_arn": arn, "topic": "orders", "consumer_group": "g" });
        assert_eq!(texts(cluster), ["kafka:eu-west-1/123456789012/shop/g/orders"]);
    }
}
