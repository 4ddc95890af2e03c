//! A channel of NSQ, by the statistics of its nsqd.
//!
//! `/stats` of nsqd: <https://nsq.io/components/nsqd.html#get-stats>, and `/lookup` of nsqlookupd, which names the nsqd of a
//! topic: <https://nsq.io/components/nsqlookupd.html#get-lookup>. What the fields mean is read from
//! <https://github.com/nsqio/nsq/blob/v1.3.0/nsqd/stats.go>. Before 1.0 answers were wrapped in `data`, and not filtered.
//!
//! The channel's `depth` is the backlog, with the topic's own `depth`, which is on its way to the channels; a topic that no
//! channel was made for keeps everything there. `in_flight_count` and `deferred_count` are beside it and not in it. A topic or
//! channel that one nsqd lacks and another has counts nothing there, and one that none has is an error. A paused channel
//! counts, and KEDA's is zero. microscaling read the channel's depth alone, only the old form, and kept its last
//! number where there was none.
//!
//! nsqlookupd forgets an nsqd that has died after five minutes, and what lies there with it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::{Host, Url};

use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::core::{Amount, QueueDepth};
use crate::error::{Error, ErrorKind, Result};
use crate::net::{self, Ask, Endpoint, Http, Tls};
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "nsq",
    aliases: &[],
    about: "NSQ: messages of a channel that wait, are in flight and are deferred, summed over the nsqd.",
    renamed: &[("topicName", "topic"), ("channelName", "channel")],
    env: &[("NSQ_STATS_ENDPOINT", "nsqd_address"), ("NSQ_TOPIC", "topic"), ("NSQ_CHANNEL", "channel")],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// Most nsqd that are asked in one read. Whoever answers for nsqlookupd says who is asked.
const MOST_NSQD: usize = 256;

/// The settings of an `nsq` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The topic.
    #[schemars(length(min = 1, max = 74))]
    topic: String,
    /// The channel.
    #[schemars(length(min = 1, max = 74))]
    channel: String,
    /// The one nsqd, `HOST:PORT` of its HTTP or HTTPS, or a URL.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 2048))]
    nsqd_address: Option<String>,
    /// Several nsqd. All of them must answer.
    #[serde(default)]
    #[schemars(length(max = 256), inner(length(min = 1, max = 2048)))]
    nsqd_addresses: Vec<String>,
    /// The nsqlookupd that know the nsqd of the topic, in place of these; `HOST:PORT` or a URL. They and all nsqd that they
    /// name must answer.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 2048)))]
    lookupd_addresses: Vec<String>,
    /// The port of the nsqd that nsqlookupd names, such as 4152 for HTTPS: nsqlookupd knows that of plain HTTP only, which is used
    /// without this.
    #[serde(default)]
    #[schemars(with = "u16", range(min = 1))]
    nsqd_port: Option<u16>,
    /// Whether addresses without a scheme are asked by HTTPS. The default is true; NSQ itself speaks plain HTTP unless it is given
    /// a certificate. What nsqlookupd names is asked as nsqlookupd was.
    #[serde(default)]
    #[schemars(with = "bool")]
    use_ssl: Option<bool>,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    insecure_tls: bool,
}

impl Settings {
    fn nsqd(&self) -> impl Iterator<Item = String> {
        self.nsqd_address.iter().chain(&self.nsqd_addresses).map(|address| self.url(address))
    }

    fn lookupd(&self) -> impl Iterator<Item = String> {
        self.lookupd_addresses.iter().map(|address| self.url(address))
    }

    fn url(&self, address: &str) -> String {
        match (address.contains("://"), self.use_ssl) {
            (true, _) => address.to_owned(),
            (false, Some(false)) => format!("http://{address}"),
            (false, Some(true) | None) => format!("https://{address}"),
        }
    }

    fn endpoint(&self, http: &Http, url: &str) -> Result<Endpoint> {
        http.endpoint(url, Tls { ca: self.ca.clone(), insecure: self.insecure_tls })
    }
}

/// Letters, digits, dots, hyphens and underscores, and `#ephemeral` behind some:
/// <https://github.com/nsqio/nsq/blob/v1.3.0/internal/protocol/names.go>.
fn is_name(name: &str) -> bool {
    let stem = name.strip_suffix("#ephemeral").unwrap_or(name);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=64).contains(&stem.len()) && stem.bytes().all(plain)
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let (mut problems, mut servers) = (Vec::new(), Vec::new());
    for url in settings.nsqd().chain(settings.lookupd()) {
        match net::parse(&url) {
            Ok(url) if url.path() != "/" || url.query().is_some() => {
                problems.push(("has more in an address than a server".to_owned(), "give HOST:PORT alone".to_owned()));
            }
            Ok(url) => servers.push(net::host_and_port(&url)),
            Err(problem) => problems.push(problem),
        }
    }
    let mut wrong =
        |is: bool, problem: &str, remedy: &str| problems.extend(is.then(|| (problem.to_owned(), remedy.to_owned())));
    let (by_name, by_lookup) = (settings.nsqd().next().is_some(), settings.lookupd().next().is_some());
    wrong(!by_name && !by_lookup, "names no server", "set nsqd_address, nsqd_addresses or lookupd_addresses");
    wrong(by_name && by_lookup, "has both nsqd and nsqlookupd", "keep one of them");
    wrong(settings.nsqd_port.is_some() && !by_lookup, "has nsqd_port without lookupd_addresses", "leave it out");
    let twice = (1..servers.len()).any(|at| servers[..at].contains(&servers[at]));
    wrong(twice, "names a server twice, whose messages would count twice", "name it once");
    let names = is_name(&settings.topic) && is_name(&settings.channel);
    wrong(
        !names,
        "has a topic or channel that NSQ cannot have",
        "give 1 to 64 letters, digits, dots, hyphens or underscores",
    );
    problems
}

fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let identity = |server| Identity {
        provider: KIND.name,
        region: "-".to_owned(),
        account: None,
        path: vec![server, settings.topic.clone(), settings.channel.clone()],
    };
    let servers = settings.nsqd().chain(settings.lookupd());
    servers.filter_map(|url| Some(identity(net::host_and_port(&net::parse(&url).ok()?)))).collect()
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let (settings, http) = (parse::<Settings>(settings)?, shared.http.clone());
    let nsqd = settings.nsqd().map(|url| settings.endpoint(&http, &url)).collect::<Result<_>>()?;
    let lookupd = settings.lookupd().map(|url| settings.endpoint(&http, &url)).collect::<Result<_>>()?;
    Ok(Box::new(Nsq { http, nsqd, lookupd, settings }))
}

struct Nsq {
    http: Arc<Http>,
    nsqd: Vec<Endpoint>,
    lookupd: Vec<Endpoint>,
    settings: Settings,
}

impl fmt::Debug for Nsq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nsq({:?}, {:?})", self.nsqd, self.lookupd)
    }
}

#[async_trait]
impl Source for Nsq {
    async fn read(&self) -> Result<Measurement> {
        let found = if self.lookupd.is_empty() { self.nsqd.clone() } else { self.look_up().await? };
        let topics = try_join_all(found.iter().map(|nsqd| self.topic(nsqd))).await?;
        let topics: Vec<Topic> = topics.into_iter().flatten().collect();
        let depth = self.settings.depth(&topics).map_err(|(kind, cause)| {
            let during = format!("reading channel {:?} of topic {:?}", self.settings.channel, self.settings.topic);
            Error::new(kind, during, cause)
        })?;
        Ok(Measurement::from(Amount::Queue(depth)))
    }
}

impl Nsq {
    /// The nsqd of the topic, each once.
    async fn look_up(&self) -> Result<Vec<Endpoint>> {
        let during = || format!("looking up topic {:?}", self.settings.topic);
        let answers = try_join_all(self.lookupd.iter().map(|lookupd| self.producers(lookupd))).await?;
        let known: Vec<_> = answers.into_iter().flatten().collect();
        if known.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, during(), "no nsqlookupd knows it; look at the topic's name"));
        }
        let mut urls: Vec<Url> = known.into_iter().flatten().collect();
        urls.sort();
        urls.dedup();
        match urls.len() {
            0 => {
                let cause = "no nsqd has it now, and what waits at one that is gone is unknown";
                Err(Error::new(ErrorKind::Unavailable, during(), cause))
            }
            1..=MOST_NSQD => urls.iter().map(|url| self.settings.endpoint(&self.http, url.as_str())).collect(),
            many => Err(Error::new(ErrorKind::Malformed, during(), format!("{many} nsqd are more than {MOST_NSQD}"))),
        }
    }

    /// The nsqd that one nsqlookupd names; nothing where it does not know the topic.
    async fn producers(&self, lookupd: &Endpoint) -> Result<Option<Vec<Url>>> {
        let asked = lookupd.below(&["lookup"]).with_query(&[("topic", &self.settings.topic)]);
        let answer = self.http.ask(&asked, Ask::default()).await?;
        // 404 since 1.0, and 500 before.
        let message = serde_json::from_slice::<Refusal>(&answer.body).unwrap_or_default();
        if [&message.message, &message.status_txt].iter().any(|text| text.as_deref() == Some("TOPIC_NOT_FOUND")) {
            return Ok(None);
        }
        let malformed = |cause: String| Error::new(ErrorKind::Malformed, lookupd.during(), cause);
        let lookup: Lookup = document(&answer.success()?.body).map_err(malformed)?;
        let url = |producer: Producer| {
            let port = self.settings.nsqd_port.unwrap_or(producer.http_port);
            let url = url_of(lookupd.url().scheme(), &producer.broadcast_address, port);
            url.ok_or_else(|| malformed("it names an nsqd with an address that is none".to_owned()))
        };
        lookup.producers.into_iter().map(url).collect::<Result<_>>().map(Some)
    }

    /// The topic at one nsqd, where it is there.
    async fn topic(&self, nsqd: &Endpoint) -> Result<Option<Topic>> {
        // Not by channel, since an unknown channel is then answered as an unknown topic is.
        let query = [
            ("format", "json"),
            ("topic", &self.settings.topic),
            ("include_clients", "false"),
            ("include_mem", "false"),
        ];
        let body = self.http.get(&nsqd.below(&["stats"]).with_query(&query), None).await?;
        let malformed = |cause: String| Error::new(ErrorKind::Malformed, nsqd.during(), cause);
        let Stats { topics } = document(&body).map_err(malformed)?;
        let topics = Option::<Vec<Topic>>::deserialize(topics).map_err(|error| malformed(error.to_string()))?;
        Ok(topics.into_iter().flatten().find(|topic| topic.topic_name == self.settings.topic))
    }
}

/// The URL of a server, where the host is one and nothing more.
fn url_of(scheme: &str, host: &str, port: u16) -> Option<Url> {
    let host = match host.parse() {
        Ok(address) => Host::Ipv6(address),
        Err(_) => Host::parse(host).ok()?,
    };
    Url::parse(&format!("{scheme}://{host}:{port}")).ok()
}

/// Reads an answer, without what was around it before 1.0.
fn document<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let mut value: Value = serde_json::from_slice(body)
        .map_err(|error| format!("the answer is no JSON (line {}, column {})", error.line(), error.column()))?;
    if value.get("status_code").is_some() {
        value = value["data"].take();
    }
    T::deserialize(value).map_err(|error| format!("the answer is none of NSQ's: {error}"))
}

#[derive(Default, Deserialize)]
struct Refusal {
    message: Option<String>,
    status_txt: Option<String>,
}

#[derive(Deserialize)]
struct Lookup {
    producers: Vec<Producer>,
}

#[derive(Deserialize)]
struct Producer {
    broadcast_address: String,
    http_port: u16,
}

/// The topics are null where there are none.
#[derive(Deserialize)]
struct Stats {
    topics: Value,
}

#[derive(Deserialize)]
struct Topic {
    topic_name: String,
    depth: Option<u64>,
    channels: Vec<Channel>,
}

#[derive(Deserialize)]
struct Channel {
    channel_name: String,
    depth: Option<u64>,
    in_flight_count: Option<u64>,
    deferred_count: Option<u64>,
    message_count: Option<u64>,
}

impl Channel {
    /// Messages that it got since its nsqd started and has no more. What was on disk then was not counted, so that at first
    /// there may be fewer than it has.
    fn finished(&self) -> Option<u64> {
        let there = self.depth?.checked_add(self.in_flight_count?)?.checked_add(self.deferred_count?)?;
        self.message_count?.checked_sub(there)
    }
}

impl Settings {
    fn depth(&self, topics: &[Topic]) -> Result<QueueDepth, (ErrorKind, String)> {
        if topics.is_empty() {
            return Err((
                ErrorKind::NotFound,
                "no nsqd has the topic; look at its name, or at the addresses".to_owned(),
            ));
        }
        let channels = || topics.iter().flat_map(|topic| &topic.channels);
        let is_ours = |channel: &&Channel| channel.channel_name == self.channel;
        if channels().next().is_some() && !channels().any(|channel| is_ours(&channel)) {
            return Err((
                ErrorKind::NotFound,
                "the topic has other channels and not this one; look at its name".to_owned(),
            ));
        }
        let sum = |counts: &mut dyn Iterator<Item = Option<u64>>, name: &str| {
            let missing = || (ErrorKind::Missing, format!("an answer has no {name}"));
            let mut sum = 0_u64;
            for count in counts {
                sum = sum.saturating_add(count.ok_or_else(missing)?);
            }
            Ok(sum)
        };
        let ours = || channels().filter(is_ours);
        let waiting = topics.iter().map(|topic| topic.depth).chain(ours().map(|channel| channel.depth));
        Ok(QueueDepth {
            backlog: sum(&mut { waiting }, "depth")?,
            in_flight: Some(sum(&mut ours().map(|channel| channel.in_flight_count), "in_flight_count")?),
            delayed: Some(sum(&mut ours().map(|channel| channel.deferred_count), "deferred_count")?),
            completed: ours().map(Channel::finished).sum(),
            ..QueueDepth::default()
        })
    }
}

#[cfg(test)]
mod tests;
