//! `ec2_asg`, against two emulators of Auto Scaling, behind a proxy that counts what changes something.

use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::types::{Tag, TargetTrackingConfiguration};
use serde_json::{Value, json};
use tidegate::cli::TargetReading;
use tidegate::error::Error;

use super::aws::{command, is_denied_by_name, queried};
use crate::support::cloud::shapes;
use crate::support::emulator::{REGION, World};
use crate::support::proxy::{Fault, Proxy};
use crate::support::target;

const NAMESPACE: &str = "http://autoscaling.amazonaws.com/doc/2011-01-01/";

/// A group of one test's own, with 3 instances of 0 to 10.
struct Scene {
    world: World,
    proxy: Proxy,
    client: Client,
}

impl Scene {
    async fn ministack() -> Self {
        let scene = Self::of(World::ministack(1).await).await;
        scene.create(false).await;
        scene
    }

    async fn of(world: World) -> Self {
        let proxy = Proxy::start(world.address).await;
        let client = Client::new(&world.sdk());
        Self { world, proxy, client }
    }

    async fn create(&self, protected: bool) {
        let request = self.client.create_auto_scaling_group().auto_scaling_group_name(&self.world.name);
        let request = request.min_size(0).max_size(10).desired_capacity(3).availability_zones("us-east-1a");
        let request = request.new_instances_protected_from_scale_in(protected);
        let request = match self.client.describe_launch_configurations().send().await {
            Ok(found) if !found.launch_configurations().is_empty() => {
                request.launch_configuration_name(&self.world.name)
            }
            _ => request,
        };
        request.send().await.expect("a group can be made");
    }

    fn settings(&self) -> Value {
        json!({ "type": "ec2_asg", "group": self.world.name })
    }

    async fn status_of(&self, settings: Value) -> Result<TargetReading, Error> {
        target::status(&[("AWS_ENDPOINT_URL", &self.proxy.url()), ("AWS_REGION", REGION)], settings).await
    }

    async fn status(&self) -> TargetReading {
        self.status_of(self.settings()).await.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn set(&self, count: u32) -> Value {
        let url = self.proxy.url();
        target::set(&[("AWS_ENDPOINT_URL", &url), ("AWS_REGION", REGION)], self.settings(), count).await
    }

    /// MinSize, MaxSize and DesiredCapacity.
    async fn sizes(&self) -> [Option<i32>; 3] {
        let request = self.client.describe_auto_scaling_groups().auto_scaling_group_names(&self.world.name);
        let answer = request.send().await.expect("groups can be described");
        let group = answer.auto_scaling_groups().first().expect("it is there");
        [group.min_size(), group.max_size(), group.desired_capacity()]
    }

    async fn policy(&self) {
        let request = self.client.put_scaling_policy().auto_scaling_group_name(&self.world.name).policy_name("cpu50");
        let tracking = TargetTrackingConfiguration::builder().target_value(50.0).build();
        let request = request.policy_type("TargetTrackingScaling").target_tracking_configuration(tracking);
        request.send().await.expect("a policy can be put");
    }
}

fn error(status: u16, code: &str) -> Fault {
    let body = format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error>\
         <RequestId>1</RequestId></ErrorResponse>"
    );
    Fault::Status { status, headers: vec![("content-type".into(), "text/xml".into())], body }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_tells_its_instances_and_reading_changes_nothing() {
    let scene = Scene::ministack().await;
    let found = scene.status().await;
    assert_eq!((found.status.desired, found.status.running, found.status.pending), (3, 3, 0));
    assert_eq!((found.status.rolling_out, found.status.other_scaler, found.protected), (false, None, Some(0)));
    assert_eq!(found.status.warnings, Vec::<String>::new());
    assert_eq!(scene.proxy.mutating(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_scaled_and_its_sizes_are_left_alone() {
    let scene = Scene::ministack().await;
    for count in [7, 10, 1] {
        assert_eq!(scene.set(count).await["outcome"], "changed", "{count}");
        assert_eq!(scene.sizes().await, [Some(0), Some(10), i32::try_from(count).ok()]);
    }
    assert_eq!(scene.proxy.mutating().len(), 3);
    assert_eq!(scene.proxy.count("SetDesiredCapacity"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_there_already_is_not_asked() {
    let scene = Scene::ministack().await;
    let record = scene.set(3).await;
    assert_ne!(record["outcome"], "failed", "{record}");
    assert_eq!(scene.proxy.mutating(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_scales_to_zero() {
    let scene = Scene::ministack().await;
    assert_eq!(scene.set(0).await["outcome"], "changed");
    assert_eq!(scene.sizes().await, [Some(0), Some(10), Some(0)]);
    let found = scene.status().await;
    assert_eq!((found.status.desired, found.status.running), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_above_a_groups_max_size_is_refused_before_it_is_asked_for() {
    let scene = Scene::ministack().await;
    let record = scene.set(11).await;
    let text = record.to_string();
    assert!(text.contains("Refused") && text.contains("0 to 10"), "{record}");
    assert_eq!((scene.proxy.mutating().len(), scene.sizes().await), (0, [Some(0), Some(10), Some(3)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_not_there_is_an_error_and_never_zero() {
    let scene = Scene::ministack().await;
    let error = scene.status_of(json!({ "type": "ec2_asg", "group": "nobody" })).await.expect_err("it is not there");
    assert_eq!(error.kind().name(), "NotFound", "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_see_groups_is_told_the_action() {
    let world = World::ministack(1).await;
    is_denied_by_name(
        &world,
        json!({ "type": "ec2_asg", "group": "workers" }),
        "autoscaling:DescribeAutoScalingGroups",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_policy_is_enough_to_scale_a_group_and_no_other() {
    let scene = Scene::ministack().await;
    let printed = command(&scene.world, &[], &scene.settings(), &["iam", "--outside-lambda"]).await;
    let policy: Value = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    let keys = scene.world.role(&policy).await;
    let answer = command(&scene.world, &keys, &scene.settings(), &["invoke"]).await;
    assert!(answer.contains("\"changed\""), "{answer}");
    assert_eq!(scene.sizes().await[2], Some(5));
    let other = format!("{}-other", scene.world.name);
    let request = scene.client.create_auto_scaling_group().auto_scaling_group_name(&other).min_size(0).max_size(9);
    request.availability_zones("us-east-1a").send().await.expect("a group can be made");
    let answer = command(&scene.world, &keys, &json!({ "type": "ec2_asg", "group": other }), &["invoke"]).await;
    assert!(answer.contains("Denied") && answer.contains("autoscaling:SetDesiredCapacity"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_interface_is_busy_is_throttled() {
    let scene = Scene::ministack().await;
    scene.proxy.fail("DescribeAutoScalingGroups", 9, error(400, "Throttling"));
    let error = scene.status_of(scene.settings()).await.expect_err("it is throttled");
    assert_eq!(error.kind().name(), "Throttled", "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_refresh_under_way_is_a_rollout_and_one_that_is_over_is_none() {
    let scene = Scene::ministack().await;
    let request = scene.client.start_instance_refresh().auto_scaling_group_name(&scene.world.name);
    request.send().await.expect("a refresh can be started");
    // The emulator's refreshes are over at once.
    assert!(!scene.status().await.status.rolling_out);
    let body = format!(
        "<DescribeInstanceRefreshesResponse xmlns=\"{NAMESPACE}\"><DescribeInstanceRefreshesResult><InstanceRefreshes><member>\
         <InstanceRefreshId>1</InstanceRefreshId><Status>InProgress</Status></member></InstanceRefreshes>\
         </DescribeInstanceRefreshesResult></DescribeInstanceRefreshesResponse>"
    );
    scene.proxy.fail("DescribeInstanceRefreshes", 9, Fault::body(&body));
    let found = scene.status().await;
    assert!(found.status.rolling_out, "{:?}", found.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scale_of_a_group_whose_reply_is_lost_is_no_second_step() {
    let scene = Scene::ministack().await;
    scene.proxy.fail("SetDesiredCapacity", 1, Fault::DropReply);
    assert_eq!(scene.set(8).await["outcome"], "failed");
    assert_eq!((scene.sizes().await[2], scene.proxy.count("SetDesiredCapacity")), (Some(8), 1));
    let record = scene.set(8).await;
    assert_ne!(record["outcome"], "failed", "{record}");
    assert_eq!((scene.sizes().await[2], scene.proxy.count("SetDesiredCapacity")), (Some(8), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_a_scaling_activity_in_progress_is_tried_again() {
    let scene = Scene::ministack().await;
    scene.proxy.fail("SetDesiredCapacity", 1, error(400, "ScalingActivityInProgress"));
    scene.proxy.fail("SetDesiredCapacity", 1, error(500, "ResourceContention"));
    let record = scene.set(8).await;
    assert_eq!(record["outcome"], "changed", "{record}");
    assert_eq!((scene.sizes().await[2], scene.proxy.count("SetDesiredCapacity")), (Some(8), 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_group_makes_no_mutating_request() {
    let scene = Scene::ministack().await;
    let url = scene.proxy.url();
    let env = [("AWS_ENDPOINT_URL", url.as_str()), ("AWS_REGION", REGION)];
    let record = target::rehearse(&env, scene.settings(), 8).await;
    assert_eq!(record["decision"]["desired"], 8, "{record}");
    assert_eq!((scene.proxy.mutating().len(), scene.sizes().await[2]), (0, Some(3)));
    assert!(0 < scene.proxy.count("DescribeAutoScalingGroups"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_beside_others_makes_no_mutating_request_about_a_group() {
    let scene = Scene::ministack().await;
    let url = scene.proxy.url();
    let env = [("AWS_ENDPOINT_URL", url.as_str()), ("AWS_REGION", REGION)];
    let others = async |count| {
        let request = scene.client.set_desired_capacity().auto_scaling_group_name(&scene.world.name);
        let request = request.desired_capacity(i32::try_from(count).expect("a few"));
        request.send().await.expect("a capacity can be set");
    };
    target::look_on_through(&scene.proxy, &env, scene.settings(), others).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_with_scale_in_protection_are_counted() {
    let scene = Scene::of(World::ministack(1).await).await;
    scene.create(true).await;
    assert_eq!(scene.status().await.protected, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scaling_policy_of_a_group_is_seen_and_its_removal_too() {
    let scene = Scene::ministack().await;
    scene.policy().await;
    let found = scene.status().await;
    assert!(found.status.other_scaler.is_some_and(|name| name.contains("cpu50")));
    let request = scene.client.delete_policy().auto_scaling_group_name(&scene.world.name).policy_name("cpu50");
    request.send().await.expect("a policy can be deleted");
    assert_eq!(scene.status().await.status.other_scaler, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_groups_own_tags_and_sizes_bound_it() {
    let scene = Scene::ministack().await;
    let tag = |key: &str, value: &str| {
        let tag = Tag::builder().resource_id(&scene.world.name).resource_type("auto-scaling-group");
        tag.key(key).value(value).propagate_at_launch(false).build()
    };
    let request = scene.client.create_or_update_tags().tags(tag("tidegate:min", "2")).tags(tag("tidegate:pause", "in"));
    request.send().await.expect("groups can be tagged");
    let settings = json!({ "type": "ec2_asg", "group": scene.world.name, "follow_labels": true });
    let status = json!(scene.status_of(settings).await.unwrap_or_else(|error| panic!("{error}")).status);
    assert_eq!((&status["asked"], &status["pause"]), (&json!({ "min": 2, "max": 10 }), &json!("in")), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_group_is_asked_is_what_aws_publishes() {
    let scene = Scene::ministack().await;
    assert_eq!(scene.set(8).await["outcome"], "changed");
    scene.status().await;
    let calls: Vec<_> = scene.proxy.calls().into_iter().filter(|call| call.service == "autoscaling").collect();
    let asked: std::collections::BTreeSet<_> = calls.iter().map(|call| call.action.as_str()).collect();
    assert_eq!(asked.len(), 4, "{asked:?}");
    for call in &calls {
        let model = shapes::operation(&format!("autoscaling.{}", call.action)).expect("it is a known operation");
        let input = queried(&call.body);
        let checked = shapes::check(model["input"].as_str().expect("it has one"), &input);
        checked.unwrap_or_else(|problem| panic!("{}: {problem}: {input}", call.action));
    }
}

/// moto knows no instance refreshes, and launches instances of EC2.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_emulator_agrees_and_a_refresh_that_cannot_be_seen_holds_removal() {
    let scene = Scene::of(World::moto(1).await).await;
    let request = scene.client.create_launch_configuration().launch_configuration_name(&scene.world.name);
    let request = request.image_id("ami-12c6146b").instance_type("t3.micro");
    request.send().await.expect("a launch configuration can be made");
    scene.create(false).await;
    let found = scene.status().await;
    assert_eq!((found.status.desired, found.status.running, found.status.rolling_out), (3, 3, true));
    assert!(found.status.warnings[0].contains("autoscaling:DescribeInstanceRefreshes"), "{:?}", found.status.warnings);
    assert_eq!(scene.set(6).await["outcome"], "changed");
    assert_eq!(scene.sizes().await, [Some(0), Some(10), Some(6)]);
    let suspend =
        scene.client.suspend_processes().auto_scaling_group_name(&scene.world.name).scaling_processes("Launch");
    suspend.send().await.expect("processes can be suspended");
    let record = scene.set(7).await.to_string();
    assert!(record.contains("Refused") && record.contains("Launch is suspended"), "{record}");
    assert_eq!(scene.sizes().await[2], Some(6));
}
