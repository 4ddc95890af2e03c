use super::*;
use crate::wire::{Contract, Reply, Request, Scene, Wire};

pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

fn settings(endpoint: &str) -> Value {
    json!({ "app": "shop", "process": "worker", "token": "canary-token", "url": endpoint })
}

fn json(status: u16, body: &Value) -> Reply {
    Reply::new(status, body.to_string()).header("content-type", "application/json")
}

fn error(status: u16, id: &str, message: &str) -> Reply {
    json(status, &json!({ "id": id, "message": message, "url": "https://devcenter.heroku.com/" }))
}

fn process(name: &str, quantity: u64) -> Value {
    json!({ "type": name, "quantity": quantity, "size": "Standard-1X" })
}

fn dyno(name: &str, state: &str, version: u64) -> Value {
    json!({ "type": name, "state": state, "release": { "version": version } })
}

/// The errors' form: <https://devcenter.heroku.com/articles/platform-api-reference#errors>.
fn reply(scene: Scene, request: &Request) -> Reply {
    assert_eq!(request.headers.get("authorization").map(String::as_str), Some("Bearer canary-token"));
    match scene {
        Scene::Denied => return error(401, "unauthorized", "Invalid credentials provided."),
        Scene::NotFound => return error(404, "not_found", "Couldn't find that app."),
        Scene::Throttled => {
            return error(429, "rate_limit", "Your account reached the API rate limit")
                .header("ratelimit-remaining", "0");
        }
        // A release is being made.
        Scene::Locked => return error(409, "conflict", "Conflicting request."),
        // Every process type has a quantity that can be set, and an app that is deleted is gone at once.
        Scene::Unscalable | Scene::Draining => return Reply::none(),
        _ => {}
    }
    let asked = match scene {
        Scene::Amount(asked) | Scene::Other(asked) => asked,
        _ => 5,
    };
    match (request.method.as_str(), request.path.as_str(), scene) {
        ("PATCH", "/apps/shop/formation/worker", _) => json(200, &process("worker", asked)),
        ("GET", "/apps/shop", _) => json(200, &json!({ "name": "shop", "maintenance": false })),
        ("GET", "/apps/shop/dynos", Scene::RollingOut) => {
            json(200, &json!([dyno("worker", "up", 41), dyno("worker", "up", 42)]))
        }
        ("GET", "/apps/shop/dynos", _) => json(200, &json!([dyno("worker", "up", 42)])),
        ("GET", "/apps/shop/formation", Scene::Malformed) => json(200, &json!({ "worker": 5 })),
        ("GET", "/apps/shop/formation", Scene::Missing) => json(200, &json!([{ "type": "worker" }])),
        ("GET", "/apps/shop/formation", _) => json(200, &json!([process("web", 1), process("worker", asked)])),
        other => panic!("{other:?} is not asked for"),
    }
}

fn seen(dynos: Value, maintenance: bool) -> Seen {
    Seen {
        formation: parse(&json!([process("web", 1), process("worker", 3)])).expect("it is one"),
        dynos: parse(&dynos).expect("they are some"),
        app: App { maintenance },
    }
}

fn status(dynos: Value) -> TargetStatus {
    seen(dynos, false).status("worker").expect("it is there")
}

#[test]
fn dynos_are_counted_by_type_and_state() {
    let status = status(json!([
        dyno("worker", "up", 42),
        dyno("worker", "idle", 42),
        dyno("worker", "starting", 42),
        dyno("worker", "crashed", 42),
        dyno("worker", "down", 42),
        dyno("worker", "levitating", 42),
        dyno("web", "up", 42),
        dyno("run", "up", 7),
    ]));
    assert_eq!((status.desired, status.running, status.pending, status.rolling_out), (3, 2, 1, false));
    assert_eq!(status.warnings.len(), 2, "{:?}", status.warnings);
}

#[test]
fn a_release_under_way_is_a_rollout() {
    for (dynos, rolls) in [
        (json!([]), false),
        (json!([dyno("worker", "up", 42), dyno("run", "up", 7), dyno("run", "up", 43)]), false),
        (json!([dyno("worker", "up", 41), dyno("worker", "starting", 42)]), true),
        // The web dynos are there already, or still behind.
        (json!([dyno("worker", "up", 41), dyno("web", "up", 42)]), true),
        (json!([dyno("worker", "up", 42), dyno("web", "up", 41)]), false),
        (json!([dyno("worker", "up", 41), dyno("release", "starting", 42)]), true),
        (json!([dyno("worker", "up", 41), dyno("release", "crashed", 42)]), false),
    ] {
        assert_eq!(status(dynos.clone()).rolling_out, rolls, "{dynos}");
    }
}

#[test]
fn maintenance_is_a_warning() {
    let status = seen(json!([]), true).status("worker").expect("it is there");
    assert!(status.warnings.iter().any(|warning| warning.contains("maintenance")), "{:?}", status.warnings);
}

#[test]
fn settings_that_heroku_cannot_have_are_refused_all_at_once() {
    let problems = check(&json!({ "app": "a/b", "process": "../web", "token": "canary", "url": "ftp://a" }));
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(check(&settings("https://api.heroku.com")).is_empty());
}

#[test]
fn an_app_of_heroku_has_one_name_and_apis_behind_one_host_are_apart() {
    let with = |app: &str, url: &str| {
        let mut settings = settings(url);
        settings["app"] = json!(app);
        settings
    };
    for app in ["01234567-89ab-cdef-0123-456789abcdef", "Shop", "shop_eu"] {
        assert_eq!(check(&with(app, "https://api.heroku.com")).len(), 1, "{app}");
    }
    let identity = |url: &str| identities(&with("shop", url), "").pop().expect("it names something").to_string();
    assert_eq!(identity("https://api.heroku.com/"), "heroku:api.heroku.com:443/-/shop/worker");
    assert_eq!(identity("https://gateway.example.com/heroku"), "heroku:gateway.example.com:443/-/heroku/shop/worker");
}

#[tokio::test]
async fn what_heroku_says_is_told_without_the_token() {
    fn echo(_: Scene, request: &Request) -> Reply {
        let message = if request.method == "GET" { "You sent canary-token." } else { "Try\nlater." };
        error(422, "invalid_params", message)
    }
    let wire = Wire::play(Scene::Amount(0), echo).await;
    let target = build(&settings(&wire.endpoint), &Shared::for_wire(&wire.endpoint)).expect("settings are valid");
    let refused = target.set_desired("worker", 5).await.expect_err("it is refused");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().ends_with("it answered 422 (invalid_params: Trylater.)"), "{refused}");
    let refused = target.statuses(&["worker".to_owned()]).await.pop().expect("one answer").expect_err("it is refused");
    assert!(!refused.to_string().contains("canary"), "{refused}");
}
