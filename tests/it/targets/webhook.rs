//! Webhooks: receivers of ours that do what the pipeline of Jenkins' job `service-scale` and docker-scaler's server do, as their
//! sources have it.

mod fake;

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tidegate::error::ErrorKind;

use self::fake::{Receiver, SERVICE, TOKEN};
use crate::support::http::{CA, HttpServer, Reply};
use crate::support::proxy::{Fault, When};
use crate::support::target::{look_on_through, rehearse, set, status};

const ENV: &[(&str, &str)] = &[("HOOK_TOKEN", TOKEN)];

fn to(receiver: &Receiver, changes: Value) -> Value {
    let mut settings = json!({
        "type": "webhook", "service": SERVICE, "url": format!("{}/services/${{service}}?status=true", receiver.wire.url()),
        "desired": "/Spec/Mode/Replicated/Replicas", "running": "/ServiceStatus/RunningTasks",
        "rolling_out": r#"doc.UpdateStatus.State == "updating" ? 1 : 0"#,
    });
    settings.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
    settings
}

fn absolute(receiver: &Receiver) -> Value {
    let set_url = format!("{}/services/${{service}}", receiver.wire.url());
    let body = r#"{"replicas": ${desired}}"#;
    to(receiver, json!({ "set_url": set_url, "method": "PUT", "body": body, "count": "/replicas" }))
}

fn jenkins(receiver: &Receiver) -> Value {
    let job = format!("{}/job/service-scale/buildWithParameters", receiver.wire.url());
    let form = json!({ "service": "${service}", "scale": "${delta}" });
    let token = json!({ "parameter": { "name": "token", "value": "env:HOOK_TOKEN" } });
    to(receiver, json!({ "set_url": job, "form": form, "set_credential": token }))
}

fn docker_scaler(receiver: &Receiver) -> Value {
    let body = r#"{"groupLabels": {"service": "${service}", "scale": "${direction}", "by": ${by}, "type": "service"}}"#;
    to(receiver, json!({ "set_url": format!("{}/v1/scale-service", receiver.wire.url()), "body": body }))
}

#[tokio::test]
async fn a_webhook_tells_counts_and_takes_an_absolute_one() {
    let receiver = Receiver::start(3).await;
    receiver.with(|state| (state.running, state.updating) = (1, true));
    let reading = status(ENV, absolute(&receiver)).await.expect("it can be read").status;
    assert_eq!((reading.desired, reading.running, reading.pending, reading.rolling_out), (3, 1, 2, true));
    for count in [7, 0, 1] {
        let record = set(ENV, absolute(&receiver), count).await;
        assert_eq!(record["outcome"], "changed", "{record}");
        assert_eq!(receiver.replicas(), i64::from(count));
    }
    let by_query = json!({ "set_url": format!("{}/set?replicas=${{desired}}", receiver.wire.url()), "method": "GET" });
    let record = set(ENV, to(&receiver, by_query), 4).await;
    assert_eq!((record["outcome"].as_str(), receiver.replicas()), (Some("changed"), 4));
}

#[tokio::test]
async fn jenkins_service_scale_job_is_told_the_difference() {
    let receiver = Receiver::start(3).await;
    receiver.with(|state| state.bounds = (2, 6));
    for (count, scale) in [(5, "2"), (2, "-3")] {
        let record = set(ENV, jenkins(&receiver), count).await;
        assert_eq!(record["outcome"], "changed", "{record}");
        assert_eq!(receiver.replicas(), i64::from(count));
        let body = receiver.with(|state| state.bodies.pop());
        assert_eq!(body, Some(format!("scale={scale}&service={SERVICE}")));
    }
    // As Alertmanager called it, all in the query.
    let job = format!("{}/job/service-scale/buildWithParameters", receiver.wire.url());
    let token = json!({ "parameter": { "name": "token", "value": "env:HOOK_TOKEN" } });
    let set_url = format!("{job}?service=${{service}}&scale=${{delta}}");
    set(ENV, to(&receiver, json!({ "set_url": set_url, "set_credential": token })), 4).await;
    assert_eq!(receiver.replicas(), 4);
    let query = receiver.wire.mutating().pop().expect("a request").path;
    assert!(query.ends_with(&format!("?service={SERVICE}&scale=2&token={TOKEN}")), "{query}");
    // The job refuses what its labels do not permit, and says so only in its log.
    set(ENV, jenkins(&receiver), 9).await;
    assert_eq!(receiver.replicas(), 4);
}

#[tokio::test]
async fn docker_scaler_is_told_direction_and_step() {
    let receiver = Receiver::start(3).await;
    for (count, scale, by) in [(5, "up", 2), (1, "down", 4), (0, "down", 1)] {
        let record = set(ENV, docker_scaler(&receiver), count).await;
        assert_eq!(record["outcome"], "changed", "{record}");
        assert_eq!(receiver.replicas(), i64::from(count));
        let sent = receiver.with(|state| state.bodies.pop()).expect("a body");
        let labels = json!({ "service": SERVICE, "scale": scale, "by": by, "type": "service" });
        assert_eq!(serde_json::from_str::<Value>(&sent).expect("it is JSON"), json!({ "groupLabels": labels }));
    }
}

#[tokio::test]
async fn a_webhook_that_is_there_already_is_sent_nothing() {
    let receiver = Receiver::start(3).await;
    for settings in [absolute(&receiver), jenkins(&receiver), docker_scaler(&receiver)] {
        let record = set(ENV, settings, 3).await;
        assert_eq!(record["outcome"], "held", "{record}");
    }
    assert_eq!(receiver.wire.mutating(), []);
}

#[tokio::test]
async fn a_difference_is_counted_from_what_is_there_when_it_is_sent() {
    let receiver = Receiver::start(3).await;
    // The tick looks twice, and the target once more before it sends: somebody else is quicker.
    let hold = receiver.wire.hold_nth("*", 3, When::Before);
    let meanwhile = async {
        hold.reached().await;
        receiver.with(|state| state.replicas = 4);
        hold.release();
    };
    tokio::join!(set(ENV, jenkins(&receiver), 5), meanwhile);
    assert_eq!(receiver.replicas(), 5, "and not 6");
    assert_eq!(receiver.with(|state| state.bodies.pop()), Some(format!("scale=1&service={SERVICE}")));
}

#[tokio::test]
async fn a_difference_whose_reply_is_lost_is_not_sent_again() {
    let receiver = Receiver::start(3).await;
    for (settings, about) in [
        (jenkins(&receiver), "buildWithParameters"),
        (docker_scaler(&receiver), "scale-service"),
        (absolute(&receiver), r#""replicas": 5"#),
    ] {
        receiver.with(|state| state.replicas = 3);
        let before = receiver.wire.mutating().len();
        receiver.wire.fail_about("*", about, 1, Fault::DropReply);
        let record = set(ENV, settings.clone(), 5).await;
        assert_eq!(record["failures"][0]["kind"], "Unavailable", "{record}");
        assert_eq!(receiver.replicas(), 5);
        set(ENV, settings, 5).await;
        assert_eq!((receiver.replicas(), receiver.wire.mutating().len() - before), (5, 1));
    }
}

#[tokio::test]
async fn a_rehearsal_sends_a_webhook_nothing() {
    let receiver = Receiver::start(3).await;
    for settings in [absolute(&receiver), jenkins(&receiver), docker_scaler(&receiver)] {
        let record = rehearse(ENV, settings, 9).await;
        assert_eq!(
            (record["outcome"].as_str(), &record["decision"]["desired"]),
            (Some("dry_run"), &json!(9)),
            "{record}"
        );
    }
    assert_eq!(receiver.wire.mutating(), []);
}

#[tokio::test]
async fn a_rehearsal_beside_others_sends_a_webhook_nothing() {
    let receiver = Receiver::start(0).await;
    for settings in [absolute(&receiver), jenkins(&receiver), docker_scaler(&receiver)] {
        let others = async |count| receiver.with(|state| state.replicas = i64::from(count));
        look_on_through(&receiver.wire, ENV, settings, others).await;
    }
}

#[tokio::test]
async fn a_build_that_waits_is_asked_for_with_the_same_key_and_done_once() {
    let receiver = Receiver::start(3).await;
    receiver.with(|state| state.queue = Some(Vec::new()));
    set(ENV, jenkins(&receiver), 5).await;
    assert_eq!(receiver.replicas(), 3, "the build waits");
    set(ENV, jenkins(&receiver), 5).await;
    receiver.build();
    assert_eq!(receiver.replicas(), 5, "and not 7");
    set(ENV, jenkins(&receiver), 4).await;
    let keys: Vec<_> =
        receiver.with(|state| state.headers.iter().map(|sent| sent["idempotency-key"].clone()).collect());
    assert_eq!((keys.len(), keys[0] == keys[1], keys[1] == keys[2]), (3, true, false));
}

#[tokio::test]
async fn a_webhook_that_is_locked_is_tried_again_and_other_refusals_are_not() {
    let receiver = Receiver::start(3).await;
    receiver.with(|state| state.answers = vec![409, 423]);
    let record = set(ENV, jenkins(&receiver), 5).await;
    assert_eq!((record["outcome"].as_str(), receiver.replicas()), (Some("changed"), 5), "{record}");
    for (answer, kind) in [
        (401, "Denied"),
        (403, "Denied"),
        (404, "NotFound"),
        (422, "Refused"),
        (429, "Throttled"),
        (302, "Refused"),
        (500, "Unavailable"),
        (503, "Unavailable"),
    ] {
        let before = receiver.wire.mutating().len();
        receiver.with(|state| state.answers = vec![answer]);
        let record = set(ENV, docker_scaler(&receiver), 7).await;
        assert_eq!(record["failures"][0]["kind"], kind, "{answer}: {record}");
        assert_eq!((receiver.replicas(), receiver.wire.mutating().len() - before), (5, 1), "{answer}");
    }
}

#[tokio::test]
async fn a_webhook_that_says_another_count_than_asked_for_has_failed() {
    let receiver = Receiver::start(3).await;
    for says in [json!(6), json!(null), json!("5"), json!(5.5)] {
        receiver.with(|state| (state.replicas, state.says) = (3, Some(says.clone())));
        let record = set(ENV, absolute(&receiver), 5).await;
        assert_eq!(record["failures"][0]["kind"], "Malformed", "{says}: {record}");
    }
}

#[tokio::test]
async fn a_status_of_a_webhook_that_cannot_be_read_is_an_error_and_nothing_is_sent() {
    let receiver = Receiver::start(3).await;
    for (answer, kind) in [
        (401, ErrorKind::Denied),
        (403, ErrorKind::Denied),
        (404, ErrorKind::NotFound),
        (429, ErrorKind::Throttled),
        (500, ErrorKind::Unavailable),
    ] {
        let body = "canary-body".to_owned();
        receiver.wire.fail("*", 1, Fault::Status { status: answer, headers: Vec::new(), body });
        let error = status(ENV, jenkins(&receiver)).await.expect_err("there is no status");
        assert_eq!(error.kind(), kind, "{error}");
    }
    for body in ["", "{}", "[]", r#"{"Spec": {"Mode": {"Global": {}}}, "ServiceStatus": {"RunningTasks": 1}}"#] {
        receiver.wire.fail("*", 1, Fault::body(body));
        let error = status(ENV, jenkins(&receiver)).await.expect_err("there is no status");
        assert_eq!(error.kind(), ErrorKind::Malformed, "{body}: {error}");
    }
    let unknown = json!({ "service": "gone", "set_url": format!("{}/set?n=${{desired}}", receiver.wire.url()) });
    let error = status(ENV, to(&receiver, unknown)).await.expect_err("there is no such service");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let record = set(&[("HOOK_TOKEN", "canary-of-somebody-else")], jenkins(&receiver), 5).await;
    assert_eq!(record["failures"][0]["kind"], "Denied", "{record}");
    assert_eq!((receiver.replicas(), receiver.wire.mutating().len()), (3, 1));
}

#[tokio::test]
async fn a_change_is_signed_with_its_time_and_its_body() {
    let receiver = Receiver::start(3).await;
    for (mut settings, body) in [
        (absolute(&receiver), r#"{"replicas": 5}"#.to_owned()),
        (jenkins(&receiver), format!("scale=2&service={SERVICE}")),
    ] {
        receiver.with(|state| state.replicas = 3);
        settings["signature_secret"] = json!("env:HOOK_SECRET");
        let before = jiff::Timestamp::now().as_second();
        set(&[("HOOK_TOKEN", TOKEN), ("HOOK_SECRET", "canary-secret")], settings, 5).await;
        let sent = receiver.with(|state| state.headers.pop()).expect("a request");
        let at: i64 = sent["x-tidegate-timestamp"].parse().expect("seconds");
        assert!((before..=jiff::Timestamp::now().as_second()).contains(&at));
        let mut mac = Hmac::<Sha256>::new_from_slice(b"canary-secret").expect("any key will do");
        mac.update(format!("{at}.{body}").as_bytes());
        let expected: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sent["x-tidegate-signature"], format!("sha256={expected}"));
    }
}

#[tokio::test]
async fn a_webhook_is_verified_unless_the_deployment_permits_otherwise() {
    let server = HttpServer::with_tls(Reply::json(r#"{"n": 4}"#)).await;
    let settings = |more: Value| {
        let set_url = format!("{}?n=${{desired}}", server.url());
        let mut settings = json!({
            "type": "webhook", "service": "web", "url": server.url(), "desired": "/n", "running": "/n", "set_url": set_url,
        });
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        settings
    };
    assert_eq!(status(&[], settings(json!({ "ca": CA }))).await.expect("it is verified").status.desired, 4);
    let error = status(&[], settings(json!({}))).await.expect_err("nobody vouches for it");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let error = status(&[], settings(json!({ "insecure_tls": true }))).await.expect_err("it is not permitted");
    assert_eq!(error.kind(), ErrorKind::Config);
}
