//! Twenty minutes of a standing backlog with tasks that take 90 s to start, tick by tick, on AWS interfaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate::handler::{Host, Invocation};

use crate::support::emulator::World;
use crate::support::proxy::Proxy;
use crate::support::{Moved, noon};

const TICKS: i64 = 20;
const TICK_SECS: i64 = 60;
const START_SECS: i64 = 90;

/// Desired and running count at each tick.
async fn curve(more: &[(&str, &str)]) -> Vec<(u32, u32)> {
    let world = World::ministack(10).await;
    world.rest().await;
    world.send(5_000).await;
    let proxy = Proxy::start(world.address).await;
    let vars: BTreeMap<_, _> = world.env(&proxy.url(), more).into_iter().collect();
    let clock = Arc::new(Moved::at_noon());
    let host = Host::new(Arc::new(vars), clock.clone(), true);
    let (mut asked, mut curve) = (vec![(noon().as_second() - START_SECS, 10_u32)], Vec::new());
    for tick in 0..TICKS {
        let now = noon().as_second() + tick * TICK_SECS;
        clock.to(tick * TICK_SECS);
        // What was asked for 90 s ago runs; the rest is pending.
        let running = asked.iter().rev().find(|(at, _)| at + START_SECS <= now).map_or(10, |(_, count)| *count);
        proxy.rewrite_response("DescribeServices", move |mut answer: Value| {
            let service = &mut answer["services"][0];
            let desired = service["desiredCount"].as_u64().unwrap_or(0);
            service["runningCount"] = running.into();
            service["pendingCount"] = desired.saturating_sub(running.into()).into();
            answer
        });
        let invocation = Invocation { id: format!("tick-{tick}"), ..Invocation::default() };
        let answer = host.handle(&json!({}), invocation).await.expect("the tick succeeds");
        let desired = answer.records[0].decision.as_ref().expect("it was decided").desired;
        asked.push((now, desired));
        curve.push((desired, running));
    }
    let (last, _) = curve[curve.len() - 1];
    assert_eq!(world.desired().await, i32::try_from(last).expect("a small number"));
    println!("{more:?}: desired {:?}", curve.iter().map(|(desired, _)| *desired).collect::<Vec<_>>());
    curve
}

/// The ticks that scaled out while tasks were still starting.
fn climbs_while_starting(curve: &[(u32, u32)]) -> usize {
    curve.windows(2).filter(|pair| pair[0].0 < pair[1].0 && pair[1].1 < pair[0].0).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn our_defaults_do_not_climb_while_tasks_start() {
    let curve = curve(&[]).await;
    assert_eq!(curve[0].0, 60);
    assert_eq!(climbs_while_starting(&curve), 0, "{curve:?}");
    // The backlog still stands when all tasks run: then there is reason to add more.
    assert!(60 < curve[curve.len() - 1].0, "{curve:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stepscale_climbs_to_the_maximum() {
    let curve = curve(&[("PRIORITY_OVERRIDE", "always")]).await;
    let desired: Vec<_> = curve.iter().map(|(desired, _)| *desired).collect();
    assert_eq!(desired[..7], [60, 110, 160, 210, 260, 300, 300]);
    assert!(4 <= climbs_while_starting(&curve), "{curve:?}");
}
