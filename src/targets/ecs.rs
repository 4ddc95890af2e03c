//! Amazon ECS services, by their desired count.
//!
//! Reads [DescribeServices](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServices.html), ten
//! services a call, and sets [UpdateService](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html)
//! `desiredCount` and nothing else, which starts no deployment.
//!
//! The service's own tag `tidegate:pause` pauses it: `in`, `out`, `both` or a number of tasks.

mod autoscaling;
mod discover;
mod protection;
mod settings;

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_ecs::Client;
use aws_sdk_ecs::config::retry::RetryConfig;
use aws_sdk_ecs::operation::describe_services::DescribeServicesOutput;
use aws_sdk_ecs::types::{DeploymentRolloutState, SchedulingStrategy, Service, ServiceField};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use futures_util::future::join_all;
use serde_json::Value;

use self::autoscaling::AutoScaling;
use self::discover::Search;
use self::settings::{Settings, TaskProtection, check, identities, leaf, permissions};
use super::labels::Labels;
use super::{Applied, Target};
use crate::adapter::{Kind, parse, schema_of};
use crate::aws::{AnswerLimit, failure};
use crate::core::{Asked, Held, Pause, TargetStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::shared::Shared;

/// DescribeServices takes at most ten services a call.
const SERVICES_PER_CALL: usize = 10;

/// The tag that pauses a service.
const PAUSE_TAG: &str = "tidegate:pause";

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

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Target>> {
    let (given, settings) = (settings.clone(), parse::<Settings>(settings)?);
    let sdk = shared.aws.sdk(&settings.locate(&shared.region).region);
    let config = aws_sdk_ecs::config::Builder::from(&sdk).interceptor(AnswerLimit).interceptor(AllIsThere).build();
    Ok(Box::new(Ecs {
        client: Client::from_conf(config),
        auto_scaling: AutoScaling::new(&settings, shared),
        cluster: settings.cluster_of_calls(),
        asked_with: format!(
            "{} {:?} {}",
            settings.allow_application_auto_scaling, settings.task_protection, settings.follow_labels
        ),
        follow_labels: settings.follow_labels,
        search: Search { pattern: settings.service.clone(), tag: settings.tag.clone() },
        given,
        task_protection: settings.task_protection,
    }))
}

#[derive(Debug)]
struct Ecs {
    client: Client,
    auto_scaling: AutoScaling,
    cluster: String,
    asked_with: String,
    task_protection: TaskProtection,
    follow_labels: bool,
    search: Search,
    /// The settings, for those of what is found.
    given: Value,
}

/// Refuses answers in which a service lacks a count, or a task its protection: the SDK would read what is not there as 0
/// and false.
#[derive(Debug)]
struct AllIsThere;

#[dyn_dispatch_hint]
impl Intercept for AllIsThere {
    fn name(&self) -> &'static str {
        "AllIsThere"
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
        for task in answer["protectedTasks"].as_array().into_iter().flatten() {
            if !task["protectionEnabled"].is_boolean() {
                return Err("a task has no protectionEnabled".into());
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Target for Ecs {
    async fn statuses(&self, services: &[String]) -> Vec<Result<TargetStatus>> {
        let described = join_all(services.chunks(SERVICES_PER_CALL).map(|chunk| self.describe(chunk)));
        let (described, findings) = futures_util::join!(described, self.auto_scaling.find(services));
        let add = |(status, finding): (Result<TargetStatus>, autoscaling::Finding)| Ok(finding.add_to(status?));
        described.into_iter().flatten().zip(findings).map(add).collect()
    }

    fn asked_with(&self) -> &str {
        &self.asked_with
    }

    async fn protected(&self, services: &[String]) -> Vec<Result<Option<u32>>> {
        if self.task_protection == TaskProtection::Ignore {
            return services.iter().map(|_| Ok(None)).collect();
        }
        let count = |service| protection::count(&self.client, &self.cluster, service);
        join_all(services.iter().map(|service| count(service))).await
    }

    async fn discover(&self) -> Result<Vec<Value>> {
        let names = self.search.find(&self.client, &self.cluster).await?;
        let named = |name: String| {
            let mut settings = self.given.clone();
            settings.as_object_mut().map(|settings| settings.remove("tag"));
            settings["service"] = name.into();
            settings
        };
        Ok(names.into_iter().map(named).collect())
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
        let request = self.client.describe_services().cluster(&self.cluster).include(ServiceField::Tags);
        match request.set_services(Some(names.to_vec())).send().await {
            Ok(answer) => names.iter().map(|name| status_in(&answer, name, self.follow_labels)).collect(),
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
fn status_in(answer: &DescribeServicesOutput, name: &str, follow_labels: bool) -> Result<TargetStatus> {
    let is_it = |arn: Option<&str>| arn.is_some_and(|arn| leaf(arn) == leaf(name));
    if let Some(service) = answer.services().iter().find(|service| is_it(service.service_arn())) {
        return status_of(service, name, follow_labels);
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

fn status_of(service: &Service, name: &str, follow_labels: bool) -> Result<TargetStatus> {
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
    let (pause, warning) = pause_of(service);
    let asked = match follow_labels {
        true => Some(bounds_in_tags(service).map_err(|problem| Error::new(ErrorKind::Config, reading(name), problem))?),
        false => None,
    };
    Ok(TargetStatus {
        desired: count(service.desired_count(), "desiredCount")?,
        running: count(service.running_count(), "runningCount")?,
        pending: count(service.pending_count(), "pendingCount")?,
        rolling_out: is_rolling_out(service),
        unfinished: false,
        pause,
        asked,
        other_scaler: None,
        warnings: warning.into_iter().chain(failed_deployment(service)).collect(),
    })
}

/// The bounds that the tags ask for. What pauses is read by itself, whether or not tags are followed.
fn bounds_in_tags(service: &Service) -> Result<Asked, String> {
    let tags = service.tags.as_ref().ok_or("the answer has no tags, so that the bounds in them cannot be seen")?;
    let texts = tags.iter().map(|tag| (tag.key().unwrap_or_default(), tag.value().unwrap_or_default()));
    Ok(Labels::read(texts.filter(|(name, _)| *name != PAUSE_TAG))?.asked)
}

/// Reads the tag that pauses the service, and what is wrong with it. One that says nothing known pauses in both directions:
/// whoever wrote it wanted a pause.
fn pause_of(service: &Service) -> (Option<Pause>, Option<String>) {
    let Some(tags) = &service.tags else {
        return (None, Some(format!("the answer has no tags, so that a pause by {PAUSE_TAG} cannot be seen")));
    };
    let Some(tag) = tags.iter().find(|tag| tag.key() == Some(PAUSE_TAG)) else { return (None, None) };
    match tag.value().unwrap_or_default().parse() {
        Ok(pause) => (Some(pause), None),
        Err(problem) => {
            let warning =
                format!("the tag {PAUSE_TAG} pauses scaling in both directions, since its value is {problem}");
            (Some(Pause::Hold(Held::Both)), Some(warning))
        }
    }
}

/// Whether a deployment is under way, or has failed: then the tasks that are left may be all that work, and nothing says
/// which ones ECS would stop. `rolloutState` exists for the rolling update type alone; where it is absent, more than
/// one deployment or task set says so: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Deployment.html>.
fn is_rolling_out(service: &Service) -> bool {
    let is_open =
        |state: Option<&DeploymentRolloutState>| state.is_some_and(|state| *state != DeploymentRolloutState::Completed);
    // None at all tells nothing, which is no reason to remove tasks.
    service.deployments().len() + service.task_sets().len() != 1
        || service.deployments().iter().any(|deployment| is_open(deployment.rollout_state()))
}

fn failed_deployment(service: &Service) -> Option<String> {
    let has_failed = |state: Option<&DeploymentRolloutState>| state == Some(&DeploymentRolloutState::Failed);
    let failed = service.deployments().iter().any(|deployment| has_failed(deployment.rollout_state()));
    failed.then(|| "a deployment has failed, which holds scale-in until another one is complete".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::{Contract, Reply, Request, Scene, Wire};

    pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

    fn settings(_endpoint: &str) -> Value {
        json!({ "cluster": "prod", "service": "orders" })
    }

    /// The answers' form: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServices.html#API_DescribeServices_Examples>.
    fn reply(scene: Scene, request: &Request) -> Reply {
        match request.action().rsplit('.').next().unwrap_or_default() {
            "DescribeScalableTargets" => autoscaling::tests::reply(scene),
            "ListTasks" => protection::tests::tasks(scene, request),
            "GetTaskProtection" => protection::tests::protection(scene, request),
            action => service_reply(scene, action),
        }
    }

    fn service(desired: u64) -> Value {
        json!({
            "serviceArn": "arn:aws:ecs:us-east-1:123456789012:service/prod/orders", "serviceName": "orders",
            "status": "ACTIVE", "schedulingStrategy": "REPLICA",
            "desiredCount": desired, "runningCount": 1, "pendingCount": 2,
            "deployments": [{ "status": "PRIMARY", "rolloutState": "COMPLETED" }], "tags": [],
        })
    }

    fn service_reply(scene: Scene, action: &str) -> Reply {
        let answer = |service: Value| match action {
            "UpdateService" => Reply::aws_json(200, &json!({ "service": service })),
            _ => Reply::aws_json(200, &json!({ "services": [service], "failures": [] })),
        };
        let changed = |key: &str, value: Value| {
            let mut service = service(5);
            service[key] = value;
            answer(service)
        };
        match scene {
            Scene::Amount(desired) | Scene::Other(desired) => answer(service(desired)),
            Scene::RollingOut => {
                changed("deployments", json!([{ "status": "PRIMARY", "rolloutState": "IN_PROGRESS" }]))
            }
            Scene::Unscalable => changed("schedulingStrategy", json!("DAEMON")),
            Scene::Draining => changed("status", json!("DRAINING")),
            Scene::NotFound if action == "DescribeServices" => {
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
            // ECS has no such answer: ClientException and ServiceNotActiveException are for good.
            Scene::Locked => Reply::none(),
            Scene::Denied => Reply::aws_error(400, "AccessDeniedException", "User is not authorized"),
            Scene::Throttled => Reply::aws_error(400, "ThrottlingException", "Rate exceeded"),
            other => panic!("{other:?} is not a scene of a target"),
        }
    }

    /// A target at a server of its own.
    pub(super) async fn played(reply: fn(Scene, &Request) -> Reply, more: Value) -> (Wire, Box<dyn Target>) {
        played_at(Scene::Amount(5), reply, more).await
    }

    /// The same for a scene.
    pub(super) async fn played_at(
        scene: Scene,
        reply: fn(Scene, &Request) -> Reply,
        more: Value,
    ) -> (Wire, Box<dyn Target>) {
        let wire = Wire::play(scene, reply).await;
        let mut settings = json!({ "cluster": "prod", "service": "orders" });
        settings.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        let target = build(&settings, &Shared::for_wire(&wire.endpoint)).expect("settings are valid");
        (wire, target)
    }

    pub(super) async fn status(target: &dyn Target) -> TargetStatus {
        let mut statuses = target.statuses(&["orders".to_owned()]).await;
        statuses.pop().expect("one answer for each service").expect("it can be read")
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
        assert!(status_in(&answer, "a", false).is_ok());
        assert!(status_in(&answer, "arn:aws:ecs:us-east-1:123456789012:service/prod/b", false).is_ok());
        let error = status_in(&answer, "c", false).expect_err("it is not in the answer");
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
    fn a_failed_deployment_counts_as_one_under_way_and_is_named() {
        use aws_sdk_ecs::types::Deployment;
        let service = |state: &str| {
            let deployment = Deployment::builder().rollout_state(state.into()).build();
            Service::builder().status("ACTIVE").deployments(deployment).set_tags(Some(Vec::new())).build()
        };
        for (state, holds, warnings) in [("COMPLETED", false, 0), ("FAILED", true, 1), ("A_STATE_OF_2030", true, 0)] {
            let status = status_of(&service(state), "orders", false).expect("it can be read");
            assert_eq!((status.rolling_out, status.warnings.len()), (holds, warnings), "{state}");
        }
    }

    fn tagged(value: &str) -> (Option<Pause>, Option<String>) {
        use aws_sdk_ecs::types::Tag;
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        pause_of(&Service::builder().tags(tag("team", "in")).tags(tag(PAUSE_TAG, value)).build())
    }

    #[test]
    fn the_tag_pauses_as_it_says() {
        assert_eq!(tagged("in"), (Some(Pause::Hold(Held::In)), None));
        assert_eq!(tagged("Out"), (Some(Pause::Hold(Held::Out)), None));
        assert_eq!(tagged("both"), (Some(Pause::Hold(Held::Both)), None));
        assert_eq!(tagged("0"), (Some(Pause::At(0)), None));
        assert_eq!(pause_of(&Service::builder().set_tags(Some(Vec::new())).build()), (None, None));
        assert!(pause_of(&Service::builder().build()).1.is_some(), "an answer without tags tells nothing of a pause");
    }

    #[test]
    fn a_tag_that_says_nothing_known_pauses_in_both_directions() {
        for value in ["", "yes", "-1", "5 tasks"] {
            let (pause, warning) = tagged(value);
            assert_eq!(pause, Some(Pause::Hold(Held::Both)), "{value}");
            assert!(warning.is_some_and(|warning| warning.contains("in, out, both")), "{value}");
        }
    }

    #[test]
    fn tags_are_followed_where_the_settings_say_so() {
        use aws_sdk_ecs::types::{Deployment, Tag};
        let tagged = |tags: &[(&str, &str)]| {
            let tags = tags.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build()).collect();
            let deployment = Deployment::builder().rollout_state(DeploymentRolloutState::Completed).build();
            Service::builder().status("ACTIVE").deployments(deployment).set_tags(Some(tags)).build()
        };
        let asked =
            |tags: &[(&str, &str)], follow| status_of(&tagged(tags), "orders", follow).map(|status| status.asked);
        let bounds = [("tidegate:min", "2"), ("tidegate:max", "6"), (PAUSE_TAG, "whenever")];
        assert_eq!(asked(&bounds, false).expect("nothing is asked for"), None);
        assert_eq!(asked(&bounds, true).expect("it is readable"), Some(Asked { min: Some(2), max: Some(6) }));
        assert_eq!(asked(&[], true).expect("it is readable"), Some(Asked::default()));
        let error = asked(&[("tidegate:max", "many")], true).expect_err("it is no number");
        assert_eq!(error.kind(), ErrorKind::Config);
    }

    #[tokio::test]
    async fn the_status_is_asked_for_with_its_tags() {
        fn paused(_: Scene, request: &Request) -> Reply {
            let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            let mut service = service(5);
            if asked["include"] == json!(["TAGS"]) {
                service["tags"] = json!([{ "key": PAUSE_TAG, "value": "out" }]);
            }
            match request.action().ends_with("DescribeServices") {
                true => Reply::aws_json(200, &json!({ "services": [service] })),
                false => autoscaling::tests::reply(Scene::Amount(0)),
            }
        }
        let (_wire, target) = played(paused, json!({})).await;
        assert_eq!(status(target.as_ref()).await.pause, Some(Pause::Hold(Held::Out)));
    }
}
