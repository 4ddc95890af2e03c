//! An alert comes once, so that a tick that does nothing for it says so.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::toy::{Meddler, World};
use super::{Memory, Term};
use crate::config::Config;
use crate::core::{Alert, AlertStep, Direction, Policy, State};
use crate::error::ErrorKind;
use crate::record::{Outcome, Record};
use crate::stores::Lease;

/// A world with one service of ten tasks that steps by alerts, and an alert for three more.
async fn alerted(name: &'static str) -> (Arc<World>, Config) {
    let world = World::new(name, &[("orders", 10)]);
    world.rest().await;
    let mut config = world.config();
    let step = AlertStep { by_out: 3, by_in: 3, refuse_outside: false, repeat_after_secs: None };
    config.services[0].rules.policies = vec![Policy::AlertStep(step)];
    config.services[0].alert = Some(Alert { id: "it".to_owned(), direction: Direction::Out, by: None });
    (world, config)
}

fn lost(record: &Record) -> bool {
    let is_it = |message: &str| message.starts_with("answering the alert \"it\"") && message.ends_with("again");
    record.failures.iter().any(|failure| failure.kind == ErrorKind::Conflict && is_it(&failure.message))
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_meets_another_tick_fails_and_steps_once_when_it_comes_again() {
    let (world, config) = alerted("alert-in-conflict").await;
    let other = Box::new(State::new(world.now() - SignedDuration::from_hours(20)));
    world.inner().meddler = Some(Meddler::Sees("orders".to_owned(), other));
    let record = world.tick_as(&config, &Memory::default(), None).await.remove(0);
    assert_eq!((record.outcome, lost(&record)), (Outcome::Conflict, true), "{:?}", record.failures);
    for outcome in [Outcome::Changed, Outcome::Held] {
        let record = world.tick_as(&config, &Memory::default(), None).await.remove(0);
        assert_eq!((record.outcome, record.failures.len()), (outcome, 0), "{:?}", record.failures);
    }
    assert_eq!(world.inner().desired["orders"], 13);
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_meets_another_loop_fails() {
    let (world, config) = alerted("alert-on-standby").await;
    let until = world.now() + SignedDuration::from_secs(60);
    world.write_lease(Some(Lease { holder: "other".to_owned(), until })).await;
    let term = Term { holder: "me".to_owned(), lasts: Duration::from_secs(60), latest: until };
    let record = world.tick_as(&config, &Memory::default(), Some(&term)).await.remove(0);
    assert_eq!((record.outcome, lost(&record)), (Outcome::Standby, true), "{:?}", record.failures);
    let mut nothing_to_do = config;
    nothing_to_do.services[0].alert = None;
    let record = world.tick_as(&nothing_to_do, &Memory::default(), Some(&term)).await.remove(0);
    assert_eq!((record.outcome, record.failures.len()), (Outcome::Standby, 0));
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_has_to_wait_for_its_turn_fails() {
    let (world, config) = alerted("alert-deferred").await;
    let memory = Memory::default();
    while memory.pace.allows_change(&config.services[0].identity) {}
    let record = world.tick_as(&config, &memory, None).await.remove(0);
    assert_eq!((record.outcome, lost(&record)), (Outcome::Deferred, true), "{:?}", record.failures);
}

#[tokio::test(start_paused = true)]
async fn an_alert_whose_change_was_refused_asks_again() {
    let (world, config) = alerted("alert-refused").await;
    world.inner().refuses = true;
    let record = world.tick_as(&config, &Memory::default(), None).await.remove(0);
    assert_eq!(record.outcome, Outcome::Failed);
    world.inner().refuses = false;
    // Its cooldown runs, as after any change.
    tokio::time::advance(Duration::from_secs(3_601)).await;
    let record = world.tick_as(&config, &Memory::default(), None).await.remove(0);
    assert_eq!((record.outcome, world.inner().desired["orders"]), (Outcome::Changed, 13));
}
