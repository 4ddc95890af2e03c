//! Single ticks and rows of them in the same world.

use std::cell::RefCell;
use std::sync::Arc;

use super::protocol::{careful, known_for_long};
use super::world::{Effect, Running, WORLD, World, config, finish, happen, noon_plus, poll, take, tick, tick_of};
use crate::record::{Comparison, Outcome, Record};
use crate::shared::Shared;

#[test]
fn a_storm_of_360_queued_ticks_is_one_action() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    for override_ in ["step", "always"] {
        let mut rules = careful();
        rules["priority_override"] = override_.into();
        let (config, shared) = (Arc::new(config(&rules)), Arc::new(Shared::for_wire("http://127.0.0.1:9")));
        let document = Some((known_for_long(10), 1));
        WORLD.set(World { desired: 10, backlog: 5_000, document, versions: 1, ..World::default() });
        // Six hours of one-minute ticks, delivered within six minutes, the latest first as a queue may.
        for number in 0..360 {
            let scheduled_for = Some(noon_plus(-60 * number));
            let next = tick(config.clone(), shared.clone(), noon_plus(number), scheduled_for);
            finish(&mut [Some(Box::pin(next))]);
        }
        let sets: Vec<_> = WORLD.with_borrow(|world| {
            world.history.iter().filter(|(_, effect, _)| matches!(effect, Effect::Set { .. })).cloned().collect()
        });
        // The facts stand for longer than the cooldown, and `step` may answer them again only after it.
        let first = sets.first().map(|(_, effect, _)| effect.clone());
        assert_eq!(first, Some(Effect::Set { desired: 60 }), "{sets:?}");
        assert_eq!(sets.len(), 1, "{override_}: {sets:?}");
    }
}

#[test]
fn the_loser_of_a_race_says_so_and_succeeds() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let (config, shared) = (Arc::new(config(&careful())), Arc::new(Shared::for_wire("http://127.0.0.1:9")));
    WORLD.set(World {
        desired: 10,
        backlog: 5_000,
        document: Some((known_for_long(10), 1)),
        versions: 1,
        ..World::default()
    });
    let outcomes = std::rc::Rc::new(RefCell::new(Vec::new()));
    let watched = |_| -> Option<Running> {
        let (config, shared, outcomes) = (config.clone(), shared.clone(), outcomes.clone());
        Some(Box::pin(async move {
            let record = tick(config, shared, noon_plus(0), None).await;
            outcomes.borrow_mut().push((record.outcome, record.failures.len()));
            record
        }))
    };
    let mut processes: Vec<_> = (0..2).map(watched).collect();
    // Both read before either writes.
    poll(&mut processes);
    while let Some(at) = WORLD
        .with_borrow(|world| world.waiting.iter().position(|call| matches!(call.effect, Effect::Load | Effect::Status)))
    {
        happen(&take(at), true);
        poll(&mut processes);
        if WORLD
            .with_borrow(|world| world.waiting.iter().filter(|call| matches!(call.effect, Effect::Save { .. })).count())
            == 2
        {
            break;
        }
    }
    finish(&mut processes);
    let mut outcomes = outcomes.borrow().clone();
    outcomes.sort_by_key(|(outcome, _)| *outcome == Outcome::Conflict);
    assert_eq!(outcomes, [(Outcome::Changed, 0), (Outcome::Conflict, 0)]);
}

/// Ticks one after another, 30 s apart, of one process.
fn ticks(config: crate::config::Config, number: i64) -> Vec<Record> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let (config, shared) = (Arc::new(config), Arc::new(Shared::for_wire("http://127.0.0.1:9")));
    let (memory, records) = (Arc::default(), std::rc::Rc::new(RefCell::new(Vec::new())));
    for number in 0..number {
        let (kept, next) = (
            records.clone(),
            tick_of(Arc::clone(&memory), config.clone(), shared.clone(), noon_plus(30 * number), None),
        );
        finish(&mut [Some(Box::pin(async move {
            let record = next.await;
            kept.borrow_mut().push(record.clone());
            record
        }))]);
    }
    records.take()
}

fn sets() -> usize {
    WORLD
        .with_borrow(|world| world.history.iter().filter(|(_, effect, _)| matches!(effect, Effect::Set { .. })).count())
}

#[test]
fn a_scale_in_asks_the_target_what_is_protected() {
    let mut rules = careful();
    rules["min_remaining_fraction"] = 0.0.into();
    for (protected, expected) in [(Some(40), 40), (Some(60), 50), (Some(0), 10), (None, 10)] {
        let document = Some((known_for_long(50), 1));
        WORLD.set(World { desired: 50, protected, document, versions: 1, ..World::default() });
        let records = ticks(config(&rules), 1);
        assert_eq!(WORLD.with_borrow(|world| world.desired), expected, "{protected:?}: {:?}", records[0].decision);
    }
}

#[test]
fn a_dry_run_has_cooldowns_of_its_own_and_touches_nothing() {
    let mut config = config(&careful());
    config.dry_run = true;
    let document = Some((known_for_long(10), 1));
    WORLD.set(World { desired: 10, backlog: 5_000, document: document.clone(), versions: 1, ..World::default() });
    let records = ticks(config, 6);
    let outcomes: Vec<_> = records.iter().map(|record| record.outcome).collect();
    // The first would have acted; within its cooldown of 120 s the others would have waited, and after it steps again.
    let waits = [Outcome::Held; 4];
    assert_eq!(outcomes[0], Outcome::DryRun, "{outcomes:?}");
    assert_eq!(outcomes[1..5], waits, "{outcomes:?}");
    assert_eq!(outcomes[5], Outcome::DryRun, "{outcomes:?}");
    let would_have = records[5].would_have.expect("a dry run says what it would have done");
    assert_eq!((would_have.desired, would_have.compared), (60, Comparison { more: 2, same: 4, fewer: 0 }));
    assert_eq!((sets(), WORLD.with_borrow(|world| world.document.clone())), (0, document));
}
