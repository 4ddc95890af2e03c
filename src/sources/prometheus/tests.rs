use aws_credential_types::provider::SharedCredentialsProvider;
use serde_json::json;
use url::Url;

use super::*;
use crate::clock::Fixed;
use crate::core::Amount;
use crate::wire::{Contract, Reply, Request, Scene, Wire};

pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

const ID: &str = "ws-9f3c1d2e-0000-4a5b-8c6d-7e8f90a1b2c3";

fn settings(endpoint: &str) -> Value {
    json!({
        "url": format!("{endpoint}/prometheus/"), "query": "sum(queue_depth)", "bearer_token": "canary-token",
        "headers": { "X-Scope-OrgID": "canary-tenant" },
    })
}

fn vector(value: &str) -> Reply {
    let series = json!([{ "metric": { "queue": "orders" }, "value": [1_795_308_597.867, value] }]);
    let data = json!({ "resultType": "vector", "result": series });
    Reply::new(200, json!({ "status": "success", "data": data, "warnings": ["PromQL warning: canary"] }).to_string())
}

/// As recorded of Prometheus 2.42.0.
fn reply(scene: Scene, request: &Request) -> Reply {
    let query = "query=sum%28queue_depth%29&partial_response=false&deny_partial_response=1";
    assert_eq!(request.path, format!("/prometheus/api/v1/query?{query}"));
    let header = |name: &str| request.headers.get(name).map(String::as_str);
    assert_eq!(header("authorization"), Some("Bearer canary-token"));
    assert_eq!(header("x-scope-orgid"), Some("canary-tenant"));
    match scene {
        Scene::Amount(waiting) => vector(&waiting.to_string()),
        Scene::Malformed => vector("NaN"),
        Scene::Missing => Reply::new(200, r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#),
        Scene::Denied => Reply::new(401, "canary"),
        Scene::NotFound => Reply::new(404, "canary"),
        Scene::Throttled => {
            Reply::new(429, r#"{"status":"error","errorType":"too_many_requests","error":"slow down"}"#)
        }
        other => panic!("{other:?} is not a scene of a source"),
    }
}

/// Several series, each with its value.
fn several(values: &[&str]) -> Value {
    let series: Vec<_> = values.iter().map(|value| json!({ "metric": {}, "value": [1_795_308_597, value] })).collect();
    json!({ "resultType": "vector", "result": series })
}

fn gauge(data: &Value, combine: Option<Combine>, empty: Option<Empty>) -> Result<f64, (ErrorKind, String)> {
    match answer::measurement(data, combine, empty)?.amount {
        Amount::Gauge { value } => Ok(value.get()),
        Amount::Queue(_) => panic!("it is a queue"),
    }
}

#[test]
fn several_series_are_one_number_only_by_a_rule() {
    let three = several(&["1", "5", "3"]);
    for (combine, expected) in [(Combine::Sum, 9.0), (Combine::Max, 5.0), (Combine::Mean, 3.0)] {
        assert_eq!(gauge(&three, Some(combine), None), Ok(expected));
    }
    let (kind, cause) = gauge(&three, None, None).expect_err("there is no rule");
    assert_eq!(kind, ErrorKind::Config);
    assert!(cause.contains("3 series"), "{cause}");
    assert_eq!(gauge(&several(&["7.5"]), None, None), Ok(7.5));
}

#[test]
fn no_series_is_zero_only_where_that_is_said() {
    for combine in [None, Some(Combine::Sum), Some(Combine::Max), Some(Combine::Mean)] {
        let unsaid = gauge(&several(&[]), combine, None).expect_err("there is nothing");
        assert_eq!(unsaid.0, ErrorKind::Missing, "{unsaid:?}");
        assert_eq!(gauge(&several(&[]), combine, Some(Empty::Zero)), Ok(0.0));
    }
    assert_eq!(gauge(&several(&[]), None, Some(Empty::Error)).expect_err("it is said").0, ErrorKind::Missing);
}

#[test]
fn no_sample_that_is_no_count_is_a_number() {
    let (sum, zero) = (Some(Combine::Sum), Some(Empty::Zero));
    for bad in ["NaN", "+Inf", "-Inf", "Inf", "-1", "-0.1", "", "many", "1e999"] {
        for data in [several(&[bad]), several(&["5", bad]), json!({ "resultType": "scalar", "result": [1, bad] })] {
            assert_eq!(gauge(&data, sum, zero).expect_err(bad).0, ErrorKind::Malformed, "{data}");
        }
    }
    let too_much = several(&["1e308", "1e308"]);
    assert_eq!(gauge(&too_much, sum, None).expect_err("it is infinite").0, ErrorKind::Malformed);
}

#[test]
fn results_that_are_no_numbers_are_refused_with_a_remedy() {
    let zero = Some(Empty::Zero);
    for (data, kind, says) in [
        (json!({ "resultType": "matrix", "result": [] }), ErrorKind::Config, "leave out [5m]"),
        (json!({ "resultType": "string", "result": [1, "5"] }), ErrorKind::Config, "must give a number"),
        (json!({ "resultType": "vector", "result": [{ "histogram": [1, {}] }] }), ErrorKind::Config, "a histogram"),
        (json!({ "resultType": "vector", "result": null }), ErrorKind::Malformed, "a vector that is none"),
        (
            json!({ "resultType": "vector", "result": [{ "value": [1, 5] }] }),
            ErrorKind::Malformed,
            "a vector that is none",
        ),
        (json!({ "resultType": "vector", "result": [{ "value": [1e300, "5"] }] }), ErrorKind::Malformed, "time"),
        (json!({ "resultType": "scalar", "result": [] }), ErrorKind::Malformed, "a scalar that is none"),
        (json!({ "resultType": "sum", "result": [] }), ErrorKind::Malformed, "no type"),
        (json!({}), ErrorKind::Malformed, "no type"),
        (Value::Null, ErrorKind::Malformed, "no type"),
    ] {
        let (found, cause) = gauge(&data, None, zero).expect_err("it is no number");
        assert_eq!(found, kind, "{data}: {cause}");
        assert!(cause.contains(says), "{data}: {cause}");
    }
}

#[test]
fn the_time_is_that_of_the_oldest_sample() {
    let data = json!({ "resultType": "vector", "result": [
        { "value": [1_795_308_597.867, "1"] }, { "value": [1_795_308_590, "1"] },
    ] });
    let measurement = answer::measurement(&data, Some(Combine::Sum), None).expect("they are numbers");
    assert_eq!(measurement.taken_at, Some("2026-11-22T00:49:50Z".parse().expect("a time")));
}

#[test]
fn a_refusal_is_of_its_kind_and_says_why() {
    let said =
        |status: u16, body: Value| answer::Said::read(body.to_string().as_bytes()).expect("it is one").refusal(status);
    let error = |kind: &str| json!({ "status": "error", "errorType": kind, "error": "1:5: parse error\n" });
    for (status, kind, expected) in [
        (400, "bad_data", ErrorKind::Refused),
        (422, "execution", ErrorKind::Refused),
        (503, "timeout", ErrorKind::Timeout),
        (503, "canceled", ErrorKind::Unavailable),
        (500, "internal", ErrorKind::Unavailable),
        (429, "too_many_requests", ErrorKind::Throttled),
        (200, "bad_data", ErrorKind::Refused),
    ] {
        let (found, cause) = said(status, error(kind)).expect("it is an error");
        assert_eq!(found, expected, "{status} {kind}");
        assert!(
            cause.starts_with(&format!("it answered {kind}: 1:5: parse error")) && !cause.contains('\n'),
            "{cause}"
        );
    }
    let long = json!({ "status": "error", "errorType": "bad_data", "error": "x".repeat(9000) });
    assert!(said(400, long).expect("it is an error").1.len() < 400);
    assert_eq!(said(200, json!({ "status": "success" })), None);
}

#[test]
fn an_answer_in_part_is_no_answer() {
    for (body, kind) in [
        (json!({ "status": "success", "isPartial": true, "data": several(&["5"]) }), ErrorKind::Unavailable),
        (json!({ "status": "error", "errorType": "internal", "data": several(&["5"]) }), ErrorKind::Unavailable),
        (json!({ "status": "perhaps", "data": several(&["5"]) }), ErrorKind::Malformed),
    ] {
        let said = answer::Said::read(body.to_string().as_bytes()).expect("it is one");
        assert_eq!(said.data().expect_err("it is no answer").0, kind, "{body}");
    }
}

#[test]
fn an_answer_with_a_warning_of_a_storage_is_no_answer() {
    let data = |warnings: Value| {
        let body = json!({ "status": "success", "data": several(&["5"]), "warnings": warnings });
        answer::Said::read(body.to_string().as_bytes())?.data()
    };
    let annotation = "PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)";
    for harmless in [json!(null), json!([]), json!([annotation]), json!([annotation, "PromQL info: canary"])] {
        assert_eq!(data(harmless.clone()), Ok(several(&["5"])), "{harmless}");
    }
    // As Prometheus 2.42.0 says it of a remote_read that is down, and as Thanos does.
    let remote = "remote_read: error sending request: Post \"http://127.0.0.1:9/read\": connect: connection refused";
    for warning in [remote, "receive series from Addr: 10.0.0.1:10901: \u{1b}[31mcanary\n", &"x".repeat(9000), ""] {
        let (kind, cause) = data(json!([annotation, warning])).expect_err(warning);
        assert_eq!(kind, ErrorKind::Unavailable, "{cause}");
        assert!(cause.starts_with("the answer may be partial: ") && cause.len() < 400, "{cause}");
        assert!(!cause.contains(char::is_control), "{cause:?}");
    }
    assert!(data(json!([remote])).expect_err("it is partial").1.contains("127.0.0.1:9/read"));
    assert_eq!(data(json!("canary")).expect_err("it is no list").0, ErrorKind::Malformed);
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let arn = format!("arn:aws:aps:eu-west-1:123456789012:workspace/{ID}");
    let with = |more: Value| {
        let mut settings = json!({ "query": "up" });
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        check(&settings)
    };
    let basic = json!({ "user": "reader", "password": "canary" });
    for right in [
        json!({ "url": "http://prometheus:9090" }),
        json!({ "url": "https://a/prometheus/", "method": "post", "headers": { "X-Scope-OrgID": "a|b" } }),
        json!({ "workspace": arn }),
        json!({ "url": format!("https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/{ID}/") }),
    ] {
        assert_eq!(with(right.clone()), [], "{right}");
    }
    for wrong in [
        json!({}),
        json!({ "url": "https://a", "workspace": arn }),
        json!({ "workspace": "arn:aws:aps:eu-west-1:123456789012:workspace/../canary" }),
        json!({ "workspace": arn, "bearer_token": "canary" }),
        json!({ "workspace": arn, "method": "get" }),
        json!({ "url": format!("https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/{ID}"), "basic": basic }),
        json!({ "url": "https://a", "bearer_token": "canary", "basic": basic }),
        json!({ "url": "https://a/api/v1/query" }),
        json!({ "url": "https://a?query=canary" }),
        json!({ "url": "https://user:canary@a" }),
        json!({ "url": "https://a", "headers": { "Authorization": "canary" } }),
        json!({ "url": "https://a", "headers": { "X-Amz-Date": "canary" } }),
        json!({ "url": "https://a", "headers": { "not a header": "canary" } }),
    ] {
        let problems = with(wrong.clone());
        assert_eq!(problems.len(), 1, "{wrong}: {problems:?}");
        assert!(!format!("{problems:?}").contains("canary"), "{problems:?}");
    }
}

#[test]
fn a_workspace_is_known_by_its_arn_and_its_url() {
    let place = Place::new("us-east-1", "999999999999");
    let arn = format!("arn:aws:aps:eu-west-1:123456789012:workspace/{ID}");
    let url = format!("https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/{ID}");
    for (settings, account, resource) in [
        (json!({ "workspace": arn, "query": "up" }), "123456789012", arn.clone()),
        (json!({ "url": url, "query": "up" }), "-", arn.replace("123456789012", "999999999999")),
    ] {
        let statements = permissions(&settings, &place).expect("they are valid");
        assert_eq!(statements, [Statement::allow("QueryMetrics", &["aps:QueryMetrics"], vec![resource])]);
        let expected =
            format!("prometheus:eu-west-1/{account}/aps-workspaces.eu-west-1.amazonaws.com:443/workspaces/{ID}");
        assert_eq!(identities(&settings, "us-east-1")[0].to_string(), expected);
    }
    let plain = json!({ "url": "https://mimir:8080/prometheus", "query": "up" });
    assert_eq!(identities(&plain, "us-east-1")[0].to_string(), "prometheus:-/-/mimir:8080/prometheus");
    assert_eq!(permissions(&plain, &place).expect("they are valid"), []);
    for other in
        ["https://aps-workspaces.evil.example/workspaces/a", "https://aps-workspaces.a.b.amazonaws.com/workspaces/a"]
    {
        assert_eq!(Workspace::by_url(&Url::parse(other).expect("a URL")), None);
    }
}

/// What botocore 1.44.5 makes of the same request, by `SigV4Auth(credentials, "aps", "eu-west-1").add_auth(request)`.
#[tokio::test]
async fn a_request_is_signed_as_by_botocore() {
    let url = Url::parse(&format!("https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/{ID}/api/v1/query"));
    let form = "query=sum%28queue_depth%7Bqueue%3D%22orders%22%7D%29+%2F+2";
    for (token, signed, signature) in [
        (None, "", "99c5fabe2030f7132833ce230b0807311301f13763656a417977c9130f69771b"),
        (
            Some("canary-token"),
            ";x-amz-security-token",
            "bd2cdae62dfa99688c072cf6d99eb9ea4ff3df75de17f96efab304c9e3e68456",
        ),
    ] {
        let credentials = aws_credential_types::Credentials::new(
            "AKIDEXAMPLE",
            "canary-secret-key",
            token.map(str::to_owned),
            None,
            "test",
        );
        let sdk = Shared::for_wire("http://127.0.0.1:9").aws.sdk("eu-west-1");
        let sdk = sdk.into_builder().credentials_provider(SharedCredentialsProvider::new(credentials)).build();
        let signer = Signer { sdk, clock: Arc::new(Fixed("2026-11-22T12:00:00Z".parse().expect("a time"))) };
        let headers = signer.sign(url.as_ref().expect("a URL"), form).await.expect("it can be signed");
        let header = |name: &str| headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/eu-west-1/aps/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date{signed}, Signature={signature}"
        );
        assert_eq!(header("authorization"), Some(authorization.as_str()));
        assert_eq!(header("x-amz-date"), Some("20261122T120000Z"));
        assert_eq!(header("x-amz-security-token"), token);
    }
}

#[tokio::test]
async fn a_workspace_is_asked_with_a_signed_form() {
    let reply = |scene: Scene, _: &Request| match scene {
        Scene::Amount(waiting) => vector(&waiting.to_string()),
        _ => Reply::new(403, r#"{"message":"canary"}"#),
    };
    let settings = json!({
        "workspace": format!("arn:aws:aps:eu-west-1:123456789012:workspace/{ID}"), "query": "a + b",
        "headers": { "X-Extra": "canary-extra" },
    });
    let ask = async |scene| {
        let wire = Wire::play(scene, reply).await;
        let time = Fixed("2026-11-22T12:00:00Z".parse().expect("a time"));
        let source =
            build(&settings, &Shared::for_wire(&wire.endpoint).with_clock(Arc::new(time))).expect("it is built");
        (source.read().await, wire.requests())
    };
    let (answer, requests) = ask(Scene::Amount(5)).await;
    assert!(answer.is_ok());
    let Request { method, path, headers, body } = &requests[0];
    assert_eq!((method.as_str(), path.clone()), ("POST", format!("/workspaces/{ID}/api/v1/query")));
    assert_eq!(body, b"query=a+%2B+b");
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!((headers["x-amz-date"].as_str(), headers["x-extra"].as_str()), ("20261122T120000Z", "canary-extra"));
    let scope = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/eu-west-1/aps/aws4_request, SignedHeaders=content-type;host;x-amz-date,";
    assert!(headers["authorization"].starts_with(scope), "{}", headers["authorization"]);
    let denied = ask(Scene::Denied).await.0.expect_err("it is denied");
    assert_eq!(denied.kind(), ErrorKind::Denied);
    assert!(denied.to_string().ends_with("it answered 403; access denied (aps:QueryMetrics)"), "{denied}");
}
