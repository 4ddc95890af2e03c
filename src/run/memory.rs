//! What a process remembers from tick to tick. Nothing that must hold depends on it: each tick may be the first of its process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::adapter::Section;
use crate::core::{Decision, State};
use crate::error::Result;
use crate::pace::Pace;
use crate::record::{Comparison, WouldHave};
use crate::shared::Shared;
use crate::stores::{Loaded, Store};

/// What a process remembers from tick to tick.
#[derive(Debug, Default)]
pub struct Memory {
    remembered: Mutex<Remembered>,
    /// What the targets' interfaces take.
    pub pace: Pace,
}

#[derive(Debug, Default)]
struct Remembered {
    services: BTreeMap<String, OfService>,
    /// A loop's documents by their keys, as they were found or written last.
    documents: BTreeMap<String, Loaded>,
    /// The keys of the documents that another loop's lease keeps this one from.
    on_standby: BTreeSet<String>,
    store: Option<(&'static str, Value, Arc<dyn Store>)>,
}

#[derive(Debug, Default)]
struct OfService {
    /// The last state that was seen, used only where `allow_scale_out_without_state` asks for it.
    state: Option<State>,
    /// The state of a dry run, whose cooldowns run as if its changes had been made.
    rehearsed: Option<State>,
    comparison: Comparison,
    /// The desired count when a loop of this process first saw it.
    first_count: Option<u32>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, service: &str, use_it: impl FnOnce(&mut OfService) -> T) -> T {
        use_it(self.lock().services.entry(service.to_owned()).or_default())
    }

    pub(super) fn recall(&self, service: &str) -> Option<State> {
        self.with(service, |remembered| remembered.state.clone())
    }

    pub(super) fn keep(&self, service: &str, state: &State) {
        self.with(service, |remembered| {
            remembered.state = Some(state.clone());
            // A dry run after armed ticks begins with what they did.
            remembered.rehearsed = None;
        });
    }

    pub(super) fn rehearsed(&self, service: &str) -> Option<State> {
        self.with(service, |remembered| remembered.rehearsed.clone())
    }

    pub(super) fn rehearse(&self, service: &str, state: State) {
        self.with(service, |remembered| remembered.rehearsed = Some(state));
    }

    /// Adds a decision that is not carried out to the comparison with what was there.
    pub(super) fn compare(&self, service: &str, decision: &Decision) -> WouldHave {
        self.with(service, |remembered| {
            remembered.comparison.add(decision);
            WouldHave { desired: decision.desired, compared: remembered.comparison }
        })
    }

    pub(super) fn document(&self, key: &str) -> Option<Loaded> {
        self.lock().documents.get(key).cloned()
    }

    pub(super) fn keep_document(&self, key: &str, loaded: &Loaded) {
        self.lock().documents.insert(key.to_owned(), loaded.clone());
    }

    /// The keys of the documents that are leased to this loop.
    pub(super) fn leased_to(&self, holder: &str) -> Vec<String> {
        let is_ours = |loaded: &Loaded| loaded.lease.as_ref().is_some_and(|lease| lease.holder == holder);
        let all = &self.lock().documents;
        all.iter().filter(|(_, loaded)| is_ours(loaded)).map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn was_on_standby(&self) -> bool {
        !self.lock().on_standby.is_empty()
    }

    pub(super) fn note_standby(&self, keys: impl IntoIterator<Item = String>) {
        self.lock().on_standby = keys.into_iter().collect();
    }

    /// The desired count of a service when a loop of this process first saw it.
    pub fn first_count(&self, service: &str) -> Option<u32> {
        self.with(service, |remembered| remembered.first_count)
    }

    pub(super) fn note_count(&self, service: &str, desired: u32) {
        self.with(service, |remembered| remembered.first_count.get_or_insert(desired).to_owned());
    }

    /// The store of these settings, built once, since one that lives in this process would otherwise forget everything.
    pub(super) fn store(&self, section: &Section<dyn Store>, shared: &Shared) -> Result<Arc<dyn Store>> {
        let mut remembered = self.lock();
        let same =
            |(name, settings, _): &&(&str, Value, _)| *name == section.kind.name && *settings == section.settings;
        if let Some((_, _, store)) = remembered.store.as_ref().filter(same) {
            return Ok(store.clone());
        }
        let store = Arc::from(section.build(shared)?);
        remembered.store = Some((section.kind.name, section.settings.clone(), Arc::clone(&store)));
        Ok(store)
    }

    /// Forgets the store, whose clients were those of another profile or region.
    pub(crate) fn forget_store(&self) {
        self.lock().store = None;
    }
}
