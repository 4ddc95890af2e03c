//! What several ticks, of one loop or of several, do together.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::toy::{Meddler, World};
use super::{Memory, Term};
use crate::core::{Pause, State};
use crate::record::{Outcome, Record};
use crate::stores::Lease;

fn term(holder: &str) -> Term {
    Term { holder: holder.to_owned(), lasts: Duration::from_secs(30), latest: Timestamp::MAX }
}

fn outcomes(records: &[Record]) -> Vec<Outcome> {
    records.iter().map(|record| record.outcome).collect()
}

async fn seconds(secs: u64) {
    tokio::time::advance(Duration::from_secs(secs)).await;
}

fn wait_for_work(world: &World, service: &str, backlog: u64) {
    world.inner().backlogs.insert(service.to_owned(), backlog);
}

#[tokio::test(start_paused = true)]
async fn of_two_loops_one_acts_and_the_other_reads_nothing() {
    let world = World::new("two-loops", &[("orders", 10)]);
    world.rest().await;
    let (one, other) = ((Memory::default(), term("one")), (Memory::default(), term("other")));
    wait_for_work(&world, "orders", 5_000);
    assert_eq!(outcomes(&world.tick(&one.0, Some(&one.1)).await), [Outcome::Changed]);
    let records = world.tick(&other.0, Some(&other.1)).await;
    assert_eq!(outcomes(&records), [Outcome::Standby]);
    assert_eq!(records[0].lease.as_ref().map(|lease| lease.holder.as_str()), Some("one"));
    assert!(records[0].failures.is_empty() && records[0].decision.is_none());
    let asked = world.inner().asked;
    for _ in 0..3 {
        wait_for_work(&world, "orders", 50_000);
        assert_eq!(outcomes(&world.tick(&other.0, Some(&other.1)).await), [Outcome::Standby]);
    }
    assert_eq!(world.inner().asked, asked);
    assert_eq!(world.inner().set.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_loop_keeps_its_lease_with_few_writes() {
    let world = World::new("few-writes", &[("orders", 10)]);
    world.rest().await;
    wait_for_work(&world, "orders", 99);
    let (memory, term) = (Memory::default(), term("one"));
    let mut written = BTreeSet::new();
    for _ in 0..60 {
        assert_eq!(outcomes(&world.tick(&memory, Some(&term)).await), [Outcome::Held]);
        let document = world.document().await.document.expect("it is there");
        written.insert(document.seq);
        let lease = document.lease.expect("it is leased");
        assert!(world.now() + SignedDuration::from_secs(10) < lease.until, "the next tick would come too late");
        seconds(10).await;
    }
    // Ten minutes, of which 20 s pass until less than half of 30 s is left.
    assert_eq!(written.len(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_has_run_out_is_taken_and_nothing_is_stepped_twice() {
    let world = World::new("takes-over", &[("orders", 10)]);
    world.rest().await;
    wait_for_work(&world, "orders", 5_000);
    let (one, other) = ((Memory::default(), term("one")), (Memory::default(), term("other")));
    world.tick(&one.0, Some(&one.1)).await;
    for _ in 0..5 {
        assert_eq!(outcomes(&world.tick(&other.0, Some(&other.1)).await), [Outcome::Standby]);
        seconds(6).await;
    }
    assert_eq!(outcomes(&world.tick(&other.0, Some(&other.1)).await), [Outcome::Held]);
    assert_eq!(world.document().await.lease.expect("it is leased").holder, "other");
    // The first one was only slow, and sees that it has lost the lease.
    assert_eq!(outcomes(&world.tick(&one.0, Some(&one.1)).await), [Outcome::Standby]);
    assert_eq!(world.inner().set.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_given_back_is_taken_at_once() {
    let world = World::new("gives-back", &[("orders", 10)]);
    let (one, other) = ((Memory::default(), term("one")), (Memory::default(), term("other")));
    world.tick(&one.0, Some(&one.1)).await;
    assert_eq!(outcomes(&world.tick(&other.0, Some(&other.1)).await), [Outcome::Standby]);
    assert!(world.release(&other.0, &other.1).await.is_empty(), "it has none to give back");
    assert_eq!(world.document().await.lease.expect("it is leased").holder, "one");
    // Somebody writes at the same time.
    world.inner().meddler = Some(Meddler::Sees("another".to_owned(), State::new(world.now()).into()));
    assert!(world.release(&one.0, &one.1).await.is_empty());
    assert_eq!(world.document().await.lease, None);
    assert_eq!(outcomes(&world.tick(&other.0, Some(&other.1)).await), [Outcome::Held]);
}

#[tokio::test(start_paused = true)]
async fn a_single_tick_does_not_wait_for_a_lease_and_leaves_it() {
    let world = World::new("single-tick", &[("orders", 10)]);
    world.rest().await;
    wait_for_work(&world, "orders", 99);
    let (looping, term) = (Memory::default(), term("one"));
    world.tick(&looping, Some(&term)).await;
    wait_for_work(&world, "orders", 5_000);
    assert_eq!(outcomes(&world.tick(&Memory::default(), None).await), [Outcome::Changed]);
    assert_eq!(world.document().await.lease.expect("it is leased").holder, "one");
    // The loop sees what the other has written since.
    let records = world.tick(&looping, Some(&term)).await;
    assert_eq!((outcomes(&records), world.inner().set.len()), (vec![Outcome::Held], 1));
    assert!(records[0].message().contains("steps count from 10"), "{}", records[0].message());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_lost_while_a_change_is_announced_stops_the_change() {
    let world = World::new("lost-lease", &[("orders", 10)]);
    world.rest().await;
    wait_for_work(&world, "orders", 5_000);
    let until = world.now() + SignedDuration::from_secs(30);
    world.inner().meddler = Some(Meddler::Leases(Lease { holder: "other".to_owned(), until }));
    let (memory, term) = (Memory::default(), term("one"));
    assert_eq!(outcomes(&world.tick(&memory, Some(&term)).await), [Outcome::Standby]);
    assert_eq!(world.inner().set, []);
}

#[tokio::test(start_paused = true)]
async fn a_lease_from_a_clock_that_is_wrong_is_nobodys() {
    let world = World::new("wrong-clock", &[("orders", 10)]);
    world.rest().await;
    wait_for_work(&world, "orders", 5_000);
    let until = world.now() + SignedDuration::from_hours(1);
    world.write_lease(Some(Lease { holder: "other".to_owned(), until })).await;
    assert_eq!(outcomes(&world.tick(&Memory::default(), Some(&term("one"))).await), [Outcome::Changed]);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_about_nothing_but_bookkeeping_is_no_conflict() {
    let world = World::new("bookkeeping", &[("orders", 10)]);
    let seen_first = State::new(world.now() - SignedDuration::from_secs(1));
    world.inner().meddler = Some(Meddler::Sees("orders".to_owned(), seen_first.into()));
    assert_eq!(outcomes(&world.tick(&Memory::default(), None).await), [Outcome::Held]);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_ticks_is_one_action() {
    let world = World::new("storm", &[("orders", 10)]);
    world.rest().await;
    wait_for_work(&world, "orders", 5_000);
    let memory = Memory::default();
    for _ in 0..360 {
        world.tick(&memory, None).await;
        tokio::time::advance(Duration::from_millis(50)).await;
    }
    assert_eq!(world.inner().set.iter().map(|(_, _, to)| *to).collect::<Vec<_>>(), [60]);
}

/// A thousand services, most of which want more by different parts and some less.
fn a_thousand() -> Vec<(String, u32, u64)> {
    let service = |number: u32| match number % 10 {
        0 => (format!("in-{number:04}"), 100, 0),
        _ => (format!("out-{number:04}"), 1 + number % 97, 5_000),
    };
    (0..1_000).map(service).collect()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_changes_keep_to_the_interfaces_limits_and_the_urgent_come_first() {
    let all = a_thousand();
    let counts: Vec<_> = all.iter().map(|(service, desired, _)| (service.as_str(), *desired)).collect();
    let world = World::new("thousand", &counts);
    world.rest().await;
    all.iter().for_each(|(service, _, backlog)| wait_for_work(&world, service, *backlog));
    let (memory, term) = (Memory::default(), term("one"));
    for _ in 0..21 {
        let records = world.tick(&memory, Some(&term)).await;
        assert!(records.iter().all(|record| record.failures.is_empty()));
        assert!(memory.pace.until_ready() <= Duration::from_secs(10), "the next tick would ask for too much");
        seconds(10).await;
    }
    let set = std::mem::take(&mut world.inner().set);
    let services: BTreeSet<_> = set.iter().map(|(_, service, _)| service).collect();
    assert_eq!((set.len(), services.len()), (1_000, 1_000), "each is changed once");
    assert!(set.iter().all(|(at, ..)| *at <= Duration::from_secs(200)), "the last after {:?}", set.last());
    // The bucket of 50, refilled with 5 a second.
    for (number, (at, ..)) in set.iter().enumerate() {
        assert!((number as f64) < 50.0 + 5.0 * at.as_secs_f64(), "change {number} at {at:?}");
    }
    let is_in = |service: &str| service.starts_with("in-");
    let first_in = set.iter().position(|(_, service, _)| is_in(service)).expect("some are scaled in");
    // A tick's own changes are made side by side, so that those of the tick that has the first scale-in may mix.
    let last_out = set.iter().filter(|(_, service, _)| !is_in(service)).map(|(at, ..)| *at).max();
    assert!(last_out <= Some(set[first_in].0), "a scale-in came before a scale-out");
    // 50 more tasks are relatively more for one task than for two, and so on.
    let before = |service: &str| all.iter().find(|(name, ..)| name == service).map_or(0, |(_, desired, _)| *desired);
    let outs: Vec<_> = set.iter().filter(|(_, service, _)| !is_in(service)).collect();
    let is_in_order = |(earlier, service, _): &&(Duration, String, u32)| {
        let later = outs.iter().filter(|(at, ..)| earlier < at).map(|(_, later, _)| before(later)).min();
        later.is_none_or(|later| before(service) <= later)
    };
    assert!(outs.iter().all(is_in_order));
}

#[tokio::test(start_paused = true)]
async fn a_daemon_leaves_the_counts_that_it_is_told_to() {
    let world = World::new("on-exit", &[("orders", 10)]);
    world.rest().await;
    wait_for_work(&world, "orders", 5_000);
    let (memory, term) = (Memory::default(), term("one"));
    assert_eq!(outcomes(&world.tick(&memory, Some(&term)).await), [Outcome::Changed]);
    let mut config = world.config();
    let first = memory.first_count(&config.services[0].identity.to_string());
    assert_eq!(first, Some(10), "what was there before this process changed it");
    for (count, expected) in [(10, 10), (0, 0)] {
        config.services[0].rules.pause = Some(Pause::At(count));
        assert_eq!(outcomes(&world.tick_as(&config, &memory, Some(&term)).await), [Outcome::Changed]);
        assert_eq!(world.inner().desired["orders"], expected);
    }
    // Another loop's tick would change nothing.
    world.inner().desired.insert("orders".to_owned(), 30);
    let other = Term { holder: "other".to_owned(), ..term };
    assert_eq!(outcomes(&world.tick_as(&config, &Memory::default(), Some(&other)).await), [Outcome::Standby]);
}
