use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::core::rules::Bounds;

mod counted;
mod started;
mod tally;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }
}

fn policy(settings: &str) -> DrainTime {
    serde_json::from_str(settings).expect("settings of the policy")
}

fn sixty() -> DrainTime {
    policy(r#"{"target_wait_secs": 60, "service_secs": 5}"#)
}

fn at(secs: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_750_000_000 + secs)
}

fn work(waiting: f64, in_flight: Option<f64>, at: Timestamp) -> Work {
    Work {
        waiting,
        in_flight,
        completed: None,
        tally: None,
        at,
        part: Part::Whole,
        in_flight_per_task: 1,
        last_in: None,
    }
}

fn situation(running: u32, current: u32) -> Situation {
    Situation { load: 0.0, current, base: current, running, bounds: Bounds { min: 0, max: u32::MAX } }
}

fn ask(policy: &DrainTime, work: Work, tasks: (u32, u32), memory: Option<Memory>) -> (Proposal, Memory) {
    let (running, current) = tasks;
    let (proposal, memory) = policy.propose(&work, situation(running, current), memory.as_ref(), work.at);
    (proposal, memory.expect("it remembers"))
}

fn estimate(memory: &Memory) -> &Estimate {
    match memory {
        Memory::Estimate(estimate) => estimate,
        other => panic!("{other:?}"),
    }
}

fn needs(proposal: Proposal) -> u32 {
    match proposal.because {
        Because::Drain { needs, .. } => needs,
        other => panic!("{other:?}"),
    }
}

/// What a policy remembers after a random course.
fn course(dice: &mut Dice, policy: &DrainTime) -> (i64, Memory) {
    let (mut secs, mut memory) = (0, None);
    for _ in 0..=dice.below(30) {
        let tasks = dice.below(50) as u32;
        let (waiting, in_flight) = (dice.of(&[0, 0, 3, 40, 700]), dice.below(u64::from(tasks) + 3));
        let seen = work(dice.below(waiting + 1) as f64, Some(in_flight as f64), at(secs));
        memory = Some(ask(policy, seen, (tasks, tasks + dice.below(9) as u32), memory).1);
        secs += dice.of(&[-30, 0, 1, 15, 15, 15, 60, 400]);
    }
    (secs, memory.expect("at least one tick"))
}

/// A queue in which work flows, and the tasks that were asked for, which start after a minute.
struct Fluid {
    waiting: f64,
    starts: Vec<i64>,
    secs: i64,
    memory: Option<Memory>,
    last_in: Option<Timestamp>,
    changes: u32,
}

impl Fluid {
    fn new(tasks: usize) -> Self {
        Self { waiting: 0.0, starts: vec![0; tasks], secs: 60, memory: None, last_in: None, changes: 0 }
    }

    fn run(&mut self, policy: &DrainTime, rate: f64, service_secs: f64, ticks: u32) {
        for _ in 0..ticks {
            self.secs += 15;
            let running = self.starts.iter().filter(|start| **start + 60 <= self.secs).count();
            let able = running as f64 * 15.0 / service_secs;
            let done = (self.waiting + rate * 15.0).min(able);
            self.waiting += rate * 15.0 - done;
            let in_flight = Some((done / 15.0 * service_secs).round());
            let seen = Work { last_in: self.last_in, ..work(self.waiting.round(), in_flight, at(self.secs)) };
            let current = self.starts.len();
            let (proposal, memory) = ask(policy, seen, (running as u32, current as u32), self.memory.take());
            let json = serde_json::to_string(&memory).expect("a memory");
            self.memory = Some(serde_json::from_str(&json).expect("what was written can be read"));
            let wants = proposal.wants as usize;
            self.starts.sort_unstable();
            self.changes += u32::from(wants != current);
            self.last_in = if wants < current { Some(at(self.secs)) } else { self.last_in };
            self.starts.resize(wants, self.secs);
        }
    }
}

fn said(Proposal { wants, because }: Proposal) -> String {
    std::fmt::from_fn(|f| because.describe(wants, f)).to_string()
}

#[test]
fn more_in_flight_than_tasks_can_hold_counts_as_what_they_hold() {
    let mut dice = Dice(2);
    for _ in 0..3_000 {
        let policy = policy(r#"{"target_wait_secs": 60, "service_secs": 5, "concurrency": 2}"#);
        let (secs, memory) = course(&mut dice, &policy);
        let tasks = dice.below(60) as u32;
        let waiting = dice.below(300) as f64;
        let of = |in_flight: u32| work(waiting, Some(f64::from(in_flight)), at(secs + 15));
        let full = ask(&policy, of(2 * tasks), (tasks, tasks), Some(memory.clone()));
        assert_eq!(ask(&policy, of(2 * tasks + 5_000), (tasks, tasks), Some(memory)), full);
    }
}

#[test]
fn tasks_that_are_on_their_way_are_not_asked_for_again() {
    let mut dice = Dice(3);
    let mut answered = 0;
    for _ in 0..3_000 {
        let policy = sixty();
        let (secs, memory) = course(&mut dice, &policy);
        let tasks = 1 + dice.below(20) as u32;
        let seen = work(dice.below(900) as f64, Some(f64::from(tasks)), at(secs + 15));
        let (first, memory) = ask(&policy, seen, (tasks, tasks), Some(memory));
        let coming = first.wants.max(tasks);
        let (again, _) = ask(&policy, seen, (tasks, coming), Some(memory));
        assert!(again.wants <= coming && needs(again) <= needs(first), "{first:?}, then {again:?}");
        answered += u32::from(needs(again) < needs(first));
    }
    assert!(100 < answered, "{answered}");
}

#[test]
fn more_that_waits_never_asks_for_fewer() {
    let mut dice = Dice(4);
    for _ in 0..5_000 {
        let (wait, told) = (dice.of(&[60, 300, 3_600]), dice.of(&["", r#", "service_secs": 5"#]));
        let policy = policy(&format!(r#"{{"target_wait_secs": {wait}{told}}}"#));
        let (secs, memory) = course(&mut dice, &policy);
        let (tasks, later) = (dice.below(60) as u32, dice.of(&[0, 5, 15, 70, 500]));
        let (less, more) = (dice.below(500), dice.below(500));
        let of = |waiting: u64| work(waiting as f64, Some(f64::from(tasks)), at(secs + later));
        let (fewer, _) = ask(&policy, of(less), (tasks, tasks), Some(memory.clone()));
        let (many, _) = ask(&policy, of(less + more), (tasks, tasks), Some(memory));
        // Also before what is needed is limited by what would find work.
        let is_so = fewer.wants <= many.wants && needs(fewer) <= needs(many);
        assert!(is_so, "{less} waiting: {fewer:?}; {more} more: {many:?}");
    }
}

#[test]
fn any_numbers_times_and_memories_give_a_count_and_a_memory_that_can_be_read() {
    let mut dice = Dice(5);
    let numbers = [0.0, 1e-300, 0.3, 7.0, 1e6, 1e15, u64::MAX as f64, f64::MAX];
    let singles = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1.0, 0.0, 1e-30, 3.0];
    for _ in 0..20_000 {
        let policy = DrainTime {
            target_wait_secs: dice.of(&[0, 1, 60, u32::MAX]),
            service_secs: dice.of(&[None, Some(0.0), Some(5.0), Some(f64::MAX)]),
            concurrency: dice.of(&[None, Some(0), Some(u32::MAX)]),
            lead_secs: dice.of(&[0, 60, u32::MAX]),
            headroom: dice.of(&[0.0, 0.4, f64::MAX]),
            hold_secs: dice.of(&[0, 1, 60, u32::MAX]),
        };
        let mut memory = dice.of(&[false, true]).then(|| {
            let (_, memory) = course(&mut dice, &sixty());
            let Memory::Estimate(mut estimate) = memory else { panic!("another memory") };
            estimate.rate = dice.of(&singles);
            estimate.variance = dice.of(&singles);
            estimate.surprise = dice.of(&singles);
            estimate.service_secs = dice.of(&singles);
            estimate.answers = (dice.of(&singles), dice.of(&singles));
            estimate.window = Some((dice.of(&singles), dice.of(&singles), dice.of(&singles), dice.of(&singles)));
            estimate.looks.push((dice.of(&singles), dice.of(&singles), dice.of(&singles)));
            Memory::Estimate(estimate)
        });
        for _ in 0..3 {
            let time = dice.of(&[Timestamp::MIN, at(0), at(15), at(30), at(31), Timestamp::MAX]);
            let in_flight = [None, Some(dice.of(&numbers))];
            let tasks = (dice.of(&[0, 1, 40, u32::MAX]), dice.of(&[0, 1, 40, u32::MAX]));
            let seen = work(dice.of(&numbers), dice.of(&in_flight), time);
            memory = Some(ask(&policy, seen, tasks, memory).1);
            let json = serde_json::to_string(&memory).expect("a memory");
            assert!(!json.contains("null"), "{json}");
        }
    }
}

#[test]
fn a_steady_load_comes_to_a_count_and_stays_there() {
    for (rate, service_secs) in [(0.2, 5.0), (4.0, 5.0), (1.0, 30.0), (20.0, 1.0), (40.0, 5.0)] {
        let policy = policy(&format!(r#"{{"target_wait_secs": 60, "service_secs": {service_secs}}}"#));
        let mut fluid = Fluid::new(3);
        fluid.run(&policy, rate, service_secs, 240);
        fluid.changes = 0;
        let busy = rate * service_secs;
        for _ in 0..240 {
            fluid.run(&policy, rate, service_secs, 1);
            let tasks = fluid.starts.len() as f64;
            assert!(busy <= tasks + 1.0 && tasks <= busy * 1.3 + 3.0, "{rate}/s of {service_secs} s: {tasks} tasks");
            assert!(fluid.waiting <= 60.0 * rate, "{rate}/s of {service_secs} s: {} wait", fluid.waiting);
        }
        assert!(fluid.changes <= 12, "{rate}/s of {service_secs} s: {} changes in an hour", fluid.changes);
    }
}

#[test]
fn a_burst_is_drained_and_its_tasks_go_again() {
    let policy = sixty();
    let mut fluid = Fluid::new(10);
    fluid.run(&policy, 2.0, 5.0, 120);
    fluid.run(&policy, 40.0, 5.0, 8);
    assert!(150 < fluid.starts.len() && fluid.starts.len() < 800, "{} tasks", fluid.starts.len());
    fluid.run(&policy, 2.0, 5.0, 12);
    assert!(fluid.waiting < 120.0, "{} wait", fluid.waiting);
    fluid.run(&policy, 2.0, 5.0, 240);
    assert!(fluid.starts.len() < 20, "{} tasks", fluid.starts.len());
}

#[test]
fn a_scale_in_waits_for_the_hold_and_halves_at_most() {
    let policy = sixty();
    let mut memory = None;
    for tick in 0..20 {
        let (proposal, next) = ask(&policy, work(0.0, Some(0.0), at(15 * tick)), (40, 40), memory);
        let known_for = 15 * tick;
        assert_eq!(proposal.wants, if known_for < 315 { 40 } else { 20 }, "after {known_for} s");
        memory = Some(next);
    }
    let later = at(15 * 30);
    let just_now = Work { last_in: Some(at(15 * 29)), ..work(0.0, Some(0.0), later) };
    assert_eq!(ask(&policy, just_now, (20, 20), memory.clone()).0.wants, 20);
    let long_ago = Work { last_in: Some(at(15 * 26)), ..just_now };
    assert_eq!(ask(&policy, long_ago, (20, 20), memory).0.wants, 10);
}

#[test]
fn what_still_starts_is_given_up_after_half_the_hold_and_only_where_little_waits() {
    let policy = sixty();
    let mut steady = None;
    for tick in 0..40 {
        steady = Some(ask(&policy, work(0.0, Some(10.0), at(15 * tick)), (10, 10), steady).1);
    }
    let steady = estimate(&steady.expect("it remembers")).clone();
    // 40 tasks were wanted so long ago, so many run of them, and the last scale-in was just now.
    let wants = |ago: f32, waiting: f64, running: u32| {
        let memory = Memory::Estimate(Estimate { wants: vec![(ago - 15.0, 40)], ..steady.clone() });
        let seen = Work { last_in: Some(at(599)), ..work(waiting, Some(10.0), at(600)) };
        ask(&policy, seen, (running, 40), Some(memory)).0.wants
    };
    assert_eq!(wants(15.0, 0.0, 10), 40, "it is wanted for half a minute");
    let gone = wants(30.0, 0.0, 10);
    assert!((10..15).contains(&gone), "{gone}");
    assert_eq!(wants(30.0, 0.0, 25), 25, "none that runs goes within the hold");
    assert_eq!(wants(30.0, 0.0, 40), 40, "none that runs goes within the hold");
    // 15 tasks do 108 messages of 5 s in 36 s.
    assert!(wants(30.0, 108.0, 15) < 40);
    assert_eq!(wants(30.0, 109.0, 15), 40, "those that run need longer for it");
}

#[test]
fn what_is_read_in_part_removes_nothing_and_teaches_nothing() {
    let mut dice = Dice(6);
    for _ in 0..1_000 {
        let policy = sixty();
        let (secs, memory) = course(&mut dice, &policy);
        let tasks = dice.below(60) as u32;
        let seen = Work { part: Part::Some, ..work(dice.below(90) as f64, Some(3.0), at(secs + 15)) };
        let (proposal, after) = ask(&policy, seen, (tasks, tasks), Some(memory.clone()));
        assert!(tasks <= proposal.wants, "{proposal:?}");
        assert_eq!(after, memory);
    }
}

#[test]
fn the_same_reading_again_and_one_from_before_teach_nothing() {
    let policy = sixty();
    let of = |memory: &Memory| match memory {
        Memory::Estimate(estimate) => Estimate { wants: Vec::new(), ..estimate.clone() },
        other => panic!("{other:?}"),
    };
    let mut dice = Dice(7);
    for _ in 0..1_000 {
        let (_, memory) = course(&mut dice, &policy);
        let last = of(&memory).last;
        for time in [last, last - SignedDuration::from_secs(40)] {
            let (_, after) = ask(&policy, work(500.0, Some(1.0), time), (9, 9), Some(memory.clone()));
            assert_eq!(of(&after), of(&memory));
        }
    }
}

#[test]
fn a_gap_forgets_what_was_seen_and_not_what_was_learned_of_a_message() {
    let (_, memory) = ask(&sixty(), work(0.0, Some(9.0), at(0)), (9, 9), None);
    let Memory::Estimate(estimate) = memory else { panic!("another memory") };
    let learned = Estimate { service_secs: 8.0, ..estimate };
    let (_, after) = ask(&sixty(), work(0.0, Some(4.0), at(3_600)), (9, 9), Some(Memory::Estimate(learned)));
    let Memory::Estimate(after) = after else { panic!("another memory") };
    assert_eq!((after.service_secs, after.looks.len(), after.rate), (8.0, 1, 0.5));
}

#[test]
fn messages_that_take_longer_than_was_said_are_learned() {
    let policy = sixty();
    let mut fluid = Fluid::new(10);
    for _ in 0..12 {
        fluid.run(&policy, 2.0, 9.0, 20);
        fluid.run(&policy, 8.0, 9.0, 20);
    }
    let Some(Memory::Estimate(estimate)) = &fluid.memory else { panic!("no memory") };
    assert!(6.5 < estimate.service_secs() && estimate.service_secs() <= 10.0, "{}", estimate.service_secs());
}

#[test]
fn what_is_remembered_is_small() {
    let mut dice = Dice(8);
    for _ in 0..2_000 {
        let (_, memory) = course(&mut dice, &sixty());
        let json = serde_json::to_string(&memory).expect("a memory");
        assert!(json.len() <= 370, "{} bytes: {json}", json.len());
    }
}

#[test]
fn without_numbers_of_messages_in_flight_the_load_is_followed_too() {
    let policy = sixty();
    let (mut memory, mut tasks) = (None, 10);
    for tick in 0..200 {
        // Four messages a second keep twenty tasks busy; what is more than they do waits.
        let waiting = if tasks < 20 { 400.0 } else { 0.0 };
        let last_in = Some(at(15 * tick - 60));
        let seen = Work { last_in, ..work(waiting, None, at(15 * tick)) };
        let (proposal, next) = ask(&policy, seen, (tasks, tasks), memory);
        (tasks, memory) = (proposal.wants, Some(next));
        assert!(tasks < 300 && (tick < 4 || 10 < tasks), "{tasks} tasks at tick {tick}");
    }
}
