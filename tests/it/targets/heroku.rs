//! Process types of an app of Heroku's, played by a fake that Prism holds to the published description of the Platform API.

mod fake;

use serde_json::json;
use tidegate::error::ErrorKind;

use self::fake::Heroku;
use crate::support::judged::{discover, target};
use crate::support::proxy::Fault;
use crate::support::target::{look_on_through, rehearse, set, status};

#[tokio::test]
async fn heroku_tells_quantity_dynos_and_release() {
    let heroku = Heroku::start(5).await;
    heroku.with(|state| {
        state.dynos = vec![("worker", "up", 42), ("worker", "starting", 42), ("worker", "crashed", 42)];
        state.dynos.extend([("web", "up", 42), ("run", "up", 40)]);
    });
    let reading = status(&[], heroku.settings("worker")).await.expect("it can be read");
    let told = (reading.status.desired, reading.status.running, reading.status.pending, reading.status.rolling_out);
    assert_eq!(told, (5, 1, 1, false));
    assert_eq!(reading.status.warnings.len(), 1, "one crashed: {:?}", reading.status.warnings);
    let port = heroku.url().trim_start_matches("http://").to_owned();
    assert_eq!(reading.target, format!("heroku:{port}/-/shop/worker"));
    assert!(heroku.mutating().is_empty(), "reading changed something");
    heroku.assert_valid();
}

#[tokio::test]
async fn heroku_is_asked_once_for_all_process_types_of_an_app() {
    let heroku = Heroku::start(5).await;
    let services = ["web".to_owned(), "clock".to_owned(), "worker".to_owned()];
    let statuses = target(heroku.settings("worker")).await.statuses(&services).await;
    let desired: Vec<_> = statuses.iter().map(|status| status.as_ref().map(|status| status.desired)).collect();
    assert!(matches!(desired[..], [Ok(1), Err(_), Ok(5)]), "{desired:?}");
    let mut asked = heroku.asked();
    asked.sort_unstable();
    assert_eq!(asked, ["GET /apps/shop", "GET /apps/shop/dynos", "GET /apps/shop/formation"]);
}

#[tokio::test]
async fn heroku_reads_every_page_of_dynos() {
    // Heroku's documentation has 206 and Next-Range, its schema does not.
    let heroku = Heroku::start(25).await;
    heroku.with(|state| state.page = 10);
    let mut settings = heroku.settings("worker");
    settings["url"] = json!(heroku.unjudged_url());
    let reading = status(&[], settings.clone()).await.expect("it can be read");
    assert_eq!(reading.status.running, 25);
    // A list that never ends is no list.
    heroku.with(|state| {
        state.page = 1;
        state.dynos = vec![("worker", "up", 42); 30];
    });
    let error = status(&[], settings).await.expect_err("it is not whole");
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
}

#[tokio::test]
async fn heroku_is_set_to_zero_and_above_and_nothing_but_the_quantity_changes() {
    let heroku = Heroku::start(3).await;
    for count in [0, 40, 7] {
        let record = set(&[], heroku.settings("worker"), count).await;
        assert_eq!(record["outcome"], "changed", "{record}");
        assert_eq!(heroku.process("worker"), (i64::from(count), "Standard-1X"));
    }
    let sent: Vec<_> = heroku.mutating().iter().map(|call| (call.path.clone(), call.json())).collect();
    let path = || "/apps/shop/formation/worker".to_owned();
    let expected = [0, 40, 7].map(|count| (path(), json!({ "quantity": count })));
    assert_eq!(sent, expected);
    assert_eq!(heroku.process("web"), (1, "Eco"));
    heroku.assert_valid();
}

#[tokio::test]
async fn heroku_is_not_asked_for_what_it_has() {
    let heroku = Heroku::start(3).await;
    let record = set(&[], heroku.settings("worker"), 3).await;
    assert_eq!((&record["outcome"], heroku.mutating().len()), (&json!("held"), 0), "{record}");
    let target = target(heroku.settings("worker")).await;
    for _ in 0..2 {
        target.set_desired("worker", 3).await.expect("the same again is harmless");
    }
    assert_eq!(heroku.process("worker"), (3, "Standard-1X"));
    heroku.assert_valid();
}

#[tokio::test]
async fn herokus_limits_are_told_in_its_own_words() {
    let heroku = Heroku::start(3).await;
    let record = set(&[], heroku.settings("web"), 2).await;
    assert_eq!(record["outcome"], "failed", "{record}");
    let failure = &record["failures"][0];
    assert_eq!(failure["kind"], "Refused");
    let message = failure["message"].as_str().unwrap_or_default();
    assert!(message.contains("cannot_update_above_limit: Cannot update to more than 1 Eco size dynos"), "{message}");
    assert_eq!(heroku.process("web"), (1, "Eco"));
    heroku.assert_valid();
}

#[tokio::test]
async fn heroku_without_the_app_or_the_process_is_not_found() {
    let heroku = Heroku::start(3).await;
    let error = status(&[], heroku.settings("clock")).await.expect_err("there is none");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("only: worker, web, console"), "{error}");
    let mut elsewhere = heroku.settings("worker");
    elsewhere["app"] = json!("other");
    let error = status(&[], elsewhere).await.expect_err("there is none");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("not_found: Couldn't find that app."), "{error}");
    heroku.assert_valid();
}

#[tokio::test]
async fn heroku_with_a_wrong_token_is_denied() {
    let heroku = Heroku::start(3).await;
    let mut settings = heroku.settings("worker");
    settings["token"] = json!("canary-of-yesterday");
    let error = status(&[], settings).await.expect_err("it is not let in");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("the token is wrong, revoked or expired"), "{error}");
    heroku.with(|state| state.refusal = Some((403, "forbidden")));
    let record = set(&[], heroku.settings("worker"), 5).await;
    assert_eq!(record["failures"][0]["kind"], "Denied", "{record}");
    assert!(record["failures"][0]["message"].as_str().is_some_and(|message| message.contains("scopes read and write")));
    heroku.assert_valid();
}

#[tokio::test]
async fn heroku_at_its_rate_limit_is_throttled() {
    let heroku = Heroku::start(3).await;
    heroku.with(|state| state.calls_left = 0);
    let error = status(&[], heroku.settings("worker")).await.expect_err("no calls are left");
    assert_eq!(error.kind(), ErrorKind::Throttled, "{error}");
    assert!(error.to_string().contains("has 0 calls left of 4500 an hour"), "{error}");
    heroku.assert_valid();
}

#[tokio::test]
async fn every_documented_error_of_heroku_has_its_kind() {
    let heroku = Heroku::start(3).await;
    let target = target(heroku.settings("worker")).await;
    for (status, id, kind) in [
        (400, "bad_request", ErrorKind::Refused),
        (401, "unauthorized", ErrorKind::Denied),
        (402, "delinquent", ErrorKind::Refused),
        (403, "suspended", ErrorKind::Denied),
        (404, "not_found", ErrorKind::NotFound),
        (406, "not_acceptable", ErrorKind::Refused),
        (409, "conflict", ErrorKind::Locked),
        (410, "gone", ErrorKind::Refused),
        (422, "verification_needed", ErrorKind::Refused),
        (429, "rate_limit", ErrorKind::Throttled),
        (500, "internal_server_error", ErrorKind::Unavailable),
        (503, "service_unavailable", ErrorKind::Unavailable),
    ] {
        heroku.with(|state| state.refusal = Some((status, id)));
        let error = target.set_desired("worker", 5).await.expect_err("it is refused");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&format!("({id}: Conflicting request.)")), "{error}");
    }
    assert_eq!(heroku.process("worker").0, 3);
    heroku.assert_valid();
}

#[tokio::test]
async fn a_release_of_heroku_is_seen_while_it_is_rolled_out() {
    let heroku = Heroku::start(2).await;
    let mut rolls = Vec::new();
    for dynos in [
        vec![("worker", "up", 42), ("release", "up", 43)],
        vec![("worker", "up", 42), ("worker", "starting", 43)],
        vec![("worker", "up", 43), ("worker", "up", 43)],
    ] {
        heroku.with(|state| state.dynos = dynos);
        rolls.push(status(&[], heroku.settings("worker")).await.expect("it can be read").status.rolling_out);
    }
    assert_eq!(rolls, [true, true, false]);
    heroku.with(|state| state.maintenance = true);
    let reading = status(&[], heroku.settings("worker")).await.expect("it can be read");
    assert!(reading.status.warnings[0].contains("maintenance mode"), "{:?}", reading.status.warnings);
    heroku.assert_valid();
}

#[tokio::test]
async fn heroku_whose_reply_is_lost_makes_no_double_step() {
    let heroku = Heroku::start(3).await;
    heroku.fail_about("*", "/formation/worker", 1, Fault::DropReply);
    let record = set(&[], heroku.settings("worker"), 8).await;
    assert_eq!(record["outcome"], "failed", "{record}");
    assert_eq!(heroku.mutating().len(), 1, "it was sent again by itself");
    assert_eq!(heroku.process("worker").0, 8);
    let record = set(&[], heroku.settings("worker"), 8).await;
    assert_eq!((&record["outcome"], heroku.mutating().len()), (&json!("held"), 1), "{record}");
    heroku.assert_valid();
}

#[tokio::test]
async fn a_rehearsal_changes_nothing_at_heroku() {
    let heroku = Heroku::start(3).await;
    let record = rehearse(&[], heroku.settings("worker"), 8).await;
    assert_eq!(record["outcome"], "dry_run", "{record}");
    assert_eq!(record["would_have"]["desired"], 8);
    assert!(!heroku.calls().is_empty() && heroku.mutating().is_empty(), "{:?}", heroku.asked());
    assert_eq!(heroku.process("worker").0, 3);
    heroku.assert_valid();
}

#[tokio::test]
async fn a_rehearsal_beside_others_changes_nothing_at_heroku() {
    let heroku = Heroku::start(1).await;
    let others = async |count| heroku.with(|state| state.formation[0].1 = i64::from(count));
    look_on_through(&heroku, &[], heroku.settings("worker"), others).await;
    heroku.assert_valid();
}

#[tokio::test]
async fn heroku_finds_process_types_that_are_services() {
    let heroku = Heroku::start(3).await;
    heroku.with(|state| state.formation.extend([("release", 0, "Eco"), ("worker-mail", 0, "Eco"), ("rake", 0, "Eco")]));
    for (pattern, found) in
        [("*", &["web", "worker", "worker-mail"][..]), ("worker*", &["worker", "worker-mail"]), ("clock*", &[])]
    {
        let expected: Vec<_> = found
            .iter()
            .map(|process| {
                let mut settings = heroku.settings(process);
                settings.as_object_mut().expect("an object").remove("type");
                settings
            })
            .collect();
        assert_eq!(discover(heroku.settings(pattern)).await.expect("they can be listed"), expected, "{pattern}");
    }
    assert!(heroku.mutating().is_empty());
    heroku.assert_valid();
}
