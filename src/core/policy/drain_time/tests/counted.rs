//! What a counter of finished messages teaches, and what it must not.

use super::*;

/// A look 15 s after the one before, at so many tasks.
fn counted(waiting: f64, in_flight: f64, completed: impl Into<Option<u64>>, secs: i64) -> Work {
    let completed = completed.into().map(|count: u64| count as f64);
    Work { completed, ..work(waiting, Some(in_flight), at(secs)) }
}

/// A steady state: ten of twenty tasks are busy, and so many messages a second are finished, which began at `from`.
fn steady(
    policy: &DrainTime,
    per_sec: f64,
    from: (i64, u64),
    ticks: i64,
    memory: Option<Memory>,
) -> (i64, u64, Memory) {
    let (mut secs, first) = from;
    let (mut memory, began, mut completed) = (memory, secs, first);
    for _ in 0..ticks {
        secs += 15;
        completed = first + ((secs - began) as f64 * per_sec) as u64;
        memory = Some(ask(policy, counted(0.0, 10.0, completed, secs), (20, 20), memory).1);
    }
    (secs, completed, memory.expect("at least one tick"))
}

fn promise_only() -> DrainTime {
    policy(r#"{"target_wait_secs": 60}"#)
}

#[test]
fn a_counter_of_finished_messages_tells_how_long_one_takes_whatever_was_said() {
    for policy in [promise_only(), sixty(), policy(r#"{"target_wait_secs": 60, "service_secs": 20}"#)] {
        for secs in [0.01, 0.2, 1.25, 5.0, 20.0] {
            let (.., memory) = steady(&policy, 10.0 / secs, (0, 7_000_000), 240, None);
            let learned = estimate(&memory).service_secs();
            assert!((learned / secs - 1.0).abs() < 0.25, "{learned} s for {secs} s after {policy:?}");
        }
    }
}

#[test]
fn what_is_learned_of_a_message_changes_with_it() {
    let policy = promise_only();
    let (secs, completed, memory) = steady(&policy, 5.0, (0, 0), 80, None);
    assert!((estimate(&memory).service_secs() - 2.0).abs() < 0.2);
    let (.., memory) = steady(&policy, 10.0 / 6.0, (secs, completed), 60, Some(memory));
    assert!((estimate(&memory).service_secs() - 6.0).abs() < 0.6, "{memory:?}");
}

#[test]
fn a_counter_that_begins_anew_teaches_nothing_of_that_time() {
    let policy = promise_only();
    let (secs, _, memory) = steady(&policy, 2.0, (0, 5_000), 80, None);
    let learned = (estimate(&memory).service_secs, estimate(&memory).learned_from());
    // Lower than before, though far more than could have been finished since then.
    let (_, after) = ask(&policy, counted(0.0, 10.0, 4_000, secs + 15), (20, 20), Some(memory));
    assert_eq!((estimate(&after).service_secs, estimate(&after).learned_from()), learned);
    let (.., after) = steady(&policy, 2.0, (secs + 15, 4_000), 4, Some(after));
    assert!((estimate(&after).service_secs() - 5.0).abs() < 0.3, "{after:?}");
}

#[test]
fn a_counter_that_is_not_known_is_not_zero() {
    let policy = promise_only();
    let (mut secs, _, mut memory) = steady(&policy, 2.0, (0, 0), 80, None);
    let learned = estimate(&memory).learned_from();
    for _ in 0..8 {
        secs += 15;
        memory = ask(&policy, counted(0.0, 10.0, None, secs), (20, 20), Some(memory)).1;
    }
    assert_eq!(estimate(&memory).learned_from(), learned);
    assert!((estimate(&memory).service_secs() - 5.0).abs() < 0.3, "what it taught stays: {memory:?}");
    // What was finished meanwhile is the work of a time of which nothing was seen.
    let (_, after) = ask(&policy, counted(0.0, 10.0, 9_000, secs + 15), (20, 20), Some(memory));
    assert_eq!(estimate(&after).learned_from(), learned);
}

#[test]
fn a_queue_that_was_emptied_teaches_little() {
    let policy = promise_only();
    let (secs, completed, memory) = steady(&policy, 2.0, (0, 0), 80, None);
    let (secs, completed, memory) = steady(&policy, 2.0, (secs, completed + 1_000_000), 1, Some(memory));
    assert!(2.5 < estimate(&memory).service_secs(), "{memory:?}");
    let (.., memory) = steady(&policy, 2.0, (secs, completed), 60, Some(memory));
    assert!((estimate(&memory).service_secs() - 5.0).abs() < 0.3, "{memory:?}");
}

#[test]
fn tasks_that_finish_nothing_for_an_hour_are_not_taken_for_long_messages() {
    let policy = promise_only();
    let (secs, completed, memory) = steady(&policy, 2.0, (0, 0), 80, None);
    let before = estimate(&memory).service_secs;
    let (secs, completed, memory) = steady(&policy, 0.0, (secs, completed), 240, Some(memory));
    assert_eq!(estimate(&memory).service_secs, before);
    let (.., memory) = steady(&policy, 2.0, (secs, completed), 1, Some(memory));
    assert!(estimate(&memory).service_secs() < 8.0, "{memory:?}");
}

#[test]
fn what_nobody_works_on_makes_no_message_longer() {
    let policy = sixty();
    let (mut memory, mut tasks) = (None, 10);
    for tick in 1..400 {
        // Two hundred messages that are never finished, beside one a second that takes 5 s.
        let seen = counted(0.0, 205.0, 15 * tick as u64, 15 * tick);
        let (proposal, next) = ask(&policy, seen, (tasks, tasks), memory);
        assert!(estimate(&next).service_secs() <= 5.1, "{next:?}");
        (tasks, memory) = (proposal.wants, Some(next));
    }
    assert!(tasks <= 10, "{tasks} tasks");
}

#[test]
fn a_queue_that_shows_nothing_in_flight_gets_no_fewer_tasks_for_what_waits() {
    let policy = promise_only();
    let mut memory = None;
    for tick in 1..200 {
        memory = Some(ask(&policy, counted(0.0, 0.0, 30 * tick as u64, 15 * tick), (10, 10), memory).1);
    }
    let mut wants = 0;
    for tick in 200..208 {
        let seen = counted(900.0, 0.0, 30 * tick as u64, 15 * tick);
        let (proposal, next) = ask(&policy, seen, (10, 10), memory);
        (wants, memory) = (proposal.wants, Some(next));
    }
    assert!(20 < wants, "{wants} tasks");
}

#[test]
fn a_state_without_a_counter_is_read_and_one_with_it_is_small() {
    let policy = promise_only();
    let (_, memory) = ask(&policy, work(3.0, Some(9.0), at(0)), (9, 9), None);
    let json = serde_json::to_value(&memory).expect("a memory");
    assert!(json.pointer("/finished").is_none(), "{json}");
    let (.., memory) = steady(&policy, 2.2, (0, 987_654_321), 400, Some(memory));
    let json = serde_json::to_string(&memory).expect("a memory");
    assert!(json.len() <= 370, "{} bytes: {json}", json.len());
    let again: Memory = serde_json::from_str(&json).expect("what was written can be read");
    assert_eq!(again, memory);
}

#[test]
fn few_finished_messages_leave_it_a_guess() {
    let policy = promise_only();
    for (finished, is_guess) in [(1, true), (19, true), (20, false)] {
        let (_, memory) = ask(&policy, counted(0.0, 10.0, 0, 0), (20, 20), None);
        let (proposal, memory) = ask(&policy, counted(400.0, 20.0, finished, 15), (20, 20), Some(memory));
        let Because::Drain { learned_from, is_guessed, needs, .. } = proposal.because else { panic!("{proposal:?}") };
        assert_eq!((learned_from, is_guessed), (Some(finished as f64), is_guess));
        let waits = 400.0 - 15.0 * 20.0 / f64::from(estimate(&memory).service_secs);
        let receive = (waits / if is_guess { 2.0 } else { 1.0 }).ceil() as u32;
        assert_eq!(proposal.wants, needs.min(20 + receive), "{proposal:?}");
    }
}

#[test]
fn the_record_says_from_how_many_messages_the_time_was_learned() {
    let policy = promise_only();
    let (secs, completed, memory) = steady(&policy, 2.0, (0, 0), 40, None);
    let learned = |because: Because| match because {
        Because::Drain { learned_from, is_guessed, .. } => (learned_from, is_guessed),
        other => panic!("{other:?}"),
    };
    let (proposal, _) = ask(&policy, counted(0.0, 10.0, completed + 30, secs + 15), (20, 20), Some(memory));
    let (messages, is_guessed) = learned(proposal.because);
    assert!(messages.is_some_and(|count| 100.0 < count) && !is_guessed, "{proposal:?}");
    let (proposal, _) = ask(&policy, work(0.0, Some(10.0), at(0)), (20, 20), None);
    assert_eq!(learned(proposal.because), (None, true));
    assert!(said(proposal).contains("15 s each (a guess: give service_secs)"), "{proposal:?}");
    let (proposal, _) = ask(&sixty(), work(0.0, Some(10.0), at(0)), (20, 20), None);
    assert_eq!(learned(proposal.because), (None, false));
}
