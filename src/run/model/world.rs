//! A world of one document, one desired count and a queue, whose every call takes effect when a test says so.

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

use super::super::{Memory, Tick, run};
use crate::adapter::{Identity, Kind, Section};
use crate::call::Call;
use crate::config::{Config, DEFAULT_MAX_EVENT_AGE_SECS, NamedSource, Service};
use crate::core::{Amount, Asked, QueueDepth, Rules, TargetStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::record::Record;
use crate::shared::Shared;
use crate::sources::{Measurement, Source};
use crate::stores::{Expect, Found, Store, Version};
use crate::targets::{Applied, Target};
use crate::wire::Contract;

/// What a call does to the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    Load,
    Save { expect: Option<u64> },
    Status,
    Set { desired: u32 },
}

/// A call that waits for its turn.
pub(super) struct Waiting {
    pub process: usize,
    pub number: usize,
    pub effect: Effect,
    pub document: Vec<u8>,
    pub waker: Waker,
}

/// What a call returned.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Loaded(Option<(Vec<u8>, u64)>),
    Saved(Option<u64>),
    Desired(u32),
}

#[derive(Default)]
pub(super) struct World {
    pub desired: u32,
    pub document: Option<(Vec<u8>, u64)>,
    pub versions: u64,
    pub backlog: u64,
    /// What the target says of protected tasks; `None` where it cannot tell.
    pub protected: Option<u32>,
    pub now_polled: usize,
    pub calls: usize,
    pub waiting: Vec<Waiting>,
    pub replies: HashMap<usize, Reply>,
    /// Every effect in order: who, what, and what it returned. 9 stands for somebody else.
    pub history: Vec<(usize, Effect, u64)>,
}

thread_local! {
    pub(super) static WORLD: RefCell<World> = RefCell::default();
    /// The switch that shows the search able to fail: act first, announce afterwards.
    pub(super) static ACTS_FIRST: Cell<bool> = const { Cell::new(false) };
}

pub(super) const SOMEBODY_ELSE: usize = 9;

impl World {
    /// Lets an effect happen, and returns what the caller learns of it.
    pub fn happen(&mut self, process: usize, effect: &Effect, document: &[u8]) -> Reply {
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
pub(super) async fn turn(effect: Effect, document: Vec<u8>) -> Reply {
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
pub(super) struct Toy;

#[async_trait]
impl Source for Toy {
    async fn read(&self) -> Result<Measurement> {
        let backlog = WORLD.with_borrow(|world| world.backlog);
        let depth = QueueDepth { backlog, in_flight: Some(0), delayed: Some(0), ..QueueDepth::default() };
        Ok(Measurement::from(Amount::Queue(depth)))
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

    async fn protected(&self, services: &[String]) -> Vec<Result<Option<u32>>> {
        let protected = WORLD.with_borrow(|world| world.protected);
        services.iter().map(|_| Ok(protected)).collect()
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

pub(super) fn config(rules: &Value) -> Config {
    let rules: Rules = serde_json::from_value(rules.clone()).expect("valid rules");
    let path = vec!["prod".to_owned(), "orders".to_owned()];
    let identity =
        Identity { provider: "toy", region: "here".to_owned(), account: Some("123456789012".to_owned()), path };
    let source = NamedSource { name: "queue".to_owned(), section: Section { kind: &SOURCE, settings: Value::Null } };
    let target = Section { kind: &TARGET, settings: Value::Null };
    Config {
        services: vec![Service {
            name: "orders".to_owned(),
            target,
            identity,
            sources: vec![source],
            rules,
            unknown: None,
            limits: Asked::default(),
            alert: None,
        }],
        state: Section { kind: &STORE, settings: Value::Null },
        dry_run: false,
        max_event_age_secs: DEFAULT_MAX_EVENT_AGE_SECS,
        region: "us-east-1".to_owned(),
        profile: None,
        endpoint: None,
        fleet: None,
        intervals: None,
        document: None,
        network: crate::config::Network::default(),
    }
}

pub(super) fn noon_plus(secs: i64) -> Timestamp {
    "2026-11-22T12:00:00Z".parse::<Timestamp>().expect("a valid time") + SignedDuration::from_secs(secs)
}

/// A tick of a process of its own, that is, of an invocation that shares nothing with others but store and target.
pub(super) async fn tick(
    config: Arc<Config>,
    shared: Arc<Shared>,
    now: Timestamp,
    scheduled_for: Option<Timestamp>,
) -> Record {
    tick_of(Arc::default(), config, shared, now, scheduled_for).await
}

/// A tick of a process that has a memory of earlier ones.
pub(super) async fn tick_of(
    memory: Arc<Memory>,
    config: Arc<Config>,
    shared: Arc<Shared>,
    now: Timestamp,
    scheduled_for: Option<Timestamp>,
) -> Record {
    let (config, shared, call) = (config.as_ref(), shared.as_ref(), Call::within(Duration::from_secs(60)));
    let tick =
        Tick { config, shared, memory: &memory, notifiers: &[], scheduled_for, now, call, name: "tick", term: None };
    run(&tick).await.pop().expect("one service, one record")
}

pub(super) type Running = Pin<Box<dyn Future<Output = Record>>>;

pub(super) fn take(at: usize) -> Waiting {
    WORLD.with_borrow_mut(|world| world.waiting.remove(at))
}

pub(super) fn happen(call: &Waiting, is_answered: bool) {
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
pub(super) fn poll(processes: &mut [Option<Running>]) {
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
pub(super) fn finish(processes: &mut [Option<Running>]) {
    poll(processes);
    while !WORLD.with_borrow(|world| world.waiting.is_empty()) {
        happen(&take(0), true);
        poll(processes);
    }
}
