//! The settings, and where and what they mean.

use aws_sdk_mq::types::BrokerInstance;
use lapin::uri::AMQPUri;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::adapter::{Identity, parse};
use crate::aws::mq::BrokerId;
use crate::config::{Reference, Secret};
use crate::error::Result;
use crate::iam::{self, Statement, is_region};
use crate::net;

/// The settings of a `rabbitmq` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The broker's host.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 255))]
    host: Option<String>,
    /// The port: 5671 for AMQP and 15671 for HTTP unless it is given, without TLS 5672 and 15672.
    #[serde(default)]
    #[schemars(with = "u16", range(min = 1, max = 65535))]
    port: Option<u16>,
    /// Whether to use TLS. Without it the password is sent as it is.
    #[serde(default = "yes")]
    use_ssl: bool,
    /// The broker by URL, in place of `host`, `port`, `use_ssl` and `protocol`: `amqps://HOST:PORT/VHOST`, or the root of the
    /// management interface, `https://HOST:PORT`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 2048))]
    url: Option<String>,
    /// The broker by its id or ARN in Amazon MQ, in place of `host`. It is looked up at each reading.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 512))]
    broker_id: Option<String>,
    /// The region of `broker_id`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    region: Option<String>,
    /// How to ask: `amqp` (the default, ready messages alone) or `http` (the management interface, unacknowledged ones too).
    #[serde(default)]
    #[schemars(with = "Protocol")]
    protocol: Option<Protocol>,
    /// The virtual host, `/` unless it is given.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 255))]
    vhost: Option<String>,
    /// The queue.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 255))]
    queue: Option<String>,
    /// Several queues.
    #[serde(default)]
    #[schemars(inner(length(min = 1, max = 255)))]
    queues: Vec<String>,
    /// All queues whose name the regular expression matches somewhere, in place of `queue` and `queues`; begin with `^` and end
    /// with `$` to match the whole name. The broker evaluates it. By `http` only. To allow-lists it is `regex:` and the expression.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 1000))]
    pub queue_regex: Option<String>,
    /// Whether `queue_regex` may match no queue, which then is no work. Without it that is an error, since it may be misspelled.
    #[serde(default)]
    pub allow_no_match: bool,
    /// What becomes of the counts of several queues: `sum`, `max`, or `mean`, which is rounded up.
    #[serde(default)]
    pub combine: Combine,
    /// The user to be.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    pub username: Option<String>,
    /// The password; a reference such as `env:NAME` or `secretsmanager:NAME#key`, or the password itself.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    pub password: Option<Reference>,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    pub ca: Option<String>,
    /// Whether not to verify certificates, by `http` only. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    pub insecure_tls: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    Amqp,
    Http,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Combine {
    #[default]
    Sum,
    Max,
    Mean,
}

/// Where a broker is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Server {
    Amqp {
        host: String,
        port: u16,
        tls: bool,
    },
    /// The management interface, by the URL of its root.
    Http {
        url: String,
    },
}

/// Reads a URL of either protocol.
fn parse_url(given: &str) -> Result<Url, (String, String)> {
    let is_amqp = |url: &Url| matches!(url.scheme(), "amqp" | "amqps");
    let Some(url) = Url::parse(given).ok().filter(is_amqp) else { return net::parse(given) };
    let wrong = |problem: &str, remedy: &str| Err((problem.to_owned(), remedy.to_owned()));
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("has a credential in its URL", "take it out, and give it as username and password");
    }
    let is_plain = !given.contains(|letter: char| letter.is_whitespace() || letter.is_control());
    if !is_plain
        || !given.contains("://")
        || url.host_str().is_none_or(str::is_empty)
        || url.query().is_some()
        || url.path().matches('/').count() > 1
    {
        return wrong("is no URL of AMQP", "give amqps://HOST:PORT/VHOST, in which a / of the vhost is %2F");
    }
    Ok(url)
}

impl Settings {
    /// The server, as far as the settings tell; a broker of Amazon MQ has to be looked up.
    pub fn server(&self) -> Option<Server> {
        let Some(given) = &self.url else { return self.host.as_deref().map(|host| self.by_host(host)) };
        let url = parse_url(given).ok()?;
        let tls = match url.scheme() {
            "amqps" => true,
            "amqp" => false,
            _ => return Some(Server::Http { url: given.clone() }),
        };
        let port = url.port().unwrap_or(if tls { 5671 } else { 5672 });
        Some(Server::Amqp { host: url.host_str()?.to_owned(), port, tls })
    }

    fn by_host(&self, host: &str) -> Server {
        let tls = self.use_ssl;
        let host = match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        match self.protocol() {
            Protocol::Amqp => Server::Amqp { host, port: self.port.unwrap_or(if tls { 5671 } else { 5672 }), tls },
            Protocol::Http => {
                let (scheme, usual) = if tls { ("https", 15671) } else { ("http", 15672) };
                Server::Http { url: format!("{scheme}://{host}:{}", self.port.unwrap_or(usual)) }
            }
        }
    }

    fn protocol(&self) -> Protocol {
        let of_url = self.url.as_deref().map(|url| match url.to_ascii_lowercase().starts_with("http") {
            true => Protocol::Http,
            false => Protocol::Amqp,
        });
        of_url.or(self.protocol).unwrap_or(Protocol::Amqp)
    }

    /// The virtual host of a URL of AMQP, where it has one.
    fn vhost_of_url(&self) -> Option<String> {
        let url = self.url.as_deref().and_then(|given| parse_url(given).ok())?;
        let has_path = 1 < url.path().len() && self.protocol() == Protocol::Amqp;
        self.url.as_deref().filter(|_| has_path).and_then(|url| url.parse::<AMQPUri>().ok()).map(|uri| uri.vhost)
    }

    pub fn vhost(&self) -> String {
        self.vhost.clone().or_else(|| self.vhost_of_url()).unwrap_or_else(|| "/".to_owned())
    }

    pub fn named(&self) -> Vec<String> {
        self.queue.iter().chain(&self.queues).cloned().collect()
    }

    pub fn broker(&self, region: &str) -> Option<BrokerId> {
        BrokerId::parse(self.broker_id.as_deref()?, self.region.as_deref().unwrap_or(region))
    }

    /// The server of a broker in Amazon MQ. There is one name for all nodes of a cluster.
    pub fn of(&self, instances: &[BrokerInstance]) -> Result<Server, &'static str> {
        let mut given = instances.iter();
        match self.protocol() {
            Protocol::Http => {
                let url = given.find_map(BrokerInstance::console_url).ok_or("the answer has no URL of its console")?;
                Ok(Server::Http { url: url.to_owned() })
            }
            Protocol::Amqp => {
                let urls = given.flat_map(BrokerInstance::endpoints).filter_map(|url| Url::parse(url).ok());
                let url = urls.into_iter().find(|url| url.scheme() == "amqps");
                let host = url.as_ref().and_then(Url::host_str).ok_or("the answer has no endpoint of AMQP")?;
                let port = url.as_ref().and_then(Url::port).unwrap_or(5671);
                Ok(Server::Amqp { host: host.to_owned(), port, tls: true })
            }
        }
    }
}

pub(super) fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems: Vec<_> = settings.url.iter().filter_map(|url| parse_url(url).err()).collect();
    let mut refuse = |wrong: bool, problem: &str, remedy: &str| {
        if wrong {
            problems.push((problem.to_owned(), remedy.to_owned()));
        }
    };
    check_broker(&settings, &mut refuse);
    check_queues(&settings, &mut refuse);
    let login = settings.username.is_none() || settings.password.is_none();
    refuse(login, "has no username or no password", "set RABBITMQ_USERNAME and RABBITMQ_PASSWORD, or both settings");
    problems
}

fn check_broker(settings: &Settings, refuse: &mut impl FnMut(bool, &str, &str)) {
    let Settings { host, url, broker_id, port, vhost, region, .. } = settings;
    let places = [host, url, broker_id].iter().filter(|place| place.is_some()).count();
    refuse(places == 0, "names no broker", "set RABBITMQ_HOST, or host, url or broker_id of the source");
    refuse(1 < places, "has more than one of host, url and broker_id", "keep one of them");
    let is_host = |host: &String| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
    refuse(
        !host.as_ref().is_none_or(is_host),
        "has a host that is none",
        "give a name or an address, the rest as port",
    );
    let elsewhere = host.is_none() && (port.is_some() || !settings.use_ssl);
    refuse(elsewhere, "has port or use_ssl without host", "they go with host; a URL says both itself");
    let protocols = url.is_some() && settings.protocol.is_some_and(|given| given != settings.protocol());
    refuse(protocols, "has a protocol that is not its URL's", "leave protocol out");
    let vhosts = vhost.is_some() && settings.vhost_of_url().is_some();
    refuse(vhosts, "has a vhost beside that of its URL", "keep one of them");
    let broker = broker_id.is_some() && settings.broker("-").is_none();
    let remedy = "give an id such as b-1234a5b6-78cd-901e-2fgh-3i45j6k178l9, or the ARN";
    refuse(broker, "has a broker_id that is none", remedy);
    let wrong_region = !region.as_deref().is_none_or(is_region);
    refuse(wrong_region, "has a region that is none", "give one such as eu-west-1");
    let unverified = settings.protocol() == Protocol::Amqp && settings.insecure_tls;
    refuse(unverified, "has insecure_tls, which is for http", "give the CA of the broker's certificate as ca");
}

fn check_queues(settings: &Settings, refuse: &mut impl FnMut(bool, &str, &str)) {
    let Settings { queue_regex, vhost, .. } = settings;
    let named = settings.named();
    let none = named.is_empty() && queue_regex.is_none();
    refuse(none, "names no queue", "set RABBITMQ_QUEUE, or queue, queues or queue_regex of the source");
    refuse(!named.is_empty() && queue_regex.is_some(), "has queue_regex beside a queue", "keep one of them");
    let by_amqp = settings.protocol() == Protocol::Amqp;
    refuse(by_amqp && queue_regex.is_some(), "has queue_regex, which AMQP does not know", "set protocol to http");
    let twin = named.iter().enumerate().any(|(at, name)| named[..at].contains(name));
    refuse(twin, "names a queue twice, whose messages would count twice", "name it once");
    let dots = named.iter().chain(vhost).any(|name| matches!(name.as_str(), "." | ".."));
    refuse(dots && !by_amqp, "has a name that cannot be in a URL", "set protocol to amqp");
}

pub(super) fn identities(settings: &Value, region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let (region, place) = match (settings.server(), settings.broker(region)) {
        (Some(Server::Amqp { host, port, .. }), _) => ("-".to_owned(), format!("{host}:{port}")),
        (Some(Server::Http { url }), _) => {
            ("-".to_owned(), net::parse(&url).map(|url| net::host_and_port(&url)).unwrap_or_default())
        }
        (None, Some(broker)) => (broker.region, broker.id),
        (None, None) => return Vec::new(),
    };
    let account = settings.broker(&region).and_then(|broker| broker.account);
    let identity = |queue| Identity {
        provider: super::KIND.name,
        region: region.clone(),
        account: account.clone(),
        path: vec![place.clone(), settings.vhost(), queue],
    };
    // No pattern for a queue's name matches an expression by accident.
    let regex = settings.queue_regex.as_ref().map(|regex| format!("regex:{regex}"));
    settings.named().into_iter().chain(regex).map(identity).collect()
}

pub(super) fn permissions(settings: &Value, place: &iam::Place) -> Result<Vec<Statement>> {
    let broker = parse::<Settings>(settings)?.broker(&place.region);
    Ok(broker.iter().map(|broker| broker.statement(place)).collect())
}
