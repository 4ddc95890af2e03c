//! Brokers of Amazon MQ: where they are.

use aws_sdk_mq::Client;
use aws_sdk_mq::types::{BrokerInstance, BrokerState, EngineType};

use super::{AnswerLimit, Aws, failure};
use crate::error::{Error, ErrorKind, Result};
use crate::iam::{Place, Statement, is_account, is_region};

/// A broker as settings name it: an id, `b-…`, or an ARN, `arn:PARTITION:mq:REGION:ACCOUNT:broker:NAME:ID`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BrokerId {
    pub id: String,
    pub region: String,
    pub account: Option<String>,
    /// The name, where an ARN states it.
    name: Option<String>,
}

/// What is known about a broker.
#[derive(Debug)]
pub(crate) struct Broker {
    /// Its name, of which the names in CloudWatch are made.
    #[cfg_attr(not(feature = "activemq"), allow(dead_code, reason = "RabbitMQ is not read from CloudWatch"))]
    pub name: Option<String>,
    /// One, or the active and the standby one, which are not told apart.
    pub instances: Vec<BrokerInstance>,
}

impl BrokerId {
    /// Reads what a setting gives. The region is the ARN's, or the one given.
    pub(crate) fn parse(given: &str, region: &str) -> Option<Self> {
        let broker = match given.split(':').collect::<Vec<_>>()[..] {
            [id] => Self { id: id.to_owned(), region: region.to_owned(), account: None, name: None },
            ["arn", _, "mq", region, account, "broker", name, id] if is_account(account) && is_region(region) => Self {
                id: id.to_owned(),
                region: region.to_owned(),
                account: Some(account.to_owned()),
                name: Some(name.to_owned()).filter(|name| is_plain(name)),
            },
            _ => return None,
        };
        is_plain(&broker.id).then_some(broker)
    }

    /// The statement that lets the broker be looked up. An ARN has the name in it, which an id alone does not tell.
    pub(crate) fn statement(&self, place: &Place) -> Statement {
        let account = self.account.as_deref().unwrap_or(&place.account);
        let partition = Place::new(&self.region, account).partition;
        let name = self.name.as_deref().unwrap_or("*");
        let arn = format!("arn:{partition}:mq:{}:{account}:broker:{name}:{}", self.region, self.id);
        Statement::allow("FindBroker", &["mq:DescribeBroker"], vec![arn])
    }

    /// The client that looks the broker up.
    pub(crate) fn client(&self, aws: &Aws) -> Client {
        let config = aws_sdk_mq::config::Builder::from(&aws.sdk(&self.region)).interceptor(AnswerLimit).build();
        Client::from_conf(config)
    }

    /// Looks the broker up: <https://docs.aws.amazon.com/amazon-mq/latest/api-reference/brokers-broker-id.html>.
    ///
    /// # Errors
    /// Those of the call, `Config` for a broker of another engine, `Unavailable` for one that has no instance.
    pub(crate) async fn describe(&self, client: &Client, engine: &EngineType) -> Result<Broker> {
        let during = || format!("looking up broker {:?}", self.id);
        let answer = client.describe_broker().broker_id(&self.id).send().await;
        let answer = answer.map_err(|error| failure("mq:DescribeBroker", during(), error))?;
        if let Some(other) = answer.engine_type().filter(|its| !is_engine(its, engine)) {
            let cause = format!("it is a broker of {}, not of {}", other.as_str(), engine.as_str());
            return Err(Error::new(ErrorKind::Config, during(), cause));
        }
        let instances = answer.broker_instances().to_vec();
        if instances.is_empty() {
            let state = answer.broker_state().map_or("unknown", BrokerState::as_str);
            return Err(Error::new(
                ErrorKind::Unavailable,
                during(),
                format!("it has no instance; its state is {state}"),
            ));
        }
        Ok(Broker { name: answer.broker_name().map(str::to_owned), instances })
    }
}

/// `ACTIVEMQ`, which some answers have as `ActiveMQ`.
fn is_engine(its: &EngineType, engine: &EngineType) -> bool {
    its.as_str().eq_ignore_ascii_case(engine.as_str())
}

fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    !text.is_empty() && text.bytes().all(plain)
}
