//! The protocol, tried out: every order in which the calls of two overlapping ticks can take effect, with a crash
//! before or after every one of them and somebody else's change between any two, over the real code of [`run`].
//!
//! The world has one document, one desired count and a queue that does not change. Each call of a tick waits until the search
//! lets it take effect. Orders that no tick can tell apart, by what its calls returned, are gone through once and
//! counted as often as they occur.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Memory, Tick, run};
use crate::adapter::{Identity, Kind, Section};
use crate::call::Call;
use crate::config::{Config, DEFAULT_MAX_EVENT_AGE_SECS, NamedSource, Service};
use crate::core::{Amount, QueueDepth, Rules, TargetStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Outcome, Record};
use crate::shared::Shared;
use crate::sources::{Measurement, Source};
use crate::stores::{Expect, Found, Store, Version};
use crate::targets::{Applied, Target};
use crate::wire::Contract;

/// What a call does to the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Effect {
    Load,
    Save { expect: Option<u64> },
    Status,
    Set { desired: u32 },
}

/// A call that waits for its turn.
struct Waiting {
    process: usize,
    number: usize,
    effect: Effect,
    document: Vec<u8>,
    waker: Waker,
}

/// What a call returned.
#[derive(Debug, Clone)]
enum Reply {
    Loaded(Option<(Vec<u8>, u64)>),
    Saved(Option<u64>),
    Desired(u32),
}

#[derive(Default)]
struct World {
    desired: u32,
    document: Option<(Vec<u8>, u64)>,
    versions: u64,
    backlog: u64,
    now_polled: usize,
    calls: usize,
    waiting: Vec<Waiting>,
    replies: HashMap<usize, Reply>,
    /// Every effect in order: who, what, and what it returned. 9 stands for somebody else.
    history: Vec<(usize, Effect, u64)>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
    /// The switch that shows the search able to fail: act first, announce afterwards.
    static ACTS_FIRST: Cell<bool> = const { Cell::new(false) };
}

/// Whether a test wants the order of writes turned round.
pub(super) fn acts_first() -> bool {
    ACTS_FIRST.get()
}

const SOMEBODY_ELSE: usize = 9;

impl World {
    /// Lets an effect happen, and returns what the caller learns of it.
    fn happen(&mut self, process: usize, effect: &Effect, document: &[u8]) -> Reply {
        let reply = match effect {
            Effect::Load => Reply::Loaded(self.document.clone()),
            Effect::Save { expect } if *expect == self.document.as_ref().map(|(_, version)| *version) => {
                self.versions += 1;
                self.document = Some((document.to_vec(), self.versions));
                Reply::Saved(Some(self.versions))
            }
            Effect::Save { .. } => Reply::Saved(None),
            Effect::Status => Reply::Desired(self.desired),
            Effect::Set { desired } => {
                self.desired = *desired;
                Reply::Desired(*desired)
            }
        };
        let learnt = match &reply {
            Reply::Loaded(found) => found.as_ref().map_or(0, |(_, version)| *version),
            Reply::Saved(version) => version.unwrap_or(u64::MAX),
            Reply::Desired(desired) => u64::from(*desired),
        };
        self.history.push((process, effect.clone(), learnt));
        reply
    }
}

/// A call: waits until the search lets it happen.
async fn turn(effect: Effect, document: Vec<u8>) -> Reply {
    let number = WORLD.with_borrow_mut(|world| {
        world.calls += 1;
        world.calls
    });
    let mut registered = false;
    std::future::poll_fn(move |context: &mut Context<'_>| {
        WORLD.with_borrow_mut(|world| match world.replies.remove(&number) {
            Some(reply) => Poll::Ready(reply),
            None => {
                if !std::mem::replace(&mut registered, true) {
                    let (process, waker) = (world.now_polled, context.waker().clone());
                    let (effect, document) = (effect.clone(), document.clone());
                    world.waiting.push(Waiting { process, number, effect, document, waker });
                }
                Poll::Pending
            }
        })
    })
    .await
}

#[derive(Debug)]
struct Toy;

#[async_trait]
impl Source for Toy {
    async fn read(&self) -> Result<Measurement> {
        let backlog = WORLD.with_borrow(|world| world.backlog);
        let depth = QueueDepth { backlog, in_flight: Some(0), delayed: Some(0), oldest_age_secs: None };
        Ok(Measurement { amount: Amount::Queue(depth), taken_at: None })
    }
}

#[async_trait]
impl Target for Toy {
    async fn statuses(&self, _: &[String]) -> Vec<Result<TargetStatus>> {
        match turn(Effect::Status, Vec::new()).await {
            Reply::Desired(desired) => vec![Ok(TargetStatus { desired, running: desired, ..TargetStatus::default() })],
            other => panic!("{other:?} is no status"),
        }
    }

    async fn set_desired(&self, _: &str, desired: u32) -> Result<Applied> {
        turn(Effect::Set { desired }, Vec::new()).await;
        Ok(Applied::Set)
    }
}

#[async_trait]
impl Store for Toy {
    async fn load(&self, _: &str, _: Option<&Version>) -> Result<Found> {
        match turn(Effect::Load, Vec::new()).await {
            Reply::Loaded(None) => Ok(Found::Absent),
            Reply::Loaded(Some((bytes, version))) => Ok(Found::Document(bytes, Version(version.to_string()))),
            other => panic!("{other:?} is no document"),
        }
    }

    async fn save(&self, key: &str, document: Vec<u8>, expect: &Expect) -> Result<Version> {
        let expect = match expect {
            Expect::Absent => None,
            Expect::At(Version(version)) => Some(version.parse().expect("a version of this store")),
        };
        match turn(Effect::Save { expect }, document).await {
            Reply::Saved(Some(version)) => Ok(Version(version.to_string())),
            Reply::Saved(None) => Err(Error::new(ErrorKind::Conflict, format!("saving {key}"), "another is there")),
            other => panic!("{other:?} is no version"),
        }
    }
}

macro_rules! toy {
    ($family:ty) => {
        Kind {
            name: "toy",
            aliases: &[],
            about: "A toy.",
            renamed: &[],
            env: &[],
            schema: || json!({}),
            check: |_| Vec::new(),
            identities: |_, _| Vec::new(),
            permissions: |_, _| Ok(Vec::new()),
            build: |_, _| Ok(Box::new(Toy)),
            contract: Contract::Local { settings: |_| json!({}) },
        }
    };
}

static SOURCE: Kind<dyn Source> = toy!(dyn Source);
static TARGET: Kind<dyn Target> = toy!(dyn Target);
static STORE: Kind<dyn Store> = toy!(dyn Store);

fn config(rules: &Value) -> Config {
    let rules: Rules = serde_json::from_value(rules.clone()).expect("valid rules");
    let path = vec!["prod".to_owned(), "orders".to_owned()];
    let identity =
        Identity { provider: "toy", region: "here".to_owned(), account: Some("123456789012".to_owned()), path };
    let source = NamedSource { name: "queue".to_owned(), section: Section { kind: &SOURCE, settings: Value::Null } };
    let target = Section { kind: &TARGET, settings: Value::Null };
    Config {
        services: vec![Service { name: "orders".to_owned(), target, identity, sources: vec![source], rules }],
        state: Section { kind: &STORE, settings: Value::Null },
        dry_run: false,
        max_event_age_secs: DEFAULT_MAX_EVENT_AGE_SECS,
        region: "us-east-1".to_owned(),
        profile: None,
        endpoint: None,
        fleet: None,
        intervals: None,
    }
}

fn noon_plus(secs: i64) -> Timestamp {
    "2026-11-22T12:00:00Z".parse::<Timestamp>().expect("a valid time") + SignedDuration::from_secs(secs)
}

/// A tick of a process of its own, that is, of an invocation that shares nothing with others but store and target.
async fn tick(config: Arc<Config>, shared: Arc<Shared>, now: Timestamp, scheduled_for: Option<Timestamp>) -> Record {
    let memory = Memory::default();
    let (config, shared, call) = (config.as_ref(), shared.as_ref(), Call::within(Duration::from_secs(60)));
    let tick =
        Tick { config, shared, memory: &memory, notifiers: &[], scheduled_for, now, call, name: "tick", term: None };
    run(&tick).await.pop().expect("one service, one record")
}

type Running = Pin<Box<dyn Future<Output = Record>>>;

/// What happens next in a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The nth waiting call takes effect, and its reply arrives.
    Happen(usize),
    /// The process of the nth waiting call dies before the call takes effect.
    DieBefore(usize),
    /// The call takes effect, and its process dies before the reply arrives.
    DieAfter(usize),
    /// Somebody else sets the desired count.
    Intervene,
}

/// One question to the search.
struct Question {
    config: Arc<Config>,
    shared: Arc<Shared>,
    desired: u32,
    backlog: u64,
    document: Option<Vec<u8>>,
    /// How many processes may die.
    deaths: usize,
    /// The count that somebody else may set once.
    intervention: Option<u32>,
    check: fn(&Outlook) -> Option<String>,
}

/// How a world ended.
#[derive(Debug)]
struct Outlook {
    history: Vec<(usize, Effect, u64)>,
    /// The desired counts after each of three further ticks.
    then: Vec<u32>,
    document: Value,
}

/// What a search found.
#[derive(Debug, Default)]
struct Tally {
    orders: u128,
    worlds: usize,
    crash_points: usize,
    violations: Vec<String>,
}

struct Search<'a> {
    question: &'a Question,
    seen: HashMap<Vec<(usize, Effect, u64)>, u128>,
    tally: Tally,
}

/// Where a world stands after some steps.
struct Position {
    /// What each process did and learnt, in its own order, then the whole world: two positions that agree in this go on alike.
    key: Vec<(usize, Effect, u64)>,
    waiting: usize,
    deaths: usize,
    intervened: bool,
    is_over: bool,
}

impl Question {
    /// Goes through the steps from the beginning, and says where they lead.
    fn replay(&self, steps: &[Step]) -> (Position, Vec<Option<Running>>) {
        WORLD.set(World {
            desired: self.desired,
            document: self.document.clone().map(|document| (document, 1)),
            versions: 1,
            backlog: self.backlog,
            ..World::default()
        });
        let start = |_| -> Option<Running> {
            Some(Box::pin(tick(self.config.clone(), self.shared.clone(), noon_plus(0), None)))
        };
        let mut processes: Vec<_> = (0..2).map(start).collect();
        let mut deaths: Vec<usize> = Vec::new();
        poll(&mut processes);
        for step in steps {
            match *step {
                Step::Happen(at) => {
                    let call = take(at);
                    happen(&call, true);
                }
                Step::DieBefore(at) | Step::DieAfter(at) => {
                    let call = take(at);
                    if matches!(step, Step::DieAfter(_)) {
                        happen(&call, false);
                    }
                    processes[call.process] = None;
                    WORLD.with_borrow_mut(|world| world.waiting.retain(|other| other.process != call.process));
                    deaths.push(call.process);
                }
                Step::Intervene => WORLD.with_borrow_mut(|world| {
                    let desired = self.intervention.expect("somebody intervenes");
                    world.happen(SOMEBODY_ELSE, &Effect::Set { desired }, &[]);
                }),
            }
            poll(&mut processes);
        }
        let position = WORLD.with_borrow(|world| {
            let mut key = world.history.clone();
            // The order between processes matters only as far as they learnt of it.
            key.sort_by_key(|(process, ..)| *process);
            key.extend(deaths.iter().map(|process| (*process, Effect::Status, u64::MAX)));
            let version = world.document.as_ref().map_or(0, |(_, version)| *version);
            key.push((SOMEBODY_ELSE, Effect::Set { desired: world.desired }, version));
            Position {
                key,
                waiting: world.waiting.len(),
                deaths: deaths.len(),
                intervened: world.history.iter().any(|(process, ..)| *process == SOMEBODY_ELSE),
                is_over: world.waiting.is_empty(),
            }
        });
        (position, processes)
    }

    /// Three further ticks, one after the other, within the cooldown.
    fn look_on(&self) -> Outlook {
        let history = WORLD.with_borrow(|world| world.history.clone());
        let mut then = Vec::new();
        for number in 1..=3 {
            let now = noon_plus(number * 30);
            let mut next: Vec<Option<Running>> =
                vec![Some(Box::pin(tick(self.config.clone(), self.shared.clone(), now, None)))];
            finish(&mut next);
            then.push(WORLD.with_borrow(|world| world.desired));
        }
        let document = WORLD
            .with_borrow(|world| world.document.clone())
            .map_or(Value::Null, |(bytes, _)| serde_json::from_slice(&bytes).expect("a document is JSON"));
        Outlook { history, then, document }
    }
}

fn take(at: usize) -> Waiting {
    WORLD.with_borrow_mut(|world| world.waiting.remove(at))
}

fn happen(call: &Waiting, is_answered: bool) {
    WORLD.with_borrow_mut(|world| {
        let reply = world.happen(call.process, &call.effect, &call.document);
        if is_answered {
            world.replies.insert(call.number, reply);
        }
    });
    if is_answered {
        call.waker.wake_by_ref();
    }
}

/// Lets every process run until all its calls wait.
fn poll(processes: &mut [Option<Running>]) {
    for (number, slot) in processes.iter_mut().enumerate() {
        let Some(process) = slot else { continue };
        WORLD.with_borrow_mut(|world| world.now_polled = number);
        if process.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            *slot = None;
        }
    }
    // Calls in an order that does not depend on how the futures were polled.
    WORLD.with_borrow_mut(|world| world.waiting.sort_by_key(|call| (call.process, call.effect == Effect::Status)));
}

/// Runs processes to their end, calls in the order in which they are made.
fn finish(processes: &mut [Option<Running>]) {
    poll(processes);
    while !WORLD.with_borrow(|world| world.waiting.is_empty()) {
        happen(&take(0), true);
        poll(processes);
    }
}

impl Search<'_> {
    /// Goes through everything that can follow, and returns in how many orders it can.
    fn explore(&mut self, steps: &mut Vec<Step>) -> u128 {
        let (position, _processes) = self.question.replay(steps);
        if let Some(orders) = self.seen.get(&position.key) {
            return *orders;
        }
        self.tally.worlds += 1;
        let mut next: Vec<_> = (0..position.waiting).map(Step::Happen).collect();
        if position.deaths < self.question.deaths {
            next.extend((0..position.waiting).flat_map(|at| [Step::DieBefore(at), Step::DieAfter(at)]));
            self.tally.crash_points += 2 * position.waiting;
        }
        if self.question.intervention.is_some() && !position.intervened {
            next.push(Step::Intervene);
        }
        let mut orders = 0;
        if position.is_over {
            let outlook = self.question.look_on();
            if let Some(wrong) = (self.question.check)(&outlook) {
                self.tally.violations.push(format!("{wrong}: {steps:?}: {outlook:?}"));
            }
            orders = 1;
        }
        for step in next {
            steps.push(step);
            orders += self.explore(steps);
            steps.pop();
        }
        self.seen.insert(position.key, orders);
        orders
    }
}

/// Asks, with a runtime whose clock stands still.
fn search(question: &Question) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let mut search = Search { question, seen: HashMap::new(), tally: Tally::default() };
    search.tally.orders = search.explore(&mut Vec::new());
    search.tally
}

/// Rules under which nothing but a cooldown and what was announced decides whether a second step follows.
fn careful() -> Value {
    json!({
        "policies": [{ "type": "threshold" }], "priority_override": "never", "confirm_zero": { "readings": 1, "secs": 0 },
    })
}

/// A document that knows the service for long, and left it at this count.
fn known_for_long(count: u32) -> Vec<u8> {
    let document = json!({
        "schema_version": 1, "seq": 1, "writer": "test", "saved_at": "2026-01-01T00:00:00Z",
        "services": { "toy:here/123456789012/prod/orders": { "since": "2026-01-01T00:00:00Z", "count": count } },
    });
    serde_json::to_vec(&document).expect("it serializes")
}

fn question(desired: u32, backlog: u64, check: fn(&Outlook) -> Option<String>) -> Question {
    Question {
        config: Arc::new(config(&careful())),
        shared: Arc::new(Shared::for_wire("http://127.0.0.1:9")),
        desired,
        backlog,
        document: Some(known_for_long(desired)),
        deaths: 0,
        intervention: None,
        check,
    }
}

impl Outlook {
    fn sets(&self) -> impl Iterator<Item = (usize, u32)> {
        self.history.iter().filter_map(|(process, effect, _)| match effect {
            Effect::Set { desired } if *process != SOMEBODY_ELSE => Some((*process, *desired)),
            _ => None,
        })
    }

    fn state(&self) -> &Value {
        &self.document["services"]["toy:here/123456789012/prod/orders"]
    }

    /// A set of a process that had just seen somebody else's count and went below it.
    fn overwrites_what_it_saw(&self, theirs: u32) -> bool {
        (0..2).any(|process| {
            let own: Vec<_> = self.history.iter().filter(|(whose, ..)| *whose == process).collect();
            own.windows(2).any(|pair| match (&pair[0], &pair[1]) {
                ((_, Effect::Status, seen), (_, Effect::Set { desired }, _)) => {
                    *seen == u64::from(theirs) && *desired < theirs
                }
                _ => false,
            })
        })
    }
}

/// Of 10 tasks and 5,000 messages one step makes 60, and nothing makes more within the cooldown.
fn one_step_out(outlook: &Outlook) -> Option<String> {
    if outlook.sets().any(|(_, desired)| desired != 60) || outlook.then != [60, 60, 60] {
        return Some("a double or a lost step out".to_owned());
    }
    let state = outlook.state();
    let is_settled = state["pending"].is_null() && state["last_out"]["base"] == 10 && state["last_out"]["to"] == 60;
    (!is_settled).then(|| "the state does not say what happened".to_owned())
}

/// Of 50 tasks and an empty queue one step makes 49, and nothing makes fewer within the cooldown.
fn one_step_in(outlook: &Outlook) -> Option<String> {
    let sets: Vec<_> = outlook.sets().collect();
    let last = *outlook.then.last().expect("three further ticks");
    if 1 < sets.len() || sets.iter().any(|(_, desired)| *desired != 49) || !(49..=50).contains(&last) {
        return Some("a double step in".to_owned());
    }
    (!outlook.state()["pending"].is_null()).then(|| "an announced change stayed announced".to_owned())
}

const THEIRS: u32 = 200;

/// Somebody raised the count to 200 during it.
fn theirs_stays(outlook: &Outlook) -> Option<String> {
    let intervened = outlook.history.iter().any(|(process, ..)| *process == SOMEBODY_ELSE);
    let ended_with_theirs = outlook.sets().count() == 0;
    match () {
        () if outlook.overwrites_what_it_saw(THEIRS) => Some("a count that was seen was overwritten".to_owned()),
        () if intervened && ended_with_theirs && outlook.then.iter().any(|desired| *desired < THEIRS) => {
            Some("somebody else's count was undone within the cooldown".to_owned())
        }
        () => None,
    }
}

fn show(what: &str, tally: &Tally) {
    println!(
        "{what}: {} interleavings in {} distinct worlds, {} crash points, {} violations",
        tally.orders,
        tally.worlds,
        tally.crash_points,
        tally.violations.len()
    );
}

fn finds_nothing_wrong(direction: &str, question: fn() -> Question) {
    for (deaths, what) in [(0, "no crash"), (1, "one crash"), (2, "two crashes")] {
        let tally = search(&Question { deaths, ..question() });
        show(&format!("scale-{direction}, {what}"), &tally);
        assert!(tally.violations.is_empty(), "{:#?}", tally.violations.iter().take(3).collect::<Vec<_>>());
        assert!(100 < tally.orders && (deaths == 0 || 20 < tally.crash_points), "{tally:?}");
    }
}

#[test]
fn no_interleaving_and_no_crash_of_two_ticks_steps_out_twice_or_not_at_all() {
    finds_nothing_wrong("out", || question(10, 5_000, one_step_out));
}

#[test]
fn no_interleaving_and_no_crash_of_two_ticks_steps_in_twice() {
    finds_nothing_wrong("in", || question(50, 0, one_step_in));
}

#[test]
fn a_service_that_was_never_seen_steps_once_too() {
    let tally = search(&Question { document: None, deaths: 1, ..question(10, 5_000, one_step_out) });
    show("scale-out, first sight, one crash", &tally);
    assert!(tally.violations.is_empty(), "{:#?}", tally.violations.first());
}

fn respects_somebody_else(desired: u32, backlog: u64) {
    let tally = search(&Question { intervention: Some(THEIRS), deaths: 1, ..question(desired, backlog, theirs_stays) });
    show(&format!("somebody sets {THEIRS} beside {desired} tasks, one crash"), &tally);
    assert!(tally.violations.is_empty(), "{:#?}", tally.violations.iter().take(3).collect::<Vec<_>>());
}

#[test]
fn somebody_elses_change_is_not_overwritten_by_a_scale_out_where_it_can_be_seen() {
    respects_somebody_else(10, 5_000);
}

#[test]
fn somebody_elses_change_is_not_overwritten_by_a_scale_in_where_it_can_be_seen() {
    respects_somebody_else(50, 0);
}

#[test]
fn acting_before_announcing_is_found_out() {
    ACTS_FIRST.set(true);
    for (direction, question) in [("in", question(50, 0, one_step_in)), ("out", question(10, 5_000, one_step_out))] {
        let tally = search(&Question { deaths: 1, ..question });
        show(&format!("scale-{direction}, acting before announcing, one crash"), &tally);
        assert!(!tally.violations.is_empty(), "the search cannot fail");
    }
    ACTS_FIRST.set(false);
}

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
