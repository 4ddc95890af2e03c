//! Whether Application Auto Scaling sets the same desired count.
//!
//! A service has a scalable target if Application Auto Scaling scales it, and may then change its count at any time:
//! <https://docs.aws.amazon.com/autoscaling/application/APIReference/API_DescribeScalableTargets.html>. What cannot be
//! found out is a warning and never an error, since most services have none and the count can be read without it.

use std::collections::HashMap;

use aws_sdk_applicationautoscaling::Client;
use aws_sdk_applicationautoscaling::config::Builder;
use aws_sdk_applicationautoscaling::config::retry::RetryConfig;
use aws_sdk_applicationautoscaling::types::{ScalableDimension, ScalableTarget, ServiceNamespace};
use futures_util::future::join_all;

use super::settings::{Settings, leaf};
use crate::aws::{AnswerLimit, ScaledAlone, failure};
use crate::core::TargetStatus;
use crate::shared::Shared;

/// DescribeScalableTargets takes at most fifty resources a call, and answers at most fifty a page.
const SERVICES_PER_CALL: usize = 50;

/// Asks Application Auto Scaling about the services of one cluster.
#[derive(Debug)]
pub(super) struct AutoScaling {
    client: Client,
    known: ScaledAlone,
    /// What makes a service's name unique in this process.
    place: String,
    cluster: String,
    allowed: bool,
}

/// What is known of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Finding {
    other_scaler: Option<String>,
    warnings: Vec<String>,
}

impl Finding {
    pub(super) fn add_to(self, status: TargetStatus) -> TargetStatus {
        let warnings = [status.warnings, self.warnings].concat();
        TargetStatus { other_scaler: self.other_scaler, warnings, ..status }
    }
}

impl AutoScaling {
    pub(super) fn new(settings: &Settings, shared: &Shared) -> Self {
        let region = settings.locate(&shared.region).region;
        let sdk = shared.aws.sdk(&region);
        // One attempt of at most two seconds, see `aws`: nothing waits longer for what is only a warning.
        let config = Builder::from(&sdk).interceptor(AnswerLimit).retry_config(RetryConfig::disabled()).build();
        let cluster = settings.cluster_of_calls();
        Self {
            client: Client::from_conf(config),
            known: shared.aws.scaled_alone().clone(),
            place: format!("{region}/{cluster}"),
            cluster: leaf(&cluster).to_owned(),
            allowed: settings.allow_application_auto_scaling,
        }
    }

    /// Returns what is known of each service, in the order asked. A scalable target that was found is asked for each time,
    /// so that removing it takes effect at once.
    pub(super) async fn find(&self, services: &[String]) -> Vec<Finding> {
        let known: Vec<_> = services.iter().map(|service| self.known.get(&self.key(service))).collect();
        let unknown: Vec<_> = services
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none())
            .map(|(service, _)| service.as_str())
            .collect();
        let asked = join_all(unknown.chunks(SERVICES_PER_CALL).map(|chunk| self.ask(chunk))).await;
        let asked: HashMap<_, _> = unknown.into_iter().zip(asked.into_iter().flatten()).collect();
        let finding = |(service, known): (&String, Option<Vec<String>>)| match known {
            Some(warnings) => Finding { other_scaler: None, warnings },
            None => asked.get(service.as_str()).cloned().unwrap_or_default(),
        };
        services.iter().zip(known).map(finding).collect()
    }

    fn key(&self, service: &str) -> String {
        format!("{}/{}", self.place, leaf(service))
    }

    async fn ask(&self, services: &[&str]) -> Vec<Finding> {
        let id = |service: &str| format!("service/{}/{}", self.cluster, leaf(service));
        let request = self
            .client
            .describe_scalable_targets()
            .service_namespace(ServiceNamespace::Ecs)
            .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
            .set_resource_ids(Some(services.iter().map(|service| id(service)).collect()));
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                let error = failure("application-autoscaling:DescribeScalableTargets", String::new(), error);
                return services.iter().map(|service| self.unread(service, &error.to_string())).collect();
            }
        };
        let targets = answer.scalable_targets.as_deref();
        let found = |service: &&str| match targets {
            Some(targets) => match targets.iter().find(|target| target.resource_id() == id(service)) {
                Some(target) => self.described(target),
                None if answer.next_token.is_some() => self.unread(service, "the answer has more than one page"),
                None => self.alone(service, Vec::new()),
            },
            None => self.unread(service, "the answer has no ScalableTargets"),
        };
        services.iter().map(found).collect()
    }

    fn unread(&self, service: &str, why: &str) -> Finding {
        let action = "application-autoscaling:DescribeScalableTargets";
        self.alone(service, vec![format!("{action} does not tell whether another autoscaler sets the count: {why}")])
    }

    fn alone(&self, service: &str, warnings: Vec<String>) -> Finding {
        self.known.put(self.key(service), warnings.clone());
        Finding { other_scaler: None, warnings }
    }

    fn described(&self, target: &ScalableTarget) -> Finding {
        let (min, max) = (target.min_capacity(), target.max_capacity());
        let name = format!("Application Auto Scaling (min {min}, max {max})");
        let warning = |text: &str| Finding { other_scaler: None, warnings: vec![format!("{name} {text}")] };
        match (is_suspended(target), self.allowed) {
            (true, _) => warning("has this service as a scalable target, and its scaling is suspended"),
            (false, true) => warning("scales this service too, which allow_application_auto_scaling allows"),
            (false, false) => Finding { other_scaler: Some(name), warnings: Vec::new() },
        }
    }
}

/// Whether nothing scales the target: policies neither in nor out, and no schedule.
/// <https://docs.aws.amazon.com/autoscaling/application/APIReference/API_SuspendedState.html>
fn is_suspended(target: &ScalableTarget) -> bool {
    target.suspended_state().is_some_and(|state| {
        [
            state.dynamic_scaling_in_suspended(),
            state.dynamic_scaling_out_suspended(),
            state.scheduled_scaling_suspended(),
        ]
        .iter()
        .all(|suspended| *suspended == Some(true))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::super::tests::{played, status};
    use super::*;
    use crate::wire::{Reply, Request, Scene, Wire};

    /// No service has a scalable target. The form is that of botocore 1.43.106's service-2.json.
    pub(in super::super) fn reply(scene: Scene) -> Reply {
        match scene {
            Scene::Denied => Reply::aws_error(400, "AccessDeniedException", "User is not authorized"),
            Scene::Throttled => Reply::aws_error(400, "ThrottlingException", "Rate exceeded"),
            _ => Reply::aws_json(200, &json!({ "ScalableTargets": [] })),
        }
    }

    fn target(suspended: [bool; 3]) -> Value {
        json!({
            "ServiceNamespace": "ecs", "ResourceId": "service/prod/orders",
            "ScalableDimension": "ecs:service:DesiredCount", "MinCapacity": 1, "MaxCapacity": 10,
            "RoleARN": "arn:aws:iam::123456789012:role/autoscaling", "CreationTime": 1_795_320_000.5,
            "SuspendedState": {
                "DynamicScalingInSuspended": suspended[0], "DynamicScalingOutSuspended": suspended[1],
                "ScheduledScalingSuspended": suspended[2],
            },
        })
    }

    /// What each request for statuses is answered: all services that were asked for, and this for their scaling.
    fn answer(request: &Request, scaling: Reply) -> Reply {
        if request.action() == "AnyScaleFrontendService.DescribeScalableTargets" {
            return scaling;
        }
        let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let names = asked["services"].as_array().cloned().unwrap_or_default();
        if 10 < names.len() {
            return Reply::aws_error(400, "InvalidParameterException", "services can have at most 10 items");
        }
        let service = |name: &Value| {
            json!({
                "serviceArn": format!("arn:aws:ecs:us-east-1:123456789012:service/prod/{}", name.as_str().unwrap_or_default()),
                "status": "ACTIVE", "desiredCount": 5, "runningCount": 5, "pendingCount": 0,
                "deployments": [{ "status": "PRIMARY" }], "tags": [],
            })
        };
        Reply::aws_json(200, &json!({ "services": names.iter().map(service).collect::<Vec<_>>() }))
    }

    fn none(_: Scene, request: &Request) -> Reply {
        answer(request, reply(Scene::Amount(0)))
    }

    fn found(_: Scene, request: &Request) -> Reply {
        answer(request, Reply::aws_json(200, &json!({ "ScalableTargets": [target([true, true, false])] })))
    }

    fn suspended(_: Scene, request: &Request) -> Reply {
        answer(request, Reply::aws_json(200, &json!({ "ScalableTargets": [target([true; 3])] })))
    }

    fn asked(wire: &Wire) -> usize {
        wire.requests().iter().filter(|request| request.action().ends_with("DescribeScalableTargets")).count()
    }

    #[tokio::test]
    async fn a_scalable_target_is_another_scaler_until_it_is_removed() {
        let (wire, target) = played(found, json!({})).await;
        for tick in 1..=2 {
            let status = status(target.as_ref()).await;
            assert_eq!(status.other_scaler.as_deref(), Some("Application Auto Scaling (min 1, max 10)"));
            assert_eq!(asked(&wire), tick, "what was found is asked for again");
        }
    }

    #[tokio::test]
    async fn a_scalable_target_that_is_allowed_or_suspended_is_a_warning() {
        let allowed = json!({ "allow_application_auto_scaling": true });
        for (reply, more) in [(found as fn(Scene, &Request) -> Reply, allowed), (suspended, json!({}))] {
            let (_wire, target) = played(reply, more).await;
            let status = status(target.as_ref()).await;
            assert_eq!((status.other_scaler, status.warnings.len()), (None, 1));
            assert!(
                status.warnings[0].starts_with("Application Auto Scaling (min 1, max 10)"),
                "{:?}",
                status.warnings
            );
        }
    }

    #[tokio::test]
    async fn fifty_services_cost_one_call_in_five_minutes() {
        let (wire, target) = played(none, json!({})).await;
        let names: Vec<_> = (0..50).map(|number| format!("service-{number}")).collect();
        for _ in 0..3 {
            let statuses = target.statuses(&names).await;
            assert!(
                statuses.iter().flatten().all(|status| status.warnings.is_empty() && status.other_scaler.is_none())
            );
            assert_eq!((statuses.len(), asked(&wire)), (50, 1));
        }
        assert_eq!(target.statuses(&["one-more".to_owned()]).await.len(), 1);
        assert_eq!(asked(&wire), 2, "another service was not asked about yet");
    }

    #[tokio::test]
    async fn statuses_of_many_services_are_asked_for_ten_at_a_time() {
        let (wire, target) = played(none, json!({})).await;
        let names: Vec<_> = (0..101).map(|number| format!("service-{number}")).collect();
        let statuses = target.statuses(&names).await;
        assert_eq!(statuses.iter().filter(|status| status.is_ok()).count(), 101);
        assert_eq!((wire.requests().len() - asked(&wire), asked(&wire)), (11, 3));
    }

    #[tokio::test]
    async fn what_cannot_be_found_out_is_a_warning_that_names_the_action_and_never_an_error() {
        fn denied(_: Scene, request: &Request) -> Reply {
            answer(request, reply(Scene::Denied))
        }
        fn throttled(_: Scene, request: &Request) -> Reply {
            answer(request, reply(Scene::Throttled))
        }
        fn broken(_: Scene, request: &Request) -> Reply {
            answer(request, Reply::new(500, "<html>oops</html>"))
        }
        fn nonsense(_: Scene, request: &Request) -> Reply {
            answer(request, Reply::new(200, "<html>oops</html>"))
        }
        fn empty(_: Scene, request: &Request) -> Reply {
            answer(request, Reply::aws_json(200, &json!({})))
        }
        fn paged(_: Scene, request: &Request) -> Reply {
            answer(request, Reply::aws_json(200, &json!({ "ScalableTargets": [], "NextToken": "more" })))
        }
        for reply in [denied, throttled, broken, nonsense, empty, paged] {
            let (wire, target) = played(reply, json!({})).await;
            for _ in 0..2 {
                let status = status(target.as_ref()).await;
                assert_eq!((status.desired, status.other_scaler, status.warnings.len()), (5, None, 1));
                let warning = &status.warnings[0];
                assert!(warning.contains("application-autoscaling:DescribeScalableTargets"), "{warning}");
                assert_eq!(asked(&wire), 1, "it is asked once, and said each time");
            }
        }
    }

    #[tokio::test]
    async fn an_answer_that_never_comes_is_a_warning_once_its_only_attempt_is_over() {
        let silent = Wire::play(Scene::Silent, none).await;
        let (_wire, target) = played(none, json!({})).await;
        let settings = crate::adapter::parse(&json!({ "cluster": "prod", "service": "orders" })).expect("valid");
        let scaling = AutoScaling::new(&settings, &Shared::for_wire(&silent.endpoint));
        let names = ["orders".to_owned()];
        let both = async { futures_util::join!(target.statuses(&names), scaling.find(&names)) };
        let (statuses, findings) = tokio::time::timeout(Duration::from_secs(4), both).await.expect("it ends");
        assert!(statuses[0].is_ok());
        assert!(findings[0].warnings[0].contains("in time"), "{findings:?}");
    }
}
