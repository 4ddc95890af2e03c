//! What a tick does where the target takes one change at a time and another is under way.

use std::time::Duration;

use super::Memory;
use super::toy::World;
use crate::error::ErrorKind;
use crate::record::{Outcome, Record};

/// A tick that wants 60 tasks where there are 10, of a target that is locked so many times.
async fn tick(name: &'static str, locked: usize, left: Option<u32>) -> (std::sync::Arc<World>, Record) {
    let world = World::new(name, &[("orders", 10)]);
    world.rest().await;
    {
        let mut inner = world.inner();
        inner.backlogs.insert("orders".to_owned(), 5_000);
        (inner.locked, inner.left_by_lock) = (locked, left);
    }
    let record = world.tick(&Memory::default(), None).await.remove(0);
    (world, record)
}

#[tokio::test(start_paused = true)]
async fn what_is_locked_for_a_moment_is_set_in_the_same_tick() {
    let (world, record) = tick("locked-for-a-moment", 3, None).await;
    assert_eq!((record.outcome, record.warnings.len()), (Outcome::Changed, 3), "{:?}", record.warnings);
    let inner = world.inner();
    let (after, _, count) = inner.set[0].clone();
    assert_eq!((inner.set.len(), count), (1, 60));
    assert_eq!(after, Duration::from_millis(250 + 500 + 1_000), "each wait is twice as long");
}

#[tokio::test(start_paused = true)]
async fn what_is_locked_for_longer_waits_for_the_next_tick() {
    let (world, record) = tick("locked-for-longer", 4, None).await;
    assert_eq!(record.outcome, Outcome::Failed);
    assert_eq!(record.failures[0].kind, ErrorKind::Locked);
    assert!(world.inner().set.is_empty());
    // It was announced, and is finished without waiting for a cooldown.
    let record = world.tick(&Memory::default(), None).await.remove(0);
    assert_eq!((record.outcome, world.inner().set[0].2), (Outcome::Changed, 60));
}

#[tokio::test(start_paused = true)]
async fn whoever_held_the_lock_is_not_overwritten() {
    let (world, record) = tick("left-by-the-lock", 1, Some(25)).await;
    assert_eq!(record.outcome, Outcome::Superseded);
    assert_eq!(world.inner().desired["orders"], 25);
    assert!(world.inner().set.is_empty());
}
