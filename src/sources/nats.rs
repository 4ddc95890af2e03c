//! A consumer of NATS JetStream, by the monitoring endpoint of its servers.
//!
//! `num_pending` of `/jsz` is the backlog, `num_ack_pending` is in flight:
//! <https://docs.nats.io/running-a-nats-service/nats_admin/monitoring#jetstream-information-jsz>. `num_redelivered` is part of
//! what is in flight. A message that a consumer put off is in flight until it is due, so that nothing is known as delayed.
//!
//! A cluster keeps a consumer's numbers at its leader: the other servers answer as well, with numbers from before anything
//! was delivered (seen with 2.9.10). A number is taken only from a server that says that it leads the consumer, which is
//! one that is not among the replicas in its own answer
//! (<https://github.com/nats-io/nats-server/blob/v2.9.10/server/jetstream_cluster.go>, `clusterInfo`). KEDA looks for the leader by
//! the names of hosts, takes the first server's numbers where it finds none, and the stream's last sequence where the
//! consumer is missing.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::core::{Amount, QueueDepth};
use crate::error::{Error, ErrorKind, Result};
use crate::net::{self, Endpoint, Http, Tls};
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "nats",
    aliases: &["nats_jetstream"],
    about: "NATS JetStream: messages that wait for a consumer and that it has not acknowledged.",
    renamed: &[],
    env: &[("NATS_URL", "url"), ("NATS_STREAM", "stream"), ("NATS_CONSUMER", "consumer")],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// The account of a server that configures none.
const GLOBAL: &str = "$G";

/// The settings of a `nats` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The URL of a server's monitoring port, https without a path, as in `https://nats.internal:8222`. It has no passwords.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 2048))]
    url: Option<String>,
    /// The same of several servers of a cluster. List all of them: only the consumer's leader has its numbers.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 2048)))]
    urls: Vec<String>,
    /// The stream.
    #[schemars(length(min = 1, max = 256))]
    stream: String,
    /// The consumer of the stream.
    #[schemars(length(min = 1, max = 256))]
    consumer: String,
    /// The account that the stream is in, by name or id. `$G`, the default, where the servers have no accounts.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 256))]
    account: Option<String>,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    insecure_tls: bool,
}

impl Settings {
    fn urls(&self) -> impl Iterator<Item = &String> {
        self.url.iter().chain(&self.urls)
    }

    fn account(&self) -> &str {
        self.account.as_deref().unwrap_or(GLOBAL)
    }
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let (mut problems, mut servers) = (Vec::new(), Vec::new());
    for url in settings.urls() {
        match net::parse(url) {
            Ok(url) if url.path() != "/" || url.query().is_some() => {
                let remedy = "give the monitoring port alone, as in https://nats.internal:8222";
                problems.push(("has more in a URL than a server".to_owned(), remedy.to_owned()));
            }
            Ok(url) => servers.push(net::host_and_port(&url)),
            Err(problem) => problems.push(problem),
        }
    }
    if settings.urls().next().is_none() {
        problems.push(("names no server".to_owned(), "set url, or urls for a cluster".to_owned()));
    }
    if (1..servers.len()).any(|at| servers[..at].contains(&servers[at])) {
        problems.push(("names a server twice".to_owned(), "name it once".to_owned()));
    }
    problems
}

fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let identity = |server| Identity {
        provider: KIND.name,
        region: "-".to_owned(),
        account: None,
        path: vec![server, settings.account().to_owned(), settings.stream.clone(), settings.consumer.clone()],
    };
    settings.urls().filter_map(|url| Some(identity(net::host_and_port(&net::parse(url).ok()?)))).collect()
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let settings: Settings = parse(settings)?;
    let server = |url: &String| {
        let tls = Tls { ca: settings.ca.clone(), insecure: settings.insecure_tls };
        // Without `config`, which says nothing that is asked, since an account's consumers all come at once.
        let query = [("acc", settings.account()), ("consumers", "true")];
        Ok(shared.http.endpoint(url, tls)?.below(&["jsz"]).with_query(&query))
    };
    let servers = settings.urls().map(server).collect::<Result<Vec<_>>>()?;
    Ok(Box::new(Nats { http: shared.http.clone(), servers, settings }))
}

struct Nats {
    http: Arc<Http>,
    servers: Vec<Endpoint>,
    settings: Settings,
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nats({:?})", self.servers)
    }
}

#[async_trait]
impl Source for Nats {
    async fn read(&self) -> Result<Measurement> {
        let (mut leading, mut failures) = (Vec::new(), Vec::new());
        for asked in join_all(self.servers.iter().map(|server| self.ask(server))).await {
            match asked {
                Ok(measurement) => leading.push(measurement),
                Err(error) => failures.push(error),
            }
        }
        // A consumer of a cluster is missing at some servers, and known elsewhere.
        failures.sort_by_key(|error| error.kind() == ErrorKind::NotFound);
        match (leading.as_slice(), failures.into_iter().next()) {
            ([only], _) => Ok(only.clone()),
            ([], Some(error)) => Err(error),
            _ => {
                let during = format!("reading consumer {:?}", self.settings.consumer);
                let cause = "several servers say that they lead it; they may be of several clusters, or one has lost the others";
                Err(Error::new(ErrorKind::Unavailable, during, cause))
            }
        }
    }
}

impl Nats {
    async fn ask(&self, server: &Endpoint) -> Result<Measurement> {
        let body = self.http.get(server, None).await?;
        self.settings.measurement(&body).map_err(|(kind, cause)| Error::new(kind, server.during(), cause))
    }
}

/// The part of `/jsz` that is read. What is not read may have any form: `reserved_memory` is 2^64-1 at times.
#[derive(Deserialize)]
struct Jsz {
    now: Option<Timestamp>,
    #[serde(default)]
    disabled: bool,
    meta_cluster: Option<MetaCluster>,
    #[serde(default)]
    account_details: Vec<Account>,
}

#[derive(Deserialize)]
struct MetaCluster {
    #[serde(default)]
    cluster_size: u64,
}

#[derive(Deserialize)]
struct Account {
    name: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    stream_detail: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    name: String,
    #[serde(default)]
    consumer_detail: Vec<Consumer>,
}

#[derive(Deserialize)]
struct Consumer {
    name: String,
    num_pending: Option<u64>,
    num_ack_pending: Option<u64>,
    delivered: Option<Delivered>,
    cluster: Option<Cluster>,
}

#[derive(Deserialize)]
struct Delivered {
    /// Deliveries, those of a message that was delivered before included.
    consumer_seq: Option<u64>,
}

#[derive(Deserialize)]
struct Cluster {
    #[serde(default)]
    leader: String,
    #[serde(default)]
    replicas: Vec<Replica>,
}

#[derive(Deserialize)]
struct Replica {
    name: String,
}

impl Settings {
    fn measurement(&self, body: &[u8]) -> Result<Measurement, (ErrorKind, String)> {
        let jsz: Jsz = serde_json::from_slice(body).map_err(|error| {
            let at = format!("line {}, column {}", error.line(), error.column());
            (
                ErrorKind::Malformed,
                format!("the answer is none of /jsz ({at}); look whether the port is for monitoring"),
            )
        })?;
        let consumer = self.consumer(&jsz)?;
        if let Some(Cluster { leader, replicas }) = &consumer.cluster {
            if leader.is_empty() {
                return Err((ErrorKind::Unavailable, format!("consumer {:?} has no leader now", self.consumer)));
            }
            if replicas.iter().any(|replica| replica.name == *leader) {
                let cause = format!(
                    "consumer {:?} is led by {leader:?}, which has its numbers; list it in urls",
                    self.consumer
                );
                return Err((ErrorKind::Unavailable, cause));
            }
        }
        let missing = |name: &str| (ErrorKind::Missing, format!("consumer {:?} has no {name}", self.consumer));
        let pending = consumer.num_ack_pending.ok_or_else(|| missing("num_ack_pending"))?;
        let deliveries = consumer.delivered.as_ref().and_then(|delivered| delivered.consumer_seq);
        let depth = QueueDepth {
            backlog: consumer.num_pending.ok_or_else(|| missing("num_pending"))?,
            in_flight: Some(pending),
            // Deliveries that came to an end, by an acknowledgement or without one.
            completed: deliveries.and_then(|deliveries| deliveries.checked_sub(pending)),
            ..QueueDepth::default()
        };
        Ok(Measurement::from(Amount::Queue(depth)).taken(jsz.now))
    }

    /// The consumer in an answer. An account that is not known is answered with all others.
    fn consumer<'a>(&self, jsz: &'a Jsz) -> Result<&'a Consumer, (ErrorKind, String)> {
        let account = jsz.account_details.iter().find(|it| [&it.name, &it.id].contains(&&self.account().to_owned()));
        let stream = account.and_then(|account| account.stream_detail.iter().find(|it| it.name == self.stream));
        let consumer = stream.and_then(|stream| stream.consumer_detail.iter().find(|it| it.name == self.consumer));
        let what = match (account, stream, consumer) {
            (.., Some(consumer)) => return Ok(consumer),
            _ if jsz.disabled => "JetStream is not enabled".to_owned(),
            (None, ..) => format!("there is no account {:?} with JetStream", self.account()),
            (_, None, _) => format!("there is no stream {:?} in account {:?}", self.stream, self.account()),
            (.., None) => format!("there is no consumer {:?} of stream {:?}", self.consumer, self.stream),
        };
        let asked = self.urls().count();
        let elsewhere = jsz.meta_cluster.as_ref().filter(|meta| (asked as u64) < meta.cluster_size).map(|meta| {
            let all = meta.cluster_size;
            format!("; it may be on another server, of which the cluster has {all} and urls {asked}")
        });
        Err((ErrorKind::NotFound, what + &elsewhere.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::{Contract, Reply, Request, Scene};

    pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

    fn settings(endpoint: &str) -> Value {
        json!({ "url": endpoint, "stream": "ORDERS", "consumer": "worker" })
    }

    /// An answer of nats-server 2.9.10, shortened.
    fn jsz(consumer: &Value) -> Value {
        json!({
            "server_id": "NAZROODXYQAYVYGRO5KXSQ2X6WZ2ENL73ITAYY2HPTOTX74RKEOEA3K5",
            "now": "2026-11-22T00:49:58.637949563Z",
            "account_details": [{
                "name": "$G", "id": "$G", "reserved_memory": u64::MAX, "reserved_storage": u64::MAX,
                "stream_detail": [{ "name": "ORDERS", "state": { "messages": 20 }, "consumer_detail": [consumer] }],
            }],
        })
    }

    fn reply(scene: Scene, request: &Request) -> Reply {
        assert_eq!(request.path, "/jsz?acc=%24G&consumers=true");
        let consumer = |pending: Value| {
            let consumer =
                json!({ "stream_name": "ORDERS", "name": "worker", "num_ack_pending": 4, "num_pending": pending });
            Reply::new(200, jsz(&consumer).to_string())
        };
        match scene {
            Scene::Amount(waiting) => consumer(waiting.into()),
            Scene::Malformed => consumer((-1).into()),
            Scene::Missing => consumer(Value::Null),
            Scene::Denied => Reply::new(403, "canary"),
            Scene::NotFound => Reply::new(200, jsz(&json!({ "name": "other", "num_pending": 7 })).to_string()),
            Scene::Throttled => Reply::new(429, "canary"),
            other => panic!("{other:?} is not a scene of a source"),
        }
    }

    fn measure(account: &str, jsz: &Value) -> Result<Measurement, (ErrorKind, String)> {
        let settings = json!({ "url": "https://a", "stream": "ORDERS", "consumer": "worker", "account": account });
        parse::<Settings>(&settings).expect("they are valid").measurement(jsz.to_string().as_bytes())
    }

    #[test]
    fn only_the_consumers_leader_has_numbers() {
        let at = |cluster: Value| {
            jsz(&json!({ "name": "worker", "num_pending": 20, "num_ack_pending": 0, "cluster": cluster }))
        };
        let leads = at(json!({ "name": "C1", "leader": "n3", "replicas": [{ "name": "n1" }, { "name": "n2" }] }));
        assert!(measure("$G", &leads).is_ok());
        assert!(measure("$G", &at(json!({ "name": "C1", "leader": "n3" }))).is_ok(), "it has one replica");
        for (cluster, says) in [
            (
                json!({ "name": "C1", "leader": "n3", "replicas": [{ "name": "n2" }, { "name": "n3" }] }),
                "led by \"n3\"",
            ),
            (json!({ "name": "C1", "replicas": [{ "name": "n1" }, { "name": "n2" }, { "name": "n3" }] }), "no leader"),
        ] {
            let (kind, cause) = measure("$G", &at(cluster)).expect_err("it does not lead");
            assert_eq!(kind, ErrorKind::Unavailable);
            assert!(cause.contains(says), "{cause}");
        }
    }

    #[test]
    fn deliveries_that_ended_are_finished_and_without_their_number_nothing_is_known_of_it() {
        let completed = |delivered: Value| {
            let consumer = json!({ "name": "worker", "num_pending": 20, "num_ack_pending": 4, "delivered": delivered });
            match measure("$G", &jsz(&consumer)).expect("its counts are there").amount {
                Amount::Queue(depth) => depth.completed,
                Amount::Gauge { value } => panic!("{value:?}"),
            }
        };
        assert_eq!(completed(json!({ "consumer_seq": 31, "stream_seq": 25 })), Some(27));
        assert_eq!(completed(json!({ "consumer_seq": 3 })), None);
        assert_eq!(completed(Value::Null), None);
    }

    #[test]
    fn what_is_missing_is_named_and_where_it_may_be() {
        let mut answer = jsz(&json!({ "name": "other", "num_pending": 20, "num_ack_pending": 0 }));
        let says = |account: &str, answer: &Value| {
            let (kind, cause) = measure(account, answer).expect_err("it is missing");
            assert_eq!(kind, ErrorKind::NotFound);
            cause
        };
        assert_eq!(says("$G", &answer), "there is no consumer \"worker\" of stream \"ORDERS\"");
        assert_eq!(says("APP", &answer), "there is no account \"APP\" with JetStream");
        answer["meta_cluster"] = json!({ "name": "C1", "leader": "n1", "cluster_size": 3 });
        answer["account_details"][0]["stream_detail"] = json!([]);
        let elsewhere = "it may be on another server, of which the cluster has 3 and urls 1";
        assert_eq!(says("$G", &answer), format!("there is no stream \"ORDERS\" in account \"$G\"; {elsewhere}"));
        assert_eq!(says("$G", &json!({ "disabled": true })), "JetStream is not enabled");
    }

    #[test]
    fn servers_that_are_none_or_twice_are_refused() {
        let servers = |given: Value| {
            let mut settings = json!({ "stream": "ORDERS", "consumer": "worker" });
            settings.as_object_mut().expect("an object").extend(given.as_object().expect("an object").clone());
            check(&settings).len()
        };
        assert_eq!(servers(json!({ "url": "https://a:8222" })), 0);
        assert_eq!(servers(json!({ "urls": ["https://a:8222", "https://b:8222/"] })), 0);
        for wrong in [
            json!({}),
            json!({ "url": "nats://a:4222" }),
            json!({ "url": "https://a:8222/jsz" }),
            json!({ "url": "https://a:8222?acc=b" }),
            json!({ "url": "https://a:8222", "urls": ["https://a:8222/"] }),
        ] {
            assert_eq!(servers(wrong.clone()), 1, "{wrong}");
        }
    }
}
