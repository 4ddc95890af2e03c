use serde_json::json;

use super::*;
use crate::wire::{Contract, Reply, Request, Scene, Wire};

pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

fn settings(_endpoint: &str) -> Value {
    json!({ "group": "workers" })
}

fn xml(action: &str, result: &str) -> Reply {
    let body = format!(
        "<{action}Response xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">{result}\
         <ResponseMetadata><RequestId>7c6e177f-f082-11e1-ac58-3714bEXAMPLE</RequestId></ResponseMetadata></{action}Response>"
    );
    Reply::new(200, body).header("content-type", "text/xml")
}

/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/CommonErrors.html>
fn error(status: u16, code: &str, message: &str) -> Reply {
    let body = format!(
        "<ErrorResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error><RequestId>7c6e177f</RequestId></ErrorResponse>"
    );
    Reply::new(status, body).header("content-type", "text/xml")
}

/// The form of the first example of
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DescribeAutoScalingGroups.html>.
fn group(name: &str, desired: &str, instances: &str, more: &str) -> String {
    format!(
        "<member><AutoScalingGroupName>{name}</AutoScalingGroupName>\
         <AutoScalingGroupARN>arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:12345678-1234:autoScalingGroupName/{name}</AutoScalingGroupARN>\
         <MinSize>0</MinSize><MaxSize>300</MaxSize>{desired}<DefaultCooldown>300</DefaultCooldown>\
         <AvailabilityZones><member>us-east-1a</member></AvailabilityZones><LoadBalancerNames/>\
         <HealthCheckType>EC2</HealthCheckType><HealthCheckGracePeriod>300</HealthCheckGracePeriod>\
         <Instances>{instances}</Instances><SuspendedProcesses/><EnabledMetrics/>\
         <CreatedTime>2026-01-01T00:00:00.000Z</CreatedTime><TerminationPolicies><member>Default</member></TerminationPolicies>\
         <Tags/>{more}</member>"
    )
}

fn described(members: &str) -> Reply {
    let result = format!(
        "<DescribeAutoScalingGroupsResult><AutoScalingGroups>{members}</AutoScalingGroups></DescribeAutoScalingGroupsResult>"
    );
    xml("DescribeAutoScalingGroups", &result)
}

fn workers(desired: u64) -> Reply {
    described(&group("workers", &format!("<DesiredCapacity>{desired}</DesiredCapacity>"), "", ""))
}

fn instances(protected: &str, number: u64) -> String {
    let one = format!(
        "<member><InstanceId>i-0598c7d356eba48d7</InstanceId><AvailabilityZone>us-east-1a</AvailabilityZone>\
         <LifecycleState>InService</LifecycleState><HealthStatus>Healthy</HealthStatus>\
         <ProtectedFromScaleIn>{protected}</ProtectedFromScaleIn></member>"
    );
    one.repeat(usize::try_from(number).expect("a small number"))
}

fn refreshes(status: &str) -> Reply {
    let refresh = format!(
        "<member><InstanceRefreshId>08b91cf7</InstanceRefreshId><AutoScalingGroupName>workers</AutoScalingGroupName>\
         {status}</member>"
    );
    let refresh = if status.is_empty() { "" } else { &refresh };
    let result = format!(
        "<DescribeInstanceRefreshesResult><InstanceRefreshes>{refresh}</InstanceRefreshes></DescribeInstanceRefreshesResult>"
    );
    xml("DescribeInstanceRefreshes", &result)
}

fn policies(members: &str) -> Reply {
    let result =
        format!("<DescribePoliciesResult><ScalingPolicies>{members}</ScalingPolicies></DescribePoliciesResult>");
    xml("DescribePolicies", &result)
}

fn parameter(request: &Request, name: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(&request.body);
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn action(request: &Request) -> String {
    parameter(request, "Action").unwrap_or_default()
}

fn reply(scene: Scene, request: &Request) -> Reply {
    match action(request).as_str() {
        "DescribeAutoScalingGroups" => groups(scene, parameter(request, "NextToken")),
        "DescribeInstanceRefreshes" => match scene {
            Scene::RollingOut => refreshes("<Status>InProgress</Status>"),
            _ => refreshes(""),
        },
        "DescribePolicies" => policies(""),
        _ => match scene {
            Scene::Locked => error(
                400,
                "ScalingActivityInProgress",
                "Scaling activity 0ea5f0da is in progress and blocks this action",
            ),
            Scene::Denied => {
                error(403, "AccessDenied", "User is not authorized to perform: autoscaling:SetDesiredCapacity")
            }
            _ => xml("SetDesiredCapacity", ""),
        },
    }
}

fn groups(scene: Scene, token: Option<String>) -> Reply {
    match scene {
        Scene::Amount(desired) => workers(desired),
        // SetDesiredCapacity answers no count.
        Scene::Other(_) => Reply::none(),
        Scene::RollingOut | Scene::Locked => workers(4),
        Scene::Protected(number) => match token {
            // The group comes on the second page.
            None => xml(
                "DescribeAutoScalingGroups",
                "<DescribeAutoScalingGroupsResult><AutoScalingGroups/><NextToken>more</NextToken></DescribeAutoScalingGroupsResult>",
            ),
            Some(_) => {
                let all = [instances("true", number), instances("false", 3)].concat();
                described(&group("workers", "<DesiredCapacity>5</DesiredCapacity>", &all, ""))
            }
        },
        Scene::Unscalable => {
            let operator = "<Operator><Principal>eks.amazonaws.com</Principal></Operator>";
            described(&group("workers", "<DesiredCapacity>5</DesiredCapacity>", "", operator))
        }
        Scene::Draining => {
            let status = "<Status>Delete in progress</Status>";
            described(&group("workers", "<DesiredCapacity>5</DesiredCapacity>", "", status))
        }
        Scene::NotFound => described(""),
        Scene::Malformed => Reply::new(200, "<html>oops</html>"),
        Scene::Missing => described(&group("workers", "", "", "")),
        Scene::Denied => {
            error(403, "AccessDenied", "User is not authorized to perform: autoscaling:DescribeAutoScalingGroups")
        }
        Scene::Throttled => error(400, "Throttling", "Rate exceeded"),
        other => panic!("{other:?} is not a scene of a target"),
    }
}

async fn played(scene: Scene, reply: fn(Scene, &Request) -> Reply, more: Value) -> (Wire, Box<dyn Target>) {
    let wire = Wire::play(scene, reply).await;
    let mut settings = settings("");
    settings.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    let target = build(&settings, &Shared::for_wire(&wire.endpoint)).expect("settings are valid");
    (wire, target)
}

async fn status(target: &dyn Target) -> Result<TargetStatus> {
    target.statuses(&["workers".to_owned()]).await.pop().expect("one answer for each group")
}

fn asked(wire: &Wire, name: &str) -> Vec<Request> {
    wire.requests().into_iter().filter(|request| action(request) == name).collect()
}

#[tokio::test]
async fn a_scale_sets_the_desired_capacity_and_nothing_else() {
    let (wire, target) = played(Scene::Amount(4), reply, json!({})).await;
    assert_eq!(target.set_desired("workers", 7).await.expect("it can be set"), Applied::Set);
    let sent = wire.requests().pop().expect("it was sent");
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&sent.body).into_owned().collect();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        form,
        [
            pair("Action", "SetDesiredCapacity"),
            pair("Version", "2011-01-01"),
            pair("AutoScalingGroupName", "workers"),
            pair("DesiredCapacity", "7"),
            pair("HonorCooldown", "false"),
        ]
    );
}

#[tokio::test]
async fn what_is_there_already_or_outside_the_groups_sizes_is_not_sent() {
    let (wire, target) = played(Scene::Amount(4), reply, json!({})).await;
    assert_eq!(target.set_desired("workers", 4).await.expect("it is there"), Applied::AlreadyThere);
    let error = target.set_desired("workers", 301).await.expect_err("MaxSize is 300");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("0 to 300"), "{error}");
    assert!(asked(&wire, "SetDesiredCapacity").is_empty());
}

#[tokio::test]
async fn resource_contention_is_a_lock_and_a_validation_error_a_refusal() {
    fn contention(scene: Scene, request: &Request) -> Reply {
        match action(request).as_str() {
            "SetDesiredCapacity" => error(500, "ResourceContention", "You already have a pending update"),
            _ => reply(scene, request),
        }
    }
    fn invalid(scene: Scene, request: &Request) -> Reply {
        match action(request).as_str() {
            "SetDesiredCapacity" => error(
                400,
                "ValidationError",
                "New SetDesiredCapacity value 7 is above max value 6 for the AutoScalingGroup.",
            ),
            _ => reply(scene, request),
        }
    }
    for (reply, kind) in
        [(contention as fn(Scene, &Request) -> Reply, ErrorKind::Locked), (invalid, ErrorKind::Refused)]
    {
        let (_wire, target) = played(Scene::Amount(4), reply, json!({})).await;
        assert_eq!(target.set_desired("workers", 7).await.expect_err("it cannot be set").kind(), kind);
    }
}

#[tokio::test]
async fn a_refresh_that_may_be_under_way_is_a_rollout() {
    fn with(scene: Scene, request: &Request, refresh: Reply) -> Reply {
        if action(request) == "DescribeInstanceRefreshes" { refresh } else { reply(scene, request) }
    }
    type Replies = fn(Scene, &Request) -> Reply;
    let cases: [(Replies, bool, usize); 7] = [
        (|scene, request| with(scene, request, refreshes("<Status>Successful</Status>")), false, 0),
        (|scene, request| with(scene, request, refreshes("<Status>Cancelled</Status>")), false, 0),
        (|scene, request| with(scene, request, refreshes("<Status>Baking</Status>")), true, 0),
        (|scene, request| with(scene, request, refreshes("<Status>AStatusOf2030</Status>")), true, 0),
        (|scene, request| with(scene, request, refreshes("<PercentageComplete>1</PercentageComplete>")), true, 1),
        (|scene, request| with(scene, request, error(403, "AccessDenied", "not authorized")), true, 1),
        (|scene, request| with(scene, request, xml("DescribeInstanceRefreshes", "")), true, 1),
    ];
    for (number, (reply, holds, warnings)) in cases.into_iter().enumerate() {
        let (_wire, target) = played(Scene::Amount(4), reply, json!({})).await;
        let status = status(target.as_ref()).await.expect("the count is known");
        assert_eq!((status.rolling_out, status.warnings.len()), (holds, warnings), "{number}: {:?}", status.warnings);
        assert!(status.warnings.iter().all(|text| text.contains("autoscaling:DescribeInstanceRefreshes")));
    }
}

#[tokio::test]
async fn scaling_policies_that_act_are_another_scaler() {
    fn with(scene: Scene, request: &Request, policy: &str) -> Reply {
        let policy = format!("<member><PolicyName>cpu50</PolicyName>{policy}<Alarms/></member>");
        if action(request) == "DescribePolicies" { policies(&policy) } else { reply(scene, request) }
    }
    type Replies = fn(Scene, &Request) -> Reply;
    let forecast = |scene, request: &Request| {
        with(
            scene,
            request,
            "<PolicyType>PredictiveScaling</PolicyType><PredictiveScalingConfiguration><MetricSpecifications/><Mode>ForecastOnly</Mode></PredictiveScalingConfiguration>",
        )
    };
    let cases: [(Replies, Value, bool, usize); 4] = [
        (
            |scene, request| {
                with(scene, request, "<PolicyType>TargetTrackingScaling</PolicyType><Enabled>true</Enabled>")
            },
            json!({}),
            true,
            0,
        ),
        (|scene, request| with(scene, request, ""), json!({ "allow_scaling_policies": true }), false, 1),
        (|scene, request| with(scene, request, "<Enabled>false</Enabled>"), json!({}), false, 0),
        (forecast, json!({}), false, 0),
    ];
    for (number, (reply, more, found, warnings)) in cases.into_iter().enumerate() {
        let (wire, target) = played(Scene::Amount(4), reply, more).await;
        for _ in 0..2 {
            let status = status(target.as_ref()).await.expect("the count is known");
            assert_eq!((status.other_scaler.is_some(), status.warnings.len()), (found, warnings), "{number}");
        }
        // Only what was not found is remembered.
        assert_eq!(asked(&wire, "DescribePolicies").len(), 1 + found.max(warnings == 1) as usize, "{number}");
    }
}

#[tokio::test]
async fn policies_that_cannot_be_read_are_a_warning_and_suspended_ones_no_scaler() {
    fn denied(scene: Scene, request: &Request) -> Reply {
        if action(request) == "DescribePolicies" { error(403, "AccessDenied", "no") } else { reply(scene, request) }
    }
    fn suspended(scene: Scene, request: &Request) -> Reply {
        let process =
            "<SuspendedProcesses><member><ProcessName>AlarmNotification</ProcessName></member></SuspendedProcesses>";
        match action(request).as_str() {
            "DescribePolicies" => policies("<member><PolicyName>cpu50</PolicyName></member>"),
            "DescribeAutoScalingGroups" => {
                let group = group("workers", "<DesiredCapacity>4</DesiredCapacity>", "", "");
                described(&group.replace("<SuspendedProcesses/>", process))
            }
            _ => reply(scene, request),
        }
    }
    for (reply, says) in [
        (denied as fn(Scene, &Request) -> Reply, "autoscaling:DescribePolicies"),
        (suspended, "AlarmNotification is suspended"),
    ] {
        let (_wire, target) = played(Scene::Amount(4), reply, json!({})).await;
        let status = status(target.as_ref()).await.expect("the count is known");
        assert_eq!(status.other_scaler, None);
        assert!(status.warnings.len() == 1 && status.warnings[0].contains(says), "{:?}", status.warnings);
    }
}

#[tokio::test]
async fn discovery_gives_complete_settings_sorted_from_all_pages() {
    fn two_pages(_: Scene, request: &Request) -> Reply {
        assert_eq!(parameter(request, "Filters.member.1.Name").as_deref(), Some("tag:team"));
        assert_eq!(parameter(request, "Filters.member.1.Values.member.1").as_deref(), Some("blue"));
        let groups =
            |names: [&str; 2]| names.map(|name| group(name, "<DesiredCapacity>1</DesiredCapacity>", "", "")).concat();
        match parameter(request, "NextToken").as_deref() {
            None => {
                let groups = groups(["workers-b", "web"]);
                xml(
                    "DescribeAutoScalingGroups",
                    &format!(
                        "<DescribeAutoScalingGroupsResult><AutoScalingGroups>{groups}</AutoScalingGroups><NextToken>more</NextToken></DescribeAutoScalingGroupsResult>"
                    ),
                )
            }
            Some(_) => described(&groups(["workers-a", "workers-b"])),
        }
    }
    let more = json!({ "group": "workers-*", "tag": "team=blue", "follow_labels": true });
    let (_wire, target) = played(Scene::Amount(1), two_pages, more).await;
    let found = target.discover().await.expect("they can be listed");
    let one = |name: &str| json!({ "group": name, "follow_labels": true });
    assert_eq!(found, [one("workers-a"), one("workers-b")]);
    assert!(found.iter().all(|settings| check(settings).is_empty()));
}

#[tokio::test]
async fn ten_groups_cost_one_call() {
    fn many(scene: Scene, request: &Request) -> Reply {
        if action(request) != "DescribeAutoScalingGroups" {
            return reply(scene, request);
        }
        let names = (1..=10).filter_map(|number| parameter(request, &format!("AutoScalingGroupNames.member.{number}")));
        described(&names.map(|name| group(&name, "<DesiredCapacity>1</DesiredCapacity>", "", "")).collect::<String>())
    }
    let (wire, target) = played(Scene::Amount(1), many, json!({})).await;
    let names: Vec<_> = (0..25).map(|number| format!("group-{number}")).collect();
    assert!(target.statuses(&names).await.iter().all(Result::is_ok));
    assert_eq!(asked(&wire, "DescribeAutoScalingGroups").len(), 3);
}

#[tokio::test]
async fn a_pattern_of_many_stars_is_matched_at_once() {
    fn one(_: Scene, _: &Request) -> Reply {
        described(&group(&"a".repeat(200), "<DesiredCapacity>1</DesiredCapacity>", "", ""))
    }
    for (pattern, expected) in [("*a".repeat(30) + "b", 0), ("*a".repeat(30) + "*", 1)] {
        let (_wire, target) = played(Scene::Amount(1), one, json!({ "group": pattern })).await;
        assert_eq!(target.discover().await.expect("they can be listed").len(), expected, "{pattern}");
    }
}
