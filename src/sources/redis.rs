//! Work that lies in Redis, Valkey, KeyDB, ElastiCache or MemoryDB: lists, streams, sorted sets, and the queues of Celery, Sidekiq, RQ
//! and BullMQ.
//!
//! It sends commands that read (`+@read` in an ACL, <https://redis.io/docs/latest/commands/>) and nothing else, over one
//! connection for each read, or one for each node of a cluster that has a key.
//!
//! - A list that is empty does not exist in Redis, so that a key that does not exist counts as an empty list or sorted set. A
//!   stream, and a queue of Sidekiq, RQ or BullMQ, that was never there is an error.
//! - Of a stream with a consumer group, the backlog is the group's lag. StepScale and KEDA's older mode take the length less what
//!   is pending, in which what was acknowledged still counts; KEDA's `lagCount` is this
//!   (<https://keda.sh/docs/latest/scalers/redis-streams/>).
//! - The nodes that a cluster names, and the master that sentinels name, are trusted as the host is that names them; the guard on
//!   addresses is for them too.
//! - TLS is verified. KEDA's `unsafeSsl` and its redis scalers' default of no TLS have no counterpart here but `insecure_tls` and
//!   `use_ssl`.

mod layout;
mod session;
mod tls;
mod trouble;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use self::layout::Layout;
use self::session::Tls;
use self::session::{Dial, Node, Role, Session, master};
use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::clock::Clock;
use crate::config::{Reference, Secret};
use crate::core::Amount;
use crate::error::{Error, ErrorKind, Result};
use crate::net::Tcp;
use crate::secrets::Secrets;
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "redis",
    aliases: &["valkey"],
    about: "Lists, streams and sorted sets of Redis, and the queues of Celery, Sidekiq, RQ and BullMQ in it.",
    renamed: &[],
    env: &[
        ("REDIS_HOST", "host"),
        ("REDIS_PORT", "port"),
        ("REDIS_PASSWORD", "password"),
        ("REDIS_QUEUE_KEY", "queue_key"),
        ("REDIS_QUEUE_TYPE", "queue_type"),
    ],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: crate::wire::Contract::Stream {
        settings: |host, port| serde_json::json!({ "host": host, "port": port, "use_ssl": false, "queue_key": "orders", "password": "canary" }),
    },
};

/// The port of Redis.
const PORT: u16 = 6379;

/// The port of Sentinel.
const SENTINEL_PORT: u16 = 26379;

/// The settings of a `redis` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The server's host. In a cluster, that of any node.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 255))]
    host: Option<String>,
    /// The server's port, 6379 where it is left out.
    #[serde(default)]
    #[schemars(with = "u16", range(min = 1))]
    port: Option<u16>,
    /// Host, port, database and TLS in one, in place of `host`: `rediss://HOST:PORT/DB` with TLS, `redis://` without.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 2048))]
    url: Option<String>,
    /// Whether the connection is encrypted, `true` where it is left out.
    #[serde(default)]
    #[schemars(with = "bool")]
    use_ssl: Option<bool>,
    /// The database's number, 0 where it is left out. A cluster has no other.
    #[serde(default)]
    #[schemars(with = "u32", range(max = 65535))]
    db: Option<u32>,
    /// The user of an ACL; `default` where it is left out.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 255))]
    username: Option<String>,
    /// The user's password; a reference such as `env:NAME` or `file:PATH`, or the password itself.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    password: Option<Reference>,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    insecure_tls: bool,
    /// Whether the server is a node of a cluster, whose other nodes have the rest of the keys.
    #[serde(default)]
    cluster: bool,
    /// Sentinels to ask for the master, in place of `host`.
    #[serde(default)]
    #[schemars(with = "Sentinel")]
    sentinel: Option<Sentinel>,
    /// The key of the list, stream or sorted set, or the queue's name in Celery, Sidekiq, RQ or BullMQ.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    queue_key: Option<String>,
    /// Several of them, whose counts are added, in place of `queue_key` or beside it.
    #[serde(default)]
    #[schemars(length(max = 100), inner(length(min = 1, max = 1024)))]
    keys: Vec<String>,
    /// How the queue lies in Redis.
    #[serde(default)]
    queue_type: Layout,
    /// The key under which workers note what they are working on: a list, set, hash or sorted set. For lists and sorted sets;
    /// without it what is in flight is unknown.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    processing_key: Option<String>,
    /// The consumer group that reads the stream. Without it the stream's length is the backlog, acknowledged or not.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    consumer_group: Option<String>,
    /// What the scores of a sorted set mean, if they are the times at which work is due: what is due is the backlog, and the rest
    /// is delayed.
    #[serde(default)]
    #[schemars(with = "Scores")]
    scores: Option<Scores>,
    /// What stands before each key of Celery (`global_keyprefix`), Sidekiq, RQ or BullMQ, to the letter. Left out, it is nothing,
    /// nothing, `rq:` and `bull:`.
    #[serde(default)]
    #[schemars(with = "String", length(max = 255))]
    key_prefix: Option<String>,
    /// Celery's `priority_steps`, `[0, 3, 6, 9]` where it is left out.
    #[serde(default)]
    #[schemars(with = "Vec<u8>", length(max = 256))]
    priority_steps: Option<Vec<u8>>,
    /// Celery's `sep`, the characters 6 and 22 where it is left out.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 16))]
    separator: Option<String>,
}

/// What scores are, since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Scores {
    /// Seconds, whole or not.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// The sentinels that watch over a master.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Sentinel {
    /// Each sentinel as `HOST` or `HOST:PORT`; port 26379 where it is left out. TLS as for the server.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 255)))]
    hosts: Vec<String>,
    /// The master's name, as in `sentinel monitor NAME …`.
    #[schemars(length(min = 1, max = 255))]
    master: String,
    /// The user of the sentinels' ACL.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 255))]
    username: Option<String>,
    /// The sentinels' own password, a reference or the password itself. The server's is not sent to them.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    password: Option<Reference>,
}

/// Where the settings lead to.
struct Place {
    nodes: Vec<Node>,
    has_tls: bool,
    db: u32,
}

impl Settings {
    fn queues(&self) -> impl Iterator<Item = &str> {
        self.queue_key.iter().chain(&self.keys).map(String::as_str)
    }

    fn key_prefix(&self) -> &str {
        self.key_prefix.as_deref().unwrap_or(self.queue_type.usual_prefix())
    }

    /// What is read below the database, for allow-lists: each queue with what stands before it, with its group if one reads
    /// it; and the key of what is worked on.
    fn read_keys(&self) -> impl Iterator<Item = Vec<String>> {
        let queue = |queue: &str| {
            let key = format!("{}{queue}", self.key_prefix());
            std::iter::once(key).chain(self.consumer_group.clone()).collect()
        };
        self.queues().map(queue).chain(self.processing_key.clone().map(|key| vec![key]))
    }

    /// # Errors
    /// The problem and the remedy.
    fn place(&self) -> Result<Place, (String, String)> {
        let wrong = |problem: &str, remedy: &str| Err((problem.to_owned(), remedy.to_owned()));
        let (has_tls, db) = (self.use_ssl.unwrap_or(true), self.db.unwrap_or_default());
        match (&self.host, &self.url, &self.sentinel) {
            (Some(host), None, None) if is_host(host) => {
                Ok(Place { nodes: vec![Node::new(host, self.port.unwrap_or(PORT))], has_tls, db })
            }
            (Some(_), None, None) => wrong("has a host that is none", "give a name or an address; a URL is for url"),
            (None, Some(_), None) if self.port.is_some() || self.use_ssl.is_some() => {
                wrong("has port or use_ssl beside url", "take them out; the URL says both")
            }
            (None, Some(url), None) => of_url(url, self.db),
            (None, None, Some(_)) if self.port.is_some() => {
                wrong("has a port beside sentinel", "take it out; the sentinels tell the master's")
            }
            (None, None, Some(sentinel)) => match sentinel.hosts.iter().map(|host| node(host)).collect() {
                Some(nodes) => Ok(Place { nodes, has_tls, db }),
                None => wrong("has a host in sentinel.hosts that is none", "give HOST or HOST:PORT"),
            },
            (None, None, None) => wrong("has no server", "give host, url or sentinel"),
            _ => wrong("has more than one of host, url and sentinel", "keep one of them"),
        }
    }
}

/// `rediss://HOST:PORT/DB`: <https://www.iana.org/assignments/uri-schemes/prov/rediss>.
fn of_url(given: &str, db: Option<u32>) -> Result<Place, (String, String)> {
    let wrong = |problem: &str, remedy: &str| Err((problem.to_owned(), remedy.to_owned()));
    let Ok(url) = Url::parse(given) else { return wrong("is no URL", "give rediss://HOST:PORT/DB") };
    let has_tls = match url.scheme() {
        "rediss" => true,
        "redis" => false,
        _ => return wrong("has a URL of another scheme", "give rediss://HOST:PORT/DB, or redis:// without TLS"),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("has a credential in its URL", "take it out, and give username and password");
    }
    let host = url.host_str().filter(|host| is_host(host));
    let path = url.path().trim_start_matches('/');
    let number = if path.is_empty() { Some(None) } else { path.parse().ok().map(Some) };
    match (host, number, db) {
        (_, Some(Some(_)), Some(_)) => wrong("has a database in its URL and db beside it", "keep one of them"),
        (Some(host), Some(number), db) if url.query().is_none() && url.fragment().is_none() => {
            let node = Node::new(host, url.port().unwrap_or(PORT));
            Ok(Place { nodes: vec![node], has_tls, db: number.or(db).unwrap_or_default() })
        }
        _ => wrong("has a URL with more or less in it than is used", "give rediss://HOST:PORT/DB"),
    }
}

fn is_host(host: &str) -> bool {
    !host.is_empty() && !host.contains(['/', '@', ' ', '?', '#'])
}

fn node(given: &str) -> Option<Node> {
    let (host, port) = match given.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') => (host, port.parse().ok()?),
        _ => (given, SENTINEL_PORT),
    };
    is_host(host).then(|| Node::new(host, port))
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let place = settings.place();
    let is_other_db = place.as_ref().is_ok_and(|place| place.db != 0);
    let layout = settings.queue_type;
    let is_framework = !matches!(layout, Layout::List | Layout::Stream | Layout::SortedSet);
    let has_processing = matches!(layout, Layout::List | Layout::SortedSet);
    let is_celery = layout == Layout::Celery;
    let stray = [
        ("processing_key", settings.processing_key.is_some() && !has_processing, "lists and sorted sets"),
        ("consumer_group", settings.consumer_group.is_some() && layout != Layout::Stream, "streams"),
        ("scores", settings.scores.is_some() && layout != Layout::SortedSet, "sorted sets"),
        ("key_prefix", settings.key_prefix.is_some() && !is_framework, "Celery, Sidekiq, RQ and BullMQ"),
        ("priority_steps", settings.priority_steps.is_some() && !is_celery, "Celery"),
        ("separator", settings.separator.is_some() && !is_celery, "Celery"),
    ];
    let stray = stray.into_iter().filter(|(_, is_stray, _)| *is_stray).map(|(name, _, what)| {
        (format!("has {name}, which is for {what}"), "take it out, or give the queue_type that it is for".to_owned())
    });
    let mut problems: Vec<_> = place.err().into_iter().chain(stray).collect();
    let mut unless = |is_right: bool, problem: &str, remedy: &str| {
        if !is_right {
            problems.push((problem.to_owned(), remedy.to_owned()));
        }
    };
    unless(settings.queues().next().is_some(), "names no queue", "give queue_key, or several as keys");
    unless(!settings.cluster || !is_other_db, "has another db than 0, and a cluster has no other", "take db out");
    let is_both = settings.cluster && settings.sentinel.is_some();
    unless(!is_both, "has cluster and sentinel", "keep one of them: a cluster takes no sentinels");
    let has_stray_user = settings.username.is_some() && settings.password.is_none();
    unless(!has_stray_user, "has a username and no password", "give the password too");
    problems
}

fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let Ok(place) = settings.place() else { return Vec::new() };
    let master = settings.sentinel.as_ref().map(|sentinel| sentinel.master.clone());
    let identity = |node: &Node, key: Vec<String>| {
        let outer = [Some(format!("{}:{}", node.host, node.port)), master.clone(), Some(place.db.to_string())];
        let path = outer.into_iter().flatten().chain(key).collect();
        Identity { provider: KIND.name, region: "-".to_owned(), account: None, path }
    };
    place
        .nodes
        .iter()
        .flat_map(|node| settings.read_keys().map(move |key| (node, key)))
        .map(|(node, key)| identity(node, key))
        .collect()
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let settings: Settings = parse(settings)?;
    let refused = |cause: String| Error::new(ErrorKind::Config, "checking a redis source", cause);
    let place = settings.place().map_err(|(problem, remedy)| refused(format!("it {problem}; {remedy}")))?;
    if settings.insecure_tls && !shared.tcp.network().insecure_tls {
        let cause = "insecure_tls takes ALLOW_INSECURE_TLS=true in the environment; better give its CA as ca";
        return Err(refused(cause.to_owned()));
    }
    let (tcp, secrets, clock) = (shared.tcp.clone(), shared.secrets().clone(), shared.clock.clone());
    Ok(Box::new(Redis { tcp, secrets, clock, place, settings }))
}

struct Redis {
    tcp: Tcp,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
    place: Place,
    settings: Settings,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis({:?})", self.place.nodes)
    }
}

#[async_trait]
impl Source for Redis {
    async fn read(&self) -> Result<Measurement> {
        let node = self.node().await?;
        let read = async |password| self.read_from(&node, password).await;
        let depth = match &self.settings.password {
            None => read(None).await?,
            Some(password) => self.secrets.with(password, |password| read(Some(password))).await?,
        };
        Ok(Measurement::from(Amount::Queue(depth)))
    }
}

impl Redis {
    async fn node(&self) -> Result<Node> {
        let Some(sentinel) = &self.settings.sentinel else { return Ok(self.place.nodes[0].clone()) };
        let ask = async |password| {
            let dial = Dial { db: 0, ..self.dial(sentinel.username.as_ref(), password) };
            master(&dial, &self.place.nodes, &sentinel.master).await
        };
        match &sentinel.password {
            None => ask(None).await,
            Some(password) => self.secrets.with(password, |password| ask(Some(password))).await,
        }
    }

    async fn read_from(&self, node: &Node, password: Option<Secret<String>>) -> Result<crate::core::QueueDepth> {
        let dial = self.dial(self.settings.username.as_ref(), password);
        let role = match (self.settings.cluster, &self.settings.sentinel) {
            (true, _) => Role::Cluster,
            (false, Some(_)) => Role::Master,
            (false, None) => Role::Single,
        };
        let mut session = Session::new(&dial, role, node.clone());
        layout::depth(&mut session, &self.settings, self.clock.now()).await
    }

    fn dial(&self, user: Option<&String>, password: Option<Secret<String>>) -> Dial {
        let tls = Tls { ca: self.settings.ca.clone(), insecure: self.settings.insecure_tls };
        let tls = self.place.has_tls.then_some(tls);
        Dial { tcp: self.tcp.clone(), tls, user: user.cloned(), password, db: self.place.db }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place(settings: Value) -> Result<(String, u16, bool, u32), (String, String)> {
        let place = parse::<Settings>(&settings).expect("the schema lets it through").place()?;
        Ok((place.nodes[0].host.clone(), place.nodes[0].port, place.has_tls, place.db))
    }

    #[test]
    fn tls_is_on_unless_it_is_turned_off() {
        for (settings, expected) in [
            (json!({ "host": "h" }), ("h", 6379, true, 0)),
            (json!({ "host": "h", "port": 6380, "use_ssl": false, "db": 3 }), ("h", 6380, false, 3)),
            (json!({ "url": "rediss://h" }), ("h", 6379, true, 0)),
            (json!({ "url": "rediss://h:6380/2" }), ("h", 6380, true, 2)),
            (json!({ "url": "redis://h/", "db": 4 }), ("h", 6379, false, 4)),
            (json!({ "sentinel": { "hosts": ["s"], "master": "m" } }), ("s", 26379, true, 0)),
            (json!({ "sentinel": { "hosts": ["s:1", "t"], "master": "m" } }), ("s", 1, true, 0)),
        ] {
            let (host, port, has_tls, db) =
                place(settings.clone()).unwrap_or_else(|error| panic!("{settings}: {error:?}"));
            assert_eq!((host.as_str(), port, has_tls, db), expected, "{settings}");
        }
        for wrong in ["redis://", "redis://h/orders", "redis://h/1?x=1", "redis://:canary@h", "h:6379", "unix:///tmp/s"]
        {
            let (problem, remedy) = place(json!({ "url": wrong })).expect_err(wrong);
            assert!(!format!("{problem} {remedy}").contains("canary"), "{problem}");
        }
    }

    #[test]
    fn everything_that_is_read_at_every_host_is_named_for_allow_lists() {
        let shown = |settings| identities(&settings, "eu-west-1").iter().map(ToString::to_string).collect::<Vec<_>>();
        let plain = json!({ "host": "h", "queue_key": "a", "keys": ["b"], "db": 1 });
        assert_eq!(shown(plain), ["redis:-/-/h:6379/1/a", "redis:-/-/h:6379/1/b"]);
        let watched = json!({ "sentinel": { "hosts": ["s", "t:1"], "master": "m" }, "queue_key": "a" });
        assert_eq!(shown(watched), ["redis:-/-/s:26379/m/0/a", "redis:-/-/t:1/m/0/a"]);
        for (more, expected) in [
            (json!({ "processing_key": "p" }), &["redis:-/-/h:6379/0/a", "redis:-/-/h:6379/0/p"][..]),
            (json!({ "queue_type": "stream", "consumer_group": "g" }), &["redis:-/-/h:6379/0/a/g"]),
            (json!({ "queue_type": "celery", "key_prefix": "prod:" }), &["redis:-/-/h:6379/0/prod:a"]),
            (json!({ "queue_type": "sidekiq" }), &["redis:-/-/h:6379/0/a"]),
            (json!({ "queue_type": "rq" }), &["redis:-/-/h:6379/0/rq:a"]),
            (json!({ "queue_type": "bullmq" }), &["redis:-/-/h:6379/0/bull:a"]),
            (json!({ "queue_type": "bullmq", "key_prefix": "" }), &["redis:-/-/h:6379/0/a"]),
        ] {
            let mut settings = json!({ "host": "h", "queue_key": "a" });
            settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            assert_eq!(shown(settings), expected, "{more}");
        }
    }
}
