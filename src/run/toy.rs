//! A queue, a scheduler and a storage in this process, for tests of what several ticks do together. Time is tokio's, which
//! tests pause.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Memory, Term, Tick, run};
use crate::adapter::{Identity, Kind, Section, find};
use crate::call::Call;
use crate::config::{Config, DEFAULT_REGION, NamedSource, Service};
use crate::core::{Amount, Asked, Bounds, QueueDepth, Rules, State, TargetStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::record::Record;
use crate::shared::Shared;
use crate::sources::{Measurement, Source};
use crate::stores::{self, Expect, Lease, Loaded, Store, Version, document};
use crate::targets::{Applied, Target};
use crate::wire::Contract;

/// What there is, by the world's name: settings are all that an adapter is built from.
static WORLDS: LazyLock<Mutex<BTreeMap<String, Arc<World>>>> = LazyLock::new(Mutex::default);

/// One test's queue, scheduler and storage.
#[derive(Debug)]
pub(super) struct World {
    name: &'static str,
    began: Instant,
    store: Arc<dyn Store>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub backlogs: BTreeMap<String, u64>,
    pub desired: BTreeMap<String, u32>,
    /// Whose queue cannot be read.
    pub unreadable: BTreeSet<String>,
    /// Every count that was set: when, of which service, to what.
    pub set: Vec<(Duration, String, u32)>,
    /// How many services were asked for, in all.
    pub asked: usize,
    /// Whether the target refuses every count.
    pub refuses: bool,
    /// How many times the target says that somebody else is changing it, and what they then leave.
    pub locked: usize,
    pub left_by_lock: Option<u32>,
    /// What somebody else writes before the next save.
    pub meddler: Option<Meddler>,
}

/// Somebody who writes at the same time.
#[derive(Debug)]
pub(super) enum Meddler {
    Sees(String, Box<State>),
    Leases(Lease),
}

fn world_of(settings: &Value) -> Arc<World> {
    let name = settings["world"].as_str().expect("settings name the world");
    WORLDS.lock().expect("no test panics while it holds the worlds")[name].clone()
}

macro_rules! toy {
    ($name:ident, $family:ident, $identities:expr, $build:expr) => {
        static $name: Kind<dyn $family> = Kind {
            name: "toy",
            aliases: &[],
            about: "",
            renamed: &[],
            env: &[],
            schema: || json!({}),
            check: |_| Vec::new(),
            identities: $identities,
            permissions: |_, _| Ok(Vec::new()),
            build: $build,
            contract: Contract::Local { settings: |_| Value::Null },
        };
    };
}
toy!(SOURCE, Source, |_, _| Vec::new(), |settings, _| Ok(Box::new(Toy::new(settings))));
toy!(TARGET, Target, |_, _| Vec::new(), |settings, _| Ok(Box::new(Toy::new(settings))));
toy!(STORE, Store, |_, _| Vec::new(), |settings, _| Ok(Box::new(Toy::new(settings))));

#[derive(Debug)]
struct Toy {
    world: Arc<World>,
    service: String,
}

impl Toy {
    fn new(settings: &Value) -> Self {
        Self { world: world_of(settings), service: settings["service"].as_str().unwrap_or_default().to_owned() }
    }
}

#[async_trait]
impl Source for Toy {
    async fn read(&self) -> Result<Measurement> {
        if self.world.inner().unreadable.contains(&self.service) {
            return Err(Error::new(ErrorKind::Unavailable, "reading", "the queue is away"));
        }
        let backlog = self.world.inner().backlogs.get(&self.service).copied().unwrap_or(0);
        Ok(Measurement::from(Amount::Queue(QueueDepth { backlog, ..QueueDepth::default() })))
    }
}

#[async_trait]
impl Target for Toy {
    async fn statuses(&self, services: &[String]) -> Vec<Result<TargetStatus>> {
        let mut inner = self.world.inner();
        inner.asked += services.len();
        let status = |service| {
            let desired = inner.desired[service];
            Ok(TargetStatus { desired, running: desired, ..TargetStatus::default() })
        };
        services.iter().map(status).collect()
    }

    async fn set_desired(&self, service: &str, desired: u32) -> Result<Applied> {
        let mut inner = self.world.inner();
        if 0 < inner.locked {
            inner.locked -= 1;
            if let Some(count) = inner.left_by_lock.take() {
                inner.desired.insert(service.to_owned(), count);
            }
            return Err(Error::new(ErrorKind::Locked, "setting", "a deployment is under way"));
        }
        if inner.refuses {
            return Err(Error::new(ErrorKind::Refused, "setting", "it is never more"));
        }
        inner.desired.insert(service.to_owned(), desired);
        inner.set.push((self.world.began.elapsed(), service.to_owned(), desired));
        Ok(Applied::Set)
    }
}

#[async_trait]
impl Store for Toy {
    async fn load(&self, key: &str, unless: Option<&Version>) -> Result<stores::Found> {
        self.world.store.load(key, unless).await
    }

    async fn save(&self, key: &str, bytes: Vec<u8>, expect: &Expect) -> Result<Version> {
        let meddler = self.world.inner().meddler.take();
        if let Some(meddler) = meddler {
            self.world.meddle(key, meddler).await;
        }
        self.world.store.save(key, bytes, expect).await
    }
}

impl World {
    pub fn new(name: &'static str, desired: &[(&str, u32)]) -> Arc<Self> {
        let Ok(memory) = find(stores::TABLE, "memory") else { panic!("it is in the table") };
        let store = (memory.build)(&json!({}), &Shared::for_wire("http://127.0.0.1:9")).expect("it has no settings");
        let desired = desired.iter().map(|(service, count)| ((*service).to_owned(), *count)).collect();
        let inner = Mutex::new(Inner { desired, ..Inner::default() });
        let world = Arc::new(Self { name, began: Instant::now(), store: store.into(), inner });
        let mut worlds = WORLDS.lock().expect("no test panics while it holds the worlds");
        assert!(worlds.insert(name.to_owned(), world.clone()).is_none(), "{name} is another test's");
        world
    }

    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics while it holds the world")
    }

    pub fn now(&self) -> Timestamp {
        let start: Timestamp = "2026-11-22T12:00:00Z".parse().expect("a valid time");
        start + SignedDuration::try_from(self.began.elapsed()).expect("a test is short")
    }

    /// The document of the world's services.
    pub async fn document(&self) -> Loaded {
        document::load(self.store.as_ref(), &key(self.name)).await.expect("it can be read")
    }

    /// Writes as somebody else.
    pub async fn write_lease(&self, lease: Option<Lease>) {
        let found = Loaded { lease, ..self.document().await };
        document::save(self.store.as_ref(), &key(self.name), &found, [], "other", self.now())
            .await
            .expect("it is saved");
    }

    /// Makes every service one that was first seen long ago.
    pub async fn rest(&self) {
        let long_ago = State::new(self.now() - SignedDuration::from_hours(24));
        let services: Vec<_> =
            self.inner().desired.keys().map(|service| (id(self.name, service), long_ago.clone())).collect();
        let found = self.document().await;
        document::save(self.store.as_ref(), &key(self.name), &found, services, "test", self.now())
            .await
            .expect("it is saved");
    }

    async fn meddle(&self, key: &str, meddler: Meddler) {
        let mut found = document::load(self.store.as_ref(), key).await.expect("it can be read");
        let mut services = Vec::new();
        match meddler {
            Meddler::Sees(service, state) => services.push((id(self.name, &service), *state)),
            Meddler::Leases(lease) => found.lease = Some(lease),
        }
        document::save(self.store.as_ref(), key, &found, services, "other", self.now()).await.expect("it is saved");
    }

    /// A configuration for all services, with one document for all and bounds that stand in nobody's way.
    pub fn config(&self) -> Config {
        let settings = |service: &str| json!({ "world": self.name, "service": service });
        let rules: Rules = serde_json::from_value(json!({
            "policies": [{ "type": "threshold" }], "scale_out_cooldown_secs": 3600, "scale_in_cooldown_secs": 3600,
        }))
        .expect("valid");
        let service = |service: &String| Service {
            name: service.clone(),
            target: Section { kind: &TARGET, settings: settings(service) },
            identity: identity(self.name, service),
            sources: vec![NamedSource {
                name: "toy".to_owned(),
                section: Section { kind: &SOURCE, settings: settings(service) },
            }],
            rules: Rules { bounds: Bounds { min: 0, max: 10_000 }, ..rules.clone() },
            unknown: None,
            limits: Asked::default(),
            alert: None,
        };
        Config {
            services: self.inner().desired.keys().map(service).collect(),
            state: Section { kind: &STORE, settings: settings("") },
            dry_run: false,
            region: DEFAULT_REGION.to_owned(),
            profile: None,
            endpoint: None,
            fleet: Some(self.name.to_owned()),
            intervals: None,
            document: None,
            network: crate::config::Network::default(),
            max_event_age_secs: 60,
        }
    }

    /// One tick of a process with this memory: a loop's if it has a term.
    pub async fn tick(&self, memory: &Memory, term: Option<&Term>) -> Vec<Record> {
        self.tick_as(&self.config(), memory, term).await
    }

    pub async fn tick_as(&self, config: &Config, memory: &Memory, term: Option<&Term>) -> Vec<Record> {
        let shared = Shared::for_wire("http://127.0.0.1:9");
        let (call, now) = (Call::within(Duration::from_secs(30)), self.now());
        run(&Tick {
            config,
            shared: &shared,
            memory,
            notifiers: &[],
            scheduled_for: None,
            now,
            call,
            name: "tick",
            term,
        })
        .await
    }

    pub async fn release(&self, memory: &Memory, term: &Term) -> Vec<Error> {
        let shared = Shared::for_wire("http://127.0.0.1:9");
        let (call, now, config) = (Call::within(Duration::from_secs(4)), self.now(), self.config());
        let term = Some(term);
        super::release(&Tick {
            config: &config,
            shared: &shared,
            memory,
            notifiers: &[],
            scheduled_for: None,
            now,
            call,
            name: "end",
            term,
        })
        .await
    }
}

fn key(world: &str) -> String {
    format!("v1/fleets/{world}.json")
}

/// ECS in name, so that the limits of ECS hold.
fn identity(world: &str, service: &str) -> Identity {
    let path = vec![world.to_owned(), service.to_owned()];
    let account = Some("123456789012".to_owned());
    Identity { provider: "ecs", region: DEFAULT_REGION.to_owned(), account, path }
}

fn id(world: &str, service: &str) -> String {
    identity(world, service).to_string()
}
