use serde_json::json;

use super::*;
use crate::wire::{Contract, Reply, Request, Scene, Wire};

/// Of the three, `provisioned` has the most scenes; the others are below.
pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

const UUID: &str = "a1b2c3d4-5678-90ab-cdef-1111111abcde";

fn settings(_endpoint: &str) -> Value {
    json!({ "mode": "provisioned", "function": "orders", "qualifier": "live" })
}

/// The answers' form: <https://docs.aws.amazon.com/lambda/latest/api/API_GetProvisionedConcurrencyConfig.html#API_GetProvisionedConcurrencyConfig_ResponseSyntax>.
fn allocation(requested: u64, status: &str) -> Value {
    json!({
        "RequestedProvisionedConcurrentExecutions": requested, "AllocatedProvisionedConcurrentExecutions": requested,
        "AvailableProvisionedConcurrentExecutions": 1, "Status": status, "LastModified": "2026-11-22T12:00:00+0000",
    })
}

fn reply(scene: Scene, request: &Request) -> Reply {
    let is_read = request.method == "GET";
    match scene {
        Scene::Amount(_) if request.method == "DELETE" => Reply::new(204, ""),
        Scene::Amount(0) => none(),
        Scene::Amount(requested) | Scene::Other(requested) => Reply::aws_json(200, &allocation(requested, "READY")),
        Scene::RollingOut => Reply::aws_json(200, &allocation(5, "IN_PROGRESS")),
        // An alias always takes provisioned concurrency, and is there or not; other modes have these, see below. No execution
        // is protected.
        Scene::Unscalable | Scene::Draining => Reply::none(),
        Scene::Locked if is_read => Reply::aws_json(200, &allocation(4, "READY")),
        Scene::Locked => Reply::aws_error(409, "ResourceConflictException", "An update is in progress"),
        Scene::NotFound => Reply::aws_error(404, "ResourceNotFoundException", "Function not found: orders:live"),
        Scene::Malformed => Reply::new(200, "<html>oops</html>"),
        Scene::Missing => {
            let mut answer = allocation(5, "READY");
            answer.as_object_mut().expect("an object").remove("RequestedProvisionedConcurrentExecutions");
            Reply::aws_json(200, &answer)
        }
        Scene::Denied => Reply::aws_error(403, "AccessDeniedException", "User is not authorized"),
        Scene::Throttled => Reply::aws_error(429, "TooManyRequestsException", "Rate Exceeded."),
        other => panic!("{other:?} is not a scene of a target"),
    }
}

fn none() -> Reply {
    Reply::aws_error(404, "ProvisionedConcurrencyConfigNotFoundException", "No Provisioned Concurrency Config found")
}

type Replies = fn(Scene, &Request) -> Reply;

async fn played(reply: Replies, settings: Value) -> (Wire, Box<dyn Target>) {
    let wire = Wire::play(Scene::Amount(5), reply).await;
    assert_eq!(check(&settings), []);
    let target = build(&settings, &Shared::for_wire(&wire.endpoint)).expect("settings are valid");
    (wire, target)
}

fn mapping(more: Value) -> Value {
    let mut settings = json!({ "mode": "event_source", "mapping": UUID });
    settings.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    settings
}

async fn status_of(reply: Replies, settings: Value) -> Result<TargetStatus> {
    let name = identities(&settings, "us-east-1").remove(0).leaf().to_owned();
    let (_wire, target) = played(reply, settings).await;
    target.statuses(&[name]).await.pop().expect("one answer for each")
}

/// <https://docs.aws.amazon.com/lambda/latest/api/API_GetEventSourceMapping.html#API_GetEventSourceMapping_ResponseSyntax>
fn source(more: Value) -> Reply {
    let mut answer = json!({
        "UUID": UUID, "BatchSize": 10, "EventSourceArn": "arn:aws:sqs:us-east-1:123456789012:orders", "State": "Enabled",
        "FunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:orders", "ScalingConfig": { "MaximumConcurrency": 5 },
    });
    answer.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    Reply::aws_json(200, &answer)
}

fn kind(status: Result<TargetStatus>) -> ErrorKind {
    status.expect_err("there is no status").kind()
}

#[tokio::test]
async fn an_event_source_without_a_limit_has_no_count() {
    for answer in [
        |_, _: &Request| source(json!({ "ScalingConfig": null })),
        |_, _: &Request| source(json!({ "ScalingConfig": {} })),
    ] {
        let error = status_of(answer, mapping(json!({}))).await.expect_err("there is no limit");
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("unset_is"), "{error}");
        let status = status_of(answer, mapping(json!({ "unset_is": 100 }))).await.expect("it is taken for 100");
        assert_eq!((status.desired, status.running), (100, 100));
    }
}

#[tokio::test]
async fn an_event_source_tells_its_limit_and_whether_it_is_changing() {
    let status = status_of(|_, _| source(json!({})), mapping(json!({ "unset_is": 100 }))).await.expect("it is there");
    assert_eq!((status.desired, status.running, status.pending, status.rolling_out), (5, 5, 0, false));
    let status = status_of(|_, _| source(json!({ "State": "Updating" })), mapping(json!({}))).await;
    assert!(status.expect("it is there").rolling_out);
    assert_eq!(
        kind(status_of(|_, _| source(json!({ "State": null })), mapping(json!({}))).await),
        ErrorKind::Malformed
    );
    let negative: Replies = |_, _| source(json!({ "ScalingConfig": { "MaximumConcurrency": -1 } }));
    assert_eq!(kind(status_of(negative, mapping(json!({}))).await), ErrorKind::Malformed);
    let absent: Replies =
        |_, _| Reply::aws_error(404, "ResourceNotFoundException", "The resource you requested does not exist.");
    assert_eq!(kind(status_of(absent, mapping(json!({}))).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn an_event_source_that_is_off_or_of_another_kind_is_refused() {
    let cases: [Replies; 5] = [
        |_, _| source(json!({ "State": "Disabled" })),
        |_, _| source(json!({ "State": "Deleting" })),
        |_, _| source(json!({ "EventSourceArn": "arn:aws:kinesis:us-east-1:123456789012:stream/orders" })),
        |_, _| source(json!({ "EventSourceArn": null })),
        |_, _| source(json!({ "ProvisionedPollerConfig": { "MinimumPollers": 2, "MaximumPollers": 20 } })),
    ];
    for (number, reply) in cases.into_iter().enumerate() {
        assert_eq!(kind(status_of(reply, mapping(json!({}))).await), ErrorKind::Refused, "{number}");
    }
}

#[tokio::test]
async fn an_event_source_takes_2_to_1000_and_is_sent_its_limit_alone() {
    let (wire, target) = played(|_, _| source(json!({})), mapping(json!({}))).await;
    for count in [0, 1, 1001] {
        let error = target.set_desired(UUID, count).await.expect_err("it is out of range");
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("2 to 1000"), "{error}");
    }
    assert!(wire.requests().is_empty());
    assert_eq!(target.set_desired(UUID, 5).await.expect("it can be set"), Applied::Set);
    let sent = wire.requests().pop().expect("it was sent");
    assert_eq!(
        (sent.method.as_str(), sent.path.as_str()),
        ("PUT", format!("/2015-03-31/event-source-mappings/{UUID}").as_str())
    );
    let body: Value = serde_json::from_slice(&sent.body).expect("it is JSON");
    assert_eq!(body, json!({ "ScalingConfig": { "MaximumConcurrency": 5 } }));
    assert_eq!(target.set_desired(UUID, 6).await.expect_err("5 was answered").kind(), ErrorKind::Malformed);
}

#[tokio::test]
async fn what_lambda_is_still_changing_is_locked_and_sent_once() {
    let in_use: Replies =
        |_, _| Reply::aws_error(400, "ResourceInUseException", "Cannot update the event source mapping");
    let conflict: Replies =
        |_, _| Reply::aws_error(409, "ResourceConflictException", "Another operation is in progress");
    let reserved = json!({ "mode": "reserved", "function": "orders" });
    for (reply, settings, name) in
        [(in_use, mapping(json!({})), UUID), (conflict, settings(""), "live"), (conflict, reserved, "orders")]
    {
        let (wire, target) = played(reply, settings.clone()).await;
        for count in [5, 7] {
            assert_eq!(
                target.set_desired(name, count).await.expect_err("it is locked").kind(),
                ErrorKind::Locked,
                "{settings}"
            );
        }
        assert_eq!(wire.requests().len(), 2);
    }
    let (_wire, target) = played(conflict, settings("")).await;
    assert_eq!(target.set_desired("live", 0).await.expect_err("it is locked").kind(), ErrorKind::Locked);
}

#[tokio::test]
async fn no_provisioned_concurrency_is_zero_and_an_absent_alias_is_not() {
    let status = status_of(|_, _| none(), settings("")).await.expect("the alias is there");
    assert_eq!(status, TargetStatus::default());
    let absent: Replies = |_, _| Reply::aws_error(404, "ResourceNotFoundException", "Function not found");
    assert_eq!(kind(status_of(absent, settings("")).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn provisioned_concurrency_tells_what_is_available_and_what_failed() {
    let status = |reply: Replies| async move { status_of(reply, settings("")).await };
    let found = status(|_, _| Reply::aws_json(200, &allocation(5, "IN_PROGRESS"))).await.expect("it is there");
    assert_eq!((found.desired, found.running, found.pending, found.rolling_out), (5, 1, 4, true));
    let mut failed = status(|_, _| Reply::aws_json(200, &allocation(5, "FAILED"))).await.expect("it is there");
    assert_eq!((failed.desired, failed.running, failed.pending, failed.rolling_out), (5, 1, 0, false));
    assert!(failed.warnings.pop().is_some_and(|warning| warning.contains("could not be allocated")));
    assert!(status(|_, _| Reply::aws_json(200, &allocation(5, "A_STATUS_OF_2030"))).await.expect("there").rolling_out);
    let untold: Replies = |_, _| {
        let mut answer = allocation(5, "READY");
        answer.as_object_mut().expect("an object").remove("AvailableProvisionedConcurrentExecutions");
        Reply::aws_json(200, &answer)
    };
    assert_eq!(kind(status(untold).await), ErrorKind::Malformed);
}

#[tokio::test]
async fn zero_removes_provisioned_concurrency_and_reserves_nothing_to_run() {
    let (wire, target) = played(reply, settings("")).await;
    assert_eq!(target.set_desired("live", 0).await.expect("it can be removed"), Applied::Set);
    let sent = wire.requests().pop().expect("it was sent");
    assert_eq!(
        (sent.method.as_str(), sent.path.as_str()),
        ("DELETE", "/2019-09-30/functions/orders/provisioned-concurrency?Qualifier=live")
    );
    let zero: Replies = |_, _| Reply::aws_json(200, &json!({ "ReservedConcurrentExecutions": 0 }));
    let reserved = json!({ "mode": "reserved", "function": "arn:aws:lambda:us-east-1:123456789012:function:orders" });
    let (wire, target) = played(zero, reserved.clone()).await;
    assert_eq!(target.set_desired("orders", 0).await.expect("it can be set"), Applied::Set);
    let sent = wire.requests().pop().expect("it was sent");
    let arn = "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Aorders";
    assert_eq!(sent.path, format!("/2017-10-31/functions/{arn}/concurrency"));
    assert_eq!(serde_json::from_slice::<Value>(&sent.body).ok(), Some(json!({ "ReservedConcurrentExecutions": 0 })));
    assert_eq!(status_of(zero, reserved).await.expect("0 is a count").desired, 0);
}

#[tokio::test]
async fn a_function_that_reserves_nothing_has_no_count_and_an_empty_answer_tells_nothing() {
    let reserved = |more: Value| {
        let mut settings = json!({ "mode": "reserved", "function": "orders" });
        settings.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        settings
    };
    let unset: Replies = |_, _| Reply::aws_json(200, &json!({}));
    assert_eq!(kind(status_of(unset, reserved(json!({}))).await), ErrorKind::Refused);
    let taken = status_of(unset, reserved(json!({ "unset_is": 10 }))).await.expect("it is taken for 10");
    assert_eq!((taken.desired, taken.running), (10, 10));
    let empty: Replies = |_, _| Reply::new(200, "");
    let oops: Replies = |_, _| Reply::new(200, "<html>oops</html>");
    for reply in [empty, oops] {
        assert_eq!(kind(status_of(reply, reserved(json!({ "unset_is": 10 }))).await), ErrorKind::Malformed);
    }
    let throttled: Replies = |_, _| Reply::aws_error(429, "TooManyRequestsException", "Rate Exceeded.");
    assert_eq!(kind(status_of(throttled, reserved(json!({}))).await), ErrorKind::Throttled);
}
