use serde_json::json;

use super::*;
use crate::wire::{Contract, Reply, Request as Asked, Scene};

pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

fn settings(endpoint: &str) -> Value {
    json!({ "url": format!("{endpoint}/logs?key=canary-key"), "bearer_token": "canary-token" })
}

/// The example of <https://devcenter.heroku.com/articles/http-routing#heroku-router-log-format> with these times.
fn line(service: &str) -> String {
    format!(
        "2012-10-11T03:47:20+00:00 heroku[router]: at=info method=GET path=\"/\" host=\"example-app-1234567890ab.heroku.com\" \
         request_id=8601b555-6a83-4c12-8269-97c8e32cdb22 fwd=\"204.204.204.204\" dyno=web.1 connect=1ms service={service} \
         status=200 bytes=13 tls_version=tls1.1 protocol=http\n"
    )
}

fn reply(scene: Scene, asked: &Asked) -> Reply {
    assert_eq!(asked.headers.get("authorization").map(String::as_str), Some("Bearer canary-token"));
    let app = "2012-10-11T03:47:20+00:00 app[web.1]: canary at=info service=1ms\n";
    match scene {
        Scene::Amount(service) => Reply::new(200, format!("{app}{}", line(&format!("{service}ms")))),
        Scene::Malformed => Reply::new(200, line("manyms")),
        Scene::Missing => Reply::new(200, app),
        Scene::Denied => Reply::new(401, "canary"),
        Scene::NotFound => Reply::new(404, "canary"),
        Scene::Throttled => Reply::new(429, "canary"),
        other => panic!("{other:?} is not a scene of a source"),
    }
}

fn measure(settings: Value, text: &str) -> Result<f64> {
    match parse::<Settings>(&settings)?.measure(text)?.amount {
        Amount::Gauge { value } => Ok(value.get()),
        Amount::Queue(depth) => panic!("{depth:?} is no gauge"),
    }
}

/// H10 and H12 as in <https://devcenter.heroku.com/articles/error-codes>.
const ERRORS: &str = r#"2010-10-06T21:51:04-07:00 heroku[router]: at=error code=H10 desc="App crashed" method=GET path="/" host=myapp.herokuapp.com request_id=8601b555-6a83-4c12-8269-97c8e32cdb22 fwd="204.204.204.204" dyno= connect= service= status=503 bytes=
2010-10-06T21:51:37-07:00 heroku[router]: at=error code=H12 desc="Request timeout" method=GET path="/slow" host=myapp.herokuapp.com request_id=8601b555-6a83-4c12-8269-97c8e32cdb22 fwd="204.204.204.204" dyno=web.1 connect=6ms service=30001ms status=503 bytes=0
"#;

#[test]
fn a_line_of_heroku_is_read_and_a_timeout_took_its_thirty_seconds() {
    assert_eq!(measure(json!({}), &line("18ms")).expect("the router's"), 18.0);
    assert_eq!(measure(json!({ "value": "connect" }), &line("18ms")).expect("the router's"), 1.0);
    assert_eq!(measure(json!({}), ERRORS).expect("one has a time"), 30001.0);
    assert_eq!(measure(json!({ "value": "error_percent" }), ERRORS).expect("both are errors"), 100.0);
    let mixed = format!("{}{}", line("18ms"), line("20ms").replace("at=info", "at=error code=H13"));
    assert_eq!(measure(json!({ "value": "error_percent" }), &mixed).expect("one of two"), 50.0);
    assert_eq!(measure(json!({ "value": "error_percent" }), &line("18ms")).expect("none"), 0.0);
}

#[test]
fn no_line_of_the_router_is_missing_and_never_zero() {
    let forged = "2012-10-11T03:47:20+00:00 app[web.1]: heroku[router]: at=info path=\"/\" service=1ms\n";
    let crashed = ERRORS.lines().next().expect("the first");
    for (settings, text) in [
        (json!({}), ""),
        (json!({}), forged),
        (json!({}), crashed),
        (json!({ "path": "/api" }), &line("18ms")),
        (json!({ "dyno": "worker" }), &line("18ms")),
        (json!({ "dyno": "we" }), &line("18ms")),
        (json!({ "value": "error_percent" }), forged),
    ] {
        assert_eq!(
            measure(settings.clone(), text).expect_err("nothing").kind(),
            ErrorKind::Missing,
            "{settings} {text}"
        );
    }
    for time in ["18", "18s", "-1ms", "ms", "NaNms"] {
        assert_eq!(measure(json!({}), &line(time)).expect_err(time).kind(), ErrorKind::Malformed, "{time}");
    }
}

#[test]
fn what_a_client_writes_into_its_path_is_not_taken_for_the_routers() {
    let forged = line("18ms").replace("path=\"/\"", "path=\"/ service=1ms dyno=worker.1 \" service=2ms connect=9ms\"");
    assert_eq!(measure(json!({ "dyno": "web" }), &forged).expect("the router's"), 18.0);
    assert_eq!(measure(json!({ "value": "connect" }), &forged).expect("the router's"), 1.0);
}

#[test]
fn frames_of_a_drain_are_read_by_their_length() {
    let router = |service: u32, second: u32| {
        format!(
            "<158>1 2012-10-11T03:47:{second:02}.000000+00:00 host heroku router - at=info method=GET path=\"/\" \
             host=example.com dyno=web.1 connect=1ms service={service}ms status=200 bytes=13\n"
        )
    };
    // The second is an application's, with what looks like a frame of the router's in it.
    let forged = format!("<190>1 2012-10-11T03:47:21+00:00 host app web.1 - x\n200 {}", router(9999, 22));
    let messages = [router(10, 20), forged, router(30, 23)];
    let frame = |message: &String| format!("{} {message}", message.len());
    let body: String = messages.iter().map(frame).collect();
    for (percentile, time) in [(50, 10.0), (100, 30.0)] {
        assert_eq!(measure(json!({ "percentile": percentile }), &body).expect("two lines"), time);
    }
    let read = parse::<Settings>(&json!({})).expect("settings").measure(&body).expect("two lines");
    assert_eq!(read.taken_at.map(|at| at.to_string()).as_deref(), Some("2012-10-11T03:47:23Z"));
    // A length that is beyond the end, or within a character, is no frame.
    assert!(measure(json!({}), &format!("99999 {}", router(10, 20))).is_err());
    assert!(measure(json!({}), "1 <ä").is_err());
}

/// Were the rest of the text searched for each line, this would take hours.
#[test]
fn a_long_body_of_short_lines_is_read_in_one_pass() {
    const COUNT: usize = 1 << 20;
    for (body, expected) in [("a\n", "a"), ("7 a\n", "7 a"), ("2 <a\n", "<a")] {
        let body = body.repeat(COUNT);
        assert!(lines(&body).eq(std::iter::repeat_n(expected, COUNT)), "{expected}");
    }
    let text = format!("{}{}", "a\n".repeat(3 * COUNT), line("18ms"));
    assert_eq!(measure(json!({}), &text).expect("the last is the router's"), 18.0);
}

#[test]
fn only_recent_lines_count() {
    let old = line("900ms").replace("03:47:20", "03:40:00");
    let both = format!("{old}{}", line("18ms"));
    assert_eq!(measure(json!({}), &both).expect("the newer"), 18.0);
    assert_eq!(measure(json!({ "window_secs": 600 }), &both).expect("both"), 900.0);
}

#[test]
fn a_drains_lines_are_found_in_the_event() {
    let mut settings = json!({});
    take(&mut settings, &json!({ "body": line("18ms"), "isBase64Encoded": false })).expect("settings are valid");
    let found = parse::<Settings>(&settings).expect("settings").found.expect("it was looked for");
    assert!(matches!(found.measurement().expect("a line").amount, Amount::Gauge { value } if value.get() == 18.0));
    let mut settings = json!({});
    take(&mut settings, &json!({ "detail": {} })).expect("settings are valid");
    let found = parse::<Settings>(&settings).expect("settings").found.expect("it was looked for");
    assert_eq!(found.measurement().expect_err("no body").kind(), ErrorKind::Missing);
}
