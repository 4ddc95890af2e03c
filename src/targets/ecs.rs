//! Amazon ECS services, by their desired count.
//!
//! Reads [DescribeServices](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServices.html), ten
//! services a call, and sets [UpdateService](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html)
//! `desiredCount` and nothing else, which starts no deployment.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_ecs::Client;
use aws_sdk_ecs::config::retry::RetryConfig;
use aws_sdk_ecs::operation::describe_services::DescribeServicesOutput;
use aws_sdk_ecs::types::{DeploymentRolloutState, SchedulingStrategy, Service};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Applied, Target};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::aws::{AnswerLimit, account_of, failure, region_of};
use crate::core::TargetStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::iam::{Place, Statement, is_account, is_region};
use crate::shared::Shared;

/// DescribeServices takes at most ten services a call.
const SERVICES_PER_CALL: usize = 10;

pub(super) static KIND: Kind<dyn Target> = Kind {
    name: "ecs",
    aliases: &[],
    about: "Amazon ECS: the desired count of a service.",
    renamed: &[("cluster_name", "cluster"), ("service_name", "service")],
    env: &[],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions,
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// The settings of an `ecs` target.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The cluster, by name or ARN.
    #[schemars(length(min = 1))]
    cluster: String,
    /// The service, by name or ARN.
    #[schemars(length(min = 1))]
    service: String,
    /// The region of a cluster that is given by name; that of an ARN is in it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    region: Option<String>,
}

/// Where a service is: every part that the settings state.
struct Location {
    region: String,
    account: Option<String>,
    cluster: String,
    service: String,
}

impl Settings {
    fn locate(&self, default_region: &str) -> Location {
        let arns = [self.cluster.as_str(), self.service.as_str()];
        let region = arns.iter().find_map(|arn| region_of(arn)).or(self.region.as_deref()).unwrap_or(default_region);
        let account = arns.iter().find_map(|arn| account_of(arn)).map(str::to_owned);
        Location {
            region: region.to_owned(),
            account,
            cluster: leaf(&self.cluster).to_owned(),
            service: leaf(&self.service).to_owned(),
        }
    }

    /// The cluster as calls name it: by ARN where either setting is an ARN, so that what the ARN says of the account holds.
    fn cluster_of_calls(&self) -> String {
        let arn = [&self.cluster, &self.service].into_iter().find(|given| given.starts_with("arn:"));
        match arn.and_then(|arn| arn.rsplit_once(':')) {
            Some((place, _)) => format!("{place}:cluster/{}", leaf(&self.cluster)),
            None => self.cluster.clone(),
        }
    }
}

/// The name at the end of an ARN, or the name itself.
fn leaf(name_or_arn: &str) -> &str {
    name_or_arn.rsplit('/').next().unwrap_or(name_or_arn)
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let problem = |problem: &str, remedy: &str| vec![(problem.to_owned(), remedy.to_owned())];
    let (cluster, service) = (&settings.cluster, &settings.service);
    let parts = |arn: &str| {
        region_of(arn).zip(account_of(arn)).map(|(region, account)| (region.to_owned(), account.to_owned()))
    };
    let is_plain = |given: &str, kind: &str| !given.contains([':', '/']) || is_arn(given, kind);
    if !is_plain(cluster, "cluster") || !is_plain(service, "service") {
        return problem("has a cluster or service that is neither a name nor an ARN of ECS", "give its name or ARN");
    }
    if !settings.region.as_deref().is_none_or(is_region) {
        return problem("has a region that is none", "give one such as eu-west-1");
    }
    if let (Some(one), Some(other)) = (parts(cluster), parts(service))
        && one != other
    {
        return problem(
            "has a cluster and a service of different regions or accounts",
            "give two ARNs that belong together",
        );
    }
    // arn:aws:ecs:REGION:ACCOUNT:service/CLUSTER/SERVICE
    match service.split('/').collect::<Vec<_>>()[..] {
        [_, in_arn, _] if in_arn != leaf(cluster) => problem(
            &format!("has a service of another cluster, {in_arn}"),
            "give the cluster that the service's ARN names",
        ),
        _ if ![cluster, service].iter().all(|name| is_name(leaf(name))) => {
            problem("has a cluster or service whose name ECS cannot have", "give its name or ARN")
        }
        _ => Vec::new(),
    }
}

/// `arn:PARTITION:ecs:REGION:ACCOUNT:cluster/CLUSTER`, `…:service/CLUSTER/SERVICE` or, of old services, `…:service/SERVICE`.
fn is_arn(given: &str, kind: &str) -> bool {
    let ["arn", _, "ecs", region, account, resource] = given.split(':').collect::<Vec<_>>()[..] else { return false };
    let path: Vec<_> = resource.split('/').collect();
    let has_names = if kind == "cluster" { path.len() == 2 } else { (2..=3).contains(&path.len()) };
    path[0] == kind
        && has_names
        && is_account(account)
        && is_region(region)
        && path[1..].iter().all(|name| is_name(name))
}

/// Up to 255 letters, numbers, underscores and hyphens. One ill-formed name would fail the call for all services in it:
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CreateService.html#ECS-CreateService-request-serviceName>.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=255).contains(&name.len()) && name.bytes().all(plain)
}

fn identities(settings: &Value, region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let Location { region, account, cluster, service } = settings.locate(region);
    vec![Identity { provider: KIND.name, region, account, path: vec![cluster, service] }]
}

fn permissions(settings: &Value, place: &Place) -> Result<Vec<Statement>> {
    let Location { region, account, cluster, service } = parse::<Settings>(settings)?.locate(&place.region);
    let account = account.unwrap_or_else(|| place.account.clone());
    let partition = Place::new(&region, &account).partition;
    let arn = format!("arn:{partition}:ecs:{region}:{account}:service/{cluster}/{service}");
    Ok(vec![Statement::allow("ScaleService", &["ecs:DescribeServices", "ecs:UpdateService"], vec![arn])])
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Target>> {
    let settings = parse::<Settings>(settings)?;
    let sdk = shared.aws.sdk(&settings.locate(&shared.region).region);
    let config = aws_sdk_ecs::config::Builder::from(&sdk).interceptor(AnswerLimit).interceptor(CountsAreThere).build();
    Ok(Box::new(Ecs { client: Client::from_conf(config), cluster: settings.cluster_of_calls() }))
}

#[derive(Debug)]
struct Ecs {
    client: Client,
    cluster: String,
}

/// Refuses answers in which a service lacks a count: the SDK would read a count that is not there as 0.
#[derive(Debug)]
struct CountsAreThere;

#[dyn_dispatch_hint]
impl Intercept for CountsAreThere {
    fn name(&self) -> &'static str {
        "CountsAreThere"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if context.output_or_error().is_err() {
            return Ok(());
        }
        // The SDK reads over what it does not look for, even over what is no JSON. What only it can read is refused.
        let body = context.response().body().bytes().unwrap_or_default();
        let answer = serde_json::from_slice::<Value>(body)?;
        let listed = answer["services"].as_array().into_iter().flatten();
        for service in listed.chain(answer.get("service")) {
            for count in ["desiredCount", "runningCount", "pendingCount"] {
                if !service[count].is_i64() {
                    return Err(format!("a service has no {count}").into());
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Target for Ecs {
    async fn statuses(&self, services: &[String]) -> Vec<Result<TargetStatus>> {
        join_all(services.chunks(SERVICES_PER_CALL).map(|chunk| self.describe(chunk)))
            .await
            .into_iter()
            .flatten()
            .collect()
    }

    async fn set_desired(&self, service: &str, desired: u32) -> Result<Applied> {
        let during = || format!("setting desired count of service {service:?} to {desired}");
        let refused = |_| Error::new(ErrorKind::Refused, during(), "ECS takes at most 2147483647");
        let count = i32::try_from(desired).map_err(refused)?;
        let request = self.client.update_service().cluster(&self.cluster).service(service).desired_count(count);
        // Not repeated by the SDK: an attempt whose reply was lost and that is sent again seconds later could undo what
        // another invocation has set in between. The next tick repeats it, if it is still right.
        let once = aws_sdk_ecs::config::Builder::new().retry_config(RetryConfig::disabled());
        let answer = request.customize().config_override(once).send().await;
        let answer = answer.map_err(|error| failure("ecs:UpdateService", during(), error))?;
        match answer.service().map(Service::desired_count) {
            Some(set) if set == count => Ok(Applied::Set),
            Some(other) => Err(Error::new(ErrorKind::Malformed, during(), format!("the answer says {other}"))),
            None => Err(Error::new(ErrorKind::Malformed, during(), "the answer has no service")),
        }
    }
}

impl Ecs {
    async fn describe(&self, names: &[String]) -> Vec<Result<TargetStatus>> {
        let request = self.client.describe_services().cluster(&self.cluster).set_services(Some(names.to_vec()));
        match request.send().await {
            Ok(answer) => names.iter().map(|name| status_in(&answer, name)).collect(),
            Err(error) => {
                // One call, one error: each of its services carries it.
                let error = Arc::new(failure("ecs:DescribeServices", String::new(), error));
                let each =
                    |name: &String| Error::new(error.kind(), reading(name), error.to_string()).caused_by(error.clone());
                names.iter().map(|name| Err(each(name))).collect()
            }
        }
    }
}

fn reading(name: &str) -> String {
    format!("reading status of service {:?}", leaf(name))
}

/// Finds a service in the answer by the name at the end of its ARN: neither the order nor the number is promised.
fn status_in(answer: &DescribeServicesOutput, name: &str) -> Result<TargetStatus> {
    let is_it = |arn: Option<&str>| arn.is_some_and(|arn| leaf(arn) == leaf(name));
    if let Some(service) = answer.services().iter().find(|service| is_it(service.service_arn())) {
        return status_of(service, name);
    }
    match answer.failures().iter().find(|failure| is_it(failure.arn())) {
        Some(failure) if failure.reason() == Some("MISSING") => {
            Err(Error::new(ErrorKind::NotFound, reading(name), "ecs:DescribeServices answered MISSING"))
        }
        Some(failure) => {
            let reason = failure.reason().unwrap_or("without a reason");
            Err(Error::new(ErrorKind::Refused, reading(name), format!("ecs:DescribeServices answered {reason}")))
        }
        None => Err(Error::new(ErrorKind::Malformed, reading(name), "the answer does not mention the service")),
    }
}

fn status_of(service: &Service, name: &str) -> Result<TargetStatus> {
    let refuse = |cause: String| Err(Error::new(ErrorKind::Refused, reading(name), cause));
    if service.scheduling_strategy() == Some(&SchedulingStrategy::Daemon) {
        return refuse(
            "it is a DAEMON service, which runs one task on every instance and has no count to set".to_owned(),
        );
    }
    match service.status() {
        Some("ACTIVE") => {}
        Some(status) => return refuse(format!("its status is {status}, not ACTIVE")),
        None => return Err(Error::new(ErrorKind::Malformed, reading(name), "the answer has no status")),
    }
    let count = |number: i32, what: &str| {
        let malformed = |_| Error::new(ErrorKind::Malformed, reading(name), format!("{what} is {number}"));
        u32::try_from(number).map_err(malformed)
    };
    Ok(TargetStatus {
        desired: count(service.desired_count(), "desiredCount")?,
        running: count(service.running_count(), "runningCount")?,
        pending: count(service.pending_count(), "pendingCount")?,
        rolling_out: is_rolling_out(service),
        ..TargetStatus::default()
    })
}

/// Whether a deployment is under way. `rolloutState` exists for the rolling update type alone; where it is absent, more than
/// one deployment or task set says so: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Deployment.html>.
fn is_rolling_out(service: &Service) -> bool {
    let in_progress = |state: Option<&DeploymentRolloutState>| state == Some(&DeploymentRolloutState::InProgress);
    // None at all tells nothing, which is no reason to remove tasks.
    service.deployments().len() + service.task_sets().len() != 1
        || service.deployments().iter().any(|deployment| in_progress(deployment.rollout_state()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::{Contract, Reply, Request, Scene};

    pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

    fn settings(_endpoint: &str) -> Value {
        json!({ "cluster": "prod", "service": "orders" })
    }

    /// The answers' form: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServices.html#API_DescribeServices_Examples>.
    fn reply(scene: Scene, request: &Request) -> Reply {
        let service = |desired: u64| {
            json!({
                "serviceArn": "arn:aws:ecs:us-east-1:123456789012:service/prod/orders", "serviceName": "orders",
                "status": "ACTIVE", "schedulingStrategy": "REPLICA",
                "desiredCount": desired, "runningCount": 1, "pendingCount": 2,
                "deployments": [{ "status": "PRIMARY", "rolloutState": "COMPLETED" }],
            })
        };
        let answer = |service: Value| match request.action() {
            "AmazonEC2ContainerServiceV20141113.UpdateService" => Reply::aws_json(200, &json!({ "service": service })),
            _ => Reply::aws_json(200, &json!({ "services": [service], "failures": [] })),
        };
        let changed = |key: &str, value: Value| {
            let mut service = service(5);
            service[key] = value;
            answer(service)
        };
        match scene {
            Scene::Amount(desired) => answer(service(desired)),
            Scene::RollingOut => {
                changed("deployments", json!([{ "status": "PRIMARY", "rolloutState": "IN_PROGRESS" }]))
            }
            Scene::Unscalable => changed("schedulingStrategy", json!("DAEMON")),
            Scene::Draining => changed("status", json!("DRAINING")),
            Scene::NotFound if request.action().ends_with("DescribeServices") => {
                let arn = "arn:aws:ecs:us-east-1:123456789012:service/prod/orders";
                Reply::aws_json(200, &json!({ "services": [], "failures": [{ "arn": arn, "reason": "MISSING" }] }))
            }
            Scene::NotFound => Reply::aws_error(400, "ServiceNotFoundException", "Service not found."),
            Scene::Malformed => Reply::aws_json(200, &json!({ "services": [], "failures": [] })),
            Scene::Missing => {
                let mut service = service(5);
                service.as_object_mut().expect("an object").remove("desiredCount");
                answer(service)
            }
            Scene::Denied => Reply::aws_error(400, "AccessDeniedException", "User is not authorized"),
            Scene::Throttled => Reply::aws_error(400, "ThrottlingException", "Rate exceeded"),
            other => panic!("{other:?} is not a scene of a target"),
        }
    }

    fn described(names: &[&str]) -> DescribeServicesOutput {
        let service = |name: &&str| {
            let arn = format!("arn:aws:ecs:us-east-1:123456789012:service/prod/{name}");
            Service::builder().service_arn(arn).service_name(*name).status("ACTIVE").desired_count(3).build()
        };
        DescribeServicesOutput::builder().set_services(Some(names.iter().map(service).collect())).build()
    }

    #[test]
    fn services_are_matched_by_arn_whatever_their_order() {
        let answer = described(&["b", "a"]);
        assert!(status_in(&answer, "a").is_ok());
        assert!(status_in(&answer, "arn:aws:ecs:us-east-1:123456789012:service/prod/b").is_ok());
        let error = status_in(&answer, "c").expect_err("it is not in the answer");
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }

    #[test]
    fn two_deployments_are_a_rollout_even_without_a_rollout_state() {
        use aws_sdk_ecs::types::Deployment;
        let deployment = || Deployment::builder().build();
        let one = Service::builder().deployments(deployment()).build();
        let two = Service::builder().deployments(deployment()).deployments(deployment()).build();
        assert!(!is_rolling_out(&one));
        assert!(is_rolling_out(&two));
        assert!(is_rolling_out(&Service::builder().build()), "nothing is known");
    }

    #[test]
    fn an_arn_of_another_account_is_called_in_that_account() {
        let called = |cluster: &str, service: &str| {
            parse::<Settings>(&json!({ "cluster": cluster, "service": service }))
                .expect("valid settings")
                .cluster_of_calls()
        };
        assert_eq!(called("prod", "orders"), "prod");
        let elsewhere = "arn:aws:ecs:us-east-1:999999999999:cluster/prod";
        assert_eq!(called("prod", "arn:aws:ecs:us-east-1:999999999999:service/prod/orders"), elsewhere);
        assert_eq!(called(elsewhere, "orders"), elsewhere);
    }

    #[test]
    fn cluster_and_service_must_belong_together() {
        let problems = |cluster: &str, service: &str| check(&json!({ "cluster": cluster, "service": service })).len();
        assert_eq!(problems("prod", "orders"), 0);
        assert_eq!(problems("prod", "arn:aws:ecs:us-east-1:123456789012:service/prod/orders"), 0);
        assert_eq!(problems("test", "arn:aws:ecs:us-east-1:123456789012:service/prod/orders"), 1);
        for cluster in [
            "arn:aws:ecs:us-east-1:123456789012:cluster/secret/prod",
            "arn:aws:eks:us-east-1:123456789012:cluster/prod",
            "ARN:aws:ecs:us-east-1:123456789012:cluster/prod",
            "arn:aws:ecs:us-east-1::cluster/prod",
            "arn:aws:ecs:example.com/:123456789012:cluster/prod",
            "secret/prod",
            "*",
        ] {
            assert_eq!(problems(cluster, "orders"), 1, "{cluster}");
        }
        assert_eq!(problems("prod", "orders!"), 1);
        let elsewhere = json!({ "cluster": "prod", "service": "orders", "region": "example.com/" });
        assert_eq!(check(&elsewhere).len(), 1);
        let other_region = "arn:aws:ecs:eu-west-1:123456789012:cluster/prod";
        assert_eq!(problems(other_region, "arn:aws:ecs:us-east-1:123456789012:service/prod/orders"), 1);
    }
}
