//! RabbitMQ queues, by AMQP 0-9-1 or by the management plugin's HTTP interface; Amazon MQ's brokers too.
//!
//! By AMQP a queue is declared passively (<https://www.rabbitmq.com/docs/queues>), which creates nothing and answers with the
//! messages that are ready. What is in flight cannot be seen this way: it is unknown here, where StepScale takes the smaller of
//! messages and consumers and KEDA counts what is ready alone. A stream cannot be told from a queue this way either.
//!
//! The management interface (<https://www.rabbitmq.com/docs/http-api-reference>) has the messages that are ready and those
//! that are not acknowledged, from statistics that are up to five seconds old. For as long after a queue is made there are
//! none, which is an error here and no zero.

mod amqp;
mod management;
mod settings;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_mq::Client;
use aws_sdk_mq::types::EngineType;
use serde_json::Value;

use self::amqp::Amqp;
use self::management::Management;
use self::settings::{Combine, Server, Settings, check, identities, permissions};
use super::{Measurement, Source};
use crate::adapter::{Kind, parse, schema_of};
use crate::aws::mq::BrokerId;
use crate::config::{Reference, Secret};
use crate::core::{Amount, QueueDepth};
use crate::error::{Error, ErrorKind, Result};
use crate::net::{Endpoint, Http, Tcp, Tls};
use crate::secrets::Secrets;
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "rabbitmq",
    aliases: &["amazonmq_rabbitmq"],
    about: "RabbitMQ queues by AMQP (ready) or by HTTP (ready and unacknowledged), Amazon MQ's too.",
    renamed: &[],
    env: &[
        ("RABBITMQ_HOST", "host"),
        ("RABBITMQ_PORT", "port"),
        ("RABBITMQ_VHOST", "vhost"),
        ("RABBITMQ_QUEUE", "queue"),
        ("RABBITMQ_USERNAME", "username"),
        ("RABBITMQ_PASSWORD", "password"),
    ],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions,
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let settings: Settings = parse(settings)?;
    let place = match (settings.server(), settings.broker(&shared.region)) {
        (Some(server), _) => Place::Given(server),
        (None, Some(id)) => Place::AmazonMq { client: id.client(&shared.aws), id },
        (None, None) => return Err(Error::new(ErrorKind::Config, "finding the broker", "the settings name none")),
    };
    let (Some(user), Some(password)) = (settings.username.clone(), settings.password.clone()) else {
        return Err(Error::new(ErrorKind::Config, "logging in", "there is no username or no password"));
    };
    let source = RabbitMq {
        http: shared.http.clone(),
        tcp: shared.tcp.clone(),
        secrets: shared.secrets().clone(),
        place,
        user,
        password,
        settings,
    };
    if let Place::Given(Server::Http { url }) = &source.place {
        source.endpoint(url)?;
    }
    Ok(Box::new(source))
}

struct RabbitMq {
    http: Arc<Http>,
    tcp: Tcp,
    secrets: Secrets,
    place: Place,
    user: String,
    password: Reference,
    settings: Settings,
}

#[derive(Debug)]
enum Place {
    Given(Server),
    AmazonMq { client: Client, id: BrokerId },
}

/// Who asks.
struct Login<'a> {
    user: &'a str,
    password: Secret<String>,
}

impl fmt::Debug for RabbitMq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Given(Server::Amqp { host, port, .. }) => write!(f, "RabbitMq({host}:{port})"),
            Place::Given(Server::Http { .. }) => f.write_str("RabbitMq(management)"),
            Place::AmazonMq { id, .. } => write!(f, "RabbitMq({})", id.id),
        }
    }
}

#[async_trait]
impl Source for RabbitMq {
    async fn read(&self) -> Result<Measurement> {
        let server = match &self.place {
            Place::Given(server) => server.clone(),
            Place::AmazonMq { client, id } => {
                let broker = id.describe(client, &EngineType::Rabbitmq).await?;
                self.settings.of(&broker.instances).map_err(|cause| {
                    Error::new(ErrorKind::Malformed, format!("looking up broker {:?}", id.id), cause)
                })?
            }
        };
        let read = |password| self.depths(&server, Login { user: &self.user, password });
        let depths = self.secrets.with(&self.password, read).await?;
        Ok(Measurement::from(Amount::Queue(combined(&depths, self.settings.combine))))
    }
}

impl RabbitMq {
    fn endpoint(&self, url: &str) -> Result<Endpoint> {
        let Settings { ca, insecure_tls, .. } = &self.settings;
        self.http.endpoint(url, Tls { ca: ca.clone(), insecure: *insecure_tls })
    }

    async fn depths(&self, server: &Server, login: Login<'_>) -> Result<Vec<QueueDepth>> {
        let (settings, vhost) = (&self.settings, self.settings.vhost());
        match server {
            Server::Amqp { host, port, tls } => {
                let ca = settings.ca.as_deref().filter(|_| *tls);
                let broker = Amqp { tcp: &self.tcp, host, port: *port, tls: *tls, ca };
                broker.depths(login, &vhost, &settings.named()).await
            }
            Server::Http { url } => {
                let broker = Management { http: &self.http, root: self.endpoint(url)?, login, vhost: &vhost };
                match &settings.queue_regex {
                    Some(regex) => broker.matching(regex, settings.allow_no_match).await,
                    None => broker.named(&settings.named()).await,
                }
            }
        }
    }
}

/// One depth of several. What is unknown of one of them is unknown of all.
fn combined(depths: &[QueueDepth], how: Combine) -> QueueDepth {
    let count = |numbers: &[u64]| match how {
        Combine::Sum => numbers.iter().fold(0_u64, |sum, number| sum.saturating_add(*number)),
        Combine::Max => numbers.iter().fold(0, |most, number| *number.max(&most)),
        Combine::Mean => {
            let sum: u128 = numbers.iter().map(|number| u128::from(*number)).sum();
            u64::try_from(sum.div_ceil(numbers.len().max(1) as u128)).unwrap_or(u64::MAX)
        }
    };
    let in_flight: Option<Vec<_>> = depths.iter().map(|depth| depth.in_flight).collect();
    // What one queue finished says nothing of what is in flight in another.
    let finished = depths.iter().map(|depth| depth.completed.filter(|_| !matches!(how, Combine::Max)));
    let completed: Option<Vec<_>> = finished.collect();
    // A queue in which nothing waits has no oldest message.
    let waiting = depths.iter().filter(|depth| 0 < depth.backlog);
    let ages: Option<Vec<_>> = waiting.map(|depth| depth.oldest_age_secs).collect();
    QueueDepth {
        backlog: count(&depths.iter().map(|depth| depth.backlog).collect::<Vec<_>>()),
        in_flight: in_flight.map(|numbers| count(&numbers)),
        oldest_age_secs: ages.and_then(|ages| ages.into_iter().max()),
        completed: completed.map(|numbers| count(&numbers)),
        ..QueueDepth::default()
    }
}

#[cfg(test)]
mod tests;
