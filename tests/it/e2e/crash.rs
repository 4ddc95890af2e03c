//! The process is killed at each point between intent and confirmation, and the next tick puts things right.

use serde_json::{Value, json};

use crate::support::emulator::{TIMEOUT_MS, World};
use crate::support::proxy::{Proxy, When};

/// Where the process dies: at which call, and whether that call still takes effect.
#[derive(Debug, Clone, Copy)]
struct Crash {
    action: &'static str,
    nth: usize,
    when: When,
    /// The desired count right after the crash, of 10 that should be 60.
    left: i32,
}

const CRASHES: &[Crash] = &[
    Crash { action: "S3.GetObject", nth: 1, when: When::Before, left: 10 },
    Crash { action: "S3.PutObject", nth: 1, when: When::Before, left: 10 },
    Crash { action: "S3.PutObject", nth: 1, when: When::After, left: 10 },
    Crash { action: "UpdateService", nth: 1, when: When::Before, left: 10 },
    Crash { action: "UpdateService", nth: 1, when: When::After, left: 60 },
    Crash { action: "S3.PutObject", nth: 2, when: When::Before, left: 60 },
    Crash { action: "S3.PutObject", nth: 2, when: When::After, left: 60 },
];

/// No step is large enough not to wait, so that nothing but the recognized intent can finish what died.
const NO_OVERRIDE: &[(&str, &str)] = &[("SCALING_STEP_COUNT", "1000")];

async fn crash(world: &World, crash: Crash) {
    let proxy = Proxy::start(world.address).await;
    let hold = proxy.hold_nth(crash.action, crash.nth, crash.when);
    let function = world.function(&world.env(&proxy.url(), NO_OVERRIDE)).await;
    let invocation = function.start(json!({}), TIMEOUT_MS);
    hold.reached().await;
    function.kill().await;
    hold.release();
    drop(invocation);
}

async fn tick(world: &World) -> Value {
    let function = world.function(&world.env(&world.url(), NO_OVERRIDE)).await;
    function.invoke(json!({}), TIMEOUT_MS).await.expect_ok()["records"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scale_out_that_died_is_finished_once() {
    for &point in CRASHES {
        let world = World::ministack(10).await;
        world.rest().await;
        world.send(5_000).await;
        crash(&world, point).await;
        assert_eq!(world.desired().await, point.left, "right after {point:?}");
        // The next tick finishes it, and the ones after it, all within the cooldown, do nothing more.
        for number in 1..=3 {
            let record = tick(&world).await;
            assert_eq!(world.desired().await, 60, "tick {number} after {point:?}: {record}");
        }
        let state = world.state().await.expect("there is a state");
        let service = state["services"].as_object().and_then(|all| all.values().next()).expect("one service");
        assert_eq!(service["pending"], Value::Null, "after {point:?}: {state}");
        assert_eq!(service["last_out"]["base"], 10, "after {point:?}: {state}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scale_in_that_died_is_not_repeated_within_the_cooldown() {
    for &point in CRASHES {
        let world = World::ministack(50).await;
        world.rest().await;
        crash(&world, point).await;
        let announced = point.action != "S3.GetObject"
            && !(point.nth == 1 && point.action == "S3.PutObject" && point.when == When::Before);
        let left = if point.left == 60 { 49 } else { 50 };
        assert_eq!(world.desired().await, left, "right after {point:?}");
        // Announced, it waits for the cooldown; never announced, it is the first step. Either way one step at most.
        for _ in 1..=3 {
            let record = tick(&world).await;
            let expected = if announced { left } else { 49 };
            assert_eq!(world.desired().await, expected, "after {point:?}: {record}");
        }
    }
}
