//! `lambda_concurrency`, against two emulators of Lambda, behind a proxy that counts what changes something.

use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{FunctionCode, Runtime, ScalingConfig};
use serde_json::{Value, json};
use tidegate::cli::TargetReading;
use tidegate::error::Error;

use super::aws::{command, is_denied_by_name};
use crate::support::cloud::shapes;
use crate::support::emulator::{REGION, World};
use crate::support::proxy::{Fault, Proxy};
use crate::support::target;

/// A zip without any files.
const EMPTY_ZIP: &[u8] = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// A function of one test's own with an alias `live` and an event source that makes at most 5 invocations at once.
struct Scene {
    world: World,
    proxy: Proxy,
    client: Client,
    mapping: String,
}

impl Scene {
    async fn ministack() -> Self {
        Self::of(World::ministack(1).await).await
    }

    async fn of(world: World) -> Self {
        let proxy = Proxy::start(world.address).await;
        let client = Client::new(&world.sdk());
        let name = world.name.as_str();
        let role = format!("{name}-worker");
        world.trusted_role(&role).await;
        let code = FunctionCode::builder().zip_file(Blob::new(EMPTY_ZIP)).build();
        let request = client.create_function().function_name(name).runtime(Runtime::Python312).handler("index.handler");
        let request = request.role(format!("arn:aws:iam::{}:role/{role}", world.account)).code(code).publish(true);
        request.send().await.expect("a function can be made");
        let request = client.create_alias().function_name(name).name("live").function_version("1");
        request.send().await.expect("an alias can be made");
        let scaling = ScalingConfig::builder().maximum_concurrency(5).build();
        let queue = format!("arn:aws:sqs:{REGION}:{}:{name}", world.account);
        let request = client.create_event_source_mapping().function_name(name).event_source_arn(queue);
        let mapping = request.scaling_config(scaling).send().await.expect("an event source can be made");
        let mapping = mapping.uuid().expect("it has a UUID").to_owned();
        Self { world, proxy, client, mapping }
    }

    fn event_source(&self) -> Value {
        json!({ "type": "lambda_concurrency", "mode": "event_source", "mapping": self.mapping })
    }

    fn provisioned(&self) -> Value {
        json!({ "type": "lambda_concurrency", "mode": "provisioned", "function": self.world.name, "qualifier": "live" })
    }

    fn reserved(&self) -> Value {
        json!({ "type": "lambda_concurrency", "mode": "reserved", "function": self.world.name, "unset_is": 100 })
    }

    async fn status(&self, settings: Value) -> Result<TargetReading, Error> {
        target::status(&[("AWS_ENDPOINT_URL", &self.proxy.url()), ("AWS_REGION", REGION)], settings).await
    }

    async fn counts(&self, settings: Value) -> (u32, u32, u32) {
        let found = self.status(settings).await.unwrap_or_else(|error| panic!("{error}"));
        (found.status.desired, found.status.running, found.status.pending)
    }

    async fn set(&self, settings: Value, count: u32) -> Value {
        let url = self.proxy.url();
        target::set(&[("AWS_ENDPOINT_URL", &url), ("AWS_REGION", REGION)], settings, count).await
    }
}

fn error(status: u16, code: &str) -> Fault {
    let body = json!({ "Type": "User", "message": code }).to_string();
    let headers = [("content-type", "application/json"), ("x-amzn-errortype", code)];
    Fault::Status { status, headers: headers.map(|(name, value)| (name.into(), value.into())).to_vec(), body }
}

#[tokio::test(flavor = "multi_thread")]
async fn lambda_tells_each_limit_and_reading_changes_nothing() {
    let scene = Scene::ministack().await;
    assert_eq!(scene.counts(scene.event_source()).await, (5, 5, 0));
    assert_eq!(scene.counts(scene.provisioned()).await, (0, 0, 0));
    assert_eq!(scene.counts(scene.reserved()).await, (100, 100, 0));
    assert_eq!(scene.proxy.mutating(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn lambda_limits_are_set_and_nothing_else_is() {
    let scene = Scene::ministack().await;
    for settings in [scene.event_source(), scene.provisioned(), scene.reserved()] {
        for count in [40, 7] {
            let record = scene.set(settings.clone(), count).await;
            assert_eq!(record["outcome"], "changed", "{record}");
            assert_eq!(scene.counts(settings.clone()).await, (count, count, 0));
        }
    }
    assert_eq!(scene.proxy.mutating().len(), 6);
    let mapping = scene.client.get_event_source_mapping().uuid(&scene.mapping).send().await.expect("it is there");
    assert_eq!((mapping.state(), mapping.batch_size()), (Some("Enabled"), Some(10)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lambda_limit_that_is_there_already_is_not_asked_for() {
    let scene = Scene::ministack().await;
    assert_ne!(scene.set(scene.event_source(), 5).await["outcome"], "failed");
    assert_ne!(scene.set(scene.provisioned(), 0).await["outcome"], "failed");
    assert_eq!(scene.proxy.mutating(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn zero_removes_provisioned_concurrency_stops_a_function_and_is_refused_to_an_event_source() {
    let scene = Scene::ministack().await;
    assert_eq!(scene.set(scene.provisioned(), 4).await["outcome"], "changed");
    for settings in [scene.provisioned(), scene.reserved()] {
        assert_eq!(scene.set(settings.clone(), 0).await["outcome"], "changed");
        assert_eq!(scene.counts(settings).await, (0, 0, 0));
    }
    let record = scene.set(scene.event_source(), 0).await.to_string();
    assert!(record.contains("Refused") && record.contains("2 to 1000"), "{record}");
    assert_eq!(scene.counts(scene.event_source()).await, (5, 5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lambda_does_not_know_is_an_error_and_never_zero() {
    let scene = Scene::ministack().await;
    let mut other = scene.provisioned();
    other["qualifier"] = "test".into();
    let absent = json!({ "type": "lambda_concurrency", "mode": "event_source", "mapping": "a1b2c3d4-5678-90ab-cdef-111111111111" });
    let mut nobody = scene.reserved();
    nobody["function"] = "nobody".into();
    for settings in [other, absent, nobody] {
        let error = scene.status(settings.clone()).await.expect_err("it is not there");
        assert_eq!(error.kind().name(), "NotFound", "{settings}: {error}");
    }
    let mut unlimited = scene.reserved();
    unlimited.as_object_mut().expect("an object").remove("unset_is");
    let error = scene.status(unlimited).await.expect_err("nothing is reserved");
    assert_eq!(error.kind().name(), "Refused", "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_see_lambda_limits_is_told_the_action() {
    let scene = Scene::ministack().await;
    for (settings, action) in [
        (scene.event_source(), "lambda:GetEventSourceMapping"),
        (scene.provisioned(), "lambda:GetProvisionedConcurrencyConfig"),
        (scene.reserved(), "lambda:GetFunctionConcurrency"),
    ] {
        is_denied_by_name(&scene.world, settings, action).await;
    }
}

/// Of these actions the emulator judges only those of reserved concurrency by their names.
#[tokio::test(flavor = "multi_thread")]
async fn the_printed_policy_is_enough_to_set_a_lambda_limit() {
    let scene = Scene::ministack().await;
    let printed = command(&scene.world, &[], &scene.reserved(), &["iam", "--outside-lambda"]).await;
    let policy: Value = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    let keys = scene.world.role(&policy).await;
    let answer = command(&scene.world, &keys, &scene.reserved(), &["invoke"]).await;
    assert!(answer.contains("\"changed\""), "{answer}");
    assert_eq!(scene.counts(scene.reserved()).await, (5, 5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn lambda_that_is_asked_too_often_is_throttled() {
    let scene = Scene::ministack().await;
    scene.proxy.fail("*", 9, error(429, "TooManyRequestsException"));
    let error = scene.status(scene.event_source()).await.expect_err("it is throttled");
    assert_eq!(error.kind().name(), "Throttled", "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_source_that_is_updating_is_a_rollout_and_locked() {
    let scene = Scene::ministack().await;
    let path = format!("/2015-03-31/event-source-mappings/{}", scene.mapping);
    scene.proxy.fail(&format!("PUT {path}"), 2, error(400, "ResourceInUseException"));
    let record = scene.set(scene.event_source(), 9).await;
    assert_eq!(record["outcome"], "changed", "{record}");
    assert_eq!((scene.proxy.mutating().len(), scene.counts(scene.event_source()).await), (3, (9, 9, 0)));
    scene.proxy.rewrite_response(&format!("GET {path}"), |mut answer| {
        answer["State"] = "Updating".into();
        answer
    });
    let found = scene.status(scene.event_source()).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(found.status.rolling_out, "{:?}", found.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lambda_limit_whose_reply_is_lost_is_no_second_step() {
    let scene = Scene::ministack().await;
    for (settings, path) in [
        (scene.event_source(), format!("PUT /2015-03-31/event-source-mappings/{}", scene.mapping)),
        (scene.provisioned(), format!("PUT /2019-09-30/functions/{}/provisioned-concurrency", scene.world.name)),
        (scene.reserved(), format!("PUT /2017-10-31/functions/{}/concurrency", scene.world.name)),
    ] {
        scene.proxy.fail(&path, 1, Fault::DropReply);
        assert_eq!(scene.set(settings.clone(), 8).await["outcome"], "failed", "{path}");
        assert_eq!(scene.proxy.count(&path), 1);
        assert_ne!(scene.set(settings.clone(), 8).await["outcome"], "failed", "{path}");
        assert_eq!((scene.proxy.count(&path), scene.counts(settings).await), (1, (8, 8, 0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_lambda_limit_makes_no_mutating_request() {
    let scene = Scene::ministack().await;
    let url = scene.proxy.url();
    let env = [("AWS_ENDPOINT_URL", url.as_str()), ("AWS_REGION", REGION)];
    for settings in [scene.event_source(), scene.provisioned(), scene.reserved()] {
        let record = target::rehearse(&env, settings, 8).await;
        assert_eq!(record["decision"]["desired"], 8, "{record}");
    }
    assert_eq!(scene.proxy.mutating(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_beside_others_makes_no_mutating_request_about_a_lambda_limit() {
    let scene = Scene::ministack().await;
    let (url, past_the_proxy) = (scene.proxy.url(), scene.world.url());
    let env = |url| [("AWS_ENDPOINT_URL", url), ("AWS_REGION", REGION)];
    for settings in [scene.event_source(), scene.provisioned(), scene.reserved()] {
        let others = async |count| _ = target::set(&env(&past_the_proxy), settings.clone(), count).await;
        target::look_on_through(&scene.proxy, &env(&url), settings.clone(), others).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lambda_is_sent_is_what_aws_publishes() {
    let scene = Scene::ministack().await;
    for (settings, operation, named) in [
        (scene.event_source(), "UpdateEventSourceMapping", json!({ "UUID": scene.mapping })),
        (scene.provisioned(), "PutProvisionedConcurrencyConfig", json!({ "FunctionName": "it", "Qualifier": "live" })),
        (scene.reserved(), "PutFunctionConcurrency", json!({ "FunctionName": "it" })),
    ] {
        scene.proxy.reset();
        assert_eq!(scene.set(settings, 8).await["outcome"], "changed");
        let sent = scene.proxy.mutating();
        let [call] = sent.as_slice() else { panic!("{operation}: {sent:?}") };
        // What is in the path and the query, and what is in the body.
        let mut input = call.json();
        input.as_object_mut().expect("an object").extend(named.as_object().cloned().unwrap_or_default());
        let model = shapes::operation(&format!("lambda.{operation}")).expect("it is a known operation");
        let checked = shapes::check(model["input"].as_str().expect("it has one"), &input);
        checked.unwrap_or_else(|problem| panic!("{operation}: {problem}: {input}"));
    }
}

/// moto has no provisioned concurrency.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_emulator_of_lambda_agrees() {
    let scene = Scene::of(World::moto(1).await).await;
    for settings in [scene.event_source(), scene.reserved()] {
        assert_eq!(scene.set(settings.clone(), 7).await["outcome"], "changed");
        assert_eq!(scene.counts(settings).await, (7, 7, 0));
    }
}
