//! The brokers of an Amazon MSK cluster by its ARN, and what IAM must allow.

use aws_sdk_kafka::Client;
use aws_sdk_kafka::operation::get_bootstrap_brokers::GetBootstrapBrokersOutput as Brokers;

use super::{Sasl, Settings, servers};
use crate::aws::failure;
use crate::error::{Error, ErrorKind, Result};
use crate::iam::{Place, Statement, is_account, is_region};

/// `arn:PARTITION:kafka:REGION:ACCOUNT:cluster/NAME/UUID`, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cluster {
    pub arn: String,
    pub region: String,
    pub account: String,
    pub name: String,
    id: String,
}

impl Cluster {
    pub fn parse(arn: &str) -> Option<Self> {
        let ["arn", _, "kafka", region, account, resource] = arn.split(':').collect::<Vec<_>>()[..] else {
            return None;
        };
        let ["cluster", name, id] = resource.split('/').collect::<Vec<_>>()[..] else { return None };
        let plain = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        let [arn, region, account, name, id] = [arn, region, account, name, id].map(str::to_owned);
        let fits = is_region(&region) && is_account(&account) && plain(&name) && plain(&id);
        fits.then_some(Self { arn, region, account, name, id })
    }

    /// The brokers that fit the way of logging in.
    ///
    /// # Errors
    /// Those of `kafka:GetBootstrapBrokers`; `Config` where the cluster has no listener of that kind.
    pub async fn servers(&self, client: &Client, settings: &Settings) -> Result<Vec<(String, u16)>> {
        let during = || format!("asking for the brokers of cluster {:?}", self.name);
        let answer = client.get_bootstrap_brokers().cluster_arn(&self.arn).send().await;
        let answer = answer.map_err(|error| failure("kafka:GetBootstrapBrokers", during(), error))?;
        let (what, fitting) = fitting(&answer, settings.sasl, settings.use_ssl);
        let none = || {
            let cause = format!("it has no listener for {what}; change sasl or use_ssl, or enable that in the cluster");
            Error::new(ErrorKind::Config, during(), cause)
        };
        let fitting = fitting.filter(|fitting| !fitting.is_empty()).ok_or_else(none)?;
        let malformed = || Error::new(ErrorKind::Malformed, during(), "the answer is no list of HOST:PORT");
        servers(fitting).ok_or_else(malformed)
    }
}

/// The brokers for a way of logging in: those in the cluster's own network, else by other networks, else from anywhere.
fn fitting(answer: &Brokers, sasl: Option<Sasl>, use_ssl: bool) -> (&'static str, Option<&str>) {
    match (sasl, use_ssl) {
        (Some(Sasl::MskIam), _) => (
            "IAM",
            answer
                .bootstrap_broker_string_sasl_iam()
                .or(answer.bootstrap_broker_string_vpc_connectivity_sasl_iam())
                .or(answer.bootstrap_broker_string_public_sasl_iam()),
        ),
        (Some(_), _) => (
            "SCRAM",
            answer
                .bootstrap_broker_string_sasl_scram()
                .or(answer.bootstrap_broker_string_vpc_connectivity_sasl_scram())
                .or(answer.bootstrap_broker_string_public_sasl_scram()),
        ),
        (None, true) => (
            "TLS without a login",
            answer
                .bootstrap_broker_string_tls()
                .or(answer.bootstrap_broker_string_vpc_connectivity_tls())
                .or(answer.bootstrap_broker_string_public_tls()),
        ),
        (None, false) => ("connections without TLS", answer.bootstrap_broker_string()),
    }
}

/// What IAM must allow: <https://docs.aws.amazon.com/msk/latest/developerguide/kafka-actions.html>.
pub(super) fn permissions(settings: &Settings, place: &Place) -> Vec<Statement> {
    let cluster = settings.cluster();
    let mut statements = Vec::new();
    if let Some(cluster) = &cluster {
        statements.push(Statement::allow("FindBrokers", &["kafka:GetBootstrapBrokers"], vec![cluster.arn.clone()]));
    }
    if settings.sasl != Some(Sasl::MskIam) {
        return statements;
    }
    // Brokers that are given by name do not say which cluster they are of.
    let (region, account, path) = match &cluster {
        Some(cluster) => (&cluster.region, &cluster.account, format!("{}/{}", cluster.name, cluster.id)),
        None => (settings.region.as_ref().unwrap_or(&place.region), &place.account, "*/*".to_owned()),
    };
    let partition = Place::new(region, account).partition;
    let arn = |what: &str| format!("arn:{partition}:kafka:{region}:{account}:{what}");
    let topics = settings.topics().iter().map(|topic| arn(&format!("topic/{path}/{topic}"))).collect();
    let group = arn(&format!("group/{path}/{}", settings.consumer_group));
    statements.push(Statement::allow(
        "ConnectToBrokers",
        &["kafka-cluster:Connect"],
        vec![arn(&format!("cluster/{path}"))],
    ));
    statements.push(Statement::allow("DescribeTopics", &["kafka-cluster:DescribeTopic"], topics));
    statements.push(Statement::allow("DescribeGroup", &["kafka-cluster:DescribeGroup"], vec![group]));
    statements
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::adapter::parse;

    const ARN: &str = "arn:aws:kafka:eu-west-1:123456789012:cluster/shop/abcd-4";

    #[test]
    fn the_brokers_are_those_that_fit_the_login() {
        let all = Brokers::builder()
            .bootstrap_broker_string("plain")
            .bootstrap_broker_string_tls("tls")
            .bootstrap_broker_string_sasl_scram("scram")
            .bootstrap_broker_string_public_sasl_scram("public-scram")
            .bootstrap_broker_string_public_sasl_iam("public-iam")
            .build();
        for (sasl, use_ssl, expected) in [
            (None, false, Some("plain")),
            (None, true, Some("tls")),
            (Some(Sasl::ScramSha512), true, Some("scram")),
            (Some(Sasl::MskIam), true, Some("public-iam")),
        ] {
            assert_eq!(fitting(&all, sasl, use_ssl).1, expected, "{sasl:?} {use_ssl}");
            assert_eq!(fitting(&Brokers::builder().build(), sasl, use_ssl).1, None);
        }
    }

    #[test]
    fn iam_must_allow_the_brokers_the_topics_and_the_group() {
        let statements = |more: serde_json::Value| {
            let mut settings = json!({ "topics": ["orders", "returns"], "consumer_group": "billing" });
            settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            let place = Place::new("us-east-1", "999999999999");
            let found = permissions(&parse(&settings).expect("they are settings"), &place);
            found.into_iter().map(|it| (it.action.concat(), it.resource.join(" "))).collect::<Vec<_>>()
        };
        let pairs = |expected: &[(&str, &str)]| -> Vec<_> {
            expected.iter().map(|(action, resource)| ((*action).to_owned(), (*resource).to_owned())).collect()
        };
        let arn = "arn:aws:kafka:eu-west-1:123456789012";
        let with_iam = pairs(&[
            ("kafka:GetBootstrapBrokers", ARN),
            ("kafka-cluster:Connect", ARN),
            ("kafka-cluster:DescribeTopic", &format!("{arn}:topic/shop/abcd-4/orders {arn}:topic/shop/abcd-4/returns")),
            ("kafka-cluster:DescribeGroup", &format!("{arn}:group/shop/abcd-4/billing")),
        ]);
        assert_eq!(statements(json!({ "cluster_arn": ARN, "sasl": "msk-iam" })), with_iam);
        assert_eq!(statements(json!({ "cluster_arn": ARN })), with_iam[..1]);
        let by_name = statements(json!({ "bootstrap_servers": "b-1.example:9098", "sasl": "msk-iam" }));
        let arn = "arn:aws:kafka:us-east-1:999999999999";
        let wide = pairs(&[
            ("kafka-cluster:Connect", &format!("{arn}:cluster/*/*")),
            ("kafka-cluster:DescribeTopic", &format!("{arn}:topic/*/*/orders {arn}:topic/*/*/returns")),
            ("kafka-cluster:DescribeGroup", &format!("{arn}:group/*/*/billing")),
        ]);
        assert_eq!(by_name, wide);
        assert_eq!(statements(json!({ "bootstrap_servers": "b.example:9092" })), []);
    }
}
