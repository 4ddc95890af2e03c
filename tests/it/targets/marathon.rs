//! Applications of a Marathon, played by a fake that Prism holds to the published description of its API.

mod fake;

use serde_json::json;
use tidegate::core::{Asked, Held, Pause};
use tidegate::error::ErrorKind;

use self::fake::{DEPLOYMENT, Marathon};
use crate::support::judged::{discover, target};
use crate::support::proxy::Fault;
use crate::support::target::{look_on_through, rehearse, set, status};

#[tokio::test]
async fn marathon_tells_what_was_asked_for_and_what_runs() {
    let marathon = Marathon::start(5).await;
    marathon.app("/shop/orders", |app| (app.running, app.staged, app.unhealthy) = (3, 1, 2));
    let reading = status(&[], marathon.settings("/shop/orders")).await.expect("it can be read");
    let told = (reading.status.desired, reading.status.running, reading.status.pending, reading.status.rolling_out);
    assert_eq!(told, (5, 3, 1, false));
    assert_eq!(reading.status.warnings, ["2 of its 3 running tasks are unhealthy"]);
    let port = marathon.url().trim_start_matches("http://").to_owned();
    assert_eq!(reading.target, format!("marathon:{port}/-/shop/orders"));
    assert!(marathon.mutating().is_empty(), "reading changed something");
    marathon.assert_valid();
}

#[tokio::test]
async fn marathon_is_asked_once_for_all_applications_of_a_group() {
    let marathon = Marathon::start(5).await;
    let services = ["orders-2".to_owned(), "none".to_owned(), "orders".to_owned()];
    let statuses = target(marathon.settings("/shop/orders")).await.statuses(&services).await;
    let desired: Vec<_> = statuses.iter().map(|status| status.as_ref().map(|status| status.desired)).collect();
    assert!(matches!(desired[..], [Ok(1), Err(_), Ok(5)]), "{desired:?}");
    assert_eq!(marathon.asked(), ["GET /v2/apps?id=%2Fshop%2F&embed=apps.counts&embed=apps.deployments"]);
    marathon.assert_valid();
}

#[tokio::test]
async fn marathon_is_asked_for_each_application_that_is_in_no_group_and_for_no_other() {
    let marathon = Marathon::start(5).await;
    let services = ["top".to_owned(), "none".to_owned(), "order".to_owned()];
    let statuses = target(marathon.settings("/top")).await.statuses(&services).await;
    let desired: Vec<_> = statuses.iter().map(|status| status.as_ref().map(|status| status.desired)).collect();
    assert!(matches!(desired[..], [Ok(4), Err(_), Err(_)]), "{desired:?}");
    let mut asked = marathon.asked();
    asked.sort();
    let call = |id: &str| format!("GET /v2/apps?id=%2F{id}&embed=apps.counts&embed=apps.deployments");
    assert_eq!(asked, ["none", "order", "top"].map(call));
    marathon.assert_valid();
}

#[tokio::test]
async fn marathon_is_set_to_zero_and_above_with_and_without_groups_and_nothing_else_changes() {
    let marathon = Marathon::start(3).await;
    for (app, count) in [("/shop/orders", 0), ("/shop/orders", 40), ("shop/eu/mail", 1), ("top", 9)] {
        let record = set(&[], marathon.settings(app), count).await;
        assert_eq!(record["outcome"], "changed", "{record}");
        assert_eq!(marathon.instances(&format!("/{}", app.trim_start_matches('/'))), i64::from(count));
    }
    let sent: Vec<_> = marathon.mutating().iter().map(|call| (call.path.clone(), call.json())).collect();
    let expected = [("shop/orders", 0), ("shop/orders", 40), ("shop/eu/mail", 1), ("top", 9)]
        .map(|(id, count)| (format!("/v2/apps/{id}?partialUpdate=true"), json!({ "instances": count })));
    assert_eq!(sent, expected);
    assert_eq!(marathon.instances("/shop/orders-2"), 1);
    marathon.assert_valid();
}

#[tokio::test]
async fn marathon_is_not_asked_for_what_it_has() {
    let marathon = Marathon::start(3).await;
    let record = set(&[], marathon.settings("/shop/orders"), 3).await;
    assert_eq!((&record["outcome"], marathon.mutating().len()), (&json!("held"), 0), "{record}");
    let target = target(marathon.settings("/shop/orders")).await;
    for _ in 0..2 {
        target.set_desired("orders", 3).await.expect("the same again is harmless");
    }
    assert_eq!(marathon.instances("/shop/orders"), 3);
    let error = target.set_desired("orders", u32::MAX).await.expect_err("it is too many");
    assert_eq!((error.kind(), marathon.mutating().len()), (ErrorKind::Refused, 2), "{error}");
    marathon.assert_valid();
}

#[tokio::test]
async fn marathon_without_the_application_is_not_found_and_makes_none() {
    let marathon = Marathon::start(3).await;
    for app in ["/shop/order", "/shop/eu/orders", "/orders"] {
        let error = status(&[], marathon.settings(app)).await.expect_err("there is none");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        let record = set(&[], marathon.settings(app), 5).await;
        assert_eq!(record["failures"][0]["kind"], "NotFound", "{record}");
    }
    let refused = target(marathon.settings("/shop/order")).await.set_desired("order", 5).await;
    let refused = refused.expect_err("an application is not made of a count");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("(Object is not valid; /: AppDefinition must have cmd"), "{refused}");
    marathon.assert_valid();
}

#[tokio::test]
async fn marathon_lets_in_who_has_the_right_login() {
    let marathon = Marathon::start(3).await;
    for (login, more) in [
        ("Basic dGlkZWdhdGU6Y2FuYXJ5", json!({ "user": "tidegate", "password": "canary" })),
        ("Bearer canary", json!("canary")),
        ("token=canary", json!("canary")),
    ] {
        marathon.with(|state| state.login = Some(login));
        let name = match login.split_at(6).0 {
            "Basic " => "basic",
            "Bearer" => "bearer_token",
            _ => "dcos_token",
        };
        let mut settings = marathon.settings("/shop/orders");
        let error = status(&[], settings.clone()).await.expect_err("nobody is let in");
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        settings[name] = more;
        let reading = status(&[], settings.clone()).await.expect("it is let in");
        assert_eq!(reading.status.desired, 3);
        let record = set(&[], settings, 3).await;
        assert_eq!(record["outcome"], "held", "{record}");
    }
    marathon.assert_valid();
}

#[tokio::test]
async fn every_documented_error_of_marathon_has_its_kind() {
    let marathon = Marathon::start(3).await;
    let judged = target(marathon.settings("/shop/orders")).await;
    let mut settings = marathon.settings("/shop/orders");
    settings["url"] = json!(marathon.unjudged_url());
    let unjudged = target(settings).await;
    for (status, message, kind) in [
        (400, "Invalid JSON", ErrorKind::Refused),
        (401, "Unauthorized", ErrorKind::Denied),
        (403, "Not Authorized to perform this action!", ErrorKind::Denied),
        (403, "Max number (100) of running deployments is achieved. Wait.", ErrorKind::Throttled),
        (404, "App '/shop/orders' does not exist", ErrorKind::NotFound),
        (409, "App is locked by one or more deployments.", ErrorKind::Locked),
        (422, "Object is not valid", ErrorKind::Refused),
        // Not in the description.
        (429, "a gateway's", ErrorKind::Throttled),
        (500, "oops", ErrorKind::Unavailable),
        (503, "no leader", ErrorKind::Unavailable),
    ] {
        marathon.with(|state| state.refusal = Some((status, message)));
        let target = if matches!(status, 429 | 500 | 503) { &unjudged } else { &judged };
        let error = target.set_desired("orders", 5).await.expect_err("it is refused");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&format!("answered {status} ({message})")), "{error}");
    }
    assert_eq!(marathon.instances("/shop/orders"), 3);
    marathon.assert_valid();
}

#[tokio::test]
async fn marathon_that_has_a_deployment_is_tried_again_and_never_forced() {
    let marathon = Marathon::start(3).await;
    marathon.with(|state| state.locks = 2);
    let record = set(&[], marathon.settings("/shop/orders"), 8).await;
    assert_eq!(record["outcome"], "changed", "{record}");
    assert!(record["warnings"].to_string().contains(&format!("locked by deployment {DEPLOYMENT}")), "{record}");
    assert_eq!((marathon.instances("/shop/orders"), marathon.mutating().len()), (8, 3));

    marathon.reset();
    marathon.app("/shop/orders", |app| app.is_deployed = true);
    let record = set(&[], marathon.settings("/shop/orders"), 9).await;
    assert_eq!((&record["outcome"], &record["failures"][0]["kind"]), (&json!("failed"), &json!("Locked")), "{record}");
    assert_eq!((marathon.instances("/shop/orders"), marathon.mutating().len()), (8, 4));
    assert!(marathon.mutating().iter().all(|call| !call.path.contains("force")), "{:?}", marathon.asked());
    marathon.assert_valid();
}

#[tokio::test]
async fn a_deployment_of_marathon_is_a_rollout() {
    let marathon = Marathon::start(3).await;
    marathon.app("/shop/orders", |app| app.is_deployed = true);
    let reading = status(&[], marathon.settings("/shop/orders")).await.expect("it can be read");
    assert!(reading.status.rolling_out);
    marathon.assert_valid();
}

#[tokio::test]
async fn marathon_whose_reply_is_lost_makes_no_double_step() {
    let marathon = Marathon::start(3).await;
    marathon.fail_about("*", "/shop/orders?", 1, Fault::DropReply);
    let record = set(&[], marathon.settings("/shop/orders"), 8).await;
    assert_eq!(record["outcome"], "failed", "{record}");
    assert_eq!((marathon.instances("/shop/orders"), marathon.mutating().len()), (8, 1));
    let record = set(&[], marathon.settings("/shop/orders"), 8).await;
    assert_eq!((&record["outcome"], marathon.mutating().len()), (&json!("held"), 1), "{record}");
    marathon.assert_valid();
}

#[tokio::test]
async fn a_rehearsal_changes_nothing_at_marathon() {
    let marathon = Marathon::start(3).await;
    let record = rehearse(&[], marathon.settings("/shop/orders"), 8).await;
    assert_eq!(record["outcome"], "dry_run", "{record}");
    assert!(!marathon.calls().is_empty() && marathon.mutating().is_empty(), "{:?}", marathon.asked());
    assert_eq!(marathon.instances("/shop/orders"), 3);
    marathon.assert_valid();
}

#[tokio::test]
async fn a_rehearsal_beside_others_changes_nothing_at_marathon() {
    let marathon = Marathon::start(1).await;
    let others = async |count| marathon.app("/shop/orders", |app| app.instances = i64::from(count));
    look_on_through(&marathon, &[], marathon.settings("/shop/orders"), others).await;
    marathon.assert_valid();
}

#[tokio::test]
async fn marathons_labels_bound_and_pause_where_they_are_followed() {
    let marathon = Marathon::start(3).await;
    let labels = [("com.microscaling.min-containers", "2"), ("tidegate.max", "6"), ("tidegate.pause", "in")];
    marathon.app("/shop/orders", |app| app.labels.extend(labels));
    let mut settings = marathon.settings("/shop/orders");
    let unread = status(&[], settings.clone()).await.expect("it can be read").status;
    assert_eq!((unread.asked, unread.pause), (None, None));
    settings["follow_labels"] = json!(true);
    let followed = status(&[], settings.clone()).await.expect("it can be read").status;
    assert_eq!(followed.asked, Some(Asked { min: Some(2), max: Some(6) }));
    assert_eq!(followed.pause, Some(Pause::Hold(Held::In)));
    marathon.app("/shop/orders", |app| app.labels.insert("tidegate.max", "many"));
    let error = status(&[], settings).await.expect_err("it cannot be read");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("tidegate.max"), "{error}");
    marathon.assert_valid();
}

#[tokio::test]
async fn marathon_finds_applications_by_id_and_label() {
    let marathon = Marathon::start(3).await;
    for id in ["/shop/orders-2", "/shop/eu/mail"] {
        marathon.app(id, |app| app.labels.insert("team", "shop"));
    }
    let of_team = json!("team==shop");
    for (pattern, label, found) in [
        ("/shop/*", None, &["/shop/eu/mail", "/shop/orders", "/shop/orders-2"][..]),
        ("shop/*", Some(&of_team), &["/shop/eu/mail", "/shop/orders-2"]),
        ("/*", Some(&of_team), &["/shop/eu/mail", "/shop/orders-2"]),
        ("/shop/orders*", None, &["/shop/orders", "/shop/orders-2"]),
        ("/none/*", None, &[]),
    ] {
        let mut settings = marathon.settings(pattern);
        settings["follow_labels"] = json!(true);
        if let Some(label) = label {
            settings["label"] = label.clone();
        }
        let expected: Vec<_> =
            found.iter().map(|id| json!({ "url": marathon.url(), "app": id, "follow_labels": true })).collect();
        assert_eq!(discover(settings).await.expect("they can be listed"), expected, "{pattern}");
    }
    assert!(marathon.mutating().is_empty());
    marathon.assert_valid();
}
