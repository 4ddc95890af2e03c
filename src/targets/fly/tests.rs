//! The canned replies, and what needs no stateful fake.

use serde_json::json;

use super::*;
use crate::wire::{Contract, Reply, Request, Scene, Wire};

pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

fn settings(endpoint: &str) -> Value {
    json!({ "app": "orders", "url": endpoint, "token": "canary-token" })
}

/// A machine as in the example of <https://fly.io/docs/machines/api/machines-resource/#list-machines>, without what does not
/// matter here.
fn machine(number: u64, state: &str) -> Value {
    json!({
        "id": format!("{number:014x}"), "name": "withered-sound-1", "state": state, "region": "ord", "host_status": "ok",
        "instance_id": "01HTXY1Q8ZX3MZ6ZB6MQWJ8RKN", "created_at": "2026-11-01T00:00:00Z",
        "config": {
            "image": "registry-1.docker.io/library/orders:latest",
            "metadata": { "fly_process_group": "app" }, "guest": { "cpu_kind": "shared", "cpus": 1, "memory_mb": 256 },
        },
    })
}

fn machines(states: &[&str]) -> Reply {
    let machines: Vec<_> = (0..).zip(states).map(|(number, state)| machine(number, state)).collect();
    Reply::new(200, json!(machines).to_string())
}

fn reply(scene: Scene, request: &Request) -> Reply {
    assert_eq!(request.headers.get("authorization").map(String::as_str), Some("Bearer canary-token"));
    let lists = request.method == "GET" && request.path.contains("/machines?");
    let error = |status: u16, text: &str| Reply::new(status, json!({ "error": text }).to_string());
    match scene {
        // One that is stopped besides, which makes no difference to the count, and is the one group's only one for 0.
        Scene::Amount(running) if lists => {
            let states = vec!["started"; usize::try_from(running).expect("a small number")];
            machines(&[&states[..], &["stopped"]].concat())
        }
        Scene::RollingOut if lists => machines(&["started", "replacing"]),
        Scene::Locked if lists => machines(&["started", "stopped", "stopped", "stopped", "stopped"]),
        Scene::Locked if request.method == "GET" => Reply::new(200, machine(1, "stopped").to_string()),
        Scene::Locked => error(409, "aborted: machine ID 1 lease currently held by canary@tokens.fly.io"),
        Scene::Malformed => Reply::new(200, r#"{"machines": 3}"#),
        Scene::Missing => {
            let mut machine = machine(1, "started");
            machine.as_object_mut().expect("an object").remove("state");
            Reply::new(200, json!([machine]).to_string())
        }
        Scene::Denied => error(401, "canary"),
        Scene::NotFound => error(404, "app canary not found"),
        Scene::Throttled => error(429, "rate limit exceeded"),
        // No answer of Fly's says a count. An app without a count to set, or one that is going away, does not exist for it.
        Scene::Other(_) | Scene::Unscalable | Scene::Draining => Reply::none(),
        other => panic!("{other:?} is not a scene of a target"),
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let problems = |more: Value| {
        let mut settings = json!({ "app": "orders", "token": "canary" });
        settings.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        check(&settings)
    };
    assert_eq!(problems(json!({})), []);
    assert_eq!(problems(json!({ "app": "orders-*", "org": "personal" })), []);
    for (more, count) in [
        (json!({ "app": "orders-*" }), 1),
        (json!({ "org": "personal" }), 1),
        (json!({ "url": "ftp://example.com" }), 1),
        (json!({ "regions": ["ams"], "kill": true }), 2),
        (json!({ "mode": "suspend", "signal": "SIGTERM", "timeout_secs": 5 }), 2),
    ] {
        assert_eq!(problems(more.clone()).len(), count, "{more}");
    }
}

#[test]
fn two_levels_of_one_process_group_are_two_targets() {
    let identity = |mode: &str| {
        let settings = json!({ "app": "orders", "token": "canary", "mode": mode });
        identities(&settings, "us-east-1").pop().expect("it names what it scales").to_string()
    };
    assert_eq!(identity("start_stop"), "fly:api.machines.dev:443/-/started/orders/app");
    assert_eq!(identity("suspend"), identity("start_stop"));
    assert_eq!(identity("create_destroy"), "fly:api.machines.dev:443/-/created/orders/app");
}

async fn status(reply: fn(Scene, &Request) -> Reply) -> Result<TargetStatus> {
    let wire = Wire::play(Scene::Amount(0), reply).await;
    let target = build(&settings(&wire.endpoint), &Shared::for_wire(&wire.endpoint)).expect("settings are valid");
    target.statuses(&["app".to_owned()]).await.pop().expect("one answer for each service")
}

#[tokio::test]
async fn a_state_that_is_not_known_is_an_error_and_never_a_machine_that_is_off() {
    let error = status(|_, _| machines(&["started", "a_state_of_2030"])).await.expect_err("nobody knows what it does");
    assert_eq!(error.kind(), ErrorKind::Malformed);
}

#[tokio::test]
async fn a_machine_that_does_not_say_its_process_group_is_an_error() {
    fn without_config(_: Scene, _: &Request) -> Reply {
        let mut machine = machine(1, "started");
        machine["config"] = Value::Null;
        Reply::new(200, json!([machine]).to_string())
    }
    assert_eq!(status(without_config).await.expect_err("it may be of this one").kind(), ErrorKind::Malformed);
}

#[tokio::test]
async fn a_lease_counts_until_it_ends_by_the_servers_own_clock() {
    fn leased(at: &str) -> Reply {
        let mut machine = machine(1, "started");
        machine["lease"] = json!({ "owner": "canary@tokens.fly.io", "expires_at": 1_795_348_800 });
        Reply::new(200, json!([machine]).to_string()).header("date", at)
    }
    // 1795348800 is 2026-11-22T12:00:00Z.
    let during = status(|_, _| leased("Sun, 22 Nov 2026 11:59:59 GMT")).await.expect("it can be read");
    let after = status(|_, _| leased("Sun, 22 Nov 2026 12:00:00 GMT")).await.expect("it can be read");
    let unknown = status(|_, _| leased("whenever")).await.expect("it can be read");
    assert_eq!([during.rolling_out, after.rolling_out, unknown.rolling_out], [true, false, true]);
}

#[tokio::test]
async fn all_process_groups_of_an_app_are_read_by_one_call() {
    fn two_groups(_: Scene, _: &Request) -> Reply {
        let mut other = machine(2, "stopped");
        other["config"]["metadata"] = json!({ "process_group": "web" });
        Reply::new(200, json!([machine(1, "started"), other]).to_string())
    }
    let wire = Wire::play(Scene::Amount(0), two_groups).await;
    let target = build(&settings(&wire.endpoint), &Shared::for_wire(&wire.endpoint)).expect("settings are valid");
    let statuses = target.statuses(&["web", "app", "none"].map(str::to_owned)).await;
    let desired: Vec<_> = statuses.into_iter().map(|status| status.map(|status| status.desired)).collect();
    assert!(matches!(&desired[..], [Ok(0), Ok(1), Err(none)] if none.kind() == ErrorKind::NotFound), "{desired:?}");
    assert_eq!(wire.requests().len(), 1);
}
