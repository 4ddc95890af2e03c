use super::*;
use crate::core::{Asked, Held, Pause};
use crate::wire::{Contract, Reply, Request, Scene};

pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

fn settings(endpoint: &str) -> Value {
    json!({
        "url": format!("{endpoint}/service/marathon"), "app": "/shop/orders",
        "basic": { "user": "tidegate", "password": "canary-password" },
    })
}

fn json(status: u16, body: &Value) -> Reply {
    Reply::new(status, body.to_string()).header("content-type", "application/json")
}

fn app(instances: u64) -> Value {
    json!({
        "id": "/shop/orders", "instances": instances, "labels": {}, "deployments": [],
        "tasksRunning": 2, "tasksStaged": 1, "tasksHealthy": 2, "tasksUnhealthy": 0,
    })
}

/// The errors' form:
/// <https://github.com/mesosphere/marathon/blob/master/src/main/scala/mesosphere/marathon/api/MarathonExceptionMapper.scala>.
fn reply(scene: Scene, request: &Request) -> Reply {
    assert!(request.headers.get("authorization").is_some_and(|value| value.starts_with("Basic ")));
    let is_change = match (request.method.as_str(), request.path.split('?').next().unwrap_or_default()) {
        ("GET", "/service/marathon/v2/apps") => false,
        ("PUT", "/service/marathon/v2/apps/shop/orders") => true,
        other => panic!("{other:?} is not asked for"),
    };
    let changed = |key: &str, value: Value| {
        let mut app = app(5);
        app[key] = value;
        json(200, &json!({ "apps": [app] }))
    };
    match (scene, is_change) {
        (Scene::Denied, _) => Reply::new(401, "<html>canary</html>").header("content-type", "text/html"),
        (Scene::Throttled, true) => {
            json(403, &json!({ "message": "Max number (100) of running deployments is achieved." }))
        }
        // Marathon has no such answer, a gateway in front of it may have.
        (Scene::Throttled, false) => json(429, &json!({})),
        (Scene::NotFound, true) => json(404, &json!({ "message": "App '/shop/orders' does not exist" })),
        (Scene::NotFound, false) => json(200, &json!({ "apps": [] })),
        (Scene::Locked, true) => {
            let deployments = json!([{ "id": "97c136bf-5a28-4821-9d94-480d9fbb01c8" }]);
            json(409, &json!({ "message": "App is locked by one or more deployments.", "deployments": deployments }))
        }
        // What is set is a deployment, which has no count; and every application may be given one, also while it is
        // removed: that is a deployment as well.
        (Scene::Other(_) | Scene::Unscalable | Scene::Draining, _) => Reply::none(),
        (_, true) => json(200, &json!({ "version": "2026-01-01T00:00:00.000Z", "deploymentId": "5ed4c0c5" })),
        (Scene::Amount(instances), false) => json(200, &json!({ "apps": [app(instances)] })),
        (Scene::RollingOut, false) => changed("deployments", json!([{ "id": "5ed4c0c5" }])),
        (Scene::Malformed, false) => json(200, &json!({ "apps": "none" })),
        (Scene::Missing, false) => {
            let mut app = app(5);
            app.as_object_mut().expect("an object").remove("instances");
            json(200, &json!({ "apps": [app] }))
        }
        (other, false) => panic!("{other:?} is not a scene of a target"),
    }
}

fn target(more: Value) -> Marathon {
    let mut settings = settings("http://127.0.0.1:9");
    settings.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    let shared = Shared::for_wire("http://127.0.0.1:9");
    let endpoint = shared.http.endpoint("http://127.0.0.1:9", Tls::default()).expect("it is permitted");
    Marathon {
        http: shared.http.clone(),
        secrets: shared.secrets().clone(),
        endpoint,
        settings: parse(&settings).expect("settings are valid"),
        asked_with: String::new(),
        given: settings,
    }
}

#[test]
fn an_application_is_known_by_its_whole_id() {
    let mut other = app(9);
    other["id"] = json!("/shop/orders-2");
    let apps = [other, app(3)];
    let status = target(json!({})).status(&apps, "/shop/orders").expect("it is there");
    assert_eq!((status.desired, status.running, status.pending, status.rolling_out), (3, 2, 1, false));
    let (kind, _) = target(json!({})).status(&apps, "/shop/order").expect_err("it is not there");
    assert_eq!(kind, ErrorKind::NotFound);
}

#[test]
fn a_broken_application_leaves_the_others_alone() {
    for (key, value) in [
        ("tasksRunning", json!(null)),
        ("tasksStaged", json!(-1)),
        ("tasksUnhealthy", json!("0")),
        ("deployments", json!(null)),
        ("instances", json!(1.5)),
    ] {
        let mut other = app(9);
        other["id"] = json!("/shop/mail");
        other[key] = value;
        let apps = [other, app(3)];
        let (kind, why) = target(json!({})).status(&apps, "/shop/mail").expect_err("a count is missing");
        assert_eq!(kind, ErrorKind::Malformed, "{key}: {why}");
        assert!(target(json!({})).status(&apps, "/shop/orders").is_ok(), "{key}");
    }
}

#[test]
fn labels_are_followed_where_the_settings_say_so() {
    let labelled = |labels: Value, follow: bool| {
        let mut app = app(3);
        app["labels"] = labels;
        target(json!({ "follow_labels": follow })).status(&[app], "/shop/orders")
    };
    let labels = json!({ "com.microscaling.min-containers": "2", "tidegate.max": "6", "team": "shop" });
    let status = labelled(labels.clone(), true).expect("they are readable");
    assert_eq!(status.asked, Some(Asked { min: Some(2), max: Some(6) }));
    assert_eq!(labelled(labels, false).expect("they are readable").asked, None);
    assert_eq!(labelled(json!({}), true).expect("they are readable").asked, Some(Asked::default()));
    let paused = labelled(json!({ "com.microscaling.is-scalable": "false" }), true).expect("they are readable");
    assert_eq!(paused.pause, Some(Pause::Hold(Held::Both)));
    let (kind, why) = labelled(json!({ "tidegate.max": "many" }), true).expect_err("it is no number");
    assert!(kind == ErrorKind::Config && why.contains("tidegate.max"), "{why}");
    let (kind, _) = labelled(json!(null), true).expect_err("nothing is known of them");
    assert_eq!(kind, ErrorKind::Malformed);
}

#[test]
fn applications_are_asked_for_by_what_their_ids_have_in_common() {
    let common = |ids: &[&str]| {
        let ids: Vec<_> = ids.iter().map(|id| (*id).to_owned()).collect();
        common_prefix(&ids).to_owned()
    };
    assert_eq!(common(&["/shop/orders"]), "/shop/orders");
    assert_eq!(common(&["/shop/orders", "/shop/mail"]), "/shop/");
    assert_eq!(common(&["/shop/orders", "/shop/orders-2"]), "/shop/orders");
    assert_eq!(common(&[]), "");
}
